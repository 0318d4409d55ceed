"""Lung masks: one grey image to one mask, and one packed array of images to one of masks.

The recipe is the one of AnatPaste (Sato et al. 2022, "Anatomy-aware self-supervised learning for anomaly detection in
chest radiographs", and its published code): the dark regions of the contrast-equalised radiograph that do not touch the
border. It needs no training and finds aerated lung only; an opaque lung is left out, which suits its one use here,
namely to find where an opacity may be pasted on a normal image.
"""

import hashlib
import os
import shutil
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from skimage.exposure import equalize_adapthist
from skimage.filters import threshold_otsu
from skimage.measure import label, regionprops
from skimage.morphology import dilation, footprint_rectangle, opening
from skimage.segmentation import clear_border

from amae.data.packed import MASK_SIZE as SIZE
from amae.data.packed import open_images
from amae.runtime.errors import InputError
from amae.runtime.files import atomic, seal, sha256, write_csv
from amae.runtime.fingerprint import fingerprint
from amae.runtime.processes import in_processes
from amae.runtime.progress import Progress

MINIMUM_AREA = 400  # pixels; every constant of the recipe is meant at SIZE

# Both lung fields fill roughly a quarter of a well-framed frontal radiograph. Under 5 % most of the lungs is
# missing; over 60 % the mask must contain something else (a negative image, air around the body that stays off the
# border).
PLAUSIBLE_COVERAGE = (0.05, 0.6)
# A mask with less than this share in one half of the image has lost a lung.
MINIMUM_HALF = 0.05

CHUNK = 16  # images a task of a worker


def lung_mask(image: np.ndarray) -> np.ndarray:
    """Lung mask of one radiograph with dark lungs (MONOCHROME2 sense).

    `image` is uint8 (256, 256), the result bool (256, 256), all False where nothing is found. Contrast-limited adaptive
    histogram equalisation (clip 0.01, 256 bins), Otsu's threshold, dark non-zero pixels, opening 3x3, removal of what
    touches the border, dilation 3x3, and removal of components under 400 pixels together with all else in their
    bounding boxes. Raises ValueError for another shape or dtype.

    Source: Sato et al. 2022, section on lung segmentation, and the published code, whose second comparison of the image
    with its own thresholded version amounts to "dark and not zero" and whose removal zeroes whole bounding boxes.
    """
    if image.shape != (SIZE, SIZE) or image.dtype != np.uint8:
        raise ValueError(f"expected a uint8 image ({SIZE}, {SIZE}), found {image.dtype} {image.shape}")
    if image.min() == image.max():
        return np.zeros(image.shape, dtype=bool)
    equalised = equalize_adapthist(image, clip_limit=0.01, nbins=256)
    dark = (equalised <= threshold_otsu(equalised)) & (equalised > 0)
    square = footprint_rectangle((3, 3))
    inner = dilation(clear_border(opening(dark, square)), square)
    labels = label(inner)
    for region in regionprops(labels):
        # The area is what earlier removals have left of the component, as in the published code.
        if region.area < MINIMUM_AREA:
            labels[region.slice] = 0
    return labels > 0


