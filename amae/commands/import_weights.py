"""Published weights as a file of this project."""

from typing import Annotated, Literal

from amae.commands import parameters as p
from amae.mae.weights import NORMALISATIONS, convert_weights
from amae.settings import ModelSettings


def import_weights(
    *,
    weights: p.Weights,
    file: p.file("published .pth or .safetensors file"),
    mae: ModelSettings = ModelSettings(),
    normalisation: Annotated[
        Literal["chest", "imagenet"],
        p.meaning("mean and std that published weights were trained with; timm knows its own"),
    ] = "chest",
    encoder: p.optional(p.Encoder) = None,
) -> None:
    """Check a pre-trained autoencoder of the configured sizes, or an encoder for stage 1, and write it anew."""
    mean, std = NORMALISATIONS[normalisation]
    convert_weights(file, weights, mean=mean, std=std, sizes=vars(mae), encoder=encoder)
