"""Files of the targets: of the configured data set, and of the experiments."""

import sys
from collections.abc import Sequence
from typing import Any

from amae.plan.datasets import has_stage2, require_sets
from amae.plan.paths import data_folder, of_every_seed

IMAGES = ("images.npy", "contact_sheet.png", "lungs.png")
OVER_SEEDS = ("overview.html", "summary.html", "roc.png", "precision_recall.png")
PER_SEED = ("training.png", "histograms.png", "sensitivity.png", "metrics.html")
# What only stage 2 makes possible; without it, stage 1 is compared with the other methods.
OF_STAGE2 = ("pseudo_labels.png", "gallery", "model.safetensors", "separation.html")
WITHOUT_STAGE2 = ("comparison.html",)
# Tables that the report shows, by their names in the folder of a data set: those of a run, and of the experiments.
SHOWN_TABLES = r"(?:.+/)?(?:summary|metrics|separation|comparison|localisation)|tables/[a-z0-9_]+"


def of_dataset(config: dict[str, Any], names: Sequence[str]) -> list[str]:
    """Files of the configured data set."""
    return [f"{data_folder(config, config['dataset'])}/{name}" for name in names]


def of_replicates(config: dict[str, Any], names: Sequence[str]) -> list[str]:
    """Files of every replicate of the main run on the configured data set."""
    return [path for name in names for path in of_every_seed(config, config["dataset"], "", name)]


def over_seeds(config: dict[str, Any]) -> list[str]:
    """The model of all seeds of the main run; none where there is one seed."""
    return of_dataset(config, ["model.safetensors"] * (len(config["seeds"]) > 1))


def everything(config: dict[str, Any]) -> list[str]:
    """Files of the default target. Raises InputError where T_n or the test set has no image."""
    require_sets(config, config["dataset"])
    last = OF_STAGE2 if has_stage2(config, config["dataset"]) else WITHOUT_STAGE2
    return of_dataset(config, [*IMAGES, *OVER_SEEDS]) + of_replicates(config, [*PER_SEED, *last])


def of_experiment(config: dict[str, Any], key: str, names: Sequence[str], stage2: bool = False) -> list[str]:
    """Files of every data set of `experiments.key`; with `stage2`, of those that have a stage 2."""
    chosen = with_stage2(config, key) if stage2 else config["experiments"][key]
    return [f"{data_folder(config, each)}/{name}" for each in chosen for name in names]


def with_stage2(config: dict[str, Any], key: str) -> list[str]:
    """The data sets of `experiments.key` that have a stage 2; a line names the others."""
    left_out = [each for each in config["experiments"][key] if not has_stage2(config, each)]
    if left_out:
        print(f"note: experiments.{key}: {', '.join(left_out)} left out, without a stage 2", file=sys.stderr)
    return [each for each in config["experiments"][key] if each not in left_out]


def category_of(_: dict[str, Any], shown: str) -> str:
    """The part of the report that a table belongs to."""
    return "5 Experiments" if shown.startswith("tables/") or shown.endswith("localisation") else "4 Results"


def localisation(config: dict[str, Any]) -> list[str]:
    """Table and figure of every replicate on the data sets of the localisation that have a stage 2."""
    chosen, names = with_stage2(config, "localisation"), ("localisation.html", "localisation.png")
    return [path for each in chosen for name in names for path in of_every_seed(config, each, "", name)]
