"""The detector of a model as an ONNX file: a square uint8 image to its score and map, for a program without torch.

Needs the optional packages onnx and onnxscript (`onnx`). The scores of modules A and B, and their map, are not
exported: their masks are seeded by a hash of the pixels, which no ONNX operator computes.
"""

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amae.method.detector import normalise
from amae.predict.model import Model
from amae.runtime.errors import InputError
from amae.runtime.files import atomic

OPSET = 18


class Detector(nn.Module):
    """Images uint8 `(N, H, H)` to scores `(N,)` and maps of logits `(N, S / 16, S / 16)`, float32.

    The functions `resize` and `score_maps`, with all steps as operators of ONNX: the resize is two products with a
    matrix, which is what an interpolation from one fixed size to another is.
    """

    def __init__(self, networks: Sequence[nn.Sequential], before: int, after: int):
        """Take trained networks, for images of `before` pixels that they see at `after`."""
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.register_buffer("weights", None if before == after else interpolation(before, after))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and maps."""
        grey = images.float()
        if self.weights is not None:
            grey = (self.weights @ (grey @ self.weights.T)).round().clamp(0, 255)
        batch = normalise(grey)
        maps = [network(batch) + network(batch.flip(3)).flip(3) for network in self.networks]
        mean = torch.stack(maps).mean(0)[:, 0] / 2
        return mean.mean((1, 2)), mean


def interpolation(before: int, after: int) -> Tensor:
    """The weights of torch's bilinear, antialiased interpolation along one axis: float32 `(after, before)`."""
    unit = torch.eye(before)[None, None]
    return F.interpolate(unit, (after, before), mode="bilinear", antialias=True)[0, 0]


def require_onnx() -> None:
    """Raise InputError where the packages are not installed."""
    if missing := [package for package in ("onnx", "onnxscript") if find_spec(package) is None]:
        raise InputError(f"export-onnx: needs the optional packages onnx and onnxscript (pip install {missing[0]})")


def write_onnx(model: Model, about: dict[str, str], path: Path) -> None:
    """Write the detector of a model; `about` becomes the metadata of the file."""
    size = model.encoder.architecture.image_size
    detector = Detector(model.detector, size, model.about["detector"]["image_size"]).eval()
    images = torch.zeros((2, size, size), dtype=torch.uint8, device=model.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporter, on its own parts
        program = torch.onnx.export(
            detector,
            (images,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["score", "map"],
            dynamic_shapes=({0: torch.export.Dim("N")},),
            verbose=False,
        )
    made = program.model_proto
    for key, value in about.items():
        made.metadata_props.add(key=key, value=value)
    with atomic(path) as temporary:
        temporary.write_bytes(made.SerializeToString())
