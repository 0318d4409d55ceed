"""Where a module's step spends its time, in our path and in the straightforward one: `python -m benchmarks.profile`.

Prints milliseconds a step by kind of operation, for the sizes of the paper and of the demo preset, on one thread.
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader

from amae.method.adaptation import adaptation_loss
from amae.runtime.device import keep_memory
from amae.settings import ModuleSettings
from benchmarks import straightforward
from benchmarks.data import write_png
from benchmarks.measure import usual_memory
from benchmarks.training import BATCH, MASKS, RATIO, SIZES, describe, our_step, packed, pair, plain_optimiser

KINDS = {
    "matrix products": (
        "aten::mm",
        "aten::addmm",
        "aten::bmm",
        "aten::mkldnn_convolution",
        "aten::convolution_backward",
    ),
    "fused attention": ("aten::_scaled_dot_product_flash_attention",),
    "softmax": ("aten::_softmax",),
    "GELU and norms": ("aten::gelu", "aten::native_layer_norm"),
}
REST = "copies, optimiser, the rest"
STEPS = 3


def by_kind(step: Callable[[], object]) -> Counter:
    """Milliseconds of a step by kind of operation."""
    step()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(STEPS):
            step()
    total: Counter = Counter()
    for event in profiler.key_averages():
        kind = next((kind for kind, names in KINDS.items() if event.key.startswith(names)), REST)
        total[kind] += event.self_cpu_time_total / STEPS / 1e3
    return total


def main() -> None:
    """Print a table for each size."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    keep_memory()
    for a in SIZES.values():
        ours, plain = pair(a)
        with tempfile.TemporaryDirectory() as folder:
            paths = write_png(Path(folder), BATCH)
            batch = next(iter(DataLoader(straightforward.AdaptationData(paths, a), BATCH)))
            loss_of = adaptation_loss(ours, packed(paths, a.image_size), ModuleSettings(), MASKS)
        noises = torch.rand(MASKS, BATCH, a.patches)
        adapt = partial(straightforward.adapt, plain, plain_optimiser(plain), batch, noises, RATIO)
        before, after = by_kind(usual_memory(adapt)), by_kind(our_step(ours, loss_of))
        print(f"{describe(a)}: ms a step\n| | straightforward | ours |\n|---|---:|---:|")
        for kind in (*KINDS, REST):
            print(f"| {kind} | {before[kind]:.0f} | {after[kind]:.0f} |")
        print(f"| together | {before.total():.0f} | {after.total():.0f} |")


if __name__ == "__main__":
    main()
