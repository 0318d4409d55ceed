"""A trained model applied to new radiographs; docs/python.md shows how to call it.

`load_model`, `score_files`, `score_arrays` and `Scored` are the public interface. They need torch, which takes seconds
to load, so each is imported when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amae.predict.model import load_model
    from amae.predict.score import Scored, score_arrays, score_files

__all__ = ["Scored", "load_model", "score_arrays", "score_files"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("amae.predict.model" if name == "load_model" else "amae.predict.score"), name)
