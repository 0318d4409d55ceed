"""Synthetic anomalies of FPI, PII, NSA and DRAEM, and DRAEM's losses, against independent computations."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import median_filter, uniform_filter
from scipy.sparse import lil_matrix
from scipy.sparse.linalg import spsolve
from scipy.stats import ks_2samp
from skimage.metrics import structural_similarity
from skimage.morphology import disk

from amae.comparators import draem, foreign_patch, losses, patches, textures
from amae.comparators.interface import TrainingData
from amae.comparators.perlin import perlin_noise
from amae.comparators.poisson import mixed_clone
from amae.comparators.settings import DraemSettings
from amae.method.training import Resume, Schedule
from amae.runtime.errors import InputError

NEIGHBOURS = ((1, 0), (-1, 0), (0, 1), (0, -1))
ENTIRE = torch.ones(1, 256, 256)  # a patient that fills the image


def generator(seed: int = 0) -> torch.Generator:
    """A generator of its own for each test."""
    return torch.Generator().manual_seed(seed)


def radiographs(count: int, side: int, seed: int = 0) -> torch.Tensor:
    """Smoothed noise in grey levels 30 to 255, whole numbers, float32 (count, side, side)."""
    noise = torch.rand(count, 1, side, side, generator=generator(seed))
    return (30 + 225 * F.avg_pool2d(F.pad(noise, [1] * 4, mode="replicate"), 3, 1))[:, 0].round().clamp(30, 255)


def stronger(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The difference of the larger magnitude."""
    return np.where(abs(other) > abs(own), other, own)


# Poisson image editing


def rectangles_of(*images: torch.Tensor, start: torch.Tensor, size: torch.Tensor, number: int) -> list[np.ndarray]:
    """The rectangle of one image of the batch, in double precision."""
    (top, left), (height, width) = start[:, number].tolist(), size[:, number].tolist()
    return [each[number, top : top + height, left : left + width].double().numpy() for each in images]


def test_a_clone_meets_the_poisson_equation_and_its_border():
    onto, piece = radiographs(4, 120), radiographs(4, 120, 1)
    start, size = torch.tensor([[0, 20, 119, 7], [5, 0, 3, 60]]), torch.tensor([[120, 33, 1, 3], [90, 120, 50, 60]])
    cloned = mixed_clone(onto, piece, start, size)
    for number in range(4):
        u, own, other = rectangles_of(cloned, onto, piece, start=start, size=size, number=number)
        height, width = u.shape
        if height > 2:
            wanted, found = np.zeros((2, height - 2, width - 2))
            for down, across in NEIGHBOURS:
                there = (slice(1 + down, height - 1 + down), slice(1 + across, width - 1 + across))
                found += u[1:-1, 1:-1] - u[there]
                wanted += stronger(own[1:-1, 1:-1] - own[there], other[1:-1, 1:-1] - other[there])
            np.testing.assert_allclose(found, wanted, atol=1e-3)  # grey levels
        u[1:-1, 1:-1] = own[1:-1, 1:-1]
        np.testing.assert_array_equal(u, own)  # the border is met
    outside = ~patches.rectangle(start, size, 120)
    assert torch.equal(cloned[outside], onto[outside])
    assert torch.equal(mixed_clone(onto, piece, start, 0 * size), onto)


@pytest.mark.parametrize("factor", [1.0, 0.3])
def test_a_clone_is_what_a_sparse_solver_finds(factor):
    onto, piece = radiographs(1, 12), radiographs(1, 12, 1)
    start, size = torch.tensor([[2], [3]]), torch.tensor([[8], [6]])
    own, other = onto[0].double().numpy(), piece[0].double().numpy()
    unknown = [(row, column) for row in range(3, 9) for column in range(4, 8)]
    matrix, right = lil_matrix((len(unknown), len(unknown))), np.zeros(len(unknown))
    for number, (row, column) in enumerate(unknown):
        matrix[number, number] = 4
        for down, across in NEIGHBOURS:
            there = row + down, column + across
            difference = own[row, column] - own[there]
            mixed = stronger(difference, other[row, column] - other[there])
            right[number] += factor * mixed + (1 - factor) * difference  # gradients, interpolated
            if there in unknown:
                matrix[number, unknown.index(there)] = -1
            else:
                right[number] += own[there]
    expected = own.copy()
    expected[tuple(zip(*unknown, strict=True))] = spsolve(matrix.tocsr(), right)
    cloned = torch.lerp(onto, mixed_clone(onto, piece, start, size), factor)
    np.testing.assert_allclose(cloned[0], expected, atol=1e-3)
    rounded = foreign_patch.interpolate(onto, mixed_clone(onto, piece, start, size), torch.tensor(factor))
    np.testing.assert_allclose(rounded[0], expected.clip(0, 255), atol=0.501)


