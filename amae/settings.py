"""Every setting of the method: its type, default, range and meaning, in one place.

The defaults are the paper's values. The command line builds its options from these classes, the workflow its schema,
page of keys and check of the configuration, so they cannot drift apart.
"""

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, TypeVar

from amae.runtime.errors import InputError

Settings = TypeVar("Settings")


def setting(
    default: Any,
    meaning: str,
    minimum: float | None = None,
    maximum: float | None = None,
    choices=(),
    multiple_of: int = 1,
) -> Any:
    """A field with its meaning and limits."""
    about = {"minimum": minimum, "maximum": maximum, "choices": choices, "multiple_of": multiple_of}
    return dataclasses.field(default=default, metadata={"description": meaning, **about})


def limits(field: dataclasses.Field) -> str:
    """Range of a setting in words: `0.05 to 0.95`, `at least 1`, or "" where any value will do."""
    low, high = field.metadata["minimum"], field.metadata["maximum"]
    found = " to ".join(f"{each:g}" for each in (low, high) if each is not None)
    return f"at least {found}" if found and high is None else found


class Checked:
    """Refuses a value outside its limits when an instance is made."""

    def __post_init__(self) -> None:
        """Check each field against its own limits; subclasses add conditions between fields."""
        for field in dataclasses.fields(self):
            value, meta = getattr(self, field.name), field.metadata
            if meta["choices"] and value not in meta["choices"]:
                raise InputError(f"{field.name}: found {value!r}, expected one of {', '.join(meta['choices'])}")
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError(f"{field.name}: found {value}, expected a finite number")
            if value is None:
                continue
            if meta["minimum"] is not None and value < meta["minimum"]:
                raise InputError(f"{field.name}: found {value}, expected at least {meta['minimum']}")
            if meta["maximum"] is not None and value > meta["maximum"]:
                raise InputError(f"{field.name}: found {value}, expected at most {meta['maximum']}")
            if meta["multiple_of"] > 1 and value % meta["multiple_of"]:
                raise InputError(f"{field.name}: found {value}, expected a multiple of {meta['multiple_of']}")


class _Trained(Checked):
    """Settings of a training, whose warm-up must fit into it."""

    def __post_init__(self) -> None:
        """Also refuse a warm-up longer than the training."""
        super().__post_init__()
        if self.warmup_epochs > self.epochs:
            raise InputError(f"warmup_epochs {self.warmup_epochs} is more than epochs {self.epochs}")


@dataclass(frozen=True)
class ModelSettings(Checked):
    """Sizes of the masked autoencoder (Sec. 3; Medical-MAE's mae_vit_small_patch16_dec512d2b)."""

    image_size: int = setting(224, "side of the square images, in pixels", 16)
    patch_size: int = setting(16, "side of a patch, in pixels", 2)
    width: int = setting(384, "width of the encoder", 4)
    depth: int = setting(12, "blocks of the encoder", 1)
    heads: int = setting(6, "attention heads of the encoder", 1)
    decoder_width: int = setting(512, "width of the decoder", 4)
    decoder_depth: int = setting(2, "blocks of the decoder", 1)
    decoder_heads: int = setting(16, "attention heads of the decoder", 1)


# Sizes of the weights that have a name. They are compared with the configuration before anything is computed.
WEIGHTS_SIZES = {
    "embedded": ModelSettings(128, 16, 128, 4, 4, 96, 2, 4),
    "weights-vit-s-cxr": ModelSettings(),
    "weights-vit-s-imagenet": ModelSettings(),
}


@dataclass(frozen=True)
class PretrainSettings(_Trained):
    """Pre-training of f_0 and g_0 on the images at hand, where no published file is used (He et al. 2022)."""

    epochs: int = setting(800, "passes over T_n and T_u", 1)
    warmup_epochs: int = setting(40, "epochs of linear warm-up (5 % of the training)", 0)
    batch_size: int = setting(256, "images in a step", 1)
    lr: float = setting(1.5e-4, "base learning rate, multiplied by batch_size / 256", 0)
    weight_decay: float = setting(0.05, "AdamW's weight decay (not on biases, norms and tokens)", 0)
    mask_ratio: float = setting(0.75, "share of hidden patches", 0.05, 0.95)
    augmentation: str = setting(
        "crop_flip",
        "RandomResizedCrop of area 0.5 to 1 with horizontal flip, or none",
        choices=("crop_flip", "none"),
    )


@dataclass(frozen=True)
class Stage1Settings(_Trained):
    """Stage 1: a head on frozen features separates normal images from synthetic anomalies (Sec. 2.1, Eq. 1 and 2)."""

    epochs: int = setting(150, "passes over T_n", 1)
    warmup_epochs: int = setting(20, "epochs of linear warm-up", 0)
    batch_size: int = setting(16, "normal images in a step; each brings its synthetic twin", 1)
    lr: float = setting(2.5e-4, "learning rate", 0)
    weight_decay: float = setting(0.05, "AdamW's weight decay (not on biases and norms)", 0)


