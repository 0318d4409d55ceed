"""DRAEM: one network repairs an image with textured anomalies, a second finds them from the image and its repair.

Source: Zavrtanik, Kristan and Skocaj 2021, "DRAEM: a discriminatively trained reconstruction embedding for surface
anomaly detection". docs/comparators.md lists the departures.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amae.comparators.interface import Fitted, Scores, TestData, TrainingData
from amae.comparators.losses import focal_loss, ssim
from amae.comparators.nsa import rotated_crop
from amae.comparators.perlin import perlin_noise
from amae.comparators.settings import DraemSettings
from amae.comparators.shared import trained
from amae.comparators.textures import draw_textures, load_textures
from amae.data.resize import resize
from amae.method.training import Resume, Schedule, train
from amae.runtime.device import precision

ROTATED, ANGLE = 0.3, 90  # share of images that are rotated, by up to so many degrees to either side
ABNORMAL = 0.5  # share of images with a synthetic anomaly
SCALES = 6  # the noise has 2^0 to 2^5 cells along an axis
THRESHOLD = 0.5  # the anomaly is where the noise is above
MOST_OWN = 0.8  # the image's share in its anomaly is uniform below
POOL = 21  # pixels at 256 px over which the anomaly map is averaged
DROPS = (0.8, 0.9)  # of the epochs, where the learning rate falls to a fifth


class UNet(nn.Module):
    """Convolutions at falling and again rising resolution: `(B, inputs, S, S)` to `(B, outputs, S, S)`."""

    def __init__(self, inputs: int, outputs: int, width: int, halvings: int, skips: bool):
        """Build with torch's initialisation; widths double from `width` to eight times as much."""
        super().__init__()
        widths = [width * min(2**level, 8) for level in range(halvings + 1)]
        self.skips = skips
        self.down = nn.ModuleList(_block(before, after) for before, after in pairwise([inputs, *widths]))
        rising = [(deep, shallow) for shallow, deep in pairwise(widths)][::-1]
        self.up = nn.ModuleList(_block(deep + skips * shallow, shallow) for deep, shallow in rising)
        self.last = nn.Conv2d(width, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Down, up, and a last convolution."""
        levels: list[Tensor] = []
        for block in self.down:
            x = block(F.max_pool2d(x, 2) if levels else x)
            levels.append(x)
        for block, level in zip(self.up, levels[-2::-1], strict=True):
            x = F.interpolate(x, scale_factor=2, mode="bilinear")
            x = block(torch.cat([x, level], 1) if self.skips else x)
        return self.last(x)


def _block(before: int, after: int) -> nn.Sequential:
    """Two convolutions."""
    layers: list[nn.Module] = []
    for inputs in (before, after):
        layers += [nn.Conv2d(inputs, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)


class Draem(nn.Module):
    """Images `(B, 1, S, S)` in [0, 1], S a multiple of 32, to repairs of the same shape and logits `(B, 2, S, S)`."""

    def __init__(self, width: int):
        """Build both networks."""
        super().__init__()
        self.repair = UNet(1, 1, width, halvings=4, skips=False)
        self.find = UNet(2, 2, width // 2, halvings=5, skips=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Repair the images, and find what is abnormal (1)."""
        repaired = self.repair(x)
        return repaired, self.find(torch.cat([repaired, x], 1))


def fit(data: TrainingData, settings: DraemSettings, seed: int, resume: Resume) -> Fitted:
    """Train both networks on T_n, and T_u where there is one; textures come from the folder, or are pieces of T_n."""
    images = resize(data.pooled, settings.image_size)
    pictures, cut = images[: len(data.normal)], settings.textures is None
    if not cut:
        pictures = load_textures(settings.textures, settings.image_size).to(images.device)
    torch.manual_seed(seed)
    network = Draem(settings.width).to(images.device)

    def loss_of(ids: Tensor, generator: torch.Generator) -> Tensor:
        with torch.no_grad():
            clean = rotate_some(images[ids].float(), generator) / 255
            textures = draw_textures(pictures, cut, len(ids), generator).float() / 255
            abnormal, mask = add_textures(clean, textures, generator)
        with precision(ids.device):
            repaired, logits = network(abnormal[:, None])
        return loss(repaired.float(), logits.float(), clean[:, None], mask)

    schedule = Schedule(
        settings.epochs,
        warmup_epochs=0,
        batch_size=settings.batch_size,
        lr=settings.lr,
        weight_decay=0.0,
        betas=(0.9, 0.999),
        optimiser="adam",
        drops=DROPS,
    )
    history = train(network, loss_of, len(images), schedule, seed, resume)
    return network.state_dict(), history


@torch.no_grad()
def score(state: dict[str, Tensor], data: TestData, settings: DraemSettings) -> Scores:
    """Largest value of the averaged anomaly map, float32 `(N,)` in [0, 1]."""
    network = trained(Draem(settings.width), state, data.images.device)
    batches = resize(data.images, settings.image_size).split(settings.batch_size)
    found = [pooled_maximum(network(batch[:, None].float() / 255)[1].softmax(1)[:, 1:]) for batch in batches]
    return {"score": torch.cat(found)}


def pooled_maximum(maps: Tensor) -> Tensor:
    """Maximum of maps `(B, 1, S, S)` after a mean over 21 x 21 px (at S = 256; odd), with 0 beyond the edge: `(B,)`."""
    reach = round(POOL // 2 * maps.shape[2] / 256)
    return F.avg_pool2d(maps, 2 * reach + 1, stride=1, padding=reach).flatten(1).amax(1)


def rotate_some(images: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate 30 % of images `(B, S, S)` by up to 90 degrees to either side (nearest pixel, 0 beyond the edge)."""
    angle, chosen = torch.rand(2, len(images), generator=generator, device=generator.device).to(images.device)
    return _rotated(images, torch.where(chosen < ROTATED, 2 * angle - 1, 0.0))


def _rotated(images: Tensor, angle: Tensor) -> Tensor:
    """Images `(B, S, S)` rotated by angles `(B,)` in units of 90 degrees."""
    start = torch.zeros(2, len(images), device=images.device)
    return rotated_crop(images, torch.deg2rad(angle * ANGLE), start, images.shape[1])


def add_textures(images: Tensor, textures: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Blend a texture into half of the images, both `(B, S, S)` in [0, 1], where rotated Perlin noise is above 0.5.

    There the result is beta * image + (1 - beta) * texture, beta ~ U(0, 0.8). Returns it and the mask, bool
    `(B, S, S)`, which can be empty.
    """
    draws = torch.rand(5, len(images), generator=generator, device=generator.device).to(images.device)
    cells = 2 ** (draws[:2] * SCALES).long()
    noise = _rotated(perlin_noise(cells, images.shape[1], generator), 2 * draws[2] - 1)
    mask = (noise > THRESHOLD) & (draws[3] < ABNORMAL)[:, None, None]
    own = (draws[4] * MOST_OWN)[:, None, None]
    return torch.where(mask, own * images + (1 - own) * textures, images), mask


def loss(repaired: Tensor, logits: Tensor, clean: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error and 1 - SSIM of the repair, and focal loss of the map, in equal parts."""
    return F.mse_loss(repaired, clean) + 1 - ssim(repaired, clean, span=1.0) + focal_loss(logits, mask)
