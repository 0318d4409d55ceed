"""The comparators against independent computations of their formulas, and as wholes on drawn images."""

import copy
import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image
from safetensors.torch import load_file
from scipy.ndimage import median_filter
from scipy.stats import multivariate_normal
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.transforms.v2 import functional as vision

import amae.method.training
from amae.commands.compare import compare
from amae.commands.score_probe import score_probe
from amae.comparators import anatpaste, autoencoder, cutpaste, detector, igd, nsa, patches, pu_probe
from amae.comparators.interface import TestData, TrainingData
from amae.comparators.methods import METHODS, column, method_of
from amae.comparators.settings import (
    AutoencoderSettings,
    DraemSettings,
    EnsembleSettings,
    NeighbourSettings,
    ProbeSettings,
)
from amae.comparators.state import load_state
from amae.data.resize import resize, resize_masks
from amae.mae.architecture import Architecture
from amae.mae.model import MAE
from amae.mae.weights import save_weights
from amae.method.adaptation import train_autoencoder
from amae.method.reconstruct import draw_orders, reconstruct
from amae.method.stage1 import frozen_features
from amae.method.training import Resume, Schedule, train
from amae.plan.compared import SHARED
from amae.runtime.errors import InputError
from amae.runtime.tensors import prefixed
from amae.settings import ModuleSettings, ReconstructionSettings, from_mapping

SIDE = 64
TRAINED = {
    "ae": {"epochs": 16, "batch_size": 16, "lr": 2e-3, "image_size": 32},
    "ae_u": {"epochs": 16, "batch_size": 16, "lr": 2e-3, "image_size": 32},
    "ddad": {"epochs": 15, "batch_size": 8, "lr": 2e-3, "image_size": 32, "networks": 2},
    "ddad_u": {"epochs": 2, "batch_size": 8, "lr": 2e-3, "image_size": 32, "networks": 2},
    "ddad_asr": {"epochs": 15, "batch_size": 8, "lr": 2e-3, "image_size": 32, "networks": 2}
    | {"refine_epochs": 3, "refine_lr": 2e-3},
    "fanogan": {"epochs": 4, "updates": 5, "encoder_epochs": 8, "batch_size": 8, "image_size": 16, "dim": 4}
    | {"encoder_lr": 1e-3},
    "igd": {"epochs": 12, "batch_size": 4, "lr": 1e-3, "image_size": 32, "dim": 2, "pretrained": False},
    "anatpaste": {"epochs": 6, "updates": 2, "batch_size": 8, "image_size": 32},
    "cutpaste": {"epochs": 4, "batch_size": 4, "image_size": 64, "lr": 3e-3},
    "fpi": {"epochs": 30, "batch_size": 8, "image_size": 64, "lr": 1e-2},
    "pii": {"epochs": 30, "batch_size": 8, "image_size": 64, "lr": 1e-2},
    "nsa": {"epochs": 30, "batch_size": 8, "image_size": 64, "lr": 1e-2},
    "draem": {"epochs": 12, "batch_size": 4, "image_size": 64, "width": 8, "lr": 3e-3},
    "detector": {"epochs": 12, "batch_size": 8, "image_size": 32, "folds": 2, "lr": 3e-3},
    "detector_balanced": {"epochs": 12, "batch_size": 8, "image_size": 32, "folds": 2, "lr": 3e-3},
    "detector_plain": {"epochs": 12, "batch_size": 8, "image_size": 32, "folds": 2, "lr": 3e-3},
    "detector_encoder": {"epochs": 20, "batch_size": 8, "folds": 2, "lr": 3e-3},
    "detector_masks": {"epochs": 12, "batch_size": 8, "image_size": 32, "folds": 2, "lr": 3e-3},
}
SLOW = ("draem", "igd", "ddad_asr", "cutpaste", "ddad", "fpi", "nsa", "pii")  # to learn
FOREIGN = ("fpi", "pii", "nsa")  # patches of another image
SHORT = {"epochs": 4, "warmup_epochs": 1, "batch_size": 8, "lr": 1e-3}
UNTRAINED = {name: {} for name in METHODS if name not in TRAINED} | {
    "pu_probe": {"c": 0.01},
    "knn_ratio": {"neighbours": 10},
}


def draw(count: int, seed: int, squares: bool) -> torch.Tensor:
    """Smooth blobs, some with a bright square, uint8 (count, 64, 64)."""
    rng = np.random.default_rng(seed)
    axis = np.arange(SIDE)
    centres, spread = rng.uniform(16, 48, (2, count, 3)), rng.uniform(8, 16, (count, 3))
    down, across = (np.exp(-(((axis - c[..., None]) / spread[..., None]) ** 2)) for c in centres)
    images = 60 + 50 * np.einsum("nkh,nkw->nhw", down, across)
    for image, corner in zip(images, rng.integers(8, 44, (count, 2)), strict=True):
        if squares:
            image[corner[0] : corner[0] + 12, corner[1] : corner[1] + 12] = 250
    return torch.from_numpy(images.clip(0, 255).astype(np.uint8))


def lungs_of(images: torch.Tensor) -> torch.Tensor:
    """Lung masks, bool (N, 64, 64): the middle, without the squares."""
    inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    inside[10:54, 10:54] = True
    return inside & (images < 240)