@dataclass(frozen=True)
class PseudoLabelSettings(Checked):
    """Pseudo-labels of T_u from stage 1 (Sec. 2.2)."""

    source: str = setting(
        "stage1",
        "stage1: the paper's; probe, detector (ours): bottom and top third of T_u by the positive-unlabeled probe or "
        "the detector, out of fold, in the place of all that follows",
        choices=("stage1", "probe", "detector"),
    )
    percentile: float = setting(
        50.0, "of the confidences of the images predicted as a class: the threshold of that class", 0, 100
    )
    minimum: int = setting(64, "a class with fewer predicted images takes the top fallback_share by p_c instead", 0)
    fallback_share: float = setting(0.25, "share of T_u that such a class takes", 0.01, 0.5)


@dataclass(frozen=True)
class ModuleSettings(_Trained):
    """Stage 2: modules A and B (Sec. 2.2, Eq. 3)."""

    epochs: int = setting(150, "passes over the module's images", 1)
    warmup_epochs: int = setting(20, "epochs of linear warm-up", 0)
    batch_size: int = setting(16, "images in a step", 1)
    lr: float = setting(2.5e-4, "learning rate", 0)
    lr_scaling: str = setting(
        "absolute",
        "absolute: lr as it stands; batch: lr * batch_size / 256, Medical-MAE's habit",
        choices=("absolute", "batch"),
    )
    weight_decay: float = setting(0.05, "AdamW's weight decay (not on biases, norms and tokens)", 0)
    masks: int = setting(2, "random masks of an image in one step, L", 1)
    mask_ratio: float = setting(0.75, "share of hidden patches", 0.05, 0.95)
    loss_on: str = setting(
        "hidden", "patches whose squared error is the loss: hidden, as in MAE, or all", choices=("hidden", "all")
    )
    augmentation: str = setting(
        "crop_flip",
        "RandomResizedCrop of area 0.5 to 1 with horizontal flip, or none",
        choices=("crop_flip", "none"),
    )
    equal_updates: bool = setting(False, "give module B as many steps as module A has, not as many epochs")
    training_sets: str = setting(
        "pseudo_labels",
        "pseudo_labels: A on T_n and T_un, B on T_ua; without: A on T_n, B on all of T_u (Fig. 3b)",
        choices=("pseudo_labels", "without"),
    )


@dataclass(frozen=True)
class ReconstructionSettings(Checked):
    """Test-time reconstruction (Sec. 2.3, Eq. 4)."""

    masks: int = setting(4, "masks of a test image, L, the same for both modules", 1)
    mask_ratio: float = setting(0.75, "share of hidden patches", 0.05, 0.95)
    mask_scheme: str = setting(
        "random",
        "random: independent masks; complementary: disjoint visible parts, every patch hidden equally often",
        choices=("random", "complementary"),
    )
    aggregate: str = setting(
        "hidden",
        "hidden: mean over the masks that hide a patch; full: mean over all decoder outputs",
        choices=("hidden", "full"),
    )

    def __post_init__(self) -> None:
        """Also refuse complementary masks that do not share the image out evenly."""
        super().__post_init__()
        parts = 1 / (1 - self.mask_ratio)
        if self.mask_scheme == "complementary" and (abs(parts - round(parts)) > 1e-6 or self.masks % round(parts)):
            raise InputError(
                f"mask_scheme complementary contradicts masks {self.masks} and mask_ratio {self.mask_ratio}: the "
                f"visible parts must share an image out evenly, e.g. masks 4 at mask_ratio 0.75"
            )

    def check_patches(self, patches: int, visible: int) -> None:
        """Raise InputError where complementary masks, each of `visible` patches, do not share out this many patches."""
        parts = round(1 / (1 - self.mask_ratio))
        if self.mask_scheme == "complementary" and parts * visible != patches:
            raise InputError(
                f"mask_scheme complementary contradicts images of {patches} patches: at mask_ratio {self.mask_ratio} "
                f"a mask shows {visible} of them, and {parts} such masks do not share them out evenly"
            )


