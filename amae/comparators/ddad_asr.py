"""DDAD-ASR: DDAD-AE whose two maps a small network turns into one, trained on synthetic anomalies.

Source: Cai et al. 2023, "Dual-distribution discrepancy with self-supervised refinement for anomaly detection in medical
images". The published code reports the epoch of the best AUC on test images; here it is the last epoch.
"""

import pandas as pd
import torch
from torch import Tensor, nn

from amae.comparators import ddad
from amae.comparators.interface import Fitted, Scores, TestData, TrainingData
from amae.comparators.losses import focal_loss
from amae.comparators.settings import RefinedSettings
from amae.comparators.shared import signed, trained
from amae.data.resize import in_batches, resize
from amae.method.training import Resume, Schedule, resume_of, seed_of, train
from amae.runtime.tensors import prefixed, under

WIDTH = 128
CHANGED = 0.5  # share of images that get a patch
HALF_WIDTH = (0.05, 0.2)  # of a patch, in sides of the image
CENTRE = (0.1, 0.9)  # of a patch, in sides of the image


def make_network() -> nn.Sequential:
    """The maps inter and intra `(B, 2, S, S)` to logits of normal (0) and abnormal (1), `(B, 2, S, S)`."""
    layers: list[nn.Module] = []
    for before in (2, WIDTH):
        layers += [nn.Conv2d(before, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(WIDTH, 2, 3, padding=1))


def fit(data: TrainingData, settings: RefinedSettings, seed: int, resume: Resume) -> Fitted:
    """Train DDAD-AE on T_n and T_u, then the refining network on T_n; the state and history of both.

    The autoencoders are those that DDAD-AE trains with this seed.
    """
    state, history = ddad.fit(data, settings, seed, resume, uncertain=False)
    images = resize(data.normal, settings.image_size)
    modules = ddad.load_modules(state, settings, False, images.device)
    own_seed = seed_of(seed, 2)
    torch.manual_seed(own_seed)
    network = make_network().to(images.device)

    def loss_of(ids: Tensor, generator: torch.Generator) -> Tensor:
        with torch.no_grad():
            shift = torch.randint(1, len(images), ids.shape, generator=generator, device=ids.device)
            other = images[(ids + shift) % len(images)].float()
            changed, target = blend_patches(images[ids].float(), other, generator)
            found = _found(modules, changed)
        return focal_loss(network(found), target)

    schedule = Schedule(
        settings.refine_epochs,
        warmup_epochs=0,
        batch_size=settings.refine_batch_size,
        lr=settings.refine_lr,
        weight_decay=1e-4,
        betas=(0.5, 0.999),
        optimiser="adam",
        final_lr=settings.refine_lr,
    )
    own = train(network, loss_of, len(images), schedule, own_seed, resume_of(resume, "refine"))
    history = pd.concat([history, own.assign(network="refine")], ignore_index=True)
    return state | prefixed(network.state_dict(), "refine"), history


def blend_patches(images: Tensor, others: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Blend a square of another image into half of the images, both `(B, S, S)`: the images, and the squares as bool.

    Half-width, centre and opacity (0 to 1) are uniform; a square may end at the edge. As in FPI (Tan et al. 2020).
    """
    size = images.shape[1]
    draws = torch.rand(5, len(images), 1, generator=generator, device=generator.device).to(images.device)
    half = (HALF_WIDTH[0] + (HALF_WIDTH[1] - HALF_WIDTH[0]) * draws[0]) * size
    centre = (CENTRE[0] + (CENTRE[1] - CENTRE[0]) * draws[1:3]) * size  # (2, B, 1): row, column
    rows, columns = (torch.arange(size, device=images.device) + 0.5 - centre).abs() < half
    inside = rows[:, :, None] & columns[:, None, :] & (draws[3] < CHANGED)[:, :, None]
    opacity = inside * draws[4][:, :, None]
    return images + opacity * (others - images), inside


def score(state: dict[str, Tensor], data: TestData, settings: RefinedSettings) -> Scores:
    """Mean over pixels of the refining network's probability of abnormal, float32 `(N,)`."""
    modules = ddad.load_modules(state, settings, False, data.images.device)
    network = trained(make_network(), under(state, "refine"), data.images.device)

    def of_batch(batch: Tensor) -> Tensor:
        return network(_found(modules, batch)).softmax(1)[:, 1].flatten(1).mean(1)

    return {"score": in_batches(of_batch, resize(data.images, settings.image_size))}


def _found(modules: dict[str, list[nn.Sequential]], images: Tensor) -> Tensor:
    """The maps inter and intra, `(B, 2, S, S)`, of images in grey levels `(B, S, S)`."""
    maps = ddad.score_maps(modules, signed(images))
    return torch.cat([maps["inter"], maps["intra"]], dim=1)
