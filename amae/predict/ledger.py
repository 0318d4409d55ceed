"""What became of each image of a server: a file that grows by one line of JSON with each step.

An interrupted or killed run leaves at most one half line, which the next run cuts off. The first line binds the file
to what the results depend on.
"""

import json
import os
from pathlib import Path
from typing import Any

from amae.runtime.errors import InputError
from amae.runtime.lock import try_lock

STORED = "stored"  # the server has the result
WITHHELD = "withheld"  # flagged or not scored: there is nothing to store
KEPT = "kept"  # scored; the result waits in the folder
MISSING = "missing"  # not downloaded


class Ledger:
    """The rows of a ledger by image, the last one of each; locked against a second run until it is closed."""

    def __init__(self, path: Path, bound: dict[str, Any]):
        """Open or begin one. Raises InputError where another run has it, it is damaged, or of other settings."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if (file := try_lock(path)) is None:
            raise InputError(f"{path}: another run is at work in this folder; wait until it has ended")
        self._file, self.rows = file, {}
        try:
            self._read(path, bound)
        except InputError:
            self.close()
            raise

    def _read(self, path: Path, bound: dict[str, Any]) -> None:
        text = path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        os.ftruncate(self._file, len(whole))
        os.lseek(self._file, 0, os.SEEK_END)
        lines = whole.splitlines()
        if not lines:
            self._write(bound)
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                if number == 1:
                    before = {key: row[key] for key in bound}
                else:
                    self.rows[row["image"]] = {"study": row["study"], "state": row["state"], **row}
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{path}, line {number}: damaged ({type(error).__name__})") from None
        if lines and (other := [key for key in bound if before[key] != bound[key]]):
            if not self.rows:  # it binds no result, as after a mistyped address
                os.ftruncate(self._file, 0)
                os.lseek(self._file, 0, os.SEEK_SET)
                return self._write(bound)
            key = other[0]
            raise InputError(
                f"{path}: of another run: {key} is {before[key]!r} there, found {bound[key]!r}; choose another --output"
            )

    def add(self, row: dict[str, Any]) -> None:
        """Record a step of an image: `study`, `image`, `state`, and whatever else is known; on disk when it returns."""
        self.rows[row["image"]] = row
        self._write(row)

    def _write(self, row: dict[str, Any]) -> None:
        line, end = json.dumps(row).encode() + b"\n", os.lseek(self._file, 0, os.SEEK_CUR)
        try:
            while line:  # a full disk takes a part first
                line = line[os.write(self._file, line) :]
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, end)
            os.lseek(self._file, end, os.SEEK_SET)
            raise

    def close(self) -> None:
        """Unlock it."""
        os.close(self._file)
