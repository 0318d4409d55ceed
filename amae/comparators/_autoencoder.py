"""The autoencoder that AE, AE-U and DDAD share (Cai et al. 2022; Mao et al. 2020).

Its output has one channel, the reconstruction, or two where it is `uncertain`: the reconstruction and the logarithm of
its variance.
"""

from collections import OrderedDict

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amae.comparators import TrainingData
from amae.comparators._shared import BATCH, in_batches, prefixed, resize, resume_of, seed_of, signed, under
from amae.comparators.ae import Settings
from amae.comparators.ddad import Settings as ModulesSettings
from amae.method.training import Resume, Schedule, train
from amae.runtime.errors import InputError

CHANNELS = (16, 32, 64, 64)  # after each halving of the image
HIDDEN, LATENT = 2048, 16


def make_network(image_size: int, uncertain: bool) -> nn.Sequential:
    """The network, `(B, 1, S, S)` to `(B, 1 or 2, S, S)`, initialised from torch's global generator."""
    side = image_size // 2 ** len(CHANNELS)
    flat = CHANNELS[-1] * side**2
    encoder, decoder = [], []
    for before, after in zip((1, *CHANNELS), CHANNELS, strict=False):
        encoder += [nn.Conv2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    for before, after in zip(CHANNELS[::-1], CHANNELS[-2::-1], strict=False):
        decoder += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    decoder.append(nn.ConvTranspose2d(CHANNELS[0], 2 if uncertain else 1, 4, 2, 1))
    to_latent = [nn.Flatten(), nn.Linear(flat, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, LATENT)]
    from_latent = [nn.Linear(LATENT, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, flat)]
    from_latent.append(nn.Unflatten(1, (CHANNELS[-1], side, side)))
    parts = {"encoder": encoder, "to_latent": to_latent, "from_latent": from_latent, "decoder": decoder}
    return nn.Sequential(OrderedDict((name, nn.Sequential(*layers)) for name, layers in parts.items()))


def loss(output: Tensor, images: Tensor) -> Tensor:
    """Mean squared error; with a variance in the output, errors in its units plus its mean logarithm (Mao 2020)."""
    if output.shape[1] == 1:
        return F.mse_loss(output, images)
    mean, log_variance = output.split(1, dim=1)
    return ((-log_variance).exp() * (mean - images).square()).mean() + log_variance.mean()


def train_network(
    images: Tensor, settings: Settings, seed: int, resume: Resume, uncertain: bool
) -> tuple[nn.Sequential, pd.DataFrame]:
    """Train a fresh network on images uint8 `(N, image_size, image_size)`; return it with its history."""
    if len(images) < 2:
        raise InputError(f"found {len(images)} training image, expected at least 2 for batch statistics")
    torch.manual_seed(seed)
    network = make_network(settings.image_size, uncertain).to(images.device)

    def loss_of(ids: Tensor, generator: torch.Generator) -> Tensor:
        batch = signed(images[ids])
        return loss(network(batch), batch)

    schedule = Schedule(
        settings.epochs,
        warmup_epochs=0,
        batch_size=settings.batch_size,
        lr=settings.lr,
        weight_decay=0.0,
        betas=(0.5, 0.999),
        optimiser="adam",
        final_lr=settings.lr,
        drop_last=True,
    )
    return network, train(network, loss_of, len(images), schedule, seed, resume)


def load_network(state: dict[str, Tensor], settings: Settings, uncertain: bool, device: torch.device) -> nn.Sequential:
    """A trained network, ready to reconstruct."""
    network = make_network(settings.image_size, uncertain)
    network.load_state_dict(state)
    return network.to(device).eval()


def fit(
    images: Tensor, settings: Settings, seed: int, resume: Resume, uncertain: bool
) -> tuple[dict[str, Tensor], pd.DataFrame]:
    """Train one network on packed images uint8 `(N, H, W)`: its state and history."""
    network, history = train_network(resize(images, settings.image_size), settings, seed, resume, uncertain)
    return network.state_dict(), history


def error(state: dict[str, Tensor], images: Tensor, settings: Settings, uncertain: bool) -> Tensor:
    """Mean over pixels of the squared error, over the variance where that is predicted: float32 `(N,)`."""
    network = load_network(state, settings, uncertain, images.device)

    def of_batch(batch: Tensor) -> Tensor:
        target = signed(batch)
        output = network(target)
        errors = (target - output[:, :1]).square()
        return (errors * (-output[:, 1:]).exp() if uncertain else errors).flatten(1).mean(1)

    return in_batches(of_batch, resize(images, settings.image_size))


def fit_modules(
    data: TrainingData, settings: ModulesSettings, seed: int, resume: Resume, uncertain: bool
) -> tuple[dict[str, Tensor], pd.DataFrame]:
    """Train the K networks of module B on T_n and, where there is a T_u, those of module A on both.

    Seeds are drawn by module and network, so module B is the same with and without T_u.
    """
    normal = resize(data.normal, settings.image_size)
    images = {"B": normal}
    if len(data.unlabeled):
        images["A"] = torch.cat([normal, resize(data.unlabeled, settings.image_size)])
    state, histories = {}, []
    for module, number in [(module, number) for module in images for number in range(settings.networks)]:
        own_seed = seed_of(seed, "BA".index(module), number)
        own_resume = resume_of(resume, f"{module}{number}")
        network, history = train_network(images[module], settings, own_seed, own_resume, uncertain)
        state |= prefixed(network.state_dict(), f"{module}.{number}")
        histories.append(history.assign(network=f"{module}{number}"))
    return state, pd.concat(histories, ignore_index=True)


@torch.no_grad()
def discrepancies(
    state: dict[str, Tensor], images: Tensor, settings: ModulesSettings, uncertain: bool
) -> dict[str, Tensor]:
    """Means over pixels of rec, intra and, where there is a module A, inter: float32 `(N,)` each."""
    modules = {}
    for module in sorted({name[0] for name in state}):
        states = [under(state, f"{module}.{number}") for number in range(settings.networks)]
        modules[module] = [load_network(each, settings, uncertain, images.device) for each in states]
    parts: dict[str, list[Tensor]] = {}
    for batch in resize(images, settings.image_size).split(BATCH):
        target = signed(batch)
        outputs = {module: torch.stack([network(target) for network in each]) for module, each in modules.items()}
        for name, score_map in _maps(target, outputs).items():
            parts.setdefault(name, []).append(score_map.flatten(1).mean(1))
    return {name: torch.cat(each) for name, each in parts.items()}


def _maps(target: Tensor, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Score maps `(B, 1, S, S)` from the outputs `(K, B, 1 or 2, S, S)` of each module."""
    means = {module: output[:, :, :1] for module, output in outputs.items()}
    mu = {module: mean.mean(0) for module, mean in means.items()}
    log_variance = outputs["B"][:, :, 1:]
    sigma = log_variance.exp().mean(0).sqrt() if log_variance.shape[2] else 1.0
    maps = {"rec": (target - mu["B"]).square(), "intra": means["B"].std(0, correction=0) / sigma}
    if "A" in mu:
        maps["inter"] = (mu["A"] - mu["B"]).abs() / sigma
    return maps