# Patches of another image


def blended(images, seed, monkeypatch, clone, move=False, label="factor"):
    """One patch of the previous image in each."""
    monkeypatch.setattr(foreign_patch, "PATCHES", 1)
    return foreign_patch.blend(images, generator(seed), clone, move, label)


def test_fpi_is_a_linear_blend_with_its_factor_for_label(monkeypatch):
    images = radiographs(6, 96)
    result, target = blended(images, 0, monkeypatch, clone=False)
    factors = []
    for number in range(6):
        factor = target[number].max()
        rows, columns = (torch.nonzero((result[number] != images[number]).any(axis))[:, 0] for axis in (1, 0))
        inside = torch.zeros(96, 96, dtype=torch.bool)
        inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
        expected = (1 - factor) * images[number] + factor * images[number - 1]  # the batch's previous image
        assert (result[number] - expected)[inside].abs().max() <= 0.501  # whole grey levels
        assert torch.equal(result[number][~inside], images[number][~inside])
        assert set(target[number].unique().tolist()) <= {0.0, factor.item()}
        assert not target[number][~F.max_pool2d(inside[None].float(), 5, 1, 2)[0].bool()].any()
        factors.append(factor.item())
    assert len(set(factors)) == 6 and min(factors) >= 0.05 and max(factors) <= 0.95
    assert torch.equal(result, result.round())


def test_pii_is_fpi_with_a_clone_for_the_foreign_patch(monkeypatch):
    images = radiographs(6, 96)
    calls = []

    def recorded(*arguments):
        calls.append(arguments)
        return mixed_clone(*arguments)

    monkeypatch.setattr(foreign_patch, "mixed_clone", recorded)
    result, target = blended(images, 0, monkeypatch, clone=True)
    onto, piece, start, size = calls[0]
    inside = patches.rectangle(start, size, 96)
    assert torch.equal(onto, images) and torch.equal(piece[inside], images.roll(1, 0)[inside])  # no shift, no resizing
    factor = target.amax((1, 2), keepdim=True)
    expected = torch.lerp(images, mixed_clone(onto, piece, start, size), factor).clamp(0, 255)
    assert ((result - expected)[inside].abs() <= 0.501).all() and torch.equal(result[~inside], images[~inside])
    assert (factor[:, 0, 0] >= 0.05).all() and (factor[:, 0, 0] <= 0.95).all()


def test_sizes_and_places_follow_their_law(monkeypatch):
    monkeypatch.setattr(patches, "ATTEMPTS", 1)
    count, side = 20000, 256
    area = patches.integral(ENTIRE).expand(count, -1, -1)
    start, size, _ = patches.draw_source([area], generator())
    rng = np.random.default_rng(0)
    half = ((0.05 + rng.gamma(2, 0.03, (2, count))) * side).clip(round(0.03 * side), round(0.4 * side)).astype(int)
    centre = rng.integers(8, side - 8, (2, count))
    first, last = (centre - half).clip(min=0), (centre + half).clip(max=side)
    for axis in (0, 1):
        assert ks_2samp(size[axis], (last - first)[axis]).pvalue > 1e-3
        assert ks_2samp(start[axis], first[axis]).pvalue > 1e-3
    target, _ = patches.draw_target(area, torch.full((2, count), 56), generator(1))
    assert ks_2samp(target[0], rng.integers(0, 201, count)).pvalue > 1e-3
    resized = foreign_patch._resized(torch.tensor([[100], [60]]).expand(-1, count), side, generator())
    factor = rng.normal(1, 0.5, count).clip(0.7, 1.3)
    assert ks_2samp(resized[0], (100 * factor).round()).pvalue > 1e-3
    assert ks_2samp(resized[1], (60 * factor).round()).pvalue > 1e-3
    assert (resized[0] / resized[1] - 100 / 60).abs().max() < 0.03  # one factor for both axes
    assert foreign_patch._resized(torch.full((2, 100), 250), side, generator()).max() == side


