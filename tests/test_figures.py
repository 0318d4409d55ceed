"""Figures are files that open, are the same bytes every time, and cope with holes, boxes and single epochs."""

import base64
import re
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.integrate import trapezoid

from amae.figures.curves import (
    GRID,
    _precision_on_grid,
    _roc_on_grid,
    plot_precision_recall,
    plot_roc,
    plot_training,
)
from amae.figures.distributions import plot_histograms, plot_pseudo_labels, plot_sensitivity
from amae.figures.dots import plot_audit
from amae.figures.gallery import (
    BACKGROUND,
    BOX,
    HIDDEN_GREY,
    _masked,
    choose_examples,
    plot_gallery,
    title_rows,
    titled,
)
from amae.figures.report import write_first_page, write_table_page
from amae.runtime.errors import InputError

IMAGES = 40
PARTS = ("mean", "low", "high", "spread")


@pytest.fixture
def scores() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    labels = np.arange(IMAGES) % 2
    columns = {name: rng.normal(labels).astype(str) for name in ("stage1", "inter", "own_score")}
    ids = [f"image-{i:02}" for i in range(IMAGES)]
    return pd.DataFrame({"image_id": ids, "label": np.where(labels, "abnormal", "normal")} | columns)


@pytest.fixture
def pseudo() -> pd.DataFrame:
    p = np.linspace(0.02, 0.98, 50)
    kept = np.abs(p - 0.5) > 0.25
    label = np.where(p > 0.5, "abnormal", "normal")
    columns = {"p_abnormal": p, "predicted": label, "kept": kept, "pseudo_label": np.where(kept, label, "")}
    return pd.DataFrame({"image_id": [f"u{i}" for i in range(50)]} | columns).astype(str)


@pytest.fixture
def reconstructions(scores) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    mu_a, mu_b = rng.random((2, IMAGES, 16, 16)).astype(np.float16)
    mu_a[:, :4, :4] = mu_b[:, :4, :4] = np.nan
    ids = scores["image_id"].to_numpy(str)
    maps = {"image_id": ids, "mu_a": mu_a, "mu_b": mu_b, "visible": rng.random((IMAGES, 4, 4)) < 0.25}
    return {name: rng.integers(0, 255, (32, 32), np.uint8) for name in ids}, maps


def assert_same_file_twice(draw, folder: Path) -> np.ndarray:
    """Draw twice, under other settings the second time; returns the picture (rows, columns, 3)."""
    draw(folder / "one.png")
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 5}):
        draw(folder / "two.png")
    assert (folder / "one.png").read_bytes() == (folder / "two.png").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == ["one.png", "two.png"]
    with Image.open(folder / "one.png") as image:
        assert not {"Software", "Creation Time"} & set(image.info)
        picture = np.asarray(image.convert("RGB"))
    assert picture.std() > 5
    return picture


def has_colour(picture: np.ndarray, colour: str) -> bool:
    wanted = np.round(255 * np.array(matplotlib.colors.to_rgb(colour)))
    return bool((np.abs(picture - wanted).max(axis=-1) <= 2).any())


def test_training_curves(tmp_path):
    history = pd.DataFrame({"epoch": ["1", "2", "3"], "step": ["4", "8", "12"], "lr": "1e-4", "loss": ["3", "2", "1"]})
    histories = {"stage 1": history, "module A": history, "module B": history, "pre-training": history[:1]}
    assert_same_file_twice(lambda path: plot_training(histories, path), tmp_path)


@pytest.mark.parametrize("plot", [plot_roc, plot_precision_recall])
@pytest.mark.parametrize("seeds", [1, 3])
def test_curves(plot, seeds, scores, tmp_path):
    assert_same_file_twice(lambda path: plot([scores] * seeds, path), tmp_path)


def test_areas_under_the_drawn_curves_are_the_reported_ones(scores):
    labels, values = (scores["label"] == "abnormal").to_numpy(int), scores["inter"].to_numpy(float)
    pairs = values[labels == 1][:, None] > values[labels == 0]
    assert trapezoid(_roc_on_grid(labels, values), GRID) == pytest.approx(pairs.mean(), abs=0.01)
    order = np.argsort(-values)
    hits = labels[order] == 1
    expected = (np.cumsum(hits) / np.arange(1, IMAGES + 1))[hits].mean()
    assert trapezoid(_precision_on_grid(labels, values), GRID) == pytest.approx(expected, abs=0.01)


