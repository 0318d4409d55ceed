"""Boxes of findings: from pixels of the original radiograph to those of the packed image."""

import sys
from pathlib import Path

import pandas as pd

from amae.data.columns import find_columns
from amae.runtime.errors import InputError
from amae.runtime.files import read_csv, require_columns

Box = tuple[float, float, float, float]  # left, top, right, bottom in packed pixels, edges at integers
CORNERS = ["x_min", "y_min", "x_max", "y_max"]
SIZES = ["x", "y", "width", "height"]


def read_boxes(path: str | Path) -> pd.DataFrame:
    """Columns image_id, finding ("" where the table has none) and CORNERS, float, in pixels of the original.

    The table (CSV) has image_id and, with edges at integers, either x_min, y_min, x_max, y_max or x, y, width, height,
    of which x and y are the left upper corner; finding if known. Rows without coordinates are passed over. Raises
    InputError, naming the file, for a missing column, a coordinate that is no number, or a box without area.
    """
    table = find_columns(read_csv(path), ["image_id", "finding", *CORNERS, *SIZES], path)
    given = SIZES if "width" in table and "x_min" not in table else CORNERS
    require_columns(table, ["image_id", *given], path)
    table = table.apply(lambda column: column.str.strip())
    table = table[(table[given] != "").any(axis=1)]
    found = table[given].apply(pd.to_numeric, errors="coerce")
    if given == SIZES:
        found = found.assign(width=found["x"] + found["width"], height=found["y"] + found["height"])
    found.columns = CORNERS
    wrong = ~((found["x_max"] > found["x_min"]) & (found["y_max"] > found["y_min"]))
    if wrong.any():
        row = table[wrong].iloc[0]
        cells = ", ".join(f"{name} {row[name]!r}" for name in given)
        raise InputError(f"{path}: the box of image {row['image_id']!r} has {cells}; expected numbers and an area")
    return pd.concat([table[["image_id"]].assign(finding=table.get("finding", "")), found.astype(float)], axis=1)


def packed_boxes(boxes: pd.DataFrame, index: pd.DataFrame) -> tuple[dict[str, list[Box]], dict[str, list[str]]]:
    """Boxes by image_id in packed pixels, and what each of them shows.

    boxes: as `read_boxes` gives them; those of images that the index lacks are passed over, and counted on stderr.
    index: as `convert` writes it.
    """
    lost = boxes.loc[~boxes["image_id"].isin(index["image_id"]), "image_id"].unique()
    if len(lost):
        print(
            f"boxes: {len(lost)} of {boxes['image_id'].nunique()} images with boxes are not among the packed images, "
            f"the first is {lost[0]!r}; their {boxes['image_id'].isin(lost).sum()} boxes are left out",
            file=sys.stderr,
        )
    table = boxes.merge(index, on="image_id")
    outside = (table["x_max"] <= 0) | (table["y_max"] <= 0)
    outside |= (table["x_min"] >= table["columns"]) | (table["y_min"] >= table["rows"])
    if outside.any():
        first = table[outside].iloc[0]
        print(
            f"boxes: {outside.sum()} of {len(table)} lie outside their image, the first at x {first['x_min']:g}, "
            f"y {first['y_min']:g} of image {first['image_id']!r}, of {first['columns']} x {first['rows']} pixels; "
            "expected pixels of the original radiograph",
            file=sys.stderr,
        )
    corners = [
        table[f"{axis}_{end}"] * table[f"scale_{axis}"] + table[f"offset_{axis}"]
        for end in ("min", "max")
        for axis in "xy"
    ]
    places: dict[str, list[Box]] = {}
    findings: dict[str, list[str]] = {}
    for image_id, finding, *box in zip(table["image_id"], table["finding"], *corners, strict=True):
        places.setdefault(image_id, []).append(tuple(box))
        findings.setdefault(image_id, []).append(finding)
    return places, findings
