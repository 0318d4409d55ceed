"""What the true labels of T_u would give: `python -m benchmarks.ceiling FOLDER [--seed N]`.

FOLDER is that of a data set whose hidden labels are all known. The networks of the detector are trained to tell
abnormal from normal images of T_n and T_u, in place of T_u from T_n, as in a last round, without folds. This is a bound
for the detector, no method: the labels are read here, and nowhere in `amae`. Prints the AUC and average precision on
the test images, over all and by view.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import average_precision_score

from amae.data.packed import load_splits
from amae.data.resize import resize
from amae.evaluation.metrics import auc
from amae.method.detector import fit_networks, make_network, score_maps
from amae.method.training import Resume
from amae.runtime.files import read_csv
from amae.settings import DetectorSettings


def main() -> None:
    """Train with the true labels, and score the test images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    packed = (given.folder / name for name in ("manifest.csv", "images.npy", "images.csv"))
    chosen, images = load_splits(*packed, "train_normal", "train_unlabeled", "test")
    hidden = read_csv(given.folder / "hidden_labels.csv").set_index("image_id")["label"]
    known = chosen["label"].where(chosen["split"] != "train_unlabeled", chosen["image_id"].map(hidden))
    if not known.isin(["normal", "abnormal"]).all():
        raise SystemExit(f"{given.folder}: {(~known.isin(['normal', 'abnormal'])).sum()} images without a label")
    abnormal, test = (known == "abnormal").to_numpy(), (chosen["split"] == "test").to_numpy()
    settings = DetectorSettings()
    small = resize(torch.tensor(images[chosen["row"].to_numpy()]), settings.image_size)
    with tempfile.TemporaryDirectory() as scratch:
        resume = Resume(Path(scratch) / "ceiling.pt", "")
        every = [np.ones(int((~test).sum()), bool)] * settings.folds
        trained = small[torch.from_numpy(~test)], abnormal[~test], every
        networks, _ = fit_networks(*trained, None, settings, given.seed, resume, make_network)
    scores, truth = score_maps(networks, small[torch.tensor(test)]).mean((1, 2)).numpy(), abnormal[test].astype(int)
    views = chosen.loc[test, "view"].to_numpy()
    print(f"seed {given.seed}: AUC {auc(truth, scores):.3f}, AP {average_precision_score(truth, scores):.3f}")
    for view in sorted({*views} - {""}):
        print(f"within {view}: AUC {auc(truth[views == view], scores[views == view]):.3f}")


if __name__ == "__main__":
    main()