def draw_stripes(count: int, seed: int, squares: bool) -> torch.Tensor:
    """Stripes, some with a square where they are out of phase and otherwise bright, uint8 (count, 64, 64)."""
    rng = np.random.default_rng(seed)
    level, swing, phase = (rng.uniform(*bounds, (2, count, 1)) for bounds in ((100, 150), (40, 60), (0, 1)))
    phase[1] = phase[0] + rng.uniform(0.3, 0.7, (count, 1))
    rows = level + swing * np.sin(2 * np.pi * (np.arange(SIDE) / 8 + phase))
    images, others = np.repeat(rows[:, :, None], SIDE, axis=2)
    for image, other, (top, left) in zip(images, others, rng.integers(12, 28, (count, 2)), strict=True):
        if squares:
            image[top : top + 24, left : left + 24] = other[top : top + 24, left : left + 24]
    return torch.from_numpy(images.astype(np.uint8))


def small_network() -> nn.Sequential:
    """A network in the place of NSA's that learns in seconds."""
    layers = [nn.Conv2d(1, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU()]
    for before, dilation in ((16, 2), (32, 4)):
        layers += [nn.Conv2d(before, 32, 3, padding=dilation, dilation=dilation), nn.BatchNorm2d(32), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(32, 1, 1), nn.Upsample(scale_factor=2))


@pytest.fixture(scope="module")
def encoder() -> MAE:
    """A small untrained encoder."""
    torch.manual_seed(0)
    return MAE(Architecture(SIDE, 16, 32, 1, 2, 16, 1, 2)).eval()


@pytest.fixture(scope="module")
def data(encoder) -> TrainingData:
    """T_n, and a T_u with squares in half of its images."""
    normal, unlabeled = draw(32, 0, False), torch.cat([draw(12, 1, False), draw(20, 2, True)])
    patients, views = [f"p{number}" for number in range(64)], ["PA", "AP"] * 32
    return TrainingData(normal, unlabeled, lungs_of(normal), lungs_of(unlabeled), encoder, patients, views)


@pytest.fixture(scope="module")
def test_data(encoder) -> TestData:
    """30 images without and 30 with a square."""
    images = torch.cat([draw(30, 3, False), draw(30, 4, True)])
    views = ["PA"] * 25 + ["AP"] * 5 + ["AP"] * 20 + [""] * 10
    return TestData(images, views, encoder, [f"i{n}" for n in range(60)], lungs=lungs_of(images))


@pytest.fixture(scope="module")
def few(data) -> TrainingData:
    """Eight images of each, where nothing need be learned."""
    first = {name: value[:8] for name, value in vars(data).items() if torch.is_tensor(value)}
    first |= {"patients": data.patients[:16], "groups": data.groups[:16]}
    return replace(data, **first)


@pytest.fixture
def narrow(monkeypatch, request):
    """Networks that train in a fraction of the time; NSA's own is trained for CutPaste."""
    monkeypatch.setattr(autoencoder, "HIDDEN", 256)
    monkeypatch.setattr(igd, "resnet18", lambda weights: ResNet(BasicBlock, [1, 1, 1, 1]))
    if "callspec" in dir(request.node) and request.node.callspec.params["method"] in FOREIGN:
        monkeypatch.setattr(nsa, "make_network", small_network)


def settings_of(method: str, **changes):
    """Settings small enough for a test."""
    if method == "detector_ratio":
        return method_of(method).settings(settings_of("detector"), ModuleSettings(**SHORT | changes))
    if method in SHARED:
        return method_of(method).settings(ModuleSettings(**SHORT | changes))
    return method_of(method).settings(**(TRAINED | UNTRAINED)[method] | changes)


def without_unlabeled(data: TrainingData) -> TrainingData:
    """The same under protocol N."""
    return replace(data, unlabeled=data.unlabeled[:0], unlabeled_lungs=data.unlabeled_lungs[:0])


# The interface


def test_every_method_declares_what_it_is_without_loading_torch():
    assert {"ae", "ae_u", "ddad", "ddad_u", "anatpaste", "cutpaste", "view_only", "knn"} <= set(METHODS)
    assert {METHODS[name].title for name in (*FOREIGN, "draem")} == {"FPI", "PII", "NSA", "DRAEM"}  # as printed
    for method in METHODS.values():
        assert method.title and method.protocols and find_spec(method.module)
        assert method.protocols.keys() <= {"N", "Y"}
        assert {"lungs", "encoder", "autoencoder"} >= method.needs
        method.settings()
    code = "import sys, amae.comparators.methods; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    with pytest.raises(InputError, match=r"method 'aé': expected one of ae, ae_u, anatpaste"):
        method_of("aé")


def test_images_are_resized_as_pillow_does():
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 96, 96)).astype(np.uint8))
    for size in (64, 128):
        expected = [np.asarray(Image.fromarray(x.numpy()).resize((size, size), Image.BILINEAR)) for x in images]
        assert (resize(images, size).int() - torch.tensor(np.stack(expected)).int()).abs().max() <= 1
    assert resize(images, 96) is images
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, :4] = True
    assert torch.equal(resize_masks(mask, 16)[0, :, 0], torch.arange(16) < 8)


def test_schedules_of_the_comparators(tmp_path):
    module = nn.Linear(1, 1, bias=False)
    nn.init.ones_(module.weight)
    sizes = []

    def loss_of(ids, generator):
        sizes.append(len(ids))
        return module.weight.sum()  # gradient 1

    schedule = Schedule(2, 0, 4, 0.1, 0.5, (0.9, 0.0), "sgd", 0.1, drop_last=True)
    history = train(module, loss_of, 10, schedule, 0, Resume(tmp_path / "x.pt", ""))
    weight, velocity = 1.0, 0.0
    for _ in range(4):  # L2 penalty and momentum by hand
        velocity = 0.9 * velocity + 1 + 0.5 * weight
        weight -= 0.1 * velocity
    assert sizes == [4] * 4 and module.weight.item() == pytest.approx(weight, rel=1e-6)
    assert history["lr"].tolist() == [0.1, 0.1] and history["step"].tolist() == [2, 4]
    assert Schedule(1, 0, 4, 0.1, 0, drop_last=True).batches(3) == 1  # the only batch is never left out


