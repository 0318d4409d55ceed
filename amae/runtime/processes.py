"""Processes of their own, which start fast, keep memory flat, and may die without taking anything along."""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import parent_process, spawn
from multiprocessing.context import (
    BaseContext,
    ForkServerContext,
    ForkServerProcess,
    SpawnContext,
    SpawnProcess,
)
from tempfile import gettempdir
from threading import Lock, Thread
from typing import Any

SOCKET = 64  # characters of the temporary folder that leave room for a socket's name, which may have 108 in all
_starting = Lock()


def _without_main(start: Callable[[Any], Any], process: Any) -> Any:
    """Start a process that does not import the program's main module: there a person's script would run again."""
    with _starting:
        usual = spawn.get_preparation_data
        spawn.get_preparation_data = lambda name: {
            key: value for key, value in usual(name).items() if not key.startswith("init_main")
        }
        try:
            return start(process)
        finally:
            spawn.get_preparation_data = usual


class _FromServer(ForkServerProcess):
    @staticmethod
    def _Popen(process: Any) -> Any:
        return _without_main(ForkServerProcess._Popen, process)


class _Afresh(SpawnProcess):
    @staticmethod
    def _Popen(process: Any) -> Any:
        return _without_main(SpawnProcess._Popen, process)


class _ServerContext(ForkServerContext):
    Process = _FromServer


class _FreshContext(SpawnContext):
    Process = _Afresh


def clean_context(*modules: str) -> BaseContext:
    """The context to start processes in: each is forked from one that has started afresh and imported these modules.

    Not from this one: a fork of a process that runs threads (torch, BLAS) can hang. Where the name of the temporary
    folder is too long for a socket, each process starts afresh and imports what it needs.
    """
    context = _ServerContext() if len(gettempdir()) < SOCKET else _FreshContext()
    context.set_forkserver_preload(list(modules))
    return context


def end_with_parent() -> None:
    """Have this process end when the one that asked for it is gone; one of a pool would wait for it for ever.

    An interruption, which a terminal sends to both, is left to the other.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent_process().join()
    os._exit(1)


def in_processes(function: Callable[[Any], Any], tasks: Iterable[Any], workers: int) -> Iterator[Any]:
    """Results of a function in the order of the tasks, from `workers` processes; one is this process itself.

    At most four tasks a worker are under way. Where the reader of the results fails, those that wait are dropped.
    """
    if workers <= 1:
        yield from map(function, tasks)
        return
    inner = getattr(function, "func", function)  # of a partial
    with ProcessPoolExecutor(workers, clean_context(inner.__module__), initializer=end_with_parent) as pool:
        waiting: deque = deque()
        try:
            for task in tasks:
                waiting.append(pool.submit(function, task))
                if len(waiting) >= 4 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
