"""Textures for DRAEM: pieces of the normal radiographs, or pictures from a folder, each distorted in three ways."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from amae.comparators.patches import resampled
from amae.method.anatpaste import uniform, uniform_integer
from amae.runtime.errors import InputError

PICTURES = (".jpeg", ".jpg", ".png")
CUT = (0.25, 0.5)  # side of a piece of a radiograph, of the radiograph's
CHOSEN = 3  # distortions of a texture

# Of an image uint8 (1, S, S) and its own random number in [0, 1).
DISTORTIONS: tuple[Callable[[Tensor, float], Tensor], ...] = (
    lambda image, u: vision.adjust_gamma(image, 0.5 + 1.5 * u),
    lambda image, u: vision.adjust_brightness(image, 0.8 + 0.4 * u),
    lambda image, u: vision.adjust_sharpness(image, 1 + u),
    lambda image, u: vision.solarize(image, 32 + 96 * u),
    lambda image, u: vision.posterize(image, 1 + int(8 * u)),
    lambda image, u: vision.invert(image),
    lambda image, u: vision.autocontrast(image),
    lambda image, u: vision.equalize(image),
    lambda image, u: vision.rotate(image, 90 * u - 45),
)


def draw_textures(pictures: Tensor, cut: bool, count: int, generator: torch.Generator) -> Tensor:
    """So many textures, uint8 `(count, S, S)`, of pictures uint8 `(N, S, S)`, each distorted in three of nine ways.

    `cut`: of each picture a random square, enlarged.
    """
    draws = torch.rand(4, count, generator=generator, device=generator.device).to(pictures.device)
    chosen, side = pictures[uniform_integer(draws[0], len(pictures))], pictures.shape[1]
    if cut:
        size = (uniform(draws[1], *CUT) * side).long().expand(2, -1)
        start = uniform_integer(draws[2:], side - size + 1)
        whole = torch.full_like(size, side)
        chosen = resampled(chosen.float(), start, size, torch.zeros_like(start), whole).round().byte()
    order = torch.rand(count, len(DISTORTIONS), generator=generator, device=generator.device).argsort(1)[:, :CHOSEN]
    strength = torch.rand(count, CHOSEN, generator=generator, device=generator.device)
    made = []
    for texture, which, strengths in zip(chosen[:, None], order.tolist(), strength.tolist(), strict=True):
        for distortion, u in zip(which, strengths, strict=True):
            texture = DISTORTIONS[distortion](texture, u)
        made.append(texture)
    return torch.cat(made)


def load_textures(folder: str | Path, size: int) -> Tensor:
    """The PNG and JPEG pictures of a folder and those below it, in the order of their names, uint8 `(N, size, size)`.

    Grey, squashed (bilinear). Other files are reported and left out. Raises InputError for a folder that is missing or
    without pictures, and for a picture that cannot be read.
    """
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    paths = [path for path in files if path.suffix.lower() in PICTURES]
    if not paths:
        found = f"no {', '.join(PICTURES)} file" if Path(folder).is_dir() else "no folder"
        raise InputError(f"textures: {folder}: found {found}, expected a folder of PNG or JPEG pictures")
    if others := [path for path in files if path not in set(paths)]:
        print(f"textures: {len(others)} files that are no pictures left out, the first is {others[0]}", file=sys.stderr)
    return torch.from_numpy(np.stack([_read(path, size) for path in paths]))


def _read(path: Path, size: int) -> np.ndarray:
    """One picture, uint8 (size, size)."""
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("L").resize((size, size), Image.BILINEAR))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"textures: {path}: cannot be read ({error}), expected a PNG or JPEG picture") from None