# Autoencoders


def batch_norm(x, state, name):
    """Normalisation by running statistics over axis 1, in numpy."""
    shape = [1, -1] + [1] * (x.ndim - 2)
    mean, var, weight, bias = (
        state[f"{name}.{key}"].double().numpy().reshape(shape)
        for key in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / np.sqrt(var + 1e-5) * weight + bias


def convolve(x, kernel):
    """4 x 4 convolution, stride 2, padding 1: kernel (out, in, 4, 4)."""
    windows = sliding_window_view(np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)]), (4, 4), axis=(2, 3))[:, :, ::2, ::2]
    return np.einsum("nihwkl,oikl->nohw", windows, kernel)


def deconvolve(x, kernel):
    """Its transpose: kernel (in, out, 4, 4); every input pixel spreads the kernel over 4 x 4 output pixels."""
    count, _, height, width = x.shape
    result = np.zeros((count, kernel.shape[1], 2 * height + 2, 2 * width + 2))
    for k in range(4):
        for m in range(4):
            spread = np.einsum("nihw,io->nohw", x, kernel[:, :, k, m])
            result[:, :, k : k + 2 * height : 2, m : m + 2 * width : 2] += spread
    return result[:, :, 1:-1, 1:-1]


def autoencode(images, state):
    """Output of the recipe's autoencoder, from packed images at its own size, in numpy."""
    weight = {name: value.double().numpy() for name, value in state.items()}
    x = images.numpy()[:, None] / 127.5 - 1
    for layer in (0, 3, 6, 9):
        x = np.maximum(batch_norm(convolve(x, weight[f"encoder.{layer}.weight"]), state, f"encoder.{layer + 1}"), 0)
    x = x.reshape(len(x), -1)
    for part, (first, norm, second) in {"to_latent": (1, 2, 4), "from_latent": (0, 1, 3)}.items():
        x = x @ weight[f"{part}.{first}.weight"].T + weight[f"{part}.{first}.bias"]
        x = np.maximum(batch_norm(x, state, f"{part}.{norm}"), 0)
        x = x @ weight[f"{part}.{second}.weight"].T + weight[f"{part}.{second}.bias"]
    side = round((x.shape[1] / 64) ** 0.5)
    x = x.reshape(len(x), 64, side, side)
    for layer in (0, 3, 6):
        x = np.maximum(batch_norm(deconvolve(x, weight[f"decoder.{layer}.weight"]), state, f"decoder.{layer + 1}"), 0)
    return deconvolve(x, weight["decoder.9.weight"]) + weight["decoder.9.bias"][:, None, None]


def fixed_state(seed: int, uncertain: bool) -> dict[str, torch.Tensor]:
    """A network's state with weights and statistics that all matter."""
    torch.manual_seed(seed)
    network = autoencoder.make_network(SIDE, uncertain)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                for tensor in (module.weight, module.bias, module.running_mean):
                    tensor.normal_(0.5, 0.3)
                module.running_var.uniform_(0.5, 2)
    return network.state_dict()


@pytest.mark.parametrize("uncertain", [False, True])
def test_autoencoder_has_the_published_sizes(uncertain):
    network = autoencoder.make_network(64, uncertain)
    convolutions = 16 * (1 * 16 + 16 * 32 + 32 * 64 + 64 * 64)
    transposed = 16 * (64 * 64 + 64 * 32 + 32 * 16 + 16 * (1 + uncertain)) + (1 + uncertain)
    norms = 2 * (16 + 32 + 64 + 64 + 64 + 32 + 16 + 2048 + 2048)
    linear = (1024 + 1) * 2048 + (2048 + 1) * 16 + (16 + 1) * 2048 + (2048 + 1) * 1024
    assert sum(p.numel() for p in network.parameters()) == convolutions + transposed + norms + linear
    assert network(torch.zeros(2, 1, 64, 64)).shape == (2, 1 + uncertain, 64, 64)
    assert network.to_latent(torch.zeros(2, 64, 4, 4)).shape == (2, 16)


@pytest.mark.parametrize("method", ["ae", "ae_u"])
def test_autoencoder_scores_by_hand(method, test_data):
    state = fixed_state(0, method == "ae_u")
    images = test_data.images[::20]
    output, x = autoencode(images, state), images.numpy()[:, None] / 127.5 - 1
    error = (x - output[:, :1]) ** 2
    expected = (error * np.exp(-output[:, 1:]) if method == "ae_u" else error).mean((1, 2, 3))
    score = method_of(method).score(state, TestData(images), AutoencoderSettings())["score"]
    np.testing.assert_allclose(score, expected, rtol=1e-5)


