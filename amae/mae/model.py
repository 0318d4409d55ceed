"""The masked autoencoder (He et al., CVPR 2022), for square images of any number of channels.

Parameter names are those of the published MAE code, so published files load by name. Everything works on patches
`(B, T, P)`, T = (image_size / patch_size)^2 in row-major order and P = patch_size^2 * channels: an image is cut once,
and the same cut is the input of the encoder and the target of the decoder.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amae.mae.architecture import Architecture
from amae.mae.block import Block


def sincos_positions(width: int, grid: int) -> Tensor:
    """Fixed 2-D positions `(1, 1 + grid^2, width)`: a zero row for the cls token, then (sin w, cos w, sin h, cos h).

    On the CPU always: on the meta device the arithmetic alone would import torch's compiler, for seconds.
    """
    frequency = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64, device="cpu") / (width / 4))
    angle = torch.outer(torch.arange(grid, dtype=torch.float64, device="cpu"), frequency)
    axis = torch.cat([angle.sin(), angle.cos()], dim=1)  # (grid, width / 2)
    positions = torch.cat([axis.repeat(grid, 1), axis.repeat_interleave(grid, 0)], dim=1)
    return torch.cat([positions.new_zeros(1, width), positions])[None].float()


def gather_tokens(tokens: Tensor, ids: Tensor) -> Tensor:
    """Tokens `(B, T, D)` at `ids (B * L, N)`, L rows for each of the B in turn: `(B * L, N, D)`."""
    taken = tokens.gather(1, ids.reshape(len(tokens), -1, 1).expand(-1, -1, tokens.shape[-1]))  # (B, L * N, D)
    return taken.reshape(*ids.shape, -1)


class MAE(nn.Module):
    """A masked autoencoder; see the module's docstring for shapes."""

    def __init__(self, architecture: Architecture):
        """Build with MAE's initialisation, from torch's global generator (seed it to repeat)."""
        super().__init__()
        a = self.architecture = architecture
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(a.channels, a.width, a.patch_size, a.patch_size)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, a.width))
        self.register_buffer("pos_embed", sincos_positions(a.width, a.grid))
        self.blocks = nn.ModuleList([Block(a.width, a.heads, a.mlp_ratio) for _ in range(a.depth)])
        self.norm = nn.LayerNorm(a.width, eps=1e-6)
        self.decoder_embed = nn.Linear(a.width, a.decoder_width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, a.decoder_width))
        self.register_buffer("decoder_pos_embed", sincos_positions(a.decoder_width, a.grid))
        self.decoder_blocks = nn.ModuleList(
            [Block(a.decoder_width, a.decoder_heads, a.mlp_ratio) for _ in range(a.decoder_depth)]
        )
        self.decoder_norm = nn.LayerNorm(a.decoder_width, eps=1e-6)
        self.decoder_pred = nn.Linear(a.decoder_width, a.patch_values)
        if not self.cls_token.is_meta:
            self._initialise()

    def _initialise(self) -> None:
        """Xavier-uniform linear layers (the patch embedding as one), zero biases, tokens from N(0, 0.02)."""
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.patch_embed["proj"].weight.data.flatten(1))

    def normalise(self, images: Tensor) -> Tensor:
        """Grey uint8 `(B, H, W)` to normalised float32 `(B, 1, H, W)`, the model's input and target."""
        return (images[:, None].float() / 255 - self.architecture.mean) / self.architecture.std

    def patchify(self, images: Tensor) -> Tensor:
        """Images `(B, C, H, W)` to patches `(B, T, P)`; within a patch the order is (row, column, channel)."""
        a = self.architecture
        cut = images.reshape(len(images), a.channels, a.grid, a.patch_size, a.grid, a.patch_size)
        return cut.permute(0, 2, 4, 3, 5, 1).reshape(len(images), a.patches, a.patch_values)

    def unpatchify(self, patches: Tensor) -> Tensor:
        """Patches `(B, T, P)` to images `(B, C, H, W)`: the inverse of `patchify`."""
        a = self.architecture
        cut = patches.reshape(len(patches), a.grid, a.grid, a.patch_size, a.patch_size, a.channels)
        return cut.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), a.channels, a.image_size, a.image_size)

    def embed(self, patches: Tensor) -> Tensor:
        """Linear embedding of patches `(B, T, P)` plus their positions: tokens `(B, T, width)`."""
        projection = self.patch_embed["proj"]
        weight = projection.weight.permute(0, 2, 3, 1).flatten(1)  # (width, P) in the order of `patchify`
        return F.linear(patches, weight, projection.bias) + self.pos_embed[:, 1:]

    def encode(self, tokens: Tensor) -> Tensor:
        """Embedded tokens `(B, N, width)` to latents `(B, 1 + N, width)`, cls first, after the final norm."""
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(len(tokens), -1, -1)
        x = torch.cat([cls, tokens], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def decode(self, latent: Tensor, order: Tensor, wanted: int) -> Tensor:
        """Latents `(B, 1 + V, width)` of patches `order[:, :V]` to decoded tokens of the last `wanted` patches.

        The result `(B, wanted, decoder_width)` is in the order of `order (B, T)`: positions are added to the tokens,
        and attention does not care about their sequence, so nothing is sorted back and the hidden patches are simply
        the last T - V.
        """
        seen, hidden = order.split([latent.shape[1] - 1, order.shape[1] - latent.shape[1] + 1], 1)
        positions = self.decoder_pos_embed[0]
        places = F.embedding(F.pad(seen + 1, (1, 0)), positions)  # the first row is that of cls
        visible = self.decoder_embed(latent) + places
        # The mask token at each place, the same in every image: what the first block makes of it, it makes once.
        masked, block = self.mask_token[0] + positions[1:], self.decoder_blocks[0]
        x = torch.cat([visible, F.embedding(hidden, masked)], dim=1)
        qkv = torch.cat([block.project(visible), F.embedding(hidden, block.project(masked))], dim=1)
        for block in self.decoder_blocks:
            # The last block need not finish the tokens that are attended to and no more.
            x, qkv = block(x, qkv, wanted if block is self.decoder_blocks[-1] else None), None
        return self.decoder_norm(x)

    def forward(self, patches: Tensor, order: Tensor, visible: int, full: bool = False) -> Tensor:
        """Predict patches from few of them.

        `patches (B, T, P)`; `order (B * L, T)`: for each of the L masks of each image (masks of one image adjacent) a
        permutation of the patches, of which the first `visible` are seen. Returns predictions
        `(B * L, T - visible, P)` of the hidden patches `order[:, visible:]`, or with `full` of all, `(B * L, T, P)`
        in the order of `order`.
        """
        latent = self.encode(gather_tokens(self.embed(patches), order[:, :visible]))
        return self.decoder_pred(self.decode(latent, order, order.shape[1] - (0 if full else visible)))

    def features(self, images: Tensor) -> Tensor:
        """Mean of the patch tokens after the final norm, cls left out: normalised `(B, C, H, W)` to `(B, width)`."""
        return self.encode(self.embed(self.patchify(images)))[:, 1:].mean(1)


def masked_loss(model: MAE, images: Tensor, order: Tensor, visible: int, full: bool = False) -> Tensor:
    """Mean squared error per pixel over the hidden patches, averaged over all masks (MAE; AMAE Eq. 3).

    `images` normalised `(B, C, H, W)`, `order (B * L, T)` as in `MAE.forward`; with `full`, over all patches.
    """
    patches = model.patchify(images)
    prediction = model(patches, order, visible, full)
    return F.mse_loss(prediction, gather_tokens(patches, order[:, 0 if full else visible :]))
