"""Hashes by which a run notices that a person changed a file or a folder, whatever its time."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from amae.plan.paths import is_made, results_of
from amae.plan.splits import published_set
from amae.predict.files import walk
from amae.runtime.errors import InputError
from amae.runtime.files import ANY_NAME, sha256, size_and_time
from amae.sources import published
from amae.sources.layout import find_file
from amae.sources.metadata import TABLES, table_folders

_sha256 = cache(sha256)  # a file is read once in a run


def content_of(config: dict[str, Any], path: str | list) -> str:
    """Hash of a person's file; "" for one that the workflow makes, whose time counts, and for a missing one."""
    own = path and not is_made(config, path) and Path(path).is_file()
    return _sha256(path) if own else ""


def lists_of(config: dict[str, Any], dataset: str) -> list[str]:
    """Hashes of a person's files that say which images of a published set are used; where patients are kept apart,
    those of `tables_of`."""
    return (tables_of if config["datasets"][dataset].get("patient_disjoint") else _lists)(config, dataset)


def tables_of(config: dict[str, Any], dataset: str) -> list[str]:
    """Hashes of the lists, and of the tables of patients, views and boxes in the folders of a published set and in the
    installed torchxrayvision."""
    about = config["datasets"][dataset]
    folders = table_folders(about.get("metadata"), about["folder"])
    tables = [table for names in TABLES.values() if (table := find_file(folders, names))]
    return _lists(config, dataset) + [_sha256(table) for table in tables]


def _lists(config: dict[str, Any], dataset: str) -> list[str]:
    """What is fetched is left out: it counts by its time."""
    given = published.lists_of(published_set(config, dataset, None))
    return [_sha256(path) for path in given if not is_made(config, path)]


def folder_to_predict(config: dict[str, Any]) -> str:
    """The folder of new radiographs.

    Raises InputError where none is configured, and for one that contains the results, whose pictures it would score.
    """
    folder = config["predict"]["folder"]
    if not folder:
        raise InputError("key predict.folder: null, expected the folder of the radiographs to score")
    if not Path(folder).exists():
        raise InputError(f"key predict.folder: {folder}: no such folder")
    if Path(results_of(config)).resolve().is_relative_to(Path(folder).resolve()):
        raise InputError(f"key predict.folder: {folder} contains the results, {results_of(config)}; expected another")
    return folder


def files_to_predict(config: dict[str, Any]) -> list[Path]:
    """Files, and links to folders, that `amae predict` finds in the configured folder; the folder, where none is."""
    folder = Path(folder_to_predict(config))
    found = walk(folder, Path(results_of(config))) if folder.is_dir() else ()
    return sorted(found) or [folder]


def listing_of(config: dict[str, Any]) -> str:
    """Hash of path, size and time of each file that `amae predict` finds in the configured folder."""
    folder = folder_to_predict(config)
    lines = [
        f"{path.relative_to(folder)} {' '.join(map(str, size_and_time(path) or []))}"  # a link to nothing is reported
        for path in files_to_predict(config)
    ]
    return hashlib.sha256("\n".join(lines).encode("utf-8", ANY_NAME)).hexdigest()
