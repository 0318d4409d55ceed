"""Training curves."""

from pathlib import Path
from typing import Annotated

from amae.commands import parameters as p
from amae.figures import curves
from amae.runtime.files import read_csv


def plot_training(
    *, histories: Annotated[list[Path], p.meaning("training histories (.csv)")], figure: p.Figure
) -> None:
    """Plot loss and learning rate of each training, named by its folder."""
    curves.plot_training({path.parent.name: read_csv(path, ["epoch", "lr", "loss"]) for path in histories}, figure)
