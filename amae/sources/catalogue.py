"""The versioned table of every published file that this project can use (sources.csv beside this module)."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from amae.runtime.errors import InputError
from amae.runtime.files import read_csv

TABLE = Path(__file__).with_name("sources.csv")


@dataclass(frozen=True)
class Source:
    """One row. `dataset`: what it belongs to; `file`: its place in the data set's folder; `url`: the file, or the page
    to get it from; `access`: open (fetched by `amae fetch-source`) or what a person has to do; `size` in bytes, exact
    for the small files and rounded for the others, or None; `licence`: terms of use as stated at the source; `note`:
    what it contains, beginning with "images:" where it is a way to the images of its data set.
    """

    name: str
    dataset: str
    version: str
    file: str
    url: str
    access: str
    md5: str | None
    sha256: str | None
    size: int | None
    licence: str
    note: str

    def describe(self, folder: Path) -> str:
        """The source as a sentence: name, address, size, terms, and the place to put it."""
        size = f", {_megabytes(self.size)}" if self.size else ""
        access = "" if self.access == "open" else f", {self.access}"
        return f"{self.name}: {self.url}{size}{access}; terms: {self.licence}; goes to {folder / self.file}"


@cache
def catalogue() -> tuple[Source, ...]:
    """Every row of sources.csv."""
    rows = read_csv(TABLE).to_dict("records")
    empty = {"md5": None, "sha256": None, "size": None}
    return tuple(
        Source(**{key: _cell(key, value) if value else empty.get(key, "") for key, value in row.items()})
        for row in rows
    )


def sources_of(dataset: str) -> list[Source]:
    """Rows of a data set, or the one row of that name. Raises InputError for an unknown name."""
    rows = [row for row in catalogue() if dataset in (row.dataset, row.name)]
    if not rows:
        known = ", ".join(dict.fromkeys(row.dataset for row in catalogue()))
        raise InputError(f"{dataset}: no such source; known are {known}, or one name of {TABLE}")
    return rows


def missing(dataset: str, folder: str | Path, looked_for: str) -> InputError:
    """The error for a source whose images are not in `folder`: what to get, where, and where to put it."""
    images = [row for row in sources_of(dataset) if row.note.startswith("images:")]
    ways = "".join(f"\n  {row.describe(Path(folder))}" for row in images)
    fetch = f"\n  (`amae fetch-source --name {dataset} --folder {folder}` fetches what needs no log-in)"
    return InputError(f"{folder}: no images of {dataset} (looked for {looked_for}). Get one of these:{ways}{fetch}")


def _cell(key: str, value: str) -> str | int:
    return int(value) if key == "size" else value


def _megabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
