"""Safetensors files that describe themselves, read without torch, which takes seconds to load.

One entry of the metadata, `amae`, contains the description as JSON, with the SHA-256 of description and content.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open

from amae.runtime.errors import InputError

METADATA = "amae"  # one entry: safetensors writes several in random order
Content = TypeVar("Content")  # a tensor or an array
Part = tuple[str, str, list[int], memoryview | np.ndarray]  # name, type as torch names it, shape, bytes


def is_safetensors(path: str | Path) -> bool:
    """True if a file begins as safetensors do: the length of a JSON header in 8 bytes, then the header."""
    try:
        with Path(path).open("rb") as file:
            return file.read(9)[8:] == b"{"
    except OSError as error:
        raise InputError(f"{path}: cannot be opened as a weight file ({error.strerror})") from None


def read_about(path: str | Path) -> dict[str, Any]:
    """The description of a file, from its header alone; its content is not checked. Raises InputError without one."""
    return _read(path, with_content=False)[0]


def read_arrays(path: str | Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Description and content of a file. Raises InputError for a file that is damaged, or without a description."""
    return _read(path, with_content=True)


def _read(path: str | Path, with_content: bool) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    if not is_safetensors(path):
        raise InputError(f"{path}: not a safetensors file; a published checkpoint must be converted first")
    try:
        with safe_open(path, "np") as file:
            about = description_in(file.metadata())
            names = list(file.keys())
            arrays = {name: file.get_tensor(name) for name in names} if with_content and about else {}
    except (SafetensorError, ValueError, TypeError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from None
    if about is None:
        raise InputError(f"{path}: safetensors without a description of the model; it contains {some(names)}")
    if with_content:
        parts = [(name, f"torch.{array.dtype}", list(array.shape), as_bytes(array)) for name, array in arrays.items()]
        check_digest(about, parts, path)
    return {key: value for key, value in about.items() if key != "sha256"}, arrays


def description_in(metadata: Mapping[str, str] | None) -> dict[str, Any] | None:
    """The description in a file's metadata; None where there is none. Raises ValueError for damaged JSON."""
    about = json.loads((metadata or {}).get(METADATA, "null"))
    return about if isinstance(about, dict) else None


def as_bytes(array: np.ndarray) -> np.ndarray:
    """The bytes of an array, uint8 (n,)."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def check_digest(about: Mapping[str, Any], parts: Iterable[Part], path: str | Path) -> None:
    """Raise InputError where a description has a SHA-256 and it is not that of its file's content."""
    bare = {key: value for key, value in about.items() if key != "sha256"}
    if (written := about.get("sha256")) and written != digest(bare, parts):
        raise InputError(f"{path}: damaged: not what was written; delete it, and run the same command again")


def digest(about: Mapping[str, Any], parts: Iterable[Part]) -> str:
    """SHA-256 of a description and of the names, types, shapes and bytes of tensors."""
    parts = sorted(parts, key=lambda part: part[0])
    shapes = [(name, kind, shape) for name, kind, shape, _ in parts]
    found = hashlib.sha256(json.dumps([about, shapes], sort_keys=True).encode())
    for *_, content in parts:
        found.update(content)
    return found.hexdigest()


def prefixed(state: Mapping[str, Content], prefix: str) -> dict[str, Content]:
    """A network's state under a prefix, among others."""
    return {f"{prefix}.{name}": value for name, value in state.items()}


def under(state: Mapping[str, Content], prefix: str) -> dict[str, Content]:
    """What has names under a prefix, as `prefixed` gives them, by the rest of its name; empty where there is none."""
    return {name.removeprefix(f"{prefix}."): value for name, value in state.items() if name.startswith(f"{prefix}.")}


def some(keys: Any) -> str:
    """The first keys of many, and how many more."""
    names = sorted(keys)
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
