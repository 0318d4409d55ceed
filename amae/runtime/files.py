"""Files that are either whole or absent: written under a temporary name, then renamed.

Packed arrays and unfinished trainings are sealed: they end with the SHA-256 of all before, at which numpy and torch do
not look.
"""

import csv
import hashlib
import io
import json
import os
import sys
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import pandas as pd

from amae.runtime.errors import InputError

ANY_NAME = "surrogateescape"  # names of files need not be UTF-8


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with its suffix; rename it to `path` on success, delete it on failure.

    What a killed process left there is written over. An OSError names the file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def temporary_beside(path: Path) -> Path:
    """A hidden name beside `path`, with its suffix; 5 bytes longer. Always the same, so that nothing piles up."""
    return path.with_name(f".{path.stem}.tmp{path.suffix}")


def require_new(path: Path, suffix: str) -> None:
    """Raise InputError for a name of another kind of file, and for a file that is there, which is not written over."""
    if path.suffix != suffix:
        raise InputError(f"{path}: expected the name of a file to write that ends in {suffix}")
    if path.exists():
        raise InputError(f"{path}: exists; choose another name, or delete it first")


def require_writable(folder: Path) -> None:
    """Raise OSError where no file can be made in a folder, or in the nearest one above it that exists."""
    TemporaryFile(dir=next(each for each in (folder, *folder.absolute().parents) if each.exists())).close()


def size_and_time(path: str | Path) -> tuple[int, int] | None:
    """Size in bytes and time of the last change in ns of a file; None for a link that leads nowhere."""
    try:
        about = os.stat(path)
    except OSError:
        return None
    return about.st_size, about.st_mtime_ns


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    return _read_through(path)[0]


def is_sealed(path: str | Path) -> bool:
    """True if a file ends with the SHA-256 of all before."""
    return _read_through(path)[1]


def _read_through(path: str | Path) -> tuple[str, bool]:
    about = os.stat(path)
    return _digests(str(path), about.st_size, about.st_mtime_ns)


@lru_cache  # a training checks its images, and records their hash
def _digests(path: str, size: int, _time: int) -> tuple[str, bool]:
    """SHA-256 of a file, and whether its last 32 bytes are that of all before; again for another size or time."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        left = size - digest.digest_size
        while left > 0 and (part := file.read(min(left, 1 << 20))):
            digest.update(part)
            left -= len(part)
        before, last = digest.digest(), file.read()
    digest.update(last)
    return digest.hexdigest(), last == before


def write_csv(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a table without its index. Floats keep the digits that identify them."""
    with atomic(path) as temporary:
        frame.to_csv(temporary, index=False)


def write_json(value: Any, path: str | Path) -> None:
    """Write a value as indented JSON."""
    with atomic(path) as temporary:
        text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        temporary.write_text(text, encoding="utf-8", errors=ANY_NAME)


