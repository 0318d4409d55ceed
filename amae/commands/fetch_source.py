"""The files of published data sets and weights."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from amae.commands import parameters as p
from amae.runtime.errors import InputError
from amae.runtime.files import read_record, write_json
from amae.runtime.lock import in_turn

if TYPE_CHECKING:
    from amae.sources.catalogue import Source

RECORD = "checksums.json"  # no output of a rule: Snakemake would delete it before a new download is held against it
# the images are compressed already: an archive that unpacks to more than this many times its size is not of images
EXPANSION = 5


def fetch_source(
    *,
    name: Annotated[
        str, p.meaning("rsna, vindr, nih, paediatric, weights, metadata, or a name in amae/sources/sources.csv")
    ],
    folder: p.Folder,
) -> None:
    """Fetch, verify and unpack the open files of a published data set or of published weights.

    What a person has to get is listed. Files put into the folder by hand are verified and used. checksums.json, written
    last, contains the SHA-256 of each file; a file for which none is published must keep the one recorded at its first
    use.
    """
    from amae.sources.catalogue import sources_of

    record = {}
    before = _recorded(folder)
    by_hand = []
    for row in sources_of(name):
        if row.access != "open":
            by_hand.append(row)
            continue
        record[row.file] = _fetch(row, folder, before.get(row.file))
    for row in by_hand:
        print(f"by hand, where needed: {row.describe(folder)}", file=sys.stderr)
    if not record:
        raise InputError(f"{name}: nothing can be fetched without a person; see the lines above")
    with in_turn(folder / RECORD):  # other weights may have been fetched meanwhile, each by a command of its own
        write_json(_recorded(folder) | record, folder / RECORD)


def _recorded(folder: Path) -> dict[str, str]:
    """SHA-256 of each file that has been fetched into a folder."""
    return read_record(folder / RECORD) if (folder / RECORD).is_file() else {}


def _fetch(row: "Source", folder: Path, known: str | None) -> str:
    """Fetch, verify and unpack one file. Returns its SHA-256."""
    from amae.sources.download import download
    from amae.sources.unpack import unpack

    path = folder / row.file
    digest = download(row.url, path, md5=row.md5, sha256=row.sha256 or known)
    if not (row.md5 or row.sha256 or known):
        print(f"{row.file}: no checksum is published; recorded sha256 {digest}", file=sys.stderr)
    target = folder / row.name
    if row.file.endswith((".tar.gz", ".zip")) and not target.exists():
        unpack(path, target, limit=EXPANSION * path.stat().st_size + 2**20)
    return digest
