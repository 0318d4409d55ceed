"""A model adapted to a site: the same scores, other calls, percentiles and drift."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import load_file

from amae.cli import main
from amae.mae.checkpoints import read_safetensors, write_tensors
from amae.predict.recalibrate import normal_files
from amae.runtime.errors import InputError

SCORES = ["detector", "stage1", "inter", "mask_rec", "error_ratio", "error_ratio_patch"]


def run(*words: object) -> int:
    """Run a command on the CPU."""
    return main([*map(str, words), "--device", "cpu"])


def predicted(model: Path, output: Path, *given: Path | str) -> pd.DataFrame:
    """The table of `amae predict` at a specificity of 0.9."""
    assert run("predict", *given, "--model", model, "--output", output, "--specificity", "0.9") == 0
    return pd.read_csv(output / "predictions.csv", keep_default_na=False).set_index("file")


@pytest.fixture(scope="module")
def site(finished, tmp_path_factory) -> Path:
    """A folder of 24 radiographs."""
    folder = tmp_path_factory.mktemp("site")
    for path in sorted((finished.results / "raw/dicom").glob("*.dcm"))[:24]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def model(finished, tmp_path_factory) -> Path:
    """The exported model, as if its training images had been brighter: a site's folder drifts from them."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    about, tensors = read_safetensors(finished.results / "seed0/model.safetensors")
    tensors["training.intensity"] += 100
    write_tensors(tensors, path, about)
    return path


@pytest.fixture(scope="module")
def adapted(model, site) -> Path:
    """The model recalibrated on the site."""
    path = model.with_name("adapted.safetensors")
    assert run("recalibrate", model, site, "--recalibrated-model", path) == 0
    return path


def test_scores_flags_and_maps_stay_and_the_rest_follows_from_the_site(
    finished, model, adapted, site, tmp_path, capsys
):
    before = predicted(model, tmp_path / "before", finished.results / "raw/dicom")
    assert "Unlike the training images as a whole: mean grey level" in capsys.readouterr().err
    after = predicted(adapted, tmp_path / "after", finished.results / "raw/dicom")
    assert "Unlike" not in capsys.readouterr().err
    same = ["detector", "stage1", "flag", "reason", "map", "overlay", "reading"]
    assert before[same].equals(after[same])
    for name in before["map"]:
        assert (tmp_path / "before" / name).read_bytes() == (tmp_path / "after" / name).read_bytes()
    names = [path.name for path in site.iterdir()]
    normal = after.loc[[name for name in names if after.loc[name, "flag"] == ""]]
    every = predicted(adapted, tmp_path / "every", finished.results / "raw/dicom", "--score", "inter")
    for name in SCORES:
        site_scores = every.loc[normal.index, name]
        expected = [round((site_scores <= value).mean() * 100, 2) for value in every[name]]
        np.testing.assert_allclose(every[f"{name}_percentile"].astype(float), expected, rtol=0, atol=0.011)
    threshold = np.sort(normal["detector"])[int(np.ceil(0.9 * (len(normal) + 1))) - 1]
    called = after[after["flag"] == ""]
    assert (called["call"] == np.where(called["detector"] > threshold, "abnormal", "normal")).all()
    assert (after["call"] != before["call"]).any()
    page = (tmp_path / "after/summary.html").read_text()
    assert f", by {len(normal)} normal images of the recalibration: of new images like these " in page


def test_networks_and_training_statistics_are_the_same_bytes(model, adapted):
    old, new = load_file(model), load_file(adapted)
    changed = {name for name in old if not np.array_equal(old[name], new[name])}
    assert changed == {f"calibration.{name}" for name in SCORES}
    added = {f"original.{name}" for name in SCORES} | {f"site.{name}" for name in ("intensity", "coverage", "distance")}
    assert set(new) - set(old) == added
    for name in SCORES:
        assert np.array_equal(new[f"original.{name}"], old[f"calibration.{name}"])


def test_the_card_has_the_old_and_the_new(model, adapted, site, tmp_path, capsys):
    again = tmp_path / "again.safetensors"
    (tmp_path / "few").mkdir()
    for path in sorted(site.iterdir())[:5]:
        shutil.copy(path, tmp_path / "few")
    assert run("recalibrate", adapted, tmp_path / "few", "--recalibrated-model", again) == 0
    err = capsys.readouterr().err
    assert "its recalibration on 2" in err and "is replaced" in err
    kept = 5 - err.count("left out: ")
    needs = f"a specificity of 0.95 needs 19 normal images of the recalibration, and the model has {kept}"
    assert f"warning: detector calls no image: {needs}" in err
    cards = []
    for path in (model, adapted, again):
        assert main(["inspect", str(path)]) == 0
        cards.append(capsys.readouterr().out)
    old = cards[0].partition("## Operating points\n\n")[2].partition("\n## What")[0]
    assert old in cards[1] and old in cards[2]  # the table of the model's own run
    assert "Recalibrated on" not in cards[0] and f"Recalibrated on {kept} normal images of a site" in cards[2]
    assert "Before, on 10 normal images held out of the run" in cards[2]
    assert not [path.name for path in site.iterdir() if path.stem in cards[1]]  # it names no image


