"""Localisation: images with the radiologists' boxes, and where the anomaly maps point."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import CenteredNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from amae.data.boxes import Box
from amae.figures.gallery import BACKGROUND, BOX, GAP, MAP, TOP, draw_boxes, image_panel, write_title
from amae.figures.style import PAGE, page

DARK = "#103040"
SIGNED = "RdBu_r"  # for maps with negative values: white is 0
HEADINGS = {
    "inter": "$|\\mu_A-\\mu_B|$",
    "error_a": "squared error of A",
    "error_ratio": "$\\log(e_A/e_B)$, pixel",
    "error_ratio_patch": "$\\log(e_A/e_B)$, patch",
}
MARGIN, BOTTOM = 1.0, 0.62  # inches: titles, colour bars


def plot_localisation(
    images: Sequence[np.ndarray],
    maps: Mapping[str, np.ndarray],
    boxes: Sequence[Sequence[Box]],
    titles: Sequence[str],
    path: str | Path,
    findings: Sequence[Sequence[str]] = (),
) -> None:
    """One row per image: the image with its boxes, then each map with the boxes and a cross at its maximum.

    images: uint8 (S, S) each; maps: name -> float (N, H, W), nan where nothing was predicted; boxes: in packed pixels;
    titles: text beside each row; findings: what each box shows, by row. A map has one colour scale over all rows,
    from 0 to its 99.8th percentile, or centred on 0 where it has negative values.
    """
    columns = 1 + len(maps)
    side = min((PAGE - MARGIN - GAP) / columns - GAP, 1.6)
    width, height = MARGIN + columns * (side + GAP) + GAP, TOP + len(images) * (side + GAP) + BOTTOM
    scales = {name: _scale(values) for name, values in maps.items()}
    with page(path, width, height, layout=None) as figure:
        for row, image in enumerate(images):
            extent = (0, image.shape[1], image.shape[0], 0)
            panels = [image_panel(figure, row, column, side, MARGIN, extent) for column in range(columns)]
            panels[0].imshow(image, cmap="gray", vmin=0, vmax=255, extent=extent)
            write_title(panels[0], titles[row], findings[row] if findings else ())
            for panel, (name, values) in zip(panels[1:], maps.items(), strict=True):
                colours = colormaps[scales[name][1]].with_extremes(bad=BACKGROUND)
                panel.imshow(values[row], cmap=colours, norm=scales[name][0], extent=extent, interpolation="nearest")
                _mark_maximum(panel, values[row], extent)
            for panel, name in zip(panels, ("", *maps), strict=True):
                for left, top, right, bottom in boxes[row]:  # a dark edge, to be seen on any map
                    under = Rectangle(
                        (left, top), right - left, bottom - top, fill=False, edgecolor=DARK, linewidth=1.8
                    )
                    panel.add_patch(under)
                draw_boxes(panel, boxes[row])
                panel.set_title("image" if not name else HEADINGS.get(name, name), pad=3) if row == 0 else None
        for column, name in enumerate(maps, start=1):
            _colour_bar(figure, column, side, *scales[name])
        _legend(figure)


def _scale(values: np.ndarray) -> tuple[Normalize, str]:
    """Colour scale of a map over all images, and its colours."""
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [1, 99.8]) if finite.size else (0, 1)
    if low < 0:
        return CenteredNorm(0, max(-low, high)), SIGNED
    return Normalize(0, max(high, 1e-6)), MAP


def _mark_maximum(axes: Axes, values: np.ndarray, extent: tuple[float, ...]) -> None:
    """A cross at the highest pixel, or in the middle of the highest patch."""
    scored = np.nan_to_num(values)
    rows, columns = np.nonzero(scored == scored.max())
    near = (abs(rows - rows[0]) < len(values) // 4) & (abs(columns - columns[0]) < len(values) // 4)
    x, y = (columns[near].mean() + 0.5) / values.shape[1], (rows[near].mean() + 0.5) / values.shape[0]
    for colour, size in (("black", 2.2), ("white", 1.1)):
        axes.plot(x * extent[1], y * extent[2], "x", color=colour, markersize=5, markeredgewidth=size)


def _colour_bar(figure: Figure, column: int, side: float, norm: Normalize, colours: str) -> None:
    width, height = figure.get_size_inches()
    left = MARGIN + column * (side + GAP)
    place = figure.add_axes(((left + 0.1 * side) / width, (BOTTOM - 0.14) / height, 0.8 * side / width, 0.06 / height))
    bar = figure.colorbar(ScalarMappable(norm, colours), cax=place, orientation="horizontal")
    bar.outline.set_linewidth(0.4)
    bar.ax.tick_params(labelsize=5.5, length=2, pad=1.5)
    bar.ax.locator_params(nbins=3)


def _legend(figure: Figure) -> None:
    handles = [
        Patch(facecolor="none", edgecolor=BOX, label="ground-truth box"),
        Line2D([], [], color="black", marker="x", markersize=5, linestyle="", label="maximum of the map"),
        Patch(facecolor=BACKGROUND, label="hidden by no mask (scored 0)"),
    ]
    figure.legend(handles=handles, loc="lower center", ncols=3, fontsize=6, borderaxespad=0.3)
