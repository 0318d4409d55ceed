"""A model adapted to a site without training: thresholds, percentiles and drift from the site's own normal images."""

import dataclasses
import hashlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from amae.data.columns import find_columns
from amae.data.manifest import TABLE_LABELS
from amae.predict.domain import MEASURES
from amae.predict.files import list_files
from amae.predict.model import Model
from amae.predict.score import SCORES, score_files
from amae.runtime.errors import InputError
from amae.runtime.files import line_numbers, read_csv, require_columns, without_blank_rows
from amae.runtime.provenance import versions


def normal_files(given: Path, output: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Files of normal images by name, and the rows of a table that are left out by name, each with the reason.

    `given`: a folder, or a table (CSV) with a column path, from the table's folder, and optionally label (normal,
    abnormal, 0, 1 or empty): rows that are not labelled normal are left out; without the column all are normal, which a
    line reports. Rows of a split other than calibration are left out as well. With a column patient_id a warning counts
    further images of a patient. Raises InputError for anything else.
    """
    if given.is_dir():
        return list_files([given], output), {}
    if given.suffix.lower() != ".csv":
        raise InputError(f"{given}: found no folder and no table (.csv); expected one of normal images")
    table = find_columns(read_csv(given), ["path", "label", "split", "patient_id"], given)
    require_columns(table, ["path"], given)
    table = without_blank_rows(table.apply(lambda column: column.str.strip()), given)
    files: dict[str, Path] = {}
    left_out: dict[str, str] = {}
    if "label" not in table:
        print(f"{given}: no column label: all {len(table)} images are taken as normal", file=sys.stderr)
        table["label"] = "normal"
    splits = table["split"] if "split" in table else [""] * len(table)
    lines = line_numbers(given)
    for place, name, label, split in zip(table.index, table["path"], table["label"], splits, strict=True):
        if not name or name in files or name in left_out:
            found = f"path {name!r} once more" if name else "an empty path"
            raise InputError(f"{given}: row {lines[place]}: found {found}, expected one row for each image")
        if label.lower() not in TABLE_LABELS:
            raise InputError(
                f"{given}: row {lines[place]}: label is {label!r}; expected normal, abnormal, 0, 1 or empty"
            )
        if split not in ("", "calibration"):
            left_out[name] = f"of the split {split}"
        elif (known := TABLE_LABELS[label.lower()]) == "normal":
            files[name] = str(given.parent / name)
        else:
            left_out[name] = f"labelled {known}" if known else "without label"
    if "patient_id" in table:
        patients = table.loc[table["path"].isin(files) & (table["patient_id"] != ""), "patient_id"]
        if more := int(patients.duplicated().sum()):
            print(f"warning: {given}: {more} images are further ones of a patient; give one of each", file=sys.stderr)
    if not files:
        raise InputError(f"{given}: found no row that is labelled normal, of no split or of calibration; expected some")
    return files, left_out


def measure(model: Model, files: dict[str, str], workers: int = 1) -> Iterator[pd.DataFrame]:
    """Scores and measures of files, a batch at a time, as `score_files` has them; every score.

    A column `left_out` has the reason where an image cannot stand for a site's normal ones; "" for the others.
    """
    names, seen = list(files), {}
    for table, images, _ in score_files(model, list(files.values()), workers=workers, every=True):
        table["file"] = [names[place] for place in table.index]
        table["left_out"] = table["reason"].where(table["reason"] != "", table["flag"])
        scored = table.index[table["reason"] == ""]
        for place, image in zip(scored, images, strict=True):
            if table.loc[place, "left_out"]:
                continue
            first = seen.setdefault(hashlib.sha256(image.tobytes()).digest(), table.loc[place, "file"])
            if first != table.loc[place, "file"]:
                table.loc[place, "left_out"] = f"the same pixels as {first}"
        yield table.drop(columns=["geometry", "radiograph"], errors="ignore")


def recalibrated(model: Model, kept: pd.DataFrame, left_out: int, source: str) -> Model:
    """The model with a site's normal images in the place of its calibration images and of its drift reference.

    `kept`: rows of `measure`. `source`: SHA-256 of the file of `model`. Networks, flags and the statistics of the
    training images stay, and the calibration of the model's own run is kept as the group `original`.
    """
    about, had = model.about, model.about.get("recalibration")
    original = model.group("original") if had else model.group("calibration")
    arrays = {
        name: array
        for name, array in model.arrays.items()
        if name.split(".")[0] in ("features", "normal", "training", "scale")
    }
    arrays |= {f"original.{name}": array for name, array in original.items()}
    arrays |= {f"calibration.{name}": _sorted(kept[name]) for name in SCORES}
    arrays |= {f"site.{name}": _sorted(kept[name]) for name in MEASURES}
    before = had["calibration_before"] if had else about["images"]["calibration"]
    made = {
        "model": source,
        "images": len(kept),
        "left_out": left_out,
        "calibration_before": before,
        "versions": versions(),
    }
    images = about["images"] | {"calibration": len(kept)}
    return dataclasses.replace(model, about=about | {"images": images, "recalibration": made}, arrays=arrays)


def _sorted(values: Sequence[float]) -> np.ndarray:
    """Values in an order that says nothing of the files."""
    return np.sort(np.asarray(values, np.float64))
