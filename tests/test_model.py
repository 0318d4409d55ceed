"""The masked autoencoder against what MAE's own forward pass gives, and against exact identities."""

import numpy as np
import pytest
import torch

from amae.mae.architecture import Architecture
from amae.mae.block import Block
from amae.mae.model import MAE, gather_tokens, masked_loss, sincos_positions
from amae.runtime.errors import InputError

TINY = Architecture(64, 8, width=64, depth=2, heads=4, decoder_width=48, decoder_depth=2, decoder_heads=4, channels=3)


@pytest.fixture(scope="module")
def parity(shared):
    """Weights, input, noise and outputs of MAE's own code."""
    with np.load(shared / "data/conformance/mae_tiny_parity.npz") as file:
        return {name: torch.from_numpy(np.asarray(file[name])) for name in file}


def test_agrees_with_the_published_forward_pass(parity):
    model = MAE(TINY).eval()
    model.load_state_dict({k.removeprefix("weight/"): v for k, v in parity.items() if k.startswith("weight/")})
    images = parity["image"].expand(-1, 3, -1, -1)
    order = parity["noise"].argsort(1)
    visible = TINY.visible(float(parity["mask_ratio"]))
    patches = model.patchify(images)
    with torch.no_grad():
        latent = model.encode(gather_tokens(model.embed(patches), order[:, :visible]))
        prediction = model(patches, order, visible, full=True)
        loss = masked_loss(model, images, order, visible)
    restored = torch.empty_like(prediction).scatter_(1, order[..., None].expand_as(prediction), prediction)
    mask = torch.ones(3, 64).scatter_(1, order[:, :visible], 0)
    assert torch.equal(mask, parity["mask"])
    torch.testing.assert_close(latent, parity["latent"], atol=1e-5, rtol=0)
    torch.testing.assert_close(restored, parity["pred"], atol=1e-5, rtol=0)
    torch.testing.assert_close(loss, parity["loss"], atol=1e-5, rtol=0)


def test_positions_agree_with_the_published_ones(parity):
    torch.testing.assert_close(sincos_positions(64, 8), parity["weight/pos_embed"], atol=1e-6, rtol=0)
    torch.testing.assert_close(sincos_positions(48, 8), parity["weight/decoder_pos_embed"], atol=1e-6, rtol=0)


def test_patchify_is_inverted_and_row_major():
    model = MAE(TINY)
    images = torch.rand(2, 3, 64, 64)
    patches = model.patchify(images)
    assert torch.equal(model.unpatchify(patches), images)
    assert torch.equal(patches[1, 9].reshape(8, 8, 3), images[1, :, 8:16, 8:16].permute(1, 2, 0))


def test_embedding_is_the_convolution():
    model = MAE(TINY)
    images = torch.randn(2, 3, 64, 64)
    expected = model.patch_embed["proj"](images).flatten(2).transpose(1, 2) + model.pos_embed[:, 1:]
    torch.testing.assert_close(model.embed(model.patchify(images)), expected, atol=1e-5, rtol=1e-5)


def test_several_masks_in_one_pass_are_the_single_passes():
    torch.manual_seed(0)
    model = MAE(TINY).eval()
    patches = torch.randn(2, 64, 192)
    order = torch.rand(6, 64).argsort(1)
    together = model(patches, order, 16)
    for row in range(6):
        alone = model(patches[row // 3 : row // 3 + 1], order[row : row + 1], 16)
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=1e-5)


def test_hidden_pixels_never_reach_the_prediction():
    torch.manual_seed(0)
    model = MAE(TINY).eval()
    patches = torch.randn(1, 64, 192)
    order = torch.rand(1, 64).argsort(1)
    changed = patches.clone()
    changed[0, order[0, 16:]] = 100.0
    assert torch.equal(model(patches, order, 16), model(changed, order, 16))


def test_contradictory_sizes_are_refused():
    with pytest.raises(InputError, match=r"image_size 65 is not a multiple of mae\.patch_size 8"):
        Architecture(65, 8, 64, 2, 4, 48, 2, 4)


def test_block_is_that_of_timm():
    published = pytest.importorskip("timm.models.vision_transformer").Block(48, 4, qkv_bias=True)
    block = Block(48, 4, 4.0)
    block.load_state_dict(published.state_dict())
    published.norm1.eps = published.norm2.eps = 1e-6
    x = torch.randn(2, 9, 48, generator=torch.Generator().manual_seed(0))
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    assert torch.equal(block(ours), published(theirs))
    block(ours).square().sum().backward()
    published(theirs).square().sum().backward()
    assert torch.equal(ours.grad, theirs.grad)
    assert torch.equal(block.attn.qkv.weight.grad, published.attn.qkv.weight.grad)
