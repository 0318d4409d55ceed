"""The manifest of a data set."""

import sys
from pathlib import Path

from amae.commands import parameters as p
from amae.data.manifest import build_manifest
from amae.runtime.errors import InputError
from amae.runtime.files import write_csv
from amae.settings import PublishedSet
from amae.sources.published import published_table


def index(
    *,
    image_table: p.ImageTable,
    manifest: p.Manifest,
    hidden_labels: p.HiddenLabels,
    root: p.Root = None,
    splits: p.Splits = None,
    source: PublishedSet | None = None,
    boxes: p.Boxes = None,
) -> None:
    """Make the manifest of a table of images or of a published data set, and draw the splits.

    The labels of T_u go to a table of their own, which no training reads. Table and boxes of a published data set are
    written, too.
    """
    if source:
        if boxes is None:
            raise InputError("--boxes: missing; the boxes of a published data set are written there")
        images, marked = published_table(source, splits)
        write_csv(images, image_table)
        root = Path()  # its paths are whole: build_manifest must not put the table's own folder before them
    build_manifest(image_table, root, manifest, hidden_labels, splits)
    if source:
        write_csv(marked, boxes)
        known = ", ".join(
            f"{name} {int((images[name] != '').sum())}" for name in ("view", "sex", "age") if name in images
        )
        on = f"{len(marked)} boxes on {marked['image_id'].nunique()} test images"
        print(f"{source.dataset}: {len(images)} images; known: {known or 'no metadata'}; {on}", file=sys.stderr)
