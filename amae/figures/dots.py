"""Every method of an audit as a dot with its interval, and shortcuts that need no lungs as lines."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from amae.comparators.methods import all_methods, column
from amae.evaluation.audit import SHORTCUTS, separates
from amae.evaluation.tables import SMALLEST_GROUP
from amae.figures.style import LINES, NORMAL, UNKNOWN, page, score_name
from amae.runtime.errors import InputError

MOST_SHORTCUTS = 3  # the strongest are drawn
VIEWS = {"view=PA": "^", "view=AP": "v"}  # markers


def plot_audit(table: pd.DataFrame, path: str | Path) -> None:
    """AUC of every method, the best above, with its 95 % interval over images and, smaller, its AUC within a view.

    table: as `audit_table` makes it. Of the shortcuts whose interval excludes 0.5 the strongest three are drawn; one
    below 0.5 is turned round, and called reversed.
    """
    whole = table[table["group"] == "all"].astype(dict.fromkeys(("auc", "auc_low", "auc_high"), float))
    methods = whole[~whole["score"].isin(SHORTCUTS)].dropna(subset="auc").sort_values("auc")
    if methods.empty:
        limit = f"one needs at least {SMALLEST_GROUP} test images of each class"
        raise InputError(f"table of the audit: no method has an AUC over all images; {limit}")
    shortcuts = whole[whole["score"].isin(SHORTCUTS) & separates(whole)].set_index("score")["auc"]
    reach = np.maximum(shortcuts, 1 - shortcuts).sort_values(ascending=False).head(MOST_SHORTCUTS)
    places = np.arange(len(methods))
    with page(path, 5.0, 0.9 + 0.17 * len(methods)) as figure:
        axes = figure.add_subplot()
        axes.axvline(0.5, color=UNKNOWN, linewidth=0.8)
        handles = []
        for (name, value), colour in zip(reach.items(), LINES, strict=False):
            axes.axvline(value, color=colour, linestyle="--", linewidth=0.8)
            turned = ", reversed" if shortcuts[name] < 0.5 else ""
            label = f"shortcut {name.replace('_', ' ')}{turned}, {value:.2f}"
            handles.append(Line2D([], [], color=colour, linestyle="--", linewidth=0.8, label=label))
        axes.hlines(places, methods["auc_low"], methods["auc_high"], color=NORMAL, linewidth=1.2)
        axes.plot(methods["auc"], places, "o", color=NORMAL, markersize=3.5)
        for group, marker in VIEWS.items():
            of_view = table[table["group"] == group].set_index("score")["auc"].astype(float)
            values = of_view.reindex(methods["score"]).to_numpy()
            if np.isfinite(values).any():
                look = {"color": NORMAL, "marker": marker, "markersize": 3, "markerfacecolor": "white"}
                axes.plot(values, places, linestyle="", **look)
                handles.append(Line2D([], [], linestyle="", label=f"within {group.removeprefix('view=')}", **look))
        axes.set_yticks(places, [_title(score) for score in methods["score"]])
        axes.set(xlabel="AUC, with 95 % interval over test images", ylim=(-0.6, len(methods) - 0.4))
        if handles:
            figure.legend(handles=handles, loc="outside lower center", ncols=2)


def _title(score: str) -> str:
    """Name of a score that is called folder/column, as in ddad_Y/ddad_inter; one that is no method's keeps its own."""
    folder, _, name = score.partition("/")
    key, _, protocol = folder.rpartition("_")
    methods = all_methods()
    if key not in methods:
        return {"p_abnormal": "AMAE stage 1", "inter": "AMAE, inter-discrepancy"}.get(name, score_name(name))
    method = methods[key]
    reported = column(key, method.protocols[protocol])
    part = "" if name == reported else f", {name.removeprefix(f'{key}_').replace('_', ' ')}"
    return f"{method.title}{part} ({protocol})"
