"""Simulated radiographs: determinism, valid DICOM, honest truth, and physics with known answers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from scipy.stats import chi2_contingency

from amae.runtime.errors import InputError
from amae.sources.simulated import FINDINGS, Facts, draw_facts, simulate_dataset, simulate_image
from amae.sources.simulated.files import write_dicom
from amae.sources.simulated.geometry import Frame, ellipsoid, splat
from amae.sources.simulated.image import SimulatedImage, render
from amae.sources.simulated.projection import BONE, WATER, Exposure, expose, line_integral

SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless, JPEGLSLossless)


def small(seed: int, index: int, **changes: object) -> Facts:
    """Facts of a normal image on a small matrix, for speed; the field of view stays the same."""
    facts = draw_facts(seed, index, abnormal=0.0)
    shrink = 192 / max(facts.rows, facts.columns)
    rows, columns, spacing = round(facts.rows * shrink), round(facts.columns * shrink), facts.spacing / shrink
    return replace(replace(facts, rows=rows, columns=columns, spacing=round(spacing, 2)), **changes)


def with_finding(finding: str, severity: float = 0.6) -> Facts:
    return small(5, 3, label="abnormal", finding=finding, severity=severity)


def displayed(image: SimulatedImage) -> np.ndarray:
    """Grey from 0 (black, air) to 1 (white, bone) that the stored values stand for, float32 (H, W)."""
    grey = image.pixels.astype(np.float32) / (2**image.facts.bits_stored - 1)
    return 1 - grey if image.facts.photometric == "MONOCHROME1" else grey


def healed(facts: Facts) -> SimulatedImage:
    """The same exposure of the same patient without the finding."""
    return render(replace(facts, finding=""))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    simulate_dataset(folder, images=9, seed=3)
    return folder


def test_same_bytes_again_and_with_workers(dataset: Path, tmp_path: Path) -> None:
    simulate_dataset(tmp_path, images=4, seed=3, workers=2)
    names = sorted(path.name for path in (tmp_path / "dicom").iterdir())
    assert len(names) == 4
    for name in names:
        assert (tmp_path / "dicom" / name).read_bytes() == (dataset / "dicom" / name).read_bytes()
    some, all_rows = (pd.read_csv(folder / "labels.csv", keep_default_na=False) for folder in (tmp_path, dataset))
    pd.testing.assert_frame_equal(some, all_rows.iloc[:4])


def test_calibration_images_are_normal_and_of_other_patients(tmp_path: Path) -> None:
    simulate_dataset(tmp_path, images=3, seed=3, abnormal=1, calibration=4)
    labels = pd.read_csv(tmp_path / "labels.csv", keep_default_na=False)
    assert labels["split"].tolist() == [""] * 3 + ["calibration"] * 4
    assert labels["label"].tolist() == ["abnormal"] * 3 + ["normal"] * 4
    assert len(list((tmp_path / "dicom").iterdir())) == 7
    drawn, kept = labels[labels["split"] == ""], labels[labels["split"] != ""]
    assert not set(kept["patient_id"]) & {draw_facts(3, index).patient_id for index in range(13)}
    assert drawn["patient_id"].tolist() == [draw_facts(3, index).patient_id for index in range(3)]
    with pytest.raises(InputError, match="-1 for calibration"):
        simulate_dataset(tmp_path, images=3, seed=3, calibration=-1)


def test_another_index_and_another_seed_give_another_image() -> None:
    images = [render(small(seed, index, rows=256, columns=256)) for seed, index in ((0, 0), (0, 1), (1, 0))]
    assert len({image.facts.image_id for image in images}) == len({image.facts.uid for image in images}) == 3
    for first, second in ((0, 1), (0, 2)):
        assert np.abs(displayed(images[first]) - displayed(images[second])).mean() > 0.01


def test_every_file_is_valid_dicom_that_says_what_it_is(dataset: Path) -> None:
    labels = pd.read_csv(dataset / "labels.csv", dtype=str, keep_default_na=False)
    assert labels.image_id.is_unique and set(labels.label) == {"normal", "abnormal"}
    assert ((labels.finding == "") == (labels.label == "normal")).all()
    for row in labels.itertuples():
        read = pydicom.dcmread(dataset / row.path)
        assert read.pixel_array.shape == (read.Rows, read.Columns) == (int(row.rows), int(row.columns))
        assert (row.view, row.sex, f"{int(row.age):03d}Y") == (read.ViewPosition, read.PatientSex, read.PatientAge)
        assert read.PatientName.family_name == "SYNTHETIC" and "SYNTHETIC" in read.ImageComments
        header = str(read).lower() + read.filename.lower()
        assert not any(word in header for word in (*FINDINGS, "nodule", "pneumo", "abnormal", "normal"))


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name.replace(" ", "-"))
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_pixels_survive_every_syntax(syntax: str, bits: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(bits)
    facts = small(0, bits, syntax=syntax, bits_stored=bits, rows=61, columns=47)  # odd: padding bytes
    pixels = rng.integers(0, 2**bits, (61, 47)).astype(np.uint8 if bits == 8 else np.uint16)
    image = SimulatedImage(facts, pixels, np.zeros((61, 47), dtype=bool), (), 100.0, 200.0)
    write_dicom(image, tmp_path / "image.dcm")
    read = pydicom.dcmread(tmp_path / "image.dcm")
    assert read.file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read.pixel_array, pixels)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_lungs_are_dark_and_bone_is_bright_as_stored_and_as_windowed(photometric: str, tmp_path: Path) -> None:
    for index, rescale in enumerate(("none", "negative", "slope")):
        facts = small(2, index, photometric=photometric, rescale=rescale, window="linear", bits_stored=12)
        image = render(facts)
        write_dicom(image, tmp_path / "image.dcm")
        read = pydicom.dcmread(tmp_path / "image.dcm")
        shown = pydicom.pixels.apply_windowing(pydicom.pixels.apply_rescale(read.pixel_array, read), read)
        stored = read.pixel_array.astype(float)
        for grey in (stored, shown):
            grey = -grey if photometric == "MONOCHROME1" else grey
            rows, columns = grey.shape
            lung = grey[int(0.35 * rows) : int(0.5 * rows), int(0.25 * columns) : int(0.37 * columns)].mean()
            spine = grey[int(0.6 * rows) : int(0.7 * rows), int(0.47 * columns) : int(0.53 * columns)].mean()
            assert spine - lung > 0.15 * np.ptp(grey)


@pytest.mark.parametrize("finding", FINDINGS)
def test_box_encloses_its_mask_and_the_image_changes_there_alone(finding: str) -> None:
    facts = with_finding(finding)
    ill, well = render(facts), healed(facts)
    assert ill.boxes and ill.mask.any() and not well.mask.any() and not well.boxes
    covered = np.zeros_like(ill.mask)
    for box in ill.boxes:
        assert 0 <= box.x_min < box.x_max <= facts.columns and 0 <= box.y_min < box.y_max <= facts.rows
        covered[box.y_min : box.y_max, box.x_min : box.x_max] = True
        inside = ill.mask[box.y_min : box.y_max, box.x_min : box.x_max]
        assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
    assert not (ill.mask & ~covered).any()
    change = np.abs(displayed(ill) - displayed(well))
    assert change[ill.mask].mean() > 4 * change[~ill.mask].mean()
    assert change[~ill.mask].mean() < 0.01


def test_plain_findings_change_more_than_subtle_ones() -> None:
    for finding in FINDINGS:
        size = []
        for severity in (0.1, 0.9):
            facts = with_finding(finding, severity)
            size.append(np.abs(displayed(render(facts)) - displayed(healed(facts))).sum())
        assert size[1] > 1.5 * size[0]


def test_path_through_a_sphere_has_its_volume_and_beer_lambert_its_exponent() -> None:
    step = np.float32(0.05)
    x = ((np.arange(200) - 99.5) * step)[None, :] + np.zeros((200, 1), dtype=np.float32)
    y = ((np.arange(200) - 99.5) * step)[:, None]
    sphere = ellipsoid(x.astype(np.float32), y.astype(np.float32), (0.3, -0.2), (3.0, 3.0), 6.0)
    assert sphere.sum() * step**2 == pytest.approx(4 / 3 * np.pi * 3.0**3, rel=2e-3)
    clear = Exposure(1e9, scatter=0, scatter_width=5, blur=0, electronic=0, latitude=0, sharpen=0, low=0, high=0)
    frame = Frame(200, 200, 0.05, 180, 1, (1, 1, 1), 0, 0, 0, (100, 100))
    through = expose(line_integral(sphere, np.float32(0)), clear, frame)
    assert through[96, 106] == pytest.approx(np.exp(-WATER * 6.0), rel=1e-3)
    slab = np.full((200, 200), 10, dtype=np.float32)
    through = expose(line_integral(slab, slab / 20), clear, frame)
    np.testing.assert_allclose(through, np.exp(-(WATER * 10 + BONE * 0.5)), rtol=1e-5)


def test_splatting_keeps_mass_and_centre() -> None:
    rng = np.random.default_rng(0)
    row, column, mass = rng.uniform(5, 40, 500), rng.uniform(3, 50, 500), rng.uniform(0, 1, 500)
    image = np.zeros((48, 60), dtype=np.float32)
    splat(image, (row, column, mass))
    assert image.sum() == pytest.approx(mass.sum(), rel=1e-5)
    assert (image.sum(axis=1) @ np.arange(48)) == pytest.approx(row @ mass, rel=1e-5)
    assert (image.sum(axis=0) @ np.arange(60)) == pytest.approx(column @ mass, rel=1e-5)


def test_a_part_nearer_the_source_is_magnified_more() -> None:
    pa = Frame(500, 500, 0.08, 180, +1, (1, 1, 1), 0, 0, 0, (250, 250))
    ap = replace(pa, source_distance=100, facing=-1.0)
    heart = 3.5
    assert 1.0 < pa.magnification(heart) < pa.magnification(-heart) < ap.magnification(-heart) < ap.magnification(heart)


def test_label_is_independent_of_everything_in_the_header() -> None:
    drawn = [draw_facts(17, index) for index in range(600)]
    label = np.array([facts.label for facts in drawn])
    assert abs((label == "abnormal").mean() - 0.4) < 0.06
    names = ["view", "syntax", "rows", "bits_stored", "photometric", "sop_class", "sex", "rescale", "window"]
    for name in names:
        table = pd.crosstab(label, np.array([str(getattr(facts, name)) for facts in drawn]))
        assert chi2_contingency(table).pvalue > 0.05 / len(names) / 5, name


def test_patients_return_with_the_same_person_and_another_pose() -> None:
    drawn = [draw_facts(4, index) for index in range(130)]
    people = pd.DataFrame([{"patient": f.patient_id, "sex": f.sex, "age": f.age, "uid": f.uid} for f in drawn])
    visits = people.groupby("patient")
    assert len(visits) == 100 and visits.size().max() == 3
    assert (visits[["sex", "age"]].nunique() == 1).all().all()
    assert people.uid.is_unique


def test_stored_values_fit_their_bits() -> None:
    for index, bits in enumerate((8, 10, 12, 14, 16)):
        pixels = render(small(9, index, bits_stored=bits)).pixels
        assert pixels.dtype == (np.uint8 if bits == 8 else np.uint16)
        assert 0.5 * 2**bits < pixels.max() < 2**bits and pixels.min() < 0.25 * 2**bits


def test_simulate_image_is_the_image_of_the_data_set(dataset: Path) -> None:
    image = simulate_image(3, 5)
    read = pydicom.dcmread(dataset / "dicom" / f"{image.facts.image_id}.dcm")
    np.testing.assert_array_equal(read.pixel_array, image.pixels)
