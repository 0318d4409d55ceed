"""Inputs and outputs of stage 2, where a data set has unlabeled images and weights with a decoder."""

import sys
from collections.abc import Sequence
from typing import Any

from amae.comparators.methods import all_methods
from amae.plan.compared import check_folds
from amae.plan.datasets import has_stage2, has_unlabeled, marks_calibration
from amae.plan.paths import run_folder, variant_folder
from amae.plan.splits import splits_of
from amae.plan.variants import owner, settings_of
from amae.plan.weights import has_decoder, weights_of
from amae.runtime.errors import InputError

# The stage behind each source of pseudo-labels.
_RANKING = {"stage1": "stage1_scores", "probe": "probe_scores", "detector": "detector_scores"}


def files(config: dict[str, Any], dataset: str, variant: str, seed: str, names: Sequence[str]) -> list[str]:
    """These files of a replicate; none where stage 2 cannot be made."""
    folder = run_folder(config, dataset, variant_folder(variant), seed)
    return [f"{folder}/{name}" for name in names] if has_stage2(config, dataset, variant) else []


def detector_scores(config: dict[str, Any], dataset: str, variant: str, seed: str) -> list[str]:
    """The detector's scores of the main run: a variant of AMAE's settings would have the same ones."""
    if variant or not has_unlabeled(config, dataset):
        return []
    return [f"{run_folder(config, dataset, '', seed)}/comparators/detector_Y/scores.csv"]


def model_for(config: dict[str, Any], dataset: str, variant: str, seed: str, key: str) -> str | list:
    """The trained model behind the score of `gallery` or `predict` (`key`); the gallery needs it for auto alone.

    Raises InputError for auto where no image is held out for calibration: auto compares T_u with these.
    """
    auto, drawn = config[key]["score"] == "auto", splits_of(config, dataset, variant) or {}
    if auto and not drawn.get("calibration", 0) and not marks_calibration(config, dataset):
        drawing = f"datasets.{dataset}.splits.calibration of at least 1, or " if drawn else ""
        raise InputError(
            f"key {key}.score: found auto, which needs calibration images, and data set {dataset} has none; expected "
            f"{drawing}another score"
        )
    model = f"{run_folder(config, dataset, variant_folder(variant), seed)}/model.safetensors"
    return model if auto or key == "predict" else []


def ranking(config: dict[str, Any], dataset: str, variant: str, seed: str) -> str:
    """The table of probabilities that rank T_u for pseudo-labels: of stage 1, as in the paper, or of ours.

    Raises InputError where there is no T_u, for weights without decoder, and for fewer images than folds of the probe.
    """
    if not has_unlabeled(config, dataset):
        raise InputError(
            f"data set {dataset} has no unlabeled images, so stage 2 and what needs it (the trained model, "
            "predictions, localisation) cannot be made; give it some, or ask for other targets"
        )
    if not has_decoder(config, dataset, variant):
        raise InputError(f"{_about(config, dataset, variant)} cannot be made; ask for other targets")
    source = settings_of(config, variant)["pseudo_labels"].source
    if source == "probe":
        check_folds(config, dataset, "pu_probe")
    made_by = owner(config, variant, _RANKING[source])
    return f"{run_folder(config, dataset, variant_folder(made_by), seed)}/{source}/scores.csv"


def note_encoders(config: dict[str, Any]) -> None:
    """Report each data set of the run whose tables and figures lack stage 2 because its weights have no decoder."""
    asked = [config["experiments"][key] for key in ("table2", "figure3", "audit", "localisation")]
    for dataset in dict.fromkeys([config["dataset"], *(name for names in asked for name in names)]):
        if not has_decoder(config, dataset):
            print(f"note: {_about(config, dataset, '')} are left out", file=sys.stderr)


def _about(config: dict[str, Any], dataset: str, variant: str) -> str:
    of, weights = (
        f"data set {dataset}" + (f", variant {variant}" if variant else ""),
        weights_of(config, dataset, variant),
    )
    names = [name for name, method in all_methods().items() if "autoencoder" in method.needs]
    return (
        f"{of}: weights {weights} are an encoder without decoder, so stage 2 and what needs it (the trained model, "
        f"predictions, localisation), {', '.join(names[:-1])} and {names[-1]}"
    )
