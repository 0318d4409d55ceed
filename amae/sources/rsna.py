"""RSNA Pneumonia Detection Challenge: class Normal against Lung Opacity, in DDAD's repartition.

Forms: Kaggle's original DICOM files (stage_2_train_images/<id>.dcm, 1024 px) or the Med-AD copies (images/<id>.png, 512
px). The class "No Lung Opacity / Not Normal" is in no list.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from amae.runtime.errors import InputError
from amae.sources.layout import add_paths, find_images
from amae.sources.metadata import (
    TABLES,
    boxes_in_files,
    corner_boxes,
    in_pretraining,
    join,
    no_boxes,
    plausible_age,
    read_table,
    rsna_to_nih,
)
from amae.sources.repartition import Published, compose, read_repartition, without_test_patients

PUBLISHED = Published(3851, 4000, 5012, 4000, 1000, 1000)
FORMS = {".dcm": ["stage_2_train_images"], ".png": ["images"]}
REPARTITIONS = ("rsna_data.json", "data.json", "RSNA/data.json", "*/RSNA/data.json")
SIDE = 1024  # pixels of every original
BOX_CELLS = ["x", "y", "width", "height"]
INCOMPLETE = (
    "An archive made for one-class training may have T_n and the test images only: take the original DICOM files, or "
    "set anomaly_ratio to null"
)


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

    `tables`: folders of metadata tables. patient_id and nih_image need RSNA's mapping to NIH, without which they are
    empty: PatientID of the DICOM files is another name of the image. With `patient_disjoint`, T_n and the pool of T_u
    lose the images of test patients before T_u is composed. Raises InputError when files or counts are wrong.
    """
    lists = read_repartition(repartition, published, pool=anomaly_ratio is not None)
    mapping = rsna_to_nih(tables)
    if patient_disjoint:
        lists = without_test_patients(lists, _patients(mapping), repartition)
    table = compose(lists, published, anomaly_ratio, repartition, every_ratio)
    _, files = find_images("rsna", folder, FORMS)
    table = add_paths(table, files, folder, INCOMPLETE)
    headers = read_table("rsna_headers", tables, ["PatientID", "ViewPosition", "PatientSex", "PatientAge"])
    table = join(table, headers, "PatientID", {"view": "ViewPosition", "sex": "PatientSex", "age": "PatientAge"})
    nih = pd.Series([mapping.get(image, "") for image in table["image_id"]], index=table.index, dtype=str)
    table = table.assign(
        age=plausible_age(table["age"]),
        patient_id=nih.str.split("_").str[0],
        nih_image=nih,
        in_pretraining=in_pretraining(nih, tables),
    )
    marks = read_table("rsna_boxes", tables, ["patientId"], BOX_CELLS)
    if marks is None:
        return table, no_boxes()
    marks = marks.rename(columns={"patientId": "image_id"}).assign(finding="Lung Opacity")
    return table, boxes_in_files(corner_boxes(marks, BOX_CELLS), table, SIDE)


def _patients(mapping: Mapping[str, str]) -> dict[str, str]:
    """Patient of each image; NIH's names begin with it. Raises InputError where the mapping is not there."""
    if not mapping:
        raise InputError(
            f"rsna: patient_disjoint needs {TABLES['rsna_nih'][0]}, which lists the patients; fetch it with `amae "
            "fetch-source --name metadata --folder FOLDER`, and name that folder as metadata"
        )
    return {image: name.split("_")[0] for image, name in mapping.items()}
