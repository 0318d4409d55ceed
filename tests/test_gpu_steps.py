"""Steps of the comparators on a GPU, as far as a machine without one can tell.

The tensors claim to be on CUDA, and have no values: what mixes devices, copies from the host or waits for a value
fails. Not here: DRAEM, IGD, NSA and PII, which read values in a step; f-AnoGAN, which takes a gradient in one, which
fake tensors of a GPU do not have without one; methods that train the autoencoder (see test_stages.py) or nothing.
"""

from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from test_comparators import settings_of, small_network
from test_stages import OfTheHost
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from amae.comparators import anatpaste, autoencoder, nsa
from amae.comparators.interface import TestData, TrainingData
from amae.comparators.methods import method_of
from amae.method.detector import logit_maps, train_network
from amae.method.training import Resume

GPU = torch.device("cuda", 0)


def without_generator(draw, *arguments, generator, device):
    """A generator cannot be on CUDA without a GPU: what draws does without, on the device of the one it is given."""
    assert generator.device == device
    return draw(*arguments, device=device)


def moved(module: nn.Module, device: torch.device | None = None, **others) -> nn.Module:
    """`nn.Module.to`, which refuses fake parameters."""
    for each in module.modules():
        for kept in (each._parameters, each._buffers):
            for name, value in kept.items():
                if value is not None and device is not None:
                    new = value.to(device)
                    kept[name] = nn.Parameter(new, value.requires_grad) if isinstance(value, nn.Parameter) else new
    return module


@pytest.fixture(autouse=True)
def steps(monkeypatch) -> list:
    """In the place of an epoch two steps, which are listed; on fake tensors, and with narrow networks."""
    taken = []

    def epoch(module, loss_of, items, schedule, *others):
        for _ in range(2):
            ids = torch.arange(min(items, schedule.batch_size), device=GPU)
            with OfTheHost() as mode:
                loss = loss_of(ids, SimpleNamespace(device=GPU))
            assert not mode.found
            assert loss.device == GPU and loss.dtype == torch.float32 and loss.requires_grad
            taken.append(module)
        return 0.0, 0.0

    monkeypatch.setattr("amae.method.training._epoch", epoch)
    monkeypatch.setattr("amae.method.training._save", lambda *state: None)
    monkeypatch.setattr(nn.Module, "to", moved)
    for draw in ("rand", "randint", "randn"):
        monkeypatch.setattr(torch, draw, partial(without_generator, getattr(torch, draw)))
    monkeypatch.setattr(autoencoder, "HIDDEN", 16)
    monkeypatch.setattr(nsa, "make_network", small_network)
    for module in (anatpaste, nsa):
        monkeypatch.setattr(module, "precision", nullcontext)  # autocast warns without a GPU
    with FakeTensorMode():
        yield taken


def images(count: int) -> torch.Tensor:
    return torch.zeros(count, 64, 64, dtype=torch.uint8, device=GPU)


@pytest.mark.parametrize(
    ("method", "changes", "trainings"),
    [
        ("ae", {}, 1),
        ("ae_u", {}, 1),
        ("anatpaste", {}, 1),
        ("cutpaste", {}, 1),
        ("ddad", {}, 4),
        ("ddad_u", {}, 4),
        ("ddad_asr", {"refine_epochs": 1}, 5),
        ("fpi", {}, 1),
    ],
)
def test_comparators_stay_on_the_gpu_and_read_no_value_in_a_step(method, changes, trainings, steps, tmp_path):
    settings, about = settings_of(method, epochs=1, **changes), method_of(method)
    lungs = torch.ones(8, 64, 64, dtype=torch.bool, device=GPU)
    data = TrainingData(images(8), images(8), lungs, lungs)
    state, _ = about.fit(data, settings, 0, Resume(tmp_path / "state.pt", "x"))
    assert len(steps) == 2 * trainings
    assert {value.device for value in state.values()} == {GPU}
    scores = about.score(state, TestData(images(5)), settings)
    assert {(values.device, values.shape) for values in scores.values()} == {(GPU, (5,))}


def test_the_detector_stays_on_the_gpu_and_reads_no_value_in_a_step(steps, tmp_path):
    unlabeled, weights = torch.zeros(8, device=GPU), torch.ones(8, device=GPU)
    settings, resume = settings_of("detector", epochs=1), Resume(tmp_path / "state.pt", "x")
    network, _ = train_network(images(8), unlabeled, weights, settings, 0, resume)
    assert steps == [network] * 2
    assert logit_maps(network, images(5)).device == GPU
