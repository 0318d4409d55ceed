"""Maps against boxes."""

import pandas as pd

from amae.commands import parameters as p
from amae.evaluation.localisation import MAPS, localisation_metrics
from amae.evaluation.reconstructions import Reconstructions, boxes_of
from amae.runtime.files import read_csv, rows_of, write_csv


def localise(
    *,
    manifest: p.Manifest,
    images: p.Images,
    index: p.Index,
    maps: p.Maps,
    table: p.Table,
    boxes: p.Boxes = None,
    seed: p.Seed = 0,
) -> None:
    """Measure the anomaly maps against boxes."""
    made = Reconstructions.read(images, index, maps)
    marked, findings = boxes_of(boxes, made.index)
    labels = rows_of(read_csv(manifest, ["image_id", "label"]), made.ids, manifest)["label"]
    tables = []
    for name in MAPS:
        measured = localisation_metrics(made.map(name), made.ids, labels, marked, findings)
        measured.insert(0, "seed", seed)
        measured.insert(1, "map", name)
        tables.append(measured)
    write_csv(pd.concat(tables, ignore_index=True), table)
