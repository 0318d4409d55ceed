"""A trained model as one file: f_0, stage 1 head, modules A and B, detector, and what scoring needs besides.

A file may contain several models that share f_0 and differ in their seed: see `amae.predict.combine`.

The file is a safetensors file that describes itself. Nothing in it names an image, a patient or a path.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from amae.mae.architecture import Architecture
from amae.mae.checkpoints import read_safetensors, write_tensors
from amae.mae.model import MAE
from amae.mae.weights import filled
from amae.method.detector import make_network
from amae.method.scores import DESCRIPTIONS
from amae.method.stage1 import make_head
from amae.predict.card import COMBINED_FORMAT, DAMAGE, FORMAT, KIND, card_of, damaged, require_model
from amae.predict.domain import MEASURES
from amae.runtime.device import forbid_tensorfloat
from amae.runtime.errors import InputError
from amae.runtime.tensors import under
from amae.settings import ReconstructionSettings


@dataclass(frozen=True)
class Model:
    """A trained model.

    `about`: its description in words and numbers. `arrays`: float64, by group. Both as in amae.predict.card. `members`:
    of one that was combined, the models of all seeds; its own networks are the first one's.
    """

    about: dict[str, Any]
    encoder: MAE
    head: nn.Sequential
    module_a: MAE
    module_b: MAE
    detector: tuple[nn.Sequential, ...]
    arrays: dict[str, np.ndarray]
    members: tuple["Model", ...] = ()

    @property
    def settings(self) -> ReconstructionSettings:
        """Settings of the reconstruction of a new image: see `amae.predict.score.quiet`."""
        return ReconstructionSettings(**self.about["masks_of_new_images"])

    @property
    def device(self) -> torch.device:
        """Device of the networks."""
        return next(self.encoder.parameters()).device

    def group(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of a group: features, normal, training, calibration, site or original."""
        return under(self.arrays, name)

    def reference(self) -> tuple[str, dict[str, np.ndarray]]:
        """What a folder is compared with as a whole, in words and by its measures: a site's images, if there are."""
        if site := self.group("site"):
            return "the normal images of the site", site
        return "the training images", self.group("training")


def save_model(model: Model, path: str | Path) -> None:
    """Write a model. Equal models give equal bytes. Raises InputError where its networks differ in size."""
    parts = {"f0": model.encoder} | _parts(model)
    for place, member in enumerate(model.members[1:], 1):
        parts |= {f"{_prefix(place)}{part}": network for part, network in _parts(member).items()}
    architectures = {part.architecture for part in parts.values() if isinstance(part, MAE)}
    if len(architectures) != 1:
        raise InputError("f_0 and the modules A and B are of different sizes or normalisations; they do not belong")
    tensors = {f"{part}.{key}": value for part, net in parts.items() for key, value in net.state_dict().items()}
    tensors |= {name: torch.from_numpy(np.array(array, np.float64)) for name, array in model.arrays.items()}
    architecture = dataclasses.asdict(architectures.pop())
    made = COMBINED_FORMAT if model.members else FORMAT
    write_tensors(tensors, path, {"kind": KIND, "format": made, "architecture": architecture, **model.about})


def load_model(path: str | Path, device: torch.device | str = "cpu") -> Model:
    """Read a model. Raises InputError, naming the file and what it is, for any other file or one of another format.

    On a GPU this process then computes float32 without TensorFloat-32, as the commands do: thresholds hold for that.
    """
    about, tensors = read_safetensors(path)
    require_model(about, path)
    try:
        encoder = filled(Architecture(**about["architecture"]), under(tensors, "f0"), path)
        arrays = {key: value.numpy() for key, value in tensors.items() if value.dtype == torch.float64}
        members = [
            _with_networks(each, encoder, tensors, path, _prefix(place), arrays)
            for place, each in enumerate(about.get("members", [about]))
        ]
        model = dataclasses.replace(members[0], about=about)
        if "members" in about:
            model = dataclasses.replace(model, members=tuple(members))
        _check_arrays(model)
        card_of(about, arrays)  # needs all there is to know
    except DAMAGE as error:
        raise damaged(path, error) from None
    if torch.device(device).type == "cuda":
        forbid_tensorfloat()
    for net in (encoder, *(net for member in members for net in _parts(member).values())):
        net.to(device).eval()
    return model


def _with_networks(
    about: dict[str, Any],
    encoder: MAE,
    tensors: dict[str, Tensor],
    path: Path,
    prefix: str,
    arrays: dict[str, np.ndarray],
) -> Model:
    """The model whose networks, all but f_0, have this prefix in the file."""
    architecture = encoder.architecture
    module_a, module_b = (filled(architecture, under(tensors, f"{prefix}{part}"), path) for part in "AB")
    head = make_head(architecture.width)
    head.load_state_dict(under(tensors, f"{prefix}head"))
    detector = tuple(make_network() for _ in range(about["detector"]["folds"]))
    for fold, network in enumerate(detector):
        network.load_state_dict(under(tensors, f"{prefix}detector{fold}"))
    return Model(about, encoder, head, module_a, module_b, detector, arrays)


def _check_arrays(model: Model) -> None:
    """Raise KeyError or ValueError where the arrays are not those of a model."""
    width, features, calibration = model.encoder.architecture.width, model.group("features"), model.group("calibration")
    if features["mean"].shape != (width,) or features["precision"].shape != (width, width):
        raise ValueError("statistics of other features")
    if model.group("normal")["image"].shape != 2 * (model.about["detector"]["image_size"],):
        raise ValueError("a mean image of another size")
    known = (set(), set(DESCRIPTIONS))
    if set(model.group("training")) != set(MEASURES) or set(calibration) not in known:
        raise ValueError("statistics or calibration incomplete")
    if "recalibration" in model.about and (
        set(model.group("site")) != set(MEASURES) or set(model.group("original")) not in known
    ):
        raise ValueError("statistics of the recalibration incomplete")
    scales, shape = model.group("scale"), (len(model.members), 2)
    if model.members and {name: scale.shape for name, scale in scales.items()} != dict.fromkeys(DESCRIPTIONS, shape):
        raise ValueError("scales of the members incomplete")


def _parts(model: Model) -> dict[str, nn.Module]:
    """Networks of a model, all but f_0, by their name in the file."""
    folds = {f"detector{fold}": network for fold, network in enumerate(model.detector)}
    return {"head": model.head, "A": model.module_a, "B": model.module_b, **folds}


def _prefix(place: int) -> str:
    """What the names of a member's networks begin with in the file."""
    return f"member{place}." if place else ""
