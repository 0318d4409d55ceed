"""One model file of the models of several seeds."""

from pathlib import Path
from typing import Annotated

from amae.commands import parameters as p
from amae.data.manifest import read_manifest
from amae.data.packed import evenly, open_images, rejected_beside, select
from amae.predict.card import read_card
from amae.predict.combine import combined, require_alike
from amae.predict.model import load_model, save_model
from amae.predict.score import LIMIT_IMAGES
from amae.runtime.device import choose_device
from amae.runtime.errors import InputError, naming
from amae.runtime.files import atomic, sha256

SCALE_IMAGES = 256  # of T_n, spread over it, where there are no calibration images


def combine_models(
    *,
    models: Annotated[list[Path], p.meaning("models of different seeds, as amae export makes them (.safetensors)")],
    manifest: p.Manifest,
    images: p.Images,
    index: p.Index,
    model: p.Model,
    card: p.file("model card to write (.md)"),
    device: p.Device = "auto",
    gpus: p.Gpus = 1,
    jobs_per_card: p.JobsPerCard = 1,
) -> None:
    """Put the models of several seeds into one file, which gives the mean of their scores and of their maps.

    Each score of each model is first scaled by its mean and standard deviation on the calibration images of the run, or
    on images of T_n where there are none. Manifest and images are those that the models were made from.
    """
    where = choose_device(device, gpus, jobs_per_card)
    members = {str(path): load_model(path, where) for path in models}
    require_alike(members)
    first, trained = next(iter(members.items()))
    for name, path in {"manifest": manifest, "images": images, "index": index}.items():
        if sha256(path) != trained.about["files"][name]:
            raise InputError(f"{path}: not the file from which {first} was made")
    rows, (packed, about) = read_manifest(manifest), open_images(images, index)
    rejected, known = rejected_beside(index), bool(trained.group("calibration"))
    with naming(manifest):
        normal = select(rows, about, "train_normal", rejected)["row"].to_numpy()
        unlabeled = select(rows, about, "train_unlabeled", rejected)["row"].to_numpy()
        reference = select(rows, about, "calibration", rejected)["row"].to_numpy() if known else normal
    if not known:
        reference = evenly(reference, SCALE_IMAGES)
    hashes = [sha256(path) for path in models]
    parts = packed[reference], packed[evenly(unlabeled, LIMIT_IMAGES)]
    save_model(combined([*members.values()], hashes, *parts), model)
    with atomic(card) as temporary:
        temporary.write_text(read_card(model), encoding="utf-8")
