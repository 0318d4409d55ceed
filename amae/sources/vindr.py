"""VinDr-CXR (Kaggle's 15,000 training images) in DDAD's repartition: no finding against any finding.

Forms: Kaggle's original DICOM files (train/<id>.dicom) or the Med-AD copies (images/<id>.png, 512 px).
"""

import sys
from pathlib import Path

import pandas as pd

from amae.runtime.errors import InputError
from amae.sources.layout import add_paths, find_images
from amae.sources.metadata import BOX_COLUMNS, join, no_boxes, read_table
from amae.sources.repartition import Published, compose, read_repartition
from amae.sources.rsna import INCOMPLETE

PUBLISHED = Published(4000, 5606, 3394, 4000, 1000, 1000)
FORMS = {".dicom": ["train"], ".png": ["images"]}
REPARTITIONS = ("vin_data.json", "data.json", "VinCXR/data.json", "*/VinCXR/data.json")
MARKS = ["image_id", "class_name", "rad_id"]


def index(
    folder: Path,
    repartition: Path,
    anomaly_ratio: float | None,
    tables: list[Path],
    published: Published = PUBLISHED,
    *,
    patient_disjoint: bool = False,
    every_ratio: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Table of images for `build_manifest`, with every label, and boxes of the test images in pixels of their files.

    finding has the names that any of the three radiologists gave, readers the radiologists, both joined by "|". The
    boxes are of the original matrix, whose size only DICOM files state: there are none for the PNG copies. View, sex
    and age are not published. Raises InputError when files or counts are wrong, and where patients are to be kept apart
    (`patient_disjoint`), who are not published either.
    """
    if patient_disjoint:
        raise InputError("vindr: patient_disjoint is true, but VinDr-CXR does not list its patients; expected false")
    lists = read_repartition(repartition, published, pool=anomaly_ratio is not None)
    table = compose(lists, published, anomaly_ratio, repartition, every_ratio)
    suffix, files = find_images("vindr", folder, FORMS)
    # Medical-MAE's pre-training sets are CheXpert and NIH
    table = add_paths(table, files, folder, INCOMPLETE).assign(in_pretraining="no")
    marks = read_table("vindr", tables, MARKS, BOX_COLUMNS[2:])
    if marks is None:
        return join(table, None, "image_id", {"finding": "class_name", "readers": "rad_id"}), no_boxes()
    of_image = marks.groupby("image_id")[["class_name", "rad_id"]].agg(lambda names: "|".join(sorted(set(names))))
    table = join(table, of_image.reset_index(), "image_id", {"finding": "class_name", "readers": "rad_id"})
    if suffix == ".png":
        print("vindr: PNG copies do not state the size of the originals that boxes refer to: no boxes", file=sys.stderr)
        return table, no_boxes()
    test = table.loc[table["split"] == "test", "image_id"]
    boxes = marks[(marks["x_min"] != "") & marks["image_id"].isin(test)].rename(columns={"class_name": "finding"})
    return table, boxes[BOX_COLUMNS].astype(dict.fromkeys(BOX_COLUMNS[2:], float)).reset_index(drop=True)
