"""Shortcuts and groups of a benchmark."""

from typing import Annotated

from amae.commands import parameters as p
from amae.data.manifest import read_manifest
from amae.data.packed import load_splits, open_images
from amae.evaluation.audit import audit_table, audit_text, shortcut_scores
from amae.evaluation.tables import join_scores
from amae.runtime.errors import InputError
from amae.runtime.files import atomic, write_csv


def audit(
    *,
    manifest: p.Manifest,
    images: p.Images,
    index: p.Index,
    score_tables: p.ScoreTables,
    seeds: p.Seeds,
    dataset: p.DatasetName,
    table: p.Table,
    text: p.file("text to write (.md)"),
    exposure: Annotated[bool, p.meaning("weights are Medical-MAE's of chest X-rays, so in_pretraining counts")] = False,
    caveats: p.Caveats = "",
) -> None:
    """Measure shortcuts, and every score in the groups that comparisons leave out.

    Of the tables of scores each seed has the same number, in the order of the seeds.
    """
    rows = read_manifest(manifest, needs=("test",))
    chosen, packed = load_splits(manifest, images, index, "train_normal", "test")
    _, about = open_images(images, index)
    shortcuts = chosen[["image_id", "label"]].merge(shortcut_scores(packed, chosen, about), on="image_id")
    count, left = divmod(len(score_tables), len(seeds))
    if left:
        raise InputError(
            f"--score-tables: found {len(score_tables)} tables for {len(seeds)} seeds; expected as many for each"
        )
    of_seeds = [score_tables[place * count : (place + 1) * count] for place in range(len(seeds))]
    scores = [join_scores(shortcuts[["image_id", "label"]], paths) for paths in of_seeds]
    found = audit_table([shortcuts, *scores], rows, exposure)
    write_csv(found, table)
    with atomic(text) as temporary:
        temporary.write_text(audit_text(found, dataset, caveats), encoding="utf-8")
