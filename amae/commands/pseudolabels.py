"""The command between the two stages; it loads no torch."""

from argparse import Namespace

from amae.method.pseudolabels import pseudo_label
from amae.runtime.errors import naming
from amae.runtime.files import read_csv, write_csv
from amae.settings import PseudoLabelSettings, from_options


def export_pseudo_labels(options: Namespace) -> None:
    """Write the pseudo-labels of T_u, from the probabilities of stage 1 or of the probe."""
    scores = read_csv(options.unlabeled_scores, ["image_id", "split", "p_normal", "p_abnormal"])
    scores = scores[scores["split"] == "train_unlabeled"].astype({"p_normal": float, "p_abnormal": float})
    with naming(options.unlabeled_scores):
        labels = pseudo_label(scores, from_options(PseudoLabelSettings, options))
    write_csv(labels, options.pseudo_labels)
