"""Files of weights, whatever the network: this project's safetensors, which describe themselves, and torch pickles.

Pickles are read with a list of allowed globals and execute nothing. The safetensors have the SHA-256 of their content,
so that a changed byte in a weight is found; those of earlier versions do not.
"""

import argparse
import json
import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from amae.runtime.errors import InputError
from amae.runtime.files import atomic, sha256
from amae.runtime.tensors import METADATA, Part, check_digest, digest, is_safetensors, read_unchecked, some


def write_safetensors(model: nn.Module, path: str | Path, about: Mapping[str, Any]) -> None:
    """Write a model's state with what describes it. Equal models and descriptions give equal bytes."""
    write_tensors(model.state_dict(), path, about)


def write_tensors(tensors: Mapping[str, Tensor], path: str | Path, about: Mapping[str, Any]) -> None:
    """Write tensors by name with what describes them."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    about = {**about, "sha256": digest(about, _parts(tensors))}
    with atomic(path) as temporary:
        try:
            temporary.unlink(missing_ok=True)  # of a killed process
            temporary.touch()
            mode = temporary.stat().st_mode
            save_file(tensors, temporary, {METADATA: json.dumps(about, sort_keys=True)})
            temporary.chmod(mode)  # readable for others as the umask says; safetensors leaves it to its owner
        except SafetensorError as error:  # in place of an OSError
            raise OSError(f"cannot be written ({error})") from None


def _parts(tensors: Mapping[str, Tensor]) -> list[Part]:
    """Names, types, shapes and bytes of tensors on the CPU."""
    return [
        (name, str(tensor.dtype), list(tensor.shape), tensor.reshape(-1).view(torch.uint8).numpy())
        for name, tensor in tensors.items()
    ]


def read_safetensors(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Content of such a file: the description and the state dict. Raises InputError for any other file."""
    about, state = read_unchecked(path, "pt")
    return check_digest(about, _parts(state), path), state


def read_description(path: str | Path) -> dict[str, str]:
    """Origin of a file of this project."""
    return read_safetensors(path)[0].get("description", {})


def describe_source(path: str | Path, made_by: str | None = None) -> dict[str, str]:
    """Origin of a file converted from another: `made_by`, or the source's own description; its name and SHA-256."""
    kept = {"made_by": made_by} if made_by else read_description(path)
    return {**kept, "source": Path(path).name, "source_sha256": sha256(path)}


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], Any]:
    """The state dict of a torch pickle, at the top or as `model` or `state_dict`, and its `args` if it has them."""
    content = _unpickle(path)
    state = content
    for name in ("model", "state_dict"):
        state = state.get(name, state) if isinstance(state, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(each, Tensor) for each in state.values()):
        found = f"a dict with {some(map(str, content))}" if isinstance(content, dict) else type(content).__name__
        raise InputError(
            f"{path}: contains no state dict, neither at the top nor as 'model' or 'state_dict'; found {found}"
        )
    return {name: tensor.detach() for name, tensor in state.items()}, content.get("args")


def read_any_state(path: str | Path) -> dict[str, Tensor]:
    """The state dict of a torch pickle, as `read_checkpoint` finds it, or of anybody's safetensors."""
    if not is_safetensors(path):
        return read_checkpoint(path)[0]
    try:
        return load_file(path)
    except (SafetensorError, ValueError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from None


def differing_shapes(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Keys that two state dicts share with tensors of other shapes, each with both shapes."""
    shapes = {name: (tuple(state[name].shape), tuple(expected[name].shape)) for name in expected.keys() & state.keys()}
    return [f"{name} {found} instead of {wanted}" for name, (found, wanted) in shapes.items() if found != wanted]


def list_differences(missing: Collection[str], unexpected: Collection[str], shapes: Collection[str] = ()) -> str:
    """Keys that keep a state dict from filling a model, in words; empty where there are none."""
    parts = {"missing": missing, "unexpected": unexpected, "of other shape": shapes}
    return "; ".join(f"keys {what}: {some(keys)}" for what, keys in parts.items() if keys)


def _unpickle(path: str | Path) -> Any:
    """Read a pickle that may contain tensors, plain values and the arguments of a script, and executes nothing."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols that are then refused
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be opened as a weight file ({error.strerror})") from None
    except Exception as error:  # a damaged file can raise nearly anything
        refused = re.search(r"GLOBAL (\S+) (?:was not|whose)", str(error))
        if refused:
            raise InputError(
                f"{path}: refused, nothing of it executed: it needs the global {refused[1]}, which weights do not. If "
                f"you trust the file, save its state dict alone with torch.save"
            ) from None
        reason = str(error).partition(". ")[0].partition("\n")[0]
        raise InputError(
            f"{path}: not a torch checkpoint, or a damaged one ({type(error).__name__}: {reason})"
        ) from None
