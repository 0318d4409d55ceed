"""The systems that a run is compared with: protocols, settings, inputs, and where their scores and records lie."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from amae.comparators import methods
from amae.comparators.methods import code_of, method_of
from amae.comparators.settings import IgdSettings, check_ratio_masks
from amae.plan.datasets import has_stage2, has_unlabeled, named_splits
from amae.plan.paths import data_folder, is_made, of_every_seed, run_folder, variant_folder
from amae.plan.variants import architecture_of, options, owner, settings_of
from amae.plan.weights import RESNET18, fetched_file, has_decoder, weights_of
from amae.runtime.errors import InputError
from amae.settings import DetectorSettings, FineTunedSettings, from_mapping

MASK_REC = "mask_rec"  # the paper's baseline, which is AMAE's own autoencoder: shown wherever there is a T_u
MASK_REC_FOLDER = f"comparators/{MASK_REC}_Y"
# Sections whose settings a method takes over: of the run, or of another comparator.
SHARED = {
    **dict.fromkeys((MASK_REC, "mae_multi"), ("modules", "reconstruction")),
    "two_distributions": ("modules",),
    "detector_ratio": ("detector", "modules"),
}


def all_methods() -> tuple[str, ...]:
    """Names of all comparators, installed ones among them."""
    return tuple(methods.all_methods())


def protocols_of(config: dict[str, Any], dataset: str, method: str) -> dict[str, str]:
    """Protocols that a comparator can follow on a data set, each with the score to report."""
    follows_y = has_unlabeled(config, dataset)
    return {p: score for p, score in method_of(method).protocols.items() if p == "N" or follows_y}


def compared_systems(config: dict[str, Any], dataset: str) -> list[tuple[str, str, str]]:
    """Method, protocol and score of every configured comparator on a data set; Mask Rec. is not among them.

    Nor are those that need a decoder where the weights have none.
    """
    names = [name for name in config["experiments"]["comparators"] if name != MASK_REC]
    if not has_decoder(config, dataset):
        names = [name for name in names if "autoencoder" not in method_of(name).needs]
    return [(m, p, score) for m in names for p, score in protocols_of(config, dataset, m).items()]


def needed_lungs(config: dict[str, Any], dataset: str, method: str) -> str | list:
    """The lung masks, where the method needs them."""
    return f"{data_folder(config, dataset)}/lungs.npy" if "lungs" in method_of(method).needs else []


def needed_weights(config: dict[str, Any], dataset: str, variant: str, method: str) -> str | list:
    """The autoencoder, where the method needs it: the variant's own, or the main run's that it shares.

    Raises InputError where it needs a decoder and the weights have none, and as `_check_sizes` does.
    """
    if "autoencoder" in method_of(method).needs and not has_decoder(config, dataset, variant):
        raise InputError(
            f"data set {dataset}: weights {weights_of(config, dataset, variant)} are an encoder without decoder, which "
            f"{method} needs; leave {method} out"
        )
    _check_sizes(config, dataset, variant, method)
    folder = variant_folder(owner(config, variant, "weights"))
    needs = method_of(method).needs & {"encoder", "autoencoder"}
    return f"{data_folder(config, dataset)}/{folder}mae.safetensors" if needs else []


def _check_sizes(config: dict[str, Any], dataset: str, variant: str, method: str) -> None:
    """Raise InputError where a method's masks do not fit the patches, or T_n or T_u is smaller than its folds."""
    if method in ("two_distributions", "detector_ratio"):
        check_ratio_masks(architecture_of(settings_of(config, variant)))
    name = "detector" if method == "detector_ratio" else method
    if isinstance(own_settings(config, name), DetectorSettings | FineTunedSettings):
        check_folds(config, dataset, name)


def check_folds(config: dict[str, Any], dataset: str, name: str) -> None:
    """Raise InputError where T_n or T_u is smaller than the folds of a comparator.

    Of a table that names the splits the patients count, as in `folds_of`; of sets to draw, the images.
    """
    settings, about, named = own_settings(config, name), config["datasets"][dataset], named_splits(config, dataset)
    for key, split in (("train_normal", "train_normal"), ("unlabeled", "train_unlabeled")):
        found = named.get(split) if named else (about.get("splits") or {}).get(key)
        if found is not None and found < settings.folds:
            where = f"key datasets.{dataset}.splits.{key}: found {found}"
            if named:
                where = f"{about['table']}: split {split}: found images of {found} patients"
            raise InputError(
                f"{where}, expected at least {settings.folds}, as many as presets.{config['preset']}.comparators.{name}"
                ".folds"
            )


