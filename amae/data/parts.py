"""Parts of a long job, each written whole to a folder beside its result.

A killed job continues after its parts, and several jobs, its shards, make them side by side.
"""

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amae.runtime.files import atomic, seal

PART = 64  # rows of a part, and so what a kill may cost

Shard = tuple[int, int]  # its number, from 1 on, and how many there are


def parts_of(result: str | Path, count: int, identity: str) -> dict[Path, range]:
    """The files (.npz) of the parts of a result of `count` rows, and the rows of each.

    `identity`: a text of all that the result depends on; parts of another identity are removed.
    """
    result, digest = Path(result), hashlib.sha256(identity.encode()).hexdigest()[:16]
    folder = result.with_name(f".{result.stem}.{digest}.unfinished")
    for other in result.parent.glob(f".{result.stem}.*.unfinished"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)  # another shard may be removing it
    return {folder / f"{start:09d}.npz": range(start, min(start + PART, count)) for start in range(0, count, PART)}


def of_shard(parts: dict[Path, range], shard: Shard | None) -> dict[Path, range]:
    """The parts that a shard makes; all of them without one."""
    number, shards = shard or (1, 1)
    return dict(list(parts.items())[number - 1 :: shards])


def write_part(path: Path, **arrays: Any) -> None:
    """Write a part as a whole."""
    with atomic(path) as temporary:
        np.savez(temporary, **arrays)


def read_parts(parts: Iterable[Path], name: str) -> Iterator[np.ndarray]:
    """One of the arrays of each part."""
    for path in parts:
        with np.load(path) as part:
            yield part[name]


def join_array(parts: Sequence[Path], name: str, count: int, path: Path) -> None:
    """Write a uint8 array of all parts, `count` rows, to a .npy file, a part at a time, and seal it."""
    with path.open("wb") as file:
        for rows in read_parts(parts, name):
            if not file.tell():
                header = {"descr": "|u1", "fortran_order": False, "shape": (count, *rows.shape[1:])}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(rows.tobytes())
    seal(path)
