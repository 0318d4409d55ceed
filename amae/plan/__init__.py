"""The plan of a run: the only part of the package that the workflow imports. Every function raises InputError."""

from amae.runtime.errors import InputError

__all__ = ["InputError"]
