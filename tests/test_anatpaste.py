"""Synthetic anomalies: against a one-image reference in PIL, SciPy and torchvision; distributions; places."""

import math
from dataclasses import astuple, fields, replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter
from scipy import stats
from scipy.ndimage import gaussian_filter
from skimage.draw import ellipse as ellipse_pixels
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.transforms.v2 import functional as tv

from amae.method.anatpaste import (
    PasteParameters,
    anatpaste,
    draw_parameters,
    paste,
    paste_batch,
    paste_each,
    soft_shape,
)

SIZES = [16, 64, 128, 224, 256]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(count, size, seed=0):
    """Random smooth images, float32 in [0, 1], and two-lobed lung masks that reach the upper border."""
    rng = np.random.default_rng(seed)
    images = np.stack([gaussian_filter(rng.normal(size=(size, size)), size / 20) for _ in range(count)])
    images = (images - images.min()) / (images.max() - images.min())
    row, column = np.mgrid[:size, :size] / size
    lungs = [((row - 0.3) / 0.35) ** 2 + ((column - middle) / 0.15) ** 2 <= 1 for middle in (0.3, 0.7)]
    masks = np.repeat((lungs[0] | lungs[1])[None], count, axis=0)
    return torch.from_numpy(images).float(), torch.from_numpy(masks)


def one(parameters, index):
    """Parameters of one image as numbers."""
    return {field.name: getattr(parameters, field.name)[index].item() for field in fields(PasteParameters)}


