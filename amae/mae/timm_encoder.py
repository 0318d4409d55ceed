"""Networks of timm as frozen encoders: for stage 1 and whatever else uses features alone.

The channels of a network stay as they are: a convolution pads with zeros, which stand for the mean of each channel, so
means that differ between channels do not fold into one. Importing timm takes seconds and waits until a network is used.
"""

import dataclasses
import difflib
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amae.mae.architecture import TIMM
from amae.mae.checkpoints import (
    describe_source,
    differing_shapes,
    list_differences,
    read_any_state,
    read_safetensors,
    some,
    write_safetensors,
)
from amae.mae.densenet import MODEL as DENSENET
from amae.mae.densenet import read_densenet
from amae.runtime.errors import InputError
from amae.runtime.tensors import is_safetensors


@dataclass(frozen=True)
class TimmArchitecture:
    """A network by timm's name, and its input.

    `image_size`: side of the images that it is given; `input_size`: the next multiple of its patch size, to which they
    are resized; both in pixels. `width`: of its features. `mean`, `std`: by channel, on intensities in [0, 1].
    """

    model: str
    image_size: int
    input_size: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class TimmEncoder(nn.Module):
    """A frozen network of timm that is used as an `MAE` is: `normalise`, then `features`."""

    def __init__(self, architecture: TimmArchitecture, network: nn.Module):
        """Freeze `network`, whose classifier plays no part."""
        super().__init__()
        self.architecture, self.network = architecture, network
        for name in ("mean", "std"):
            values = torch.tensor(getattr(architecture, name))[:, None, None]  # (C, 1, 1)
            self.register_buffer(name, values, persistent=False)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "TimmEncoder":
        """Stay in evaluation: batch normalisation keeps to its stored statistics, whatever is asked for."""
        return super().train(False)

    def normalise(self, images: Tensor) -> Tensor:
        """Grey levels 0 to 255 `(B, H, W)` to normalised float32 `(B, C, S, S)`, S the input size: bilinear."""
        grey, size = images[:, None].float(), self.architecture.input_size
        if images.shape[-1] != size:
            grey = F.interpolate(grey, (size, size), mode="bilinear", antialias=True)
        return (grey / 255 - self.mean) / self.std

    def features(self, images: Tensor) -> Tensor:
        """Normalised `(B, C, S, S)` to `(B, width)`, float32: by `pooled`."""
        return pooled(self.network, self.network.forward_features(images))


def pooled(network: nn.Module, found: Tensor) -> Tensor:
    """The mean over places of what timm's `forward_features` gives: float32 `(B, width)`.

    Of tokens `(B, T, width)` that of the patches, without cls and register tokens; of a map `(B, width, H, W)`, or
    `(B, H, W, width)` by the network's `output_fmt`, that of its places. Nothing of a classifier's head is applied.
    """
    if found.ndim == 3:
        return found[:, getattr(network, "num_prefix_tokens", 0) :].float().mean(1)
    return found.float().mean((1, 2) if getattr(network, "output_fmt", "NCHW") == "NHWC" else (2, 3))


