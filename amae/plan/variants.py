"""Variants of the main run: the settings of each, and which stages it shares with the main run."""

import dataclasses
import shlex
from typing import Any

from amae.mae.architecture import Architecture
from amae.runtime.errors import InputError
from amae.settings import SECTIONS

# What a stage depends on, of what a variant can change: a stage that is the same is made once, in the main run.
_MANIFEST, _WEIGHTS = {"anomaly_ratio"}, {"weights"}
_STAGE1 = _WEIGHTS | {"stage1"}
_PSEUDO_LABELS = _MANIFEST | _STAGE1 | {"pseudo_labels"}
DEPENDS = {
    "manifest": _MANIFEST,
    "weights": _WEIGHTS,
    "stage1": _STAGE1,
    "stage1_scores": _MANIFEST | _STAGE1,
    "probe_scores": _MANIFEST | _WEIGHTS,
    "detector_scores": _MANIFEST,
    "pseudo_labels": _PSEUDO_LABELS,
    "modules": _PSEUDO_LABELS | {"modules"},
}


def all_variants(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Changes of each variant, by name; the main run, "", changes nothing."""
    sweep = {f"ar{ratio:g}": {"anomaly_ratio": ratio} for ratio in config["experiments"]["anomaly_ratios"]}
    return {"": {}, **config["variants"], **sweep}


def changes_of(config: dict[str, Any], variant: str) -> dict[str, Any]:
    """Changes of a variant."""
    return all_variants(config)[variant]


def owner(config: dict[str, Any], variant: str, stage: str) -> str:
    """The run that makes a stage for a variant: the variant where it changes what the stage depends on, else ""."""
    return variant if changes_of(config, variant).keys() & DEPENDS[stage] else ""


def settings_of(config: dict[str, Any], variant: str) -> dict[str, Any]:
    """Settings of a variant by section. Raises InputError, naming variant and keys, on contradiction."""
    try:
        return resolve(config, changes_of(config, variant))
    except InputError as error:
        raise InputError(f"variant {variant}: {error}" if variant else str(error)) from None


def options_of(config: dict[str, Any], variant: str, section: str) -> str:
    """One section of a variant's settings as command-line options."""
    return options(section, settings_of(config, variant)[section])


def resolve(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Settings by section: the preset, the overrides, then a variant's changes.

    Raises InputError, naming the keys, on contradiction.
    """
    preset, overrides = config["presets"][config["preset"]], config["overrides"]
    settings = {}
    for name, kind in SECTIONS.items():
        try:
            settings[name] = kind(**preset.get(name, {}) | overrides.get(name, {}) | changes.get(name, {}))
        except InputError as error:
            raise InputError(f"key {name}.{error}") from None
    sizes, reconstruction = architecture_of(settings), settings["reconstruction"]
    try:
        reconstruction.check_patches(sizes.patches, sizes.visible(reconstruction.mask_ratio))
    except InputError as error:
        raise InputError(f"key reconstruction.{error}") from None
    return settings


def architecture_of(settings: dict[str, Any]) -> Architecture:
    """Sizes of the autoencoder by settings by section. Raises InputError, naming both keys, on contradiction."""
    return Architecture(**dataclasses.asdict(settings["mae"]))


def options(section: str, settings: Any) -> str:
    """Settings as command-line options, quoted for a shell: `--modules.epochs 30 --modules.lr 0.00025`.

    A setting that is None or empty has no option where that is its default; None is `null` where there is no default.
    """
    words = []
    for field in dataclasses.fields(settings):
        value, option = getattr(settings, field.name), f"--{section}.{field.name}".replace("_", "-")
        if value in (None, ()) and value == field.default:
            continue
        if isinstance(value, bool):
            words.append(option if value else option.replace(".", ".no-"))
        else:
            values = value if isinstance(value, tuple) else [value]
            words += [option, *("null" if each is None else str(each) for each in values)]
    return shlex.join(words)
