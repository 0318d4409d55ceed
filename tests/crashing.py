"""A decoder that crashes; a module of its own, as each process that runs it imports it."""

import os


def read_or_die(path: str, *_: object) -> str:
    """The path itself, but where it says bad."""
    if "bad" in path:
        os._exit(1)
    return path
