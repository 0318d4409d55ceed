"""The positive-unlabeled probe, for pseudo-labels."""

from amae.commands import parameters as p
from amae.comparators.pu_probe import out_of_fold
from amae.comparators.settings import ProbeSettings
from amae.data.packed import load_splits
from amae.data.splits import patients_of
from amae.data.stored import stored_images
from amae.mae.weights import load_encoder, load_for_size
from amae.method.stage1 import frozen_features
from amae.runtime.device import choose_device
from amae.runtime.files import write_csv


def score_probe(
    *,
    manifest: p.Manifest,
    images: p.Images,
    index: p.Index,
    weights: p.Weights,
    probe_scores: p.file("the probe's probabilities of T_u, to write (.csv)"),
    pu_probe: ProbeSettings = ProbeSettings(),
    device: p.Device = "auto",
    gpus: p.Gpus = 1,
    jobs_per_card: p.JobsPerCard = 1,
) -> None:
    """Score T_u with the positive-unlabeled probe, out of fold, for pseudo-labels of our own.

    The probe is given which image is of T_u, and no label. The table is as stage 1 writes its own.
    """
    where = choose_device(device, gpus, jobs_per_card)
    chosen, packed = load_splits(manifest, images, index, "train_normal", "train_unlabeled")
    encoder = load_for_size(weights, packed.shape[1], where, load_encoder)
    features = frozen_features(encoder, stored_images(packed, chosen["row"].to_numpy(), where)).cpu().numpy()
    unlabeled = (chosen["split"] == "train_unlabeled").to_numpy()
    found = out_of_fold(features, unlabeled, patients_of(chosen), pu_probe)
    table = chosen.loc[unlabeled, ["image_id", "split"]]
    write_csv(table.assign(p_normal=1 - found, p_abnormal=found), probe_scores)