def test_a_patch_is_resized_as_torch_does():
    images = radiographs(2, 40)
    start, size = torch.tensor([[3, 10], [5, 0]]), torch.tensor([[20, 11], [16, 30]])
    target, target_size = torch.tensor([[1, 20], [0, 2]]), torch.tensor([[26, 8], [12, 38]])
    moved = patches.resampled(images, start, size, target, target_size)
    for number in range(2):
        (piece,) = rectangles_of(images, start=start, size=size, number=number)
        (found,) = rectangles_of(moved, start=target, size=target_size, number=number)
        expected = F.interpolate(torch.tensor(piece)[None, None], found.shape, mode="bilinear")[0, 0]
        np.testing.assert_allclose(found, expected, atol=1e-3)
    copied = patches.resampled(images, start, size, target, size)
    for number in range(2):
        (piece,) = rectangles_of(images, start=start, size=size, number=number)
        (there,) = rectangles_of(copied, start=target, size=size.minimum(40 - target), number=number)
        np.testing.assert_array_equal(there, piece[: there.shape[0], : there.shape[1]])


def test_labels_by_hand():
    before = torch.full((1, 30, 30), 100.0)
    after, factors = before.clone(), torch.zeros_like(before)
    change = torch.from_numpy(np.random.default_rng(0).integers(2, 12, (14, 12)).astype(np.float32))
    after[0, 8:22, 10:22] += change
    after[0, 0, 0] += 50  # a single pixel is no change
    factors[0, 8:22, 10:22] = 0.25
    differs = median_filter((abs(after - before) > 1)[0].numpy(), 5, mode="nearest")
    assert 0 < differs.sum() < 14 * 12  # rounded corners
    made = {label: foreign_patch.target_map(before, after, factors, label)[0] for label in ("binary", "factor")}
    np.testing.assert_array_equal(made["binary"], differs)
    np.testing.assert_array_equal(made["factor"], differs * np.float32(0.25))
    median = median_filter(abs(after - before)[0].numpy(), footprint=disk(5), mode="nearest")
    logistic = foreign_patch.target_map(before, after, factors, "logistic")[0]
    np.testing.assert_allclose(logistic, differs / (1 + np.exp(-(median - 4) / 2)), rtol=1e-5)


@pytest.mark.parametrize(("clone", "move", "label"), [(False, False, "factor"), (True, True, "logistic")])
def test_blending_keeps_to_the_patient_and_the_generator(clone, move, label):
    images = radiographs(40, 100)
    images[:, :, :30] = 0  # background
    blend = partial(foreign_patch.blend, clone=clone, move=move, label=label)
    result, target = blend(images, generator())
    where = result != images
    assert where.any(2).any(1).float().mean() > 0.9 and not where[:, :, :10].any()
    assert result.min() >= 0 and result.max() <= 255 and torch.equal(result, result.round())
    assert target.shape == images.shape and target.min() == 0 and 0.5 < target.max() <= 1
    assert (target[~where] > 0).float().mean() < 0.02 and 0.01 < (target > 0).float().mean() < 0.3
    assert all(torch.equal(a, b) for a, b in zip(blend(images, generator()), (result, target), strict=True))
    assert not torch.equal(blend(images, generator(1))[0], result)
    empty, target = blend(torch.zeros(2, 64, 64), generator())
    assert not empty.any() and not target.any()


def test_a_batch_of_one_has_no_foreign_patch(monkeypatch):
    image = radiographs(1, 64)
    for clone in (False, True):
        result, target = blended(image, 0, monkeypatch, clone)
        assert torch.equal(result, image) and not target.any()


# DRAEM


def test_structural_similarity_is_that_of_scikit_image():
    a, b = torch.rand(2, 3, 1, 40, 48, generator=generator())
    assert losses.ssim(a, a, 1.0).item() == pytest.approx(1, abs=1e-6)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    pairs = zip(a[:, 0].double().numpy(), b[:, 0].double().numpy(), strict=True)
    expected = np.mean([structural_similarity(x, y, **options) for x, y in pairs])
    assert losses.ssim(a, b, 1.0).item() == pytest.approx(expected, abs=1e-5)


