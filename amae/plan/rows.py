"""Rows of the tables and figures: the methods that each shows, and the scores of every seed behind them."""

import csv
import json
from functools import cache
from pathlib import Path
from typing import Any

from amae.comparators.methods import column, method_of
from amae.comparators.settings import IgdSettings
from amae.plan.compared import MASK_REC, MASK_REC_FOLDER, compared_systems, own_settings, protocols_of
from amae.plan.datasets import anomaly_ratio, has_stage2
from amae.plan.paths import PUBLISHED, of_every_seed
from amae.plan.splits import changed_ratio
from amae.plan.variants import settings_of
from amae.plan.weights import has_decoder, normalisation, title_of, weights_of
from amae.runtime.errors import InputError

Row = dict[str, Any]
_OURS = {"taxonomy": "ours", "note": "not in the paper"}
_STAGE1, _INTER = ("stage1", "p_abnormal"), ("reconstruction", "inter")  # folder of the scores, and the column
_MASK_REC = (MASK_REC_FOLDER, column(MASK_REC, "pooled"))


def rows_of(config: dict[str, Any], dataset: str, name: str) -> list[Row]:
    """Rows of a table or figure: method, protocol, taxonomy, score (folder/column), scores (a file for each seed).

    Raises InputError where a variant that it shows cannot be made.
    """
    return _ROWS[name](config, dataset)


def rows_option(config: dict[str, Any], dataset: str, name: str) -> str:
    """The rows of a table or figure, as JSON."""
    return json.dumps(rows_of(config, dataset, name))


def score_files(config: dict[str, Any], dataset: str, name: str) -> list[str]:
    """The tables of scores behind a table or figure, each once."""
    return sorted({file for row in rows_of(config, dataset, name) for file in row["scores"]})


def reference(config: dict[str, Any], dataset: str, name: str) -> str:
    """The method that the others of a table or figure are tested against: AMAE's last stage, or the main encoder."""
    if name in ("figure3c", "backbones"):
        return rows_of(config, dataset, name)[0]["method"]
    return "AMAE stage 2" if has_stage2(config, dataset) else "AMAE stage 1"


def every_printed_option(_: dict[str, Any], name: str) -> str:
    """--every-printed for Table 2, which also lists what was only printed."""
    return "--every-printed" if name == "table2" else ""


@cache
def _taxonomy() -> dict[str, str]:
    """Kind of each method that the papers print."""
    with Path(PUBLISHED).open(encoding="utf-8") as file:
        return {row["method"]: row["taxonomy"] for row in csv.DictReader(file)}


def _row(
    config: dict[str, Any],
    dataset: str,
    method: str,
    protocol: str,
    scores: tuple[str, str],
    variant: str = "",
    **more: Any,
) -> Row:
    """One row; `scores` are folder and column."""
    settings_of(config, variant)  # raises InputError for a contradiction in a variant that is shown
    changed_ratio(config, dataset, variant)
    part, score = scores
    taxonomy = more.pop("taxonomy", _taxonomy().get(method, "reference"))
    files = of_every_seed(config, dataset, variant, f"{part}/scores.csv")
    name = f"{Path(part).name}/{score}"
    return {"method": method, "protocol": protocol, "taxonomy": taxonomy, "score": name, "scores": files, **more}


def _table2(config: dict[str, Any], dataset: str) -> list[Row]:
    """Every row of Table 2 that is built, and the rows of this project's own."""
    rows = []
    for name, protocol, score in compared_systems(config, dataset):
        method, scores = method_of(name), (f"comparators/{name}_{protocol}", column(name, score))
        about = {key: value for key in ("taxonomy", "note") if (value := getattr(method, key))}
        settings = own_settings(config, name)
        if isinstance(settings, IgdSettings) and not settings.pretrained:
            about["note"] = "encoder from scratch, not pre-trained"
        rows.append(_row(config, dataset, method.title, protocol, scores, **about))
    for variant, title in _imagenet_backbones(config, dataset).items():
        rows.append(_row(config, dataset, title, "N", _STAGE1, variant, taxonomy="SSL"))
    rows.append(_row(config, dataset, "AMAE stage 1", "N", _STAGE1, taxonomy="SSL"))
    if has_stage2(config, dataset):
        rows.append(_row(config, dataset, "AMAE Mask Rec.", "Y", _MASK_REC))
        rows.append(_row(config, dataset, "AMAE stage 2", "Y", _INTER))
        for score, title in [("error_ratio", "Error ratio"), ("error_ratio_patch", "Error ratio per patch")]:
            rows.append(_row(config, dataset, title, "Y", ("reconstruction", score), **_OURS))
    return rows


def _imagenet_backbones(config: dict[str, Any], dataset: str) -> dict[str, str]:
    """Title of each backbone that was pre-trained on ImageNet, by its variant; the paper has one."""
    backbones = config["experiments"]["backbones"]
    found = [variant for variant in backbones if normalisation(config, dataset, variant) == "imagenet"]
    title = "AMAE-IN stage 1"
    return {variant: title if len(found) == 1 else f"{title} ({variant})" for variant in found}