def pretrained_about(name: str) -> Any:
    """timm's description of a network's published weights: mean, std, classifier, place on the hub.

    `name` is that of an architecture, which stands for its default weights, or architecture.tag. Raises InputError for
    a name that timm does not know, with names like it.
    """
    import timm

    try:
        about = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    except RuntimeError:  # a known architecture with an unknown tag
        about = None
    if about is None:
        close = difflib.get_close_matches(name, [*timm.list_models(), *timm.list_pretrained()], n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "timm.list_pretrained() lists the names"
        raise InputError(f"weights {TIMM}{name}: timm {timm.__version__} knows no such network; {hint}")
    return about


def convert_timm(
    source: str | Path, target: str | Path, name: str | None, image_size: int, mean: Sequence, std: Sequence
) -> TimmEncoder:
    """Bring the weights of a network into this project's form, for images of `image_size` px.

    `source`: with a `name`, a file for timm's network of this name (a state dict in a torch pickle or safetensors, as
    timm reads it); else a file of this project, or a published DenseNet-121 of Medical-MAE, for which `mean` and `std`
    count: every other network has timm's, or the file's own. The source's name and SHA-256 go on record. Raises
    InputError for a file that does not fill the network exactly but for its classifier, and for a size that it refuses.
    """
    if name:
        from timm.models import clean_state_dict

        about = pretrained_about(name)
        state = _without_classifier(clean_state_dict(read_any_state(source)), about.classifier, source)
        mean, std, made_by = about.mean, about.std, f"the weights of timm's {name}"
    elif is_safetensors(source):
        found, state = read_safetensors(source)
        architecture = _architecture(found, source)
        name, mean, std, made_by = architecture.model, architecture.mean, architecture.std, None
    else:
        name, made_by, (state, others) = DENSENET, "the encoder of a published checkpoint", read_densenet(source)
        _check(_build(name, image_size), state, others, source, name)
    model = _imported(name, state, image_size, mean, std, source)
    about = {"backbone": f"{TIMM}{name}", "architecture": dataclasses.asdict(model.architecture)}
    write_safetensors(model.network, target, {**about, "description": describe_source(source, made_by)})
    return model


def load_timm(about: Mapping[str, Any], state: Mapping[str, Tensor], path: str | Path) -> TimmEncoder:
    """The encoder in a file that `convert_timm` wrote, by `read_safetensors`. InputError, naming it, for any other."""
    architecture = _architecture(about, path)
    network = _build(architecture.model, architecture.input_size)
    _check(network, state, (), path, architecture.model)
    network.load_state_dict(state)
    return TimmEncoder(architecture, network)


def _architecture(about: Mapping[str, Any], path: str | Path) -> TimmArchitecture:
    try:
        found = about["architecture"]
        return TimmArchitecture(**{**found, "mean": tuple(found["mean"]), "std": tuple(found["std"])})
    except (TypeError, KeyError) as error:
        raise InputError(f"{path}: not an encoder of this version ({error}); make the file again") from None


def _imported(
    name: str, state: Mapping[str, Tensor], size: int, mean: Sequence, std: Sequence, path: str | Path
) -> TimmEncoder:
    """timm's network with a state dict, whose positions timm resamples for images of this size."""
    state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    try:
        with _keys_reported(path, name):
            network, seen = _build(name, size, state), size
            if rest := size % (patch := _patch_size(network)):
                seen = size + patch - rest
                network = _build(name, seen, state)
        with torch.no_grad():
            features = pooled(network.eval(), network.forward_features(torch.zeros(1, len(mean), seen, seen)))
    except (RuntimeError, AssertionError, ValueError, IndexError, AttributeError) as error:
        reason = " ".join(str(error).split())[:400]
        raise InputError(f"{path}: not for timm's {name} with images of {size} px ({reason})") from None
    return TimmEncoder(TimmArchitecture(name, size, seen, features.shape[1], tuple(mean), tuple(std)), network)


def _build(name: str, size: int, state: Mapping[str, Tensor] | None = None) -> nn.Module:
    """timm's network without classifier for images of this size, filled by timm's own reading of a state dict."""
    import timm

    options: dict[str, Any] = {"num_classes": 0}
    if state is not None:  # without a classifier to look for, timm is strict about the others
        overlay = {"state_dict": dict(state), "classifier": None, "custom_load": False}
        options |= {"pretrained": True, "pretrained_cfg_overlay": overlay}
    with torch.random.fork_rng(devices=[]):  # its initialisation, which is overwritten
        try:
            return timm.create_model(name, img_size=size, **options)
        except TypeError as error:
            if "img_size" not in str(error):
                raise
            return timm.create_model(name, **options)  # takes images of any size


def _patch_size(network: nn.Module) -> int:
    """Side of a network's patches in pixels; 1 where it has none."""
    ratio = getattr(getattr(network, "patch_embed", None), "feat_ratio", None)
    return ratio() if ratio else 1


def _without_classifier(
    state: Mapping[str, Tensor], classifier: str | Sequence[str] | None, path: str | Path
) -> dict[str, Tensor]:
    """A state dict without the classifier that timm names, or one of the usual names; a line reports what is left out.

    `path` names the file in that line.
    """
    names = {"head", "fc", "classifier", *([classifier] if isinstance(classifier, str) else classifier or ())}
    dropped = {f"{name}.{part}" for name in names for part in ("weight", "bias")} & state.keys()
    if dropped:
        print(f"{path}: left out, as a classifier's: {some(dropped)}", file=sys.stderr)
    return {key: value for key, value in state.items() if key not in dropped}


def _check(network: nn.Module, state: Mapping[str, Tensor], others: Sequence[str], path: str | Path, name: str) -> None:
    """Raise InputError where a state dict, with `others` beside it, does not fill a network exactly."""
    expected = network.state_dict()
    unexpected = [*others, *(state.keys() - expected.keys())]
    differences = list_differences(expected.keys() - state.keys(), unexpected, differing_shapes(expected, state))
    if differences:
        raise InputError(f"{path}: not timm's {name} for images of 3 channels; {differences}")


@contextmanager
def _keys_reported(path: str | Path, name: str) -> Iterator[None]:
    """What timm only logs, for the few families that it reads leniently: InputError for missing keys, else a line."""
    logger, messages = logging.getLogger("timm.models._builder"), []
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: messages.append(record.getMessage())
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
    for message in messages:
        if message.startswith("Missing keys"):
            raise InputError(f"{path}: not timm's {name}; {message.partition(')')[0]})")
        if message.startswith("Unexpected keys"):
            print(f"{path}: left out, as of no use to timm's {name}: {message.partition(')')[0]})", file=sys.stderr)
