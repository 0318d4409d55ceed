"""Radiographs of children, normal or pneumonia (Kermany et al. 2018, CC BY 4.0); splits are drawn, not the published.

Forms: {train,test,val}/{NORMAL,PNEUMONIA}/*.jpeg, as in the published zip (chest_xray/...), or a table labels.csv
(path, label) of such files. An easy set with a shortcut: normal images are larger and less wide than the others.
"""

import re
from pathlib import Path

import pandas as pd

from amae.runtime.errors import InputError
from amae.runtime.files import read_csv
from amae.sources.catalogue import missing

SUFFIX = ".jpeg"
LABELS = {"NORMAL": "normal", "PNEUMONIA": "abnormal"}
# normal and pneumonia images: all, or without the 16 that Kaggle sets apart as val
PUBLISHED = ((1583, 4273), (1575, 4265))
# person23_bacteria_100, IM-0115-0001, NORMAL2-IM-0381-0001
PATIENT = re.compile(r"(person\d+)_(?:bacteria|virus)_|((?:NORMAL2-)?IM-\d+)-")
FINDING = re.compile(r"_(bacteria|virus)_")


def index(folder: Path, published: tuple[tuple[int, int], ...] = PUBLISHED) -> pd.DataFrame:
    """Table of images for `build_manifest` without splits: image_id, path, label, patient_id, finding.

    The patient is the first number of the file name. The published training and test folders both count from person1;
    a number in both is taken as one patient, so that splits are patient-disjoint either way. Raises InputError when
    files or counts are wrong, or a name contains no patient.
    """
    table = _listed(folder) if (folder / "labels.csv").is_file() else _scanned(folder)
    found = tuple(int((table["label"] == label).sum()) for label in LABELS.values())
    if found not in published:
        expected = " or ".join(f"{normal} normal and {abnormal} pneumonia" for normal, abnormal in published)
        raise InputError(f"{folder}: {found[0]} normal and {found[1]} pneumonia images, published are {expected}")
    stem = table["path"].map(lambda path: Path(path).stem)
    matches = stem.map(PATIENT.match)
    if matches.isna().any():
        raise InputError(f"{table.loc[matches.isna(), 'path'].iloc[0]}: the file name contains no patient")
    finding = stem.map(lambda name: kind[1] + " pneumonia" if (kind := FINDING.search(name)) else "normal")
    return table.assign(image_id=stem, patient_id=matches.map(lambda match: match[1] or match[2]), finding=finding)


def _listed(folder: Path) -> pd.DataFrame:
    """Path and label from labels.csv."""
    table = read_csv(folder / "labels.csv")
    for column in ("path", "label"):
        if column not in table:
            raise InputError(f"{folder / 'labels.csv'}: missing column {column}")
    return pd.DataFrame({"path": [(folder / path).as_posix() for path in table["path"]], "label": table["label"]})


def _scanned(folder: Path) -> pd.DataFrame:
    """Path and label from the published folders; Kaggle's zip contains them twice, of which the outer ones count."""
    for depth in range(4):
        places = sorted(folder.glob("*/" * depth + "train/NORMAL"))
        if places:
            root = places[0].parents[1]
            files = [
                (path.as_posix(), label)
                for name, label in LABELS.items()
                for path in sorted(root.glob(f"*/{name}/*{SUFFIX}"))
                if not path.name.startswith(".") and path.parents[1].name in ("train", "test", "val")
            ]
            return pd.DataFrame(files, columns=["path", "label"])
    raise missing("paediatric", folder, "train/NORMAL and labels.csv")
