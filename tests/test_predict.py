"""New radiographs: scores as in the workflow, calls, flags, what is written, and what must never be."""

import base64
import hashlib
import io
import re
import shutil
import subprocess
import warnings
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from corpus import dataset as radiograph
from corpus import saved
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless
from safetensors.torch import load_file, save_file
from scipy.stats import spearmanr
from small import write_model
from test_resume import with_options

from amae.cli import main
from amae.commands.predict import _notes, _picture_name
from amae.data.dicom import read_grey
from amae.data.header import header_flags
from amae.data.images import make_square
from amae.figures.page import POLICY, SCRIPT, Reading, _source, pictured, write_page
from amae.figures.prediction import GAP, draw_sheet, full_overlay, reading, shown_of, telling_apart
from amae.mae.checkpoints import read_safetensors, write_tensors
from amae.method.detector import influence_maps
from amae.method.reconstruct import draw_orders, reconstruct
from amae.predict import score as module
from amae.predict.calibration import operating_point
from amae.predict.card import FORMAT, card_of
from amae.predict.dicom_out import write_capture
from amae.predict.files import list_files
from amae.predict.model import load_model
from amae.runtime.errors import InputError
from amae.runtime.files import atomic, read_csv
from amae.runtime.tensors import read_arrays
from amae.settings import ModuleSettings, Stage1Settings

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
UNMASKED = ["detector", "stage1"]
SCORES = [*UNMASKED, "inter", "mask_rec", "error_ratio", "error_ratio_patch"]
PLANTED = {
    "PatientName": "Plantagenet^Geoffrey",
    "PatientID": "PID-8675309",
    "PatientBirthDate": "19431117",
    "PatientAddress": "17 Hidden Lane",
    "PatientComments": "afraid of needles",
    "InstitutionName": "St Elsewhere",
    "ReferringPhysicianName": "Strangelove^D",
    "OperatorsName": "Operatoria",
    "AccessionNumber": "ACC4711X",
    "StudyDate": "20190703",
    "AcquisitionDate": "20190704",
    "StudyDescription": "thorax of a spy",
    "SeriesDescription": "second exposure for G.P.",
    "ImageComments": "found in the attic",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.77777777",
}
FREE_TEXT = {"BodyPartExamined": "HAND OF GEOFFREY", "ViewPosition": "LATERAL GEOFFREY"}


@pytest.fixture(scope="module")
def exported(finished) -> Path:
    """The model that the workflow exported."""
    return finished.results / "seed0/model.safetensors"


@pytest.fixture(scope="module")
def files(finished) -> list[Path]:
    """The simulated radiographs, among them the test images."""
    return sorted((finished.results / "raw/dicom").glob("*.dcm"))


def score(model: Path, output: Path, *given: Path, options: tuple[str, ...] = ()) -> pd.DataFrame:
    """Run `amae predict` on the CPU, and read its table."""
    if "--specificity" not in options:  # the model has ten calibration images, too few for 0.95
        options = (*options, "--specificity", "0.8")
    words = ["predict", *given, "--model", model, "--output", output, "--device", "cpu", *options]
    assert main([str(word) for word in words]) == 0
    return pd.read_csv(output / "predictions.csv", keep_default_na=False, na_values=dict.fromkeys(SCORES, ""))


@pytest.fixture(scope="module")
def predicted(exported, files, tmp_path_factory) -> tuple[Path, pd.DataFrame]:
    """All simulated radiographs, scored at once: the folder and its table."""
    output = tmp_path_factory.mktemp("predicted") / "out"
    return output, score(exported, output, files[0].parent)


@pytest.fixture(scope="module")
def every(exported, files, tmp_path_factory) -> pd.DataFrame:
    """The table of the same files with every score, where one that takes masks calls."""
    return score(exported, tmp_path_factory.mktemp("every") / "out", files[0].parent, options=("--score", "inter"))


def changed(source: Path, target: Path, **elements: object) -> Path:
    """A DICOM file with other elements."""
    dataset = pydicom.dcmread(source)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    target.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(target)
    return target


def test_scores_without_masks_are_those_of_the_workflow(finished, predicted):
    names = ["detector", "stage1"]
    expected = read_csv(finished.results / "seed0/scores.csv").set_index("image_id")[names].astype(float)
    found = predicted[1].assign(image_id=[Path(name).stem for name in predicted[1]["file"]]).set_index("image_id")
    assert len(expected) == 20
    np.testing.assert_allclose(found.loc[expected.index, names], expected, rtol=0, atol=6e-6)  # rounded to 1e-5


def test_scores_that_take_masks_are_computed_where_one_of_them_calls(predicted, every):
    def scores(table):
        return [name for name in table if name in SCORES or name.removesuffix("_percentile") in SCORES]

    assert scores(predicted[1]) == [*UNMASKED, *(f"{name}_percentile" for name in UNMASKED)]
    assert scores(every) == [*SCORES, *(f"{name}_percentile" for name in SCORES)]
    same = ["file", *UNMASKED, "flag", "reason", "map"]
    pd.testing.assert_frame_equal(predicted[1][same], every[same])
    assert every.loc[every["reason"] == "", SCORES].notna().all(axis=None)


