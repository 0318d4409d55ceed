"""Lung masks: one grey image to one mask, and one packed array of images to one of masks.

The recipe is the one of AnatPaste (Sato et al. 2022, "Anatomy-aware self-supervised learning for anomaly detection in
chest radiographs", and its published code): the dark regions of the contrast-equalised radiograph that do not touch the
border. It needs no training and finds aerated lung only; an opaque lung is left out, which suits its one use here,
namely to find where an opacity may be pasted on a normal image.
"""

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
from amae.data.parts import Shard, join_array, of_shard, parts_of, read_parts, write_part
from amae.runtime.errors import InputError
from amae.runtime.files import atomic, sha256, write_csv
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
    shard: Shard | None = None,
) -> None:
    """Find the lungs of every packed image, and write masks and table.

    `lung_images_path`: uint8 (N, 256, 256) .npy, read through a memory map. `index_path`: CSV with image_id, in the
    same order. Written: `lungs_path`, uint8 (N, 256, 32), the masks, eight pixels a byte (np.packbits along the
    last axis); `table_path`, CSV image_id, coverage (fraction of the image), flag ("", empty, implausible). The
    result does not depend on `workers` (processes). Killed, the same command continues. A `shard` makes its parts and
    no more; the command without one makes those that are missing, and joins all. Raises InputError for images of
    another size, and where array and index do not belong together.
    """
    images, index = open_images(lung_images_path, index_path)
    if images.shape[1] != SIZE:
        raise InputError(f"{lung_images_path}: images of {images.shape[1]} px; lungs are found in those of {SIZE} px")
    ids = index["image_id"].tolist()
    identity = f"{sha256(lung_images_path)} {fingerprint(__name__)}"
    parts = of_shard(parts_of(lungs_path, len(ids), identity), shard)
    missing = [part for part in parts.items() if not part[0].exists()]
    done = sum(map(len, parts.values())) - sum(len(rows) for _, rows in missing)
    if done:
        print(f"continuing after {done} images", file=sys.stderr)
    progress = Progress("lung masks", sum(map(len, parts.values())), "images", done)
    with closing(in_processes(partial(_segment_part, str(lung_images_path)), missing, workers)) as results:
        for count in results:
            done += count
            progress.reached(done)
    if shard:
        return
    with atomic(lungs_path) as temporary:
        join_array(list(parts), "masks", len(ids), temporary)
    coverage, flags = [np.concatenate([*read_parts(parts, name)]) for name in ("coverage", "flags")]
    table = pd.DataFrame({"image_id": ids, "coverage": np.round(coverage, 6), "flag": flags})
    write_csv(table, table_path)
    shutil.rmtree(next(iter(parts)).parent)
    counts = table["flag"].value_counts()
    print(
        f"lung masks: {len(ids)} images, {counts.get('empty', 0)} empty, {counts.get('implausible', 0)} implausible; "
        f"listed in {table_path}",
        file=sys.stderr,
    )


def _segment_part(lung_images_path: str, part: tuple[Path, range]) -> int:
    """Write packed masks, coverages and flags of these rows; their number."""
    path, rows = part
    images = np.load(lung_images_path, mmap_mode="r")[rows.start : rows.stop]
    masks = np.stack([lung_mask(image) for image in images])
    flags = [mask_flag(mask) for mask in masks]
    write_part(path, masks=np.packbits(masks, axis=-1), coverage=masks.mean(axis=(1, 2)), flags=flags)
    return len(rows)
