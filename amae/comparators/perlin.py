"""Perlin noise, in batches. Source: Perlin 1985 and 2002 ("Improving noise"), as DRAEM takes it for its masks."""

import math

import torch
from torch import Tensor


def perlin_noise(cells: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Noise, float32 `(B, side, side)` in [-1, 1], on lattices of `cells` (down, across), int64 `(2, B)`, per image.

    A gradient of random direction at every lattice point, faded from one to the next by 6 t^5 - 15 t^4 + 10 t^3, times
    the root of two. It is 0 at the lattice points.
    """
    position = torch.arange(side, device=cells.device) * cells[:, :, None] / side  # (2, B, S), in cells
    low = position.long()
    offset = position - low
    fade = offset**3 * (offset * (6 * offset - 15) + 10)
    points = int(cells.max()) + 1
    angle = 2 * math.pi * torch.rand(cells.shape[1], points, points, generator=generator, device=generator.device)
    angle = angle.to(cells.device)
    batch = torch.arange(cells.shape[1], device=cells.device)[:, None, None]
    noise = torch.zeros(cells.shape[1], side, side, device=cells.device)
    for down in (0, 1):
        for across in (0, 1):
            at = angle[batch, (low[0] + down)[:, :, None], (low[1] + across)[:, None, :]]
            ramp = (offset[0] - down)[:, :, None] * at.sin() + (offset[1] - across)[:, None, :] * at.cos()
            noise += ramp * (1 - down - fade[0]).abs()[:, :, None] * (1 - across - fade[1]).abs()[:, None, :]
    return math.sqrt(2) * noise