def test_histograms(scores, tmp_path):
    constant = scores.assign(inter="0.5")  # a collapsed score is a result too
    assert_same_file_twice(lambda path: plot_histograms(constant, path), tmp_path)
    beside = np.where(np.arange(IMAGES) % 3, 0.5, np.nextafter(0.5, 1)).astype(str)  # numbers without one between
    plot_histograms(scores.assign(inter=beside), tmp_path / "beside.png")
    plot_histograms(scores.assign(inter="1e20"), tmp_path / "large.png")


def test_sensitivity_by_finding(scores, tmp_path):
    found = np.where(scores["label"] == "abnormal", np.where(np.arange(IMAGES) % 4 == 1, "nodule", "effusion"), "")
    images = scores.astype(dict.fromkeys(("stage1", "inter", "own_score"), float)).assign(finding=found)
    assert_same_file_twice(lambda path: plot_sensitivity(images, path, 0.9), tmp_path)


@pytest.mark.parametrize("truth", ["known", "partly", "unknown", "none"])
def test_pseudo_labels(truth, pseudo, tmp_path):
    hidden = pd.DataFrame({"image_id": pseudo["image_id"], "label": ["normal", "abnormal"] * 25})
    if truth == "partly":
        hidden.loc[:10, "label"] = ""
    if truth == "unknown":
        hidden["label"] = ""
    assert_same_file_twice(lambda path: plot_pseudo_labels(pseudo, None if truth == "none" else hidden, path), tmp_path)


