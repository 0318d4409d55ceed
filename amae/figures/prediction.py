"""Pictures of a scored folder: heat maps, overlays, radiographs beside their overlays, a contact sheet."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from PIL import Image

from amae.data.packed import Geometry
from amae.figures.contact_sheet import Colour, contact_sheet
from amae.figures.gallery import MAP
from amae.runtime.files import atomic

SHOWN = 200  # pictures on the contact sheet
GAP = 8  # pixels between a radiograph and its overlay
FULL = 1024  # pixels of the longer side of a full overlay, where the radiograph has more
OPACITY = 0.75
BORDERS: dict[str, Colour | None] = {"abnormal": (255, 140, 0), "normal": None, "": (110, 110, 255)}


def heat_map(difference: np.ndarray, limit: float) -> np.ndarray:
    """A map `(H, W)`, at least 0, in colours, uint8 `(H, W, 3)`: black 0, brightest from `limit` on."""
    return colormaps[MAP](np.clip(difference / limit, 0, 1), bytes=True)[..., :3]


def overlay(image: np.ndarray, difference: np.ndarray, limit: float) -> np.ndarray:
    """A map over its image, uint8 `(H, W)`: the stronger, the less of the image is left; uint8 `(H, W, 3)`."""
    strength = OPACITY * np.clip(difference / limit, 0, 1)[..., None]
    return np.rint(image[..., None] * (1 - strength) + heat_map(difference, limit) * strength).astype(np.uint8)


def full_overlay(grey: np.ndarray, difference: np.ndarray, limit: float, geometry: Geometry) -> np.ndarray:
    """A map `(S, S)` over its radiograph, uint8 `(rows, columns)`, in the radiograph's own proportions.

    `geometry` maps the original to the model's image; the radiograph may be a reduced copy of it. Uint8 `(h, w, 3)`, at
    most FULL pixels a side.
    """
    rows, columns = grey.shape
    shrink = min(1.0, FULL / max(rows, columns))
    size = (max(1, round(columns * shrink)), max(1, round(rows * shrink)))
    step_x, step_y = geometry.columns / size[0] * geometry.scale_x, geometry.rows / size[1] * geometry.scale_y
    to_packed = (step_x, 0, geometry.offset_x, 0, step_y, geometry.offset_y)
    where = Image.fromarray(difference.astype(np.float32)).transform(
        size, Image.Transform.AFFINE, to_packed, Image.Resampling.BILINEAR
    )
    shown = Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR)
    return overlay(np.asarray(shown), np.asarray(where), limit)


def reading(grey: np.ndarray, difference: np.ndarray, limit: float, geometry: Geometry) -> np.ndarray:
    """A radiograph, uint8 `(rows, columns)`, beside the map over it: uint8 `(rows, 2 * columns + GAP, 3)`.

    Arguments as for `full_overlay`, at most FULL pixels a side.
    """
    plain = np.repeat(grey[..., None], 3, axis=-1)
    between = np.zeros((len(grey), GAP, 3), np.uint8)
    return np.hstack([plain, between, full_overlay(grey, difference, limit, geometry)])


def write_picture(pixels: np.ndarray, path: Path) -> None:
    """Write uint8 `(H, W, 3)` as PNG, or as WebP where the name ends so, and nothing beside the pixels."""
    options = {"format": "WEBP", "quality": 85, "method": 2} if path.suffix == ".webp" else {"format": "PNG"}
    with atomic(path) as temporary:
        Image.fromarray(pixels).save(temporary, **options)


def read_pictures(paths: Sequence[Path]) -> np.ndarray:
    """PNG pictures of one size as uint8 `(N, H, W, 3)`."""
    return np.stack([np.asarray(Image.open(path)) for path in paths])


def draw_sheet(table: pd.DataFrame, score: str, folder: Path, path: Path, scored: int) -> None:
    """Contact sheet of overlays in the order of the table: orange border abnormal, blue not called, none normal.

    Its heading states it where there are more images than it shows; `scored`: images of which the table has the first.
    """
    shown = table.head(SHOWN)
    names = telling_apart(shown["file"].tolist())
    titles = [f"{value:.3g} {name}" for value, name in zip(shown[score], names, strict=True)]
    borders = [BORDERS[call] for call in shown["call"]]
    pictures = read_pictures([folder / name for name in shown["overlay"]])
    contact_sheet(pictures, titles, path, borders=borders, heading=shown_of(scored))


def shown_of(scored: int) -> str:
    """The scored images whose picture is on the sheet, as a sentence; "" for all of them."""
    if scored <= SHOWN:
        return ""
    return f"The {SHOWN} highest scores of {scored}; the pictures of all are in the folders maps and overlays."


def telling_apart(names: Sequence[str]) -> list[str]:
    """Names without the folders, and the words before a space or one of _ - ., with which all of them begin.

    "…" stands in their place. A caption under a small picture then has room for what tells the names apart.
    """
    first, last = min(names), max(names)  # what these two begin with, all do
    common = first[: next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]
    start = max(common.rfind(mark) for mark in "/ _-.") + 1 if first != last else first.rfind("/") + 1
    return [f"…{name[start:]}" if start > 1 else name for name in names]
