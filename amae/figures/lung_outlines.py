"""The outlines of lung masks on a contact sheet."""

from pathlib import Path

import numpy as np

from amae.data.packed import MASK_SIZE, evenly, load_lung_masks, open_images
from amae.figures.contact_sheet import contact_sheet
from amae.runtime.files import read_csv

SHEET_EVEN = 60
SHEET_FLAGGED = 60
FLAGGED = (220, 50, 47)  # border of flagged images on the sheet, RGB


def draw_outlines(
    lung_images_path: str | Path,
    index_path: str | Path,
    lungs_path: str | Path,
    table_path: str | Path,
    sheet_path: str | Path,
) -> None:
    """Draw lung outlines on a contact sheet: up to 60 images of 256 px at even spacing, and up to 60 flagged ones.

    The files are those that `segment_lungs` reads and writes; `sheet_path` is a PNG.
    """
    images, _ = open_images(lung_images_path, index_path)
    table = read_csv(table_path, ["image_id", "flag"])
    even = evenly(np.arange(len(table)), SHEET_EVEN)
    flagged = np.setdiff1d(np.flatnonzero(table["flag"] != ""), even)
    rows = np.concatenate([even, evenly(flagged, SHEET_FLAGGED)])
    titles = [f"{name} {flag}".strip() for name, flag in table.loc[rows, ["image_id", "flag"]].itertuples(index=False)]
    borders = [FLAGGED if flag else None for flag in table.loc[rows, "flag"]]
    masks = load_lung_masks(lungs_path, rows, MASK_SIZE)
    contact_sheet(images[rows], titles, sheet_path, columns=10, borders=borders, outlines=masks)
