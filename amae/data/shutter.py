"""The display shutter of a DICOM file: what a viewer hides at the border of a radiograph (PS3.3 C.7.6.11)."""

import numpy as np
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset

EDGES = ("Upper", "Lower", "Left", "Right")


def shown_by_shutter(dataset: Dataset, notes: list[str]) -> np.ndarray | None:
    """Bool (rows, columns), True inside the shutter; None without one, and with a note for one that is not usable.

    Of several shapes the part common to all is shown. Pixels count from 1.
    """
    found = dataset.get("ShutterShape") if "ShutterShape" in dataset else None
    shapes = [found] if isinstance(found, str) else list(found or [])
    if not any(shapes):
        return None
    shown = np.ones((dataset.Rows, dataset.Columns), bool)
    try:
        for shape in shapes:
            shown &= _inside(shape, dataset)
    except (AttributeError, KeyError, TypeError, ValueError):
        shown[:] = False
    if not shown.any():
        notes.append("the display shutter is not as in PS3.3 C.7.6.11; passed over")
        return None
    return shown


def _inside(shape: str, dataset: Dataset) -> np.ndarray:
    row, column = np.ogrid[1 : dataset.Rows + 1, 1 : dataset.Columns + 1]
    if shape == "RECTANGULAR":
        upper, lower = (int(dataset[f"Shutter{edge}HorizontalEdge"].value) for edge in EDGES[:2])
        left, right = (int(dataset[f"Shutter{edge}VerticalEdge"].value) for edge in EDGES[2:])
        return (row >= upper) & (row <= lower) & (column >= left) & (column <= right)
    if shape == "CIRCULAR":
        down, across = (int(each) for each in dataset.CenterOfCircularShutter)
        return (row - down) ** 2 + (column - across) ** 2 <= int(dataset.RadiusOfCircularShutter) ** 2
    if shape == "POLYGONAL":
        corners = [int(each) - 1 for each in dataset.VerticesOfThePolygonalShutter]
        picture = Image.new("1", (dataset.Columns, dataset.Rows))
        ImageDraw.Draw(picture).polygon(list(zip(corners[1::2], corners[::2], strict=True)), fill=1)
        return np.asarray(picture)
    raise ValueError(shape)
