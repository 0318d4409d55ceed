"""Decoders that crash or do not end; a module of its own, as each process that runs one imports it."""

import os
import time
from pathlib import Path


def read_or_die(path: str, *_: object) -> str:
    """The path itself, but where it says bad."""
    if "bad" in path:
        os._exit(1)
    return path


def say_and_wait(path: str, *_: object) -> None:
    """Write the number of this process, and do not end."""
    Path(path).write_text(str(os.getpid()))
    time.sleep(600)
