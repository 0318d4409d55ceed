"""The network of NSA (Schlüter et al. 2022), which segments synthetic anomalies of whichever kind it is given."""

import math
from collections import OrderedDict
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet18

from amae.comparators.interface import Fitted
from amae.comparators.settings import SegmentationSettings
from amae.comparators.shared import signed, trained
from amae.data.resize import in_batches, resize
from amae.method.training import Resume, Schedule, train
from amae.runtime.device import precision

LOADED, CROPPED, INPUT = 256, 230, 224  # sides as published; others keep their ratios
ROTATION = 3  # degrees to either side
FINAL_LR = 1e-6


class UpBlock(nn.Module):
    """The mirror image of ResNet's basic block: `(B, C_in, H, W)` to `(B, C_out, 2 H, 2 W)`."""

    def __init__(self, before: int, after: int):
        """Build with torch's initialisation."""
        super().__init__()
        self.residual = nn.Sequential(
            nn.ConvTranspose2d(before, after, 3, 2, 1, output_padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.shortcut = nn.Sequential(
            nn.ConvTranspose2d(before, after, 1, 2, output_padding=1, bias=False), nn.BatchNorm2d(after)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Upsample by two."""
        return F.relu(self.residual(x) + self.shortcut(x))


def make_network() -> nn.Sequential:
    """Images `(B, 1, S, S)`, S a multiple of 32, to a map of logits of the same shape."""
    backbone = resnet18(weights=None)
    backbone.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    encoder = nn.Sequential(OrderedDict(list(backbone.named_children())[:-2]))  # all but pooling and classifier
    bottleneck: list[nn.Module] = []
    for before, after in [(512, 256), (256, 128)]:
        bottleneck += [nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    decoder = [UpBlock(128, 64), UpBlock(64, 32), UpBlock(32, 16), nn.Upsample(scale_factor=2, mode="bilinear")]
    decoder.append(nn.ConvTranspose2d(16, 1, 7, 2, 3, output_padding=1))
    parts = {"encoder": encoder, "bottleneck": nn.Sequential(*bottleneck), "decoder": nn.Sequential(*decoder)}
    return nn.Sequential(OrderedDict(parts))


def rotate_and_crop(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Rotate by up to 3 degrees, cut the middle out, and of that a random square: `(B, S, S)` to `(B, size, size)`.

    Nearest pixel, so grey levels stay what they are; 0 beyond the edge. `images`: float32, any range.
    """
    draws = torch.rand(3, len(images), generator=generator, device=generator.device).to(images.device)
    angle = torch.deg2rad((2 * draws[0] - 1) * ROTATION)
    loaded = images.shape[1]
    room = round(size * CROPPED / INPUT) - size  # pixels by which the crop may move
    start = (loaded - size - room) // 2 + (draws[1:] * (room + 1)).floor().clamp(max=room)  # (2, B): row, column
    return rotated_crop(images, angle, start, size)


def rotated_crop(images: Tensor, angle: Tensor, start: Tensor, size: int) -> Tensor:
    """The crop at (row, column) `start` `(2, B)` of images turned counter-clockwise by `angle` `(B,)` in radians."""
    centre = images.shape[1] / 2
    pixels = torch.arange(size, device=images.device) + 0.5 - centre
    down, across = (start[:, :, None] + pixels).split(1)  # (1, B, size) each, from the image's centre
    down, across = down[0][:, :, None], across[0][:, None, :]
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    grid = torch.stack([across * cosine - down * sine, across * sine + down * cosine], dim=-1) / centre
    return F.grid_sample(images[:, None], grid, mode="nearest", align_corners=False)[:, 0]


def fit(
    images: Tensor,
    make_anomalies: Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]],
    settings: SegmentationSettings,
    seed: int,
    resume: Resume,
) -> Fitted:
    """Train on packed images uint8 `(N, H, W)`, every image of every batch with a synthetic anomaly.

    `make_anomalies(images, generator)` changes images `(B, S, S)`, grey levels 0 to 255, and returns them with their
    target maps `(B, S, S)` in [0, 1].
    """
    images = resize(images, loaded_size(settings.image_size))
    torch.manual_seed(seed)
    network = make_network().to(images.device)

    def loss_of(ids: Tensor, generator: torch.Generator) -> Tensor:
        with torch.no_grad():
            batch = rotate_and_crop(images[ids].float(), settings.image_size, generator)
            abnormal, target = make_anomalies(batch, generator)
        with precision(ids.device):
            logits = network(signed(abnormal))[:, 0]
            return F.binary_cross_entropy_with_logits(logits, target.float())

    schedule = Schedule(
        settings.epochs,
        warmup_epochs=0,
        batch_size=settings.batch_size,
        lr=settings.lr,
        weight_decay=0.0,
        betas=(0.9, 0.999),
        optimiser="adam",
        final_lr=min(FINAL_LR, settings.lr),
    )
    history = train(network, loss_of, len(images), schedule, seed, resume)
    return network.state_dict(), history


def score(state: dict[str, Tensor], images: Tensor, settings: SegmentationSettings) -> Tensor:
    """Mean of the predicted map of the middle of packed images uint8 `(N, H, W)`: float32 `(N,)`."""
    network = trained(make_network(), state, images.device)
    loaded = resize(images, loaded_size(settings.image_size))
    edge = (loaded.shape[1] - settings.image_size) // 2
    middle = loaded[:, edge : edge + settings.image_size, edge : edge + settings.image_size]
    return in_batches(lambda batch: network(signed(batch)).sigmoid().flatten(1).mean(1), middle)


def loaded_size(image_size: int) -> int:
    """Side of the images that the network's input is cut from, 256 for 224."""
    return math.ceil(image_size * LOADED / INPUT)
