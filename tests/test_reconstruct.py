"""Test-time reconstruction: masks that belong to the image, and mean maps against a plain loop."""

import numpy as np
import pytest
import torch

from amae.mae.architecture import Architecture
from amae.mae.model import MAE
from amae.method.reconstruct import draw_orders, hidden_counts, reconstruct
from amae.runtime.errors import InputError
from amae.settings import ReconstructionSettings

SMALL = Architecture(32, 8, width=16, depth=1, heads=2, decoder_width=16, decoder_depth=1, decoder_heads=2)
IDS = ["a", "b", "c", "d", "e"]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MAE(SMALL)


@pytest.fixture
def images():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 32, 32), dtype=np.uint8))


def test_masks_depend_on_seed_and_image_alone():
    settings = ReconstructionSettings()
    orders = draw_orders(IDS, 3, 16, settings)
    assert torch.equal(orders[[4, 1]], draw_orders(["e", "b"], 3, 16, settings))
    assert not torch.equal(orders, draw_orders(IDS, 4, 16, settings))
    assert torch.equal(orders.sort(-1).values, torch.arange(16).expand(5, 4, 16))


def test_random_masks_hide_each_patch_equally_often():
    orders = draw_orders([str(n) for n in range(2000)], 0, 16, ReconstructionSettings())
    share = hidden_counts(orders, 4).mean(0) / 4
    assert np.abs(share - 0.75).max() < 0.03
    assert (hidden_counts(orders, 4) == 0).mean() == pytest.approx(0.25**4, abs=0.001)  # the 0.4 % never hidden


def test_complementary_masks_hide_every_patch_three_times():
    settings = ReconstructionSettings(mask_scheme="complementary", masks=8)
    assert (hidden_counts(draw_orders(IDS, 0, 16, settings), 4) == 6).all()
    with pytest.raises(InputError, match=r"contradicts images of 25 patches: .* shows 6 of them"):
        draw_orders(IDS, 0, 25, settings)


@pytest.mark.parametrize("aggregate", ["hidden", "full"])
def test_mean_maps_and_errors_agree_with_a_plain_loop(model, images, aggregate):
    settings = ReconstructionSettings(aggregate=aggregate)
    orders = draw_orders(IDS, 0, 16, settings)
    maps, errors = reconstruct(model, images, orders, settings, batch_size=2)
    for n in range(5):
        target = model.patchify(model.normalise(images[n : n + 1]))
        total, count, error = torch.zeros(16, 64), torch.zeros(16), 0.0
        for order in orders[n]:
            with torch.no_grad():
                prediction = model(target, order[None], 4, full=True)[0]
            for place, patch in enumerate(order):
                if place >= 4:
                    error += (prediction[place] - target[0, patch]).square().mean().item() / 12 / 4
                if place >= 4 or aggregate == "full":
                    total[patch] += prediction[place]
                    count[patch] += 1
        expected = model.unpatchify((total / count[:, None])[None])[0, 0] * 0.25 + 0.5
        torch.testing.assert_close(maps[n], expected, atol=1e-6, rtol=1e-5, equal_nan=True)
        assert errors[n].item() == pytest.approx(error * 0.25**2, rel=1e-4)


def test_scores_do_not_depend_on_batch_order_or_neighbours(model, images):
    settings = ReconstructionSettings()
    maps, errors = reconstruct(model, images, draw_orders(IDS, 0, 16, settings), settings, batch_size=5)
    rows = [3, 0]
    some = reconstruct(model, images[rows], draw_orders(["d", "a"], 0, 16, settings), settings, batch_size=1)
    torch.testing.assert_close(some[0], maps[rows], atol=1e-6, rtol=0, equal_nan=True)
    torch.testing.assert_close(some[1], errors[rows], atol=1e-6, rtol=1e-5)
