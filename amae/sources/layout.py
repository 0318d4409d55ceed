"""Find the image files of a source in the folder that a person unpacked, without insisting on how deep they lie."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from amae.runtime.errors import InputError
from amae.sources.catalogue import missing

DEPTH = 3  # folders that an archive, or a person, may put around the published one


def find_images(dataset: str, folder: str | Path, forms: Mapping[str, Sequence[str]]) -> tuple[str, dict[str, Path]]:
    """The first form that is there, and its files by name without suffix.

    `forms` maps a suffix to patterns of folders, e.g. {".dcm": ["stage_2_train_images"]}; all folders that match at the
    least depth count. Raises InputError that names what to get when no form is there.
    """
    folder = Path(folder)
    for suffix, patterns in forms.items():
        for depth in range(DEPTH + 1):
            places = [place for pattern in patterns for place in _match(folder, pattern, depth)]
            files = {name[: -len(suffix)]: place / name for place in places for name in _names(place, suffix)}
            if files:
                return suffix, files
    looked_for = " or ".join(f"{pattern}/*{suffix}" for suffix, patterns in forms.items() for pattern in patterns)
    raise missing(dataset, folder, looked_for)


def find_file(folders: Sequence[Path], names: Sequence[str]) -> Path | None:
    """The first file of one of these names, directly in one of the folders, or None."""
    return next((folder / name for folder in folders for name in names if (folder / name).is_file()), None)


def read_lines(path: Path) -> list[str]:
    """Lines of a list that are not empty. Raises InputError for another encoding than UTF-8."""
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a list in UTF-8 ({error})") from None


def add_paths(table: pd.DataFrame, files: Mapping[str, Path], folder: str | Path, hint: str) -> pd.DataFrame:
    """The table with a column path. Raises InputError when an image has no file; `hint` ends the message."""
    path = table["image_id"].map(files)
    lost = table[path.isna()]
    if len(lost):
        by_split = ", ".join(f"{split} {len(rows)}" for split, rows in lost.groupby("split", sort=False))
        listed = ", ".join(lost["image_id"].head(3)) + (", ..." if len(lost) > 3 else "")
        raise InputError(f"{folder}: {len(lost)} of {len(table)} images are missing ({by_split}): {listed}. {hint}")
    return table.assign(path=path.map(str))


def _match(folder: Path, pattern: str, depth: int) -> list[Path]:
    """Folders that match the pattern below `depth` levels of other folders, in order."""
    here = [folder] if depth == 0 and "*" not in pattern and folder.name == pattern else []
    return here + sorted(place for place in folder.glob("*/" * depth + pattern) if place.is_dir())


def _names(place: Path, suffix: str) -> list[str]:
    """Names of the files with that suffix (or .DCM, .PNG), without hidden ones (macOS leaves ._ files in archives)."""
    with os.scandir(place) as entries:
        files = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file()]
    return sorted(name for name in files if name.lower().endswith(suffix))
