"""Radiographs as packed images."""

import sys
from typing import Annotated

import numpy as np

from amae.commands import parameters as p
from amae.data.pack import convert as pack
from amae.data.packed import evenly, open_images
from amae.figures.contact_sheet import contact_sheet

SHEET_IMAGES = 60


def convert(
    *,
    manifest: p.Manifest,
    images: p.Images,
    lung_images: p.LungImages,
    index: p.Index,
    rejected: p.file("table to write of the images that could not be read (.csv)"),
    sheet: p.Sheet,
    image_size: Annotated[int, p.whole(1, "side of the square images, in pixels")] = 224,
    conversion: p.Conversion = "minmax",
    square: p.Square = "squash",
    allowed_failures: Annotated[int, p.whole(0, "images that may be unreadable")] = 0,
    workers: p.Workers = 1,
    shard: p.Shard = None,
) -> None:
    """Pack DICOM, PNG, JPEG, TIFF or BMP files as square 8-bit grey images."""
    pack(
        manifest,
        images,
        lung_images,
        index,
        rejected,
        size=image_size,
        conversion=conversion,
        square=square,
        workers=workers,
        allowed_failures=allowed_failures,
        shard=shard,
    )
    if shard:
        return
    packed, table = open_images(images, index)
    rows = evenly(np.arange(len(packed)), SHEET_IMAGES)
    contact_sheet(packed[rows], table["image_id"].iloc[rows].tolist(), sheet)
    print(f"{len(packed)} images of {image_size} px", file=sys.stderr)
