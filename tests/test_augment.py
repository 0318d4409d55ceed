"""Crop and flip: against torchvision's transform on single images, and its distribution of boxes."""

import pytest
import torch
from scipy import stats
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import interpolate
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms.v2 import functional as tv

from amae.method.augment import crop_resize_flip, draw_boxes, random_resized_crop_flip


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def images():
    """Noise images, float32 (16, 2, 48, 40) around 0."""
    return torch.randn(16, 2, 48, 40, generator=generator())


NEVER = torch.zeros(16, dtype=torch.bool)


def test_the_whole_image_stays_as_it_is(images):
    boxes = torch.tensor([[0, 0, 48, 40]]).expand(16, -1)
    torch.testing.assert_close(crop_resize_flip(images, boxes, NEVER), images, rtol=0, atol=1e-6)


def test_flip_is_exact(images):
    boxes = draw_boxes(16, 48, 40, generator(), (0.5, 1.0), (3 / 4, 4 / 3))
    plain = crop_resize_flip(images, boxes, NEVER)
    flips = torch.arange(16) % 2 == 0
    mixed = crop_resize_flip(images, boxes, flips)
    torch.testing.assert_close(mixed[flips], plain[flips].flip(-1), rtol=0, atol=1e-6)
    torch.testing.assert_close(mixed[~flips], plain[~flips], rtol=0, atol=0)


def test_agrees_with_torchvision_and_interpolate_on_each_box(images):
    boxes = draw_boxes(16, 48, 40, generator(1), (0.1, 1.0), (3 / 4, 4 / 3))
    results = crop_resize_flip(images, boxes, NEVER)
    for image, box, result in zip(images, boxes.tolist(), results, strict=True):
        top, left, height, width = box
        expected = tv.resized_crop(image, *box, size=[48, 40], interpolation=InterpolationMode.BICUBIC, antialias=True)
        torch.testing.assert_close(result, expected, rtol=0, atol=2e-5)
        cut = image[None, :, top : top + height, left : left + width]
        expected = interpolate(cut, (48, 40), mode="bicubic", antialias=True)[0]
        torch.testing.assert_close(result, expected, rtol=0, atol=2e-5)


def torchvision_boxes(count, height, width, scale, ratio):
    """Boxes of torchvision's own transform, (count, 4)."""
    image = torch.empty(1, height, width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torch.tensor([RandomResizedCrop.get_params(image, scale, ratio) for _ in range(count)])


def test_boxes_are_distributed_as_torchvisions():
    scale, ratio = [0.5, 1.0], [3 / 4, 4 / 3]
    ours = draw_boxes(3000, 96, 96, generator(2), tuple(scale), tuple(ratio)).double()
    theirs = torchvision_boxes(3000, 96, 96, scale, ratio).double()
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, :2] + ours[:, 2:] <= 96).all()
    for quantity in (
        lambda b: b[:, 2] * b[:, 3],
        lambda b: b[:, 3] / b[:, 2],
        lambda b: b[:, 0],
        lambda b: b[:, 1],
        lambda b: b[:, 0] / (97 - b[:, 2]),
        lambda b: b[:, 1] / (97 - b[:, 3]),
    ):
        assert stats.ks_2samp(quantity(ours), quantity(theirs)).pvalue > 0.01


@pytest.mark.parametrize(("height", "width"), [(64, 16), (16, 64), (50, 50)])
def test_the_fallback_is_torchvisions_centred_box(height, width):
    scale, ratio = (1.2, 1.3), (3 / 4, 4 / 3)  # no candidate fits
    ours = draw_boxes(2, height, width, generator(), scale, ratio)
    assert torch.equal(ours, torchvision_boxes(2, height, width, list(scale), list(ratio)))


def test_one_draw_for_each_image_and_half_are_flipped():
    ramp = torch.linspace(0, 1, 32).expand(800, 1, 32, 32).contiguous()
    results = random_resized_crop_flip(ramp, generator(3))
    rising = results[:, 0, 16, 24] > results[:, 0, 16, 8]
    assert stats.binomtest(int(rising.sum()), 800).pvalue > 0.01
    assert len(results[:, 0, 0, 0].unique()) > 100


def test_the_generator_decides_everything(images):
    torch.manual_seed(1)
    first = random_resized_crop_flip(images, generator(4))
    torch.manual_seed(2)
    assert torch.equal(random_resized_crop_flip(images, generator(4)), first)
    assert first.shape == images.shape


def test_mixed_precision_does_not_coarsen_the_grey_levels(images):
    expected = random_resized_crop_flip(images, generator(5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(random_resized_crop_flip(images, generator(5)), expected)


def test_no_value_is_read_back_from_the_device():
    """Fake tensors have no values: whatever waits for one fails."""
    with FakeTensorMode():
        images = torch.zeros(4, 1, 32, 32)
        assert random_resized_crop_flip(images, generator()).shape == images.shape
