"""The residual generator and critic of WGAN-GP, which f-AnoGAN and IGD build on.

Source: Gulrajani et al. 2017, "Improved training of Wasserstein GANs", the networks for 64 px. A network for another
size has as many halvings or doublings as lead to 4 px.
"""

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call

SIDE, WIDEST = 4, 8  # of the smallest maps: their side in pixels, and their channels in units of `dim`


class Residual(nn.Module):
    """Norm, ReLU and convolution twice beside a 1x1 convolution, to half (`up` false) or twice the size.

    `(B, before, H, W)` to `(B, after, H / 2, W / 2)` under layer normalisation, or to `(B, after, 2 H, 2 W)` under
    batch normalisation.
    """

    def __init__(self, before: int, after: int, up: bool):
        """Build with torch's initialisation."""
        super().__init__()
        shortcut, first = nn.Conv2d(before, after, 1), nn.Conv2d(before, after if up else before, 3, 1, 1, bias=False)
        second = nn.Conv2d(first.out_channels, after, 3, 1, 1)
        relu, norm = nn.ReLU(), nn.BatchNorm2d if up else _layer_norm
        if up:
            double = nn.Upsample(scale_factor=2)
            self.shortcut = nn.Sequential(double, shortcut)
            layers = [norm(before), relu, double, first, norm(first.out_channels), relu, second]
        else:
            half = nn.AvgPool2d(2)
            self.shortcut = nn.Sequential(half, shortcut)
            layers = [norm(before), relu, first, norm(first.out_channels), relu, second, half]
        self.residual = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Sum of both ways."""
        return self.shortcut(x) + self.residual(x)


def _layer_norm(channels: int) -> nn.GroupNorm:
    """Normalisation of each image over channels and pixels, with a scale and a shift of each channel."""
    return nn.GroupNorm(1, channels)


def halvings(image_size: int) -> int:
    """Halvings from `image_size`, a power of two, to 4 px."""
    return (image_size // SIDE).bit_length() - 1


def make_generator(latent: int, image_size: int, dim: int, channels: int = 1, kernel: int = 3) -> nn.Sequential:
    """Codes `(B, latent)` to images `(B, channels, S, S)` without a last non-linearity: at 64 px four residual blocks.

    A larger image first passes plain upsampling convolutions, as many as it takes.
    """
    steps = halvings(image_size)
    widest, blocks = WIDEST * dim, min(steps, 4)
    layers = [nn.Linear(latent, widest * SIDE**2), nn.Unflatten(1, (widest, SIDE, SIDE))]
    for _ in range(steps - blocks):
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(widest, widest, 3, 1, 1)]
    widths = [widest, *(dim * min(2**place, WIDEST) for place in reversed(range(blocks)))]
    layers += [Residual(before, after, up=True) for before, after in pairwise(widths)]
    layers += [nn.BatchNorm2d(dim), nn.ReLU(), nn.Conv2d(dim, channels, kernel, 1, kernel // 2)]
    return _with_he_weights(nn.Sequential(*layers))


def make_critic(image_size: int, dim: int, channels: int = 1, outputs: int = 1) -> nn.Sequential:
    """Images `(B, channels, S, S)` to `(B, outputs)`; its `features` are what its last, linear layer sees."""
    widths = [dim * min(2**place, WIDEST) for place in range(halvings(image_size) + 1)]
    layers = [nn.Conv2d(channels, dim, 3, 1, 1)]
    layers += [Residual(before, after, up=False) for before, after in pairwise(widths)]
    features = nn.Sequential(*layers, nn.Flatten())
    output = nn.Linear(widths[-1] * SIDE**2, outputs)
    return _with_he_weights(nn.Sequential(OrderedDict(features=features, output=output)))


def _with_he_weights(network: nn.Sequential) -> nn.Sequential:
    """The network with He's initialisation of its 3x3 and larger convolutions, and with biases of 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            if module.weight.shape[2:].numel() > 1:
                nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def with_fixed_weights(network: nn.Module, x: Tensor) -> Tensor:
    """The network's output, with gradients for `x` and none for its weights."""
    return functional_call(network, {name: weight.detach() for name, weight in network.named_parameters()}, (x,))


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
    """Mean of (|dD/dx| - 1)^2 at one random point between each real and fake image `(B, C, S, S)` (WGAN-GP, Eq. 3)."""
    share = torch.rand(len(real), 1, 1, 1, generator=generator, device=real.device)
    between = (real + share * (fake - real)).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()