def test_losses_by_hand():
    logits = torch.randn(2, 2, 12, 12, generator=generator())
    mask = torch.rand(2, 12, 12, generator=generator(1)) < 0.3
    odds = np.exp(logits.double().numpy())
    p = np.where(mask, odds[:, 1], odds[:, 0]) / odds.sum(1)
    focal = (-((1 - p) ** 2) * np.log(p)).mean()
    assert losses.focal_loss(logits, mask).item() == pytest.approx(focal, rel=1e-5)
    clean = torch.rand(2, 1, 12, 12, generator=generator(2))
    assert draem.loss(clean, logits, clean, mask).item() == pytest.approx(focal, abs=1e-5)
    worse = clean + 0.1
    expected = 0.01 + 1 - losses.ssim(worse, clean, 1.0).item() + focal
    assert draem.loss(worse, logits, clean, mask).item() == pytest.approx(expected, abs=1e-5)


def test_perlin_noise_by_hand():
    cells, side = torch.tensor([[1, 4, 32], [8, 2, 32]]), 64
    noise = perlin_noise(cells, side, generator())
    assert (
        noise.dtype == torch.float32
        and noise.abs().max() <= 1
        and torch.equal(noise, perlin_noise(cells, side, generator()))
    )
    angle = 2 * np.pi * torch.rand(3, 33, 33, generator=generator()).double().numpy()
    for number, (down, across) in enumerate(cells.T.tolist()):
        assert not noise[number, :: side // down, :: side // across].any()  # lattice points
        for row, column in ((1, 1), (13, 50), (63, 38)):
            y, x = row * down / side, column * across / side
            expected = 0.0
            for corner_y in (int(y), int(y) + 1):
                for corner_x in (int(x), int(x) + 1):
                    t, s = 1 - abs(y - corner_y), 1 - abs(x - corner_x)
                    weight = np.prod([6 * each**5 - 15 * each**4 + 10 * each**3 for each in (t, s)])
                    theta = angle[number, corner_y, corner_x]
                    expected += weight * ((y - corner_y) * np.sin(theta) + (x - corner_x) * np.cos(theta))
            assert noise[number, row, column].item() == pytest.approx(np.sqrt(2) * expected, abs=1e-5)
    many = perlin_noise(torch.full((2, 50), 4), side, generator(1))
    assert many.mean().abs() < 0.02 and 0.15 < many.std() < 0.4 and many.max() > 0.7


def test_textured_anomalies_by_hand():
    images, pictures = torch.rand(2, 300, 64, 64, generator=generator())
    abnormal, mask = draem.add_textures(images, pictures, generator(1))
    assert torch.equal(abnormal[~mask], images[~mask])
    own = ((abnormal - pictures) / (images - pictures))[mask & ((images - pictures).abs() > 0.2)]
    assert -1e-4 < own.min() < 0.1 and 0.7 < own.max() < 0.8001  # beta
    one = mask.flatten(1).any(1).nonzero()[0, 0]
    sure = mask[one] & ((images[one] - pictures[one]).abs() > 0.2)
    betas = ((abnormal - pictures) / (images - pictures))[one][sure]
    assert betas.max() - betas.min() < 1e-4  # one for the whole image
    assert 0.3 < mask.flatten(1).any(1).float().mean() < 0.5  # half, but for empty masks
    assert 0.005 < mask.float().mean() < 0.1
    turned = draem.rotate_some(images, generator())
    assert 0.2 < (turned != images).flatten(1).any(1).float().mean() < 0.4


def test_the_maximum_is_taken_of_an_averaged_map():
    for side, across in ((256, 21), (128, 11), (64, 5)):
        maps = torch.rand(2, 1, side, side, generator=generator())
        expected = [uniform_filter(each, across, mode="constant").max() for each in maps[:, 0].double().numpy()]
        np.testing.assert_allclose(draem.pooled_maximum(maps), expected, rtol=1e-5)


def test_shapes_of_draems_networks():
    network = draem.Draem(8)
    repaired, logits = network(torch.zeros(2, 1, 64, 96))
    assert repaired.shape == (2, 1, 64, 96) and logits.shape == (2, 2, 64, 96)
    for part, widths in ((network.repair, [8, 16, 32, 64, 64]), (network.find, [4, 8, 16, 32, 32, 32])):
        assert [block[0].out_channels for block in part.down] == widths
        assert [block[0].out_channels for block in part.up] == widths[-2::-1]
    assert network.repair.up[0][0].in_channels == 64 and network.find.up[0][0].in_channels == 64  # with a skip: 32 + 32


def test_the_rate_falls_to_a_fifth_twice():
    schedule = Schedule(20, 0, 4, 1.0, 0.0, drops=(0.8, 0.9))
    rates = [schedule.rate(step, 3) for step in range(60)]
    np.testing.assert_allclose(rates, [1.0] * 48 + [0.2] * 6 + [0.04] * 6)


def test_textures_are_pieces_of_the_pictures():
    pictures = torch.arange(1, 7, dtype=torch.uint8)[:, None, None].expand(-1, 64, 64) * 40
    made = textures.draw_textures(pictures, True, 50, generator())
    assert made.shape == (50, 64, 64) and made.dtype == torch.uint8 and len(made.flatten(1).unique(dim=0)) > 6
    assert torch.equal(made, textures.draw_textures(pictures, True, 50, generator()))
    for distortion in textures.DISTORTIONS:
        for u in (0.0, 0.999):
            assert distortion(pictures[:1], u).shape == (1, 64, 64)


def test_each_texture_is_cut_and_enlarged(monkeypatch):
    monkeypatch.setattr(textures, "CHOSEN", 0)
    ramp = torch.arange(0, 256, 2, dtype=torch.uint8).expand(3, 128, 128)
    made = textures.draw_textures(ramp, True, 40, generator()).int()
    slopes = (made[:, 0, -1] - made[:, 0, 0]) / 256
    assert 0.2 < slopes.min() < 0.3 and 0.4 < slopes.max() < 0.52  # a quarter to a half of the side
    assert torch.equal(textures.draw_textures(ramp, False, 40, generator()), ramp[:1].expand(40, -1, -1))


def test_a_folder_of_textures(tmp_path, capsys):
    with pytest.raises(InputError, match=r"textures: .*none: found no folder, expected a folder of PNG or JPEG"):
        textures.load_textures(tmp_path / "none", 32)
    with pytest.raises(InputError, match=r"found no \.jpeg, \.jpg, \.png file"):
        textures.load_textures(tmp_path, 32)
    (tmp_path / "banded").mkdir()
    Image.new("RGB", (50, 40), (255, 0, 0)).save(tmp_path / "banded/b.png")
    Image.new("L", (32, 32), 7).save(tmp_path / "a.JPG")
    (tmp_path / "labels.txt").write_text("")
    made = textures.load_textures(tmp_path, 32)
    assert made.shape == (2, 32, 32) and made[0].unique().tolist() == [7] and made[1].unique().tolist() == [76]
    assert "textures: 1 files that are no pictures left out, the first is" in capsys.readouterr().err
    (tmp_path / "c.png").write_bytes(b"no")
    with pytest.raises(InputError, match=r"textures: .*c\.png: cannot be read"):
        textures.load_textures(tmp_path, 32)


def test_textures_come_from_the_normal_images_or_the_folder(tmp_path, monkeypatch):
    seen = []

    def recorded(pictures, cut, *arguments):
        seen.append((pictures, cut))
        return textures.draw_textures(pictures, cut, *arguments)

    monkeypatch.setattr(draem, "draw_textures", recorded)
    Image.new("L", (64, 64), 7).save(tmp_path / "a.png")
    images = torch.randint(0, 256, (4, 64, 64), generator=generator()).byte()
    for folder in (None, str(tmp_path)):
        settings = DraemSettings(image_size=64, width=2, epochs=1, batch_size=4, textures=folder)
        draem.fit(TrainingData(images[:3], images[3:]), settings, 0, Resume(tmp_path / "x/x.pt", str(folder)))
    (normal, cut), (pictures, whole) = seen
    assert torch.equal(normal, images[:3]) and cut  # none from T_u
    assert pictures.unique().tolist() == [7] and pictures.shape == (1, 64, 64) and not whole
