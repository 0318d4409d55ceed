"""Commands for the benchmark data sets: fetch what is open, and make manifest and boxes of what is there."""

import json
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from amae.runtime.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from amae.settings import SplitSettings
    from amae.sources.catalogue import Source

RECORD = "checksums.json"  # no output of a rule: Snakemake would delete it before a new download is held against it
# the images are compressed already: an archive that unpacks to more than this many times its size is not of images
EXPANSION = 5


def fetch_source(options: Namespace) -> None:
    """Fetch every open file of a source into a folder, verify and unpack; say what a person has to get.

    options: dataset (rsna, vindr, nih, paediatric, weights, metadata, or one name of sources.csv) and folder. Files
    put into the folder by hand are verified and used. checksums.json, written last, holds the SHA-256 of each file; a
    file for which none is published must keep the one recorded at its first use.
    """
    from amae.runtime.files import write_json
    from amae.runtime.lock import in_turn
    from amae.sources.catalogue import sources_of

    folder, record = Path(options.folder), {}
    before = _recorded(folder)
    by_hand = []
    for row in sources_of(options.dataset):
        if row.access != "open":
            by_hand.append(row)
            continue
        record[row.file] = _fetch(row, folder, before.get(row.file))
    for row in by_hand:
        print(f"by hand, where needed: {row.describe(folder)}", file=sys.stderr)
    if not record:
        raise InputError(f"{options.dataset}: nothing can be fetched without a person; see the lines above")
    with in_turn(folder / RECORD):  # other weights may have been fetched meanwhile, each by a command of its own
        write_json(_recorded(folder) | record, folder / RECORD)


def _recorded(folder: Path) -> dict[str, str]:
    """SHA-256 of each file that has been fetched into a folder."""
    from amae.runtime.files import read_record

    return read_record(folder / RECORD) if (folder / RECORD).is_file() else {}


def _fetch(row: "Source", folder: Path, known: str | None) -> str:
    """Fetch, verify and unpack one file. Returns its SHA-256."""
    from amae.sources.download import download
    from amae.sources.unpack import unpack

    path = folder / row.file
    digest = download(row.url, path, md5=row.md5, sha256=row.sha256 or known, size=row.size)
    if not (row.md5 or row.sha256 or known):
        print(f"{row.file}: no checksum is published; recorded sha256 {digest}", file=sys.stderr)
    target = folder / row.name
    if row.file.endswith((".tar.gz", ".zip")) and not target.exists():
        unpack(path, target, limit=EXPANSION * path.stat().st_size + 2**20)
    return digest


def index_source(options: Namespace) -> None:
    """Make the table, manifest, hidden labels and boxes of a benchmark data set.

    options: dataset (rsna, vindr, nih, paediatric), folder (of the images), repartition (DDAD's file, or the folder of
    NSA's lists; None: in the folder), anomaly_ratio (None: no T_u), patient_disjoint (without training images of test
    patients), sexes (nih only; None: both), splits (JSON of SplitSettings; paediatric only), metadata (folder with more
    tables, or None), and the files to write: table (every image with its label), manifest, hidden_labels, boxes (of the
    test images).
    """
    from amae.data.manifest import build_manifest
    from amae.runtime.files import write_csv

    table, boxes, splits = _index(options)
    write_csv(table, options.table)
    # paths are final: build_manifest must not put the table's own folder before them
    build_manifest(options.table, Path(), options.manifest, options.hidden_labels, splits)
    write_csv(boxes, options.boxes)
    known = ", ".join(f"{name} {int((table[name] != '').sum())}" for name in ("view", "sex", "age") if name in table)
    marked = f"{len(boxes)} boxes on {boxes['image_id'].nunique()} test images"
    print(f"{options.dataset}: {len(table)} images; known: {known or 'no metadata'}; {marked}", file=sys.stderr)


def list_source(options: Namespace) -> None:
    """List every image that a benchmark data set uses at any anomaly ratio (as `amae list-images` for a table)."""
    from amae.data.manifest import list_candidates
    from amae.runtime.files import write_csv

    table, _, splits = _index(options, every_ratio=True)
    write_csv(table, options.table)
    list_candidates(options.table, Path(), options.candidates, splits)


def _index(
    options: Namespace, every_ratio: bool = False
) -> tuple["pd.DataFrame", "pd.DataFrame", "SplitSettings | None"]:
    """Table of images, boxes, and settings to draw splits with (None where they are published)."""
    from amae.settings import SplitSettings
    from amae.sources import nih, paediatric, rsna, vindr
    from amae.sources.metadata import no_boxes, table_folders

    folder = Path(options.folder)
    if options.dataset == "paediatric":
        if not options.splits:
            raise InputError("paediatric: splits is missing; the data set has no published repartition of use")
        try:
            splits = SplitSettings(**json.loads(options.splits))
        except (TypeError, ValueError) as error:
            raise InputError(f"--splits: {error}; expected JSON with the keys of datasets.NAME.splits") from None
        return paediatric.index(folder), no_boxes(), splits
    modules = {"rsna": rsna, "vindr": vindr, "nih": nih}
    if options.dataset not in modules:
        raise InputError(f"dataset is {options.dataset!r}; expected {', '.join(modules)} or paediatric")
    module = modules[options.dataset]
    repartition = Path(options.repartition) if options.repartition else _repartition_in(folder, module)
    tables = table_folders(options.metadata, folder)
    choices = {"patient_disjoint": options.patient_disjoint, "every_ratio": every_ratio}
    if options.sexes:
        if module is not nih:
            raise InputError(f"--sexes: {options.dataset} has no lists by sex; only nih has")
        choices["sexes"] = options.sexes
    return *module.index(folder, repartition, options.anomaly_ratio, tables, **choices), None


def _repartition_in(folder: Path, module: ModuleType) -> Path:
    """The repartition file that lies in the folder of the images; NSA's lists lie in the folder itself."""
    from amae.sources.catalogue import sources_of

    patterns = getattr(module, "REPARTITIONS", None)
    if patterns is None:
        return folder
    found = next((path for pattern in patterns for path in sorted(folder.glob(pattern))), None)
    if found is None:
        dataset = module.__name__.rsplit(".", 1)[1]
        row = next(row for row in sources_of(dataset) if row.name.endswith("repartition"))
        raise InputError(f"{folder}: no repartition file ({' or '.join(patterns)}). Get it: {row.describe(folder)}")
    return found
