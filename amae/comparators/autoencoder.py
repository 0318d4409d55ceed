"""AE and AE-U: a convolutional autoencoder of normal images; the score is its squared error.

Sources: Cai et al. 2022, "Dual-distribution discrepancy for anomaly detection in chest X-rays" (DDAD), whose AE this
is; Mao et al. 2020, "Abnormality detection in chest X-ray images using uncertainty prediction autoencoders" (AE-U). The
output has one channel, the reconstruction, or two where it is `uncertain`: the reconstruction and the logarithm of its
variance, which discounts errors where the network expects them.
"""

from collections import OrderedDict

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amae.comparators.interface import Fitted, Scores, TestData, TrainingData
from amae.comparators.settings import AutoencoderSettings
from amae.comparators.shared import signed, trained
from amae.data.resize import in_batches, resize
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
    images: Tensor, settings: AutoencoderSettings, seed: int, resume: Resume, uncertain: bool
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


def load_network(
    state: dict[str, Tensor], settings: AutoencoderSettings, uncertain: bool, device: torch.device
) -> nn.Sequential:
    """A trained network, ready to reconstruct."""
    return trained(make_network(settings.image_size, uncertain), state, device)


def fit(data: TrainingData, settings: AutoencoderSettings, seed: int, resume: Resume, uncertain: bool) -> Fitted:
    """Train one network on T_n, and T_u where there is one: its state and history."""
    images = resize(data.pooled, settings.image_size)
    network, history = train_network(images, settings, seed, resume, uncertain)
    return network.state_dict(), history


def score(state: dict[str, Tensor], data: TestData, settings: AutoencoderSettings, uncertain: bool) -> Scores:
    """Mean over pixels of the squared error, over the variance where that is predicted: float32 `(N,)`."""
    network = load_network(state, settings, uncertain, data.images.device)

    def of_batch(batch: Tensor) -> Tensor:
        target = signed(batch)
        output = network(target)
        errors = (target - output[:, :1]).square()
        return (errors * (-output[:, 1:]).exp() if uncertain else errors).flatten(1).mean(1)

    return {"score": in_batches(of_batch, resize(data.images, settings.image_size))}
