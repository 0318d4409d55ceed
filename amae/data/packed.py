"""Inputs of all that trains and scores: packed images with their index table, and packed lung masks.

Images are uint8 (N, S, S), opened as a memory map. For lung masks, which are found at 256 px whatever S is, there is a
second array of them, uint8 (N, 256, 256), in the same order. A pixel coordinate of the original (edges at integers,
after EXIF rotation) becomes `coordinate * scale + offset` in the image of S pixels; scales and offsets stand in the
index table, so boxes map exactly.
"""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from amae.data.manifest import SPLITS, read_manifest
from amae.runtime.errors import InputError, naming
from amae.runtime.files import open_sealed, read_csv, rows_of

MASK_SIZE = 256  # pixels of a lung mask, and of the image that it is found in


class Geometry(NamedTuple):
    """Original matrix, and how its pixel coordinates map: packed = original * scale + offset."""

    rows: int
    columns: int
    scale_x: float
    scale_y: float
    offset_x: float
    offset_y: float


def open_images(images_path: str | Path, index_path: str | Path) -> tuple[np.ndarray, pd.DataFrame]:
    """Open a packed array read-only, uint8 (N, S, S), with its index table of N rows.

    Raises InputError when either is missing or damaged, or the two do not belong together.
    """
    images = open_sealed(images_path)
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1] != images.shape[2]:
        raise InputError(f"{images_path}: found {images.dtype} {images.shape}, expected uint8 (N, S, S)")
    index = read_csv(index_path)
    missing = [column for column in ("image_id", *Geometry._fields) if column not in index]
    if missing:
        raise InputError(f"{index_path}: column {missing[0]} is missing")
    if len(index) != len(images):
        raise InputError(f"{index_path} has {len(index)} rows, {images_path} {len(images)} images; convert them again")
    whole = dict.fromkeys(("rows", "columns"), "int64")
    return images, index.astype(whole | dict.fromkeys(Geometry._fields[2:], "float64"))


def rejected_beside(index_path: str | Path) -> set[str]:
    """Ids of the images that could not be read, from rejected.csv beside the index; none where there is none."""
    path = Path(index_path).with_name("rejected.csv")
    return set(read_csv(path, ["image_id"])["image_id"]) if path.is_file() else set()


def select(manifest: pd.DataFrame, index: pd.DataFrame, split: str, rejected: Collection[str] = ()) -> pd.DataFrame:
    """Manifest rows of one split that have an image, in manifest order, with their place in the array as column `row`.

    `images[select(manifest, index, "test")["row"]]` are the images. The index may contain images that are not in the
    manifest. Raises InputError for an empty split, and for an image of it that is neither in the index nor `rejected`.
    """
    if split not in SPLITS:
        raise InputError(f"split {split!r}: expected one of {', '.join(SPLITS)}")
    rows = pd.Series(np.arange(len(index)), index=index["image_id"])
    members = manifest[manifest["split"] == split]
    packed = members["image_id"].isin(rows.index)
    lost = members.loc[~packed & ~members["image_id"].isin(rejected), "image_id"]
    if len(lost):
        raise InputError(
            f"{len(lost)} of {len(members)} images of split {split} are neither packed nor in rejected.csv, the first "
            f"is {lost.iloc[0]!r}; convert the images of this manifest again"
        )
    chosen = members[packed]
    if chosen.empty:
        raise InputError(f"split {split} is empty: no readable image of the manifest belongs to it")
    return chosen.assign(row=rows[chosen["image_id"]].to_numpy()).reset_index(drop=True)


def load_splits(
    manifest_path: str | Path, images_path: str | Path, index_path: str | Path, *splits: str
) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows of these splits of a manifest, with the place of each image as `row`, and all images, memory-mapped.

    Of the two training sets one may be absent: a data set of protocol N has no T_u.
    """
    manifest = read_manifest(manifest_path)
    images, index = open_images(images_path, index_path)
    rejected = rejected_beside(index_path)
    present = [split for split in splits if split != "train_unlabeled" or (manifest["split"] == split).any()]
    with naming(manifest_path):
        return pd.concat([select(manifest, index, split, rejected) for split in present], ignore_index=True), images


def known_columns(
    manifest_path: str | Path, images_path: str | Path, index_path: str | Path
) -> tuple[pd.DataFrame, np.ndarray]:
    """Columns that are known of every image of T_n and T_u, none of which gives a label away; which are of T_u."""
    chosen, packed = load_splits(manifest_path, images_path, index_path, "train_normal", "train_unlabeled")
    sizes = rows_of(read_csv(index_path, ["image_id", "rows", "columns"]), chosen["image_id"], index_path)
    known = chosen[[name for name in ("view", "sex", "age") if name in chosen]]
    known = known.assign(intensity=[float(packed[row].mean()) for row in chosen["row"]])
    for name in ("rows", "columns"):
        known[name] = sizes[name].astype(int).to_numpy()
    return known, (chosen["split"] == "train_unlabeled").to_numpy()


def load_lung_masks(lungs_path: str | Path, rows: np.ndarray, size: int) -> np.ndarray:
    """Masks of the given rows of a packed mask file at a model's image size, bool (B, size, size).

    A pixel belongs to the mask when at least half of its area does. Raises InputError for a damaged file, and for one
    that contains no masks of these rows.
    """
    packed = open_sealed(lungs_path)
    if packed.shape[1:] != (MASK_SIZE, MASK_SIZE // 8) or len(packed) <= rows.max(initial=-1):
        raise InputError(f"{lungs_path}: {packed.shape} masks do not fit the images; segment the lungs again")
    # Overlap of the new pixels with the stored ones, in units that make it whole: exact in float32.
    edges = np.minimum(np.arange(size + 1)[:, None] * MASK_SIZE, (np.arange(MASK_SIZE) + 1) * size)
    edges = np.maximum(edges, np.arange(MASK_SIZE) * size)
    overlap = np.diff(edges, axis=0).astype(np.float32)  # (size, MASK_SIZE)
    masks = np.empty((len(rows), size, size), dtype=bool)
    for i, row in enumerate(rows):
        mask = np.unpackbits(packed[row], axis=-1)
        masks[i] = mask if size == MASK_SIZE else 2 * (overlap @ mask @ overlap.T) >= MASK_SIZE * MASK_SIZE
    return masks


def evenly(rows: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the rows, evenly spaced from the first to the last."""
    if len(rows) <= count:
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).round().astype(int)]
