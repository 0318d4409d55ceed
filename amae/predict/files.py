"""Files that a person gives to be scored, by name."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from amae.runtime.errors import InputError

OF_SNAKEMAKE = ".snakemake_timestamp"  # in each folder that a rule makes


def list_files(given: list[Path], output: Path) -> dict[str, str]:
    """Files to score by name: a file's own, or its path in the folder given; hidden files and `output` left out.

    Raises InputError where there are none, and where a name stands for two files.
    """
    found: dict[str, str] = {}
    for each in given:
        if not each.exists():
            raise InputError(f"{each}: no such file or folder")
        for path in walk(each, output) if each.is_dir() else [each]:
            name = path.relative_to(each).as_posix() if each.is_dir() else path.name
            name = os.fsencode(name).decode("utf-8", "backslashreplace")  # whatever bytes a file system allows
            if name in found:
                raise InputError(f"{name}: two of the given files have this name; give one folder that contains both")
            found[name] = str(path)  # a Path takes four times the memory
    if not found:
        raise InputError(f"{given[0]}: no files in this folder")
    return found


def refuse_used(output: Path) -> None:
    """Raise InputError where a folder to write to is a file, or contains something."""
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        found = "is a file" if output.is_file() else "exists, and contains something"
        raise InputError(f"{output}: {found}; choose another folder, or delete it first")


def walk(folder: Path, output: Path) -> Iterator[Path]:
    """Files in a folder and those below, in a fixed order; a link to a folder is not followed, but given itself.

    Other outputs of `amae predict` and hidden files are left out, with a line. Raises InputError for a folder that
    cannot be read.
    """
    output, hidden = output.resolve(), 0
    for here, folders, names in os.walk(folder, onerror=_refuse):
        if Path(here, ".amae", "record.json").is_file():
            print(f"{here}: an output of `amae predict`, left out", file=sys.stderr)
            folders.clear()
            continue
        hidden += sum(name[0] == "." and name != OF_SNAKEMAKE for name in (*folders, *names))
        links = [name for name in folders if Path(here, name).is_symlink()]
        folders[:] = sorted(name for name in folders if name[0] != "." and Path(here, name).resolve() != output)
        yield from (Path(here, name) for name in sorted([*names, *links]) if name[0] != ".")
    if hidden:
        print(f"{folder}: {hidden} hidden files and folders left out", file=sys.stderr)


def _refuse(error: OSError) -> None:
    if isinstance(error, FileNotFoundError):  # deleted since its parent was listed, as a file may be
        print(f"{error.filename}: left out, it is gone", file=sys.stderr)
        return
    raise InputError(f"{error.filename}: {error.strerror}") from None
