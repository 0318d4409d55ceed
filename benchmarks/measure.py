"""Clocks, counted operations, and the machine that the figures belong to.

With one thread, time is processor time of this process: other work on the machine then counts little. With several
threads or processes, and on a GPU, it is wall time.
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
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from amae.runtime.device import keep_memory
from amae.runtime.provenance import describe_device

MATRIX = {"cpu": 2048, "cuda": 8192}  # side of the matrices whose product is the machine's rate
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


def on_device(sides: Mapping[str, Callable[[], object]], device: torch.device, rounds: int = 3) -> dict[str, float]:
    """`interleaved` by the clock of a device: processor time on a CPU; on a GPU wall time, ten calls in a row."""
    if device.type == "cpu":
        return interleaved(sides, rounds)

    def clock() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    repeated = {name: lambda side=side: [side() for _ in range(10)] for name, side in sides.items()}
    return {name: seconds / 10 for name, seconds in interleaved(repeated, rounds, clock).items()}


def usual_memory(side: Callable[[], object]) -> Callable[[], object]:
    """A side run with glibc's usual memory, as a program has it that does not call `amae.runtime.device.keep_memory`.

    The thresholds are those that glibc arrives at by itself once a program has freed large blocks.
    """

    def run() -> None:
        for option, value in [(-4, 65536), (-3, 32 * 2**20), (-1, 64 * 2**20)]:  # mmaps, their threshold, trimming
            ctypes.CDLL(None).mallopt(option, value)
        side()
        keep_memory()

    return run


def matrix_product(device: torch.device) -> Callable[[], None]:
    """A side that multiplies square matrices PRODUCTS times: float32 on a CPU, bfloat16 on a GPU."""
    side, dtype = MATRIX[device.type], torch.float32 if device.type == "cpu" else torch.bfloat16
    a, b, c = torch.randn(3, side, side, device=device, dtype=dtype)

    def multiply() -> None:
        for _ in range(PRODUCTS):
            torch.mm(a, b, out=c)

    return multiply


def product_rate(device: torch.device, seconds: float) -> float:
    """GFLOP/s of a side made by `matrix_product`."""
    return PRODUCTS * 2 * MATRIX[device.type] ** 3 / seconds / 1e9


def operations(side: Callable[[], object]) -> int:
    """Operations in the matrix products of a side, counted by torch; 2 m k n for (m, k) times (k, n)."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # fused attention is not counted
        side()
    return counter.get_total_flops()


def circumstances(device: torch.device) -> dict[str, str]:
    """Device, versions and date of the figures."""
    found = describe_device(device)
    versions = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    return {
        "device": found["name"] + (f", {found['threads']} thread(s)" if "threads" in found else ""),
        "versions": "; ".join([f"python {platform.python_version()}", *versions]),
        "date": datetime.now(UTC).date().isoformat(),
    }
