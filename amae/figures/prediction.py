"""Pictures and page of a scored folder: heat maps, overlays, a contact sheet, and one page that opens offline.

Every text that comes from a file name is escaped, and the page has no scripts and loads nothing.
"""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from PIL import Image

from amae.data.packed import Geometry
from amae.figures.contact_sheet import Colour, contact_sheet
from amae.figures.gallery import MAP
from amae.figures.style import SCORES
from amae.runtime.files import atomic

SHOWN = 200  # pictures on the contact sheet and on the page
FULL = 1024  # pixels of the longer side of a full overlay, where the radiograph has more
OPACITY = 0.75
BORDERS: dict[str, Colour | None] = {"abnormal": (255, 140, 0), "normal": None, "": (110, 110, 255)}
STYLE = """
body {font: 15px/1.45 sans-serif; margin: 2em auto; max-width: 76em; padding: 0 1em; color: #222}
table {border-collapse: collapse; width: 100%}
th, td {padding: .3em .6em; text-align: left; border-bottom: 1px solid #ddd; overflow-wrap: anywhere}
th, .number {white-space: nowrap; overflow-wrap: normal}
td.number {text-align: right; font-variant-numeric: tabular-nums}
img {display: block; width: 9em}
.warning {background: #fff3cd; padding: .6em 1em}
.abnormal {color: #b34700; font-weight: bold}
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def heat_map(difference: np.ndarray, limit: float) -> np.ndarray:
    """A map `(H, W)`, at least 0, in colours, uint8 `(H, W, 3)`: black 0, brightest from `limit` on."""
    return colormaps[MAP](np.clip(difference / limit, 0, 1), bytes=True)[..., :3]


def overlay(image: np.ndarray, difference: np.ndarray, limit: float) -> np.ndarray:
    """A map over its image, uint8 `(H, W)`: the stronger, the less of the image is left; uint8 `(H, W, 3)`."""
    strength = OPACITY * np.clip(difference / limit, 0, 1)[..., None]
    return np.rint(image[..., None] * (1 - strength) + heat_map(difference, limit) * strength).astype(np.uint8)


def full_overlay(grey: np.ndarray, difference: np.ndarray, limit: float, geometry: Geometry) -> np.ndarray:
    """A map `(S, S)` over its radiograph, uint8 `(rows, columns)`, in the radiograph's own proportions.

    `geometry` maps the radiograph to the model's image. Uint8 `(h, w, 3)`, at most FULL pixels a side.
    """
    rows, columns = grey.shape
    shrink = min(1.0, FULL / max(rows, columns))
    size = (max(1, round(columns * shrink)), max(1, round(rows * shrink)))
    step_x, step_y = columns / size[0] * geometry.scale_x, rows / size[1] * geometry.scale_y
    to_packed = (step_x, 0, geometry.offset_x, 0, step_y, geometry.offset_y)
    where = Image.fromarray(difference.astype(np.float32)).transform(
        size, Image.Transform.AFFINE, to_packed, Image.Resampling.BILINEAR
    )
    shown = Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR)
    return overlay(np.asarray(shown), np.asarray(where), limit)


def write_picture(pixels: np.ndarray, path: Path) -> None:
    """Write uint8 `(H, W, 3)` as PNG, and nothing beside the pixels."""
    with atomic(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")


def read_pictures(paths: Sequence[Path]) -> np.ndarray:
    """PNG pictures of one size as uint8 `(N, H, W, 3)`."""
    return np.stack([np.asarray(Image.open(path)) for path in paths])


def draw_sheet(table: pd.DataFrame, score: str, folder: Path, path: Path) -> None:
    """Contact sheet of overlays in the order of the table: orange border abnormal, blue not called, none normal.

    Its heading states it where there are more images than it shows.
    """
    shown = table.head(SHOWN)
    titles = [f"{value:.3g} {Path(name).name}" for value, name in zip(shown[score], shown["file"], strict=True)]
    borders = [BORDERS[call] for call in shown["call"]]
    pictures = read_pictures([folder / name for name in shown["overlay"]])
    contact_sheet(pictures, titles, path, borders=borders, heading=shown_of(len(table)))


def shown_of(scored: int) -> str:
    """The scored images whose picture is on the sheet and the page, as a sentence; "" for all of them."""
    if scored <= SHOWN:
        return ""
    return f"The {SHOWN} highest scores of {scored}; the pictures of all are in the folders maps and overlays."


def write_page(table: pd.DataFrame, score: str, notes: Sequence[str], warnings: Sequence[str], folder: Path) -> None:
    """Write `folder`/summary.html.

    table: the predictions, highest score first, files that could not be scored last; notes and warnings: sentences.
    """
    rows = [_row(row, score, folder if place < SHOWN else None) for place, row in enumerate(table.to_dict("records"))]
    heading = SCORES[score][0]
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        f"<title>AMAE: {escape(heading)}</title><style>{STYLE}</style></head><body>",
        f"<h1>Radiographs by {escape(heading)}</h1>",
        *(f"<p>{escape(note)}</p>" for note in notes),
        *(f'<p class="warning">{escape(warning)}</p>' for warning in warnings),
        "<table><tr><th>overlay</th><th>file</th><th>score</th><th>percentile</th><th>call</th><th>remark</th></tr>",
        *rows,
        "</table></body></html>",
    ]
    with atomic(folder / "summary.html") as temporary:
        temporary.write_text("\n".join(parts) + "\n", encoding="utf-8")


def _row(row: dict, score: str, folder: Path | None) -> str:
    """One image on the page, with its overlay from `folder`."""
    picture = ""
    if folder and row["overlay"]:
        data = base64.b64encode((folder / row["overlay"]).read_bytes()).decode()
        picture = f'<img alt="" src="data:image/png;base64,{data}">'
    value, percentile = (f"{row[name]:.4g}" if pd.notna(row[name]) else "" for name in (score, f"{score}_percentile"))
    remark = row["flag"] or (f"not scored: {row['reason']}" if row["reason"] else "")
    call = row["call"]
    return (
        f'<tr><td>{picture}</td><td>{escape(row["file"])}</td><td class="number">{value}</td>'
        f'<td class="number">{percentile}</td><td class="{call}">{call}</td><td>{escape(remark)}</td></tr>'
    )
