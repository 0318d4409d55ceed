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
    names = [path.parent.name for path in histories]
    if len(set(names)) < len(names):  # folders of the same name
        names = [path.parent.as_posix() for path in histories]
    tables = [read_csv(path, ["epoch", "lr", "loss"]) for path in histories]
    curves.plot_training(dict(zip(names, tables, strict=True)), figure)