@dataclass(frozen=True)
class DetectorSettings(_Trained):
    """The detector (ours): networks that separate T_u from T_n, those of the first round without one fold each."""

    image_size: int = setting(64, "side of the network's input in pixels, a multiple of 16", 16, multiple_of=16)
    folds: int = setting(3, "folds of patients, and networks of a round", 2)
    rounds: int = setting(
        2,
        "trainings; the second is without folds, and of T_u on what the first ranks highest, as large a share as the "
        "estimated ratio, at least a tenth",
        1,
        2,
    )
    epochs: int = setting(30, "passes over a network's images", 1)
    warmup_epochs: int = setting(1, "epochs of linear warm-up", 0)
    batch_size: int = setting(32, "images in a step", 2)
    lr: float = setting(1e-3, "learning rate", 0)
    weight_decay: float = setting(0.05, "AdamW's weight decay (not on biases and norms)", 0)


@dataclass(frozen=True)
class FineTunedSettings(_Trained):
    """The detector (ours) with f_0, fine-tuned, as its body."""

    folds: int = setting(3, "folds of patients, and networks of a round", 2)
    rounds: int = setting(2, "trainings, as those of the section detector", 1, 2)
    epochs: int = setting(20, "passes over a network's images", 1)
    warmup_epochs: int = setting(1, "epochs of linear warm-up", 0)
    batch_size: int = setting(32, "images in a step", 2)
    lr: float = setting(1e-3, "learning rate of the head", 0)
    layer_decay: float = setting(0.75, "factor of the learning rate from a block to the one below it", 0, 1)
    weight_decay: float = setting(0.05, "AdamW's weight decay (not on biases, norms and tokens)", 0)


@dataclass(frozen=True)
class SplitSettings(Checked):
    """Splits to draw, patient-disjoint between training and test; sizes in images."""

    train_normal: int = setting(MISSING, "images of T_n", 0)
    unlabeled: int = setting(MISSING, "images of T_u", 0)
    anomaly_ratio: float | None = setting(
        MISSING, "share of T_u that is abnormal; null: T_u is drawn from the images without label", 0, 1
    )
    test_normal: int = setting(MISSING, "normal test images", 0)
    test_abnormal: int = setting(MISSING, "abnormal test images", 0)
    seed: int = setting(MISSING, "seed of the draw", 0)
    calibration: int = setting(0, "further normal images, held out of training and test to calibrate scores", 0)
    order: str = setting(
        "hash",
        "order of the draw: hash of seed and patient, so that further rows move few images, or permutation of all rows",
        choices=("hash", "permutation"),
    )


@dataclass(frozen=True)
class PublishedSet(Checked):
    """A published data set, and the part of it that is used."""

    dataset: str = setting(MISSING, "which data set", choices=("rsna", "vindr", "nih", "paediatric"))
    folder: Path = setting(MISSING, "folder of its images")
    repartition: Path | None = setting(None, "repartition file, or folder of lists; by default in the folder")
    metadata: Path | None = setting(None, "folder of further tables: mapping to NIH, pre-training list")
    anomaly_ratio: float | None = setting(None, "abnormal share of T_u; without it there is no T_u", 0, 1)
    patient_disjoint: bool = setting(False, "leave out the training images of patients who are in the test set")
    sexes: tuple[str, ...] = setting((), "nih only: M or F; both by default")

    def __post_init__(self) -> None:
        """Also refuse sexes where there are no lists by sex."""
        super().__post_init__()
        if self.sexes and self.dataset != "nih":
            raise InputError(f"sexes: {self.dataset} has no lists by sex; only nih has")
        if unknown := set(self.sexes) - {"M", "F"}:
            raise InputError(f"sexes: found {', '.join(sorted(unknown))}, expected M or F")


SECTIONS: dict[str, type] = {
    "mae": ModelSettings,
    "pretrain": PretrainSettings,
    "stage1": Stage1Settings,
    "pseudo_labels": PseudoLabelSettings,
    "modules": ModuleSettings,
    "reconstruction": ReconstructionSettings,
}


def from_mapping(settings: type[Settings], given: Mapping[str, Any]) -> Settings:
    """Settings of one kind: those given by name, the others at their defaults.

    Raises InputError, which begins with the key, for an unknown one and for a value of another type or out of limits.
    """
    types, values = {field.name: field.type for field in dataclasses.fields(settings)}, {}
    for key, value in given.items():
        if key not in types:
            close = difflib.get_close_matches(str(key), types, n=1)
            hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(types) or 'none'}"
            raise InputError(f"{key}: unknown; {hint}")
        if dataclasses.is_dataclass(types[key]) and isinstance(value, Mapping):
            try:
                values[key] = from_mapping(types[key], value)
            except InputError as error:
                raise InputError(f"{key}.{error}") from None
            continue
        kind, *null = getattr(types[key], "__args__", (types[key],))  # a type, or a type or None
        allowed = (int, float) if kind is float else kind
        if value is None and null:
            values[key] = None
            continue
        if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
            raise InputError(
                f"{key}: found {value!r}, expected a value of type {kind.__name__}{' or null' if null else ''}"
            )
        values[key] = kind(value)
    return settings(**values)
