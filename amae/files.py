"""Files that are either whole or absent: written under a temporary name, then renamed."""

import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from amae.errors import InputError


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with its suffix; rename it to `path` on success, delete it on failure."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_csv(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a table without its index. Floats keep the digits that identify them."""
    with atomic(path) as temporary:
        frame.to_csv(temporary, index=False)


def write_json(value: Any, path: str | Path) -> None:
    """Write a value as indented JSON."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def save_array(array: np.ndarray, path: str | Path) -> None:
    """Write an array as .npy, which `np.load(path, mmap_mode="r")` opens without reading it."""
    with atomic(path) as temporary:
        np.save(temporary, array)


def load_arrays(path: str | Path, **options: Any) -> Any:
    """What `np.load(path, **options)` gives, pickles refused. Raises InputError when the file holds no arrays."""
    try:
        return np.load(path, allow_pickle=False, **options)
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise InputError(f"{path}: not a file of numpy arrays, or a damaged one; make it again") from None


def read_csv(path: str | Path, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Read a table with every cell as text and empty cells as "" (an id such as 007 or NA stays what it is);
    a byte-order mark, as Excel writes it, is skipped.

    Raises InputError when the file is missing, empty or not a table, or lacks one of `columns`.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, IsADirectoryError) as error:
        raise InputError(f"{path}: not a readable CSV table ({error})") from None
    missing = [column for column in columns if column not in table]
    if missing:
        raise InputError(f"{path}: missing column {', '.join(missing)} (found: {', '.join(map(str, table.columns))})")
    return table
