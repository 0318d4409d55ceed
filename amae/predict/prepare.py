"""One file as a model takes it, and what is known of it without a network; without torch, workers start fast."""

from typing import Any

import numpy as np

from amae.data.images import read_image
from amae.data.lungs import lung_mask, mask_flag
from amae.predict.header import header_flags


def prepare(path: str, conversion: str, square: str, size: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Read a file as uint8 `(size, size)`, and find its lungs.

    With it: coverage (share of the image in the lung mask), mask (empty, implausible or ""), header (what it states
    against the image, or leaves open of its grey levels), geometry. Raises InputError with file and reason where it
    cannot be scored.
    """
    image, lung_image, geometry, notes = read_image(path, conversion, square, size)
    mask = lung_mask(lung_image)
    about = {
        "coverage": float(mask.mean()),
        "mask": mask_flag(mask),
        "header": "; ".join([*header_flags(path), *notes]),
    }
    return image, about | {"geometry": geometry}
