"""How many unlabeled images each method needs, and how many of them abnormal.

`python -m benchmarks.sizes FOLDER [METHOD ...] [--seed N] [--configfile FILE]`

FOLDER is that of a data set whose hidden labels are known, as `uv run snakemake data` and the rule of its weights leave
it. T_u is cut to fewer images at a stated anomaly ratio; T_n, f_0 and the test images stay. No training reads a label;
they choose the images here. The seed is that of this choice and of the training. Writes benchmarks/sizes.csv row by
row, and leaves out what it contains.
"""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from amae.data.manifest import read_manifest
from amae.runtime.files import read_csv, write_csv
from amae.sources.repartition import unlabeled_counts
from benchmarks.contamination import ROOT, STAGE2, arguments, measure

TABLE = ROOT / "benchmarks/sizes.csv"
SIZES, RATIOS = (25, 50, 100, 200, 400, 1000), (0.6, 0.3, 0.1)
METHODS = ("knn_ratio", "gaussian_ratio", "pu_probe", "two_distributions", "detector")


def with_fewer_unlabeled(
    manifest: pd.DataFrame, labels: pd.Series, count: int, ratio: float, seed: int
) -> pd.DataFrame | None:
    """The manifest with T_u cut to `count` images of this anomaly ratio; None where it has too few.

    `labels`: normal or abnormal by image_id. At one ratio the images of a smaller T_u are those of a greater one.
    """
    unlabeled = np.flatnonzero(manifest["split"] == "train_unlabeled")
    truth = manifest["image_id"].iloc[unlabeled].map(labels).to_numpy()
    rng, kept = np.random.default_rng(seed), []
    for label, number in unlabeled_counts(count, ratio).items():
        rows = rng.permutation(unlabeled[truth == label])
        if number > len(rows):
            return None
        kept += list(rows[:number])
    return manifest.drop(index=manifest.index[np.setdiff1d(unlabeled, kept)]).reset_index(drop=True)


def main() -> None:
    """Measure what the table lacks."""
    given, config = arguments(__doc__, METHODS)
    rows = read_csv(TABLE).to_dict("records") if TABLE.exists() else []
    known = {(row["data"], row["method"], row["seed"], row["unlabeled"], row["anomaly_ratio"]) for row in rows}
    manifest = read_manifest(given.folder / "manifest.csv")
    labels = read_csv(given.folder / "hidden_labels.csv").set_index("image_id")["label"]
    for method in given.methods:
        for ratio in RATIOS:
            for count in SIZES:
                about = {"data": given.folder.name, "seed": str(given.seed)}
                about |= {"unlabeled": str(count), "anomaly_ratio": str(ratio)}
                row = STAGE2[0] if method == "stage2" else method
                fewer = with_fewer_unlabeled(manifest, labels, count, ratio, given.seed)
                if fewer is None or (about["data"], row, *list(about.values())[1:]) in known:
                    continue
                with tempfile.TemporaryDirectory() as scratch:
                    write_csv(fewer, path := Path(scratch) / "manifest.csv")
                    for row, value in measure(method, path, given.folder, given.seed, config).items():
                        rows.append({"method": row, **about, "auc": f"{value:.3f}"})
                        print(rows[-1], flush=True)
                write_csv(pd.DataFrame(rows), TABLE)


if __name__ == "__main__":
    main()
