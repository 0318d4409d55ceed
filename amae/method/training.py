"""One training loop: schedule, optimiser, resuming and log. It knows no stage.

Randomness is drawn from a generator seeded by (seed, epoch) alone, so an interrupted training that continues after its
last saved epoch ends with the same weights, bit for bit on the CPU, as one that was never interrupted.
"""

import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from amae.runtime.errors import InputError
from amae.runtime.files import atomic, is_sealed, seal
from amae.runtime.progress import Progress

LossOf = Callable[[Tensor, torch.Generator], Tensor]  # ids of a batch (B,) int64 and a generator to its mean loss


@dataclass(frozen=True)
class Schedule:
    """An optimiser with linear warm-up from 0 to `lr` and a cosine to `final_lr`, both by step; rates are absolute.

    `optimiser`: adamw, adam, rmsprop or sgd. A `final_lr` equal to `lr` keeps the rate constant. In the place of the
    cosine, `power` gives a polynomial, (1 - t)^power, and `drops` are shares of the epochs after which the rate falls
    to a fifth. `betas` are Adam's; SGD takes the first as its momentum, RMSProp the second as its decay. `drop_last`
    leaves out an epoch's last batch where it is not full, unless it is the only one.
    """

    epochs: int
    warmup_epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    betas: tuple[float, float] = (0.9, 0.95)
    optimiser: str = "adamw"
    final_lr: float = 0.0
    drop_last: bool = False
    drops: tuple[float, ...] = ()
    power: float | None = None

    def batches(self, items: int) -> int:
        """Steps of an epoch over so many items."""
        whole = items // self.batch_size
        return whole if self.drop_last and whole else math.ceil(items / self.batch_size)

    def rate(self, step: int, batches: int) -> float:
        """Learning rate of a step, counted from 0, where an epoch has `batches` steps."""
        warmup = self.warmup_epochs * batches
        if step < warmup:
            return step * (self.lr / warmup)
        if self.drops:
            return self.lr * 0.2 ** sum(step >= share * self.epochs * batches for share in self.drops)
        rest = max(1, self.epochs * batches - warmup)
        if self.power is not None:
            return self.final_lr + (self.lr - self.final_lr) * (1 - (step - warmup) / rest) ** self.power
        angle = math.pi * (step - warmup) / rest
        return self.final_lr + 0.5 * (self.lr - self.final_lr) * (1 + math.cos(angle))


@dataclass(frozen=True)
class Resume:
    """Place and identity of an unfinished training: one of another identity is not continued."""

    path: Path
    identity: str


def resume_beside(path: Path, record: Mapping[str, Any], code: Any) -> Resume:
    """Unfinished state beside `path`, bound to a record's settings, seed and inputs and to a hash of the code."""
    hashes = {role: file["sha256"] for role, file in record["inputs"].items()}
    what = [record["settings"], record["seed"], hashes, code]
    identity = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    return Resume(path.with_name(f".{path.stem}.unfinished.pt"), identity)


def seed_of(seed: int, *part: int) -> int:
    """An independent seed for one of several trainings of a method."""
    return int(np.random.SeedSequence([seed, *part]).generate_state(1)[0])


def resume_of(resume: Resume, part: str) -> Resume:
    """Place of one of several unfinished trainings of a method."""
    return replace(resume, path=resume.path.with_name(f"{part}{resume.path.suffix}"))


def epoch_generator(seed: int, epoch: int, device: torch.device) -> torch.Generator:
    """The generator of everything random in one epoch."""
    state = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state) >> 1)


