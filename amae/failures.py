"""What a command says when it cannot go on, where a person can do something about it."""

import re
from argparse import Namespace
from textwrap import shorten

from amae.runtime.errors import InputError

# What torch and the GPU's libraries say when memory runs out.
MEMORY = "out of memory|can't allocate memory|ALLOC_FAILED|CUBLAS_STATUS_NOT_INITIALIZED"
SECTIONS = {"pretrain": "pretrain", "train-stage1": "stage1", "train-module": "modules"}  # with a batch_size


def explain(error: Exception, options: Namespace) -> str | None:
    """One line on an error, with the next step; None for one that only a programmer can put right."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError):  # a file that is missing or may not be read or written, a full disk
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    if type(error).__name__ == "BrokenProcessPool":
        return "a worker process was ended from outside, or ran out of memory; run the same command again"
    if isinstance(error, MemoryError) or re.search(MEMORY, str(error)):
        found = shorten(str(error), 120)
        return f"out of memory{f' ({found})' if found else ''}; {_what_to_lower(options)}"
    return None


def _what_to_lower(options: Namespace) -> str:
    """What needs less memory."""
    if section := SECTIONS.get(options.command):
        return f"lower the key {section}.batch_size (--batch-size), {options.batch_size} now, and run it again"
    if method := getattr(options, "method", None):
        return f"lower the key batch_size of {method} (presets.NAME.comparators.{method}, --settings), and run it again"
    return "end what else uses this memory, or go on without the GPU (--device cpu, --resources gpu=0)"