def test_gallery_shows_holes_and_boxes(scores, reconstructions, tmp_path):
    images, maps = reconstructions
    rows, titles = title_rows(choose_examples(scores, "inter", 1), scores, "inter")
    boxes = {rows[0]: [(4, 6, 20, 30)]}
    picture = assert_same_file_twice(lambda path: plot_gallery(rows, images, maps, titles, path, boxes), tmp_path)
    assert has_colour(picture, BACKGROUND) and has_colour(picture, BOX)
    plot_gallery(rows, images, maps, titles, tmp_path / "named.png", boxes, {rows[0]: ["nodule"]})
    with Image.open(tmp_path / "named.png") as named:
        differs = np.argwhere((np.asarray(named.convert("RGB")) != picture).any(-1))
    height, width = picture.shape[:2]
    assert (
        len(differs) > 0 and (differs.max(0) < (height // 4, width // 2)).all()
    )  # the name, beside the first image alone
    assert titled("a", ["nodule", "", "effusion", "nodule"]) == "a\nboxes: effusion, nodule"
    assert titled("a", [""]) == "a"


def test_a_page_of_the_gallery_has_the_scale_of_all(scores, reconstructions, tmp_path):
    images, maps = reconstructions
    stretched = maps | {"mu_a": maps["mu_a"].copy()}
    stretched["mu_a"][1] *= 50  # another image, on another page
    one, two = [str(name) for name in maps["image_id"][:2]]
    for name, arrays, scaled_by in (("own", maps, None), ("same", stretched, None), ("all", stretched, [one, two])):
        plot_gallery([one], images, arrays, ["t"], tmp_path / f"{name}.png", scaled_by=scaled_by)
    own, same, all_ = ((tmp_path / f"{name}.png").read_bytes() for name in ("own", "same", "all"))
    assert own == same != all_


def test_gallery_without_a_single_value(reconstructions, tmp_path):
    images, maps = reconstructions
    empty = maps | {"mu_a": np.full_like(maps["mu_a"], np.nan)}
    plot_gallery(["image-03"], images, empty, ["no value"], tmp_path / "gallery.png")
    assert (tmp_path / "gallery.png").stat().st_size > 1000
    with pytest.raises(InputError, match="'elsewhere' has no reconstruction"):
        plot_gallery(["elsewhere"], images, maps, [""], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_masked_input_hides_the_patches_that_are_not_visible():
    image = np.arange(36, dtype=np.uint8).reshape(6, 6)
    masked = _masked(image, np.array([[True, False], [False, False]]))
    assert np.array_equal(masked[:3, :3], image[:3, :3])
    assert (masked[3:] == HIDDEN_GREY).all() and (masked[:, 3:] == HIDDEN_GREY).all()


def test_examples_are_the_extremes(scores):
    examples = choose_examples(scores, "stage1", 2)
    ranked = scores.assign(stage1=scores["stage1"].astype(float)).sort_values("stage1")
    assert examples["most anomalous"] == ranked["image_id"].tolist()[:-3:-1]
    assert examples["least anomalous"] == ranked["image_id"].tolist()[:2]
    others = ranked.iloc[2:-2]
    normal, abnormal = (others[others["label"] == label]["image_id"].tolist() for label in ("normal", "abnormal"))
    assert examples["normal, scored highest"] == normal[:-3:-1]
    assert examples["abnormal, scored lowest"] == abnormal[:2]
    shuffled = scores.sample(frac=1, random_state=0).assign(stage1="1")
    assert choose_examples(shuffled, "stage1", 3)["most anomalous"] == ["image-00", "image-01", "image-02"]
    with pytest.raises(InputError, match="no score 'missing'"):
        choose_examples(scores, "missing", 1)


def test_audit_shows_methods_views_and_the_strongest_shortcuts(tmp_path, monkeypatch):
    rows = [("detector_Y/detector", "all", 0.95), ("detector_Y/detector", "view=PA", 0.9), ("ae_N/ae", "all", 0.6)]
    rows += [("ae_N/ae", "view=PA", None), ("stage1/p_abnormal", "all", 0.7), ("mean_intensity", "all", 0.12)]
    rows += [("view_only", "all", 0.72), ("spectral_slope", "all", 0.54)]  # the interval of the last contains 0.5
    table = pd.DataFrame(rows, columns=["score", "group", "auc"])
    table["auc_low"], table["auc_high"] = table["auc"] - 0.05, table["auc"] + 0.03
    picture = assert_same_file_twice(lambda path: plot_audit(table, path), tmp_path)
    line = (picture == (0x33, 0x22, 0x88)).all(2)  # mean intensity, turned round: 0.88, a dashed line
    dots = (picture == (0x00, 0x72, 0xB2)).all(2)
    place = np.flatnonzero(line.sum(0) > 20).mean()
    ends = np.flatnonzero(dots.any(0))
    assert ends[0] < place < ends[-1]  # between the intervals of AE and of the detector
    shown = []
    monkeypatch.setattr("matplotlib.figure.Figure.legend", lambda figure, handles, **look: shown.append(handles))
    plot_audit(table, tmp_path / "legend.png")
    labels = [handle.get_label() for handle in shown[0]]
    assert labels == ["shortcut mean intensity, reversed, 0.88", "shortcut view only, 0.72", "within PA"]
    with pytest.raises(InputError, match=r"no method has an AUC .* at least 10 test images of each class"):
        plot_audit(table[table["score"] == "mean_intensity"], tmp_path / "none.png")


def test_pages_of_the_report_show_what_the_tables_contain(tmp_path):
    table = pd.DataFrame({"score": ["a<b>"], "auc": ["0.123456"], "normal": ["12"]})
    write_table_page(table, "x.csv", tmp_path / "x.html")
    text = (tmp_path / "x.html").read_text()
    assert "<td>a&lt;b&gt;</td>" in text and ">0.1235<" in text and ">12<" in text
    link = re.search(r'href="data:text/csv;base64,([^"]+)"', text)[1]
    assert base64.b64decode(link).decode() == "score,auc,normal\na<b>,0.123456,12\n"
    row = {
        f"{m}_{part}": value
        for m in ("auc", "ap")
        for part, value in zip(PARTS, [".5", ".4", ".6", ".01"], strict=True)
    }
    summary = pd.DataFrame([{"score": "inter", "group": group, "normal": "3", "abnormal": "4"} | row for group in "ab"])
    summary["group"] = ["all", "view=PA"]
    write_first_page("set", summary, {"preset": "p&q"}, tmp_path / "y.html")
    text = (tmp_path / "y.html").read_text()
    assert text.count("0.500 (0.400 to 0.600) ± 0.010") == 2 and "p&amp;q" in text and "3 normal, 4 abnormal" in text
