"""The folder of results, for one run at a time, and the presence of a GPU.

Also: one command at a time where commands side by side add to the same file.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from amae.runtime.errors import InputError

LOCK = "AMAE_LOCK"  # environment variable: the lock file of the run that a command belongs to

_held: list[int] = []  # file descriptors: a lock goes when they are closed, which the end of the process does


def claim(results: str | Path) -> None:
    """Hold the folder of results until this process and every `amae` command that it starts have ended.

    Raises InputError where another run, or a command that a killed run left behind, is at work there, and where the
    folder cannot be written to.
    """
    import fcntl

    path = Path(results, ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise InputError(f"key results: {results}: cannot be written to ({error.strerror}: {error.filename})") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared with the commands of this run
    except BlockingIOError:
        at_work = " ".join(map(str, _holders(file)))
        os.close(file)
        raise InputError(
            f"{results}: another run is at work in this folder, or a killed one left a command behind"
            f"{f' (process {at_work})' if at_work else ''}. Wait until it has ended, or end it; then run the same "
            "command again. Nothing was changed"
        ) from None
    except OSError as error:
        os.close(file)
        print(f"warning: {path} cannot be locked ({error.strerror}): start one run at a time", file=sys.stderr)
        return
    _held.append(file)
    os.environ[LOCK] = str(path.absolute())


def join() -> None:
    """Hold the folder of results together with the run that started this process, if one did.

    That may be on another machine (a cluster), where the file system has no locks.
    """
    if path := os.environ.get(LOCK):
        import fcntl

        file = os.open(path, os.O_RDWR)
        _held.append(file)
        try:
            fcntl.flock(file, fcntl.LOCK_SH)
        except OSError as error:
            print(f"warning: {path} cannot be locked here ({error.strerror}): start one run at a time", file=sys.stderr)


def try_lock(path: Path) -> int | None:
    """Descriptor of a file that is now locked, until it is closed; None where another process has locked it."""
    import fcntl

    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Wait until no other process is in such a block for this file; hold it until the end of the block.

    Where the file system has no locks, a line reports that, and the block runs at once.
    """
    import fcntl

    with path.with_name(f".{path.name}.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            print(f"warning: {file.name} cannot be locked ({error.strerror}): start one job at a time", file=sys.stderr)
        yield


def _holders(file: int) -> list[int]:
    """Processes that hold a lock on an open file, where the system reports them (Linux)."""
    inode = os.fstat(file).st_ino
    try:
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    except OSError:
        return []
    return sorted({int(each[-4]) for each in locks if each[1] == "FLOCK" and each[-3].endswith(f":{inode}")})


def has_nvidia() -> bool:
    """True if the driver of an NVIDIA GPU is at work here; found without torch, which takes seconds to load."""
    return Path("/dev/nvidiactl").exists()
