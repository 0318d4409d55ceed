"""Poisson image editing in rectangles: the gradients of another image, with the values of this one at the edge.

The region is a rectangle, so the sines of the discrete Laplacian solve the equation exactly, by four products of
matrices for a whole batch, on its device. Sources: Pérez, Gangnet and Blake 2003, "Poisson image editing" (mixed
gradients); Lynch, Rice and Thomas 1964 (products of matrices).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def mixed_clone(onto: Tensor, piece: Tensor, start: Tensor, size: Tensor) -> Tensor:
    """Clone rectangles of `piece` into `onto` at the same pixels, with the stronger gradient of both: MIXED_CLONE.

    Both float32 `(B, S, S)` in grey levels; rectangles at `start` of `size`, int64 `(2, B)`. Their outermost pixels
    keep the values of `onto`. Inside, with v_pq the one of (onto_p - onto_q) and (piece_p - piece_q) of the larger
    magnitude, the result u meets sum over the four neighbours q of (u_p - u_q - v_pq) = 0. Values are not clipped.
    """
    sines_down, values_down = _eigenvectors(start[0], size[0], onto.shape[1])
    sines_across, values_across = _eigenvectors(start[1], size[1], onto.shape[2])
    load = _excess(onto, piece, 1) + _excess(onto, piece, 2)
    spectrum = sines_down.transpose(1, 2) @ load @ sines_across
    spectrum = spectrum / (values_down[:, :, None] + values_across[:, None, :])
    return onto + sines_down @ spectrum @ sines_across.transpose(1, 2)


def _excess(onto: Tensor, piece: Tensor, axis: int) -> Tensor:
    """Sum over the neighbours q of a pixel p along an axis of v_pq - (onto_p - onto_q), `(B, S, S)`."""
    own, other = onto.diff(dim=axis), piece.diff(dim=axis)
    excess = torch.where(other.abs() > own.abs(), other - own, 0.0)
    before, after = ((0, 0, 1, 0), (0, 0, 0, 1)) if axis == 1 else ((1, 0), (0, 1))
    return F.pad(excess, before) - F.pad(excess, after)


def _eigenvectors(start: Tensor, size: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Eigenvectors of -d2/dx2 in the inner pixels of intervals, 0 at their ends: `(B, side, K)`, 0 elsewhere; values.

    K is the most inner pixels of the batch. Shorter intervals have vectors of zeros besides, of value 1.
    """
    inner = (size - 2).clamp(min=0)
    wave = torch.arange(1, max(1, int(inner.max())) + 1, device=start.device)  # (K,)
    place = torch.arange(side, device=start.device) - start[:, None]  # (B, side), 1 to inner are the inner pixels
    exists = wave <= inner[:, None]
    inside = ((place >= 1) & (place <= inner[:, None]))[:, :, None] & exists[:, None, :]
    period = (inner + 1)[:, None]
    phase = (place[:, :, None] * wave) % (2 * period[:, :, None])  # whole numbers: no rounding of large arguments
    sines = (math.pi * phase / period[:, :, None]).sin() * (2 / period).sqrt()[:, :, None]
    values = 4 * (math.pi / 2 * wave / period).sin().square()
    return torch.where(inside, sines, 0.0), torch.where(exists, values, 1.0)
