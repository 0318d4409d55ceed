"""Stage 1 and the modules on images small enough to learn in seconds."""

from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from amae.mae.architecture import Architecture
from amae.mae.model import MAE, masked_loss
from amae.method.adaptation import adaptation_loss, train_autoencoder
from amae.method.anatpaste import paste_batch
from amae.method.modules import equal_epochs, module_lr, training_images
from amae.method.stage1 import (
    detection_loss,
    frozen_features,
    load_head,
    make_head,
    save_head,
    score_stage1,
    train_stage1,
)
from amae.method.training import Resume, Schedule, make_optimiser
from amae.runtime.errors import InputError
from amae.settings import ModuleSettings, Stage1Settings

SMALL = Architecture(32, 8, width=32, depth=1, heads=2, decoder_width=16, decoder_depth=1, decoder_heads=2)
MANIFEST = pd.DataFrame(
    {"image_id": ["n0", "n1", "u0", "u1", "u2"], "split": ["train_normal"] * 2 + ["train_unlabeled"] * 3}
)
PSEUDO = pd.DataFrame({"image_id": ["u0", "u1", "u2"], "pseudo_label": ["abnormal", "", "normal"]})


def gradients(count, seed=0):
    """Smooth uint8 images (N, 32, 32): planes of random slope."""
    slope = np.random.default_rng(seed).uniform(-1, 1, (count, 2, 1, 1))
    y, x = np.mgrid[-1:1:32j, -1:1:32j]
    return torch.from_numpy((127 + 60 * (slope[:, 0] * x + slope[:, 1] * y)).astype(np.uint8))


def checkerboards(count, seed=0):
    """uint8 images (N, 32, 32) of dark and bright squares of 8 px, each with its own two grey levels."""
    dark = np.random.default_rng(seed).uniform(20, 60, (count, 1, 1))
    y, x = np.mgrid[:32, :32] // 8
    return torch.from_numpy((dark + 150 * ((x + y) % 2)).astype(np.uint8))


def test_stage1_learns_its_task_without_touching_the_encoder(tmp_path):
    torch.manual_seed(0)
    encoder = MAE(SMALL)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    images, lungs = checkerboards(48), torch.ones(48, 32, 32, dtype=torch.bool)
    settings = Stage1Settings(epochs=30, warmup_epochs=2, lr=2e-3)
    head, history = train_stage1(encoder, images, lungs, settings, 0, Resume(tmp_path / "state.pt", "x"))
    assert history["loss"].iloc[0] == pytest.approx(np.log(2), abs=0.15)
    assert history["loss"].iloc[-5:].mean() < 0.45
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    p = score_stage1(encoder, head, checkerboards(20, seed=1))
    torch.testing.assert_close(p.sum(1), torch.ones(20))
    assert (p[:, 1] < 0.5).float().mean() > 0.7  # unseen normal images
    save_head(head, tmp_path / "head.safetensors")
    again = score_stage1(encoder, load_head(tmp_path / "head.safetensors", 32), checkerboards(20, seed=1))
    assert torch.equal(p, again)
    with pytest.raises(InputError, match="width 16"):
        load_head(tmp_path / "head.safetensors", 16)


def test_features_are_the_mean_of_the_patch_tokens_in_any_batch():
    encoder = MAE(SMALL).eval()
    images = gradients(5)
    with torch.no_grad():
        expected = encoder.encode(encoder.embed(encoder.patchify(encoder.normalise(images))))[:, 1:].mean(1)
    torch.testing.assert_close(frozen_features(encoder, images, batch_size=2), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("module", "sets", "expected"),
    [
        ("A", "pseudo_labels", ["n0", "n1", "u2"]),
        ("B", "pseudo_labels", ["u0"]),
        ("A", "without", ["n0", "n1"]),
        ("B", "without", ["u0", "u1", "u2"]),
    ],
)
def test_training_sets_of_the_modules(module, sets, expected):
    assert training_images(module, MANIFEST, PSEUDO, ModuleSettings(training_sets=sets)) == expected


