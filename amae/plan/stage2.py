"""Inputs and outputs of stage 2, where a data set has unlabeled images."""

from collections.abc import Sequence
from typing import Any

from amae.plan.datasets import has_unlabeled
from amae.plan.paths import run_folder, variant_folder
from amae.plan.variants import owner, settings_of
from amae.runtime.errors import InputError

_RANKING = {"stage1": "stage1_scores", "probe": "probe_scores"}  # the stage behind each source of pseudo-labels


def files(config: dict[str, Any], dataset: str, variant: str, seed: str, names: Sequence[str]) -> list[str]:
    """These files of a replicate; none where the data set has no unlabeled images."""
    folder = run_folder(config, dataset, variant_folder(variant), seed)
    return [f"{folder}/{name}" for name in names] if has_unlabeled(config, dataset) else []


def detector_scores(config: dict[str, Any], dataset: str, variant: str, seed: str) -> list[str]:
    """The detector's scores of the main run: a variant of AMAE's settings would have the same ones."""
    return [] if variant else files(config, dataset, variant, seed, ["comparators/detector_Y/scores.csv"])


def ranking(config: dict[str, Any], dataset: str, variant: str, seed: str) -> str:
    """The table of probabilities that rank T_u for pseudo-labels: of stage 1, as in the paper, or of the probe.

    Raises InputError where there is no T_u.
    """
    if not has_unlabeled(config, dataset):
        raise InputError(
            f"data set {dataset} has no unlabeled images, so stage 2 and what needs it (the trained model, "
            "predictions, localisation) cannot be made; give it some, or ask for other targets"
        )
    source = settings_of(config, variant)["pseudo_labels"].source
    made_by = owner(config, variant, _RANKING[source])
    return f"{run_folder(config, dataset, variant_folder(made_by), seed)}/{source}/scores.csv"
