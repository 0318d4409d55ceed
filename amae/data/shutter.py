"""The display shutter of a DICOM file: what a viewer hides at the border of a radiograph (PS3.3 C.7.6.11)."""

import numpy as np
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset


def shown_by_shutter(dataset: Dataset, notes: list[str]) -> np.ndarray | None:
    """Bool (rows, columns), True inside the shutter; None where nothing is hidden.

    Of several shapes the part common to all is shown. Pixels count from 1. A shutter that is not usable, or shows
    nothing, is passed over with a note.
    """
    if "ShutterShape" not in dataset:
        return None
    shown = np.ones((dataset.Rows, dataset.Columns), bool)
    try:
        shapes = dataset.ShutterShape or []
        for shape in [shapes] if isinstance(shapes, str) else shapes:
            shown &= _inside(shape, dataset)
    except Exception:  # pydicom parses an attribute when it is first asked for, and raises many kinds
        shown[:] = False
    if not shown.any():
        notes.append("the display shutter is not as in PS3.3 C.7.6.11; passed over")
    return shown if shown.any() and not shown.all() else None


def _inside(shape: str, dataset: Dataset) -> np.ndarray:
    row, column = np.ogrid[1 : dataset.Rows + 1, 1 : dataset.Columns + 1]
    if shape == "RECTANGULAR":
        upper, lower = dataset.ShutterUpperHorizontalEdge, dataset.ShutterLowerHorizontalEdge
        left, right = dataset.ShutterLeftVerticalEdge, dataset.ShutterRightVerticalEdge
        return (row >= int(upper)) & (row <= int(lower)) & (column >= int(left)) & (column <= int(right))
    if shape == "CIRCULAR":
        down, across = (int(each) for each in dataset.CenterOfCircularShutter)
        return np.hypot(row - down, column - across) <= int(dataset.RadiusOfCircularShutter)
    if shape == "POLYGONAL" and len(dataset.VerticesOfThePolygonalShutter) >= 6:
        corners = [int(each) - 1 for each in dataset.VerticesOfThePolygonalShutter]
        picture = Image.new("1", (dataset.Columns, dataset.Rows))
        ImageDraw.Draw(picture).polygon(list(zip(corners[1::2], corners[::2], strict=True)), fill=1)
        return np.asarray(picture)
    raise ValueError(shape)
