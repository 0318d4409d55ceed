"""The published data sets as one: the table of images and the boxes of any of them."""

import sys
from pathlib import Path
from types import ModuleType

import pandas as pd

from amae.runtime.errors import InputError
from amae.runtime.files import sha256
from amae.settings import PublishedSet, SplitSettings
from amae.sources import nih, paediatric, rsna, vindr
from amae.sources.catalogue import sources_of
from amae.sources.metadata import no_boxes, table_folders

PUBLISHED_SPLITS = {"rsna": rsna, "vindr": vindr, "nih": nih}


def published_table(
    source: PublishedSet, splits: SplitSettings | None, every_ratio: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Table of every image with its label, and the boxes of the test images, in pixels of their files.

    `splits` are drawn for paediatric, whose published ones are of no use, and refused for the others. With
    `every_ratio` T_u contains every image that it would contain at some anomaly ratio. Raises InputError for files that
    are missing and counts that are not those published.
    """
    if (source.dataset == "paediatric") != bool(splits):
        expected = "are missing; it has no published repartition of use" if not splits else "are published"
        raise InputError(f"--splits: those of {source.dataset} {expected}")
    if source.dataset == "paediatric":
        return paediatric.index(source.folder), no_boxes()
    module = PUBLISHED_SPLITS[source.dataset]
    choices = {"sexes": source.sexes} if source.sexes else {}
    if not every_ratio:  # said once, where the manifest is made
        for path in unpublished_lists(source):
            print(f"warning: {path}: not the published list; scores on it are not the paper's", file=sys.stderr)
    return module.index(
        source.folder,
        source.repartition or _repartition_in(source.folder, module),
        source.anomaly_ratio,
        table_folders(source.metadata, source.folder),
        patient_disjoint=source.patient_disjoint,
        every_ratio=every_ratio,
        **choices,
    )


def lists_of(source: PublishedSet) -> list[Path]:
    """The files that say which images are used; none where one is missing, which `published_table` reports."""
    if source.dataset == "paediatric":
        found = [source.folder / "labels.csv"]
    else:
        module = PUBLISHED_SPLITS[source.dataset]
        try:
            place = source.repartition or _repartition_in(source.folder, module)
            found = nih.find_lists(place, source.sexes or nih.ALL) if module is nih else [place]
        except InputError:
            return []
    return [path for path in found if path.is_file()]


def unpublished_lists(source: PublishedSet) -> list[Path]:
    """Those of `lists_of` whose content is not the published one."""
    known = {row.sha256 for row in sources_of(source.dataset)}
    return [path for path in lists_of(source) if sha256(path) not in known]


def _repartition_in(folder: Path, module: ModuleType) -> Path:
    """The repartition file that lies in the folder of the images; NSA's lists lie in the folder itself."""
    patterns = getattr(module, "REPARTITIONS", None)
    if patterns is None:
        return folder
    found = next((path for pattern in patterns for path in sorted(folder.glob(pattern))), None)
    if found is None:
        dataset = module.__name__.rsplit(".", 1)[1]
        row = next(row for row in sources_of(dataset) if row.name.endswith("repartition"))
        raise InputError(f"{folder}: no repartition file ({' or '.join(patterns)}). Get it: {row.describe(folder)}")
    return found
