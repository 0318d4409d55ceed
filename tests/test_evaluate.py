"""`amae evaluate`: a model on a table of labelled images, against counts and metrics by other means."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from corpus import dataset as radiograph
from corpus import saved
from PIL import Image
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score
from small import write_model

from amae.cli import main
from amae.commands import evaluate as module
from amae.evaluation.calls import rates_of_calls
from amae.evaluation.statistics import proportion_interval
from amae.mae.checkpoints import read_safetensors, write_tensors
from amae.method.scores import DESCRIPTIONS

SIZE = 32
CALIBRATION = np.linspace(0.045, 0.053, 39)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model of random weights; its calibration scores are such that it calls some images and not others."""
    path = write_model(tmp_path_factory.mktemp("model") / "model.safetensors", SIZE, "minmax")
    about, tensors = read_safetensors(path)
    write_tensors(tensors | {"calibration.detector": torch.from_numpy(CALIBRATION)}, path, about)
    return path


@pytest.fixture
def table(tmp_path) -> Path:
    """24 pictures, a DICOM file of another modality, one that is no image, and a row without a label."""
    rng, rows = np.random.default_rng(0), []
    for number in range(24):
        pixels = rng.integers(0, 256, (SIZE, SIZE), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"i{number:02}.png")
        view, finding = ("PA", "nodule") if number < 22 else ("ap", "mass")
        rows.append([f"i{number:02}.png", number % 2, view, finding if number % 2 else "", f"p{number // 2}"])
    (tmp_path / "flagged.dcm").write_bytes(saved(radiograph(Modality="CT")))
    (tmp_path / "text.png").write_text("no image")
    rows += [["flagged.dcm", 0, "", "", ""], ["text.png", 1, "", "nodule", ""], ["i00.png ", "", "", "", ""]]
    rows[-1][0] = "missing.png"  # without a label it is left out, wherever it may be
    columns = ["Path", "label", "view", "finding", "patient_id"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "table.csv"


def run(model: Path, table: Path, *options: str) -> int:
    """The exit status of `amae evaluate`, which writes to the folder out beside the table."""
    words = ["evaluate", model, table, "--output", table.parent / "out", "--device", "cpu", *options]
    return main([str(word) for word in words])


def test_a_folder_that_a_person_made_stays_as_it_is(model, table):
    folder = table.parent / "out"
    folder.mkdir(mode=0o750)
    before = folder.stat()
    assert run(model, table) == 0
    assert (folder.stat().st_mode, folder.stat().st_ino) == (before.st_mode, before.st_ino)


def test_copies_are_counted(model, table, capsys):
    lines = table.read_text().splitlines()
    (table.parent / "copy.png").write_bytes((table.parent / "i03.png").read_bytes())
    table.write_text("\n".join([*lines, lines[4].replace("i03.png", "copy.png")]) + "\n")
    assert run(model, table) == 0
    assert "warning: 1 images are copies of others, so the intervals are too narrow" in capsys.readouterr().err


def test_scores_metrics_and_calls_of_a_table(model, table, capsys):
    assert run(model, table) == 0
    out, err = capsys.readouterr()
    assert {path.name for path in (table.parent / "out").iterdir()} == {
        *("scores.csv", "metrics.csv", "calls.csv", "operating_point.csv", "records")
    }
    found = {path.stem: pd.read_csv(path, keep_default_na=False) for path in (table.parent / "out").glob("*.csv")}
    scores, calls = found["scores"], found["calls"].set_index("image_id")
    assert scores["image_id"].tolist() == [*(f"i{number:02}" for number in range(24)), "flagged"]
    assert list(scores) == ["image_id", "label", "view", "finding", *DESCRIPTIONS]
    assert len(calls) == 26 and calls.loc["text", "reason"] == "not a DICOM, PNG, JPEG, TIFF or BMP file"
    assert "Modality is not radiography" in calls.loc["flagged", "flag"] and calls.loc["flagged", "call"] == ""
    threshold = CALIBRATION[37]  # the 38th of 39: 38 / (39 + 1) is 0.95
    values = scores.set_index("image_id")["detector"].drop("flagged").astype(float)
    assert (calls.loc[values.index, "call"] == np.where(values > threshold, "abnormal", "normal")).all()

    labels = (scores["label"] == "abnormal").to_numpy()
    metrics = found["metrics"].set_index(["group", "score"])
    assert set(metrics.index.get_level_values("group")) == {"all", "view=PA", "finding=nodule"}
    for name in DESCRIPTIONS:
        row = metrics.loc[("all", name)]
        assert row["auc"] == pytest.approx(roc_auc_score(labels, scores[name]))
        assert row["ap"] == pytest.approx(average_precision_score(labels, scores[name]))
        assert row["auc_low"] <= row["auc"] <= row["auc_high"]

    rates = found["operating_point"].set_index("group")
    whole = rates.loc["all"]
    assert 0 < whole["sensitivity"] < 1 and 0 < whole["specificity"] < 1
    assert (whole["normal"], whole["normal_flagged"], whole["abnormal"]) == (13, 1, 12)
    is_called = values > threshold
    assert whole["sensitivity"] == pytest.approx(is_called[1::2].mean())
    assert whole["specificity"] == pytest.approx(1 - is_called[::2].mean())
    assert rates.loc["view=PA", "normal_flagged"] == 0 and rates.loc["finding=nodule", "abnormal"] == 11

    assert "26 images: 25 scored, 1 not readable" in out and "13 normal images, 1 of them flagged" in out
    assert "1 rows without a label are left out" in err and "column 'Path' is read as path" in err
    assert "not measured by itself: finding=mass, view=AP" in err
    assert "12 patients have several images" in err


def test_rates_by_counting():
    """Every class, group and interval against counts by hand and the formula of Wilson."""
    calls = ["normal"] * 9 + ["abnormal", ""] + ["abnormal"] * 7 + ["normal"] * 3 + [""] * 2
    images = pd.DataFrame({"label": ["normal"] * 11 + ["abnormal"] * 12, "call": calls, "view": "PA"})
    found = rates_of_calls(images).set_index("group")
    assert list(found.index) == ["all", "view=PA"]
    row = found.loc["all"]
    assert (row["normal"], row["normal_flagged"], row["normal_correct"], row["specificity"]) == (11, 1, 9, 0.9)
    assert (row["abnormal"], row["abnormal_flagged"], row["abnormal_correct"], row["sensitivity"]) == (12, 2, 7, 0.7)
    z, n, share = norm.ppf(0.975), 10, 0.7
    middle, half = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    expected = [(middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)]
    assert row[["sensitivity_low", "sensitivity_high"]].tolist() == pytest.approx(expected)
    nothing = rates_of_calls(images.assign(call="")).iloc[0]
    assert nothing["normal_flagged"] == 11
    assert nothing[["sensitivity", "specificity", "sensitivity_low", "specificity_high"]].isna().all()


def test_the_interval_of_a_share_covers_it():
    rng = np.random.default_rng(0)
    ends = np.array([proportion_interval(count, 40) for count in rng.binomial(40, 0.85, 400)])
    assert 0.92 <= ((ends[:, 0] <= 0.85) & (ends[:, 1] >= 0.85)).mean() <= 0.99
    assert proportion_interval(0, 10)[0] == 0 and proportion_interval(10, 10)[1] == 1


def test_a_table_with_splits_is_evaluated_on_its_test_images(model, table, capsys):
    rows = pd.read_csv(table, keep_default_na=False, dtype=str).assign(split="test")
    rows.loc[:3, "split"] = "train_normal"
    rows.to_csv(table, index=False)
    assert run(model, table) == 0
    assert "4 rows of another split than test are left out" in capsys.readouterr().err
    assert len(pd.read_csv(table.parent / "out/calls.csv")) == 22


def test_a_score_that_calls_nothing_says_so(model, table, capsys):
    assert run(model, table, "--specificity", "0.99") == 0
    assert "operating_point.csv is not written: a specificity of 0.99 needs 99 normal images" in capsys.readouterr().err
    assert not (table.parent / "out/operating_point.csv").exists() and (table.parent / "out/metrics.csv").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "table.csv: no such file"),
        ("path,view\na.png,PA\n", "table.csv: missing column label"),
        ("path,label\n", "table.csv: the table has no rows"),
        ("path,label\ni00.png,0\n,1\n", "table.csv: row 3: path is empty"),
        ("path,label\ni00.png,0\ni01.png,ill\n", "table.csv: row 3: label is 'ill'; expected normal, abnormal"),
        ("path,label\ni00.png,0\ni00.png,1\n", "the same path in several rows: "),
        ("path,label\ni00.png,0\ni01.png,\n", "table.csv: of 1 labelled images 1 normal, 0 abnormal; expected some"),
        ("path,label\ni00.png,0\nno.png,1\n", "no.png (row 3)"),
        ("path,label,split\ni00.png,0,tset\ni01.png,1,\n", "row 2: split is 'tset'"),
        (
            "path,label,split\ni00.png,0,calibration\ni01.png,1,\n",
            "no row has the split test; without the column",
        ),
        ("path,label\ntext.png,0\ni01.png,1\n", "found 0 normal and 1 abnormal images"),
        ("path,label\ntext.png,0\nflagged.txt,1\n", "none of 2 images can be read: "),
    ],
)
def test_a_table_that_cannot_be_used_is_named(model, table, capsys, text, message):
    (table.parent / "flagged.txt").write_text("no image")
    table.unlink()
    if text:
        table.write_text(text)
    assert run(model, table) == 2
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("amae evaluate: error: ")]
    assert len(lines) == 1 and message in lines[0] and str(table) in lines[0]
    assert not (table.parent / "out").exists()


