"""Clocks, counted operations, and the machine that the figures belong to.

With one thread, time is processor time of this process: other work on the machine then counts little. With several
threads or processes it is wall time.
"""

import ctypes
import importlib.metadata
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

import torch

from amae.device import keep_memory
from amae.mae.architecture import Architecture
from amae.provenance import describe_device

MATRIX = 2048  # side of the matrices whose product is the machine's rate
PRODUCTS = 4  # in one measurement
PACKAGES = ("torch", "numpy", "pillow", "pydicom")


@dataclass(frozen=True)
class Result:
    """One line of the table. `ratio` says how many times better we are than the reference, or which share we reach."""

    name: str
    what: str
    ours: float
    reference: float
    ratio: float
    unit: str
    target: str = ""

    @classmethod
    def faster(cls, name: str, what: str, ours: float, reference: float, unit: str, target: str = "") -> "Result":
        """Two times for the same work: the ratio is the speed-up."""
        return cls(name, what, ours, reference, reference / ours, unit, target)

    @classmethod
    def share(cls, name: str, what: str, ours: float, reference: float, unit: str, target: str = "") -> "Result":
        """A part and its whole, or a value and its limit: the ratio is the share."""
        return cls(name, what, ours, reference, ours / reference, unit, target)


def interleaved(
    sides: Mapping[str, Callable[[], object]], rounds: int = 3, clock: Callable[[], float] = time.process_time
) -> dict[str, float]:
    """Median seconds of each side, taken in turns after one round that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, side in sides.items():
            start = clock()
            side()
            taken[name].append(clock() - start)
    return {name: median(seconds[1:]) for name, seconds in taken.items()}


def usual_memory(side: Callable[[], object]) -> Callable[[], object]:
    """A side run with glibc's usual memory, as a program has it that does not call `amae.device.keep_memory`.

    The thresholds are those that glibc arrives at by itself once a program has freed large blocks.
    """

    def run() -> None:
        for option, value in [(-4, 65536), (-3, 32 * 2**20), (-1, 64 * 2**20)]:  # mmaps, their threshold, trimming
            ctypes.CDLL(None).mallopt(option, value)
        side()
        keep_memory()

    return run


def matrix_product() -> Callable[[], None]:
    """A side that multiplies float32 matrices: PRODUCTS * 2 * MATRIX^3 operations."""
    a, b, c = (torch.randn(MATRIX, MATRIX) for _ in range(3))

    def multiply() -> None:
        for _ in range(PRODUCTS):
            torch.mm(a, b, out=c)

    return multiply


def product_rate(seconds: float) -> float:
    """GFLOP/s of a side made by `matrix_product`."""
    return PRODUCTS * 2 * MATRIX**3 / seconds / 1e9


def step_operations(a: Architecture, images: int, masks: int, visible: int) -> float:
    """Operations in matrix products of one training step, forward and backward, as `amae` computes it.

    A product of (m, k) and (k, n) has 2 m k n operations; its backward pass twice as many, but for the embedding,
    whose input needs no gradient. The last decoder block works out attention, projection and MLP for hidden patches
    only; the first projects the hidden tokens, which are the same in every pass, once.
    """
    passes, hidden = images * masks, a.patches - visible

    def block(tokens: int, width: int, wanted: int) -> float:
        attention = 4 * wanted * tokens * width
        return tokens * 6 * width**2 + attention + wanted * (2 + 4 * a.mlp_ratio) * width**2

    embed = images * a.patches * 2 * a.patch_values * a.width
    encoder = a.depth * passes * block(visible + 1, a.width, visible + 1)
    to_decoder = passes * (visible + 1) * 2 * a.width * a.decoder_width
    whole = (a.decoder_depth - 1) * block(a.patches + 1, a.decoder_width, a.patches + 1)
    decoder = passes * (whole + block(a.patches + 1, a.decoder_width, hidden))
    once = (a.patches - passes * hidden) * 6 * a.decoder_width**2
    prediction = passes * hidden * 2 * a.decoder_width * a.patch_values
    return 2 * embed + 3 * (encoder + to_decoder + decoder + once + prediction)


def circumstances() -> dict[str, str]:
    """Device, versions and date of the figures."""
    device = describe_device("cpu")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    return {
        "device": f"{device['name']}, {device['threads']} thread(s)",
        "versions": "; ".join([f"python {platform.python_version()}", *versions]),
        "date": datetime.now(UTC).date().isoformat(),
    }