def rectangle_shape(height, width, margin):
    """Inset rectangle as Pillow draws it, and the box that it fills (first and last row, first and last column)."""
    inset = min(margin, (height - 1) // 2), min(margin, (width - 1) // 2)
    box = (inset[1], inset[0], width - 1 - inset[1], height - 1 - inset[0])
    canvas = Image.new("L", (width, height))
    ImageDraw.Draw(canvas).rectangle(box, fill=255)
    return np.asarray(canvas) / 255, box


def ellipse_shape(height, width, margin):
    """Inset ellipse from scikit-image: the pixels whose centres lie inside."""
    left, top, right, bottom = rectangle_shape(height, width, margin)[1]
    middle = (top + bottom) / 2, (left + right) / 2
    shape = np.zeros((height, width))
    shape[ellipse_pixels(*middle, (bottom - top + 1) / 2, (right - left + 1) / 2, shape=shape.shape)] = 1
    return shape


def reference(image, mask, p):
    """One paste, written plainly: cut, jitter, draw, blur, paste. Returns the pasted image and alpha."""
    size, height, width = len(image), p["height"], p["width"]
    cut = image[p["source_top"] : p["source_top"] + height, p["source_left"] : p["source_left"] + width]
    cut = tv.adjust_contrast(tv.adjust_brightness(cut[None], p["brightness"]), p["contrast"])[0].numpy()
    draw = ellipse_shape if p["ellipse"] else lambda *args: rectangle_shape(*args)[0]
    shape = draw(height, width, max(1, round(10 * size / 256)))
    if p["blur"] > 0:
        shape = gaussian_filter(shape, p["blur"], mode="nearest", radius=2 * size)
    top, left = p["centre_row"] - height // 2, p["centre_column"] - width // 2
    # A frame of one image size around everything takes what is cut off at the border.
    alpha, patch = np.zeros((3 * size, 3 * size)), np.zeros((3 * size, 3 * size))
    place = slice(size + top, size + top + height), slice(size + left, size + left + width)
    alpha[place], patch[place] = shape * p["opacity"], cut
    alpha, patch = (whole[size : 2 * size, size : 2 * size] for whole in (alpha, patch))
    if mask.any():
        alpha = alpha * mask.numpy()
    return image.numpy() * (1 - alpha) + patch * alpha, alpha


@pytest.mark.parametrize("paste", [paste_each, paste_batch])
@pytest.mark.parametrize("size", SIZES)
def test_every_paste_agrees_with_the_reference(size, paste):
    images, masks = batch(24, size)
    masks[::5] = False
    parameters = draw_parameters(masks, generator(size))
    pasted, alpha = paste(images, masks, parameters)
    assert pasted.dtype == alpha.dtype == torch.float32
    for i in range(24):
        known, known_alpha = reference(images[i], masks[i], one(parameters, i))
        np.testing.assert_allclose(alpha[i], known_alpha, atol=1e-5)
        np.testing.assert_allclose(pasted[i], known, atol=1e-5)


def test_soft_edges_look_like_pillows():
    """Pillow blurs by three box filters on 8 bits and continues the edge before each: close, not equal."""
    _, masks = batch(24, 256)
    parameters = draw_parameters(masks, generator(5))
    parameters = replace(parameters, centre_row=torch.full((24,), 128), centre_column=torch.full((24,), 128))
    soft = soft_shape(parameters, 256, 256)
    for i in range(24):
        p = one(parameters, i)
        canvas = Image.new("L", (p["width"], p["height"]))
        draw = ImageDraw.Draw(canvas)
        box = rectangle_shape(p["height"], p["width"], 10)[1]
        (draw.ellipse if p["ellipse"] else draw.rectangle)(box, fill=round(255 * p["opacity"]))
        known = np.asarray(canvas.filter(ImageFilter.GaussianBlur(p["blur"]))) / 255
        top, left = 128 - p["height"] // 2, 128 - p["width"] // 2
        found = soft[i, top : top + p["height"], left : left + p["width"]].numpy()
        assert abs(found - known).mean() < 0.03
        assert p["blur"] < 2 or abs(found - known).max() < 0.1


def test_nothing_changes_outside_the_lungs_and_where_alpha_is_zero():
    images, masks = batch(32, 128)
    pasted, alpha = anatpaste(images, masks, generator())
    assert (alpha[~masks] == 0).all()
    assert torch.equal(pasted[alpha == 0], images[alpha == 0])
    assert (alpha.amax(dim=(1, 2)) > 0).all()
    assert pasted.min() >= 0
    assert pasted.max() <= 1
    assert alpha.max() <= 254 / 255 + 1e-6


def test_an_empty_mask_pastes_anywhere():
    images, _ = batch(400, 32)
    masks = torch.zeros(400, 32, 32, dtype=torch.bool)
    parameters = draw_parameters(masks, generator())
    _, alpha = paste(images, masks, parameters)
    assert (alpha.amax(dim=(1, 2)) > 0).all()
    for centre in (parameters.centre_row, parameters.centre_column):
        counts = torch.bincount(centre // 4, minlength=8).numpy()
        assert stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize("size", SIZES)
def test_the_shape_never_vanishes(size):
    """Without blur, the pixel in the middle of each patch has the full opacity, however small the patch is."""
    parameters = draw_parameters(torch.ones(64, size, size, dtype=torch.bool), generator(1))
    smallest = replace(parameters, height=parameters.height.clone(), blur=torch.zeros(64))
    smallest.height[:8] = smallest.height.min()
    soft = soft_shape(smallest, size, size)
    middle = soft[torch.arange(64), smallest.centre_row, smallest.centre_column]
    assert torch.equal(middle, smallest.opacity)


@pytest.fixture(scope="module")
def drawn():
    """Parameters of 2,000 pastes at 256 px, as one dataclass of NumPy arrays."""
    random = generator(7)
    _, masks = batch(1, 256)
    parts = [astuple(draw_parameters(masks.expand(100, -1, -1), random)) for _ in range(20)]
    return PasteParameters(*(torch.cat(values).numpy() for values in zip(*parts, strict=True)))


def test_continuous_parameters_have_their_distributions(drawn):
    area = drawn.height * drawn.width / 256**2
    assert stats.kstest(area, stats.uniform(0.02, 0.13).cdf).pvalue > 0.01
    assert (
        stats.kstest(np.log(drawn.width / drawn.height), stats.uniform(math.log(0.3), -2 * math.log(0.3)).cdf).pvalue
        > 0.01
    )
    assert stats.kstest(drawn.brightness, stats.uniform(0.9, 0.2).cdf).pvalue > 0.01
    assert stats.kstest(drawn.contrast, stats.uniform(0.9, 0.2).cdf).pvalue > 0.01
    assert abs(stats.spearmanr(drawn.brightness, drawn.contrast).statistic) < 0.05


def test_discrete_parameters_have_their_distributions(drawn):
    opacity = np.rint(drawn.opacity * 255).astype(int)
    assert stats.chisquare(np.bincount(opacity - 150, minlength=105)).pvalue > 0.01
    assert stats.chisquare(np.bincount(drawn.blur.astype(int), minlength=15)).pvalue > 0.01
    assert stats.binomtest(int(drawn.ellipse.sum()), 2000).pvalue > 0.01


def test_sources_are_uniform_over_the_places_that_fit(drawn):
    for start, length in ((drawn.source_top, drawn.height), (drawn.source_left, drawn.width)):
        assert start.min() == 0
        assert (start + length).max() == 256
        # The middle of each place's share of [0, 1]; places are few enough to need it for large patches only.
        assert stats.kstest((start + 0.5) / (256 - length + 1), "uniform").pvalue > 0.01


def test_centres_are_uniform_over_the_mask():
    masks = torch.zeros(5000, 8, 8, dtype=torch.bool)
    masks[:, [0, 2, 2, 5, 7], [3, 0, 7, 5, 7]] = True
    parameters = draw_parameters(masks, generator(3))
    counts = torch.bincount(parameters.centre_row * 8 + parameters.centre_column, minlength=64)
    assert torch.equal(counts > 0, masks[0].flatten())
    assert stats.chisquare(counts[counts > 0].numpy()).pvalue > 0.01


def test_lengths_scale_with_the_image():
    """The same draws at half the size give half the blur and half the patch, to the nearest pixel."""
    large, small = (draw_parameters(torch.ones(50, size, size, dtype=torch.bool), generator(2)) for size in (256, 128))
    assert torch.equal(small.blur, large.blur / 2)
    assert (small.height - large.height / 2).abs().max() <= 1
    assert torch.equal(small.opacity, large.opacity)


def test_the_generator_decides_everything():
    images, masks = batch(8, 64)
    torch.manual_seed(1)
    first = anatpaste(images, masks, generator(4))
    torch.manual_seed(2)
    assert torch.equal(anatpaste(images, masks, generator(4))[0], first[0])
    assert not torch.equal(anatpaste(images, masks, generator(5))[0], first[0])


def test_mixed_precision_changes_nothing():
    images, masks = batch(8, 64)
    expected = anatpaste(images, masks, generator())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pasted, alpha = anatpaste(images, masks, generator())
    assert torch.equal(pasted, expected[0])
    assert torch.equal(alpha, expected[1])


def test_no_value_is_read_back_from_the_device():
    """Fake tensors have no values: whatever waits for one fails."""
    with FakeTensorMode():
        images = torch.zeros(4, 64, 64, device="cuda")
        pasted, alpha = anatpaste(images, images > 0, generator())
    assert pasted.shape == alpha.shape == (4, 64, 64)
    assert pasted.device.type == "cuda"
