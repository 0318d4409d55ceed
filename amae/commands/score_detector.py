"""The detector's logits of T_u, for pseudo-labels."""

import torch

from amae.commands import parameters as p
from amae.comparators.detector import logits_of
from amae.data.packed import rejected_beside, select
from amae.runtime.errors import InputError, naming
from amae.runtime.files import read_csv, write_csv


def score_detector(
    *,
    trained_detector: p.TrainedDetector,
    manifest: p.Manifest,
    index: p.Index,
    detector_ranking: p.file("the detector's probabilities of T_u, to write (.csv)"),
) -> None:
    """Write the detector's probabilities of T_u, each of a network that never saw the image's patient.

    For pseudo-labels of our own. The table is as stage 1 writes its own.
    """
    _, logits = logits_of(trained_detector)
    rows, about = read_csv(manifest, ["image_id", "split"]), read_csv(index, ["image_id"])
    with naming(manifest):
        packed = select(rows, about, "train_unlabeled", rejected_beside(index))
    table = packed[["image_id", "split"]]
    found = torch.sigmoid(torch.from_numpy(logits)).numpy()
    if len(found) != len(table):
        raise InputError(f"{trained_detector}: found logits of {len(found)} images of T_u, expected {len(table)}")
    write_csv(table.assign(p_normal=1 - found, p_abnormal=found), detector_ranking)
