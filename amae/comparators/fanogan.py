"""f-AnoGAN: a generator of normal images and an encoder into its codes; the score is what the two cannot reproduce.

Source: Schlegl et al. 2019, "f-AnoGAN: fast unsupervised anomaly detection with generative adversarial networks". A
WGAN-GP is trained first (Gulrajani et al. 2017), then, with its weights fixed, the encoder (the paper's izi_f).
"""

import pandas as pd
import torch
from torch import Tensor, nn

from amae.comparators.interface import Fitted, Scores, TestData, TrainingData
from amae.comparators.settings import FAnoGanSettings
from amae.comparators.shared import signed, trained
from amae.comparators.wgan import gradient_penalty, make_critic, make_generator, with_fixed_weights
from amae.data.resize import in_batches, resize
from amae.method.training import Resume, Schedule, resume_of, seed_of, train

LATENT = 128
KAPPA = 1.0  # weight of the critic's features in the error


def make_networks(settings: FAnoGanSettings) -> nn.ModuleDict:
    """Generator, critic and encoder, initialised from torch's global generator, for images `(B, 1, S, S)` in [-1, 1].

    The encoder is a critic with an output for each of the 128 values of a code.
    """
    size, dim = settings.image_size, settings.dim
    generator = nn.Sequential(*make_generator(LATENT, size, dim), nn.Tanh())
    critic, encoder = make_critic(size, dim), make_critic(size, dim, outputs=LATENT)
    return nn.ModuleDict({"generator": generator, "critic": critic, "encoder": encoder})


def fit(data: TrainingData, settings: FAnoGanSettings, seed: int, resume: Resume) -> Fitted:
    """Train the WGAN, then the encoder, on T_n, and T_u where there is one: their states and histories."""
    images = resize(data.pooled, settings.image_size)
    torch.manual_seed(seed)
    networks = make_networks(settings).to(images.device)
    histories = {
        "gan": _train_gan(networks, images, settings, seed_of(seed, 0), resume_of(resume, "gan")),
        "encoder": _train_encoder(networks, images, settings, seed_of(seed, 1), resume_of(resume, "encoder")),
    }
    history = [table.assign(network=name) for name, table in histories.items()]
    return networks.state_dict(), pd.concat(history, ignore_index=True)


def _train_gan(
    networks: nn.ModuleDict, images: Tensor, settings: FAnoGanSettings, seed: int, resume: Resume
) -> pd.DataFrame:
    """Train generator and critic in place: `critic_steps` steps of the critic, then one of the generator, and again.

    One Adam serves both, since it passes over weights that a step's loss does not reach. An epoch is a whole number of
    such rounds, so a training that continues after one begins with the critic. The history's loss is the mean of both.
    """
    pair = nn.ModuleDict({name: networks[name] for name in ("generator", "critic")})
    schedule, steps = _schedule(settings, settings.epochs), 0

    def loss_of(ids: Tensor, generator: torch.Generator) -> Tensor:
        nonlocal steps
        steps += 1
        codes = torch.randn(len(ids), LATENT, generator=generator, device=ids.device)
        if steps % (settings.critic_steps + 1) == 0:
            return -with_fixed_weights(pair["critic"], pair["generator"](codes)).mean()
        with torch.no_grad():
            fake = pair["generator"](codes)
        return critic_loss(pair["critic"], signed(images[ids % len(images)]), fake, settings.penalty, generator)

    steps_of_epoch = settings.updates * (settings.critic_steps + 1)
    return train(pair, loss_of, steps_of_epoch * settings.batch_size, schedule, seed, resume)


def critic_loss(critic: nn.Module, real: Tensor, fake: Tensor, penalty: float, generator: torch.Generator) -> Tensor:
    """The critic's loss: mean D(fake) - mean D(real) + penalty * gradient penalty, images `(B, 1, S, S)`."""
    slope = gradient_penalty(critic, real, fake, generator)
    return critic(fake).mean() - critic(real).mean() + penalty * slope


def _train_encoder(
    networks: nn.ModuleDict, images: Tensor, settings: FAnoGanSettings, seed: int, resume: Resume
) -> pd.DataFrame:
    """Train the encoder in place by the error that is also the score; generator and critic stay as they are."""
    networks["generator"].requires_grad_(False).eval()
    networks["critic"].requires_grad_(False).eval()
    schedule = _schedule(settings, settings.encoder_epochs, settings.encoder_lr, "rmsprop")

    def loss_of(ids: Tensor, generator: torch.Generator) -> Tensor:
        return errors(networks, signed(images[ids % len(images)])).mean()

    return train(networks["encoder"], loss_of, settings.updates * settings.batch_size, schedule, seed, resume)


def _schedule(settings: FAnoGanSettings, epochs: int, lr: float | None = None, optimiser: str = "adam") -> Schedule:
    """Constant learning rate, no weight decay."""
    lr = settings.lr if lr is None else lr
    return Schedule(epochs, 0, settings.batch_size, lr, 0.0, betas=(0.0, 0.9), optimiser=optimiser, final_lr=lr)


def errors(networks: nn.ModuleDict, images: Tensor) -> Tensor:
    """|x - G(E(x))|^2 + kappa |f(x) - f(G(E(x)))|^2, means over pixels and over the critic's features f: `(B,)`."""
    made = networks["generator"](networks["encoder"](images))
    features = networks["critic"].features
    error = (images - made).square().flatten(1).mean(1)
    return error + KAPPA * (features(images) - features(made)).square().mean(1)


def score(state: dict[str, Tensor], data: TestData, settings: FAnoGanSettings) -> Scores:
    """The encoder's error, float32 `(N,)`."""
    networks = trained(make_networks(settings), state, data.images.device)
    return {
        "score": in_batches(lambda batch: errors(networks, signed(batch)), resize(data.images, settings.image_size))
    }
