"""Ablations: AUC over the anomaly ratio, methods compared by tests, histograms with and without pseudo-labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from amae.evaluation.chance import chance_of_chi_square
from amae.evaluation.metrics import auc, chi_square_distance
from amae.evaluation.statistics import mean_and_spread, stars, welch_test
from amae.evaluation.tables import is_abnormal, read_scores, score_columns, stack_scores
from amae.figures.distributions import class_handles, two_densities
from amae.figures.style import COLUMN, DASHES, LINES, PAGE, page, score_name
from amae.runtime.errors import InputError

MARKERS = ("o", "s", "D", "^", "v", "P")
GREY = "#555555"
EXPLANATION = (
    "dots: seeds; bars: mean ± 1.96 sd; brackets:\nWelch test over seeds / DeLong test over test images,\n"
    "ns: p > 0.05, **: p ≤ 0.05, ***: p ≤ 0.01"
)
SPREAD = 0.15  # opacity of the band of a spread


def plot_sweep(frame: pd.DataFrame, path: str | Path, published: pd.DataFrame) -> None:
    """AUC against the anomaly ratio (Fig. 3a): lines with a band of 1.96 sd over seeds, hollow markers as printed.

    frame: method, protocol, anomaly_ratio (0 to 1), seed, auc (fraction). published: method, protocol, anomaly_ratio,
    value (percent) for the same data set. Of its rows without a ratio, those of a method that `frame` has under
    protocol N become dotted lines; the others are passed over. A method that was only printed has markers and no line.
    """
    frame = frame.astype({"anomaly_ratio": float, "auc": float})
    printed = published.assign(anomaly_ratio=pd.to_numeric(published["anomaly_ratio"]))
    one_class = frame.loc[frame["protocol"] == "N", "method"]
    constant = printed[printed["anomaly_ratio"].isna() & (printed["protocol"] == "N")]
    constant = constant[constant["method"].isin(one_class)]
    printed = printed.dropna(subset="anomaly_ratio")
    names = list(dict.fromkeys([*frame["method"], *printed["method"]]))
    with page(path, COLUMN, 2.5 + 0.13 * (len(names) + 2)) as figure:
        axes = figure.add_subplot()
        handles = []
        for place, name in enumerate(names):
            look = {"color": LINES[place % len(LINES)], "marker": MARKERS[place % len(MARKERS)], "markersize": 4}
            line = look | {"linestyle": DASHES[place % len(DASHES)]}
            measured, as_printed = frame[frame["method"] == name], printed[printed["method"] == name]
            _draw_sweep(axes, measured, line)
            values = as_printed["value"].astype(float) / 100
            hollow = look | {"linestyle": "", "markerfacecolor": "white", "markersize": 5.5, "markeredgewidth": 0.9}
            axes.plot(100 * as_printed["anomaly_ratio"], values, **hollow, zorder=4)
            for value in constant.loc[constant["method"] == name, "value"].astype(float) / 100:
                axes.axhline(value, color=look["color"], linestyle=":", linewidth=0.9)
            handles.append(Line2D([], [], **(line if len(measured) else hollow), label=name))
        if len(constant):
            handles.append(Line2D([], [], color=GREY, linestyle=":", linewidth=0.9, label="dotted: printed, no T_u"))
        if len(printed):
            handles.append(
                Line2D(
                    [], [], color=GREY, marker="o", linestyle="", markerfacecolor="white", label="hollow: as printed"
                )
            )
        seeds = frame.groupby(["method", "anomaly_ratio"])["seed"].nunique()
        if (seeds > 1).any():
            text = f"band: 1.96 sd over {_range(seeds[seeds > 1])} seeds"
            handles.append(Patch(facecolor=GREY, alpha=SPREAD, label=text))
        axes.set(xlabel="anomaly ratio of the unlabeled set, %", ylabel="AUC")
        axes.grid(color="#EEEEEE", linewidth=0.5)
        figure.legend(handles=handles, loc="outside lower center", ncols=2, handlelength=3.2)


def plot_comparison(frame: pd.DataFrame, path: str | Path, reference: str, paired: Mapping[str, float]) -> None:
    """AUC of methods (Fig. 3c): every replicate as a dot, mean and 1.96 sd, brackets with tests to the reference.

    frame: method, seed, auc (fraction), in the order to draw. paired: p of the DeLong test of each other method, shown
    behind that of the Welch test, or alone where a method has a single replicate; a method without any test has no
    bracket. Raises InputError where the reference
    is not among the methods.
    """
    groups = {name: part["auc"].to_numpy(float) for name, part in frame.groupby("method", sort=False)}
    if reference not in groups:
        raise InputError(f"comparison: {reference!r} is not among the methods {', '.join(groups)}")
    with page(path, COLUMN if len(groups) <= 5 else PAGE, 2.7) as figure:
        axes = figure.add_subplot()
        for place, (name, values) in enumerate(groups.items()):
            mean, spread = mean_and_spread(values)
            colour = LINES[0] if name == reference else GREY
            axes.errorbar(place, mean, spread or 0, color=colour, marker="_", markersize=14, capsize=4, linewidth=1)
            shift = np.linspace(-0.1, 0.1, len(values)) if len(values) > 1 else np.zeros(1)
            axes.plot(place + shift, values, "o", color=colour, alpha=0.55, markersize=3, markeredgewidth=0)
        _draw_brackets(axes, groups, reference, paired)
        axes.set_xticks(range(len(groups)), [_broken(name) for name in groups])
        axes.set(xlim=(-0.6, len(groups) - 0.4), ylabel="AUC")
        axes.set_title(EXPLANATION, fontsize=6.5, color=GREY)


def plot_histogram_panels(
    panels: Mapping[str, Sequence[pd.DataFrame]], column: str, path: str | Path, printed: Mapping[str, float]
) -> None:
    """Histograms of one score side by side (Fig. 3b: with and without pseudo-labels), one panel per heading.

    panels: heading -> tables of scores, one for each seed. A seed's scores are scaled to [0, 1] by its own lowest and
    highest, as for its chi-square distance; the panel shows all seeds together, and above it the mean distance and AUC
    with 1.96 sd over seeds, and the distance that was printed, where `printed` has it under the heading. Raises
    InputError where a table does not contain the score.
    """
    with page(path, PAGE if len(panels) > 1 else COLUMN, 2.5) as figure:
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for place, (heading, tables) in enumerate(panels.items()):
            tables = [read_scores(table) for table in tables]
            if column not in score_columns(tables[0]):
                raise InputError(f"{heading}: no score {column!r}; the table has {', '.join(score_columns(tables[0]))}")
            values, labels = stack_scores(tables)[column], is_abnormal(tables[0])
            low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
            scaled = (values - low) / np.where(high > low, high - low, 1)
            two_densities(axes[place], scaled.ravel(), np.tile(labels, len(values)))
            chi2 = _with_spread([chi_square_distance(each[labels == 0], each[labels == 1]) for each in values], 1)
            as_printed = f" (printed {printed[heading]:.2f})" if np.isfinite(printed.get(heading, np.nan)) else ""
            chance = np.mean([chance_of_chi_square(each[labels == 0], each[labels == 1]) for each in values])
            area = _with_spread([auc(labels, each) for each in values], 3)
            found = f"χ² {chi2} (chance {chance:.1f}){as_printed}, AUC {area}"
            axes[place].set_title(f"{heading}\n{found}")
            axes[place].set(xlabel=f"{score_name(column)}, scaled to 0 to 1", xlim=(0, 1))
        axes[0].set_ylabel("density")
        figure.get_layout_engine().set(wspace=0.06)
        seeds = f"{len(tables)} seeds, each scaled by its own range; ±: 1.96 sd over seeds" if len(tables) > 1 else None
        figure.legend(
            handles=class_handles(tables[0]), loc="outside lower center", ncols=2, title=seeds, title_fontsize=6.5
        )


def _with_spread(values: Sequence[float], digits: int) -> str:
    mean, spread = mean_and_spread(values)
    return f"{mean:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")


def _draw_sweep(axes: Axes, measured: pd.DataFrame, look: Mapping[str, object]) -> None:
    points = [(ratio, *mean_and_spread(part["auc"])) for ratio, part in measured.groupby("anomaly_ratio")]
    if not points:
        return
    ratio, mean, spread = (np.array(values, float) for values in zip(*points, strict=True))
    spread = np.nan_to_num(spread)
    axes.fill_between(100 * ratio, mean - spread, mean + spread, color=look["color"], alpha=SPREAD, linewidth=0)
    axes.plot(100 * ratio, mean, **look)


def _draw_brackets(axes: Axes, groups: Mapping[str, np.ndarray], reference: str, paired: Mapping[str, float]) -> None:
    """A bracket from the reference to each other method, the nearest lowest, above everything drawn so far."""
    names = list(groups)
    origin = names.index(reference)
    low, top = axes.get_ylim()
    step = 0.11 * (top - low)
    others = sorted((abs(place - origin), place) for place in range(len(names)) if place != origin)
    for _, place in others:
        found = [stars(paired[names[place]])] if names[place] in paired else []
        if min(len(groups[names[place]]), len(groups[reference])) > 1:
            found.insert(0, stars(welch_test(groups[names[place]], groups[reference])[1]))
        if not found:
            continue
        top += step
        ends = [top - 0.25 * step, top, top, top - 0.25 * step]
        axes.plot([origin, origin, place, place], ends, color=GREY, linewidth=0.7)
        axes.text((origin + place) / 2, top, " / ".join(found), ha="center", va="bottom", fontsize=6.5)
    axes.set_ylim(low, top + step)


def _broken(name: str) -> str:
    """A name over two lines, broken at the space nearest its middle."""
    spaces = [place for place, character in enumerate(name) if character == " "]
    if len(name) < 12 or not spaces:
        return name
    place = min(spaces, key=lambda space: abs(space - len(name) / 2))
    return f"{name[:place]}\n{name[place + 1 :]}"


def _range(counts: pd.Series) -> str:
    return f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"
