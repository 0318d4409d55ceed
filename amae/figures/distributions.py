"""Histograms: scores of normal and abnormal images, and what was kept as pseudo-label."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from amae.evaluation.calls import sensitivities, threshold_of
from amae.evaluation.chance import chance_of_chi_square, chance_of_purity
from amae.evaluation.metrics import auc, chi_square_distance
from amae.evaluation.tables import (
    CLASSES,
    diagnose_pseudo_labels,
    hidden_labels_of,
    is_abnormal,
    is_kept,
    read_scores,
    score_columns,
)
from amae.figures.style import (
    ABNORMAL,
    CLASS_COLOURS,
    COLUMN,
    LINES,
    NORMAL,
    PAGE,
    UNKNOWN,
    page,
    score_axis,
    score_name,
)

BINS = 32  # coarser than the 100 of the chi-square distance: for the eye
HIGHEST = 8.0  # inches of a page
FILL = 0.35  # opacity of a density
KEPT_COLOURS = {"kept as normal": NORMAL, "not kept": UNKNOWN, "kept as abnormal": ABNORMAL}
HIDDEN_COLOURS = {"normal": NORMAL, "unknown": UNKNOWN, "abnormal": ABNORMAL}


def plot_histograms(scores: pd.DataFrame, path: str | Path, specificity: float = 0.95) -> None:
    """Densities of normal and abnormal test images, one panel per score.

    Above each panel AUC, chi-square distance with its value by chance, and the sensitivity at `specificity`; a line
    marks that threshold, which is taken from the same normal images.
    """
    scores = read_scores(scores)
    names = score_columns(scores)
    rates = sensitivities(scores, names, specificity).query("group == 'all'").set_index("score")["sensitivity"]
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    with page(path, COLUMN if columns == 1 else PAGE, 1.85 * rows + 0.25) as figure:
        for place, name in enumerate(names, start=1):
            axes = figure.add_subplot(rows, columns, place)
            two_densities(axes, scores[name].to_numpy(), is_abnormal(scores))
            axes.set(xlabel=score_axis(name), ylabel="density" if place % columns == 1 or columns == 1 else None)
            normal, abnormal = (scores.loc[scores["label"] == label, name].to_numpy() for label in CLASSES)
            axes.axvline(threshold_of(normal, specificity), color="black", linewidth=0.8, linestyle="--")
            chi2 = (
                f"χ² {chi_square_distance(normal, abnormal):.1f} (chance {chance_of_chi_square(normal, abnormal):.1f})"
            )
            result = f"AUC {auc(is_abnormal(scores), scores[name]):.3f}, {chi2}"
            axes.set_title(
                f"{score_name(name)}\n{result}\nsensitivity {rates[name]:.2f} at specificity {specificity:g}"
            )
        label = f"specificity {specificity:g} on these images"
        line = Line2D([], [], color="black", linewidth=0.8, linestyle="--", label=label)
        figure.legend(handles=[*class_handles(scores), line], loc="outside lower center", ncols=3)


def plot_sensitivity(images: pd.DataFrame, path: str | Path, specificity: float) -> None:
    """Sensitivity of every score at `specificity`, over all abnormal images and by view and finding, with intervals.

    images: as `read_scores` gives them, with the columns view and finding where known. Bars are Wilson 95 % intervals
    over images; the dotted line is chance, 1 - specificity.
    """
    names = score_columns(images)
    rates = sensitivities(images, names, specificity)
    groups = list(dict.fromkeys(rates["group"]))
    step = 0.8 / len(names)
    with page(path, PAGE, min(0.9 + len(groups) * (0.1 + 0.09 * len(names)), HIGHEST)) as figure:
        axes = figure.add_subplot()
        axes.axvline(1 - specificity, color="#888888", linewidth=0.8, linestyle=":", label="chance")
        for place, name in enumerate(names):
            part = rates[rates["score"] == name]
            rows = np.array([groups.index(group) for group in part["group"]]) + step * (place - (len(names) - 1) / 2)
            values = part[["sensitivity", "sensitivity_low", "sensitivity_high"]].astype(float).to_numpy().T
            colour, marker = LINES[place % len(LINES)], "osD^vP"[place % 6]
            axes.hlines(rows, values[1], values[2], color=colour, linewidth=0.9)
            axes.plot(values[0], rows, marker, color=colour, markersize=3, label=score_name(name))
        counts = rates.drop_duplicates("group").set_index("group")["abnormal"]
        labels = [f"{group.partition('=')[2] or group} ({counts[group]} abnormal)" for group in groups]
        axes.set_yticks(range(len(groups)), labels)
        axes.set(xlim=(-0.01, 1.01), ylim=(len(groups) - 0.45, -0.55))
        axes.set_xlabel(f"sensitivity at specificity {specificity:g} on these normal images, with 95 % interval")
        axes.grid(axis="x", color="#EEEEEE", linewidth=0.5)
        figure.legend(loc="outside right upper")


def plot_pseudo_labels(pseudo: pd.DataFrame, hidden: pd.DataFrame | None, path: str | Path) -> None:
    """Probabilities of the unlabeled images: what was kept as normal and as abnormal, and from where on.

    Where hidden labels are known, a second panel shows the same images by hidden label, with the purity of what was
    kept; it is a diagnostic that no training sees.
    """
    p_abnormal = pseudo["p_abnormal"].astype(float)
    truth = pd.Series("", pseudo.index) if hidden is None else hidden_labels_of(pseudo, hidden)
    truth = truth.where(truth.isin(CLASSES), "unknown")
    known = (truth != "unknown").any()
    kept = ("kept as " + pseudo["pseudo_label"]).where(is_kept(pseudo), "not kept")
    edges = _edges(p_abnormal)
    with page(path, COLUMN, 4.2 if known else 2.4) as figure:
        panels = figure.subplots(2 if known else 1, 1, sharex=True, squeeze=False)[:, 0]
        _stacked(panels[0], p_abnormal, kept, KEPT_COLOURS, edges)
        if known:
            _stacked(panels[1], p_abnormal, truth, HIDDEN_COLOURS, edges)
        for axes in panels:
            _mark_thresholds(axes, p_abnormal, kept)
        _legend(panels[0], f"pseudo-labels of {len(pseudo)} unlabeled images")
        if known:
            purity, chance = (
                diagnose_pseudo_labels(pseudo, hidden).set_index("class")["purity"],
                chance_of_purity(truth),
            )
            purities = [
                f"{name} {100 * purity[name]:.0f} % (chance {100 * chance[name]:.0f} %)"
                for name in CLASSES
                if np.isfinite(purity[name])
            ]
            _legend(panels[1], f"by hidden label; purity of kept:\n{', '.join(purities) or 'unknown'}")
        panels[-1].set_xlabel("probability of abnormal")


def two_densities(axes: Axes, values: np.ndarray, labels: np.ndarray) -> None:
    edges = _edges(values)
    for label, name in enumerate(CLASSES):
        part, colour = values[labels == label], CLASS_COLOURS[name]
        axes.hist(part, edges, density=True, color=colour, alpha=FILL)
        axes.hist(part, edges, density=True, color=colour, histtype="step", linewidth=1, zorder=3)
    axes.locator_params(axis="x", nbins=5)


def _edges(values: np.ndarray) -> np.ndarray:
    """Edges of BINS bins, wider than the steps that floats near these values can tell apart."""
    low, high = float(np.min(values)), float(np.max(values))
    least = 4 * BINS * np.spacing(max(abs(low), abs(high)))
    more = max(least, 0.5) if low == high else least if high - low < least else 0
    return np.histogram_bin_edges(values, BINS, (low - more, high + more))


def class_handles(scores: pd.DataFrame) -> list[Patch]:
    return [
        Patch(
            facecolor=to_rgba(colour, FILL),
            edgecolor=colour,
            label=f"{name} ({(scores['label'] == name).sum()} images)",
        )
        for name, colour in CLASS_COLOURS.items()
    ]


def _stacked(axes: Axes, values: pd.Series, groups: pd.Series, colours: Mapping[str, str], edges: np.ndarray) -> None:
    parts = {name: values[groups == name] for name in colours}
    parts = {name: part for name, part in parts.items() if len(part)}
    labels = [f"{name} ({len(part)})" for name, part in parts.items()]
    axes.hist(list(parts.values()), edges, stacked=True, color=[colours[name] for name in parts], label=labels)
    axes.set_ylabel("images per bin")


def _mark_thresholds(axes: Axes, p_abnormal: pd.Series, kept: pd.Series) -> None:
    """A line at the last image kept on each side: the confidence threshold, seen on the axis of p_abnormal."""
    ends = [p_abnormal[kept == f"kept as {name}"].agg(end) for name, end in (("normal", "max"), ("abnormal", "min"))]
    for place, end in enumerate(end for end in ends if np.isfinite(end)):
        axes.axvline(end, color="black", linewidth=0.8, linestyle="--", label="_" if place else "threshold")


def _legend(axes: Axes, title: str) -> None:
    """Above the axes, so that it hides no bar."""
    axes.legend(title=title, title_fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, borderaxespad=0.2)
