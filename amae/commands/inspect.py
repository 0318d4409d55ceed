"""The card of a model."""

from amae.commands import parameters as p
from amae.predict.card import read_card
from amae.runtime.errors import InputError


def inspect(model: p.Model, /) -> None:
    """Print the card of a model."""
    if not model.exists():
        raise InputError(f"{model}: no such file")
    print(read_card(model), end="")
