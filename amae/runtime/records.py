"""One record of each command that wrote files: what it was asked for, and the SHA-256 of what it read and wrote.

The command line makes it, for every command alike: a file that an argument names, and that is another after the command
than before, is an output; one that stays as it was is an input. The record of a training is its `run.json`, to which
outputs and edited files are added; that of any other command lies in the folder `records` beside its first output.
"""

import dataclasses
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from amae.runtime.files import ANY_NAME, atomic, read_csv, read_record, sha256, write_json
from amae.runtime.provenance import code_revision, command_line, describe_device, versions

FOLDER = "records"
LIST = ".sha256"  # suffix of a list of radiographs, as sha256sum writes it
RADIOGRAPHS = {"convert": "manifest"}  # command -> parameter: a table of the files that the command reads
BESIDE = {"rejected": "notes.csv"}  # parameter -> file that is written beside the one that it names
READ_ONLY = ("root",)  # a folder from which paths start
TEXTS = ("settings",)  # parameters of texts to show; a file that they name is not read
ESCAPED = "\\"  # before the line of a file with such a character, or a line break, in its name
MOST_EDITED = 20  # files that are named; all are counted
_State = tuple[int, int, int] | None


@contextmanager
def recorded(command: str, arguments: Mapping[str, Any], given: tuple[str, ...] = ()) -> Iterator[None]:
    """Write the record of a command that runs in the body, if that ends without an exception and wrote a file.

    Args:
        command: name of its function.
        arguments: the value of every parameter, defaults too.
        given: parameters that name what is read, by file or by folder; of a folder every file counts.
    """
    named = {name: list(_paths(value)) for name, value in arguments.items() if name not in TEXTS}
    before = {path: _state(path) for paths in named.values() for each in paths for path in _files(each)}
    about = {
        "command": command_line(),
        "settings": json.loads(json.dumps(dict(arguments), default=_plain)),
        "seed": arguments.get("seed"),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    yield
    read, written = {}, {}
    for name, paths in named.items():
        made = [path for each in paths for path in _files(each) if _state(path) != before.get(path)]
        made += [beside for path in made if name in BESIDE and (beside := path.with_name(BESIDE[name])).is_file()]
        if made and name not in (*READ_ONLY, *given):
            written |= dict.fromkeys(made, name)
        elif files := [path for path in paths if path.is_file()]:
            read |= {f"{name} {n}" if len(files) > 1 else name: path for n, path in enumerate(files, start=1)}
    if not written:
        return
    first = next(iter(written))
    own = next((path for path, name in written.items() if name == "record"), None)
    path = own or first.parent / FOLDER / f"{first.name}.json"
    about |= read_record(own) if own else _circumstances(read)
    if (about["code"] or {}).get("dirty"):
        about["code"] |= edited_files()  # before this record adds files of its own
    radiographs = [each for name in given for each in named[name] if each.is_dir()]
    if command in RADIOGRAPHS:
        radiographs = [Path(each) for each in read_csv(arguments[RADIOGRAPHS[command]], ["path"])["path"]]
    if radiographs:
        listed = path.with_name(f"{first.name}{LIST}")
        _list_radiographs(radiographs, listed)
        about["inputs"]["radiographs"] = {"path": str(listed), "sha256": sha256(listed)}
    about["outputs"] = {os.path.relpath(each, path.parent): sha256(each) for each in written if each != own}
    write_json(about, path)


def record_of(file: Path) -> tuple[Path, dict[str, Any]] | None:
    """The record that names a file as an output, with its path: that of its present content, or else the latest."""
    found = []
    above = [path for folder in list(file.absolute().parents)[:2] for path in sorted(folder.glob(f"{FOLDER}/*.json"))]
    for path in (file.with_name("run.json"), *above):  # a command may fill a folder beside its first output
        if path.is_file() and path != file:
            record = read_record(path)
            if digest := recorded_digest(record, path, file):
                found.append((digest == sha256(file), str(record.get("started")), path, record))
    return max(found, key=lambda each: each[:2])[2:] if found else None


def recorded_digest(record: Mapping[str, Any], path: Path, file: Path) -> str | None:
    """SHA-256 of an output when the record at `path` was written; None where it does not name this file."""
    outputs = record.get("outputs")
    return outputs.get(os.path.relpath(file, path.parent)) if isinstance(outputs, dict) else None


def read_list(path: Path) -> dict[Path, str]:
    """Files of a list of radiographs, with their SHA-256."""
    found = {}
    for line in path.read_bytes().decode(errors=ANY_NAME).split("\n")[:-1]:  # a name may contain \r
        digest, _, name = line.partition("  ")
        if digest.startswith(ESCAPED):
            digest, name = digest[1:], re.sub(r"\\(.)", lambda each: "\n" if each[1] == "n" else each[1], name)
        found[Path(name)] = digest
    return found


def edited_files(folder: str | Path = Path(__file__).parents[1]) -> dict[str, Any]:
    """Files of the repository around a folder that differ from its commit: their number, and the first 20 names.

    `--porcelain -z` gives each as two letters (what was done), a space and the path; a renamed one is followed by its
    old path. A folder that git does not know counts as one.
    """
    command = ["git", "-C", str(folder), "status", "--porcelain", "--no-renames", "-z"]
    try:
        found = subprocess.run(command, capture_output=True, check=True, timeout=30).stdout.decode(errors="replace")
    except (OSError, subprocess.SubprocessError):
        return {}
    names = [entry[3:] for entry in found.split("\0") if entry]
    return {"edited": names[:MOST_EDITED], "edited_count": len(names)}


def _circumstances(read: Mapping[str, Path]) -> dict[str, Any]:
    return {
        "inputs": {role: {"path": str(path), "sha256": sha256(path)} for role, path in read.items()},
        "versions": versions(),
        "code": code_revision(),
        "device": describe_device("cpu"),
    }


def _list_radiographs(paths: list[Path], listed: Path) -> None:
    """Write the SHA-256 of files, and of all files in folders, as sha256sum does; unreadable ones are left out."""
    files = [path for each in paths for path in (sorted(each.rglob("*")) if each.is_dir() else [each])]
    files = [path for path in files if path.is_file()]
    with (
        ThreadPoolExecutor(4) as pool,
        atomic(listed) as temporary,
        temporary.open("w", encoding="utf-8", errors=ANY_NAME) as file,
    ):
        for path, digest in zip(files, pool.map(_digest, files), strict=True):
            if not digest:
                continue
            name = str(path).replace("\\", "\\\\").replace("\n", "\\n")
            file.write(f"{ESCAPED if name != str(path) else ''}{digest}  {name}\n")


def _digest(path: Path) -> str:
    """SHA-256 of a file; "" for one that cannot be read."""
    try:
        return sha256(path)
    except OSError:
        return ""


def _paths(value: Any) -> Iterator[Path]:
    """Paths in the value of a parameter: in settings and in JSON too, there of files that exist."""
    if isinstance(value, Path):
        yield value
    elif dataclasses.is_dataclass(value) or isinstance(value, dict):
        for each in (value if isinstance(value, dict) else vars(value)).values():
            yield from _paths(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _paths(each)
    elif isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            yield from _paths(json.loads(value))
        except ValueError:
            return
    elif isinstance(value, str) and os.sep in value and os.path.isfile(value):
        yield Path(value)


def _files(path: Path) -> list[Path]:
    """A file, which need not exist, or the files that lie in a folder, hidden ones and those below aside."""
    if not path.is_dir():
        return [path]
    return sorted(each for each in path.iterdir() if each.is_file() and not each.name.startswith("."))


def _state(path: Path) -> _State:
    """What differs where a file was written again; None for one that does not exist."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _plain(value: Any) -> Any:
    return vars(value) if dataclasses.is_dataclass(value) else str(value)
