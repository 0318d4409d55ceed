"""View, sex, age, patient, findings and boxes of public data sets, from tables that others publish.

The tables are those inside the package torchxrayvision (its data folder is read; the package is not imported), or the
originals under their own names, in the source's folder or another one.
"""

import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from PIL import Image

from amae.runtime.errors import InputError
from amae.sources.layout import find_file, read_lines

BOX_COLUMNS = ["image_id", "finding", "x_min", "y_min", "x_max", "y_max"]
OLDEST = 120  # years; RSNA's headers go up to 155
TABLES = {
    "rsna_headers": ("kaggle_stage_2_train_images_dicom_headers.csv.gz",),
    "rsna_boxes": ("kaggle_stage_2_train_labels.csv.zip", "stage_2_train_labels.csv"),
    "rsna_nih": ("pneumonia-challenge-dataset-mappings_2018.json",),
    "vindr": ("vinbigdata-train.csv.gz", "train.csv"),
    "nih": ("Data_Entry_2017_v2020.csv.gz", "Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv"),
    "nih_boxes": ("BBox_List_2017.csv.gz", "BBox_List_2017.csv"),
    "pretraining": ("train_official.txt",),
}


def table_folders(*folders: str | Path | None) -> list[Path]:
    """Folders in which tables are looked for: the given folders first, then the installed torchxrayvision."""
    spec = importlib.util.find_spec("torchxrayvision")
    package = [Path(place) / "data" for place in (spec.submodule_search_locations or [])] if spec else []
    return [Path(folder) for folder in folders if folder] + package


def read_table(name: str, folders: list[Path], columns: list[str], numbers: Sequence[str] = ()) -> pd.DataFrame | None:
    """One of TABLES as text, or None with one line on how to get it. Raises InputError for another content.

    It has `columns` and `numbers`; a row may leave all of `numbers` empty.
    """
    path = find_file(folders, TABLES[name])
    if path is None:
        _report_missing(name, "its columns stay empty. `uv pip install --no-deps torchxrayvision` provides it, or")
        return None
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path}: not a readable table ({error})") from None
    lost = [column for column in (*columns, *numbers) if column not in table]
    if lost:
        raise InputError(f"{path}: no column {lost[0]} (found: {', '.join(table.columns)})")
    given = table.loc[(table[[*numbers]] != "").any(axis=1), [*numbers]]
    wrong = given[given.apply(pd.to_numeric, errors="coerce").isna().any(axis=1)]
    if len(wrong):
        raise InputError(f"{path}: row {wrong.index[0] + 2}: found {', '.join(wrong.iloc[0])}; expected numbers")
    return table


def _report_missing(name: str, consequence: str) -> None:
    print(f"metadata: no {' or '.join(TABLES[name])}; {consequence} a folder with it (key metadata)", file=sys.stderr)


def join(table: pd.DataFrame, facts: pd.DataFrame | None, key: str, names: Mapping[str, str]) -> pd.DataFrame:
    """Columns of `facts` under new names, joined by image_id == facts[key]; "" where unknown.

    The row order stays. Where an image occurs in several rows of `facts` the first counts. Warns where none occurs.
    """
    known: dict[str, dict[str, str]] = {old: {} for old in names.values()}
    if facts is not None:
        facts = facts.drop_duplicates(key)
        if not facts[key].isin(table["image_id"]).any():
            found = f"its first is {facts[key].iloc[0]!r}" if len(facts) else "it has no rows"
            print(
                f"warning: metadata: no {key} of the table is an image of the data set ({found}, expected such as "
                f"{table['image_id'].iloc[0]!r}); {', '.join(names)} stay empty",
                file=sys.stderr,
            )
        known = {old: dict(zip(facts[key], facts[old], strict=True)) for old in names.values()}
    columns = {new: [known[old].get(image, "") for image in table["image_id"]] for new, old in names.items()}
    return table.assign(**columns)


def plausible_age(age: pd.Series) -> pd.Series:
    """Ages (46, or 046Y) in whole years as text; "" where unknown or beyond OLDEST."""
    years = pd.to_numeric(age.str.removesuffix("Y"), errors="coerce")
    return pd.Series(
        [str(int(value)) if 0 <= value <= OLDEST else "" for value in years], index=age.index, dtype=object
    )


def rsna_to_nih(folders: list[Path]) -> dict[str, str]:
    """NIH image name of each RSNA image, from the mapping that RSNA publishes; empty without the file."""
    path = find_file(folders, TABLES["rsna_nih"])
    if path is None:
        _report_missing("rsna_nih", "patient_id, nih_image and in_pretraining stay empty without")
        return {}
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
        return {row["subset_img_id"]: row["img_id"] for row in rows}
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: expected a list of objects with subset_img_id and img_id ({error})") from None


def in_pretraining(nih_images: pd.Series, folders: list[Path]) -> pd.Series:
    """yes or no by Medical-MAE's list of pre-training images (first word of each line); "" where unknown."""
    path = find_file(folders, TABLES["pretraining"])
    if path is None:
        _report_missing("pretraining", "in_pretraining stays empty without")
        return pd.Series("", index=nih_images.index)
    listed = {line.split()[0] for line in read_lines(path)}
    told = ["" if not name else "yes" if name in listed else "no" for name in nih_images]
    return pd.Series(told, index=nih_images.index)


def corner_boxes(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Boxes from rows with image_id, finding and left, top, width, height in `columns`; rows without are left out."""
    table = table[table[columns[0]] != ""]
    x, y, width, height = (pd.to_numeric(table[column]) for column in columns)
    if empty := int(((width <= 0) | (height <= 0)).sum()):
        print(f"warning: metadata: {empty} boxes without an area are left out", file=sys.stderr)
    boxes = table[["image_id", "finding"]].assign(x_min=x, y_min=y, x_max=x + width, y_max=y + height)
    return boxes[(width > 0) & (height > 0)].reset_index(drop=True)


def boxes_in_files(boxes: pd.DataFrame, table: pd.DataFrame, side: int) -> pd.DataFrame:
    """Boxes of the test images, in pixels of their files (edges at integers).

    Boxes of T_u stay out: they would show its labels. PNG files may be smaller copies of the `side` x `side` originals
    that the boxes are drawn on; DICOM files are the originals.
    """
    paths = table.loc[table["split"] == "test"].set_index("image_id")["path"]
    boxes = boxes[boxes["image_id"].isin(paths.index)].reset_index(drop=True)
    sizes = {image: _size(paths[image], side) for image in boxes["image_id"].unique()}
    for column, axis in (("x_min", 0), ("y_min", 1), ("x_max", 0), ("y_max", 1)):
        boxes[column] *= boxes["image_id"].map({image: size[axis] / side for image, size in sizes.items()})
    return boxes[BOX_COLUMNS]


def no_boxes() -> pd.DataFrame:
    """A table of boxes without rows."""
    return pd.DataFrame(columns=BOX_COLUMNS)


def _size(path: str, side: int) -> tuple[int, int]:
    """Width and height of a PNG, from its header; those of the original for DICOM."""
    if not path.lower().endswith(".png"):
        return side, side
    try:
        with Image.open(path) as picture:
            return picture.size
    except OSError as error:
        raise InputError(f"{path}: not a readable PNG ({error})") from None
