"""A trained comparator as a file."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from amae.comparators.methods import method_of
from amae.mae.checkpoints import read_safetensors, write_tensors
from amae.runtime.errors import InputError
from amae.runtime.tensors import is_safetensors
from amae.settings import from_mapping


def save_state(state: dict[str, Tensor], path: str | Path, method: str, protocol: str, settings: Any) -> None:
    """Write a trained comparator as safetensors with its method, protocol and settings."""
    about = {"kind": "comparator", "method": method, "protocol": protocol, "settings": asdict(settings)}
    write_tensors(state, path, about)


def load_state(path: str | Path, device: torch.device) -> tuple[dict[str, Tensor], str, Any]:
    """Read a trained comparator: its state on the device, method and settings; InputError if the file is not one."""
    if not is_safetensors(path):
        raise InputError(f"{path}: not a trained comparator: no safetensors file; make it with `amae compare`")
    about, state = read_safetensors(path)
    if about.get("kind") != "comparator":
        raise InputError(f"{path}: not a trained comparator, but {about.get('kind', 'something else')}")
    try:
        state = {name: tensor.to(device) for name, tensor in state.items()}
        return state, about["method"], from_mapping(method_of(about["method"]).settings, about["settings"])
    except (InputError, TypeError) as error:
        raise InputError(f"{path}: not of this version ({error}); make it again with `amae compare`") from None