@pytest.mark.parametrize("method", ["ddad", "ddad_u"])
def test_discrepancies_by_hand(method, test_data):
    uncertain, images = method == "ddad_u", test_data.images[::20]
    states = {f"{m}.{k}": fixed_state(3 * (m == "A") + k, uncertain) for m in "AB" for k in range(3)}
    output = {m: np.stack([autoencode(images, states[f"{m}.{k}"]) for k in range(3)]) for m in "AB"}
    x, means = images.numpy()[:, None] / 127.5 - 1, {m: output[m][:, :, :1] for m in "AB"}
    sigma = np.sqrt(np.exp(output["B"][:, :, 1:]).mean(0)) if uncertain else 1
    mu = {m: means[m].mean(0) for m in "AB"}
    expected = {
        "rec": (x - mu["B"]) ** 2,
        "intra": np.sqrt(((means["B"] - mu["B"]) ** 2).mean(0)) / sigma,
        "inter": np.abs(mu["A"] - mu["B"]) / sigma,
    }
    state = {name: value for key, each in states.items() for name, value in prefixed(each, key).items()}
    scores = method_of(method).score(state, TestData(images), EnsembleSettings())
    assert scores.keys() == expected.keys()
    for name, each in expected.items():
        np.testing.assert_allclose(scores[name], each.mean((1, 2, 3)), rtol=1e-5)


def test_loss_of_the_uncertain_autoencoder_by_hand():
    x = torch.tensor([[[[1.0, -1.0]]]])
    output = torch.tensor([[[[0.0, -1.0]], [[np.log(2.0), np.log(4.0)]]]])
    assert autoencoder.loss(output, x).item() == pytest.approx((1 / 2 + 0) / 2 + (np.log(2) + np.log(4)) / 2)
    assert autoencoder.loss(output[:, :1], x).item() == pytest.approx(0.5)


@pytest.mark.usefixtures("narrow")
def test_module_b_is_the_same_under_both_protocols(few, test_data, tmp_path):
    settings = settings_of("ddad", epochs=1)
    scores = []
    for number, each in enumerate((few, without_unlabeled(few))):
        state, history = method_of("ddad").fit(each, settings, 0, Resume(tmp_path / str(number) / "x.pt", ""))
        scores.append(method_of("ddad").score(state, test_data, settings))
        assert history["network"].tolist() == ["B0", "B1", "A0", "A1"][: 4 - 2 * number]
    assert list(scores[0]) == ["rec", "intra", "inter"] and list(scores[1]) == ["rec", "intra"]
    assert torch.equal(scores[0]["intra"], scores[1]["intra"])
    states = {name: value for name, value in state.items() if name.endswith("0.encoder.0.weight")}
    assert not torch.equal(states["B.0.encoder.0.weight"], state["B.1.encoder.0.weight"])


# AnatPaste and CutPaste


def test_kernel_density_is_that_of_scikit_learn():
    vectors = torch.randn(2, 70, 512, generator=torch.Generator().manual_seed(0))
    known, points = nn.functional.normalize(vectors, dim=2)
    expected = -KernelDensity(kernel="gaussian", bandwidth=1.0).fit(known.double()).score_samples(points.double())
    np.testing.assert_allclose(anatpaste.negative_log_density(points, known), expected, rtol=1e-12)


def test_jitter_is_torchvisions():
    images = torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(0))
    jittered = anatpaste.jitter(images, torch.Generator().manual_seed(1))
    factors = 0.9 + 0.2 * torch.rand(2, 4, generator=torch.Generator().manual_seed(1))
    for image, result, brightness, contrast in zip(images, jittered, *factors, strict=True):
        expected = vision.adjust_contrast(vision.adjust_brightness(image[None], float(brightness)), float(contrast))
        torch.testing.assert_close(result, expected[0])


