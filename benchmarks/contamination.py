"""What abnormal images in T_n cost each method.

`python -m benchmarks.contamination FOLDER [METHOD ...] [--seed N] [--configfile FILE]`

FOLDER is that of a data set of known labels, as `uv run snakemake data` and the rule of its weights leave it. A share
of T_n is replaced by abnormal images of the training pool that are in no set: never test images, never those of T_u.
No training reads a label; they choose the images here. The seed is that of this choice and of the training. Writes
benchmarks/contamination.csv row by row, and leaves out what it contains.
"""

import argparse
import shlex
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from snakemake.utils import update_config

from amae.cli import main as amae
from amae.comparators.methods import column, method_of
from amae.data.manifest import read_manifest
from amae.evaluation.metrics import auc
from amae.plan.compared import method_settings
from amae.plan.variants import options_of
from amae.runtime.errors import InputError
from amae.runtime.files import read_csv, write_csv

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "benchmarks/contamination.csv"
SHARES = (0, 1, 5, 10, 20)  # percent of T_n
STAGE2 = ("inter", "error_ratio")  # scores of one run of both stages
METHODS = ("knn", "mahalanobis", "stage1", "knn_ratio", "gaussian_ratio", "pu_probe", "detector", "stage2")


def contaminated(manifest: pd.DataFrame, pool: pd.DataFrame, percent: float, seed: int) -> pd.DataFrame:
    """The manifest with so much of T_n replaced by images of `pool`, rows of the same columns, as if they were normal.

    A greater share keeps the images of a smaller one. Raises InputError for a pool that is too small, or that has an
    image of the manifest.
    """
    normal = np.flatnonzero(manifest["split"] == "train_normal")
    count = round(len(normal) * percent / 100)
    if count > len(pool) or pool["image_id"].isin(manifest["image_id"]).any():
        raise InputError(f"found {len(pool)} abnormal images, expected {count} or more that are in no set")
    rng = np.random.default_rng(seed)
    out, into = rng.permutation(normal)[:count], rng.permutation(len(pool))[:count]
    added = pool.iloc[into].assign(split="train_normal", label="normal")
    return pd.concat([manifest.drop(index=manifest.index[out]), added], ignore_index=True)


def unused_abnormal(folder: Path, manifest: pd.DataFrame) -> pd.DataFrame:
    """Converted abnormal images of the training pool that are in no set; T_u at another ratio would have them."""
    candidates = read_manifest(folder / "candidates.csv")
    labels = read_csv(folder / "raw/labels.csv", ["image_id", "label"]).set_index("image_id")["label"]
    unused = (candidates["split"] == "train_unlabeled") & ~candidates["image_id"].isin(manifest["image_id"])
    return candidates[unused & (candidates["image_id"].map(labels) == "abnormal")]


def measure(method: str, manifest: Path, folder: Path, seed: int, config: dict[str, Any]) -> dict[str, float]:
    """AUC by score of a method on the test images, trained at the sizes of the configuration's preset.

    `stage2`: the scores STAGE2 of both stages of AMAE.
    """
    packed = f"--manifest {manifest} --images {folder}/images.npy --index {folder}/images.csv --device cpu"
    out, weights = manifest.parent, f"--weights {folder}/mae.safetensors"
    trained = f"--history {out}/history.csv --record {out}/run.json --seed {seed}"
    names = {}
    if method in ("stage1", "stage2"):
        options = options_of(config, "", "stage1")
        _run(f"train-stage1 {packed} {weights} --lungs {folder}/lungs.npy --head {out}/state {trained} {options}")
        _run(f"score-stage1 {packed} {weights} --head {out}/state --stage1-scores {out}/scores.csv")
        names = {"stage1": "p_abnormal"}
    if method == "stage2":
        _run(f"export-pseudo-labels --unlabeled-scores {out}/scores.csv --labels {out}/labels.csv")
        options = f"--labels {out}/labels.csv {trained} {options_of(config, '', 'modules')}"
        for module in "AB":
            _run(f"train-module --module {module} {packed} {weights} --trained-module {out}/{module} {options}")
        options = (
            f"--maps {out}/maps.npz --record {out}/run.json --seed {seed} {options_of(config, '', 'reconstruction')}"
        )
        modules = f"--model-a {out}/A --model-b {out}/B --reconstruction-scores {out}/scores.csv"
        _run(f"reconstruct {packed} {modules} {options}")
        names = {name: name for name in STAGE2}
    elif method != "stage1":
        about = method_of(method)
        protocol = min(about.protocols)  # N, where a method can follow it: T_u has abnormal images by itself
        needed = weights * bool(about.needs) + f" --lungs {folder}/lungs.npy" * ("lungs" in about.needs)
        options = f"--protocol {protocol} --scores {out}/scores.csv {method_settings(config, '', method)}"
        _run(f"compare {method} {packed} {needed} --state {out}/state {trained} {options}")
        names = {method: column(method, about.protocols[protocol])}
    tested = read_manifest(manifest).query("split == 'test'").set_index("image_id")["label"]
    scores = read_csv(out / "scores.csv").set_index("image_id").loc[tested.index]
    truth = (tested == "abnormal").to_numpy(int)
    return {row: auc(truth, scores[name].astype(float).to_numpy()) for row, name in names.items()}


def _run(words: str) -> None:
    if amae(shlex.split(words)):
        raise SystemExit(f"failed: amae {words}")


def arguments(about: str, methods: tuple[str, ...]) -> tuple[argparse.Namespace, dict[str, Any]]:
    """What the command line of such a benchmark asks for, and the configuration. `about`: the module's docstring."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("methods", nargs="*", default=methods, metavar="METHOD")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--configfile", type=Path, help="settings that replace those of config/config.yaml")
    given = parser.parse_args()
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    if given.configfile:
        update_config(config, yaml.safe_load(given.configfile.read_text()))
    return given, config


def main() -> None:
    """Measure what the table lacks."""
    given, config = arguments(__doc__, METHODS)
    rows = read_csv(TABLE).to_dict("records") if TABLE.exists() else []
    known = {(row["method"], int(row["seed"]), int(row["percent"])) for row in rows}
    manifest = read_manifest(given.folder / "manifest.csv")
    pool = unused_abnormal(given.folder, manifest)
    for method in given.methods:
        for percent in SHARES:
            if (STAGE2[0] if method == "stage2" else method, given.seed, percent) in known:
                continue
            with tempfile.TemporaryDirectory() as scratch:
                path = Path(scratch) / "manifest.csv"
                write_csv(contaminated(manifest, pool, percent, given.seed), path)
                for row, value in measure(method, path, given.folder, given.seed, config).items():
                    rows.append({"method": row, "seed": given.seed, "percent": percent, "auc": f"{value:.3f}"})
                    print(rows[-1], flush=True)
            write_csv(pd.DataFrame(rows), TABLE)


if __name__ == "__main__":
    main()
