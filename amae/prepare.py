"""One file as a model takes it, and what can be told of it without a network; without torch, workers start fast."""

from typing import Any

import numpy as np

from amae.data.header import header_flags
from amae.data.images import read_image
from amae.data.packed import MASK_SIZE
from amae.errors import InputError
from amae.lungs import at_size, lung_mask, mask_flag


def prepare(task: tuple[str, str, str, int]) -> tuple[np.ndarray | None, dict[str, Any]]:
    """Read a file (path, conversion, square, size) as uint8 `(size, size)`, and find its lungs.

    None where it cannot be scored. With it: coverage (share of the image in the lung mask), mask (empty, implausible
    or ""), header (what it says against the image), geometry, reason (why it cannot be scored). Runs in a worker
    process.
    """
    path = task[0]
    try:
        image, geometry = read_image(*task)
    except InputError as error:
        return None, {"header": "", "reason": str(error).removeprefix(f"{path}: ")}
    mask = lung_mask(at_size(image, MASK_SIZE))
    about = {"coverage": float(mask.mean()), "mask": mask_flag(mask), "header": "; ".join(header_flags(path))}
    return image, {**about, "geometry": geometry, "reason": ""}
