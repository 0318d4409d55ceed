"""Records of trained artefacts: each is written beside its artefact when, and only when, the work succeeds."""

import dataclasses
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import amae
from amae.runtime.files import sha256, write_json

PACKAGES = ("torch", "torchvision", "timm", "numpy", "scipy", "scikit-image", "pandas", "pydicom", "safetensors")


def command_line() -> list[str]:
    """The words of the command that runs; `python -m amae` is `amae`."""
    program = Path(sys.argv[0])
    return [program.parent.name if program.name == "__main__.py" else program.name, *sys.argv[1:]]


@contextmanager
def recording(
    path: str | Path,
    *,
    settings: Any,
    seed: int | None = None,
    inputs: Mapping[str, str | Path] | None = None,
    device: Any = "cpu",
) -> Iterator[dict[str, Any]]:
    """Measure the body of a `with` statement and write its record to `path` (JSON) if it ends without an exception.

    Args:
        settings: the effective settings: dataclasses, mappings, lists and plain values.
        seed: the seed of this replicate.
        inputs: the files that the result depends on, by role; their SHA-256 is taken before the body runs.
        device: "cpu", "cuda", or a torch.device.

    Yields the record, a dict to which the body may add; `record["images"] = n` gives images_per_second at the end.
    """
    record = {
        "command": command_line(),
        "settings": _plain(settings),
        "seed": seed,
        "inputs": {role: {"path": str(file), "sha256": sha256(file)} for role, file in (inputs or {}).items()},
        "versions": versions(),
        "code": code_revision(),
        "device": describe_device(device),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if str(device).startswith("cuda"):
        sys.modules["torch"].cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    yield record
    seconds = time.perf_counter() - start
    record["wall_seconds"] = round(seconds, 3)
    if "images" in record:
        record["images_per_second"] = round(record["images"] / max(seconds, 1e-9), 3)
    record |= peak_memory(device)
    write_json(record, path)


def versions() -> dict[str, str | None]:
    """Versions of Python, this package and the packages that results depend on; None for one that is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version(), "amae": amae.__version__}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def other_versions(results: str | Path) -> list[str]:
    """One line for each package of another version than some results in a folder were made with, from their records."""
    installed, found = versions(), {}
    for path in sorted(Path(results).glob("**/run.json")):
        try:
            made = json.loads(path.read_text(encoding="utf-8"))["versions"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # the command that reads it reports it
        for package, version in made.items():
            if version != installed.get(package, version):
                found.setdefault((package, version), []).append(path.parent)
    return [
        f"{len(folders)} results were made with {package} {version}, now {installed[package]} is installed; they "
        f"stay as they are, the first is {folders[0]}"
        for (package, version), folders in found.items()
    ]


def code_revision(folder: str | Path = Path(__file__).parents[1]) -> dict[str, Any] | None:
    """The git commit of a folder, and whether its tree differs from it; None where git does not keep the folder."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    try:
        if not git("ls-files", "."):  # installed somewhere below another project's repository
            return None
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None


def describe_device(device: Any) -> dict[str, Any]:
    """Type and name of a device; for the CPU also the number of threads that torch uses, or may use."""
    torch = sys.modules.get("torch")  # loading it takes seconds, and what never did has no use for it
    if str(device).startswith("cuda"):
        return {"type": "cuda", "name": torch.cuda.get_device_name(device)}
    threads = torch.get_num_threads() if torch else int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    return {"type": "cpu", "name": _cpu_name(), "threads": threads}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def peak_memory(device: Any) -> dict[str, float]:
    """Peak resident memory of this process since it began and, on CUDA, peak memory of tensors; both in MiB."""
    peaks = {}
    if sys.platform != "win32":
        import resource

        unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
        peaks["peak_memory_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
    if str(device).startswith("cuda"):
        peaks["peak_cuda_mib"] = round(sys.modules["torch"].cuda.max_memory_allocated(device) / 2**20, 1)
    return peaks


def _plain(value: Any) -> Any:
    """Dataclasses, mappings, sequences and paths as JSON has them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value
