"""A trained model as one file: f_0, stage 1 head, modules A and B, detector, and what scoring needs besides.

The file is a safetensors file that describes itself. Nothing in it names an image, a patient or a path.
"""

import dataclasses
from collections.abc import Sequence
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
from amae.predict.card import DAMAGE, FORMAT, KIND, card_of, damaged, group, require_model
from amae.predict.domain import MEASURES
from amae.runtime.errors import InputError
from amae.settings import ReconstructionSettings


@dataclass(frozen=True)
class Model:
    """A trained model.

    `about`: its description in words and numbers. `arrays`: float64, by group. Both as in amae.predict.card.
    """

    about: dict[str, Any]
    encoder: MAE
    head: nn.Sequential
    module_a: MAE
    module_b: MAE
    detector: tuple[nn.Sequential, ...]
    arrays: dict[str, np.ndarray]

    @property
    def settings(self) -> ReconstructionSettings:
        """Settings of the reconstruction of a new image: see `amae.predict.score.quiet`."""
        return ReconstructionSettings(**self.about["masks_of_new_images"])

    @property
    def device(self) -> torch.device:
        """Device of the networks."""
        return next(self.encoder.parameters()).device

    def group(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of a group: features, training, calibration, site or original."""
        return group(self.arrays, name)


def save_model(model: Model, path: str | Path) -> None:
    """Write a model. Equal models give equal bytes. Raises InputError where its networks differ in size."""
    parts = _parts(model.encoder, model.head, model.module_a, model.module_b, model.detector)
    architectures = {part.architecture for part in parts.values() if isinstance(part, MAE)}
    if len(architectures) != 1:
        raise InputError("f_0 and the modules A and B are of different sizes or normalisations; they do not belong")
    tensors = {f"{part}.{key}": value for part, net in parts.items() for key, value in net.state_dict().items()}
    tensors |= {name: torch.from_numpy(np.array(array, np.float64)) for name, array in model.arrays.items()}
    architecture = dataclasses.asdict(architectures.pop())
    write_tensors(tensors, path, {"kind": KIND, "format": FORMAT, "architecture": architecture, **model.about})


def load_model(path: str | Path, device: torch.device | str = "cpu") -> Model:
    """Read a model. Raises InputError, naming the file and what it is, for any other file or one of another format."""
    about, tensors = read_safetensors(path)
    require_model(about, path)
    try:
        architecture = Architecture(**about["architecture"])
        nets = {part: filled(architecture, _of(tensors, part), path) for part in ("f0", "A", "B")}
        head = make_head(architecture.width)
        head.load_state_dict(_of(tensors, "head"))
        detector = tuple(make_network() for _ in range(about["detector"]["folds"]))
        for fold, network in enumerate(detector):
            network.load_state_dict(_of(tensors, f"detector{fold}"))
        arrays = {key: value.numpy() for key, value in tensors.items() if value.dtype == torch.float64}
        model = Model(about, nets["f0"], head.eval(), nets["A"], nets["B"], detector, arrays)
        _check_arrays(model)
        card_of(about, arrays)  # needs all there is to know
    except DAMAGE as error:
        raise damaged(path, error) from None
    for net in (model.encoder, model.head, model.module_a, model.module_b, *model.detector):
        net.to(device).eval()
    return model


def _check_arrays(model: Model) -> None:
    """Raise KeyError or ValueError where the arrays are not those of a model."""
    width, features, calibration = model.encoder.architecture.width, model.group("features"), model.group("calibration")
    if features["mean"].shape != (width,) or features["precision"].shape != (width, width):
        raise ValueError("statistics of other features")
    known = (set(), set(DESCRIPTIONS))
    if set(model.group("training")) != set(MEASURES) or set(calibration) not in known:
        raise ValueError("statistics or calibration incomplete")
    if "recalibration" in model.about and (
        set(model.group("site")) != set(MEASURES) or set(model.group("original")) not in known
    ):
        raise ValueError("statistics of the recalibration incomplete")


def _parts(
    encoder: MAE, head: nn.Sequential, module_a: MAE, module_b: MAE, detector: Sequence[nn.Sequential]
) -> dict[str, nn.Module]:
    folds = {f"detector{fold}": network for fold, network in enumerate(detector)}
    return {"f0": encoder, "head": head, "A": module_a, "B": module_b, **folds}


def _of(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    prefix = f"{part}."
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
