"""The detector: a residual network that separates unlabeled images (T_u) from normal ones (T_n); this project's own.

T_u has the same normal images as T_n and abnormal ones besides, so the odds of T_u against T_n grow with the odds of
abnormal against normal, whatever the anomalies are and whatever their share is (Blanchard, Lee and Scott 2010,
"Semi-supervised novelty detection", JMLR 11). No label is needed. All else that differs between T_n and T_u is learned
as well; `balanced_weights` takes out what a column of the table knows, such as the view.

K networks are trained, each without the images of one fold of patients. So every training image has logits of a network
that never saw its patient. In a second round K networks are trained on T_n and on that part of T_u which the first
round ranks highest, out of fold, as large as the estimated anomaly ratio: the normal images of T_u blur the boundary
(conditional value ignoring risk; Garg et al. 2021, "Mixture proportion estimation and PU learning: a modern approach").
They leave no fold out, since the choice was made by networks that knew the set of every image: only logits of the first
round show how far T_u and T_n are apart. A new image is scored by the mean of the K networks of the last round.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from amae.mae.model import MAE
from amae.method.augment import random_affine_flip
from amae.method.mixture import estimated_ratio
from amae.method.training import Resume, Schedule, resume_of, seed_of, train
from amae.settings import DetectorSettings, FineTunedSettings

Body = Callable[[], nn.Module]  # makes a network: normalised images `(B, 1, S, S)` to logits of places `(B, 1, h, w)`

WIDTHS = (24, 48, 96, 128)  # channels after the stem and after each block; every step halves the image
PIXEL = (0.25, 0.25)  # mean and std that intensities in [0, 1] are normalised by
BLUR = 1 / 16  # of the side
LEAST_KEPT = 0.1  # of T_u, in a second round
BATCH = 256  # images at a time where nothing is trained


class Block(nn.Module):
    """A residual block that halves the image: `(B, C_in, H, W)` to `(B, C_out, H / 2, W / 2)` (He et al. 2016)."""

    def __init__(self, before: int, after: int):
        """Build with torch's initialisation."""
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(before, after, 3, 2, 1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(before, after, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """The halved image."""
        return F.relu(self.shortcut(x) + self.residual(x))


def make_network() -> nn.Sequential:
    """Normalised images `(B, 1, S, S)`, S a multiple of 16, to logits of T_u of each place `(B, 1, S / 16, S / 16)`."""
    stem = nn.Sequential(nn.Conv2d(1, WIDTHS[0], 5, 2, 2, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.ReLU())
    blocks = [Block(before, after) for before, after in pairwise(WIDTHS)]
    parts = OrderedDict(stem=stem, blocks=nn.Sequential(*blocks), head=nn.Conv2d(WIDTHS[-1], 1, 1))
    return nn.Sequential(parts).to(memory_format=torch.channels_last)


class FineTuned(nn.Module):
    """f_0, to be fine-tuned, with a linear head on its patch tokens: `(B, 1, S, S)` to `(B, 1, S / P, S / P)`.

    Layer-wise decay of the learning rate (Clark et al. 2020, ELECTRA; as MAE is fine-tuned, He et al. 2022, appendix
    A.2): of `depth` blocks, block i gets `decay^(depth - i)` of the head's rate, the embedding `decay^(depth + 1)`.
    """

    def __init__(self, encoder: MAE, decay: float):
        """Copy the encoder; the decoder is left out, and the head begins at zero."""
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        for name in [name for name, _ in self.encoder.named_children() if name.startswith("decoder")]:
            delattr(self.encoder, name)
        del self.encoder.mask_token
        self.decay = decay
        self.head = nn.Linear(encoder.architecture.width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the patches."""
        about = self.encoder.architecture
        x = (x * PIXEL[1] + PIXEL[0] - about.mean) / about.std
        tokens = self.encoder.encode(self.encoder.embed(self.encoder.patchify(x)))[:, 1:]
        return self.head(tokens).reshape(len(x), 1, about.grid, about.grid)

    def lr_scale(self, name: str) -> float:
        """Share of the learning rate that a parameter gets."""
        depth = len(self.encoder.blocks)
        if name.startswith("encoder.blocks."):
            return self.decay ** (depth - int(name.split(".")[2]))
        return 1.0 if name.startswith(("head", "encoder.norm")) else self.decay ** (depth + 1)


def normalise(images: Tensor) -> Tensor:
    """Grey levels 0 to 255, `(B, S, S)`, as network input: float32 `(B, 1, S, S)`."""
    return (images[:, None].float() / 255 - PIXEL[0]) / PIXEL[1]


def balanced_weights(unlabeled: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """Weights, float64 `(N,)`, under which a group is as frequent in T_u as in T_n; their mean is 1.

    `unlabeled`, bool `(N,)`: which images are of T_u. `groups`: the value of a column for each image, such as its view.
    A group that only one of the two sets contains is left out (weight 0), since it gives away the set. Weights are
    P(group) P(set) / P(group, set) over the other images (reweighing; Kamiran and Calders 2012). Where the sets share
    no group, all weights are 1.
    """
    table = pd.crosstab(np.asarray(groups), unlabeled)
    shared = table[(table > 0).all(axis=1)] if table.shape[1] == 2 else table[:0]
    total = shared.to_numpy().sum()
    expected = np.outer(shared.sum(axis=1), shared.sum(axis=0)) / max(total, 1)
    weight = pd.DataFrame(expected / shared.to_numpy(), shared.index, shared.columns)
    known = np.isin(groups, shared.index)
    weights = np.zeros(len(unlabeled))
    weights[known] = [weight.at[g, u] for g, u in zip(np.asarray(groups)[known], unlabeled[known], strict=True)]
    return weights * (len(weights) / total) if total else np.ones(len(weights))


def train_network(
    images: Tensor,
    unlabeled: Tensor,
    weights: Tensor,
    settings: DetectorSettings | FineTunedSettings,
    seed: int,
    resume: Resume,
    make: Body = make_network,
) -> tuple[nn.Module, pd.DataFrame]:
    """Train one network to separate T_u (1) from T_n (0) by weighted cross-entropy; return it with its history.

    `images` uint8 `(N, S, S)`, `unlabeled` and `weights` float32 `(N,)`.
    """
    torch.manual_seed(seed)
    network = make().to(images.device)

    def loss_of(ids: Tensor, generator: torch.Generator) -> Tensor:
        batch = random_affine_flip(normalise(images[ids]), generator, outside=-PIXEL[0] / PIXEL[1])
        logits = network(batch.contiguous(memory_format=torch.channels_last)).mean((1, 2, 3))
        return (F.binary_cross_entropy_with_logits(logits, unlabeled[ids], reduction="none") * weights[ids]).mean()

    schedule = Schedule(
        settings.epochs,
        settings.warmup_epochs,
        settings.batch_size,
        settings.lr,
        settings.weight_decay,
        betas=(0.9, 0.999),
        drop_last=True,
    )
    return network, train(network, loss_of, len(images), schedule, seed, resume)


@torch.no_grad()
def logit_maps(network: nn.Module, images: Tensor) -> Tensor:
    """Logits of T_u of each place, mean of an image and its mirror image: float32 `(N, h, w)`.

    `images` uint8 `(N, S, S)`. The image's logit is the mean of its map.
    """
    network.eval()
    maps = []
    for part in images.split(BATCH):
        batch = normalise(part).contiguous(memory_format=torch.channels_last)
        maps.append((network(batch) + network(batch.flip(3)).flip(3))[:, 0] / 2)
    return torch.cat(maps)


def fit_rounds(
    images: Tensor,
    unlabeled: np.ndarray,
    folds: np.ndarray,
    groups: Sequence[str] | None,
    settings: DetectorSettings | FineTunedSettings,
    seed: int,
    resume: Resume,
    make: Body = make_network,
) -> tuple[list[nn.Module], np.ndarray, pd.DataFrame]:
    """Train one round or two: the networks of the last, the logits out of fold float64 `(N,)`, and the history.

    `images` uint8 `(N, S, S)` of T_n and T_u; `unlabeled` bool `(N,)`; `folds` int `(N,)`, 0 to K - 1; `groups`: the
    values of a column to balance, None for none.
    """
    count, out_of_fold = int(folds.max()) + 1, np.empty(len(unlabeled))
    left_out = [folds == fold for fold in range(count)]
    own = seed, resume_of(resume, "round0")
    networks, history = fit_networks(images, unlabeled, [~fold for fold in left_out], groups, settings, *own, make)
    for network, fold in zip(networks, left_out, strict=True):
        shown = images[torch.from_numpy(fold).to(images.device)]
        out_of_fold[fold] = logit_maps(network, shown).mean((1, 2)).double().cpu().numpy()
    if settings.rounds == 2:
        kept = ~unlabeled | ranked_abnormal(out_of_fold, unlabeled)
        own = seed_of(seed, 1), resume_of(resume, "round1")
        networks, second = fit_networks(images, unlabeled, [kept] * count, groups, settings, *own, make)
        history = pd.concat([history, second], ignore_index=True)
    return networks, out_of_fold, history


def ranked_abnormal(logits: np.ndarray, unlabeled: np.ndarray) -> np.ndarray:
    """The images of T_u with the highest logits out of fold, as many as its estimated anomaly ratio; bool `(N,)`.

    At least a tenth of T_u, so that there is something to learn from.
    """
    ratio = max(estimated_ratio(logits[~unlabeled], logits[unlabeled]), LEAST_KEPT)
    rows = np.flatnonzero(unlabeled)
    chosen = np.zeros(len(unlabeled), bool)
    chosen[rows[np.argsort(-logits[rows], kind="stable")[: max(1, round(ratio * len(rows)))]]] = True
    return chosen


def fit_networks(
    images: Tensor,
    unlabeled: np.ndarray,
    parts: Sequence[np.ndarray],
    groups: Sequence[str] | None,
    settings: DetectorSettings | FineTunedSettings,
    seed: int,
    resume: Resume,
    make: Body,
) -> tuple[list[nn.Module], pd.DataFrame]:
    """Train a network on each of these parts of the images, bool `(N,)`, and return them with their history."""
    networks, histories = [], []
    for number, kept in enumerate(parts):
        weights = np.ones(kept.sum())
        if groups is not None:
            weights = balanced_weights(unlabeled[kept], np.asarray(groups)[kept])
        target, weight = (
            torch.tensor(a, dtype=torch.float32, device=images.device) for a in (unlabeled[kept], weights)
        )
        own = seed_of(seed, number), resume_of(resume, f"{resume.path.stem}_network{number}")
        chosen = images[torch.from_numpy(kept).to(images.device)]
        network, history = train_network(chosen, target, weight, settings, *own, make)
        networks.append(network)
        histories.append(history.assign(network=f"{resume.path.stem}_network{number}"))
    return networks, pd.concat(histories, ignore_index=True)


def score_maps(networks: Sequence[nn.Module], images: Tensor) -> Tensor:
    """Mean of the networks' logit maps, float32 `(N, h, w)`, of images uint8 `(N, S, S)`."""
    return torch.stack([logit_maps(network, images) for network in networks]).mean(0)


def influence_maps(networks: Sequence[nn.Module], images: Tensor, normal: Tensor) -> Tensor:
    """Where an image differs from normal ones in a way that raises the networks' mean logit: float32 `(N, S, S)`.

    The difference to the mean normal image times the gradient of the logit (gradient times input; Shrikumar et al.
    2017, "Learning important features through propagating activation differences"), where it is positive, smoothed by a
    Gaussian whose standard deviation is BLUR of the side. `images` uint8 `(N, S, S)`; `normal` `(S, S)`, the mean of
    T_n, grey levels 0 to 255.
    """
    maps = []
    for part in images.split(BATCH):
        with torch.enable_grad():
            batch = normalise(part).requires_grad_()
            logits = torch.stack([network.eval()(batch).mean((1, 2, 3)) for network in networks]).mean(0)
            (gradient,) = torch.autograd.grad(logits.sum(), batch)
        gain = gradient * (batch.detach() - normalise(normal[None].to(batch)))
        maps.append(gain[:, 0].clamp_min(0).cpu().numpy())
    blur = BLUR * images.shape[-1]
    return torch.from_numpy(gaussian_filter(np.concatenate(maps), (0, blur, blur)))
