"""The transformer block of ViT, as timm's `vision_transformer.Block` (tests find the two equal, bit for bit).

Its own file because importing timm takes longer than many a job of the workflow.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head self-attention with one projection for queries, keys and values."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, qkv: Tensor, wanted: int) -> Tensor:
        """Projected tokens `(B, N, 3 * width)`, all of them attended to, to the last `wanted`: `(B, wanted, width)`."""
        # Cut along the width, and so is the gradient: it comes back in the order of the projection, without a copy.
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in qkv.chunk(3, 2))
        if wanted < q.shape[2]:  # a slice of everything would cost a copy of its gradient
            q = q[:, :, -wanted:]
        attended = F.scaled_dot_product_attention(q, k, v)  # (B, heads, wanted, D)
        return self.proj(attended.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Pre-norm block: attention, then an MLP with GELU, each added to its input."""

    def __init__(self, width: int, heads: int, mlp_ratio: float):
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})

    def project(self, x: Tensor) -> Tensor:
        """Queries, keys and values of tokens `(..., width)`: `(..., 3 * width)`."""
        return self.attn.qkv(self.norm1(x))

    def forward(self, x: Tensor, qkv: Tensor | None = None, wanted: int | None = None) -> Tensor:
        """Tokens `(B, N, width)` to `(B, N, width)`, or to the last `wanted` of them, if no more are needed.

        `qkv`: what `project` gives for `x`, where the caller has it.
        """
        tokens = x.shape[1]
        wanted = wanted or tokens
        attended = self.attn(self.project(x) if qkv is None else qkv, wanted)
        x = (x if wanted == tokens else x[:, -wanted:]) + attended
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))
