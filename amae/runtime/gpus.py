"""The GPUs of a machine: jobs side by side take different ones, each under a lock that ends with its process.

GPUs are named by their hardware (UUID), so it is no matter that CUDA_VISIBLE_DEVICES, Slurm or a container numbers
them anew for each process. Jobs of another user of the machine are not seen.
"""

import os
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from tempfile import gettempdir

from amae.runtime.lock import in_turn, try_lock

Place = tuple[str, int]  # a GPU, and a number below the jobs that may share it

_held: list[int] = []  # file descriptors: a lock goes when they are closed, which the end of the process does


def choose_place(gpus: Sequence[str], jobs_per_card: int, held: Collection[Place]) -> Place | None:
    """A free place on the GPU with the fewest jobs, of these the first; None where every place is held."""
    free = [(gpu, place) for gpu in gpus for place in range(jobs_per_card) if (gpu, place) not in held]
    jobs = {gpu: sum(each == gpu for each, _ in held) for gpu in gpus}
    return min(free, key=lambda place: jobs[place[0]], default=None)


def take_gpu(gpus: Sequence[str], jobs_per_card: int, folder: Path | None = None) -> int:
    """Number of a GPU, counted from 0, that this process holds until it ends; while all are taken, it waits.

    `gpus` are those that are visible to this process. The locks lie in `folder`, by default one of the user's in the
    machine's temporary folder: not in the results, which machines with other GPUs may share.
    """
    folder = folder or Path(gettempdir(), f"amae-cards-{os.getuid()}")
    folder.mkdir(parents=True, exist_ok=True)
    waits = False
    while (place := _take(gpus, jobs_per_card, folder)) is None:
        if not waits:
            print(
                f"device: {len(gpus)} card(s) visible, {jobs_per_card} job(s) on each (key jobs_per_card), all taken; "
                "waiting for one",
                file=sys.stderr,
                flush=True,
            )
        waits = True
        time.sleep(0.5)
    return gpus.index(place[0])


def _take(gpus: Sequence[str], jobs_per_card: int, folder: Path) -> Place | None:
    """Lock a free place; one process looks at a time, so that none takes for held what another only looks at."""
    places = [(gpu, number) for gpu in gpus for number in range(jobs_per_card)]
    with in_turn(folder / "choice"):
        files = {place: try_lock(folder / f"{place[0]}.{place[1]}") for place in places}
        chosen = choose_place(gpus, jobs_per_card, {place for place, file in files.items() if file is None})
        for place, file in files.items():
            if place == chosen:
                _held.append(file)
            elif file is not None:
                os.close(file)
    return chosen
