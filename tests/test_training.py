"""The training loop: its schedule and optimiser against known answers, and its independence of interruptions."""

import math

import pytest
import torch
from torch import nn

from amae.method import training
from amae.method.training import Resume, Schedule, epoch_generator, finish, make_optimiser, train
from amae.runtime.errors import InputError

SCHEDULE = Schedule(epochs=6, warmup_epochs=2, batch_size=4, lr=0.1, weight_decay=0.05)


def regression(seed=0):
    """A linear model, and the loss of fitting y = 3x with noise from the loop's own generator."""
    torch.manual_seed(seed)
    module = nn.Linear(1, 1)
    x = torch.linspace(-1, 1, 10)[:, None]

    def loss_of(ids, generator):
        noise = torch.randn(len(ids), 1, generator=generator) * 0.1
        return (module(x[ids]) - 3 * x[ids] - noise).square().mean()

    return module, loss_of


def test_learning_rate_warms_up_linearly_and_follows_a_cosine_to_zero(tmp_path):
    module, loss_of = regression()
    history = train(module, loss_of, 10, SCHEDULE, 0, Resume(tmp_path / "state.pt", "x"))
    steps = 3  # ceil(10 / 4)
    assert history["step"].tolist() == [steps * (epoch + 1) for epoch in range(6)]
    last = [steps * (epoch + 1) - 1 for epoch in range(6)]  # the last step of each epoch, from 0
    warmup, total = 2 * steps, 6 * steps
    expected = [
        0.1 * step / warmup if step < warmup else 0.05 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
        for step in last
    ]
    assert history["lr"].tolist() == pytest.approx(expected)


def test_weight_decay_leaves_out_biases_norms_and_tokens():
    module = nn.ModuleDict({"linear": nn.Linear(2, 2), "norm": nn.LayerNorm(2)})
    module.cls_token = nn.Parameter(torch.zeros(1, 1, 2))
    frozen = nn.Parameter(torch.zeros(2, 2), requires_grad=False)
    module.frozen = frozen
    decayed, plain = make_optimiser(module, SCHEDULE).param_groups
    assert [p is module["linear"].weight for p in decayed["params"]] == [True]
    assert decayed["weight_decay"] == 0.05
    assert plain["weight_decay"] == 0
    assert len(plain["params"]) == 4


def test_interrupted_training_ends_bit_for_bit_as_an_uninterrupted_one(tmp_path):
    whole, loss_of = regression()
    expected = train(whole, loss_of, 10, SCHEDULE, 5, Resume(tmp_path / "whole.pt", "x"))
    module, loss_of = regression()
    calls = 0

    def fails_in_epoch_four(ids, generator):
        nonlocal calls
        calls += 1
        if calls == 11:
            raise KeyboardInterrupt
        return loss_of(ids, generator)

    resume = Resume(tmp_path / "state.pt", "x")
    with pytest.raises(KeyboardInterrupt):
        train(module, fails_in_epoch_four, 10, SCHEDULE, 5, resume)
    continued, loss_of = regression(seed=1)  # other weights, to be replaced by the saved ones
    history = train(continued, loss_of, 10, SCHEDULE, 5, resume)
    assert torch.equal(continued.weight, whole.weight)
    assert history.equals(expected)
    finish(resume)
    assert not resume.path.exists()


@pytest.mark.parametrize("damage", ["identity", "bytes"])
def test_a_state_of_another_training_or_a_damaged_one_is_not_continued(tmp_path, damage, capsys):
    module, loss_of = regression()
    resume = Resume(tmp_path / "state.pt", "x")
    train(module, loss_of, 10, SCHEDULE, 0, resume)
    expected = module.weight.detach().clone()
    if damage == "bytes":
        resume.path.write_bytes(resume.path.read_bytes()[:100])
    module, loss_of = regression()
    train(module, loss_of, 10, SCHEDULE, 0, Resume(resume.path, "y" if damage == "identity" else "x"))
    assert torch.equal(module.weight, expected)
    assert "starts afresh" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_is_an_error(tmp_path):
    module, _ = regression()
    with pytest.raises(InputError, match=r"epoch 1: the loss is nan.*lower lr"):
        train(module, lambda ids, g: module.weight.sum() * math.nan, 4, SCHEDULE, 0, Resume(tmp_path / "s.pt", "x"))


def test_epochs_and_seeds_draw_different_numbers():
    draws = {
        torch.rand(1, generator=epoch_generator(seed, epoch, torch.device("cpu"))).item()
        for seed in range(4)
        for epoch in range(4)
    }
    assert len(draws) == 16


@pytest.mark.parametrize(("warmup_epochs", "final_lr"), [(2, 0.0), (0, 0.01)])
def test_rate_is_that_of_timm(warmup_epochs, final_lr):
    """timm's cosine schedule by step, with the warm-up before it, is the published MAE's."""
    scheduler = pytest.importorskip("timm.scheduler")
    schedule = Schedule(6, warmup_epochs, 4, 0.1, 0.05, final_lr=final_lr)
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    steps = {"t_initial": (6 - warmup_epochs) * 5, "warmup_t": warmup_epochs * 5, "warmup_prefix": True}
    published = scheduler.CosineLRScheduler(optimiser, lr_min=final_lr, t_in_epochs=False, **steps)
    for step in range(30):
        published.step_update(step)
        assert schedule.rate(step, 5) == optimiser.param_groups[0]["lr"]


def test_every_changed_bit_of_an_unfinished_training_is_found(tmp_path, capsys):
    module, resume = nn.Linear(4, 4), Resume(tmp_path / "a.pt", "x")
    optimiser = make_optimiser(module, Schedule(1, 0, 1, 1e-3, 0.1))
    training._save(resume, module, optimiser, [{"epoch": 1}])
    whole = resume.path.read_bytes()
    assert training._load(resume, module, optimiser) == [{"epoch": 1}]
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        resume.path.write_bytes(content)
        assert training._load(resume, module, optimiser) == []
    assert capsys.readouterr().err.count("unreadable, training starts afresh") == len(whole)