def test_a_model_without_calibration_images_gets_some(finished, site, tmp_path, capsys):
    about, tensors = read_safetensors(finished.results / "seed0/model.safetensors")
    bare = {name: tensor for name, tensor in tensors.items() if not name.startswith("calibration.")}
    images = about["images"] | {"calibration": 0}
    write_tensors(bare, tmp_path / "bare", about | {"images": images, "auc_p": {}, "implied_auc": {}})
    assert run("recalibrate", tmp_path / "bare", site, "--recalibrated-model", tmp_path / "new.safetensors") == 0
    assert main(["inspect", str(tmp_path / "new.safetensors")]) == 0
    assert "Before, on 0 normal images" in capsys.readouterr().out
    assert set(predicted(tmp_path / "new.safetensors", tmp_path / "out", site)["call"]) >= {"normal", "abnormal"}


def test_what_cannot_stand_for_normal_images_is_listed_and_left_out(model, site, tmp_path, capsys):
    files = sorted(site.iterdir())[:3]
    folder = tmp_path / "images"
    folder.mkdir()
    for path in files:
        shutil.copy(path, folder)
    shutil.copy(files[0], folder / "z copy.dcm")
    (folder / "text.png").write_text("no image")
    Image.fromarray(np.tile(np.repeat(np.uint8([0, 255]), 4), (300, 40))).save(folder / "stripes.png")
    rows = [f"images/{path.name},normal" for path in [*files, folder / "z copy.dcm", folder / "text.png"]]
    rows += ["images/stripes.png,0", "images/other.dcm,abnormal", "images/unknown.dcm,", "images/gone.dcm,Normal"]
    (tmp_path / "table.csv").write_text("\n".join(["Path,label", *rows]) + "\n")
    assert run("recalibrate", model, tmp_path / "table.csv", "--recalibrated-model", tmp_path / "new.safetensors") == 0
    err = capsys.readouterr().err
    for line in (
        f"images/z copy.dcm: the same pixels as images/{files[0].name}",
        "images/text.png: not a DICOM, PNG",
        "images/stripes.png: unlike the training images",
        "images/other.dcm: labelled abnormal",
        "images/unknown.dcm: without label",
        "images/gone.dcm: no such file",
    ):
        assert f"left out: {line}" in err
    assert f"{tmp_path / 'new.safetensors'}: 3 normal images of the recalibration, 6 left out" in err
    assert read_safetensors(tmp_path / "new.safetensors")[0]["recalibration"]["left_out"] == 6


def test_images_of_other_splits_are_left_out_and_a_table_without_labels_is_reported(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("path,split\na,train_normal\nb,calibration\nc,\nd,test\n")
    files, left_out = normal_files(tmp_path / "t.csv", tmp_path / "out")
    assert list(files) == ["b", "c"] and left_out == {"a": "of the split train_normal", "d": "of the split test"}
    assert "t.csv: no column label: all 4 images are taken as normal" in capsys.readouterr().err


def test_further_images_of_a_patient_are_counted(tmp_path, capsys):
    rows = ["a,p,0", "b,p,0", "c,,0", "d,,0", "e,p,1", ",,", "f,q,0", "g,p,0"]
    (tmp_path / "table.csv").write_text("path,Patient ID,label\n" + "\n".join(rows) + "\n")
    assert len(normal_files(tmp_path / "table.csv", tmp_path / "out")[0]) == 6
    err = capsys.readouterr().err
    assert "table.csv: 2 images are further ones of a patient" in err and "1 rows without any entry are left out" in err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,label\na.dcm,ill\n", "row 2: label is 'ill'; expected normal, abnormal, 0, 1 or empty"),
        ("path\na.dcm\n\na.dcm\n", "row 4: found path 'a.dcm' once more"),
        ("file\na.dcm\n", "missing column path"),
        ("path,label\na.dcm,1\n", "found no row that is labelled normal"),
    ],
)
def test_wrong_tables_are_refused(tmp_path, content, message):
    (tmp_path / "table.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        normal_files(tmp_path / "table.csv", tmp_path / "out")


def test_wrong_arguments_are_refused(model, site, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/text.png").write_text("no image")
    (there := tmp_path / "there.safetensors").touch()
    wrong = {
        f"{there}: exists": (model, site, there),
        "gone: no such file or folder": (model, tmp_path / "gone", tmp_path / "new.safetensors"),
        "found no folder and no table": (model, there, tmp_path / "new.safetensors"),
        "expected the name of a file to write that ends in .safetensors": (model, site, tmp_path / "new.csv"),
        "none of 1 images is left": (model, tmp_path / "empty", tmp_path / "new.safetensors"),
    }
    for message, (which, given, made) in wrong.items():
        assert run("recalibrate", which, given, "--recalibrated-model", made) == 2
        assert message in capsys.readouterr().err
    assert not [*tmp_path.glob("new*")]