def needed_backbone(config: dict[str, Any], method: str) -> str | list:
    """The ResNet-18 of ImageNet, where the method's settings ask for it: a person's file, or the one to fetch."""
    settings = own_settings(config, method)
    if not isinstance(settings, IgdSettings) or not settings.pretrained:
        return []
    if settings.backbone and not is_made(config, settings.backbone) and not Path(settings.backbone).is_file():
        key = f"presets.{config['preset']}.comparators.{method}.backbone"
        raise InputError(f"key {key}: {settings.backbone}: no such file")
    return settings.backbone or fetched_file(config, RESNET18)


def own_settings(config: dict[str, Any], method: str) -> Any:
    """The preset's settings of a comparator; None where it shares the run's."""
    if method in SHARED:
        return None
    given = config["presets"][config["preset"]].get("comparators", {}).get(method, {})
    return from_mapping(method_of(method).settings, given)


def method_settings(config: dict[str, Any], variant: str, method: str) -> str:
    """The settings of a comparator as command-line options: those that it shares, else the preset's."""
    if method in SHARED:
        run = settings_of(config, variant)
        return " ".join(options(name, run.get(name) or own_settings(config, name)) for name in SHARED[method])
    settings = own_settings(config, method)
    if backbone := needed_backbone(config, method):
        settings = dataclasses.replace(settings, backbone=backbone)
    return options(methods.section(method), settings)


def method_code(_: dict[str, Any], method: str) -> list[str]:
    """Fingerprints of the code that trains and scores a comparator; those of other comparators play no part."""
    return code_of(method)


def _parts(config: dict[str, Any], dataset: str) -> list[str]:
    """Folders, in that of a replicate, with the scores of every system that the main run is compared with."""
    systems = [f"comparators/{method}_{protocol}" for method, protocol, _ in compared_systems(config, dataset)]
    return [*systems, *[MASK_REC_FOLDER] * has_stage2(config, dataset), "stage1"]


def compared_scores(config: dict[str, Any], dataset: str, variant: str, seed: str) -> list[str]:
    """Tables of scores of every system that a replicate is compared with."""
    folder = run_folder(config, dataset, variant_folder(variant), seed)
    return [f"{folder}/{part}/scores.csv" for part in _parts(config, dataset)]


def audited_scores(config: dict[str, Any], dataset: str) -> list[str]:
    """Tables of scores of every method of the main run, one seed after another; the audit has the view by itself."""
    parts = ["reconstruction"] * has_stage2(config, dataset)
    parts += [part for part in _parts(config, dataset) if not part.startswith("comparators/view_only_")]
    folders = [run_folder(config, dataset, "", seed) for seed in config["seeds"]]
    return [f"{folder}/{part}/scores.csv" for folder in folders for part in parts]


def records(config: dict[str, Any], dataset: str) -> dict[str, list[str]]:
    """Records of all jobs of the main run, by method; the pre-training is shared by those that start from f_0."""
    parts = {"AMAE stage 1": ["stage1"]}
    if has_stage2(config, dataset):
        parts["AMAE stage 2, after stage 1"] = ["module_A", "module_B", "reconstruction"]
        parts["AMAE Mask Rec."] = [MASK_REC_FOLDER]
    for method, protocol, _ in compared_systems(config, dataset):
        parts[f"{method_of(method).title} ({protocol})"] = [f"comparators/{method}_{protocol}"]
    files = {
        title: [path for part in names for path in of_every_seed(config, dataset, "", f"{part}/run.json")]
        for title, names in parts.items()
    }
    if config["datasets"][dataset]["weights"] == "pretrain":
        files = {"Pre-training, once": [f"{data_folder(config, dataset)}/pretraining/run.json"]} | files
    return files


def record_files(config: dict[str, Any], dataset: str) -> list[str]:
    """The records behind the table of costs."""
    return [file for files in records(config, dataset).values() for file in files]


def records_option(config: dict[str, Any], dataset: str) -> str:
    """The records by method, as JSON."""
    return json.dumps(records(config, dataset))
