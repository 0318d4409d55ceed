"""The whole workflow on the tiny configuration: what it leaves behind, and whether its tables agree with each other."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT
from PIL import Image
from safetensors import safe_open
from sklearn.metrics import average_precision_score, roc_auc_score

from amae.runtime.files import read_csv, sha256

SCORES = ["stage1", "inter", "mask_rec", "error_ratio", "error_ratio_patch", "detector"]
PER_SEED = [
    "comparators/detector_Y/history.csv",
    "comparators/detector_Y/run.json",
    "comparators/detector_Y/scores.csv",
    "comparators/detector_Y/state.safetensors",
    "gallery.png",
    "gallery/.snakemake_timestamp",  # Snakemake's own mark in a folder that is an output
    "gallery/1_most_anomalous.png",
    "gallery/2_least_anomalous.png",
    "gallery/3_normal_scored_highest.png",
    "gallery/4_abnormal_scored_lowest.png",
    "histograms.png",
    "metrics.csv",
    "metrics.html",
    "model.md",
    "model.safetensors",
    "module_A/history.csv",
    "module_A/mae.safetensors",
    "module_A/run.json",
    "module_B/history.csv",
    "module_B/mae.safetensors",
    "module_B/run.json",
    "pseudo_label_purity.csv",
    "pseudo_labels.csv",
    "pseudo_labels.png",
    "reconstruction/maps.npz",
    "reconstruction/run.json",
    "reconstruction/scores.csv",
    "scores.csv",
    "sensitivity.png",
    "separation.csv",
    "separation.html",
    "stage1/head.safetensors",
    "stage1/history.csv",
    "stage1/run.json",
    "stage1/scores.csv",
    "training.png",
]
PER_DATASET = [
    "candidates.csv",
    "contact_sheet.png",
    "hidden_labels.csv",
    "images.csv",
    "images.npy",
    "lung_images.npy",
    "lungs.csv",
    "lungs.npy",
    "lungs.png",
    "mae.safetensors",
    "manifest.csv",
    "notes.csv",
    "overview.html",
    "precision_recall.png",
    "pretraining/history.csv",
    "pretraining/mae.safetensors",
    "pretraining/run.json",
    "raw/boxes.csv",
    "raw/labels.csv",
    "rejected.csv",
    "roc.png",
    "summary.csv",
    "summary.html",
]
RECORDS = {
    "pretraining/run.json": ("pretrain", None),
    "seed0/stage1/run.json": ("stage1", None),
    "seed0/module_A/run.json": ("modules", "A"),
    "seed0/module_B/run.json": ("modules", "B"),
    "seed0/reconstruction/run.json": ("reconstruction", None),
}


def settings():
    """The settings of the tiny configuration, by section."""
    return yaml.safe_load((ROOT / "tests/tiny.yaml").read_text())["presets"]["tiny"]


def test_everything_is_there_and_nothing_is_left_over(finished):
    files = {path.relative_to(finished.results).as_posix() for path in finished.results.rglob("*") if path.is_file()}
    made = {name for name in files if not re.search(r"^logs/|^raw/dicom/|\brecords/", name)}
    assert made == {*PER_DATASET, *(f"seed0/{name}" for name in PER_SEED)}
    assert len(list((finished.results / "raw/dicom").glob("*.dcm"))) == 70


def test_a_second_run_has_nothing_to_do(finished):
    status, output = finished.run()
    assert status == 0
    assert "Nothing to be done" in output


def test_logs_and_benchmarks_mirror_the_jobs(finished):
    logs = finished.results / "logs"
    jobs = {path.relative_to(logs).with_suffix("").as_posix() for path in logs.rglob("*.log")}
    assert jobs == {path.relative_to(logs).as_posix()[: -len(".benchmark.tsv")] for path in logs.rglob("*.tsv")}
    assert {"convert_images", "seed0/train_module_A", "seed0/train_module_B"} <= jobs
    assert "device: CPU, 1 thread(s)" in (logs / "seed0/train_stage1.log").read_text()


def test_the_manifest_hides_the_labels_of_the_unlabeled_images(finished):
    manifest = read_csv(finished.results / "manifest.csv")
    assert manifest["split"].value_counts().to_dict() == {
        "train_normal": 10,
        "train_unlabeled": 10,
        "test": 20,
        "calibration": 10,
    }
    labels = {split: part["label"].value_counts().to_dict() for split, part in manifest.groupby("split")}
    assert labels == {
        "train_normal": {"normal": 10},
        "train_unlabeled": {"": 10},
        "test": {"normal": 10, "abnormal": 10},
        "calibration": {"normal": 10},
    }
    unlabeled = manifest[manifest["split"] == "train_unlabeled"]
    seen = {"image_id", "path", "split", "patient_id", "view", "sex", "age"}
    assert (unlabeled[[column for column in manifest if column not in seen]] == "").all(axis=None)
    hidden = read_csv(finished.results / "hidden_labels.csv")
    assert hidden["image_id"].tolist() == unlabeled["image_id"].tolist()
    assert hidden["label"].value_counts().to_dict() == {"abnormal": 6, "normal": 4}
    raw = read_csv(finished.results / "raw/labels.csv").set_index("image_id")
    assert (raw.loc[hidden["image_id"], "label"].to_numpy() == hidden["label"]).all()


def test_images_and_masks_are_those_of_the_tables(finished):
    tables = ("manifest.csv", "candidates.csv", "images.csv", "lungs.csv")
    manifest, candidates, index, lungs = (read_csv(finished.results / name)["image_id"].tolist() for name in tables)
    assert index == lungs == candidates
    assert set(manifest) < set(candidates)
    images = np.load(finished.results / "images.npy")
    assert (images.shape, images.dtype) == ((len(index), 32, 32), np.uint8)
    assert images.std(axis=(1, 2)).min() > 10
    assert np.load(finished.results / "lungs.npy").shape == (len(index), 256, 32)
    assert read_csv(finished.results / "rejected.csv").empty


def test_pseudo_labels_follow_from_the_scores_of_stage_1(finished):
    seed = finished.results / "seed0"
    stage1, pseudo = read_csv(seed / "stage1/scores.csv"), read_csv(seed / "pseudo_labels.csv")
    columns = "image_id p_normal p_abnormal predicted confidence threshold kept pseudo_label"
    assert list(pseudo) == columns.split()
    of_unlabeled = stage1[stage1["split"] == "train_unlabeled"].reset_index(drop=True)
    shared = ["image_id", "p_normal", "p_abnormal"]
    assert pseudo[shared].equals(of_unlabeled[shared])
    assert ((pseudo["kept"] == "True") == (pseudo["pseudo_label"] != "")).all()
    hidden = read_csv(seed.parent / "hidden_labels.csv").set_index("image_id")["label"]
    purity = read_csv(seed / "pseudo_label_purity.csv").set_index("class")
    for name in ("normal", "abnormal"):
        kept = pseudo.loc[pseudo["pseudo_label"] == name, "image_id"]
        assert int(purity.loc[name, "kept"]) == len(kept) > 0
        assert float(purity.loc[name, "purity"]) == pytest.approx((hidden[kept] == name).mean())


def test_metrics_are_those_of_the_scores(finished):
    scores = read_csv(finished.results / "seed0/scores.csv")
    metrics = read_csv(finished.results / "seed0/metrics.csv")
    summary = read_csv(finished.results / "summary.csv")
    assert list(scores) == ["image_id", "label", "view", *SCORES]
    manifest = read_csv(finished.results / "manifest.csv")
    test = manifest.loc[manifest["split"] == "test", ["image_id", "label", "view"]]
    assert scores[["image_id", "label", "view"]].equals(test.reset_index(drop=True))
    abnormal = scores["label"] == "abnormal"
    overall, means = (table[table["group"] == "all"].set_index("score") for table in (metrics, summary))
    assert list(overall.index) == list(means.index) == SCORES
    for name in SCORES:
        values = scores[name].astype(float)
        expected = {"auc": roc_auc_score(abnormal, values), "ap": average_precision_score(abnormal, values)}
        for metric, value in expected.items():
            row = overall.loc[name].drop(["group"]).astype(float)
            assert row[metric] == pytest.approx(value, abs=1e-12)
            assert row[f"{metric}_low"] <= row[metric] <= row[f"{metric}_high"]
            assert float(means.loc[name, f"{metric}_mean"]) == pytest.approx(value, abs=1e-12)
    stage1 = read_csv(finished.results / "seed0/stage1/scores.csv").set_index("image_id")["p_abnormal"]
    assert (scores["stage1"].to_numpy() == stage1[scores["image_id"]].to_numpy()).all()


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_says_how_its_result_was_made(finished, name):
    record = json.loads((finished.results / name).read_text())
    section, module = RECORDS[name]
    expected = settings()[section]
    if section == "pretrain":
        expected = [settings()["mae"], expected]
    elif module:
        expected = {"module": module, **expected}
    assert record["settings"] == expected
    assert record["seed"] == 0
    assert {"manifest", "images", "index"} <= record["inputs"].keys()
    for file in record["inputs"].values():
        assert "hidden" not in file["path"]
        assert file["sha256"] == sha256(finished.folder / file["path"])
    assert record["device"]["type"] == "cpu"
    assert record["versions"].keys() >= {"python", "amae", "torch", "safetensors", "numpy"}
    assert {"code", "started"} <= record.keys()
    assert min(record[key] for key in ("wall_seconds", "images_per_second", "peak_memory_mib")) > 0


@pytest.mark.parametrize("part", ["pretraining", "seed0/stage1", "seed0/module_A", "seed0/module_B"])
def test_histories_have_a_row_for_each_epoch(finished, part):
    history = pd.read_csv(finished.results / part / "history.csv")
    assert list(history) == ["epoch", "step", "lr", "loss"]
    assert history["epoch"].tolist() == [1, 2]
    assert np.isfinite(history).all(axis=None)


def test_modules_are_adapted_from_the_same_weights(finished):
    files = ["mae.safetensors", "seed0/module_A/mae.safetensors", "seed0/module_B/mae.safetensors"]
    weights = []
    for name in files:
        with safe_open(finished.results / name, "numpy") as file:
            weights.append({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
    start, a, b = weights
    assert start.keys() == a.keys() == b.keys()
    key = "blocks.0.mlp.fc1.weight"
    assert 0 < np.abs(a[key] - start[key]).max() < 0.01
    assert 0 < np.abs(b[key] - start[key]).max() < 0.01
    assert not np.array_equal(a[key], b[key])


def test_maps_hold_every_test_image(finished):
    scores = read_csv(finished.results / "seed0/scores.csv")
    with np.load(finished.results / "seed0/reconstruction/maps.npz") as maps:
        assert maps["image_id"].tolist() == scores["image_id"].tolist()
        assert maps["mu_a"].shape == maps["mu_b"].shape
        assert maps["hidden"].max() <= 4
        assert (maps["visible"].sum(axis=(1, 2)) == 4).all()  # a quarter of 16 patches


def test_pictures_open(finished):
    pictures = sorted(finished.results.rglob("*.png"))
    assert len(pictures) == 13
    for path in pictures:
        with Image.open(path) as picture:
            picture.load()
            assert min(picture.size) >= 200, path
            extrema = picture.convert("L").getextrema()
        assert extrema[1] - extrema[0] > 100, path


def test_the_report_is_one_file_with_every_result(finished, tmp_path):
    status, output = finished.run("--report", str(tmp_path / "report.html"))
    assert status == 0, output
    report = (tmp_path / "report.html").read_text()
    for text in ("1_most_anomalous.png", "metrics.html", "3 Reconstructions", "worst mistakes", "max-height"):
        assert text in report, text
    first = report.partition("workflow_desc = ")[2].partition("\n")[0]  # the page that is seen at first
    metrics = pd.read_csv(finished.results / "seed0/metrics.csv").query("group == 'all'").set_index("score")
    assert f"{metrics.loc['inter', 'auc']:.3f} (" in first and "preset" in first and "trained by" in first


def test_the_configuration_of_the_run_is_in_the_results(finished):
    made = yaml.safe_load((finished.results.parent / "config.yaml").read_text())
    tiny = yaml.safe_load((ROOT / "tests/tiny.yaml").read_text())
    assert made["results"] == "out" and made["presets"]["tiny"] == tiny["presets"]["tiny"]
    assert made["gallery"] == tiny["gallery"] and made["predict"]["specificity"] == 0.95  # of config/config.yaml


@pytest.mark.long
def test_every_target_of_the_paper_in_miniature(finished, tmp_path):
    project = finished.copy(tmp_path / "project")
    status, output = project.run("paper")
    assert status == 0, output
    before = {path.relative_to(finished.results): path.read_bytes() for path in finished.results.rglob("*.csv")}
    assert before == {path: (project.results / path).read_bytes() for path in before}  # what was there was not remade
    table = pd.read_csv(project.results / "tables/table2.csv")
    rows = {(row.method, row.protocol) for row in table.itertuples()}
    assert rows >= {(name, p) for name in ("DDAD-AE", "AnatPaste") for p in "NY"}
    assert rows >= {("AMAE stage 1", "N"), ("AMAE stage 2", "Y"), ("AMAE Mask Rec.", "Y"), ("Nearest neighbours", "N")}
    metrics = pd.read_csv(project.results / "seed0/metrics.csv").query("group == 'all'").set_index("score")
    stage2 = table.query("method == 'AMAE stage 2'")
    assert stage2["auc"].item() == pytest.approx(100 * metrics.loc["inter", "auc"])
    intervals = table.query("method == 'AMAE stage 2'")[["auc_low", "auc_high"]].to_numpy()[0]
    assert intervals == pytest.approx(100 * metrics.loc["inter", ["auc_low", "auc_high"]].to_numpy(float))
    whose = table.set_index("method")["taxonomy"]
    assert whose[["Nearest neighbours", "Positive-unlabeled probe", "Error ratio"]].eq("ours").all()
    tables = {n: pd.read_csv(project.results / f"tables/{n}.csv") for n in ("masks_ablation", "sensitivity", "costs")}
    scores = ("mask_rec", "error_ratio", "error_ratio_patch")
    for name, variants in (("masks_ablation", ["test_masks_2"]), ("sensitivity", ["without_pseudo_labels"])):
        expected = {"AMAE stage 2"} | {f"{v}: {score}" for v in ["main", *variants] for score in scores}
        assert set(tables[name]["method"]) >= expected | {f"{v}: inter" for v in variants}
    assert set(tables["costs"]["method"]) >= {"Pre-training, once", "AMAE stage 1", "AMAE Mask Rec.", "DDAD-AE (Y)"}
    for name in ("table2", "masks_ablation", "sensitivity", "costs", "audit"):
        text = (project.results / f"tables/{name}.md").read_text().replace("\\_", "_")
        preset = "preset tiny (own: presets.tiny of config.yaml in the folder of results)"
        settings = f"data set of kind simulated, {preset}, weights pretrain"
        assert f"Not the paper's settings: {settings}" in text
        assert "Under protocol N too, f_0 was pre-trained on T_n and T_u" in text
    for name in ("figures/figure3a.png", "figures/figure3b.png", "figures/figure3c.png", "seed0/localisation.png"):
        with Image.open(project.results / name) as picture:
            picture.load()
    assert len(pd.read_csv(project.results / "seed0/localisation.csv")) > 0
