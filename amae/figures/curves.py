"""Curves: loss over epochs, ROC, precision against recall."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from amae.evaluation.metrics import auc, average_precision, bootstrap_interval
from amae.evaluation.statistics import mean_and_spread
from amae.evaluation.tables import is_abnormal, read_scores, score_columns
from amae.figures.style import COLUMN, DASHES, LINES, PAGE, page, score_name
from amae.runtime.errors import InputError

GRID = np.linspace(0, 1, 501)


def plot_training(histories: Mapping[str, pd.DataFrame], path: str | Path) -> None:
    """Loss and learning rate against the epoch, one panel per training (name -> history.csv, one row per epoch)."""
    columns = min(len(histories), 3)
    rows = -(-len(histories) // columns)
    with page(path, PAGE if columns > 1 else COLUMN, 1.9 * rows) as figure:
        for place, (name, history) in enumerate(histories.items(), start=1):
            axes = figure.add_subplot(rows, columns, place)
            history = history[["epoch", "lr", "loss"]].astype(float)
            marker = "o" if len(history) == 1 else ""
            axes.plot(history["epoch"], history["loss"], color="black", marker=marker, markersize=3)
            axes.set(title=name, xlabel="epoch", ylabel="training loss")
            axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            rate = axes.twinx()
            rate.plot(history["epoch"], history["lr"], color="#888888", linestyle=DASHES[1], linewidth=0.8)
            rate.spines["right"].set(visible=True, color="#888888")
            rate.tick_params(axis="y", colors="#777777")
            rate.set_ylim(bottom=0)
            rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=True)
            rate.yaxis.get_offset_text().set_color("#777777")
            rate.set_ylabel("learning rate (dashed)", color="#777777")


def plot_roc(scores: Sequence[pd.DataFrame], path: str | Path) -> None:
    """ROC curves of every score (a table for each seed): thin lines per seed, a thick one for the mean over seeds.

    The legend gives the AUC with its bootstrap 95 % interval over images for one seed, or the mean over seeds with
    1.96 x their standard deviation.
    """
    with page(path, COLUMN, _height(scores)) as figure:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color="#888888", linewidth=0.8, linestyle=":")
        handles = _plot_scores(axes, scores, _roc_on_grid, auc)
        handles.append(Line2D([], [], color="#888888", linewidth=0.8, linestyle=":", label="chance  0.500"))
        axes.set(xlabel="false positive rate", ylabel="true positive rate")
        _finish(axes, handles, f"AUC, {_meaning(scores)}")


def plot_precision_recall(scores: Sequence[pd.DataFrame], path: str | Path) -> None:
    """Precision-recall curves of every score, drawn and labelled as `plot_roc` does, with average precision."""
    with page(path, COLUMN, _height(scores)) as figure:
        axes = figure.add_subplot()
        prevalence = float(np.mean([is_abnormal(frame).mean() for frame in scores]))
        axes.axhline(prevalence, color="#888888", linewidth=0.8, linestyle=":")
        handles = _plot_scores(axes, scores, _precision_on_grid, average_precision)
        chance = f"chance  {prevalence:.3f} (share of abnormal images)"
        handles.append(Line2D([], [], color="#888888", linewidth=0.8, linestyle=":", label=chance))
        axes.set(xlabel="recall", ylabel="precision")
        _finish(axes, handles, f"average precision, {_meaning(scores)}")


def _plot_scores(
    axes: Axes,
    scores: Sequence[pd.DataFrame],
    curve: Callable[[np.ndarray, np.ndarray], np.ndarray],
    metric: Callable[[np.ndarray, np.ndarray], float],
) -> list[Line2D]:
    """Draw `curve` of every score and seed on GRID; returns one legend entry per score."""
    if not scores:
        raise InputError("curves: no table of scores given; expected one per seed")
    frames = [read_scores(frame) for frame in scores]
    columns = dict.fromkeys(column for frame in frames for column in score_columns(frame))
    handles = []
    for place, column in enumerate(columns):
        look = {"color": LINES[place % len(LINES)], "linestyle": DASHES[place % len(DASHES)]}
        members = [(is_abnormal(frame), frame[column]) for frame in frames if column in frame]
        lines = [curve(labels, values.to_numpy()) for labels, values in members]
        if len(lines) > 1:
            for line in lines:
                axes.plot(GRID, line, color=look["color"], linewidth=0.4, alpha=0.45)
        axes.plot(GRID, np.mean(lines, axis=0), **look)
        label = f"{score_name(column)}  {_figure_of_merit(members, metric)}"
        handles.append(Line2D([], [], label=label, **look))
    return handles


def _figure_of_merit(members: list[tuple[np.ndarray, pd.Series]], metric: Callable) -> str:
    values = [metric(labels, scores.to_numpy()) for labels, scores in members]
    mean, spread = mean_and_spread(values)
    if spread is not None:
        return f"{mean:.3f} ± {spread:.3f}"
    labels, scores = members[0]
    low, high = bootstrap_interval(labels, scores.to_numpy(), metric)
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"


def _roc_on_grid(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    from sklearn.metrics import roc_curve

    false_positive_rate, true_positive_rate, _ = roc_curve(labels, scores)
    # At a rate that the curve passes vertically, np.interp takes the upper end; the curve itself starts at (0, 0).
    line = np.interp(GRID, false_positive_rate, true_positive_rate)
    line[0] = 0
    return line


def _precision_on_grid(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(labels, scores)
    # Recall comes in falling order; the precision for a recall is that of the first threshold that reaches it,
    # which is the step that average precision sums.
    precision, recall = precision[::-1], recall[::-1]
    reached = np.searchsorted(recall, np.maximum(GRID, recall[recall > 0].min()) - 1e-12)
    return precision[reached]


def _meaning(scores: Sequence[pd.DataFrame]) -> str:
    return "95 % bootstrap interval over images" if len(scores) == 1 else f"mean ± 1.96 sd over {len(scores)} seeds"


def _height(scores: Sequence[pd.DataFrame]) -> float:
    entries = len({column for frame in scores for column in score_columns(frame)}) + 2
    return COLUMN + 0.15 * entries


def _finish(axes: Axes, handles: list[Line2D], title: str) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.grid(color="#EEEEEE", linewidth=0.5)
    legend = axes.figure.legend(
        handles=handles, loc="outside lower center", title=title, handlelength=3.2, title_fontsize=6.5
    )
    legend.set_alignment("left")
