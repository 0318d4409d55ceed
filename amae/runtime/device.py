"""The device of the computation."""

import ctypes
import os
import sys

import torch

from amae.runtime.errors import InputError
from amae.runtime.gpus import take_gpu


def choose_device(wanted: str, gpus: int, jobs_per_card: int = 1) -> torch.device:
    """The device to compute on, announced in one line.

    `wanted`: auto (a GPU where there is one), cpu, or cuda (InputError without one). `gpus` is what the workflow
    grants: 0 forces the CPU. Of several visible GPUs this process takes a free one, which at most `jobs_per_card`
    share. What is computed in float32 is so on CUDA too, without TensorFloat-32; see `precision`.
    """
    if wanted == "cuda" and not (gpus and torch.cuda.is_available()):
        found = "none is available to torch" if gpus else "the workflow grants none (--resources gpu=0)"
        raise InputError(f"key device: cuda demands a CUDA GPU, but {found}; set it to auto or cpu")
    if wanted != "cpu" and gpus and torch.cuda.is_available():
        forbid_tensorfloat()
        cards = [str(torch.cuda.get_device_properties(number).uuid) for number in range(torch.cuda.device_count())]
        device = torch.device("cuda", take_gpu(cards, jobs_per_card))
        torch.cuda.set_device(device)  # where nothing names a device, as a kernel's launch
        name = f"{torch.cuda.get_device_name(device)}, {device} of {len(cards)}, {cards[device.index]}"
    else:
        torch.set_num_threads(min(torch.get_num_threads(), os.cpu_count() or 1))
        keep_memory()
        device, name = torch.device("cpu"), f"CPU, {torch.get_num_threads()} thread(s)"
    print(f"device: {name}", file=sys.stderr)
    return device


def forbid_tensorfloat() -> None:
    """Compute what is in float32 without TensorFloat-32 on CUDA. Torch has these settings for the whole process."""
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")  # the default, unless the environment says otherwise


def keep_memory() -> None:
    """Have this process keep the memory that it frees (glibc; nothing happens elsewhere).

    Otherwise every large tensor comes from the system, which clears it page by page: a twelfth of a training step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(-4, 0)  # M_MMAP_MAX: no block is mapped by itself
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: the heap does not shrink


def precision(device: torch.device) -> torch.autocast:
    """Autocast to bfloat16 on CUDA, for long trainings; float32 as it is elsewhere.

    Features and scores stay in float32 everywhere: thresholds and percentiles are then valid on every device.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
