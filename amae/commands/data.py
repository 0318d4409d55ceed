"""Commands that make the data set: radiographs, manifest, packed images, lung masks."""

import json
import sys
from argparse import Namespace
from typing import TYPE_CHECKING

import numpy as np

from amae.runtime.errors import InputError

if TYPE_CHECKING:
    from amae.settings import SplitSettings

SHEET_IMAGES = 60


def simulate(options: Namespace) -> None:
    """Write simulated radiographs as DICOM files, with labels.csv and boxes.csv."""
    from amae.sources.simulated import simulate_dataset

    simulate_dataset(
        options.folder, options.count, options.seed, options.abnormal, options.calibration, options.workers
    )


def list_images(options: Namespace) -> None:
    """List every image that a data set uses at any anomaly ratio."""
    from amae.data.manifest import list_candidates

    list_candidates(options.table, options.root, options.candidates, _splits(options))


def index(options: Namespace) -> None:
    """Make the manifest and the table of hidden labels from a table of images."""
    from amae.data.manifest import build_manifest

    build_manifest(options.table, options.root, options.manifest, options.hidden_labels, _splits(options))


def _splits(options: Namespace) -> "SplitSettings | None":
    """The splits to draw, if any."""
    from amae.settings import SplitSettings

    if not options.splits:
        return None
    try:
        return SplitSettings(**json.loads(options.splits))
    except (TypeError, ValueError) as error:
        raise InputError(f"--splits: {error}; expected JSON with the keys of datasets.NAME.splits") from None


def convert(options: Namespace) -> None:
    """Pack the images of a manifest, and show some of them on a contact sheet."""
    from amae.data.pack import convert as pack
    from amae.data.packed import open_images
    from amae.figures.contact_sheet import contact_sheet

    pack(
        options.manifest,
        options.images,
        options.lung_images,
        options.index,
        options.rejected,
        size=options.image_size,
        conversion=options.conversion,
        square=options.square,
        workers=options.workers,
        allowed_failures=options.allowed_failures,
    )
    images, table = open_images(options.images, options.index)
    rows = np.unique(np.linspace(0, len(images) - 1, SHEET_IMAGES).round().astype(int))
    contact_sheet(images[rows], table["image_id"].iloc[rows].tolist(), options.sheet)
    print(f"{len(images)} images of {options.image_size} px", file=sys.stderr)


def segment_lungs(options: Namespace) -> None:
    """Find the lungs of every packed image."""
    from amae.data.lungs import segment_lungs as segment
    from amae.figures.lung_outlines import draw_outlines

    segment(options.lung_images, options.index, options.lungs, options.table, options.workers)
    draw_outlines(options.lung_images, options.index, options.lungs, options.table, options.sheet)
