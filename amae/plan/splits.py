"""Splits of a data set as options: every image that a run can need, or those of one variant."""

import shlex
from pathlib import Path
from typing import Any

from amae.plan.datasets import anomaly_ratio, named_splits
from amae.plan.paths import results_of
from amae.plan.variants import changes_of, options
from amae.runtime.errors import InputError
from amae.settings import PublishedSet, SplitSettings


def candidate_options(config: dict[str, Any], dataset: str) -> str:
    """Options of `amae list-images`: root folder and splits; the anomaly ratio is no matter, so it is 0."""
    splits = config["datasets"][dataset]["splits"]
    if splits and anomaly_ratio(config, dataset) is not None:
        splits = splits | {"anomaly_ratio": 0}
    return _table_options(config, dataset, splits)


def index_options(config: dict[str, Any], dataset: str, variant: str) -> str:
    """Options of `amae index`: root folder, and splits at a variant's anomaly ratio."""
    return _table_options(config, dataset, splits_of(config, dataset, variant))


def _table_options(config: dict[str, Any], dataset: str, splits: dict[str, Any] | None) -> str:
    named_splits(config, dataset)  # raises InputError where the table contradicts the configuration
    root = config["datasets"][dataset].get("root")
    words = ["--root", root] if root else []
    return f"{shlex.join(words)} {_split_options(splits)}".strip()


def _split_options(splits: dict[str, Any] | None) -> str:
    return options("splits", SplitSettings(**splits)) if splits else ""


def source_candidate_options(config: dict[str, Any], dataset: str) -> str:
    """Options of `amae list-images`: a published data set."""
    about = config["datasets"][dataset]
    return _source_options(config, dataset, about.get("splits"), about.get("anomaly_ratio"))


def source_index_options(config: dict[str, Any], dataset: str, variant: str) -> str:
    """Options of `amae index`: a published data set at a variant's anomaly ratio."""
    changed = changed_ratio(config, dataset, variant)
    ratio = changed.get("anomaly_ratio", config["datasets"][dataset].get("anomaly_ratio"))
    return _source_options(config, dataset, splits_of(config, dataset, variant), ratio)


def _source_options(config: dict[str, Any], dataset: str, splits: dict[str, Any] | None, ratio: float | None) -> str:
    source = published_set(config, dataset, None if splits else ratio)
    return f"{options('source', source)} {_split_options(splits)}".strip()


def published_set(config: dict[str, Any], dataset: str, ratio: float | None) -> PublishedSet:
    """A published data set as it is configured, at an anomaly ratio."""
    about = config["datasets"][dataset]
    keys = {"folder": about["folder"] or f"{results_of(config)}/sources/{about['kind']}"}
    keys |= {key: about[key] for key in ("repartition", "metadata") if about.get(key)}
    paths = {key: Path(path) for key, path in keys.items()}
    disjoint, sexes = about.get("patient_disjoint", False), tuple(about.get("sexes", ()))
    return PublishedSet(about["kind"], **paths, patient_disjoint=disjoint, sexes=sexes, anomaly_ratio=ratio)


def splits_of(config: dict[str, Any], dataset: str, variant: str) -> dict[str, Any] | None:
    """Splits at a variant's anomaly ratio; another one than the main run's may need the calibration images."""
    changed, splits = changed_ratio(config, dataset, variant), config["datasets"][dataset].get("splits")
    return splits | changed | {"calibration": 0} if changed and splits else splits


def setting_options(config: dict[str, Any], dataset: str, variant: str) -> str:
    """A variant's anomaly ratio, where it is known, and whether T_n and T_u may differ by more than it explains."""
    ratio = changed_ratio(config, dataset, variant).get("anomaly_ratio", anomaly_ratio(config, dataset))
    words = [] if ratio is None else [f"--anomaly-ratio {ratio}"]
    words += ["--accept-differences"] * bool(config["datasets"][dataset].get("accept_differences"))
    return " ".join(words)


def changed_ratio(config: dict[str, Any], dataset: str, variant: str) -> dict[str, float]:
    """The anomaly ratio that a variant changes, by its key; empty where it changes none.

    Raises InputError where T_u is not drawn by label: the images of another ratio would not be among those converted.
    """
    changed = {key: value for key, value in changes_of(config, variant).items() if key == "anomaly_ratio"}
    if changed and anomaly_ratio(config, dataset) is None:
        named = named_splits(config, dataset)
        why = "its table names the splits" if named else "its splits or its anomaly_ratio is null"
        raise InputError(
            f"variant {variant}: anomaly_ratio {changed['anomaly_ratio']:g} contradicts datasets.{dataset}, whose "
            f"unlabeled images are not drawn by label ({why}); leave out this variant and figure3a"
        )
    return changed
