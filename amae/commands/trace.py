"""A file of results traced back to the images."""

from amae.commands import parameters as p
from amae.runtime.errors import InputError


def trace(result: p.file("file of results: a table, a picture, a trained network, a model"), /) -> None:
    """Print which command, settings, seed, code, versions and inputs made a file, back to the images.

    Inputs are compared with the hashes recorded when they were read. Fails where one has changed or is not found.
    """
    from amae.runtime.trace import Trace

    found = Trace(result)
    for line in found.lines():
        print(line)
    if found.faults:
        raise InputError(f"{result}: inputs that are not as recorded: {', '.join(dict.fromkeys(found.faults))}")
