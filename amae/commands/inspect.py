"""The card of a model."""

from amae.commands import parameters as p
from amae.runtime.errors import InputError


def inspect(model: p.Model, /) -> None:
    """Print the card of a model."""
    if not model.is_file():  # before torch, which takes seconds to load
        raise InputError(f"{model}: no such file")
    from amae.predict.model import card_of, load_model

    print(card_of(load_model(model)), end="")
