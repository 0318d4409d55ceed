"""DenseNet-121 as a frozen encoder for stage 1 (AMAE, Fig. 3c), from the files that Medical-MAE publishes.

Its three input channels stay: a convolution pads with zeros, which stand for the mean of each channel, so means that
differ between channels do not fold into one. Importing torchvision takes seconds and waits until a network is built.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amae.mae.checkpoints import (
    describe_source,
    differing_shapes,
    list_differences,
    read_checkpoint,
    read_safetensors,
    write_safetensors,
)
from amae.runtime.errors import InputError
from amae.runtime.tensors import is_safetensors

BACKBONE = "densenet121"

# Keys, without the "module." of a parallel training: the encoder of the MAE's U-Net or of MoCo, or a bare network; and
# what stands beside it there and is left out.
_ENCODER_KEY = re.compile(r"(?:(?:model\.)?encoder\.|encoder_q\.)?(features\..+)")
_LEFT_OUT = re.compile(
    r"(?:model\.)?(?:decoder|segmentation_head)\..+|(?:encoder_q\.)?(?:classifier|fc)\..+|encoder_k\..+|queue(?:_ptr)?"
)
_CONVOLUTIONAL = re.compile(r"(?:module\.)?(?:(?:model\.)?encoder\.|encoder_q\.|features\.)")
_OLD_SPELLING = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")  # torchvision's of old: norm.1


@dataclass(frozen=True)
class DenseNetArchitecture:
    """Input of a DenseNet-121: image size in pixels, and mean and std by channel, on intensities in [0, 1]."""

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    width = 1024  # of its features

    def __post_init__(self) -> None:
        """Refuse images that its five halvings would leave without a pixel."""
        if self.image_size < 32:
            raise InputError(f"mae.image_size: found {self.image_size}, expected at least 32 for a DenseNet-121")


class DenseNet(nn.Module):
    """A frozen DenseNet-121 that stage 1 uses as it does an `MAE`: `normalise`, then `features`."""

    def __init__(self, architecture: DenseNetArchitecture, network: nn.Module):
        """Freeze torchvision's `network`, whose classifier plays no part."""
        super().__init__()
        self.architecture, self.network = architecture, network
        for name in ("mean", "std"):
            values = torch.tensor(getattr(architecture, name))[:, None, None]  # (3, 1, 1)
            self.register_buffer(name, values, persistent=False)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "DenseNet":
        """Stay in evaluation: batch normalisation keeps to its stored statistics, whatever is asked for."""
        return super().train(False)

    def normalise(self, images: Tensor) -> Tensor:
        """Grey uint8 `(B, H, W)` to normalised float32 `(B, 3, H, W)`."""
        return (images[:, None].float() / 255 - self.mean) / self.std

    def features(self, images: Tensor) -> Tensor:
        """Normalised `(B, 3, H, W)` to `(B, width)`, float32: what DenseNet's classifier sees, the mean over positions.

        It follows the last normalisation and ReLU.
        """
        return F.relu(self.network.features(images)).float().mean((2, 3))


def is_densenet(path: str | Path) -> bool:
    """True if a file is meant as a DenseNet: by its description, or by keys of a convolutional encoder."""
    if is_safetensors(path):
        return read_safetensors(path)[0].get("backbone") == BACKBONE
    return any(_CONVOLUTIONAL.match(key) for key in read_checkpoint(path)[0])


def load_densenet(path: str | Path, device: torch.device | str = "cpu") -> DenseNet:
    """Read an encoder that `convert_densenet` wrote. Raises InputError for any other file."""
    about, state = read_safetensors(path)
    try:
        found = about["architecture"]
        architecture = DenseNetArchitecture(found["image_size"], tuple(found["mean"]), tuple(found["std"]))
    except (TypeError, KeyError) as error:
        raise InputError(f"{path}: not a DenseNet-121 of this version ({error}); make the file again") from None
    return _filled(architecture, state, (), path).to(device)


def import_densenet(path: str | Path, image_size: int, mean: Sequence[float], std: Sequence[float]) -> DenseNet:
    """Read a published DenseNet-121: the encoder of an MAE's U-Net, or of MoCo v2.

    The former's decoder and segmentation head are left out, and the latter's projection head, queue and key encoder.
    `image_size`: side of the images that it is to see, in pixels; the network itself takes any. `mean`, `std`: what its
    input was normalised with, by channel, on intensities in [0, 1].

    Raises InputError for anything but a whole encoder with nothing else beside it, naming the keys.
    """
    state: dict[str, Tensor] = {}
    others = []
    for key, tensor in read_checkpoint(path)[0].items():
        name = key.removeprefix("module.")
        if (match := _ENCODER_KEY.fullmatch(name)) and (own := _OLD_SPELLING.sub(r"\1\2.", match[1])) not in state:
            state[own] = tensor
        elif not _LEFT_OUT.fullmatch(name):
            others.append(key)
    return _filled(DenseNetArchitecture(image_size, tuple(mean), tuple(std)), state, others, path)


def convert_densenet(
    source: str | Path, target: str | Path, image_size: int, mean: Sequence[float], std: Sequence[float]
) -> DenseNet:
    """Bring a DenseNet-121, published or of this project, into this project's form; options as in `import_densenet`.

    A file of this project keeps its own mean and std. The source's name and SHA-256 go on record.
    """
    if is_safetensors(source):
        model = load_densenet(source)
        model.architecture = dataclasses.replace(model.architecture, image_size=image_size)
    else:
        model = import_densenet(source, image_size, mean, std)
    about = {"backbone": BACKBONE, "architecture": dataclasses.asdict(model.architecture)}
    description = describe_source(source, "the encoder of a published checkpoint")
    write_safetensors(model.network, target, {**about, "description": description})
    return model


def _filled(
    architecture: DenseNetArchitecture, state: Mapping[str, Tensor], others: Sequence[str], path: str | Path
) -> DenseNet:
    """A model with the tensors of a state dict; InputError where one is missing or too many, or for any of `others`."""
    from torchvision.models import densenet121

    with torch.device("meta"):  # no initialisation to be overwritten, no random numbers drawn
        network = densenet121()
    network.classifier = nn.Identity()
    expected = network.state_dict()
    unexpected = [*others, *(state.keys() - expected.keys())]
    differences = list_differences(expected.keys() - state.keys(), unexpected, differing_shapes(expected, state))
    if differences:
        raise InputError(f"{path}: not a DenseNet-121 for images of 3 channels; {differences}")
    tensors = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    network.load_state_dict(tensors, assign=True)
    return DenseNet(architecture, network)
