"""Models of one data set on the test images of another: which pairs are measured, and where their scores lie."""

import json
from typing import Any

from amae.plan.datasets import has_stage2
from amae.plan.paths import data_folder, results_of
from amae.plan.stage2 import model_for

Pair = tuple[str, str]  # trained on, tested on


def folders_of_pairs(config: dict[str, Any]) -> dict[Pair, list[str]]:
    """Folders of the evaluations of each pair of data sets of `experiments.transfer`, one for each seed.

    A data set without stage 2 has no model, but is tested on.
    """
    chosen = config["experiments"]["transfer"]
    return {
        (trained, tested): [f"{data_folder(config, tested)}/transfer/{trained}_seed{seed}" for seed in config["seeds"]]
        for trained in chosen
        if has_stage2(config, trained)
        for tested in chosen
    }


def model_of(config: dict[str, Any], trained: str, seed: str) -> str | list:
    """The trained model of a data set. Raises InputError as `stage2.model_for`."""
    return model_for(config, trained, "", seed, "predict")


def folders(config: dict[str, Any]) -> list[str]:
    """Folders of all evaluations."""
    return [folder for of_pair in folders_of_pairs(config).values() for folder in of_pair]


def evaluations_option(config: dict[str, Any]) -> str:
    """The tables of scores of each pair, as JSON."""
    return json.dumps(
        [
            {"trained": trained, "tested": tested, "scores": [f"{folder}/scores.csv" for folder in of_pair]}
            for (trained, tested), of_pair in folders_of_pairs(config).items()
        ]
    )


def matrix(config: dict[str, Any]) -> list[str]:
    """The matrix, where a data set to train on is configured."""
    return [f"{results_of(config)}/transfer.md"] if folders_of_pairs(config) else []