def test_rotated_crop_is_torchvisions(monkeypatch):
    images = torch.rand(2, 73, 73, generator=torch.Generator().manual_seed(0))
    angles, start = torch.tensor([2.3, -1.4]), torch.tensor([[3, 5], [6, 4]])
    crops = nsa.rotated_crop(images, torch.deg2rad(angles), start, 64)
    for image, angle, (row, col), crop in zip(images, angles, start.T, crops, strict=True):
        expected = vision.crop(vision.rotate(image[None], float(angle)), int(row), int(col), 64, 64)[0]
        assert (crop != expected).float().mean() < 0.01  # ties between pixels
    whole = torch.arange(73.0 * 73).reshape(1, 73, 73).expand(200, -1, -1)
    monkeypatch.setattr(nsa, "ROTATION", 0)
    corners = nsa.rotate_and_crop(whole, 64, torch.Generator().manual_seed(0))[:, 0, 0]
    assert set((corners // 73).tolist()) == set((corners % 73).tolist()) == {3.0, 4.0, 5.0}  # 230/224 of 64 is 66


def test_median_filter_of_masks():
    masks = torch.from_numpy(np.random.default_rng(0).random((2, 20, 20)) < 0.5).float()
    for side in (5, 7):
        expected = np.stack([median_filter(mask, side, mode="nearest") for mask in masks.numpy()])
        np.testing.assert_array_equal(patches.majority(masks, side), expected)


def test_share_of_rectangles():
    mask = torch.from_numpy(np.random.default_rng(0).random((2, 20, 20)) < 0.5).float()
    start, size = torch.tensor([[[0], [3]], [[5], [10]]]), torch.tensor([[[20], [4]], [[7], [10]]])
    shares = patches.share(patches.integral(mask), start, size)
    assert shares[0, 0].item() == pytest.approx(mask[0, :, 5:12].mean().item())
    assert shares[1, 0].item() == pytest.approx(mask[1, 3:7, 10:].mean().item())


def test_cut_and_paste_moves_pieces_of_the_patient():
    generator = torch.Generator().manual_seed(0)
    side = 100
    images = torch.randint(30, 256, (300, side, side), generator=generator).float()
    images[:, :, :30] = 0  # background
    pasted, target = cutpaste.cut_and_paste(images, generator)
    changed = pasted != images
    assert changed.any(2).any(1).all()
    assert not changed[:, :, :10].any()  # no patch of 70 % patient reaches far into the background
    assert (target & ~changed).float().sum() / target.sum() < 0.02 and (changed & ~target).sum() / changed.sum() < 0.1
    assert 0.02 < target.float().mean() < 0.15
    empty, target = cutpaste.cut_and_paste(torch.zeros(2, 64, 64), generator)
    assert not target.any() and not empty.any()
    one, _ = cutpaste.cut_and_paste(images[:1], torch.Generator().manual_seed(5))
    rows, columns = torch.nonzero(one[0] != images[0], as_tuple=True)
    piece = one[0, rows[0], columns[0] : columns[0] + 4]
    assert (images[0].unfold(1, 4, 1) == piece).all(2).any()  # it is in the image, elsewhere


def test_patches_have_the_published_sizes(monkeypatch):
    monkeypatch.setattr(patches, "ATTEMPTS", 2)
    area = patches.integral(torch.ones(1, 256, 256)).expand(20000, -1, -1)
    start, size, found = patches.draw_source([area], torch.Generator().manual_seed(0))
    inner = (start > 0) & (start + size < 256)
    half = torch.distributions.Gamma(2.0, 1 / 0.03).sample((200000,)).add(0.05).mul(256).clamp(8, 102).long()
    assert found.all() and size.min() >= 8 and size.max() <= 204
    assert size[inner].float().quantile(0.1).item() == pytest.approx(2 * half.float().quantile(0.1).item(), abs=2)


def test_shapes_of_the_segmenting_network():
    network = nsa.make_network()
    assert network(torch.zeros(2, 1, 64, 96)).shape == (2, 1, 64, 96)
    assert network.encoder(torch.zeros(2, 1, 64, 64)).shape == (2, 512, 2, 2)
    assert nsa.loaded_size(224) == 256


# Distances and the probe


def test_distances_by_brute_force(data, test_data):
    known = frozen_features(data.encoder, data.normal).double().numpy()
    points = frozen_features(data.encoder, test_data.images).double().numpy()
    normal = without_unlabeled(data)
    state, _ = (knn := method_of("knn")).fit(normal, NeighbourSettings(), 0, None)
    distances = np.sort(np.linalg.norm(points[:, None] - known, axis=2))[:, :5].mean(1)
    np.testing.assert_allclose(knn.score(state, test_data, NeighbourSettings())["score"], distances, rtol=1e-6)
    state, _ = (mahalanobis := method_of("mahalanobis")).fit(normal, mahalanobis.settings(), 0, None)
    offset, covariance = points - known.mean(0), LedoitWolf().fit(known).covariance_
    expected = np.sqrt(np.einsum("ni,ni->n", offset, np.linalg.solve(covariance, offset.T).T))
    score = mahalanobis.score(state, test_data, mahalanobis.settings())["score"]
    np.testing.assert_allclose(score, expected, rtol=1e-6)
    with pytest.raises(InputError, match="neighbours: found 33, but T_n has 32"):
        knn.fit(normal, NeighbourSettings(33), 0, None)


def test_ratios_of_the_unlabeled_and_the_normal_density(data, test_data):
    points = frozen_features(data.encoder, test_data.images).double().numpy()
    sets = [frozen_features(data.encoder, images).double().numpy() for images in (data.normal, data.unlabeled)]
    distances = [np.sort(np.linalg.norm(points[:, None] - known, axis=2))[:, :5].mean(1) for known in sets]
    state, _ = (knn := method_of("knn_ratio")).fit(data, NeighbourSettings(), 0, None)
    score = knn.score(state, test_data, NeighbourSettings())["score"]
    np.testing.assert_allclose(score, np.log(distances[0] / distances[1]), rtol=1e-6, atol=1e-9)
    state, _ = (gaussian := method_of("gaussian_ratio")).fit(data, gaussian.settings(), 0, None)
    score = gaussian.score(state, test_data, gaussian.settings())["score"].numpy()
    fits = [LedoitWolf().fit(known) for known in sets]
    densities = [multivariate_normal(fit.location_, fit.covariance_).logpdf(points) for fit in fits]
    log_ratio = densities[1] - densities[0]
    np.testing.assert_allclose(score - score.mean(), log_ratio - log_ratio.mean(), rtol=1e-6, atol=1e-6)


def test_the_sum_adds_both_rows_in_units_of_their_spread_over_the_unlabeled_images(data, test_data, tmp_path):
    settings = settings_of("detector_ratio")
    own = {"detector": settings.detector, "two_distributions": settings_of("two_distributions")}
    expected = 0
    for name, of in own.items():
        state, _ = method_of(name).fit(data, of, 3, Resume(tmp_path / f"{name}.pt", ""))
        unlabeled = state["unlabeled"] if name == "detector" else None
        if unlabeled is None:
            ids = [f"unlabeled {row}" for row in range(len(data.unlabeled))]
            beside = replace(test_data, images=data.unlabeled, ids=ids, seed=3)
            unlabeled = method_of(name).score(state, beside, of)["score"]
        found = method_of(name).score(state, test_data, of)["score"].double().numpy()
        unlabeled = unlabeled.double().numpy()
        expected = expected + (found - unlabeled.mean()) / unlabeled.std(ddof=1)
    method = method_of("detector_ratio")
    state, _ = method.fit(data, settings, 3, Resume(tmp_path / "x.pt", ""))
    np.testing.assert_allclose(method.score(state, test_data, settings)["score"].numpy(), expected, atol=1e-5)


def test_two_distributions_are_the_variant_without_pseudo_labels(few, tmp_path):
    method, settings = method_of("two_distributions"), settings_of("two_distributions")
    state, _ = method.fit(few, settings, 5, Resume(tmp_path / "x.pt", ""))
    errors, masks = [], ReconstructionSettings(masks=16, mask_scheme="complementary")
    for module, images in (("A", few.normal), ("B", few.unlabeled)):
        model = copy.deepcopy(few.encoder)
        resume = Resume(tmp_path / f"{module}.pt", "")
        train_autoencoder(model, images, settings.modules, settings.modules.lr, 5, resume, masks=2, loss_on="hidden")
        orders = draw_orders(list("abcdefgh"), 0, 16, masks)
        mu, _ = reconstruct(model, few.normal, orders, masks)
        errors.append((mu - few.normal.double() / 255).square().mean((1, 2)))  # every patch is hidden under some mask
    found = method.score(state, TestData(few.normal, None, few.encoder, list("abcdefgh")), settings)
    torch.testing.assert_close(found["score"], (errors[0] / errors[1]).log().float(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", ["two_distributions", "detector_ratio"])
def test_masks_that_do_not_fit_the_patches_are_refused_before_any_training(few, tmp_path, method):
    odd = replace(few, encoder=MAE(Architecture(48, 16, 32, 1, 2, 16, 1, 2)))
    refusal = (
        r"key mae\.image_size 48 with mae\.patch_size 16: .* images of 9 patches.* out of experiments\.comparators"
    )
    with pytest.raises(InputError, match=refusal):
        method_of(method).fit(odd, settings_of(method), 0, Resume(tmp_path / "x.pt", ""))
    assert not list(tmp_path.iterdir())


class ScaledByNormal(TransformerMixin, BaseEstimator):
    """Standardisation by the statistics of class 0."""

    def fit(self, x, y):
        self.scaler_ = StandardScaler().fit(x[y == 0])
        return self

    def transform(self, x):
        return self.scaler_.transform(x)


def test_probe_is_scikit_learns_pipeline(data, test_data):
    settings = ProbeSettings(c=0.1, folds=4)
    normal, unlabeled, points = (
        frozen_features(data.encoder, x).double().numpy() for x in (data.normal, data.unlabeled, test_data.images)
    )
    x, y = np.concatenate([normal, unlabeled]), np.repeat([0, 1], [len(normal), len(unlabeled)])
    pipeline = make_pipeline(ScaledByNormal(), LogisticRegression(C=0.1, max_iter=1000))
    state, _ = pu_probe.fit(data, settings, 0, None)
    score = pu_probe.score(state, test_data, settings)["score"]
    np.testing.assert_allclose(score, pipeline.fit(x, y).decision_function(points), rtol=1e-5, atol=1e-5)
    patients = [f"p{row // 2}" for row in range(len(x))]
    folds = PredefinedSplit(pu_probe.folds_of(y == 1, patients, 4))
    expected = cross_val_predict(pipeline, x, y, cv=folds, method="predict_proba")[len(normal) :, 1]
    np.testing.assert_allclose(pu_probe.out_of_fold(x, y == 1, patients, settings), expected, rtol=1e-6)
    again, _ = pu_probe.fit(data, settings, 1, None)
    assert all(torch.equal(state[name], again[name]) for name in state)  # no seed
    with pytest.raises(InputError, match="folds: found 17, but T_n has 16 and T_u 16 patients"):
        pu_probe.out_of_fold(x, y == 1, patients, ProbeSettings(folds=17))


def test_folds_do_not_follow_names_that_spell_the_class():
    classes = ["IM-", "NORMAL2-", "bacteria-", "virus-"]  # sorted, as in a manifest: T_n, then T_u, 30 normal of 90
    names = [f"{name}{number // 2:04}" for name in classes for number in range(30)]
    unlabeled = np.arange(120) >= 30
    fold = pu_probe.folds_of(unlabeled, names, 5)
    assert pd.Series(fold).groupby(names).nunique().eq(1).all()  # a patient has two images, in one fold
    assert (np.bincount(fold[~unlabeled]) == 6).all() and (np.bincount(fold[unlabeled]) == 18).all()
    normal = np.bincount(fold[30:60], minlength=5)
    assert normal.min() > 0 and normal.max() < 18  # no fold is of one class, as runs of the sorted names are
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(120)
        assert (pu_probe.folds_of(unlabeled[order], [names[row] for row in order], 5) == fold[order]).all()


def test_view_only(capsys):
    method = method_of("view_only")
    data = TestData(torch.zeros(4, 8, 8, dtype=torch.uint8), ["PA", "AP", "", "AP"])
    assert method.score({}, data, method.settings())["score"].tolist() == [0, 1, 0.5, 1]
    assert capsys.readouterr().err == ""
    unknown = method.score({}, replace(data, views=["", "LL", "", ""]), method.settings())["score"]
    assert unknown.tolist() == [0.5] * 4
    assert "no test image has the view AP or PA" in capsys.readouterr().err


# All of them


class Interrupted(Exception):
    """A training that is cut off."""


@pytest.mark.parametrize("method", [*TRAINED, *SHARED])
@pytest.mark.usefixtures("narrow")
def test_an_interrupted_training_ends_with_the_same_weights(method, few, tmp_path, monkeypatch):
    module, settings = method_of(method), settings_of(method, epochs=2, batch_size=8)
    state, history = module.fit(few, settings, 3, Resume(tmp_path / "whole" / "x.pt", "id"))
    save = amae.method.training._save

    def save_and_stop(*arguments):
        save(*arguments)
        raise Interrupted

    resume = Resume(tmp_path / "cut" / "x.pt", "id")
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(amae.method.training, "_save", save_and_stop)
        module.fit(few, settings, 3, resume)
    assert list(resume.path.parent.iterdir())
    again, history_again = module.fit(few, settings, 3, resume)
    assert all(torch.equal(state[name], again[name]) for name in state) and state.keys() == again.keys()
    pd.testing.assert_frame_equal(history, history_again)


def add_squares(images, generator):
    """Synthetic anomalies that show: cutting and pasting hardly changes smooth images."""
    pixels, corner = torch.arange(SIDE), torch.randint(5, 47, (2, len(images), 1), generator=generator)
    rows, columns = (pixels >= corner) & (pixels < corner + 12)
    target = rows[:, :, None] & columns[:, None, :]
    return torch.where(target, 250.0, images), target


@pytest.mark.parametrize("method", [pytest.param(name, marks=[pytest.mark.long] * (name in SLOW)) for name in METHODS])
@pytest.mark.usefixtures("narrow")
def test_finds_squares_and_scores_each_image_by_itself(method, data, test_data, tmp_path, monkeypatch):
    monkeypatch.setattr(cutpaste, "cut_and_paste", add_squares)
    module, settings = method_of(method), settings_of(method)
    # one-class methods would pool the squares
    protocol = "Y" if method in {"ddad", "ddad_u"} or "N" not in module.protocols else "N"
    given = data if protocol == "Y" else without_unlabeled(data)
    if method in FOREIGN:  # a seamless clone hardly changes smooth images
        given = replace(given, normal=draw_stripes(32, 0, False))
        test_data = replace(test_data, images=torch.cat([draw_stripes(30, 3, False), draw_stripes(30, 4, True)]))
    state, history = module.fit(given, settings, 0, Resume(tmp_path / "x.pt", ""))
    scores = module.score(state, test_data, settings)
    assert module.protocols[protocol] in scores
    assert {"epoch", "step", "lr", "loss"} <= set(history.columns)
    picked = [41, 3, 29]
    three = replace(
        test_data,
        images=test_data.images[picked],
        views=[test_data.views[i] for i in picked],
        ids=[test_data.ids[i] for i in picked],
        lungs=test_data.lungs[picked],
    )
    for name, values in module.score(state, three, settings).items():
        assert scores[name].shape == (60,) and torch.isfinite(scores[name]).all()
        torch.testing.assert_close(values, scores[name][picked], atol=1e-5, rtol=1e-5)
    found = {name: roc_auc_score([0] * 30 + [1] * 30, values) for name, values in scores.items()}
    # Variances take long to learn, a view knows of no square, and Mask Rec. was trained on squares too.
    assert found[module.protocols[protocol]] > 0.9 or method in {"ddad_u", "view_only", "mask_rec"}


# The commands


def write_data_set(folder, few, test_labels):
    """A packed data set as the workflow makes it."""
    images = torch.cat([few.normal, few.unlabeled, draw(8, 5, True)]).numpy()
    split = np.repeat(["train_normal", "train_unlabeled", "test"], 8)
    manifest = pd.DataFrame({"image_id": [f"i{k:03}" for k in range(len(images))], "split": split})
    manifest["path"] = manifest["image_id"] + ".png"
    manifest["label"] = ["normal"] * 8 + [""] * 8 + test_labels
    manifest["patient_id"], manifest["view"] = "", ["PA"] * 22 + ["AP", ""]
    index = manifest[["image_id"]].assign(rows=64, columns=64, scale_x=1, scale_y=1, offset_x=0, offset_y=0)
    lungs = np.zeros((len(images), 256, 256), np.uint8)
    lungs[:, 40:216, 40:216] = 1
    folder.mkdir()
    np.save(folder / "images.npy", images)
    np.save(folder / "lungs.npy", np.packbits(lungs, axis=-1))
    manifest.to_csv(folder / "manifest.csv", index=False)
    index.to_csv(folder / "images.csv", index=False)
    save_weights(few.encoder, folder / "mae.safetensors", {})


def options_of(folder, method, protocol="Y"):
    """Options of `compare`, as the command line parses them."""
    names = {"manifest": "manifest.csv", "images": "images.npy", "index": "images.csv", "lungs": "lungs.npy"}
    names |= {"weights": "mae.safetensors", "state": "state.safetensors", "history": "history.csv"}
    names |= {"record": "run.json", "scores": "scores.csv"}
    paths = {name: folder / file for name, file in names.items()}
    return {**paths, "method": method, "protocol": protocol, "seed": 1, "device": "cpu", "gpus": 0}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.usefixtures("narrow")
def test_commands_never_read_a_label(method, few, tmp_path):
    module = method_of(method)
    protocol = list(module.protocols)[-1]
    short = {"epochs": 1, "batch_size": 8} if method in TRAINED else {"neighbours": 5} if method == "knn_ratio" else {}
    settings = settings_of(method, **short)
    states, tables = [], []
    for name, labels in [("a", ["normal"] * 4 + ["abnormal"] * 4), ("b", ["abnormal", "normal"] * 4)]:
        write_data_set(tmp_path / name, few, labels)
        options = options_of(tmp_path / name, method, protocol)
        compare(settings=settings, **options)
        states.append(load_file(options["state"]))
        tables.append(pd.read_csv(options["scores"]))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    pd.testing.assert_frame_equal(*tables)
    assert tables[0].columns[0] == "image_id" and len(tables[0]) == 8
    assert column(method, module.protocols[protocol]) in tables[0]
    record = json.loads(options["record"].read_text())
    assert record["settings"].items() >= {"method": method, "protocol": protocol}.items() and record["seed"] == 1
    left = {"images.npy", "images.csv", "lungs.npy", "manifest.csv", "mae.safetensors"}
    assert {path.name for path in options["state"].parent.iterdir()} - left == {
        *("state.safetensors", "history.csv", "run.json", "scores.csv")
    }


def test_the_balanced_detector_is_given_the_column_that_its_settings_name(few, tmp_path, monkeypatch):
    write_data_set(tmp_path / "a", few, ["normal", "abnormal"] * 4)
    options = options_of(tmp_path / "a", "detector_balanced")
    manifest = pd.read_csv(options["manifest"]).assign(age=["061Y", "69", "", "7"] * 6)
    manifest.to_csv(options["manifest"], index=False)
    given = {}

    def fit_rounds(images, unlabeled, folds, groups, *_):
        given[settings.column] = groups
        raise InputError("enough")

    monkeypatch.setattr(detector, "fit_rounds", fit_rounds)
    for name, reason in (("age", "enough"), ("view", "enough"), ("sex", "manifest.csv.* has no column sex")):
        settings = settings_of("detector_balanced", column=name)
        with pytest.raises(InputError, match=reason):
            compare(settings=settings, **options)
    assert given == {"age": ["6.0", "6.0", "nan", "0.0"] * 4, "view": ["PA"] * 16}


@pytest.mark.parametrize(
    ("views", "told"),
    [
        ("PPAA", "no view is in both T_n and T_u"),
        ("PLPA", "2 images have a view that T_n or T_u lacks"),
        ("PAAP", ""),
        ("PPPP", "view is P in all images: nothing is balanced"),
        (["", "", "", ""], "view is blank in all images"),
        (["nan"] * 4, "view is blank in all images"),
    ],
)
def test_what_weights_cannot_balance_is_reported(views, told, capsys):
    detector._report_unbalanced(np.array(list(views)), np.array([False, False, True, True]), "view")
    err = capsys.readouterr().err
    assert told in err and bool(told) == bool(err)


def test_the_probe_ranks_the_unlabeled_images_for_pseudo_labels(few, tmp_path):
    tables = []
    for name, labels in [("a", ["normal"] * 4 + ["abnormal"] * 4), ("b", ["abnormal", "normal"] * 4)]:
        write_data_set(tmp_path / name, few, labels)
        options = options_of(tmp_path / name, "pu_probe")
        manifest = pd.read_csv(options["manifest"])
        manifest["patient_id"] = ["", "a", "b", "b"] * 6
        manifest.to_csv(options["manifest"], index=False)
        files = {key: options[key] for key in ("manifest", "images", "index", "weights", "device", "gpus")}
        found = tmp_path / name / "probe.csv"
        score_probe(**files, probe_scores=found, pu_probe=ProbeSettings(folds=2, c=0.1))
        tables.append(pd.read_csv(found))
    pd.testing.assert_frame_equal(*tables)  # no label is read
    manifest = pd.read_csv(options["manifest"])
    unlabeled = manifest[manifest["split"] == "train_unlabeled"]
    assert tables[0]["image_id"].tolist() == unlabeled["image_id"].tolist()
    assert set(tables[0]["split"]) == {"train_unlabeled"}
    features = [frozen_features(few.encoder, images).numpy() for images in (few.normal, few.unlabeled)]
    patients = [patient if patient != "x" else f"\0i{row:03}" for row, patient in enumerate(["x", "a", "b", "b"] * 4)]
    expected = pu_probe.out_of_fold(
        np.concatenate(features), np.arange(16) >= 8, patients, ProbeSettings(folds=2, c=0.1)
    )
    np.testing.assert_allclose(tables[0]["p_abnormal"], expected, rtol=1e-6)
    np.testing.assert_allclose(tables[0]["p_normal"] + tables[0]["p_abnormal"], 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epoch": 1}, "epoch: unknown; did you mean epochs?"),
        ({"epochs": "1"}, "epochs: found '1', expected a value of type int"),
        ({"epochs": True}, "epochs: found True, expected a value of type int"),
        ({"epochs": 0}, "epochs: found 0, expected at least 1"),
        ({"image_size": 40}, "image_size: found 40, expected a multiple of 16"),
    ],
)
def test_wrong_settings_are_named(given, message):
    with pytest.raises(InputError) as error:
        from_mapping(AutoencoderSettings, given)
    assert message in str(error.value)
    assert from_mapping(AutoencoderSettings, {"lr": 1}).lr == 1.0
    assert from_mapping(DraemSettings, {"textures": None}) == DraemSettings()
    assert from_mapping(DraemSettings, {"textures": "dtd"}).textures == "dtd"
    with pytest.raises(InputError, match="textures: found 3, expected a value of type str or null"):
        from_mapping(DraemSettings, {"textures": 3})
    with pytest.raises(InputError, match=r"modules\.epochs: found 0, expected at least 1"):
        from_mapping(method_of("mask_rec").settings, {"modules": {"epochs": 0}})


def test_what_does_not_fit_together_is_named(tmp_path):
    with pytest.raises(InputError, match="method pu_probe: found protocol 'N', expected Y"):
        compare(settings=ProbeSettings(), **options_of(tmp_path, "pu_probe", "N"))
    options = options_of(tmp_path, "anatpaste") | {"lungs": None}
    with pytest.raises(InputError, match="--lungs: missing; method anatpaste needs it"):
        compare(settings=settings_of("anatpaste"), **options)
    (tmp_path / "state.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match="not a trained comparator"):
        load_state(tmp_path / "state.safetensors", torch.device("cpu"))
