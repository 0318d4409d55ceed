"""What a scored folder remembers of its files, so that a killed run continues, and new files alone are computed.

In the folder `.amae` of the output: `record.json`, what the scores depend on beside the files; `rows.jsonl`, a row for
each file in the order of the last complete run; and, of a run that has not ended, `part-<number>.jsonl`, the rows of a
batch whose pictures are all written. A row contains the numbers and texts of its file, and the file's size and time.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from amae.predict.files import refuse_used
from amae.runtime.errors import InputError
from amae.runtime.files import atomic, read_record, size_and_time, write_json
from amae.runtime.lock import try_lock

FOLDER, RECORD, ROWS = ".amae", "record.json", "rows.jsonl"
PICTURES = {"map": "maps", "overlay": "overlays", "reading": "reading", "dicom": "dicom"}  # folder of each column
CHUNK = 4096  # rows in memory at a time


@contextmanager
def hold(output: Path, what: dict[str, Any]) -> Iterator[bool]:
    """Keep the output for this process, and `what` its scores depend on; True where a run was here before.

    Raises InputError where `output` contains what this command has not written, was scored with something else, which
    the message names, or is in use by another process.
    """
    folder = output / FOLDER
    if output.is_file() or (output.is_dir() and not (folder / RECORD).exists() and _others(output)):
        refuse_used(output)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            if (lock := try_lock(folder / "lock")) is None:
                raise InputError(f"{output}: another `amae predict` is at work in this folder; wait until it has ended")
            stack.callback(os.close, lock)
        except OSError as error:
            print(f"warning: {output} cannot be locked ({error.strerror}): start one at a time", file=sys.stderr)
        if again := (folder / RECORD).exists():
            _require_same(read_record(folder / RECORD), what, output)
        else:
            write_json(what, folder / RECORD)
        yield again


def _others(output: Path) -> bool:
    """True where a folder contains anything beside the folder of this module."""
    return any(path.name != FOLDER for path in output.iterdir())


def _require_same(before: dict[str, Any], now: dict[str, Any], output: Path) -> None:
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if names:
        listed = "; ".join(f"{name}: {_short(before.get(name))} there, {_short(now.get(name))} now" for name in names)
        raise InputError(f"{output}: was scored with something else ({listed}); choose another folder, or delete it")


def _short(value: Any) -> str:
    """A value for a message; a hash by its first digits."""
    return value[:12] if isinstance(value, str) and len(value) > 30 else str(value)


class Kept:
    """The rows of some files in `output`, by place: which are there, and where. Memory: some 40 bytes a file."""

    def __init__(self, output: Path, names: Sequence[str], paths: Sequence[str]) -> None:
        self.folder, self.names = output / FOLDER, names
        self.stamps = np.array([size_and_time(path) or (-1, -1) for path in paths], np.int64).reshape(-1, 2)
        self._sources = [self.folder / ROWS, *sorted(self.folder.glob("part-*.jsonl"))]
        self._at = np.full((len(names), 2), -1, np.int64)  # source and offset
        self.gone = self._find()
        self._next = 1 + max((int(path.stem.partition("-")[2]) for path in self._sources[1:]), default=-1)

    def _find(self) -> int:
        """Find the rows that can be used again; the number of those whose file is no longer among the given.

        A file of another size or time is scored again, and so is one that could not be read: that may have been put
        right by other means than a change of the file.
        """
        places, gone = {name: place for place, name in enumerate(self.names)}, set()
        for number, source in enumerate(self._sources):
            for offset, row in _lines(source):
                place = places.get(row["file"])
                if place is None:
                    gone.add(row["file"])
                elif row["stamp"] == self.stamps[place].tolist() and not row["reason"]:
                    self._at[place] = number, offset
        return len(gone)

    @property
    def missing(self) -> np.ndarray:
        """Places `(M,)` of the files without a row."""
        return np.flatnonzero(self._at[:, 0] < 0)

    def add(self, table: pd.DataFrame) -> None:
        """Write the rows of a batch; its index are the places."""
        path, offset = self.folder / f"part-{self._next:07d}.jsonl", 0
        self._sources.append(path)
        self._next += 1
        with atomic(path) as temporary, temporary.open("wb") as file:
            for place, row in zip(table.index, table.to_dict("records"), strict=True):
                line = json.dumps(row | {"stamp": self.stamps[place].tolist()}, sort_keys=True).encode() + b"\n"
                file.write(line)
                self._at[place] = len(self._sources) - 1, offset
                offset += len(line)

    def merge(self) -> None:
        """Put all rows into one file, in the order of the given files, and remove the parts."""
        with atomic(self.folder / ROWS) as temporary, temporary.open("wb") as file:
            for number, offset in self._at.tolist():
                with self._sources[number].open("rb") as source:  # there may be too many to keep them open
                    source.seek(offset)
                    file.write(source.readline())
        for path in self.folder.glob("*part-*.jsonl"):  # with what a killed process left
            path.unlink()

    def tables(self) -> Iterator[pd.DataFrame]:
        """All rows after `merge`, some at a time, in the order of the files and with their places as index."""
        start, rows = 0, []
        for _, row in _lines(self.folder / ROWS):
            rows.append(row)
            if len(rows) == CHUNK:
                yield _as_table(rows, start)
                start, rows = start + len(rows), []
        if rows:
            yield _as_table(rows, start)


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Offset and row of each line of a file; none of a missing one."""
    if not path.exists():
        return
    offset = 0
    with path.open("rb") as file:
        for line in file:
            try:
                row = json.loads(line)
            except ValueError:
                raise InputError(f"{path}: damaged; delete the folder, and score it again") from None
            yield offset, row
            offset += len(line)


def _as_table(rows: list[dict[str, Any]], start: int) -> pd.DataFrame:
    table = pd.DataFrame(rows, pd.RangeIndex(start, start + len(rows))).drop(columns="stamp")
    return table.astype({"stage1": np.float32})  # as the network gives it: written with its own digits


def remove_strays(output: Path, kept: Kept) -> None:
    """Remove pictures of files that are no longer given or scored, and what a killed run left of others."""
    for column, folder in PICTURES.items():
        named = {name for table in kept.tables() if column in table for name in table[column] if name}
        for here, _, names in os.walk(output / folder, topdown=False):
            for path in (Path(here, name) for name in names):
                if path.relative_to(output).as_posix() not in named:
                    path.unlink()
            with suppress(OSError):  # it contains something
                os.rmdir(here)
