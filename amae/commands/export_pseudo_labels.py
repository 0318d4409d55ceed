"""The step between the two stages; it loads no torch."""

from amae.commands import parameters as p
from amae.method.pseudolabels import pseudo_label
from amae.runtime.errors import naming
from amae.runtime.files import read_csv, write_csv
from amae.settings import PseudoLabelSettings


def export_pseudo_labels(
    *,
    unlabeled_scores: p.file("probabilities of T_u, of stage 1, the probe or the detector (.csv)"),
    labels: p.Labels,
    pseudo_labels: PseudoLabelSettings = PseudoLabelSettings(),
) -> None:
    """Decide which unlabeled images become pseudo-normal and pseudo-abnormal."""
    scores = read_csv(unlabeled_scores, ["image_id", "split", "p_normal", "p_abnormal"])
    scores = scores[scores["split"] == "train_unlabeled"].astype({"p_normal": float, "p_abnormal": float})
    with naming(unlabeled_scores):
        made = pseudo_label(scores, pseudo_labels)
    write_csv(made, labels)
