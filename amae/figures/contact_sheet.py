"""Contact sheets: many small images with captions on one PNG."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion

from amae.runtime.files import atomic

Colour = tuple[int, int, int]
GAP = 4  # pixels between tiles
CAPTION = 14  # pixels under a tile
BACKGROUND: Colour = (24, 24, 24)
TEXT: Colour = (225, 225, 225)
OUTLINE: Colour = (255, 176, 0)


def contact_sheet(
    images: np.ndarray,
    titles: Sequence[str],
    path: str | Path,
    columns: int = 10,
    borders: Sequence[Colour | None] | None = None,
    outlines: np.ndarray | None = None,
    heading: str = "",
) -> None:
    """Write uint8 images as a PNG of `columns` tiles a row, one pixel to one pixel, each with a caption.

    images: grey (N, H, W) or colour (N, H, W, 3).
    borders: a colour per tile, None for none. outlines: bool (N, H, W), drawn as a coloured contour. heading: a line
    above the tiles.
    Raises ValueError when the lengths or shapes differ.
    """
    count, height, width = images.shape[:3]
    for name, value in (("titles", titles), ("borders", borders)):
        if value is not None and len(value) != count:
            raise ValueError(f"{len(value)} {name} for {count} images")
    if outlines is not None and outlines.shape != images.shape[:3]:
        raise ValueError(f"outlines {outlines.shape} for images {images.shape}")
    columns = max(1, min(columns, count))
    rows = -(-count // columns)
    step_x, step_y = width + GAP, height + GAP + CAPTION
    above = GAP + CAPTION if heading else 0
    sheet = Image.new("RGB", (GAP + columns * step_x, above + GAP + max(rows, 1) * step_y), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(10)
    if heading:
        draw.text((GAP, GAP), fit(heading, sheet.width - 2 * GAP, font), fill=TEXT, font=font)
    for number in range(count):
        left, top = GAP + number % columns * step_x, above + GAP + number // columns * step_y
        sheet.paste(Image.fromarray(tile(images[number], None if outlines is None else outlines[number])), (left, top))
        if borders is not None and borders[number] is not None:
            draw.rectangle((left - 2, top - 2, left + width + 1, top + height + 1), outline=borders[number], width=2)
        draw.text((left, top + height + 2), fit(titles[number], width, font), fill=TEXT, font=font)
    with atomic(path) as temporary:
        sheet.save(temporary, format="PNG")


def tile(image: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Uint8 (H, W) or (H, W, 3) as colour (H, W, 3), with the inner edge of a bool mask (H, W) drawn on it."""
    picture = np.array(image) if np.ndim(image) == 3 else np.repeat(np.asarray(image)[..., None], 3, axis=-1)
    if mask is not None:
        picture[mask & ~binary_erosion(mask)] = OUTLINE
    return picture


def fit(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """Shorten a caption to `width` pixels, with an ellipsis in the middle (both ends of an id identify it)."""
    if font.getlength(text) <= width:
        return text
    for kept in range(len(text) - 1, 0, -1):
        short = text[: (kept + 1) // 2] + "…" + text[len(text) - kept // 2 :]
        if font.getlength(short) <= width:
            return short
    return ""