def test_a_module_without_images_is_an_error():
    with pytest.raises(InputError, match="module B: no image"):
        training_images("B", MANIFEST, PSEUDO.assign(pseudo_label=""), ModuleSettings())


def test_equal_updates_and_learning_rate():
    settings = ModuleSettings(epochs=10, warmup_epochs=2, batch_size=16)
    assert equal_epochs(settings, 100, 400) == (36, 7)  # 25 steps against 7
    assert module_lr(settings) == 2.5e-4
    assert module_lr(ModuleSettings(lr_scaling="batch")) == pytest.approx(1.5625e-5)


def test_an_autoencoder_learns_to_fill_in(tmp_path):
    torch.manual_seed(0)
    model = MAE(SMALL)
    images = gradients(64)
    settings = ModuleSettings(epochs=60, warmup_epochs=5, augmentation="none")
    history = train_autoencoder(model, images, settings, 2e-3, 0, Resume(tmp_path / "s.pt", "x"), masks=2)
    assert history["loss"].iloc[-1] < 0.4 * history["loss"].iloc[0]
    unseen = model.normalise(gradients(20, seed=1))
    order = torch.rand(20, 16, generator=torch.Generator().manual_seed(0)).argsort(1)
    assert masked_loss(model, unseen, order, 4).item() < 0.3 * unseen.square().mean().item()


def test_no_value_is_read_back_from_the_device_in_a_step(monkeypatch):
    """Fake tensors have no values: whatever waits for one fails. A GPU is then never kept waiting."""
    monkeypatch.setattr("amae.method.anatpaste.paste", paste_batch)  # what a GPU has
    with FakeTensorMode():
        model, head = MAE(SMALL), make_head(32)
        images, lungs = torch.zeros(8, 32, 32, dtype=torch.uint8), torch.ones(8, 32, 32, dtype=torch.bool)
        generator, ids = torch.Generator().manual_seed(0), torch.arange(4)
        losses = adaptation_loss(model, images, ModuleSettings(), masks=2), detection_loss(model, head, images, lungs)
        for module, loss_of in zip((model, head), losses, strict=True):
            optimiser = make_optimiser(module, Schedule(1, 0, 4, 1e-3, 0.05))
            loss_of(ids, generator).backward()
            optimiser.step()
        with pytest.raises(DataDependentOutputException):
            losses[0](ids, generator).item()


class OfTheHost(TorchDispatchMode):
    """Notes the operations that are given or make a tensor of the CPU."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        result = operation(*arguments, **(options or {}))
        leaves = tree_leaves((arguments, options, result))
        if any(isinstance(leaf, torch.Tensor) and leaf.device.type == "cpu" for leaf in leaves):
            self.found.append(str(operation))
        return result


def test_a_step_on_a_gpu_stays_on_it(monkeypatch):
    """As far as a machine without one can tell: the tensors claim to be on CUDA, and have no values."""
    monkeypatch.setattr("amae.method.adaptation.precision", nullcontext)  # autocast warns without a GPU
    monkeypatch.setattr("torch.rand", partial(without_generator, torch.rand))
    gpu = torch.device("cuda")
    with FakeTensorMode():
        with gpu:
            model, head = MAE(SMALL), make_head(32)
        for buffer in ("pos_embed", "decoder_pos_embed"):
            setattr(model, buffer, getattr(model, buffer).to(gpu))
        images, lungs = torch.zeros(8, 32, 32, dtype=torch.uint8, device=gpu), torch.ones(8, 32, 32, device=gpu).bool()
        losses = adaptation_loss(model, images, ModuleSettings(), masks=2), detection_loss(model, head, images, lungs)
        ids, generator = torch.arange(4, device=gpu), SimpleNamespace(device=gpu)
        with OfTheHost() as mode:
            assert {loss_of(ids, generator).device.type for loss_of in losses} == {"cuda"}
        assert not mode.found
        with OfTheHost() as mode:
            ids.new_zeros(4, device="cpu")
        assert mode.found  # it would be noticed


def without_generator(draw, *size, generator, **options):
    """A fake generator cannot be on CUDA without a GPU."""
    return draw(*size, **options)
