"""The gallery: what the two modules make of single images, and which images to look at."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from amae.data.boxes import Box
from amae.evaluation.tables import read_scores, score_columns
from amae.figures.style import PAGE, page, score_name
from amae.runtime.errors import InputError

HEADINGS = ("image", "masked input", "$\\mu_A$", "$\\mu_B$", "$|\\mu_A-\\mu_B|$", "overlay")
BACKGROUND = "#D9D4E3"  # neither a grey of a radiograph nor a colour of the map: "no value here"
BOX = "#56E0FF"
HIDDEN_GREY = 110
MAP = "inferno"
MARGIN, GAP, TOP, BOTTOM = 1.32, 0.05, 0.2, 0.58  # inches: titles, between panels, headings, colour bar


def choose_examples(scores: pd.DataFrame, column: str, count: int) -> dict[str, list[str]]:
    """Images worth a look by one score: heading -> image_ids, `count` each or as many as there are.

    Most anomalous and least anomalous of all, and the worst mistakes: the normal images that score highest and the
    abnormal ones that score lowest, those among the former left out. Equal scores are in the order of image_id. Raises
    InputError for an unknown score.
    """
    scores = read_scores(scores)
    if column not in score_columns(scores):
        raise InputError(f"gallery: no score {column!r} in the table; it has {', '.join(score_columns(scores))}")
    ranked = scores.sort_values([column, "image_id"], ascending=[False, True])
    ids = ranked["image_id"]
    most, least = ids[:count].tolist(), ids[::-1][:count].tolist()
    others = ranked[~ids.isin([*most, *least])]
    normal, abnormal = (others.loc[others["label"] == name, "image_id"] for name in ("normal", "abnormal"))
    return {
        "most anomalous": most,
        "least anomalous": least,
        "normal, scored highest": normal[:count].tolist(),
        "abnormal, scored lowest": abnormal[::-1][:count].tolist(),
    }


def title_rows(examples: Mapping[str, Sequence[str]], scores: pd.DataFrame, column: str) -> tuple[list[str], list[str]]:
    """Rows (image_ids) and titles (heading, label, score, rank) for `plot_gallery` from `choose_examples`."""
    table = read_scores(scores).set_index("image_id").sort_index()
    rank = table[column].rank(ascending=False, method="first").astype(int)
    rows = [image_id for ids in examples.values() for image_id in ids]
    titles = [
        f"{heading}\n{fill(image_id, 24)}\nlabel: {table.at[image_id, 'label']}\n"
        f"{score_name(column)}:\n{table.at[image_id, column]:.3g} (rank {rank[image_id]} of {len(table)})"
        for heading, ids in examples.items()
        for image_id in ids
    ]
    return rows, titles


def plot_gallery(
    rows: Sequence[str],
    images: Mapping[str, np.ndarray],
    maps: Mapping[str, np.ndarray],
    titles: Sequence[str],
    path: str | Path,
    boxes: Mapping[str, Sequence[Box]] | None = None,
    findings: Mapping[str, Sequence[str]] | None = None,
    scaled_by: Sequence[str] | None = None,
) -> None:
    """One row per image: image, one masked input, mu_A, mu_B, |mu_A - mu_B| and that map laid over the image.

    rows: image_ids; images: image_id -> uint8 (S, S); maps: the arrays of maps.npz (image_id (N,), mu_a and mu_b
    (N, H, W) in [0, 1] with nan where no mask hid the patch, visible bool (N, h, w)); titles: text beside each row;
    boxes: image_id -> ground-truth boxes in packed pixel coordinates; findings: what each of them shows, "" where it is
    not known. The maps share one colour scale, that of the images `scaled_by` (by default those shown); nan is shown as
    background. Raises InputError where an image has no map.
    """
    places = {str(image_id): place for place, image_id in enumerate(maps["image_id"])}
    missing = [image_id for image_id in [*rows, *(scaled_by or ())] if image_id not in places or image_id not in images]
    if missing:
        raise InputError(f"gallery: image {missing[0]!r} has no reconstruction or no pixels; reconstruct it first")
    chosen = [places[image_id] for image_id in rows]
    mu_a, mu_b = (np.asarray(maps[name][chosen], np.float32) for name in ("mu_a", "mu_b"))
    visible = np.asarray(maps["visible"][chosen], bool)
    difference = np.abs(mu_a - mu_b)
    scale = _scale(maps, [places[image_id] for image_id in scaled_by or rows])
    side = (PAGE - MARGIN - GAP) / len(HEADINGS) - GAP
    height = TOP + len(rows) * (side + GAP) + BOTTOM
    with page(path, PAGE, height, layout=None) as figure:
        for row, image_id in enumerate(rows):
            image = np.asarray(images[image_id])
            extent = (0, len(image), len(image), 0)  # maps of any size lie on the image's own pixel coordinates
            panels = [image_panel(figure, row, column, side, MARGIN, extent) for column in range(len(HEADINGS))]
            _show_row(panels, image, visible[row], mu_a[row], mu_b[row], difference[row], scale, extent)
            for panel in (panels[0], panels[-1]):
                draw_boxes(panel, (boxes or {}).get(image_id, ()))
            write_title(panels[0], titles[row], (findings or {}).get(image_id, ()))
            if row == 0:
                for panel, heading in zip(panels, HEADINGS, strict=True):
                    panel.set_title(heading, pad=3)
        _explain_colours(figure, scale, any(boxes.get(image_id) for image_id in rows) if boxes else False)


def _scale(maps: Mapping[str, np.ndarray], places: Sequence[int]) -> Normalize:
    """Colour scale of the difference: from 0 to its 99.8th percentile over these rows of `maps`."""
    difference = np.abs(np.asarray(maps["mu_a"][places], np.float32) - np.asarray(maps["mu_b"][places], np.float32))
    finite = difference[np.isfinite(difference)]
    # A few pixels at the edges of patches would stretch the scale; the colour bar's arrow shows that they exceed it.
    return Normalize(0, max(float(np.percentile(finite, 99.8)) if finite.size else 0, 1e-6))


def image_panel(figure: Figure, row: int, column: int, side: float, margin: float, extent: tuple[float, ...]) -> Axes:
    """A square panel without ticks, placed in inches: the automatic layouts leave uneven gaps around square images.

    `side`: of a panel; `margin`: left of the first one. `extent`: left, right, bottom and top of the image, in pixels.
    """
    width, height = figure.get_size_inches()
    left, bottom = margin + column * (side + GAP), height - TOP - side - row * (side + GAP)
    axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
    axes.set(xticks=[], yticks=[], xlim=extent[:2], ylim=extent[2:])
    axes.spines[:].set_visible(False)
    return axes


def _show_row(
    axes: Sequence[Axes],
    image: np.ndarray,
    visible: np.ndarray,
    mu_a: np.ndarray,
    mu_b: np.ndarray,
    difference: np.ndarray,
    scale: Normalize,
    extent: tuple[float, ...],
) -> None:
    grey = colormaps["gray"].with_extremes(bad=BACKGROUND)
    colours = colormaps[MAP].with_extremes(bad=BACKGROUND)
    axes[0].imshow(image, cmap=grey, vmin=0, vmax=255, extent=extent)
    axes[1].imshow(_masked(image, visible), cmap=grey, vmin=0, vmax=255, extent=extent)
    for panel, reconstruction in zip(axes[2:4], (mu_a, mu_b), strict=True):
        panel.imshow(reconstruction, cmap=grey, vmin=0, vmax=1, extent=extent, interpolation="nearest")
    axes[4].imshow(difference, cmap=colours, norm=scale, extent=extent, interpolation="nearest")
    axes[5].imshow(image, cmap=grey, vmin=0, vmax=255, extent=extent)
    strength = np.nan_to_num(np.clip(scale(difference).filled(0), 0, 1))
    axes[5].imshow(colours(scale(difference)), alpha=0.75 * strength, extent=extent, interpolation="nearest")


def _masked(image: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """The image (S, S) with the patches outside `visible` (h, w) in grey."""
    rows, columns = (np.arange(image.shape[axis]) * visible.shape[axis] // image.shape[axis] for axis in (0, 1))
    return np.where(visible[np.ix_(rows, columns)], image, np.uint8(HIDDEN_GREY))


def write_title(axes: Axes, title: str, findings: Sequence[str]) -> None:
    """Write the text beside a row, left of its first panel."""
    axes.set_ylabel(titled(title, findings), rotation=0, ha="right", va="center", fontsize=6, labelpad=4)


def titled(title: str, findings: Sequence[str]) -> str:
    """The text beside a row, with what its boxes show: names on the picture would hide small boxes and each other."""
    names = ", ".join(sorted({name for name in findings if name}))
    return f"{title}\n{fill(f'boxes: {names}', 24)}" if names else title


def draw_boxes(axes: Axes, boxes: Sequence[Box]) -> None:
    for left, top, right, bottom in boxes:
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=BOX, linewidth=0.8))


def _explain_colours(figure: Figure, scale: Normalize, with_boxes: bool) -> None:
    """Colour bar under the panels and, to its left, what the background and the boxes mean."""
    width, height = figure.get_size_inches()
    place = figure.add_axes((MARGIN / width, 0.38 / height, (PAGE - MARGIN - GAP) / width, 0.08 / height))
    bar = figure.colorbar(
        ScalarMappable(scale, MAP), cax=place, orientation="horizontal", extend="max", extendfrac=0.02
    )
    bar.set_label("$|\\mu_A-\\mu_B|$, intensity 0 to 1", labelpad=2)
    bar.outline.set_linewidth(0.4)
    handles = [Patch(facecolor=BACKGROUND, label="hidden by no mask")]
    if with_boxes:
        handles.append(Patch(facecolor="none", edgecolor=BOX, label="ground-truth box"))
    figure.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=((MARGIN - 0.18) / width, 0.12 / height),
        fontsize=6,
        borderaxespad=0,
        handlelength=1.2,
    )
