"""IGD: codes of normal images form one Gaussian, and a decoder and a critic keep what lies between them realistic.

The score is half the error of the reconstruction and half the distance of the code from the Gaussian's centre. Source:
Chen et al. 2022, "Deep one-class classification via interpolated Gaussian descriptor". The encoder is a frozen
ResNet-18 of ImageNet with a linear layer; `pretrained: false` trains the whole encoder from scratch instead.
"""

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from amae.comparators.interface import Fitted, Scores, TestData, TrainingData
from amae.comparators.losses import multi_scale_ssim
from amae.comparators.settings import IgdSettings
from amae.comparators.shared import trained
from amae.comparators.wgan import make_critic, make_generator, with_fixed_weights
from amae.data.resize import in_batches, resize
from amae.mae.checkpoints import differing_shapes, list_differences, read_checkpoint
from amae.mae.weights import IMAGENET_MEAN, IMAGENET_STD
from amae.method.training import Resume, Schedule, train
from amae.runtime.errors import InputError
from amae.runtime.files import sha256

FILE, HASH = "resnet18-f37072fd.pth", "f37072fd"  # torchvision's file; its SHA-256 begins so
LATENT = 128
FLOOR_CENTRE, FLOOR_SIGMA = 0.1, 1.0  # least absolute value of the centre's coordinates; least sigma
REFIT = 10  # epochs between two fits of centre and sigma
STRUCTURE, CRITIC = 0.85, 0.1  # weights of 1 - MS-SSIM against L1, and of the critic
MIXED = 0.5  # largest share of the first code in a mixture
POWER = 0.9