def make_optimiser(module: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    """AdamW whose weight decay leaves out biases, norms and tokens: all that has one dimension, or is a token.

    A module with a method `lr_scale(name)` states for each parameter the share of the schedule's rate that it gets.
    Adam, RMSProp and SGD are as the comparators were published: an L2 penalty on every parameter.
    """
    if schedule.optimiser != "adamw":
        common = {"lr": schedule.lr, "weight_decay": schedule.weight_decay}
        parameters = [p for p in module.parameters() if p.requires_grad]
        if schedule.optimiser == "adam":
            return torch.optim.Adam(parameters, betas=schedule.betas, fused=True, **common)
        if schedule.optimiser == "rmsprop":
            return torch.optim.RMSprop(parameters, alpha=schedule.betas[1], **common)
        return torch.optim.SGD(parameters, momentum=schedule.betas[0], fused=True, **common)
    scale_of = getattr(module, "lr_scale", lambda name: 1.0)
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    groups = []
    for scale in sorted({scale_of(name) for name, _ in named}):
        own = [(p, p.ndim <= 1 or name.endswith("token")) for name, p in named if scale_of(name) == scale]
        for decay, plain in ((schedule.weight_decay, False), (0.0, True)):
            members = [p for p, is_plain in own if is_plain == plain]
            groups.append({"params": members, "weight_decay": decay, "scale": scale})
    return torch.optim.AdamW(groups, lr=schedule.lr, betas=schedule.betas, fused=True)


def train(
    module: nn.Module,
    loss_of: LossOf,
    items: int,
    schedule: Schedule,
    seed: int,
    resume: Resume,
) -> pd.DataFrame:
    """Train `module` in place; return its history, one row per epoch: epoch, step, lr, loss (mean over the epoch).

    `loss_of(ids (B,) int64, generator)` is the mean loss of a batch of items, numbered from 0, on the module's device.
    The state is saved after epochs, as often as costs less than a twentieth of the time, and removed by `finish`.
    Raises InputError when the loss is no longer a finite number.
    """
    batches = schedule.batches(items)
    optimiser = make_optimiser(module, schedule)
    history = _load(resume, module, optimiser)
    progress = Progress("train", schedule.epochs, "epochs", len(history))
    saved, cost = time.perf_counter(), 0.0
    for epoch in range(len(history), schedule.epochs):
        loss, rate = _epoch(module, loss_of, items, schedule, epoch, seed, optimiser)
        if not math.isfinite(loss):
            raise InputError(f"epoch {epoch + 1}: the loss is {loss}, at learning rate {rate:.3g}; choose a lower lr")
        history.append({"epoch": epoch + 1, "step": (epoch + 1) * batches, "lr": rate, "loss": loss})
        progress.reached(epoch + 1, f", loss {loss:.5f}, lr {rate:.2e}")
        if (now := time.perf_counter()) - saved >= 20 * cost:
            _save(resume, module, optimiser, history)
            saved = time.perf_counter()
            cost = saved - now
    return pd.DataFrame(history)


def _epoch(
    module: nn.Module,
    loss_of: LossOf,
    items: int,
    schedule: Schedule,
    epoch: int,
    seed: int,
    optimiser: torch.optim.Optimizer,
) -> tuple[float, float]:
    """One pass over the items in random order: the mean loss, and the last learning rate."""
    device = next(module.parameters()).device
    generator = epoch_generator(seed, epoch, device)
    order = torch.randperm(items, generator=generator, device=device)
    total = torch.zeros((), device=device)
    module.train()
    parts = order.split(schedule.batch_size)[: schedule.batches(items)]
    for number, ids in enumerate(parts):
        rate = schedule.rate(epoch * len(parts) + number, len(parts))
        for group in optimiser.param_groups:
            group["lr"] = rate * group.get("scale", 1.0)
        loss = loss_of(ids, generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        total += loss.detach() * len(ids)
    return total.item() / sum(map(len, parts)), rate


def finish(resume: Resume) -> None:
    """Remove the saved state, once the result is written."""
    resume.path.unlink(missing_ok=True)


def _save(resume: Resume, module: nn.Module, optimiser: torch.optim.Optimizer, history: list[dict]) -> None:
    """Write the state of an unfinished training, whole or not at all."""
    state = {"identity": resume.identity, "module": module.state_dict(), "history": history}
    with atomic(resume.path) as temporary:
        try:
            with temporary.open("wb") as file:
                torch.save({**state, "optimiser": optimiser.state_dict()}, file)
        except RuntimeError as error:
            raise error.__context__ or error from None  # an OSError, over which torch stumbles
        seal(temporary)


def _load(resume: Resume, module: nn.Module, optimiser: torch.optim.Optimizer) -> list[dict]:
    """Take up a saved state; an unreadable one, or one of another training, is left aside. Returns its history."""
    if not resume.path.exists():
        return []
    if not is_sealed(resume.path):
        print(f"{resume.path}: unreadable, training starts afresh", file=sys.stderr)
        return []
    state = torch.load(resume.path, map_location="cpu", weights_only=True)  # load_state_dict moves it
    if state["identity"] != resume.identity:
        print(f"{resume.path}: of other settings, inputs or code; training starts afresh", file=sys.stderr)
        return []
    module.load_state_dict(state["module"])
    optimiser.load_state_dict(state["optimiser"])
    print(f"continuing after epoch {len(state['history'])}", file=sys.stderr)
    return state["history"]
