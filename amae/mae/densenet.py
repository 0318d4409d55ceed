"""DenseNet-121 (AMAE, Fig. 3c) from the files that Medical-MAE publishes: their keys as timm's and torchvision's."""

import re
import sys
from pathlib import Path

from torch import Tensor

from amae.mae.checkpoints import read_checkpoint, some
from amae.runtime.tensors import is_safetensors

MODEL = "densenet121"

# Keys, without the "module." of a parallel training: the encoder of the MAE's U-Net or of MoCo, or a bare network; and
# what stands beside it there and is left out.
_ENCODER_KEY = re.compile(r"(?:(?:model\.)?encoder\.|encoder_q\.)?(features\..+)")
_LEFT_OUT = re.compile(
    r"(?:model\.)?(?:decoder|segmentation_head)\..+|(?:encoder_q\.)?(?:classifier|fc)\..+|encoder_k\..+|queue(?:_ptr)?"
)
_CONVOLUTIONAL = re.compile(r"(?:module\.)?(?:(?:model\.)?encoder\.|encoder_q\.|features\.)")
_OLD_SPELLING = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")  # torchvision's of old: norm.1


def is_densenet(path: str | Path) -> bool:
    """True if a published file is meant as a DenseNet: by keys of a convolutional encoder."""
    return not is_safetensors(path) and any(_CONVOLUTIONAL.match(key) for key in read_checkpoint(path)[0])


def read_densenet(path: str | Path) -> tuple[dict[str, Tensor], list[str]]:
    """State dict of a published DenseNet-121, the encoder of an MAE's U-Net or of MoCo v2, and keys of neither.

    The U-Net's decoder and segmentation head are left out, and MoCo's projection head, queue and key encoder; a line
    reports them.
    """
    state: dict[str, Tensor] = {}
    others, left_out = [], []
    for key, tensor in read_checkpoint(path)[0].items():
        name = key.removeprefix("module.")
        if (match := _ENCODER_KEY.fullmatch(name)) and (own := _OLD_SPELLING.sub(r"\1\2.", match[1])) not in state:
            state[own] = tensor
        else:
            (left_out if _LEFT_OUT.fullmatch(name) else others).append(key)
    if left_out:
        print(f"{path}: left out, as not of the encoder: {some(left_out)}", file=sys.stderr)
    return state, others