def test_masks_come_from_the_pixels_and_are_complementary(finished, exported):
    model = load_model(exported)
    rows = read_csv(finished.results / "manifest.csv").query("split == 'train_normal'")["image_id"]
    of_normal = np.isin(read_csv(finished.results / "images.csv")["image_id"], rows)
    normal = torch.from_numpy(np.load(finished.results / "images.npy")[of_normal].mean(0))
    size, patches = model.encoder.architecture.image_size, model.encoder.architecture.patches
    images = np.random.default_rng(1).integers(0, 256, (3, size, size), dtype=np.uint8)
    assert model.settings.mask_scheme == "complementary" and model.settings.masks % 4 == 0
    orders = draw_orders([hashlib.sha256(image.tobytes()).hexdigest() for image in images], 0, patches, model.settings)
    batch = torch.from_numpy(images)
    (a, _), (b, _) = (reconstruct(m, batch, orders, model.settings) for m in (model.module_a, model.module_b))
    scores, _, maps = module.score_images(model, images)
    np.testing.assert_allclose(scores["inter"], (a - b).abs().mean((1, 2)).numpy(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(
        maps, influence_maps(model.detector, batch, normal), rtol=0, atol=1e-6
    )  # no change of size


def test_a_picture_has_one_score_under_any_name_and_in_any_format(exported, files, tmp_path):
    dataset = pydicom.dcmread(files[4])
    grey = read_grey(files[4], "minmax")
    for number in range(4):
        (tmp_path / "in" / str(number)).mkdir(parents=True)
        Image.fromarray(grey).save(tmp_path / "in" / str(number) / f"{number}.png")
    dataset.compress(RLELossless)
    dataset.save_as(tmp_path / "in/other.dcm")
    (tmp_path / "in/same.dcm").write_bytes(files[4].read_bytes())
    table = score(exported, tmp_path / "out", tmp_path / "in", options=("--score", "error_ratio"))
    assert len(table) == 6 and (table["reason"] == "").all()
    np.testing.assert_allclose(table[SCORES], np.repeat(table[SCORES][:1].to_numpy(), 6, 0), rtol=0, atol=1e-6)


def test_rounds_of_masks_make_their_noise_small(exported, monkeypatch):
    """Scores whose noise is known: one mask set gives a standard deviation of 1 within an image, 2 between images."""
    rng = np.random.default_rng(0)
    truth = 2 * rng.standard_normal(4000)

    def drawn(model, images, draw):
        noisy = truth + rng.standard_normal(len(truth))
        columns = {"inter": noisy, "mask_rec": truth, "error_ratio": truth, "error_ratio_patch": noisy}
        return pd.DataFrame(columns)

    monkeypatch.setattr(module, "module_scores", drawn)
    model = load_model(exported)
    settings, noise = module.quiet(model, np.zeros((4000, 1, 1), np.uint8))
    assert settings.masks == 4 * 4  # 4 rounds: 1 / 2 / sqrt(4) = 0.25 at most, but for the estimate's error
    assert abs(noise - 0.25) < 0.01
    shares = module.mask_noise(model, np.zeros((4000, 1, 1), np.uint8), settings)
    assert shares == pytest.approx({"inter": 0.5, "mask_rec": 0, "error_ratio": 0, "error_ratio_patch": 0.5}, abs=0.02)


def test_lungs_are_those_of_the_workflow(finished, exported, files):
    expected = read_csv(finished.results / "lungs.csv").set_index("image_id")
    ids = [path.stem for path in files]
    found = pd.concat(table for table, *_ in module.score_files(load_model(exported), files))
    found = found.set_axis(ids).loc[expected.index]
    assert len(found) == 60
    assert (found["coverage"].round(6) == expected["coverage"].astype(float)).all()
    assert (found["mask"] == expected["flag"]).all()


def test_scores_do_not_depend_on_neighbours_order_or_folder(exported, files, every, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 3)
    moved = tmp_path / "moved" / "below" / files[5].name
    moved.parent.mkdir(parents=True)
    moved.write_bytes(files[5].read_bytes())
    (tmp_path / "moved/broken.dcm").write_text("no image")
    given = files[40], moved.parents[1], files[0], files[9], files[8]
    few = score(exported, tmp_path / "few", *given, options=("--score", "inter"))
    last = [files[place].name for place in (0, 9, 8)]
    assert few["file"].tolist() == [files[40].name, "broken.dcm", f"below/{files[5].name}", *last]
    all_files = every.set_index("file")
    few = few[few["reason"] == ""].assign(file=lambda table: [Path(name).name for name in table["file"]])
    np.testing.assert_allclose(few[SCORES], all_files.loc[few["file"], SCORES], rtol=0, atol=1e-6)


def test_percentiles_and_calls_follow_from_the_calibration_images(finished, predicted, every):
    table = every.set_index("file")
    manifest = read_csv(finished.results / "manifest.csv")
    kept = manifest.loc[manifest["split"] == "calibration", "path"].map(lambda path: Path(path).name)
    assert len(kept) == 10
    for name in SCORES:
        normal = table.loc[kept, name]
        expected = [(normal <= value).mean() * 100 for value in table[name]]
        np.testing.assert_allclose(table[f"{name}_percentile"].astype(float), expected)
    called = predicted[1].set_index("file")[lambda table: table["flag"] == ""]
    assert len(called) > 40
    above = called["detector"] > np.sort(table.loc[kept, "detector"])[8]  # 0.8 of 10 + 1: the ninth
    assert (called["call"] == np.where(above, "abnormal", "normal")).all()
    assert set(called["call"]) == {"abnormal", "normal"}


def test_another_score_and_specificity(exported, files, predicted, tmp_path):
    options = ("--score", "stage1", "--specificity", "0.5")
    table = score(exported, tmp_path / "out", files[0].parent, options=options)
    threshold = np.sort(load_model(exported).group("calibration")["stage1"])[5]  # 0.5 of 10 + 1: the sixth
    called = table[table["flag"] == ""]
    above = called["stage1"].astype(np.float32) > threshold
    assert (called["call"] == np.where(above, "abnormal", "normal")).all()
    assert 0.2 < above.mean() < 0.8
    assert table[UNMASKED].equals(predicted[1][UNMASKED])


@pytest.mark.parametrize(
    ("elements", "flag"),
    [
        ({"ViewPosition": "LL"}, "header: the view is not frontal"),
        ({"ViewPosition": "LATERAL"}, "header: the view is not frontal"),
        ({"BodyPartExamined": "HAND"}, "header: BodyPartExamined is not the chest"),
        ({"Modality": "CT"}, "header: Modality is not radiography"),
        ({"ViewPosition": "", "BodyPartExamined": "", "Modality": "DX"}, ""),
        ({"ViewPosition": "AP", "BodyPartExamined": "PORT CHEST", "Modality": "CR"}, ""),
        (
            {"PresentationIntentType": "FOR PROCESSING"},
            "header: PresentationIntentType is FOR PROCESSING: values of the detector, not made to be looked at",
        ),
        ({"NumberOfFrames": 0}, "NumberOfFrames is 0; taken for 1"),
        (
            {"RescaleSlope": -1, "RescaleIntercept": 0},
            "minmax ignores the negative RescaleSlope, so black and white are exchanged",
        ),
    ],
)
def test_what_the_header_says_is_flagged_and_the_scores_stay(exported, files, predicted, tmp_path, elements, flag):
    before = predicted[1].set_index("file").loc[files[3].name]
    assert before["flag"] == ""
    source = changed(files[3], tmp_path / files[3].name, **elements)
    after = score(exported, tmp_path / "out", source).iloc[0]
    assert after["flag"] == flag
    assert (after["call"] == "") == (flag != "")
    assert after[UNMASKED].equals(before[UNMASKED])


def test_other_parts_and_views_are_flagged_by_their_names(tmp_path):
    """Words that contain those of the chest or of a side view, and orientations (PS3.3 C.7.6.1.1.1)."""
    part, view = "header: BodyPartExamined is not the chest", "header: the view is not frontal"
    turned = "header: PatientOrientation says that the picture is not upright"
    for name, values, flag in (
        ("BodyPartExamined", ("THORACIC SPINE", "THORACOLUMBAR", "BRUSTWIRBEL"), [part]),
        ("ViewPosition", ("RAO", "PROFIL", "LATERAL"), [view]),
        ("ViewPosition", ("BILATERAL", "AP"), []),
        ("PatientOrientation", (["A", "F"], ["P", "F"]), [view]),
        ("PatientOrientation", (["L", "F"], ["R", "F"], ["L", "FP"], "L", []), []),
        ("PatientOrientation", (["R", "H"], ["F", "R"], ["L", "H"], "F"), [turned]),
        ("PixelAspectRatio", ([1, 2],), ["header: PixelAspectRatio is not 1:1, and is ignored"]),
        ("PixelAspectRatio", ([1, 1],), []),
    ):
        for value in values:
            (tmp_path / "x.dcm").write_bytes(saved(radiograph(**{name: value})))
            assert header_flags(tmp_path / "x.dcm") == flag, (name, value)


WORDS = ["THORAX", "Thorax a.p.", "TORAX", "TÓRAX", "TORACE", "POUMON", "PULMONES", "LUNGE", "грудная", "胸部"]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize("part", WORDS)
def test_the_chest_has_its_name_in_other_languages(tmp_path, part, encoding):
    written = part.encode(encoding, "replace").ljust(16)  # in the place of a word of the same length
    content = saved(radiograph(BodyPartExamined="Q" * 16))
    for start in (0, 132):  # with and without preamble
        (tmp_path / "x.dcm").write_bytes(content[start:].replace(b"Q" * 16, written))
        known = encoding == "utf-8" or b"?" not in written
        assert header_flags(tmp_path / "x.dcm") == ([] if known else ["header: BodyPartExamined is not the chest"])


ODD = {  # values that a DICOM file has, and the one among them that no other file may have
    "StudyInstanceUID": {"StudyInstanceUID": "1.2.3.geoffrey"},
    "SpecificCharacterSet": {"SpecificCharacterSet": "GEOFFREY"},
    "PatientSex": {"PatientSex": "GEOFFREY"},
    "StudyDate": {"StudyDate": "00000000"},
    "PatientBirthDate": {"PatientBirthDate": "GEOFFREY"},
    "StudyTime": {"StudyTime": "GEOFFREY"},
}


def test_an_attribute_that_no_capture_can_have_is_named_and_no_value_printed(tmp_path, capfd):
    picture = np.zeros((64, 64, 3), np.uint8)
    for name, elements in {**ODD, "": {}}.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of what is wrong on purpose
            given = {"PatientName": "Geoffrey Plantagenet", "PatientID": "geoffrey-1", "StudyInstanceUID": "1.2.77"}
            (tmp_path / "x.dcm").write_bytes(saved(radiograph(**given | elements)))
        if name:
            with pytest.raises(
                InputError, match=f"x.dcm: no DICOM file can refer to it: {name} missing or not"
            ) as caught:
                write_capture(tmp_path / "x.dcm", picture, "model", tmp_path / "out.dcm")
            assert "geoffrey" not in str(caught.value).lower() and not (tmp_path / "out.dcm").exists()
    write_capture(tmp_path / "x.dcm", picture, "model", tmp_path / "out.dcm")
    assert pydicom.dcmread(tmp_path / "out.dcm").PatientID == "geoffrey-1"
    assert "".join(capfd.readouterr()) == ""


def test_a_lateral_view_code_is_flagged(exported, files, tmp_path):
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "399173006", "SCT", "left lateral"
    source = changed(files[3], tmp_path / "a.dcm", ViewPosition="", ViewCodeSequence=[code])
    assert score(exported, tmp_path / "out", source)["flag"][0] == "header: the view is not frontal"


def test_a_picture_of_something_else_is_flagged(exported, files, predicted, tmp_path):
    assert (predicted[1]["flag"] == "").mean() > 0.8
    stripes = np.tile(np.repeat(np.uint8([0, 255]), 4), (300, 40))
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    found = score(exported, tmp_path / "out", tmp_path / "stripes.png", files[3])
    assert found["flag"].tolist() == ["unlike the training images", ""]
    assert found["call"].tolist()[0] == ""
    assert np.isfinite(found.loc[0, UNMASKED].astype(float)).all()


def test_what_cannot_be_scored_is_listed_with_its_reason(exported, files, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.dcm").write_bytes(files[3].read_bytes())
    (folder / "cut.dcm").write_bytes(files[3].read_bytes()[:-3000])
    (folder / "empty.png").touch()
    (folder / ".hidden").write_text("not looked at")
    colour = np.zeros((40, 40, 3), np.uint8)
    colour[:20, :, 0] = 255
    Image.fromarray(colour).save(folder / "photo.jpg")
    Image.fromarray(np.full((40, 40), 9, np.uint8)).save(folder / "blank.png")
    table = score(exported, tmp_path / "out", folder).set_index("file")
    reasons = {"blank.png": "constant image", "cut.dcm": "truncated", "empty.png": "empty file", "photo.jpg": "colour"}
    assert set(table.index) == {"good.dcm", *reasons}
    for name, reason in reasons.items():
        assert reason in table.loc[name, "reason"]
        assert table.loc[name, UNMASKED].isna().all()
        assert (table.loc[name, ["call", "flag", "map", "overlay"]] == "").all()
    assert "5 files: 1 scored (0 of them flagged), 4 not scored." in capsys.readouterr().err

    (folder / "good.dcm").unlink()
    words = ["predict", folder, "--model", exported, "--output", tmp_path / "none", "--device", "cpu"]
    assert main([str(word) for word in words]) == 2
    message = capsys.readouterr().err
    assert "none of 4 files can be scored: blank.png: constant image" in message and "predictions.csv" not in message
    for name, reason in reasons.items():  # as Snakemake deletes what a failed job has made
        assert re.search(f"{name}: [^;]*{reason}", message)
    assert len(pd.read_csv(tmp_path / "none/predictions.csv")) == 4


def test_pictures_show_every_scored_image(exported, predicted):
    output, table = predicted
    size = load_model(exported).encoder.architecture.image_size
    for column in ("map", "overlay"):
        assert table[column].is_unique
        for name in table[column]:
            with Image.open(output / name) as picture:
                assert (picture.size, picture.mode, picture.info) == ((size, size), "RGB", {})
    written = {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    written = {name for name in written if not name.startswith((".amae/", "records/"))}
    for name in table["reading"]:
        with Image.open(output / name) as picture:
            assert (picture.format, picture.mode, dict(picture.getexif())) == ("WEBP", "RGB", {})
    pictures = {*table["map"], *table["overlay"], *table["reading"]}
    assert written == pictures | {"predictions.csv", "contact_sheet.png", "summary.html"}


class Page(HTMLParser):
    """What a page contains."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.links, self.texts, self.within, self.inline = [], [], [], [], {}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        """Keep tags, and whatever could be loaded; a link within the page must lead somewhere."""
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "srcset", "data", "action"):
                (self.within if value.startswith("#") else self.links).append(value)
        assert not [name for name, _ in attributes if name.startswith("on") or name == "style"]

    def handle_data(self, data):
        """Keep texts, those of style and script by their tag."""
        if self.tags and self.tags[-1] in ("style", "script") and self.tags[-1] not in self.inline:
            self.inline[self.tags[-1]] = data
        else:
            self.texts.append(data)


def test_the_page_is_sorted_and_needs_nothing_else(predicted):
    output, table = predicted
    text = (output / "summary.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not {"link", "iframe", "object", "form"} & set(page.tags)
    assert [page.tags.count(tag) for tag in ("script", "style", "meta")] == [1, 1, 2]
    assert len(page.links) == len(table) == page.tags.count("article")
    table = table.assign(flagged=table["flag"] != "")
    assert table["flagged"].any()  # apart and last
    order = table.sort_values(["flagged", "detector", "file"], ascending=[True, False, True])
    for link, name in zip(page.links, order["reading"], strict=True):
        kind, _, data = link.partition(",")
        assert kind == "data:image/webp;base64"
        assert base64.b64decode(data) == (output / name).read_bytes()
    assert page.texts.index("Flagged: not called") < page.texts.index(order["file"].iloc[-1])
    assert "Research software, not a medical device." in page.texts
    ids = set(re.findall(r' id="([^"]+)"', text))
    assert {link[1:] for link in page.within} <= ids


def test_the_policy_allows_the_own_style_and_script_and_nothing_else(predicted):
    """The hash that a browser computes (CSP level 3, 6.7.3) from what stands between the tags."""
    page = Page((predicted[0] / "summary.html").read_text(encoding="utf-8"))
    hashes = {
        tag: f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for tag, text in page.inline.items()
    }
    assert POLICY.split("; ") == [
        "default-src 'none'",
        "img-src data:",
        f"style-src {hashes['style']}",
        f"script-src {hashes['script']}",
    ]


KEYS = """
const press = key => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}))
const at = () => document.querySelector("nav a[aria-current]")?.getAttribute("href")
const counted = () => document.querySelector("output").value
addEventListener("load", () => {
  const images = [...document.images], found = []
  images.forEach(image => { image.loading = "eager" })
  for (const key of ["ArrowDown", "ArrowRight", "ArrowDown", "ArrowUp"]) { press(key); found.push(at()) }
  press("/")
  const filter = document.querySelector("input")
  filter.value = document.querySelectorAll("h2 span")[4].textContent
  filter.dispatchEvent(new Event("input"))
  found.push(document.activeElement.tagName, counted())
  press("ArrowDown")
  found.push(at())
  press("Escape")
  found.push(counted())
  setTimeout(() => {
    document.title = [images.filter(image => image.naturalWidth > 0).length, ...found].join(" ")
  }, 3000)
})"""


def test_a_browser_without_network_shows_every_picture_and_follows_the_keys(predicted, tmp_path):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not browser:
        pytest.skip(f"no browser found ({', '.join(BROWSERS)})")
    output, table = predicted
    page = (output / "summary.html").read_text(encoding="utf-8")
    assert page.count(POLICY) == 1
    pressing = page.replace(POLICY, f"{POLICY} {_source(KEYS)}").replace("</body>", f"<script>{KEYS}</script></body>")
    (tmp_path / "page.html").write_text(pressing, encoding="utf-8")
    offline = ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}"]
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=9000"]
    done = subprocess.run(
        [browser, *options, *offline, "--dump-dom", (tmp_path / "page.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    images = len(table)
    title = re.search("<title>(.*)</title>", done.stdout)[1]
    assert title == f"{images} #c1 #c2 #c3 #c2 INPUT 1 of {images} #c5 {images} of {images}"
    assert "CONSOLE" not in done.stderr  # what a page refuses to load is told there


def page_of(folder: Path, count: int, reference: np.ndarray | None = None, point=None) -> Page:
    """A page of images with the scores 1 to 0, each with a picture of its own."""
    table = pd.DataFrame({"file": [f"{n}.dcm" for n in range(count)], "inter": np.linspace(1, 0, count)})
    names = [f"{n}.png" for n in range(count)]
    table = table.assign(inter_percentile=50.0, call="", flag="", reason="", overlay=names, reading=names)
    for name in names:
        Image.fromarray(np.full((80, 80, 3), int(name[0]), np.uint8)).save(folder / name)
    draw_sheet(table, "inter", folder, folder / "sheet.png", count)
    notes = [*filter(None, [shown_of(count), pictured(count)])]
    write_page(table, "inter", Reading(notes, [], 0.25, reference, point), folder)
    return Page((folder / "summary.html").read_text())


def test_sheet_and_page_show_the_highest_scores_and_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr("amae.figures.prediction.SHOWN", 6)
    monkeypatch.setattr("amae.figures.page.PICTURED", 7)
    sizes = []
    for count in (6, 9):
        page = page_of(tmp_path, count)
        with Image.open(tmp_path / "sheet.png") as sheet:
            sizes.append(sheet.size)
    assert (page.tags.count("img"), page.tags.count("article")) == (7, 9)
    assert "The 6 highest scores of 9; the pictures of all are in the folders maps and overlays." in page.texts
    assert "Pictures of the first 7 of 9 images; those of all are in the folder reading." in page.texts
    assert sizes[1][0] == sizes[0][0]
    assert sizes[1][1] > sizes[0][1]
    first = [base64.b64decode(link.partition(",")[2]) for link in page.links]
    assert first == [(tmp_path / f"{n}.png").read_bytes() for n in range(7)]


def test_a_score_is_a_point_among_those_of_normal_images(tmp_path):
    """Scores 1, 0.5 and 0 on the axis from -1 to 1 of 40 normal images; the colour bar has its range."""
    reference = np.linspace(-1, 0.9, 40)
    page = page_of(tmp_path, 3, reference, operating_point(reference, 0.9))
    text = (tmp_path / "summary.html").read_text()
    points = [float(x) for x in re.findall(r'<circle class="case" cx="([\d.]+)"', text)]
    assert points == pytest.approx([195, 147.5, 100])  # 5 + 190 * (score + 1) / 2
    symbol = re.search(r'<symbol id="normal".*?</symbol>', text, re.S)[0]
    bars = [(float(w), float(h)) for w, h in re.findall(r'width="([\d.]+)" height="([\d.]+)"', symbol)]
    counts = np.histogram(reference, 24, (-1, 1))[0]
    np.testing.assert_allclose([h for _, h in bars], 60 * counts[counts > 0] / counts.max(), atol=0.06)
    threshold = np.sort(reference)[36]  # 0.9 of 40 + 1
    assert float(re.search(r'class="threshold" x1="([\d.]+)"', symbol)[1]) == pytest.approx(
        5 + 95 * (threshold + 1), abs=0.06
    )
    assert {"40 normal images", "-1", "1", "0.25 or more"} <= set(page.texts)
    assert 'id="normal"' not in (page_of(tmp_path, 3), (tmp_path / "summary.html").read_text())[1]


def test_the_radiograph_is_beside_its_map():
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (60, 40), dtype=np.uint8)
    packed, geometry = make_square(np.kron(grey, np.ones((5, 5), np.uint8)), "pad", 64)  # grey is a reduced copy
    found = reading(grey, (packed > 200).astype(np.float32), 1.0, geometry)
    assert found.shape == (60, 80 + GAP, 3)
    assert np.array_equal(found[:, :40], np.repeat(grey[..., None], 3, -1))
    assert np.array_equal(found[:, 40 + GAP :], full_overlay(grey, (packed > 200).astype(np.float32), 1.0, geometry))


def test_captions_begin_where_names_differ():
    names = ["site-a/patient-0012.dcm", "site-a/patient-0013.dcm", "site-a/patient-0112 b.dcm"]
    assert telling_apart(names) == ["…0012.dcm", "…0013.dcm", "…0112 b.dcm"]
    assert telling_apart(["a/1.dcm", "b/1.dcm"]) == ["a/1.dcm", "b/1.dcm"]
    assert telling_apart(["below/one.dcm"]) == ["…one.dcm"]
    assert telling_apart(["1.2.826.77.dcm", "1.2.826.8.dcm"]) == ["…77.dcm", "…8.dcm"]


def test_names_cannot_break_out(exported, files, tmp_path):
    folder = tmp_path / "in"
    names = [
        "<script>alert(1)</script>.dcm",
        "a\"b'c & d.dcm",
        "new\nline.dcm",
        "ünï.dcm",
        "x" * 250 + ".dcm",
        "$(a);b.dcm",
    ]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(files[3].read_bytes())
    table = score(exported, tmp_path / "out", folder)
    assert sorted(table["file"]) == sorted(names)
    assert all((tmp_path / "out" / name).is_file() for name in [*table["map"], *table["overlay"], *table["reading"]])
    page = Page((tmp_path / "out/summary.html").read_text(encoding="utf-8"))
    assert page.tags.count("script") == 1 and page.inline["script"] == SCRIPT
    assert set(names) <= set(page.texts)


def test_names_of_files(tmp_path, monkeypatch):
    for name in ("a/1.dcm", "a/b/1.dcm", "c/1.dcm", "c/.thumbs/2.dcm"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    out = tmp_path / "a/out"
    assert list(list_files([tmp_path / "a"], out)) == ["1.dcm", "b/1.dcm"]
    assert list(list_files([tmp_path], out)) == ["a/1.dcm", "a/b/1.dcm", "c/1.dcm"]
    out.mkdir()
    with pytest.raises(InputError, match=r"1\.dcm: two of the given files have this name"):
        list_files([tmp_path / "a", tmp_path / "c"], out)
    with pytest.raises(InputError, match=r"missing: no such file or folder"):
        list_files([tmp_path / "missing"], out)
    with pytest.raises(InputError, match=r"out: no files in this folder"):
        list_files([out], tmp_path / "new")
    (out / "predictions.csv").touch()
    assert list(list_files([tmp_path / "a"], tmp_path / "a/other")) == ["1.dcm", "b/1.dcm", "out/predictions.csv"]
    monkeypatch.chdir(tmp_path)
    assert (
        list(list_files([Path("a")], out)) == list(list_files([tmp_path / "a"], Path("a/out"))) == ["1.dcm", "b/1.dcm"]
    )


@pytest.mark.parametrize(
    ("folder", "dicom", "clash"),
    [
        ("x.png", False, True),
        ("x.webp", False, True),
        ("x.dcm", False, False),
        ("x.dcm", True, True),
        ("x.png2", False, False),
    ],
)
def test_a_folder_in_the_place_of_a_picture_is_refused_before_anything_is_written(
    exported, tmp_path, capsys, folder, dicom, clash
):
    (tmp_path / "in/a" / folder / "deep").mkdir(parents=True)
    for name in ("x", f"{folder}/deep/y"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 40), np.uint8)).save(
            tmp_path / "in/a" / name, "PNG"
        )
    words = ["predict", tmp_path / "in", "--model", exported, "--output", tmp_path / "out", "--device", "cpu"]
    assert main([str(word) for word in words] + ["--dicom"] * dicom) == (2 if clash else 0)
    refusal = f"error: a/x: its picture would have the name of the folder a/{folder}; rename one of them\n"
    assert (refusal in capsys.readouterr().err) == clash and (tmp_path / "out").exists() != clash


@pytest.mark.parametrize("length", [229, 230, 231, 255])
def test_pictures_of_long_names_can_be_written_by_any_process(tmp_path, monkeypatch, length):
    monkeypatch.setattr("os.getpid", lambda: 4194303)  # the largest on Linux
    for suffix in (".png", ".dcm"):
        with atomic(tmp_path / _picture_name("x" * length, suffix)) as temporary:
            temporary.touch()


def test_no_more_files_are_read_than_a_batch_needs(exported, files, monkeypatch):
    read = []
    prepare = module.prepare
    monkeypatch.setattr(module, "BATCH", 4)
    monkeypatch.setattr(module, "prepare", lambda *task: read.append(task[0]) or prepare(*task))
    sizes = []
    for table, images, maps in module.score_files(load_model(exported), files[:11]):
        sizes.append(len(table))
        assert len(images) == len(maps) == len(table)
        assert len(read) == sum(sizes)
    assert sizes == [4, 4, 3]


def test_workers_change_nothing(exported, files, predicted, tmp_path):
    table = score(exported, tmp_path / "out", *files[:4], options=("--workers", "2"))
    expected = predicted[1].head(4)
    same = ["file", "call", "flag", "reason", "map", "overlay"]
    assert table[same].equals(expected[same])
    np.testing.assert_allclose(table[UNMASKED], expected[UNMASKED], rtol=0, atol=1e-6)  # batches of another size


def contains(folder: Path, secrets: list[str]) -> list[tuple[str, str]]:
    """Which secrets stand in which file of a folder or in its name; a date within a longer number is none."""
    patterns = {
        text.lower().encode(): rb"(?<![\d.])" + re.escape(text.lower().encode()) + rb"(?!\d)" for text in secrets
    }
    found = []
    for path in sorted(folder.rglob("*")):
        texts = [str(path.relative_to(folder)).encode()]
        if path.is_file():
            content = path.read_bytes()
            texts += [content, content.replace(b"\0", b"")]
            if path.suffix == ".png":
                with Image.open(path) as picture:
                    texts.append(repr(picture.info).encode())
        for content in map(bytes.lower, texts):
            close = [secret for secret in patterns if secret in content]
            found += [(path.name, secret.decode()) for secret in close if re.search(patterns[secret], content)]
    return found


def test_nothing_of_a_patient_is_written_or_printed(exported, files, tmp_path, capfd):
    folder = tmp_path / "in"
    for number, path in enumerate(files[:3]):
        changed(path, folder / f"{number}.dcm", **PLANTED)
    changed(files[3], folder / "flagged.dcm", **PLANTED, **FREE_TEXT)
    changed(files[4], folder / "frames.dcm", **PLANTED, NumberOfFrames=7)
    changed(files[5], folder / "colour.dcm", **PLANTED, SamplesPerPixel=3, PhotometricInterpretation="RGB")
    cut = changed(files[6], folder / "cut.dcm", **PLANTED)
    cut.write_bytes(cut.read_bytes()[:-4000])
    with open(folder / "2.dcm", "rb+") as file:  # a value that pydicom warns of
        file.write(file.read().replace(b"19431117", b"GEOFFREY"))
    secrets = [*PLANTED.values(), "Geoffrey", "Plantagenet", "Strangelove"]
    assert {name for name, _ in contains(folder, secrets)} == {path.name for path in folder.iterdir()}

    table = score(exported, tmp_path / "out", folder)
    assert (table["reason"] == "").sum() == 4
    assert contains(tmp_path / "out", secrets) == []
    printed = "".join(capfd.readouterr())
    assert "7 files: 4 scored" in printed
    assert not [text for text in secrets if text.lower() in printed.lower()]


def test_nothing_of_a_header_is_in_the_results_of_the_workflow(finished, files):
    names = ["PatientName", "ImageComments", "StudyDescription", "StudyDate", "SOPInstanceUID", "StudyInstanceUID"]
    secrets = {str(pydicom.dcmread(path)[name].value) for path in files for name in names}
    assert len(secrets) > 200
    found = {path.name: contains(path, sorted(secrets)) for path in finished.results.iterdir() if path.name != "raw"}
    assert len(found) > 10
    assert not any(found.values())
    raw = contains(finished.results / "raw/dicom", sorted(secrets))
    assert {secret for _, secret in raw} == {secret.lower() for secret in secrets}


def test_the_model_names_no_image(finished, exported):
    manifest = read_csv(finished.results / "manifest.csv")
    for path in (exported, exported.with_suffix(".md")):
        content = path.read_bytes()
        assert not [text for text in {*manifest["image_id"], *manifest["patient_id"]} if text.encode() in content]
        assert b"raw/" not in content and str(finished.folder).encode() not in content


def test_the_card_is_what_inspect_prints(exported, finished, capsys):
    assert main(["inspect", str(exported)]) == 0
    card = capsys.readouterr().out
    assert card == exported.with_suffix(".md").read_text(encoding="utf-8")
    for text in (
        "# AMAE model: tiny, seed 0",
        "not a medical device",
        "10 normal images (T_n), 10 without label (T_u)",
    ):
        assert text in card
    assert "| `detector` | too few images |" in card
    measured = pd.read_csv(exported.with_name("metrics.csv")).set_index(["score", "group"])
    auc = measured.loc[("detector", "all")]
    assert f"| {auc['auc']:.2f} ({auc['auc_low']:.2f} to {auc['auc_high']:.2f}) |" in card
    from amae.runtime.files import sha256

    for name in ("manifest.csv", "images.npy", "mae.safetensors"):
        assert sha256(finished.results / name) in card


def test_files_that_are_no_model_are_refused_by_name(finished, exported, files, tmp_path, capsys):
    about, tensors = read_safetensors(exported)
    wrong = {"old.safetensors": f"a model of format {FORMAT - 1}, by amae 0.1.0; this version reads format {FORMAT}"}
    write_tensors(tensors, tmp_path / "old.safetensors", about | {"format": FORMAT - 1})
    for name in ("A.norm.weight", "head.0.weight", "features.mean", "training.distance"):
        write_tensors({key: tensors[key] for key in tensors if key != name}, tmp_path / f"no {name}", about)
        wrong[f"no {name}"] = f"no {name}: "
    for key in ("masks_of_new_images", "seed", "mask_shares", "auc_p", "no_calls"):
        write_tensors(tensors, tmp_path / f"no {key}", {name: about[name] for name in about if name != key})
        wrong[f"no {key}"] = "a damaged model"
    (tmp_path / "module").write_bytes((finished.results / "seed0/module_A/mae.safetensors").read_bytes())
    (tmp_path / "head").write_bytes((finished.results / "seed0/stage1/head.safetensors").read_bytes())
    wrong |= {"module": "not a model made by `amae export`, but a trained autoencoder", "head": "but stage 1 head"}
    save_file(load_file(exported), tmp_path / "bare")
    (tmp_path / "cut").write_bytes(exported.read_bytes()[:-100])
    torch.save({"model": torch.zeros(1)}, tmp_path / "pickle")
    wrong |= {"bare": "without a description", "cut": "not a readable safetensors", "pickle": "not a safetensors file"}
    wrong["missing"] = "No such file"
    for name, message in wrong.items():
        words = ["predict", files[0], "--model", tmp_path / name, "--output", tmp_path / "out", "--device", "cpu"]
        assert main([str(word) for word in words]) == 2, name
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("amae predict: error: ")]
        assert len(lines) == 1, name
        assert str(tmp_path / name) in lines[0]
        assert message in lines[0]
    assert not (tmp_path / "out").exists()


def test_too_few_calibration_images_call_nothing(exported, files, tmp_path, capsys):
    table = score(exported, tmp_path / "out", *files[:2], options=("--specificity", "0.95"))
    assert (table["call"] == "").all() and (table["detector_percentile"] != "").all()
    message = "a specificity of 0.95 needs 19 normal images held out for calibration, and the model has 10"
    assert message in capsys.readouterr().err and message in (tmp_path / "out/summary.html").read_text()


def test_without_calibration_nothing_is_called(exported, files, tmp_path):
    about, tensors = read_safetensors(exported)
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("calibration.")}
    write_tensors(kept, tmp_path / "model", about)
    table = score(tmp_path / "model", tmp_path / "out", *files[:2])
    assert (table["call"] == "").all()
    assert (table[[f"{name}_percentile" for name in UNMASKED]] == "").all(axis=None)
    assert "No image is called" in (tmp_path / "out/summary.html").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--score", "magic"], "--score: found 'magic', expected one of auto, detector, stage1, inter"),
        (["--specificity", "1"], "--specificity: found 1.0, expected more than 0 and less than 1"),
    ],
)
def test_wrong_options(exported, files, tmp_path, capsys, options, message):
    words = ["predict", files[0], "--model", exported, "--output", tmp_path / "out", "--device", "cpu", *options]
    assert main([str(word) for word in words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.long
def test_the_workflow_scores_a_folder(finished, files, predicted, tmp_path):
    project = finished.copy(tmp_path / "project")
    status, output = project.run("predictions")
    assert status != 0
    assert "key predict.folder: null, expected the folder" in output
    assert "Traceback" not in output
    (project.folder / "new").mkdir()
    for path in files[:3]:
        (project.folder / "new" / path.name).write_bytes(path.read_bytes())
    status, output = project.run("predictions", config=("predict={folder: new}",))
    assert status == 0, output
    found = pd.read_csv(project.results / "seed0/predictions/predictions.csv")
    np.testing.assert_allclose(found[UNMASKED], predicted[1][UNMASKED].head(3), rtol=0, atol=1e-6)
    status, output = project.run("predictions")
    assert status != 0
    assert "key predict.folder: null, expected the folder" in output

    def planned():
        status, output = project.run("predictions", "--dry-run", config=("predict={folder: new}",))
        assert status == 0, output
        return "rule predict_radiographs:" in output

    assert not planned()
    (project.folder / "new/.hidden").write_text("left out by the command")
    assert not planned()
    (project.folder / "new/below").mkdir()
    assert not planned()
    added = project.folder / "new/below" / files[3].name
    added.write_bytes(files[3].read_bytes())
    assert planned()
    added.unlink()
    assert not planned()
    replaced = project.folder / "new" / files[0].name  # the folder's own time stays
    replaced.write_bytes(files[1].read_bytes())
    assert planned()


def test_pictures_are_read_as_they_are(exported, tmp_path):
    """A PNG and the same picture in memory: the scores of `score_images` and of the command agree."""
    model = load_model(exported)
    size = model.encoder.architecture.image_size
    picture = np.random.default_rng(2).integers(0, 256, (size, size), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "p.png")
    direct, _, maps = module.score_images(model, picture[None])
    found = score(exported, tmp_path / "out", tmp_path / "p.png", options=("--score", "inter"))
    np.testing.assert_allclose(found[SCORES], direct[SCORES], rtol=0, atol=1e-6)
    heat = np.asarray(Image.open(io.BytesIO((tmp_path / "out" / found["map"][0]).read_bytes())))
    brightness = heat.astype(int).sum(-1)
    assert brightness[maps[0] == 0].max(initial=0) <= brightness.min() + 3
    shown = maps[0] > 0
    assert shown.any()
    assert spearmanr(brightness[shown], maps[0][shown].clip(max=model.about["map_limit"])).statistic > 0.9


def test_maps_as_dicom_refer_to_their_radiographs(exported, files, tmp_path, capsys):
    bare = changed(files[1], tmp_path / "in/bare.dcm", PatientOrientation=None)
    dataset = pydicom.dcmread(files[2])
    del dataset.StudyInstanceUID
    dataset.save_as(tmp_path / "in/orphan.dcm")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 40), np.uint8)).save(tmp_path / "in/p.png")
    given = (files[0], tmp_path / "in")
    table = score(exported, tmp_path / "out", *given, options=("--dicom",)).set_index("file")
    assert (table["reason"] == "").all()
    assert (table.loc[["orphan.dcm", "p.png"], "dicom"] == "").all()
    assert (
        "warning: orphan.dcm: no DICOM file can refer to it: StudyInstanceUID missing or not" in capsys.readouterr().err
    )
    for source, name in ((files[0], files[0].name), (bare, "bare.dcm")):
        reference, made = pydicom.dcmread(source), pydicom.dcmread(tmp_path / "out" / table.loc[name, "dicom"])
        assert made.SOPClassUID.name == "Secondary Capture Image Storage"
        assert made.SourceImageSequence[0].ReferencedSOPInstanceUID == reference.SOPInstanceUID
        assert made.SourceImageSequence[0].ReferencedSOPClassUID == reference.SOPClassUID
        for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "PatientOrientation"):
            assert (made.get(keyword) or "") == (reference.get(keyword) or ""), keyword
        assert made.SOPInstanceUID != reference.SOPInstanceUID
        assert made.SeriesInstanceUID != reference.SeriesInstanceUID
        pixels = made.pixel_array
        assert pixels.shape == (reference.Rows, reference.Columns, 3)
        grey = read_grey(source, "minmax").astype(float)
        uncoloured = np.ptp(pixels, axis=-1) == 0
        assert np.corrcoef(pixels[uncoloured, 0], grey[uncoloured])[0, 1] > 0.99  # the radiograph, at its place
        assert uncoloured.mean() > 0.002


def test_captures_of_one_instance_are_named(exported, files, tmp_path, capsys):
    for name in ("a.dcm", "copy of a.dcm", "b.dcm"):
        shutil.copy(files[name == "b.dcm"], tmp_path / name)
    other = changed(files[1], tmp_path / "other.dcm", SOPInstanceUID=pydicom.dcmread(files[0]).SOPInstanceUID)
    told = (
        "Captures with the UID of another, as their files are one instance (SOPInstanceUID), of which an archive keeps"
    )
    given = [tmp_path / name for name in ("a.dcm", "b.dcm", "copy of a.dcm")]
    score(exported, tmp_path / "out", *given, options=("--dicom",))
    assert f"warning: {told} one: 1 (copy of a.dcm as a.dcm).\n" in capsys.readouterr().err
    score(exported, tmp_path / "out", *given, other, options=("--dicom",))  # the first three are kept
    expected = f"{told} one: 2 (copy of a.dcm as a.dcm; other.dcm as a.dcm, with other pixels)."
    assert f"warning: {expected}\n" in capsys.readouterr().err
    assert expected in (tmp_path / "out/summary.html").read_text()
    (tmp_path / "out/dicom/a.dcm.dcm").unlink()  # moved to an archive
    score(exported, tmp_path / "out", *given, other, options=("--dicom",))
    assert f"{told} one: 1 (other.dcm as copy of a.dcm, with other pixels)." in capsys.readouterr().err
    score(exported, tmp_path / "none", files[0], files[1], options=("--dicom",))
    assert "instance" not in capsys.readouterr().err


NAME = "ISO 2022 IR 87", "Yamada^Tarou=\u5c71\u7530^\u592a\u90ce"  # of PS3.5, annex H.3


@pytest.mark.parametrize(
    ("given", "written", "name"),
    [
        (["", NAME[0]], ["ISO 2022 IR 6", NAME[0]], NAME[1]),
        (["ISO_IR 100", NAME[0]], ["ISO 2022 IR 100", NAME[0]], NAME[1]),
        ("", None, "Geoffrey"),
        ("ISO_IR 6", None, "Geoffrey"),
        ("ISO 2022 IR 6", None, "Geoffrey"),
        ("ISO 2022 IR 100", "ISO_IR 100", "Gr\xfcn"),
        ("ISO_IR 192", "ISO_IR 192", NAME[1]),
    ],
)
def test_a_capture_has_the_name_in_the_characters_of_its_source(tmp_path, given, written, name):
    source = radiograph(PatientID="1", StudyInstanceUID="1.2.77", SeriesInstanceUID="1.2.78")
    source.SpecificCharacterSet, source.PatientName = given, name
    (tmp_path / "x.dcm").write_bytes(saved(source))
    assert str(pydicom.dcmread(tmp_path / "x.dcm").PatientName) == name
    write_capture(tmp_path / "x.dcm", np.zeros((64, 64, 3), np.uint8), "model", tmp_path / "out.dcm")
    made = pydicom.dcmread(tmp_path / "out.dcm")
    assert (made.get("SpecificCharacterSet"), str(made.PatientName)) == (written, name)


@pytest.mark.parametrize("orientation", ["L\\FP", "L\\F", "LEFT\\FOOT", "\\", ""])
def test_a_capture_says_of_the_picture_what_its_source_says(tmp_path, orientation):
    elements = {"PatientID": "1", "StudyInstanceUID": "1.2.77", "PatientOrientation": orientation}
    for number, about in enumerate(({"BurnedInAnnotation": "YES", "LossyImageCompression": "01"}, {})):
        (tmp_path / "x.dcm").write_bytes(saved(radiograph(**elements | about)))
        write_capture(tmp_path / "x.dcm", np.zeros((64, 64, 3), np.uint8), "model", tmp_path / f"{number}.dcm")
        made = pydicom.dcmread(tmp_path / f"{number}.dcm")
        for keyword in ("BurnedInAnnotation", "LossyImageCompression"):
            assert made.get(keyword) == about.get(keyword)
        known = orientation in ("L\\FP", "L\\F")
        assert list(made.PatientOrientation or []) == (orientation.split("\\") if known else [])


@pytest.mark.parametrize("square", ["squash", "pad", "crop"])
def test_the_map_lies_where_it_belongs(square):
    """A bright square in the radiograph, and the map of exactly that square in the packed image."""
    grey = np.zeros((300, 400), np.uint8)
    grey[100:200, 120:220] = 200
    packed, geometry = make_square(grey, square, 64)
    found = full_overlay(grey, (packed > 100).astype(np.float32), 1.0, geometry).astype(int)
    coloured = np.ptp(found, axis=-1) > 60
    assert (coloured == (grey > 0)).mean() > 0.97
    assert coloured[105:195, 125:215].all()


def test_dicom_needs_its_package(exported, files, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("amae.predict.dicom_out.find_spec", lambda name: None)
    words = ["predict", files[0], "--model", exported, "--output", tmp_path / "out", "--device", "cpu", "--dicom"]
    assert main([str(word) for word in words]) == 2
    assert "--dicom: needs the optional package highdicom (pip install highdicom)" in capsys.readouterr().err


def test_the_best_score_is_chosen_without_labels(finished, exported, files, tmp_path, capsys):
    about, tensors = read_safetensors(exported)
    table = pd.read_csv(exported.with_name("separation.csv"), index_col="score")
    assert table["auc_p"].to_dict() == pytest.approx(about["auc_p"])
    assert (table["mask_noise"].drop(["detector", "stage1"]) > 0).all()
    assert table["implied_auc"].to_numpy() == pytest.approx((table["auc_p"].to_numpy() - 0.2) / 0.6)  # AR is 0.6
    write_tensors(tensors, tmp_path / "model", about | {"auc_p": {"inter": 0.6, "stage1": 0.7}})
    score(tmp_path / "model", tmp_path / "out", files[0], options=("--score", "auto"))
    assert "score stage1: its AUCp, 0.700, is the greatest" in capsys.readouterr().err
    write_tensors(tensors, tmp_path / "unknown", about | {"auc_p": {}})
    words = ["predict", files[0], "--model", tmp_path / "unknown", "--output", tmp_path / "no", "--score", "auto"]
    assert main([str(word) for word in words]) == 2
    assert "no AUCp is known" in capsys.readouterr().err


def test_scores_of_modules_that_learned_nothing_call_nothing(exported, files, tmp_path, capsys):
    about = read_safetensors(exported)[0]
    assert "no better than their mean image" in about["no_calls"]["inter"]  # two epochs of a tiny autoencoder
    assert "detector" not in about["no_calls"]
    assert "no calls: module A explains" in exported.with_suffix(".md").read_text()
    table = score(exported, tmp_path / "out", *files[:2], options=("--score", "inter", "--specificity", "0.5"))
    assert (table["call"] == "").all()
    assert "warning: No image is called: module A explains" in capsys.readouterr().err


def test_one_calibration_image_makes_a_model_that_calls_nothing(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(finished.folder)
    (words,) = finished.commands("export")
    table = read_csv(words[words.index("--manifest") + 1])
    first = table.index[table["split"] == "calibration"][0]
    table[(table["split"] != "calibration") | (table.index == first)].to_csv(tmp_path / "one.csv", index=False)
    changed = {"manifest": tmp_path / "one.csv"} | {name: tmp_path / name for name in ("model", "card", "separation")}
    assert main([str(word) for word in with_options(words, **changed)]) == 0
    model = load_model(tmp_path / "model")
    assert all(len(scores) == 1 for scores in model.group("calibration").values())
    assert "the model has 1" in module.why_no_call(model, "detector")


def test_a_training_that_ended_in_its_warm_up_calls_nothing():
    from amae.commands.export import _not_left_warm_up

    cut, whole = ModuleSettings(epochs=5, warmup_epochs=5), Stage1Settings(epochs=5, warmup_epochs=4)
    found = _not_left_warm_up(modules=cut, stage1=whole)
    assert set(found) == {"inter", "mask_rec", "error_ratio", "error_ratio_patch"}
    assert found["inter"] == "its training ended within its warm-up of 5 epochs"


def test_a_model_without_a_stated_ratio_has_an_implied_auc_only_where_the_estimate_is_not_0():
    from amae.commands.export import _implied

    assert _implied({"inter": 0.9}, None, (0.2, 0.0, 0.4)) == {}
    assert _implied({"inter": 0.9, "stage1": 0.6}, None, (0.5, 0.4, 0.6)) == pytest.approx({"inter": 1, "stage1": 0.7})
    assert _implied({"inter": 0.9}, 0.5, (0.2, 0.0, 0.4)) == pytest.approx({"inter": 1.3})


def test_noise_that_was_stated_for_the_normal_images_is_on_the_card_and_among_the_notes_of_a_page(tmp_path):
    about, arrays = read_arrays(write_model(tmp_path / "m.safetensors", 32, "voi"))
    arrays = {name: array for name, array in arrays.items() if array.dtype == np.float64}
    scored = pd.DataFrame({"reason": [""], "flag": [""]})
    said = "Up to 5.0% of the normal training images may be abnormal"
    for noise, times in ((0, 0), (0.05, 1)):
        stated = about | {"normal_noise": noise}
        assert card_of(stated, arrays).count(said) == times
        assert " ".join(_notes(scored, stated, "detector", 0.95, None)).count(said) == times


def test_what_a_program_gives_wrongly_is_one_error(exported, tmp_path):
    model = load_model(exported)
    with pytest.raises(InputError, match=r"paths: found 'x\.dcm', expected a list of paths"):
        module.score_files(model, "x.dcm")
    with pytest.raises(InputError, match="score: found 'xx', expected one of detector"):
        module.operating_point_of(model, "xx")
    (tmp_path / "x.png").write_text("no picture")
    (found,) = module.score_files(model, [tmp_path / "x.png"])
    assert {"geometry", "radiograph", "reason"} <= set(found.table) and found.table["reason"].iloc[0]
