"""Folders and files of a run, as text."""

from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]
PUBLISHED = f"{PACKAGE}/evaluation/published.csv"
CATALOGUE = f"{PACKAGE}/sources/sources.csv"


def results_of(config: dict[str, Any]) -> str:
    """Folder of everything that is computed, without a slash at its end."""
    return config["results"].rstrip("/")


def data_folder(config: dict[str, Any], dataset: str) -> str:
    """Folder of a data set."""
    return f"{results_of(config)}/{dataset}"


def variant_folder(variant: str) -> str:
    """Folder of a variant in that of a data set, with a slash at its end; "" for the main run."""
    return f"{variant}/" if variant else ""


def run_folder(config: dict[str, Any], dataset: str, folder: str, seed: Any) -> str:
    """Folder of a replicate; `folder` is that of its variant, by `variant_folder`."""
    return f"{data_folder(config, dataset)}/{folder}seed{seed}"


def of_every_seed(config: dict[str, Any], dataset: str, variant: str, file: str) -> list[str]:
    """A file of every configured replicate, in the order of the seeds."""
    folder = variant_folder(variant)
    return [f"{run_folder(config, dataset, folder, seed)}/{file}" for seed in config["seeds"]]


def is_made(config: dict[str, Any], path: str | Path) -> bool:
    """True for a file that the workflow makes: one in the folder of results."""
    return Path(path).is_relative_to(results_of(config))
