"""AnatPaste: a network learns to separate normal images from pasted anomalies; the score is how rare its features are.

A ResNet-18 from scratch with a projection head, and a kernel density of its features. Source: Sato et al. 2022,
"Anatomy-aware self-supervised learning for anomaly detection in chest radiographs", which follows Li et al. 2021
(CutPaste, two stages). The published code keeps the checkpoint of the best AUC on labelled images; here it is the last
epoch.
"""

import math
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet18

from amae.comparators.interface import Fitted, Scores, TestData, TrainingData
from amae.comparators.settings import AnatPasteSettings
from amae.comparators.shared import signed, trained
from amae.data.resize import in_batches, resize, resize_masks
from amae.method.anatpaste import JITTER, anatpaste, uniform
from amae.method.training import Resume, Schedule, train
from amae.runtime.device import precision
from amae.runtime.tensors import prefixed, under

HEAD = (512, 128)


def make_network() -> nn.Sequential:
    """Images `(B, 3, S, S)` to logits `(B, 2)` of normal (0) and pasted (1); its `backbone` gives features (B, 512)."""
    backbone = resnet18(weights=None)
    width = backbone.fc.in_features
    backbone.fc = nn.Identity()
    head: list[nn.Module] = []
    for before, after in zip((width, *HEAD), HEAD, strict=False):
        head += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU()]
    head.append(nn.Linear(HEAD[-1], 2))
    return nn.Sequential(OrderedDict(backbone=backbone, head=nn.Sequential(*head)))


def jitter(images: Tensor, generator: torch.Generator) -> Tensor:
    """Change brightness, then contrast, of images `(B, H, W)` in [0, 1] by up to 10 %, as torchvision's ColorJitter.

    Its saturation and hue leave grey images as they are.
    """
    draws = torch.rand(2, len(images), 1, 1, generator=generator, device=generator.device).to(images.device)
    brightness, contrast = uniform(draws, 1 - JITTER, 1 + JITTER)
    bright = (images * brightness).clamp(0, 1)
    mean = bright.mean((1, 2), keepdim=True)
    return (mean + (bright - mean) * contrast).clamp(0, 1)


def fit(data: TrainingData, settings: AnatPasteSettings, seed: int, resume: Resume) -> Fitted:
    """Train the detector on T_n, and T_u where there is one.

    State: the network, and the features of the training images, float32 `(N, 512)`.
    """
    images, lungs = resize(data.pooled, settings.image_size), resize_masks(data.pooled_lungs, settings.image_size)
    torch.manual_seed(seed)
    network = make_network().to(images.device)

    def loss_of(ids: Tensor, generator: torch.Generator) -> Tensor:
        ids = ids % len(images)  # an epoch is so many steps, and goes round the images as often as that takes
        with torch.no_grad():
            normal = jitter(images[ids].float() / 255, generator)
            synthetic, _ = anatpaste(normal, lungs[ids], generator)
        labels = torch.arange(2, device=ids.device).repeat_interleave(len(ids))
        with precision(ids.device):
            return F.cross_entropy(network(_input(torch.cat([normal, synthetic]) * 255)), labels)

    schedule = Schedule(
        settings.epochs,
        warmup_epochs=0,
        batch_size=settings.batch_size,
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        betas=(0.9, 0.0),  # momentum 0.9
        optimiser="sgd",
    )
    history = train(network, loss_of, settings.updates * settings.batch_size, schedule, seed, resume)
    return prefixed(network.state_dict(), "network") | {"features": features(network, images)}, history


def score(state: dict[str, Tensor], data: TestData, settings: AnatPasteSettings) -> Scores:
    """Negative log density of an image's features under those of the training images, float64 `(N,)`."""
    network = trained(make_network(), under(state, "network"), data.images.device)
    own = features(network, resize(data.images, settings.image_size))
    return {"score": negative_log_density(own, state["features"].to(own.device))}


def features(network: nn.Sequential, images: Tensor) -> Tensor:
    """Pooled features of unit length, float32 `(N, 512)`, of images uint8 `(N, image_size, image_size)`."""
    network.eval()
    return in_batches(lambda batch: F.normalize(network.backbone(_input(batch)).float()), images)


def negative_log_density(points: Tensor, known: Tensor) -> Tensor:
    """-log of the Gaussian kernel density of bandwidth 1 around `known` `(M, D)`, at `points` `(N, D)`: float64 `(N,)`.

    In double precision: its constant is hundreds of times larger than what differs between images.
    """
    known = known.double()
    constant = math.log(len(known)) + known.shape[1] / 2 * math.log(2 * math.pi)
    return in_batches(lambda x: constant - (torch.cdist(x, known).square() / -2).logsumexp(1), points.double())


def _input(images: Tensor) -> Tensor:
    """Grey levels 0 to 255, `(B, S, S)`, as three equal channels in [-1, 1], as published."""
    return signed(images).expand(-1, 3, -1, -1)
