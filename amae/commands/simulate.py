"""Simulated radiographs."""

from typing import Annotated

from amae.commands import parameters as p


def simulate(
    *,
    folder: p.Folder,
    count: Annotated[int, p.whole(1, "number of images")] = 1000,
    abnormal: Annotated[float, p.meaning("share of images with a finding")] = 0.4,
    calibration: Annotated[int, p.whole(0, "further normal images, held out for calibration")] = 0,
    seed: p.Seed = 0,
    workers: p.Workers = 1,
) -> None:
    """Simulate chest radiographs as DICOM files, with labels.csv and boxes.csv."""
    from amae.sources.simulated import simulate_dataset

    simulate_dataset(folder, count, seed, abnormal, calibration, workers)
