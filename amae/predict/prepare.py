"""One radiograph as a model takes it, and what is known of it without a network; without torch, workers start fast."""

from typing import Any

import numpy as np
from PIL import Image

from amae.data.header import header_flags
from amae.data.images import grey_of_array, make_square, read_radiograph
from amae.data.lungs import lung_mask, mask_flag
from amae.data.packed import MASK_SIZE

SHOWN = 640  # pixels of the longer side of a radiograph to be shown, where it has more


def prepare(path: str, conversion: str, square: str, size: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Read a file as uint8 `(size, size)`, and find its lungs.

    With it: coverage (share of the image in the lung mask), mask (empty, implausible or ""), header (what it states
    against the image, or leaves open of its grey levels), geometry, radiograph (uint8, in its own proportions, at most
    SHOWN pixels a side). Raises InputError with file and reason where it cannot be scored.
    """
    grey, notes = read_radiograph(path, conversion)
    return _prepared(grey, square, size, [*header_flags(path), *notes])


def prepare_array(values: np.ndarray, conversion: str, square: str, size: int) -> tuple[np.ndarray, dict[str, Any]]:
    """The same of whole numbers `(rows, columns)`, 0 black, as of a picture that contains them; no header flags it.

    `conversion` is of DICOM files alone. Raises InputError where they cannot be scored.
    """
    return _prepared(grey_of_array(values), square, size, [])


def _prepared(grey: np.ndarray, square: str, size: int, header: list[str]) -> tuple[np.ndarray, dict[str, Any]]:
    image, geometry = make_square(grey, square, size)
    mask = lung_mask(make_square(grey, square, MASK_SIZE)[0])
    rows, columns = grey.shape
    shrink = min(1.0, SHOWN / max(rows, columns))
    shown = Image.fromarray(grey).resize(
        (max(1, round(columns * shrink)), max(1, round(rows * shrink))), Image.Resampling.BILINEAR
    )
    return image, {
        "coverage": float(mask.mean()),
        "mask": mask_flag(mask),
        "header": "; ".join(header),
        "geometry": geometry,
        "radiograph": np.asarray(shown),
    }
