"""Drawn splits, written into a person's table."""

from amae.commands import parameters as p
from amae.data.manifest import freeze_splits as freeze
from amae.runtime.files import require_new


def freeze_splits(
    *,
    image_table: p.ImageTable,
    manifest: p.Manifest,
    frozen_table: p.file("copy of the table with the manifest's splits to write (.csv)"),
) -> None:
    """Write a copy of a table of images whose column split contains the drawn splits, so that they stay as they are.

    Rows that are added to the copy afterwards are in no set until a split is entered. Raises InputError if the file to
    write exists.
    """
    require_new(frozen_table, ".csv")
    freeze(image_table, manifest, frozen_table)
