"""Weights of f_0 and g_0: which are configured, the file that they are read from, and how they were normalised."""

import dataclasses
import re
from pathlib import Path
from typing import Any

from amae.mae.architecture import TIMM
from amae.plan.paths import PACKAGE, data_folder, results_of
from amae.plan.variants import changes_of, options_of, settings_of
from amae.runtime.errors import InputError
from amae.settings import WEIGHTS_SIZES, ModelSettings
from amae.sources.catalogue import catalogue

FETCHED = {source.name: source.file for source in catalogue() if source.dataset == "weights"}
RESNET18 = FETCHED["weights-resnet18-imagenet"]  # for a comparator; the others can be f_0
CATALOGUED = {name: file for name, file in FETCHED.items() if file != RESNET18}
IMAGENET = CATALOGUED["weights-vit-s-imagenet"]
# By name, or as files of one's own: those that were pre-trained on the images of Medical-MAE's list.
CHEST = {word for pair in CATALOGUED.items() if pair[1] != IMAGENET for word in pair}
_DENSENETS = {word for pair in CATALOGUED.items() if "densenet" in pair[0] for word in pair}


def weights_of(config: dict[str, Any], dataset: str, variant: str) -> str:
    """The weights that are configured: a name or a path."""
    return changes_of(config, variant).get("weights") or config["datasets"][dataset]["weights"]


def timm_encoder(weights: str) -> tuple[str, str] | None:
    """Name and file of `timm:NAME` or `timm:NAME@FILE`, the file "" for the hub's; None for other weights.

    Raises InputError for another form. timm itself, which a plan does not load, checks the name in the job.
    """
    if not weights.startswith(TIMM):
        return None
    name, at, file = weights.removeprefix(TIMM).partition("@")
    if not re.fullmatch(r"\w+(\.\w+)?", name) or bool(at) != bool(file):
        raise InputError(f"weights {weights}: expected timm:NAME or timm:NAME@FILE, with a name of timm's")
    return name, file


def title_of(weights: str) -> str:
    """Weights in a caption: a name as it is, and a path by the file's name."""
    return f"{TIMM}{found[0]}" if (found := timm_encoder(weights)) else Path(weights).name


def has_decoder(config: dict[str, Any], dataset: str, variant: str = "") -> bool:
    """False for weights that are known to be an encoder alone: timm's, and the DenseNets of the catalogue."""
    weights = weights_of(config, dataset, variant)
    return timm_encoder(weights) is None and Path(weights).name not in _DENSENETS


def fetched_encoders(config: dict[str, Any]) -> list[str]:
    """Names of timm's networks whose weights are configured to come from the hub."""
    named = [each.get("weights", "") for table in ("datasets", "variants") for each in config[table].values()]
    return sorted({found[0] for weights in named if (found := timm_encoder(weights)) and not found[1]})


def weights_file(config: dict[str, Any], dataset: str, variant: str) -> str:
    """The file that f_0 and g_0 are read from."""
    weights = weights_of(config, dataset, variant)
    if found := timm_encoder(weights):
        return found[1] or fetched_file(config, f"timm/{found[0]}.safetensors")
    if weights == "embedded":
        return f"{PACKAGE}/mae/embedded.safetensors"
    if weights in CATALOGUED:
        return fetched_file(config, CATALOGUED[weights])
    return f"{data_folder(config, dataset)}/pretraining/mae.safetensors" if weights == "pretrain" else weights


def fetched_file(config: dict[str, Any], file: str) -> str:
    """Place of a file of published weights."""
    return f"{results_of(config)}/sources/weights/{file}"


def name_of_file(_: dict[str, Any], file: str) -> str:
    """The name in the catalogue of a file of published weights."""
    return next(name for name, each in FETCHED.items() if each == file)


def normalisation(config: dict[str, Any], dataset: str, variant: str) -> str:
    """Mean and std of the images in the pre-training, by name: imagenet or chest.

    ImageNet's weights are known by their file; a variant names its own. A network of timm brings its own: InputError
    for a variant that names one beside it.
    """
    named = changes_of(config, variant).get("normalisation")
    if named and timm_encoder(weights := weights_of(config, dataset, variant)):
        raise InputError(f"variant {variant}: normalisation {named} contradicts weights {weights}: timm has their own")
    if Path(weights_file(config, dataset, variant)).name == IMAGENET:
        return "imagenet"
    return named or "chest"


def origin_option(config: dict[str, Any], dataset: str, variant: str) -> str:
    """What the file itself leaves open, as an option: the network of timm, or the mean and std of other weights."""
    named = normalisation(config, dataset, variant)
    found = timm_encoder(weights_of(config, dataset, variant))
    return f"--encoder {found[0]}" if found else f"--normalisation {named}"


def sizes_options(config: dict[str, Any], dataset: str, variant: str) -> str:
    """The configured sizes as options. Raises InputError for named weights of other sizes."""
    try:
        check_weights(weights_of(config, dataset, variant), settings_of(config, "")["mae"])
    except InputError as error:
        if variant:
            raise InputError(f"data set {dataset}, variant {variant}: {error}, or leave the variant out") from None
        other = "" if dataset == config["dataset"] else ", or name other data sets for this target in experiments"
        raise InputError(f"data set {dataset}: {error}{other}") from None
    return options_of(config, "", "mae")


def check_weights(weights: str, sizes: ModelSettings) -> None:
    """Raise InputError where weights that have a name are of other sizes than those that are configured."""
    if (own := WEIGHTS_SIZES.get(weights, sizes)) == sizes:
        return
    pairs = zip(dataclasses.asdict(own).items(), dataclasses.asdict(sizes).values(), strict=True)
    wrong = ", ".join(f"mae.{name} {size} (configured: {found})" for (name, size), found in pairs if size != found)
    raise InputError(f"weights {weights}: they have {wrong}; choose the preset that fits, or weights: pretrain")


def exposure_option(config: dict[str, Any], dataset: str) -> str:
    """--exposure for Medical-MAE's chest files, whose pre-training list names the images that they have seen."""
    return "--exposure" if Path(config["datasets"][dataset]["weights"]).name in CHEST else ""
