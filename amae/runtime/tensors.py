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
    about, _ = read_unchecked(path, "np", with_content=False)
    about.pop("sha256", None)
    return about


def read_arrays(path: str | Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Description and content of a file. Raises InputError for a file that is damaged, or without a description."""
    about, arrays = read_unchecked(path, "np")
    parts = [
        (name, f"torch.{array.dtype}", list(array.shape), array.reshape(-1).view(np.uint8))
        for name, array in arrays.items()
    ]
    return check_digest(about, parts, path), arrays


def read_unchecked(path: str | Path, kind: str, with_content: bool = True) -> tuple[dict[str, Any], dict[str, Any]]:
    """Description, for `check_digest`, and content, as arrays of numpy (`kind` np) or tensors of torch (pt).

    Raises InputError for a file that cannot be read, or is without a description.
    """
    if not is_safetensors(path):
        raise InputError(f"{path}: not a safetensors file; a published checkpoint must be converted first")
    try:
        with safe_open(path, kind) as file:
            about = json.loads((file.metadata() or {}).get(METADATA, "null"))
            names = list(file.keys())
            wanted = names if with_content and isinstance(about, dict) else []
            content = {name: file.get_tensor(name) for name in wanted}
    except (SafetensorError, ValueError, TypeError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from None
    if not isinstance(about, dict):
        raise InputError(f"{path}: safetensors without a description of the model; it contains {some(names)}")
    return about, content


def check_digest(about: Mapping[str, Any], parts: Iterable[Part], path: str | Path) -> dict[str, Any]:
    """A description without its SHA-256. Raises InputError where it has one that is not of its file's content."""
    bare = {key: value for key, value in about.items() if key != "sha256"}
    if (written := about.get("sha256")) and written != digest(bare, parts):
        raise InputError(f"{path}: damaged: not what was written; delete it, and run the same command again")
    return bare


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
