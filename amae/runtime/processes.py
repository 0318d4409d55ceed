"""Processes of their own for reading files, which start fast and may die without taking anything along."""

import os
from multiprocessing import get_context, parent_process
from multiprocessing.context import BaseContext
from tempfile import gettempdir
from threading import Thread

SOCKET = 64  # characters of the temporary folder that leave room for a socket's name, which may have 108 in all


def clean_context(*modules: str) -> BaseContext:
    """Where to start processes: each is forked from one that has started afresh and imported these modules.

    Not from this one: a fork of a process that runs threads (torch, BLAS) can hang. Where the name of the temporary
    folder is too long for a socket, each process starts afresh and imports what it needs.
    """
    context = get_context("forkserver" if len(gettempdir()) < SOCKET else "spawn")
    context.set_forkserver_preload(list(modules))
    return context


def end_with_parent() -> None:
    """Have this process end when the one that asked for it is gone; one of a pool would wait for it for ever."""
    Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent_process().join()
    os._exit(1)