def mask_flag(mask: np.ndarray) -> str:
    """Name the fault of a lung mask, bool (H, W): "", "empty" or "implausible".

    Implausible: a coverage outside PLAUSIBLE_COVERAGE, or less than MINIMUM_HALF of the mask in one half of the image.
    """
    area = np.count_nonzero(mask)
    if area == 0:
        return "empty"
    low, high = PLAUSIBLE_COVERAGE
    left = np.count_nonzero(mask[:, : mask.shape[1] // 2])
    two_sided = min(left, area - left) >= MINIMUM_HALF * area
    return "" if low <= area / mask.size <= high and two_sided else "implausible"


def segment_lungs(
    lung_images_path: str | Path,
    index_path: str | Path,
    lungs_path: str | Path,
    table_path: str | Path,
    workers: int = 1,
) -> None:
    """Find the lungs of every packed image, and write masks and table.

    `lung_images_path`: uint8 (N, 256, 256) .npy, read through a memory map. `index_path`: CSV with image_id, in the
    same order. Written: `lungs_path`, uint8 (N, 256, 32), the masks, eight pixels a byte (np.packbits along the
    last axis); `table_path`, CSV image_id, coverage (fraction of the image), flag ("", empty, implausible). The
    result does not depend on `workers` (processes). Killed, the same command continues. Raises InputError for
    images of another size, and where array and index do not belong together.
    """
    images, index = open_images(lung_images_path, index_path)
    if images.shape[1] != SIZE:
        raise InputError(f"{lung_images_path}: images of {images.shape[1]} px; lungs are found in those of {SIZE} px")
    ids = index["image_id"].tolist()
    coverage, flags = _write_masks(lung_images_path, len(ids), lungs_path, workers)
    table = pd.DataFrame({"image_id": ids, "coverage": np.round(coverage, 6), "flag": flags})
    write_csv(table, table_path)
    counts = table["flag"].value_counts()
    print(
        f"lung masks: {len(ids)} images, {counts.get('empty', 0)} empty, {counts.get('implausible', 0)} implausible; "
        f"listed in {table_path}",
        file=sys.stderr,
    )


def _write_masks(
    lung_images_path: str | Path, count: int, lungs_path: str | Path, workers: int
) -> tuple[list[float], list[str]]:
    """Segment `count` images into the packed mask file; coverages and flags in the same order."""
    unfinished = _unfinished(Path(lungs_path), f"{sha256(lung_images_path)} {fingerprint(__name__)}")
    coverage, flags = _found_before(unfinished)
    if coverage:
        print(f"continuing after {len(coverage)} images", file=sys.stderr)
    progress = Progress("lung masks", count, "images", len(coverage))
    segment = partial(_segment_chunk, str(lung_images_path))
    starts = range(len(coverage), count, CHUNK)
    with atomic(lungs_path) as temporary:
        with closing(in_processes(segment, starts, workers)) as results, unfinished.open("ab") as file:
            for part, part_coverage, part_flags in results:
                file.write(part.tobytes())
                file.flush()  # a full disk shows at the first mask that does not fit
                coverage += part_coverage
                flags += part_flags
                progress.reached(len(coverage))
        with temporary.open("wb") as file, unfinished.open("rb") as masks:
            header = {"descr": "|u1", "fortran_order": False, "shape": (count, SIZE, SIZE // 8)}
            np.lib.format.write_array_header_1_0(file, header)
            shutil.copyfileobj(masks, file)
        seal(temporary)
    unfinished.unlink()
    return coverage, flags


def _unfinished(lungs_path: Path, identity: str) -> Path:
    """The file of masks of an unfinished run, CHUNK by CHUNK; removes that of other images or code."""
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    path = lungs_path.with_name(f".{lungs_path.stem}.{digest}.unfinished")
    for other in lungs_path.parent.glob(f".{lungs_path.stem}.*.unfinished"):
        if other != path:
            other.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _found_before(unfinished: Path) -> tuple[list[float], list[str]]:
    """Coverages and flags of the whole chunks of an unfinished file; what follows them is cut off."""
    coverage: list[float] = []
    flags: list[str] = []
    if not unfinished.exists():
        return coverage, flags
    size = CHUNK * SIZE * SIZE // 8
    whole = unfinished.stat().st_size // size
    os.truncate(unfinished, whole * size)
    with unfinished.open("rb") as file:
        for _ in range(whole):
            masks = np.unpackbits(np.frombuffer(file.read(size), np.uint8)).reshape(CHUNK, SIZE, SIZE).astype(bool)
            part_coverage, part_flags = _about(masks)
            coverage += part_coverage
            flags += part_flags
    return coverage, flags


def _about(masks: np.ndarray) -> tuple[list[float], list[str]]:
    """Coverages and flags of masks, bool (n, SIZE, SIZE)."""
    return masks.mean(axis=(1, 2)).tolist(), [mask_flag(mask) for mask in masks]


def _segment_chunk(lung_images_path: str, start: int) -> tuple[np.ndarray, list[float], list[str]]:
    """Packed masks, coverages and flags of up to CHUNK images from row `start` on."""
    images = np.load(lung_images_path, mmap_mode="r")[start : start + CHUNK]
    masks = np.stack([lung_mask(image) for image in images])
    return np.packbits(masks, axis=-1), *_about(masks)