def test_a_used_folder_and_another_file_in_place_of_the_model(model, table, capsys):
    (table.parent / "out").mkdir()
    (table.parent / "out/other").touch()
    assert run(model, table) == 2
    assert "exists, and contains something" in capsys.readouterr().err
    (table.parent / "out/other").unlink()
    (other := table.with_name("other.csv")).write_text("a\n")
    assert run(other, table) == 2
    assert f"{other}: not a safetensors file" in capsys.readouterr().err
    assert run(model, table, "--score", "magic") == 2
    assert "--score: found 'magic', expected one of auto, detector" in capsys.readouterr().err


def test_few_images_and_a_perfect_auc_have_a_warning():
    scored = pd.DataFrame({"label": ["normal"] * 12 + ["abnormal"] * 12, "patient_id": ""})
    metrics = pd.DataFrame({"group": ["all", "all"], "auc": [1.0, 0.6]})
    (separated,) = module._limits(scored, metrics)
    assert separated == "an AUC of 0 or 1 (of 1 scores) has a bootstrap interval without width"
    assert module._limits(scored, metrics.assign(auc=0.6)) == []
    assert module._limits(scored.iloc[:16], metrics) == [
        "12 normal and 4 abnormal images: with fewer than 10 of a class an AUC and its interval say little"
    ]