def read_record(path: str | Path) -> dict[str, Any]:
    """Read a JSON object that `write_json` wrote. Raises InputError when it is missing or damaged."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8", errors=ANY_NAME))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable record ({error}); delete it and make it again") from None
    if not isinstance(record, dict):
        raise InputError(f"{path}: not a readable record (found {str(record)[:80]}, expected an object)")
    return record


def seal(path: str | Path) -> None:
    """Append the SHA-256 of a file, 32 bytes, to it."""
    digest = bytes.fromhex(sha256(path))
    with open(path, "ab") as file:
        file.write(digest)


def open_sealed(path: str | Path) -> np.ndarray:
    """Open a .npy as a read-only memory map; one that was sealed is read through once, to see that it is unchanged.

    Raises InputError when it is missing, no array, or not what was written.
    """
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; make it again") from None
    except Exception as error:  # a damaged header can raise nearly anything
        raise InputError(f"{path}: not a packed array ({error}); delete it and make it again") from None
    if os.stat(path).st_size != array.offset + array.nbytes and not is_sealed(path):
        raise InputError(f"{path}: damaged: not the bytes that were written; delete it, and run the same command again")
    return array


def load_arrays(path: str | Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays of a .npz by name, pickles refused. Raises InputError when the file lacks one or has a damaged one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except (KeyError, ValueError, EOFError, TypeError, zipfile.BadZipFile):
        raise InputError(f"{path}: not a file of numpy arrays, or a damaged one; delete it and make it again") from None


def read_csv(path: str | Path, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Read a table with every cell as text and empty cells as "" (an id such as 007 or NA stays what it is);
    a byte-order mark, as Excel writes it, is skipped, and so are empty cells behind those that the header names.

    Raises InputError when the file is missing, empty or not a table, or lacks one of `columns`.
    """
    try:
        content = Path(path).read_bytes()
        if b"\0" in content:  # pandas takes it for a character
            found = "a ZIP archive, as Excel workbooks are" if content[:2] == b"PK" else "NUL bytes"
            raise InputError(f"{path}: not a readable CSV table (found {found}; save it as CSV UTF-8)")
        table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a readable CSV table (its bytes are not UTF-8; save it as CSV UTF-8)") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, IsADirectoryError) as error:
        raise InputError(f"{path}: not a readable CSV table ({error})") from None
    for separator in (";", "\t"):
        if "".join(map(str, table.columns)).count(separator) >= len(table.columns):
            raise InputError(
                f"{path}: not a readable CSV table (its cells are separated by {separator!r}, expected ',')"
            )
    if len(table) and not isinstance(table.index, pd.RangeIndex):  # pandas took the first cells for an index
        names, table = table.columns, table.reset_index()
        if (table.iloc[:, len(names) :] != "").any(axis=None):
            raise InputError(f"{path}: not a readable CSV table (rows have more cells than the header has names)")
        table = table.iloc[:, : len(names)].set_axis(names, axis=1)
    require_columns(table, columns, path)
    return table


def require_columns(table: pd.DataFrame, columns: Sequence[str], path: str | Path) -> None:
    """Raise InputError, naming the table's file, where it lacks one of these columns."""
    missing = [column for column in columns if column not in table]
    if missing:
        raise InputError(f"{path}: missing column {', '.join(missing)} (found: {', '.join(map(str, table.columns))})")


def without_blank_rows(table: pd.DataFrame, path: str | Path) -> pd.DataFrame:
    """A copy without the rows that have no entry, as spreadsheets leave them; a line to stderr counts these.

    The index stays, so that `line_numbers` finds the others.
    """
    blank = (table == "").all(axis=1)
    if blank.any():
        print(f"{path}: {int(blank.sum())} rows without any entry are left out", file=sys.stderr)
    return table[~blank].copy()


def line_numbers(path: str | Path) -> list[int]:
    """The line, as an editor counts, in which each row of a table begins; that of the header is not among them.

    Empty lines are no rows, and a cell may contain more than one line.
    """
    csv.field_size_limit(2**31 - 1)  # pandas reads cells of any length
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        begin, found = 1, []
        for cells in reader:
            if any(cell.strip() for cell in cells) or len(cells) > 1:
                found.append(begin)
            begin = reader.line_num + 1
    return found[1:]


def rows_of(table: pd.DataFrame, image_ids: Iterable[str], path: str | Path) -> pd.DataFrame:
    """The rows of a table for these images, in their order.

    Raises InputError, naming the table's file, where it has two rows or none for an image.
    """
    twice = table["image_id"][table["image_id"].duplicated()]
    if len(twice):
        raise InputError(f"{path}: image_id {twice.iloc[0]!r} appears more than once; expected one row each")
    places = pd.Series(np.arange(len(table)), index=table["image_id"]).reindex(list(image_ids))
    missing = places.index[places.isna()]
    if len(missing):
        raise InputError(
            f"{path}: no row for {len(missing)} of {len(places)} images, the first is {missing[0]!r}; expected all "
            "images of this data set"
        )
    return table.iloc[places.astype(int)].reset_index(drop=True)
