"""The one exception that means: the input is at fault, not the program."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class InputError(Exception):
    """A user's mistake: configuration, table, image or weight file.

    The message names the file, the key, what was found, what was expected, and the next step. The command line prints
    it without a traceback and exits with status 2.
    """


@contextmanager
def naming(source: str | Path) -> Iterator[None]:
    """Have an InputError from within begin with the file or option that it is about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
