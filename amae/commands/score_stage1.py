"""Stage 1 applied."""

from amae.commands import parameters as p
from amae.data.packed import load_splits
from amae.data.stored import stored_images
from amae.mae.weights import load_encoder, load_for_size
from amae.method import stage1 as method
from amae.runtime.device import choose_device
from amae.runtime.files import write_csv


def score_stage1(
    *,
    manifest: p.Manifest,
    images: p.Images,
    index: p.Index,
    weights: p.Weights,
    head: p.Head,
    stage1_scores: p.Stage1Scores,
    device: p.Device = "auto",
    gpus: p.Gpus = 1,
    jobs_per_card: p.JobsPerCard = 1,
) -> None:
    """Score T_u and the test images with stage 1."""
    where = choose_device(device, gpus, jobs_per_card)
    chosen, packed = load_splits(manifest, images, index, "train_unlabeled", "test")
    encoder = load_for_size(weights, packed.shape[1], where, load_encoder)
    trained = method.load_head(head, encoder.architecture.width).to(where)
    found = method.score_stage1(encoder, trained, stored_images(packed, chosen["row"].to_numpy(), where)).cpu().numpy()
    table = chosen[["image_id", "split"]]
    write_csv(table.assign(p_normal=found[:, 0], p_abnormal=found[:, 1]), stage1_scores)
