"""The card of a model."""

from pathlib import Path
from typing import Annotated

from amae.commands import parameters as p


def inspect(model: Annotated[Path, p.meaning("model made by amae export (.safetensors)")], /) -> None:
    """Print the card of a model."""
    from amae.predict.model import card_of, load_model

    print(card_of(load_model(model)), end="")
