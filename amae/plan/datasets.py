"""Data sets: where their files lie, and whether they have unlabeled images."""

import shlex
from functools import cache
from pathlib import Path
from typing import Any

from amae.data.manifest import check_draw, given_splits
from amae.plan.paths import data_folder, is_made, results_of
from amae.plan.weights import CATALOGUED, has_decoder, timm_encoder
from amae.runtime.errors import InputError
from amae.settings import SplitSettings

OWN_DEFAULTS = {"conversion": "voi"}  # of a data set of kind own
BENCHMARKS = ("rsna", "vindr", "nih")  # kinds for which the papers print values
PUBLISHED_KINDS = (*BENCHMARKS, "paediatric")
_OWN_FILES = ("table", "root", "boxes", "folder", "repartition", "metadata", "weights")


def names_of_kind(config: dict[str, Any], *kinds: str) -> list[str]:
    """Names of the data sets of these kinds."""
    return [name for name, about in config["datasets"].items() if about["kind"] in kinds]


def check_dataset(config: dict[str, Any], dataset: str) -> None:
    """Raise InputError for a file or folder that a data set's keys name and that is missing."""
    for key in _OWN_FILES:
        given = config["datasets"][dataset].get(key)
        if key == "weights" and (found := timm_encoder(given)):
            given = found[1]
        if not given or (key == "weights" and given in ("embedded", "pretrain", *CATALOGUED)):
            continue
        if not is_made(config, given) and not Path(given).exists():
            raise InputError(f"key datasets.{dataset}.{key}: {given}: no such file or folder")


_given_splits, _check_draw = cache(given_splits), cache(check_draw)  # a table is read once in a run


def named_splits(config: dict[str, Any], dataset: str) -> dict[str, int]:
    """Patients in each split that the table of own data names itself, calibration aside; none where they are drawn.

    Raises InputError where the table names splits and `splits` draws them as well (one of the two would be ignored),
    where neither does, and where the table cannot give what `splits` asks for.
    """
    about = config["datasets"][dataset]
    if about["kind"] != "own" or not Path(about["table"]).is_file():
        return {}
    named = {name: count for name, count in _given_splits(about["table"]).items() if name != "calibration"}
    if named and about["splits"]:
        raise InputError(
            f"key datasets.{dataset}.splits: {about['table']} names the splits itself, in its column split; set "
            "splits: null, or empty the column (calibration may stay)"
        )
    if not named and not about["splits"]:
        raise InputError(
            f"key datasets.{dataset}.splits: null, and {about['table']} has no column split with entries; expected one "
            "of the two"
        )
    if about["splits"]:
        _check_draw(about["table"], about["root"], SplitSettings(**about["splits"]))
    return named


def marks_calibration(config: dict[str, Any], dataset: str) -> bool:
    """True where the table of a data set marks calibration images (simulated: it does), or is still to be made."""
    about = config["datasets"][dataset]
    if about["kind"] == "simulated":
        return calibration_images(config, dataset) > 0
    if about["kind"] != "own":
        return False
    return not Path(about["table"]).is_file() or "calibration" in _given_splits(about["table"])


def require_sets(config: dict[str, Any], dataset: str) -> None:
    """Raise InputError for a table of own data that names splits, but no row of train_normal or none of test."""
    named = named_splits(config, dataset)
    for name in ("train_normal", "test"):
        if named and name not in named:
            table, found = config["datasets"][dataset]["table"], ", ".join(sorted(named))
            raise InputError(f"{table}: no row has the split {name} (found: {found}); expected some")


def anomaly_ratio(config: dict[str, Any], dataset: str) -> float | None:
    """Share of T_u that the main run draws from abnormal images; None where T_u is not drawn by label."""
    named_splits(config, dataset)
    about = config["datasets"][dataset]
    return about.get("anomaly_ratio", (about.get("splits") or {}).get("anomaly_ratio"))


def ratio_option(config: dict[str, Any], dataset: str) -> str:
    """The main run's anomaly ratio as an option, where there is one."""
    ratio = anomaly_ratio(config, dataset)
    return "" if ratio is None else f"--anomaly-ratio {ratio}"


def noise_option(config: dict[str, Any], dataset: str) -> str:
    """The abnormal share of T_n that a person states, as an option, where it is any."""
    noise = config["datasets"][dataset].get("normal_noise", 0)
    return f"--normal-noise {noise}" if noise else ""


def has_unlabeled(config: dict[str, Any], dataset: str) -> bool:
    """True where a data set has unlabeled images, so that protocol Y can be followed."""
    about = config["datasets"][dataset]
    if named := named_splits(config, dataset):
        return "train_unlabeled" in named
    return about["kind"] not in BENCHMARKS or about["anomaly_ratio"] is not None


def has_stage2(config: dict[str, Any], dataset: str, variant: str = "") -> bool:
    """True where stage 2 can be made: there are unlabeled images, and the weights have a decoder."""
    return has_unlabeled(config, dataset) and has_decoder(config, dataset, variant)


def images_table(config: dict[str, Any], dataset: str) -> str:
    """The table that a data set starts from: simulated, or a person's own."""
    return config["datasets"][dataset].get("table") or f"{data_folder(config, dataset)}/raw/labels.csv"


def raw_images(config: dict[str, Any], dataset: str) -> str | list:
    """The folder of simulated DICOM files; other images are named by the manifest alone."""
    simulated = config["datasets"][dataset]["kind"] == "simulated"
    return f"{data_folder(config, dataset)}/raw/dicom" if simulated else []


def boxes_table(config: dict[str, Any], dataset: str) -> str | list:
    """The table of finding boxes, where a data set has one; that of a published one may be empty."""
    about, folder = config["datasets"][dataset], data_folder(config, dataset)
    if about["kind"] == "own":
        return about.get("boxes") or []
    return f"{folder}/raw/boxes.csv" if about["kind"] == "simulated" else f"{folder}/boxes.csv"


def fetched_record(config: dict[str, Any], dataset: str) -> str | list:
    """The record of what was fetched for a published data set; nothing where a folder is given."""
    about = config["datasets"][dataset]
    return [] if about["folder"] else f"{results_of(config)}/sources/{about['kind']}/fetched"


def calibration_images(config: dict[str, Any], dataset: str) -> int:
    """Normal images to simulate for calibration, on top of the others."""
    return config["datasets"][dataset]["splits"].get("calibration", 0)


def printed_kind(config: dict[str, Any], dataset: str) -> str:
    """The kind whose printed values stand beside the results: none for a data set of one sex."""
    about = config["datasets"][dataset]
    return "none" if len(about.get("sexes", ())) == 1 else about["kind"]


def quoted(config: dict[str, Any], dataset: str, key: str) -> str:
    """One key of a data set's configuration, quoted for the shell."""
    return shlex.quote(str((OWN_DEFAULTS | config["datasets"][dataset])[key]))
