"""Stage 1: a small head on frozen features learns normal from synthetic anomalies (AMAE, Sec. 2.1, Eq. 1 and 2)."""

from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amae.data.stored import Stored
from amae.mae.checkpoints import read_safetensors, write_safetensors
from amae.mae.weights import Encoder
from amae.method.anatpaste import anatpaste
from amae.method.training import LossOf, Resume, Schedule, train
from amae.runtime.errors import InputError
from amae.settings import Stage1Settings


def make_head(width: int) -> nn.Sequential:
    """The classification head h: features `(B, width)` to logits `(B, 2)` of normal (0) and abnormal (1).

    The paper states three layers; between them stand batch normalisation and ReLU, as in AnatPaste's head. The former
    matters: pooled features differ little from image to image, and LayerNorm leaves what they share in place.
    """
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 2))


@torch.no_grad()
def frozen_features(encoder: Encoder, images: Tensor | Stored, batch_size: int = 64) -> Tensor:
    """Pooled features of grey uint8 images `(N, H, W)`: float32 `(N, width)`."""
    encoder.eval()
    parts = []
    for batch in images.split(batch_size):
        parts.append(encoder.features(encoder.normalise(batch)))
    return torch.cat(parts)


def detection_loss(encoder: Encoder, head: nn.Sequential, images: Tensor | Stored, lungs: Tensor | Stored) -> LossOf:
    """The loss of the head on a batch of T_n, given the ids and a generator: cross-entropy, Eq. 2.

    `images` uint8 `(N, H, W)`, `lungs` bool `(N, H, W)`. A batch is its normal images (label 0), whose features are
    computed here once, and a fresh synthetic anomaly of each (label 1).
    """
    normal = frozen_features(encoder, images)

    def loss_of(ids: Tensor, generator: torch.Generator) -> Tensor:
        with torch.no_grad():
            synthetic, _ = anatpaste(images[ids].float() / 255, lungs[ids], generator)
            abnormal = encoder.features(encoder.normalise(synthetic * 255))
        labels = torch.arange(2, device=ids.device).repeat_interleave(len(ids))
        return F.cross_entropy(head(torch.cat([normal[ids], abnormal])), labels)

    return loss_of


def train_stage1(
    encoder: Encoder,
    images: Tensor | Stored,
    lungs: Tensor | Stored,
    settings: Stage1Settings,
    seed: int,
    resume: Resume,
) -> tuple[nn.Sequential, pd.DataFrame]:
    """Train the head on T_n by `detection_loss`, and return it with its history; the encoder stays as it is."""
    torch.manual_seed(seed)
    head = make_head(encoder.architecture.width).to(images.device)
    loss_of = detection_loss(encoder, head, images, lungs)
    schedule = Schedule(
        settings.epochs, settings.warmup_epochs, settings.batch_size, settings.lr, settings.weight_decay
    )
    return head, train(head, loss_of, len(images), schedule, seed, resume)


@torch.no_grad()
def score_stage1(encoder: Encoder, head: nn.Sequential, images: Tensor | Stored) -> Tensor:
    """Probabilities of normal and abnormal, float32 `(N, 2)`, of uint8 images `(N, H, W)`."""
    head.eval()
    return head(frozen_features(encoder, images)).softmax(1)


def save_head(head: nn.Sequential, path: str | Path) -> None:
    """Write a head as safetensors."""
    write_safetensors(head, path, {"kind": "stage 1 head"})


def load_head(path: str | Path, width: int) -> nn.Sequential:
    """Read a head for features of this width; InputError if the file is not one."""
    head = make_head(width)
    try:
        head.load_state_dict(read_safetensors(path)[1])
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: not a stage 1 head for features of width {width} ({reason})") from None
    return head