class Igd(nn.Module):
    """Encoder, decoder and critic for normalised images `(B, 3, S, S)`, with the Gaussian's centre and sigma."""

    def __init__(self, settings: IgdSettings):
        """Build with random weights, from torch's global generator."""
        super().__init__()
        self.backbone, self.frozen = resnet18(weights=None), settings.pretrained
        self.backbone.fc = nn.Identity()
        self.backbone.requires_grad_(not self.frozen)
        self.project = nn.Linear(512, LATENT)
        self.decoder = make_generator(LATENT, settings.image_size, settings.dim, channels=3, kernel=5)
        self.critic = make_critic(settings.image_size, settings.dim, channels=3)
        self.register_buffer("centre", torch.zeros(LATENT))
        self.register_buffer("sigma", torch.ones(()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        for name, values in {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}.items():
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)  # (3, 1, 1)

    def train(self, mode: bool = True) -> "Igd":
        """Switch the mode; a frozen backbone keeps to its stored statistics."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def normalise(self, images: Tensor) -> Tensor:
        """Grey levels 0 to 255, `(B, S, S)`, as three channels normalised as ImageNet's: `(B, 3, S, S)`."""
        return (images[:, None].float() / 255 - self.mean) / self.std

    def encode(self, x: Tensor) -> Tensor:
        """Codes `(B, 128)` of normalised images."""
        return self.project(self.backbone(x))

    def span(self) -> float:
        """Width of the range of normalised intensities over all channels (4.7579 for ImageNet's mean and std)."""
        return (((1 - self.mean) / self.std).max() - (-self.mean / self.std).min()).item()

    def distance(self, codes: Tensor) -> Tensor:
        """1 - exp(-|z - c|^2 / sigma), in [0, 1]: `(B,)`."""
        return 1 - (-(codes - self.centre).square().sum(1) / self.sigma).exp()

    @torch.no_grad()
    def fit_gaussian(self, images: Tensor) -> None:
        """Take centre and sigma from the codes of images uint8 `(N, S, S)`."""
        training = self.training
        self.eval()
        centre, sigma = gaussian(in_batches(lambda batch: self.encode(self.normalise(batch)), images))
        self.centre.copy_(centre)
        self.sigma.copy_(sigma)
        self.train(training)


def gaussian(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and sigma of codes `(N, D)`: their mean, and their mean squared distance from it, at least 1.

    A coordinate of the centre nearer to 0 than 0.1 becomes 0.1, with its sign.
    """
    centre = codes.mean(0)
    centre = torch.where(centre < 0, centre.clamp(max=-FLOOR_CENTRE), centre.clamp(min=FLOOR_CENTRE))
    return centre, (codes - centre).square().sum(1).mean().clamp(min=FLOOR_SIGMA)


def reconstruction_error(x: Tensor, made: Tensor, span: float) -> Tensor:
    """0.85 (1 - MS-SSIM) + 0.15 L1 / span of images `(B, 3, S, S)`: `(B,)`."""
    absolute = (x - made).abs().flatten(1).mean(1) / span
    return STRUCTURE * (1 - multi_scale_ssim(x, made, span)) + (1 - STRUCTURE) * absolute


def losses(network: Igd, x: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Losses of encoder and decoder, and of the critic, of normalised images `(B, 3, S, S)`.

    `share` `(B, 1)`: of an image's own code in its mixture with that of the image at the mirrored place in the batch.
    Neither loss has gradients for the networks of the other.
    """
    codes = network.encode(x)
    made = network.decoder(codes)
    mixed = network.decoder(share * codes + (1 - share) * codes.flip(0))
    outer = reconstruction_error(x, made, network.span()).mean() + network.distance(codes).mean()
    outer = outer + CRITIC * with_fixed_weights(network.critic, mixed).square().mean()
    critic, made, mixed = network.critic, made.detach(), mixed.detach()
    inner = (critic(mixed) - share).square().mean() + critic(made + 0.2 * (x - made)).square().mean()
    return outer, inner


def load_backbone(network: Igd, path: str | None) -> None:
    """Fill the backbone with torchvision's ResNet-18 of ImageNet; InputError for a missing or any other file."""
    ask = f"torchvision's {FILE} (https://download.pytorch.org/models/{FILE})"
    without = "or set pretrained to false for the variant without pre-training"
    if path is None:
        raise InputError(f"igd.backbone: missing; give the path of {ask}, {without}")
    state, found = read_checkpoint(path)[0], sha256(path)
    if not found.startswith(HASH):
        raise InputError(f"{path}: sha256 is {found}, expected {HASH}... of {ask}; fetch it again, {without}")
    state = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    expected = {name: each for name, each in network.backbone.state_dict().items() if not name.endswith("_tracked")}
    own = {name: tensor for name, tensor in state.items() if not name.endswith("_tracked")}
    differences = list_differences(expected.keys() - own.keys(), own.keys() - expected, differing_shapes(expected, own))
    if differences:
        raise InputError(f"{path}: not a ResNet-18; {differences}")
    network.backbone.load_state_dict(own, strict=False)


def fit(data: TrainingData, settings: IgdSettings, seed: int, resume: Resume) -> Fitted:
    """Train on T_n, and T_u where there is one: the network's state, centre and sigma in it, and its history.

    Every step updates all networks at once, each by its own loss; the history has the sum of the two.
    """
    torch.manual_seed(seed)
    network = Igd(settings)
    if settings.pretrained:
        load_backbone(network, settings.backbone)
    images = resize(data.pooled, settings.image_size)
    network.to(images.device)
    schedule = Schedule(
        settings.epochs,
        warmup_epochs=0,
        batch_size=settings.batch_size,
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        betas=(0.0, 0.9),
        optimiser="adam",
        drop_last=True,
        power=POWER,
    )
    interval = REFIT * schedule.batches(len(images))

    def loss_of(ids: Tensor, generator: torch.Generator) -> Tensor:
        if network.steps % interval == 0:
            network.fit_gaussian(images)
        network.steps += 1
        draws = torch.rand(2, len(ids), 1, generator=generator, device=ids.device)
        x = network.normalise(images[ids])
        x = torch.where(draws[0, :, :, None, None] < 0.5, x.flip(3), x)
        return sum(losses(network, x, MIXED * draws[1]))

    history = train(network, loss_of, len(images), schedule, seed, resume)
    return network.state_dict(), history


def score(state: dict[str, Tensor], data: TestData, settings: IgdSettings) -> Scores:
    """Half the error of the reconstruction and half the distance of the code from the centre, float32 `(N,)`."""
    network = trained(Igd(settings), state, data.images.device)

    def of_batch(batch: Tensor) -> Tensor:
        x = network.normalise(batch)
        codes = network.encode(x)
        return (reconstruction_error(x, network.decoder(codes), network.span()) + network.distance(codes)) / 2

    return {"score": in_batches(of_batch, resize(data.images, settings.image_size))}
