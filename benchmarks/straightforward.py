"""The straightforward path: what a competent person writes who follows the papers, with usual tools and no haste.

Images are read, resized and changed one by one by PIL, lungs are segmented and patches pasted inside the data loader,
a grey image is copied to three channels, attention is written out, each pass through the network has one mask and
predicts every patch, frozen features are computed again in every step, and test images come one at a time. It
computes what `amae` computes: with the same weights, images and masks, tests hold losses and scores equal.

Sources: MAE (He et al. 2022), AnatPaste (Sato et al. 2022), AMAE (Bozorgtabar et al. 2023).
"""

import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter
from torch import Tensor, nn
from torchvision import transforms

from amae.data.lungs import lung_mask  # its recipe is scikit-image, image by image, as here
from amae.mae.architecture import Architecture
from amae.mae.model import sincos_positions

CHANNELS = 3


class Attention(nn.Module):
    """Multi-head self-attention, written out."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens `(B, N, width)` to `(B, N, width)`."""
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(batch, tokens, width))


class Block(nn.Module):
    """Transformer block of ViT."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})

    def forward(self, x: Tensor) -> Tensor:
        """Tokens `(B, N, width)` to `(B, N, width)`."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class MAE(nn.Module):
    """Masked autoencoder of three-channel images, one mask per forward pass."""

    def __init__(self, a: Architecture):
        super().__init__()
        self.a = a
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(CHANNELS, a.width, a.patch_size, a.patch_size)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, a.width))
        self.register_buffer("pos_embed", sincos_positions(a.width, a.grid))
        self.blocks = nn.ModuleList([Block(a.width, a.heads, int(a.width * a.mlp_ratio)) for _ in range(a.depth)])
        self.norm = nn.LayerNorm(a.width, eps=1e-6)
        self.decoder_embed = nn.Linear(a.width, a.decoder_width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, a.decoder_width))
        self.register_buffer("decoder_pos_embed", sincos_positions(a.decoder_width, a.grid))
        hidden = int(a.decoder_width * a.mlp_ratio)
        blocks = [Block(a.decoder_width, a.decoder_heads, hidden) for _ in range(a.decoder_depth)]
        self.decoder_blocks = nn.ModuleList(blocks)
        self.decoder_norm = nn.LayerNorm(a.decoder_width, eps=1e-6)
        self.decoder_pred = nn.Linear(a.decoder_width, a.patch_size**2 * CHANNELS)

    def patchify(self, images: Tensor) -> Tensor:
        """Images `(B, 3, H, W)` to patches `(B, T, p * p * 3)`."""
        p, grid = self.a.patch_size, self.a.grid
        cut = images.reshape(len(images), CHANNELS, grid, p, grid, p)
        return torch.einsum("nchpwq->nhwpqc", cut).reshape(len(images), grid * grid, p * p * CHANNELS)

    def encode(self, images: Tensor, keep: Tensor | None = None) -> Tensor:
        """Latents `(B, 1 + V, width)` of the patches `keep (B, V)`, or of all."""
        x = self.patch_embed["proj"](images).flatten(2).transpose(1, 2) + self.pos_embed[:, 1:]
        if keep is not None:
            x = torch.gather(x, 1, keep[:, :, None].repeat(1, 1, x.shape[2]))
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        x = torch.cat([cls, x], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def forward(self, images: Tensor, noise: Tensor, mask_ratio: float) -> tuple[Tensor, Tensor]:
        """Predictions `(B, T, p * p * 3)` of all patches and the mask `(B, T)`, 1 hidden, that `noise (B, T)` draws."""
        visible = int(self.a.patches * (1 - mask_ratio))
        shuffle = torch.argsort(noise, dim=1)
        restore = torch.argsort(shuffle, dim=1)
        mask = torch.ones_like(noise)
        mask[:, :visible] = 0
        mask = torch.gather(mask, 1, restore)
        latent = self.decoder_embed(self.encode(images, shuffle[:, :visible]))
        x = torch.cat([latent[:, 1:], self.mask_token.repeat(len(latent), self.a.patches - visible, 1)], dim=1)
        x = torch.gather(x, 1, restore[:, :, None].repeat(1, 1, x.shape[2]))
        x = torch.cat([latent[:, :1], x], dim=1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_pred(self.decoder_norm(x))[:, 1:], mask

    def loss(self, images: Tensor, noise: Tensor, mask_ratio: float) -> Tensor:
        """Mean squared error over the hidden patches."""
        prediction, mask = self(images, noise, mask_ratio)
        error = (prediction - self.patchify(images)).square().mean(dim=-1)
        return (error * mask).sum() / mask.sum()


def three_channels(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a grey model as those of a three-channel one that does the same with a copied image."""
    embed, pred = state["patch_embed.proj.weight"], state["decoder_pred.weight"]
    return {
        **state,
        "patch_embed.proj.weight": embed.repeat(1, CHANNELS, 1, 1) / CHANNELS,
        "decoder_pred.weight": pred.repeat_interleave(CHANNELS, dim=0),
        "decoder_pred.bias": state["decoder_pred.bias"].repeat_interleave(CHANNELS),
    }


def adapt(
    model: MAE, optimiser: torch.optim.Optimizer, images: Tensor, noises: Sequence[Tensor], mask_ratio: float
) -> float:
    """One step of a module on normalised images `(B, 3, H, W)`: a pass for each mask; returns the loss."""
    loss = sum(model.loss(images, noise, mask_ratio) for noise in noises) / len(noises)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


def learn_head(encoder: MAE, head: nn.Module, optimiser: torch.optim.Optimizer, pairs: Sequence[Tensor]) -> float:
    """One step of stage 1 on normal images and their twins, each `(B, 3, H, W)`: the whole encoder for both."""
    with torch.no_grad():
        features = encoder.encode(torch.cat(list(pairs)))[:, 1:].mean(dim=1)
    labels = torch.tensor([0] * len(pairs[0]) + [1] * len(pairs[1]), device=features.device)
    loss = F.cross_entropy(head(features), labels)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


@torch.no_grad()
def inter_discrepancy(modules: Sequence[MAE], images: Tensor, noises: Tensor, mask_ratio: float) -> list[float]:
    """Score of each normalised test image `(N, 3, H, W)`, one at a time, under its masks `noises (N, L, T)` (Eq. 4)."""
    scores = []
    for image, masks in zip(images, noises, strict=True):
        maps = []
        for model in modules:
            total, count = 0, 0
            for noise in masks:
                prediction, mask = model(image[None], noise[None], mask_ratio)
                total = total + prediction * mask[:, :, None]
                count = count + mask[:, :, None]
            maps.append(total / count.clamp(min=1))
        scores.append((maps[0] - maps[1]).abs().mean().item() * model.a.std)
    return scores


class AdaptationData(torch.utils.data.Dataset):
    """Image files for the modules: read, resized, augmented and normalised one by one."""

    def __init__(self, paths: Sequence[Path], a: Architecture):
        self.paths = paths
        self.transform = transforms.Compose(
            [
                transforms.Resize((a.image_size, a.image_size)),
                transforms.RandomResizedCrop(a.image_size, scale=(0.5, 1.0), interpolation=Image.Resampling.BICUBIC),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize([a.mean] * CHANNELS, [a.std] * CHANNELS),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Tensor:
        return self.transform(Image.open(self.paths[row]).convert("RGB"))


class PasteData(torch.utils.data.Dataset):
    """Image files for stage 1: a normal image and its synthetic twin."""

    def __init__(self, paths: Sequence[Path], a: Architecture):
        self.paths, self.size = paths, a.image_size
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize([a.mean] * CHANNELS, [a.std] * CHANNELS)]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        image = Image.open(self.paths[row]).convert("L").resize((self.size, self.size))
        return self.transform(image.convert("RGB")), self.transform(anatpaste(image).convert("RGB"))


def anatpaste(image: Image.Image) -> Image.Image:
    """Segment the lungs of a grey image, and paste one patch into them (AnatPaste, as its authors compute it)."""
    mask = Image.fromarray(lung_mask(np.asarray(image.resize((256, 256))))).resize(image.size)
    return paste(image, np.asarray(mask))


def paste(image: Image.Image, lungs: np.ndarray) -> Image.Image:
    """Paste one patch into the lungs, bool (H, W), of a grey image."""
    width, height = image.size
    area, aspect = (
        random.uniform(0.02, 0.15) * width * height,
        math.exp(random.uniform(math.log(0.3), math.log(1 / 0.3))),
    )
    patch_height = min(height, max(3, round(math.sqrt(area / aspect))))
    patch_width = min(width, max(3, round(math.sqrt(area * aspect))))
    left, top = random.randint(0, width - patch_width), random.randint(0, height - patch_height)
    patch = image.crop((left, top, left + patch_width, top + patch_height))
    patch = ImageEnhance.Brightness(patch).enhance(random.uniform(0.9, 1.1))
    patch = ImageEnhance.Contrast(patch).enhance(random.uniform(0.9, 1.1))
    scale = height / 256
    inset = max(1, round(10 * scale))
    inset_x, inset_y = min(inset, (patch_width - 1) // 2), min(inset, (patch_height - 1) // 2)
    shape = Image.new("L", patch.size)
    draw = random.choice([ImageDraw.Draw(shape).ellipse, ImageDraw.Draw(shape).rectangle])
    draw((inset_x, inset_y, patch_width - 1 - inset_x, patch_height - 1 - inset_y), fill=random.randint(150, 254))
    shape = shape.filter(ImageFilter.GaussianBlur(random.randint(0, 14) * scale))
    rows, columns = np.nonzero(lungs) if lungs.any() else np.nonzero(~lungs)
    centre = random.randrange(len(rows))
    corner = int(columns[centre]) - patch_width // 2, int(rows[centre]) - patch_height // 2
    alpha = Image.new("L", image.size)
    alpha.paste(shape, corner)
    if lungs.any():
        alpha = Image.fromarray(np.asarray(alpha) * lungs)
    moved = image.copy()
    moved.paste(patch, corner)
    return Image.composite(moved, image, alpha)
