"""NIH ChestX-ray14, the subset of NSA: adult PA radiographs by sex, of both sexes or of one; no T_u.

Forms: images_001/images/*.png ... images_012 (Kaggle), or images/*.png (NIH's archives unpacked), 1024 px.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from itertools import chain
from pathlib import Path

import pandas as pd

from amae.runtime.errors import InputError
from amae.sources.layout import add_paths, find_images, read_lines
from amae.sources.metadata import (
    boxes_in_files,
    corner_boxes,
    in_pretraining,
    join,
    no_boxes,
    plausible_age,
    read_table,
)
from amae.sources.repartition import check_distinct, without_test_patients

FORMS = {".png": ["images_*/images", "images_*", "images"]}
SIDE = 1024  # pixels of every image
SEXES = {"Male": "M", "Female": "F"}
ALL = tuple(SEXES.values())
LISTS = {
    "train_normal": "norm_{sex}AdultPA_train_curated_list.txt",
    "test_normal": "norm_{sex}AdultPA_test_curated_list.txt",
    "test_abnormal": "anomaly_{sex}AdultPA_test_curated_list.txt",
}
BOX_CELLS = ["Bbox [x", "y", "w", "h]"]  # one heading in brackets, cut at its commas


@dataclass(frozen=True)
class PublishedNih:
    """Images of each list as published, men and women."""

    train_normal: tuple[int, int]
    test_normal: tuple[int, int]
    test_abnormal: tuple[int, int]


PUBLISHED = PublishedNih((1973, 1641), (299, 244), (139, 123))


def index(
    folder: Path,
    repartition: Path,
    anomaly_ratio: float | None,
    tables: list[Path],
    published: PublishedNih = PUBLISHED,
    *,
    sexes: Sequence[str] = ALL,
    patient_disjoint: bool = False,
    every_ratio: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Table of images for `build_manifest`, and boxes of the few test images that have one, in pixels of their files.

    `repartition` is the folder of NSA's six lists, of which those of `sexes` (M, F) are read. View (PA) and sex are
    known from the lists; age, finding and boxes come from NIH's tables. With `patient_disjoint`, T_n loses the images
    of test patients; the published lists share none. There is no T_u, so `every_ratio` changes nothing. Raises
    InputError when files or counts are wrong, and for an anomaly ratio.
    """
    if anomaly_ratio is not None:
        raise InputError(f"nih has no unlabeled set: anomaly_ratio is {anomaly_ratio:g}, expected none")
    table = read_lists(repartition, published, sexes)
    if patient_disjoint:
        lists = table.groupby("split")["image_id"].agg(list).to_dict()
        kept = without_test_patients(lists, dict(zip(table["image_id"], table["patient_id"], strict=True)), repartition)
        table = table[table["image_id"].isin(chain(*kept.values()))].reset_index(drop=True)
    _, files = find_images("nih", folder, FORMS)
    table = add_paths(table, files, folder, "Unpack all twelve archives")
    name = table["image_id"] + ".png"
    entries = read_table("nih", tables, ["Image Index", "Patient Age", "Finding Labels"])
    known = join(
        table.assign(image_id=name), entries, "Image Index", {"age": "Patient Age", "finding": "Finding Labels"}
    )
    table = table.assign(
        age=plausible_age(known["age"]), finding=known["finding"], in_pretraining=in_pretraining(name, tables)
    )
    marks = read_table("nih_boxes", tables, ["Image Index", "Finding Label"], BOX_CELLS)
    if marks is None:
        return table, no_boxes()
    marks = marks.assign(image_id=marks["Image Index"].str.removesuffix(".png"), finding=marks["Finding Label"])
    return table, boxes_in_files(corner_boxes(marks, BOX_CELLS), table, SIDE)


def read_lists(folder: Path, published: PublishedNih = PUBLISHED, sexes: Sequence[str] = ALL) -> pd.DataFrame:
    """Columns image_id, split, label, patient_id, view, sex of NSA's lists of these sexes, men first in each set.

    Raises InputError: a list is missing, has another count than published, or shares an image with another.
    """
    lists, rows = {}, []
    for (name, pattern), counts in zip(LISTS.items(), astuple(published), strict=True):
        for (sex, letter), expected in zip(SEXES.items(), counts, strict=True):
            if letter not in sexes:
                continue
            path = _find_list(Path(folder), pattern.format(sex=sex))
            images = [Path(word).stem for line in read_lines(path) for word in line.split()]
            if len(images) != expected:
                raise InputError(f"{path}: {len(images)} images, published are {expected}; use NSA's list")
            lists[path.name] = images
            split, label = name.rsplit("_", 1)
            split = "train_normal" if split == "train" else split
            rows += [(image, split, label, image.split("_")[0], "PA", letter) for image in images]
    check_distinct(lists, folder)
    return pd.DataFrame(rows, columns=["image_id", "split", "label", "patient_id", "view", "sex"])


def find_lists(folder: Path, sexes: Sequence[str] = ALL) -> list[Path]:
    """The files of NSA's lists of these sexes. Raises InputError where one is missing."""
    names = [pattern.format(sex=sex) for pattern in LISTS.values() for sex, letter in SEXES.items() if letter in sexes]
    return [_find_list(folder, name) for name in names]


def _find_list(folder: Path, name: str) -> Path:
    """A list under NSA's name, or with nsa_ before it, as where lists of several projects lie together."""
    for path in (folder / name, folder / f"nsa_{name}"):
        if path.is_file():
            return path
    raise InputError(
        f"{folder / name}: no such file; `amae fetch-source --name nih --folder {folder}` fetches NSA's six lists"
    )