def _variants(config: dict[str, Any], dataset: str, names: list[str]) -> list[Row]:
    """The main run and these variants, by every score of the reconstructions; tested against the main run's by it."""
    rows = []
    for score in ("inter", "mask_rec", "error_ratio", "error_ratio_patch"):
        main, scores = _title(score, ""), ("reconstruction", score)
        for v in ["", *names]:
            about = _whose(config, score, v) | {"reference": main}
            rows.append(_row(config, dataset, _title(score, v), "Y", scores, v, **about))
    return rows


def _title(score: str, variant: str) -> str:
    """A variant's row: its name and score; the main run by the paper's score is the paper's method."""
    return "AMAE stage 2" if (score, variant) == ("inter", "") else f"{variant or 'main'}: {score}"


def _whose(config: dict[str, Any], score: str, variant: str) -> dict[str, str]:
    """The paper's taxonomy for the paper's score; a score of this project's own is marked as such."""
    if score == "inter" and settings_of(config, variant)["pseudo_labels"].source == "stage1":
        return {"taxonomy": _taxonomy()["AMAE stage 2"]}
    return _OURS


def _masks(config: dict[str, Any], dataset: str) -> list[Row]:
    """The number of masks in training and in test."""
    return _variants(config, dataset, config["experiments"]["masks"])


def _decisions(config: dict[str, Any], dataset: str) -> list[Row]:
    """The decisions of the method that a reader would question."""
    return _variants(config, dataset, config["experiments"]["decisions"])


def _sweep(config: dict[str, Any], dataset: str) -> list[Row]:
    """Figure 3a: scores at every anomaly ratio; the main run stands for its own, and for methods that need no T_u."""
    main, rows, listed = anomaly_ratio(config, dataset), [], config["experiments"]["comparators"]
    without = {name: f"comparators/{name}_N" for name in ("ae", "mae_multi") if name in listed}
    for ratio in config["experiments"]["anomaly_ratios"]:
        at = {"variant": "" if ratio == main else f"ar{ratio:g}", "anomaly_ratio": ratio}
        ours = ("reconstruction", "error_ratio")
        rows.append(_row(config, dataset, "AMAE stage 2", "Y", _INTER, **at))
        rows.append(_row(config, dataset, "AMAE stage 1", "Y", _STAGE1, **at))
        rows.append(_row(config, dataset, "Error ratio (ours)", "Y", ours, **at, taxonomy="ours"))
        rows.append(_row(config, dataset, "AMAE Mask Rec.", "Y", _MASK_REC, **at))
        if "ddad" in listed:
            rows.append(_row(config, dataset, "DDAD-AE", "Y", ("comparators/ddad_Y", "ddad_inter"), **at))
        for name, folder in without.items():
            rows.append(_row(config, dataset, method_of(name).title, "N", (folder, name), anomaly_ratio=ratio))
    return rows


def _pseudo_labels(config: dict[str, Any], dataset: str) -> list[Row]:
    """Figure 3b: stage 2 without and with pseudo-labels."""
    without = {"modules": {"training_sets": "without"}}
    variant = next((name for name, changes in config["variants"].items() if changes == without), None)
    if variant is None:
        raise InputError(
            "key variants: figure 3b (experiments.figure3) shows a variant that changes modules.training_sets to "
            "without and nothing else, and there is none; add "
            " without_pseudo_labels: {modules: {training_sets: without}}"
        )
    title = "AMAE stage 2 without pseudo-labels"
    return [
        _row(config, dataset, title, "Y", _INTER, variant),
        _row(config, dataset, "AMAE stage 2", "Y", _INTER),
    ]


def _encoders(config: dict[str, Any], dataset: str) -> dict[str, str]:
    """Title of each frozen encoder by its variant, the main weights first."""
    weights = weights_of(config, dataset, "")
    main = "ViT-S MAE" if has_decoder(config, dataset) else title_of(weights)
    return {"": main} | {name: name for name in config["experiments"]["backbones"]}


def _figure3c(config: dict[str, Any], dataset: str) -> list[Row]:
    """Figure 3c: stage 1 with the main weights and with those of other backbones."""
    titles = _encoders(config, dataset).items()
    return [_row(config, dataset, title, "N", _STAGE1, variant, taxonomy="SSL") for variant, title in titles]


def _backbones(config: dict[str, Any], dataset: str) -> list[Row]:
    """Every encoder by stage 1 and by each comparator of its features; tested against the main encoder by the same."""
    rows, encoders = [], _encoders(config, dataset)
    for variant, title in encoders.items():
        rows.append(_row(config, dataset, f"{title}: stage 1", "N", _STAGE1, variant, taxonomy="SSL"))
        for name in ("knn", "mahalanobis", "pu_probe"):
            for protocol in protocols_of(config, dataset, name):
                about, scores = method_of(name), (f"comparators/{name}_{protocol}", name)
                label, main = f"{title}: {about.title}", f"{encoders['']}: {about.title}"
                rows.append(_row(config, dataset, label, protocol, scores, variant, **_OURS, reference=main))
    return rows


_ROWS = {
    "table2": _table2,
    "masks_ablation": _masks,
    "sensitivity": _decisions,
    "figure3a": _sweep,
    "figure3b": _pseudo_labels,
    "figure3c": _figure3c,
    "backbones": _backbones,
}
