"""The DICOM chain against formulas written out from the standard, files built here, and the conformance file."""

import io
import os
import re
import signal
import warnings
from multiprocessing import Pipe
from pathlib import Path
from threading import Thread

import numpy as np
import pydicom
import pytest
from corpus import FORMATS
from corpus import dataset as radiograph
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array
from pydicom.uid import (
    JPEG2000,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from scipy.special import expit

from amae.data import dicom
from amae.data.decode import DECODERS, _decoding_process, _serve, decode
from amae.data.dicom import read_grey
from amae.runtime.errors import InputError

RAMP = np.arange(1024, dtype=np.uint16).reshape(32, 32)
SECRET = "Doe^Jane"


def make(stored: np.ndarray, bits: int = 16, photometric: str = "MONOCHROME2", **attributes: object) -> Dataset:
    """A radiograph with these stored values and attributes."""
    bits = min(bits, 8 * stored.dtype.itemsize)
    given = {"BitsStored": bits, "HighBit": bits - 1, "PhotometricInterpretation": photometric}
    made = radiograph(stored, **given, PatientName=SECRET, PatientID=SECRET)
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def lut_item(first: int, table: np.ndarray, bits: int, packed: bool = False) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(table) % 65536, first, bits])
    item.add_new("LUTData", "OW", table.astype("u1" if packed else "<u2").tobytes())
    return item


@pytest.fixture
def save(tmp_path: Path):
    def write(dataset: Dataset, name: str = "image.dcm") -> Path:
        dataset.save_as(tmp_path / name, enforce_file_format=True)
        return tmp_path / name

    return write


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_minmax_of_every_depth(save, bits: int, photometric: str) -> None:
    stored = np.random.default_rng(bits).integers(3, 2**bits - 5, (17, 23)).astype(np.uint8 if bits == 8 else np.uint16)
    grey = read_grey(save(make(stored, bits, photometric)), "minmax")
    values = [[int(value) for value in row] for row in stored]
    low, high = stored.min().item(), stored.max().item()
    if photometric == "MONOCHROME1":
        values = [[high - value for value in row] for row in values]
        low, high = 0, high - low
    if bits > 8:
        values = [[255 * (value - low) // (high - low) for value in row] for row in values]
    # an exact quotient may fall a hair below a whole level in floating point, as in the published conversion
    assert np.abs(grey.astype(int) - values).max() <= (1 if bits > 8 else 0)
    assert (grey != np.array(values)).mean() < 0.01
    assert grey.dtype == np.uint8 and (bits == 8 or (grey.min() == 0 and grey.max() == 255))


def test_conformance_before_squashing_is_what_pydicom_decodes(shared: Path) -> None:
    path = shared / "data/dicom/RG2_RLE.dcm"
    stored = pydicom.dcmread(path).pixel_array.astype(float)
    assert np.array_equal(read_grey(path, "minmax"), (stored / 893 * 255).astype(np.uint8))


def linear(x: float, c: float, w: float) -> float:
    """PS3.3 C.11.2.1.2.1 with ymin 0 and ymax 1, as the pseudo-code there."""
    if x <= c - 0.5 - (w - 1) / 2:
        return 0
    if x > c - 0.5 + (w - 1) / 2:
        return 1
    return (x - (c - 0.5)) / (w - 1) + 0.5


def linear_exact(x: float, c: float, w: float) -> float:
    """PS3.3 C.11.2.1.3.2."""
    return 0 if x <= c - w / 2 else 1 if x > c + w / 2 else (x - c) / w + 0.5


def sigmoid(x: float, c: float, w: float) -> float:
    """PS3.3 C.11.2.1.3.1."""
    return expit(4 * (x - c) / w)


FORMULAS = {"LINEAR": linear, "LINEAR_EXACT": linear_exact, "SIGMOID": sigmoid}


@settings(max_examples=60, deadline=None)
@given(
    values=arrays(np.int32, (3, 4), elements=st.integers(-3000, 3000)),
    center=st.floats(-2000, 2000),
    width=st.floats(1, 4000) | st.just(1.0),
    function=st.sampled_from(sorted(FORMULAS)),
)
def test_window_is_the_standards_formula(values: np.ndarray, center: float, width: float, function: str) -> None:
    expected = [[FORMULAS[function](float(x), center, width) for x in row] for row in values]
    np.testing.assert_allclose(dicom.window(values, center, width, function), expected, atol=1e-9)


@pytest.mark.parametrize("function", sorted(FORMULAS))
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_voi_rescales_then_windows_then_inverts(save, function: str, photometric: str) -> None:
    dataset = make(RAMP, 10, photometric, RescaleSlope=2, RescaleIntercept=-700, WindowCenter=[100, 5])
    dataset.WindowWidth = [900, 7]  # the second view is not the one to show
    dataset.VOILUTFunction = function
    shown = np.array([[FORMULAS[function](2.0 * x - 700, 100, 900) for x in row] for row in RAMP.astype(int)])
    expected = (1 - shown if photometric == "MONOCHROME1" else shown) * 255
    assert np.abs(read_grey(save(dataset), "voi") - expected).max() <= 0.5 + 1e-6


def test_voi_agrees_with_pydicom_where_pydicom_defines_it(save) -> None:
    dataset = make(RAMP, 10, RescaleSlope=1.5, RescaleIntercept=-20, WindowCenter=600, WindowWidth=700)
    path = save(dataset)
    read = pydicom.dcmread(path)
    values = pydicom.pixels.apply_voi_lut(pydicom.pixels.apply_modality_lut(read.pixel_array, read), read)
    low, high = -20, 1023 * 1.5 - 20
    assert np.abs(read_grey(path, "voi") - (values - low) / (high - low) * 255).max() <= 0.5 + 1e-6


def test_negative_slope_turns_the_order_around_once(save) -> None:
    dataset = make(RAMP, 10, RescaleSlope=-1, RescaleIntercept=1023, WindowCenter=512, WindowWidth=1024)
    assert np.array_equal(read_grey(save(dataset), "voi"), np.rint(RAMP[::-1, ::-1] / 1023 * 255).astype(np.uint8))


def test_full_range_without_a_window(save) -> None:
    empty = make(RAMP, 10, WindowCenter=None, WindowWidth=None)
    for dataset in (make(RAMP + 100, 12), empty):
        assert np.array_equal(read_grey(save(dataset), "voi"), np.rint(RAMP / 1023 * 255).astype(np.uint8))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_inverse_shape_and_monochrome1_invert_once(save, photometric: str) -> None:
    upright = read_grey(save(make(RAMP, 10)), "voi")
    inverse = read_grey(save(make(RAMP, 10, photometric, PresentationLUTShape="INVERSE")), "voi")
    assert np.array_equal(inverse, 255 - upright)
    identity = read_grey(save(make(RAMP, 10, "MONOCHROME2", PresentationLUTShape="IDENTITY")), "voi")
    assert np.array_equal(identity, upright)


@pytest.mark.parametrize("first, bits, packed", [(0, 16, False), (200, 12, False), (0, 8, True), (0, 8, False)])
def test_voi_lut_is_preferred_to_the_window(save, first: int, bits: int, packed: bool) -> None:
    table = np.sort(np.random.default_rng(first).integers(0, 2**bits, 701))
    dataset = make(RAMP, 10, WindowCenter=1, WindowWidth=2, VOILUTSequence=[lut_item(first, table, bits, packed)])
    expected = [[255 * int(table[min(max(int(x) - first, 0), 700)]) / (2**bits - 1) for x in row] for row in RAMP]
    assert np.abs(read_grey(save(dataset), "voi") - expected).max() <= 0.5 + 1e-6


def test_modality_lut_feeds_the_window(save) -> None:
    table = np.arange(1024)[::-1] * 4
    item = lut_item(-512, table, 12)
    dataset = make(RAMP.astype(np.int16) - 512, 10, ModalityLUTSequence=[item], WindowCenter=2046.5, WindowWidth=4093)
    expected = [[255 * linear(float(table[x]), 2046.5, 4093) for x in row] for row in RAMP]
    assert np.abs(read_grey(save(dataset), "voi") - expected).max() <= 0.5 + 1e-6


def test_big_endian_lut_and_pixels(save) -> None:
    dataset = make(RAMP.astype(">u2"), 10, VOILUTSequence=[lut_item(0, np.arange(1024).astype("<u2").byteswap(), 10)])
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    assert np.array_equal(read_grey(save(dataset), "voi"), np.rint(RAMP / 1023 * 255).astype(np.uint8))


def test_signed_values_and_overlay_bits_above_bits_stored(save) -> None:
    signed = (RAMP.astype(np.int16) - 512) & 0x03FF  # ten bits; what lies above them is not part of the value
    for path in (save(make(signed, 10)), save(make(signed | 0x4000, 10))):
        assert np.array_equal(read_grey(path, "voi"), np.rint(RAMP / 1023 * 255).astype(np.uint8))


SHUTTERS = {  # attributes, and what they show of 32 x 32 pixels, rows and columns from 1
    "rectangle": (
        {
            "ShutterShape": "RECTANGULAR",
            "ShutterUpperHorizontalEdge": 3,
            "ShutterLowerHorizontalEdge": 30,
            "ShutterLeftVerticalEdge": 5,
            "ShutterRightVerticalEdge": 20,
        },
        lambda row, column: (row >= 3) & (row <= 30) & (column >= 5) & (column <= 20),
    ),
    "circle": (
        {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [16, 10], "RadiusOfCircularShutter": 6},
        lambda row, column: np.hypot(row - 16, column - 10) <= 6,
    ),
    "polygon": (
        {"ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": [4, 4, 4, 24, 24, 4]},
        lambda row, column: (row >= 4) & (column >= 4) & (row + column <= 28),
    ),
}
SHUTTERS["both"] = (
    SHUTTERS["rectangle"][0] | SHUTTERS["circle"][0] | {"ShutterShape": ["RECTANGULAR", "CIRCULAR"]},
    lambda row, column: SHUTTERS["rectangle"][1](row, column) & SHUTTERS["circle"][1](row, column),
)


@pytest.mark.parametrize("kind", SHUTTERS)
@pytest.mark.parametrize("stored", [RAMP, (RAMP // 4).astype(np.uint8)], ids=["16 bits", "8 bits"])
def test_what_a_shutter_hides_is_black_and_outside_the_range(save, kind: str, stored: np.ndarray) -> None:
    attributes, inside = SHUTTERS[kind]
    row, column = np.mgrid[1:33, 1:33]
    shown = inside(row, column)
    notes: list[str] = []
    path = save(make(stored, **attributes))
    grey = read_grey(path, "voi", notes)
    kept = stored[shown].astype(float)
    assert (grey[~shown] == 0).all() and notes == []
    np.testing.assert_array_equal(grey[shown], np.rint((kept - kept.min()) / np.ptp(kept) * 255))
    np.testing.assert_array_equal(read_grey(path, "minmax", notes), read_grey(save(make(stored)), "minmax"))
    assert notes == ["minmax ignores the display shutter, so what it hides counts as part of the picture"]


@pytest.mark.parametrize(
    "attributes",
    [
        {"ShutterShape": "RECTANGULAR"},
        {"ShutterShape": "BITMAP"},
        {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [500, 500], "RadiusOfCircularShutter": 6},
        {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [10**22, 5], "RadiusOfCircularShutter": 6},
        {"ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": [4, 4, 4]},
        {"ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": [4, 4, 20, 20]},
    ],
)
def test_a_shutter_that_is_not_usable_is_passed_over_with_a_note(save, attributes: dict) -> None:
    notes: list[str] = []
    np.testing.assert_array_equal(
        read_grey(save(make(RAMP, **attributes)), "voi", notes), read_grey(save(make(RAMP)), "voi")
    )
    assert notes == ["the display shutter is not as in PS3.3 C.7.6.11; passed over"]


@pytest.mark.parametrize("keyword", ["ShutterShape", "ShutterLeftVerticalEdge"])
def test_a_shutter_in_values_of_another_type_is_passed_over_with_a_note(save, keyword: str) -> None:
    made, notes = make(RAMP, **SHUTTERS["rectangle"][0]), []
    del made[keyword]
    made.add_new(keyword, "FD", float("inf"))
    read_grey(save(made), "voi", notes)
    assert notes == ["the display shutter is not as in PS3.3 C.7.6.11; passed over"]


def test_a_shutter_that_hides_nothing_has_no_note(save) -> None:
    edges = {"ShutterUpperHorizontalEdge": 1, "ShutterLowerHorizontalEdge": 32}
    made = make(RAMP, ShutterShape="RECTANGULAR", ShutterLeftVerticalEdge=0, ShutterRightVerticalEdge=40, **edges)
    for conversion in ("voi", "minmax"):
        notes: list[str] = []
        np.testing.assert_array_equal(read_grey(save(made), conversion, notes), read_grey(save(make(RAMP)), conversion))
        assert notes == []


@pytest.mark.parametrize(("value", "first"), [(65535, 255), (1000, 232)])
def test_a_padding_value_that_no_pixel_can_have_hides_none(save, value: int, first: int) -> None:
    stored = np.arange(256, dtype=np.uint8).reshape(16, 16)
    made, notes = make(stored), []
    made.add_new("PixelPaddingValue", "US", value)
    assert read_grey(save(made), "voi", notes).ravel()[first] == first
    assert notes == ["PixelPaddingValue is outside the values that a pixel can have; passed over"]


def test_functional_groups_are_passed_over_with_a_note(save) -> None:
    notes: list[str] = []
    read_grey(save(make(RAMP, SharedFunctionalGroupsSequence=[Dataset()])), "voi", notes)
    assert notes == ["SharedFunctionalGroupsSequence is passed over, with any window or rescale in it"]


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("written_unsigned", [False, True])
def test_padding_is_black_and_outside_the_range(save, photometric: str, written_unsigned: bool) -> None:
    stored = RAMP.astype(np.int16)
    stored[:, :5], stored[:, 5:7] = -2000, -1999
    dataset = make(stored, 16, photometric)
    tag_type = "US" if written_unsigned else "SS"
    dataset.add_new("PixelPaddingValue", tag_type, 65536 - 2000 if written_unsigned else -2000)
    dataset.add_new("PixelPaddingRangeLimit", tag_type, 65536 - 1999 if written_unsigned else -1999)
    grey = read_grey(save(dataset), "voi")
    body = RAMP[:, 7:].astype(float)
    shown = (body - body.min()) / (body.max() - body.min()) * 255
    assert not grey[:, :7].any()
    assert np.array_equal(grey[:, 7:], np.rint(255 - shown if photometric == "MONOCHROME1" else shown))


def change(dataset: Dataset, **attributes: object) -> Dataset:
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def broken_rle() -> Dataset:
    """An RLE segment whose last run crosses the end of the image, which makes a decoder panic rather than raise."""
    dataset = make(RAMP, 10)
    whole, crossing = bytes([129, 5]) * 8, bytes([129, 5]) * 7 + bytes([200, 5]) + bytes([129, 5])  # runs of 128, 57
    header = np.zeros(16, "<u4")
    header[:3] = 2, 64, 64 + len(whole)
    dataset.PixelData = encapsulate([header.tobytes() + whole + crossing])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = RLELossless
    return dataset


REFUSED = {
    "multi-frame": (lambda: make(np.concatenate([RAMP, RAMP]), Rows=32, NumberOfFrames=2), "multi-frame.*2"),
    "RGB": (
        lambda: make(np.tile(np.uint8([0, 4, 2]), (4, 4, 1)), 8, "RGB", SamplesPerPixel=3, PlanarConfiguration=0),
        "colour image: red, green and blue differ by up to 4 levels",
    ),
    "RGB of one sample": (lambda: make(RAMP, photometric="RGB"), "not a grey.*RGB, SamplesPerPixel 1"),
    "palette": (lambda: make(RAMP, photometric="PALETTE COLOR"), "not a grey.*PALETTE COLOR"),
    "YBR": (lambda: make(RAMP, photometric="YBR_PARTIAL_420", SamplesPerPixel=3), "not a grey.*YBR_PARTIAL_420"),
    "constant": (lambda: make(np.full((9, 9), 77, np.uint16)), "constant image.*77"),
    "outside window": (lambda: make(RAMP, WindowCenter=9000, WindowWidth=10), "constant.*WindowCenter 9000.*minmax"),
    "all padding": (
        lambda: make(RAMP, PixelPaddingValue=0, PixelPaddingRangeLimit=2000),
        "constant image.*PixelPaddingValue",
    ),
    "slope 0": (lambda: make(RAMP, RescaleSlope=0, RescaleIntercept=0), "RescaleSlope is 0"),
    "short LUT": (lambda: make(RAMP, ModalityLUTSequence=[change(lut_item(0, RAMP[0], 10), LUTData=b"00")]), "32 entr"),
    "no LUT": (lambda: make(RAMP, ModalityLUTSequence=[change(lut_item(0, RAMP[0], 10), LUTData=None)]), "LUTData"),
    "no pixels": (lambda: change(make(RAMP), PixelData=None), "no pixel data"),
    "no rows": (lambda: change(make(RAMP), Rows=None), "Rows is missing"),
    "no photometric": (lambda: change(make(RAMP), PhotometricInterpretation=None), "not a grey.*missing"),
    "short": (lambda: make(RAMP, PixelData=RAMP.tobytes()[:900]), "truncated.*Explicit VR Little Endian"),
    "broken RLE": (broken_rle, "truncated or corrupt.*RLE Lossless"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refusals_name_file_and_reason(save, name: str) -> None:
    build, reason = REFUSED[name]
    path = save(build())
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}: .*{reason}") as caught:
        read_grey(path, "voi")
    assert "Doe" not in str(caught.value)


def noted(path: Path, conversion: str = "voi") -> tuple[np.ndarray, str]:
    """The image, and the notes on it."""
    notes: list[str] = []
    grey = read_grey(path, conversion, notes)
    assert len(set(notes)) == len(notes) and "Doe" not in "".join(notes)
    return grey, "; ".join(notes)


FULL = RAMP / 1023 * 255
WINDOWED = np.clip((RAMP - 599.5) / 799 + 0.5, 0, 1) * 255  # center 600, width 800, LINEAR
WINDOW = {"WindowCenter": 600, "WindowWidth": 800}


@pytest.mark.parametrize("declared", [4, 8, 14, 16, 0, 20])
def test_a_voi_lut_that_is_wrong_about_its_bits_is_scaled_by_what_it_contains(save, declared: int) -> None:
    table = np.arange(1024) * 3 + 100  # up to 3169: 12 bits
    grey, notes = noted(save(make(RAMP, 10, VOILUTSequence=[lut_item(0, table, declared)])))
    assert np.abs(grey - table[RAMP] / 3169 * 255).max() <= 0.5 + 1e-6
    assert notes == f"VOILUTSequence: LUTDescriptor says {declared} bits, LUTData has 12: its largest entry is white"
    grey, notes = noted(save(make(RAMP, 10, VOILUTSequence=[lut_item(0, table, 12)])))
    assert np.abs(grey - table[RAMP] / 4095 * 255).max() <= 0.5 + 1e-6 and notes == ""


@pytest.mark.parametrize(
    ("elements", "grey", "note"),
    [
        ({"VOILUTSequence": [Dataset()], **WINDOW}, WINDOWED, "VOILUTSequence lacks a usable LUTDescriptor"),
        ({"VOILUTSequence": [change(lut_item(0, RAMP[0], 10), LUTData=None)], **WINDOW}, WINDOWED, "or LUTData"),
        ({"VOILUTSequence": [change(lut_item(0, RAMP[0], 10), LUTData=b"00")], **WINDOW}, WINDOWED, "32 entries"),
        ({"VOILUTSequence": [], **WINDOW}, WINDOWED, ""),
        ({"VOILUTSequence": [Dataset()]}, FULL, "VOILUTSequence lacks"),
        ({"WindowCenter": 5, "WindowWidth": 0}, FULL, "WindowWidth 0 is too small"),
        ({"WindowCenter": 5}, FULL, "one of WindowCenter and WindowWidth is missing"),
        ({**WINDOW, "VOILUTFunction": "CUBIC"}, WINDOWED, "VOILUTFunction is none of.*taken for LINEAR"),
    ],
)
def test_an_unusable_display_attribute_gives_way_to_the_next(save, elements, grey, note) -> None:
    found, notes = noted(save(make(RAMP, 10, **elements)))
    assert np.abs(found - grey).max() <= 0.5 + 1e-6
    assert re.search(note, notes) and bool(notes) == bool(note)


@pytest.mark.parametrize("keyword", ["WindowWidth", "PixelPaddingValue"])
def test_a_display_attribute_that_is_no_number_is_passed_over(save, keyword: str) -> None:
    dataset = make(RAMP, 10, **WINDOW)
    dataset.add_new(pydicom.datadict.tag_for_keyword(keyword), "DS", "1234.5")
    path = save(dataset)
    path.write_bytes(path.read_bytes().replace(b"1234.5", b"Doe,Ja"))
    grey, notes = noted(path)
    assert np.abs(grey - (FULL if keyword == "WindowWidth" else WINDOWED)).max() <= 0.5 + 1e-6
    assert keyword in notes and "passed over" in notes


def body(bits: int = 12) -> np.ndarray:
    """Values of so many bits that differ little between neighbours, as those of a radiograph do."""
    row, column = np.mgrid[:90, :80]
    return ((np.sin(row / 20) + np.cos(column / 30) + 2) / 4 * (2**bits - 1)).astype(np.uint16)


@pytest.mark.parametrize("bits", [8, 10, 11])
@pytest.mark.parametrize("conversion", ["voi", "minmax"])
@pytest.mark.parametrize("syntax", ["", RLELossless])
def test_values_above_bits_stored_are_shown_with_a_note(save, bits: int, conversion: str, syntax: str) -> None:
    expected, none = noted(save(make(body(), 12)), conversion)
    dataset = make(body(), 16)
    if syntax:
        dataset.compress(syntax, encoding_plugin="pylibjpeg")
    grey, notes = noted(save(change(dataset, BitsStored=bits, HighBit=bits - 1)), conversion)
    assert np.array_equal(grey, expected) and none == ""
    assert notes == f"BitsStored {bits} is too small for the values: all 16 bits are read"


@pytest.mark.parametrize("described", [True, False])
def test_an_overlay_above_bits_stored_is_no_part_of_the_picture(save, described: bool) -> None:
    stored = body()
    expected = read_grey(save(make(stored, 12)), "voi")
    stored[20:30, 10:60:3] |= 1 << 13
    dataset = make(stored, 12)
    if described:
        dataset.add_new(0x60000102, "US", 13)
    grey, notes = noted(save(dataset))
    assert np.array_equal(grey, expected)
    assert notes == ("" if described else "bits above BitsStored 12 differ between pixels, and are not shown")


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"explicit", "implicit", "deflated", "big endian", "RLE"}))
@pytest.mark.parametrize("behind", [bytes(16), bytes(64), bytes(4001), b"\xab" * 33])
def test_bytes_behind_the_end_of_a_codestream_play_no_part(tmp_path: Path, name: str, behind: bytes) -> None:
    (tmp_path / "whole.dcm").write_bytes(FORMATS[name])
    dataset = pydicom.dcmread(tmp_path / "whole.dcm")
    frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    end = frame.rindex(b"\xff\xd9") + 2
    dataset.PixelData = encapsulate([frame[:end] + behind])
    dataset.save_as(tmp_path / "longer.dcm")
    assert np.array_equal(*(read_grey(tmp_path / f"{each}.dcm", "minmax") for each in ("whole", "longer")))


def test_no_frames_are_one(save) -> None:
    grey, notes = noted(save(make(RAMP, 10, NumberOfFrames=0)))
    assert np.abs(grey - FULL).max() <= 0.5 + 1e-6 and notes == "NumberOfFrames is 0; taken for 1"


def test_a_lut_of_unsigned_values_described_as_signed(save) -> None:
    stored, table = RAMP + np.uint16(40000), (np.arange(1024) * 4) % 4093
    expected = read_grey(save(make(stored, 16, VOILUTSequence=[lut_item(40000, table, 12)])), "voi")
    item = lut_item(0, table, 12)
    item.add_new("LUTDescriptor", "SS", [1024, 40000 - 65536, 12])
    assert np.array_equal(read_grey(save(make(stored, 16, VOILUTSequence=[item])), "voi"), expected)
    assert np.abs(expected - table.reshape(32, 32) / 4095 * 255).max() <= 0.5 + 1e-6


GREY8 = (RAMP // 4).astype(np.uint8)


@pytest.mark.parametrize("conversion", ["voi", "minmax"])
@pytest.mark.parametrize("kind", ["RGB", "planes", "YBR_FULL", "one level off", "JPEG"])
def test_equal_channels_are_grey(save, conversion: str, kind: str) -> None:
    colour = np.repeat(GREY8[..., None], 3, axis=-1)
    elements: dict[str, object] = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, **WINDOW}
    if kind == "planes":
        elements |= {"PlanarConfiguration": 1, "PixelData": np.stack([GREY8] * 3).tobytes()}
    elif kind == "YBR_FULL":
        colour[..., 1:] = 128
    elif kind == "one level off":
        colour[3, 3, 1] += 1
    dataset = make(colour, 8, "YBR_FULL" if kind == "YBR_FULL" else "RGB", **elements)
    if kind == "JPEG":
        frame = io.BytesIO()
        Image.fromarray(colour).save(frame, "JPEG", quality=100)
        dataset.PhotometricInterpretation = "YBR_FULL_422"
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        dataset.PixelData, dataset["PixelData"].VR = encapsulate([frame.getvalue()]), "OB"
    grey, notes = noted(save(dataset), conversion)
    assert np.abs(grey.astype(int) - GREY8).max() <= (3 if kind == "JPEG" else 0) and notes == ""


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_a_file_without_preamble_or_meta_information_is_read(save, syntax: str) -> None:
    dataset = make(RAMP, 10, **WINDOW)
    dataset.file_meta.TransferSyntaxUID = syntax
    path = save(dataset)
    whole, content = read_grey(path, "voi"), path.read_bytes()
    length = 144 + int.from_bytes(content[140:144], "little")
    for kept in (content[132:], content[length:]):
        path.write_bytes(kept)
        assert dicom.is_dicom(path) and np.array_equal(read_grey(path, "voi"), whole)


@pytest.mark.parametrize(
    ("elements", "note"),
    [
        ({}, ""),
        ({"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}, ""),
        ({"RescaleSlope": 2, "RescaleIntercept": -5, "PixelPaddingValue": 5000}, ""),
        ({"RescaleSlope": -1, "RescaleIntercept": 5}, "minmax ignores the negative RescaleSlope"),
        ({"PresentationLUTShape": "INVERSE"}, "minmax ignores PresentationLUTShape INVERSE"),
        ({"PixelPaddingValue": 7}, "minmax ignores PixelPaddingValue"),
        ({"ModalityLUTSequence": [lut_item(0, RAMP[0], 10)]}, "minmax ignores ModalityLUTSequence"),
    ],
)
def test_minmax_notes_what_it_leaves_out(save, elements: dict[str, object], note: str) -> None:
    grey, notes = noted(save(make(RAMP, 16, **elements)), "minmax")
    assert notes.startswith(note) and bool(notes) == bool(note) and ";" not in notes
    inverted = elements.get("PhotometricInterpretation") == "MONOCHROME1"
    assert np.array_equal(grey, dicom.minmax(RAMP, "MONOCHROME1" if inverted else "MONOCHROME2"))


def test_unknown_transfer_syntax_is_named(save) -> None:
    dataset = make(RAMP)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"  # MPEG2
    dataset["PixelData"].VR = "OB"
    dataset.PixelData = encapsulate([b"1234"])
    with pytest.raises(InputError, match=r"no decoder for .*MPEG2.*1\.2\.840\.10008\.1\.2\.4\.100"):
        read_grey(save(dataset), "minmax")


@pytest.mark.parametrize("kept", [100, 140, 200, 400, 700, -2])
def test_truncated_anywhere_is_refused_without_a_warning(save, kept: int) -> None:
    path = save(make(RAMP))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"truncated|not a DICOM") as caught:
        read_grey(path, "minmax")
    assert "Doe" not in str(caught.value)


def test_files_that_are_not_dicom(tmp_path: Path) -> None:
    contents = {"zero.dcm": (b"", "empty file"), "text.dcm": (b"a,b\n1,2\n" * 40, "not a DICOM file")}
    for name, (content, reason) in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: {reason}"):
            read_grey(tmp_path / name, "minmax")
    with pytest.raises(InputError, match="no such file"):
        read_grey(tmp_path / "absent.dcm", "minmax")


def test_invalid_header_values_are_read_without_warnings(save) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of the bad values while this test writes them
        dataset = make(RAMP, 10)
        dataset.add_new("PatientAge", "AS", "fortytwo years")
        dataset.add_new("StudyDate", "DA", "someday in May")
        path = save(dataset)
    assert read_grey(path, "minmax").max() == 255


def test_twelve_bit_jpeg_is_rejected_by_name(shared: Path) -> None:
    with pytest.raises(InputError, match=r"RG2_JPLY\.dcm: .*JPEG Extended.*1\.2\.4\.51.*pylibjpeg-libjpeg \(GPL\)"):
        read_grey(shared / "data/dicom/RG2_JPLY.dcm", "voi")


def test_a_real_radiograph_through_its_window(shared: Path) -> None:
    path = shared / "data/dicom/RG1_JLSN.dcm"  # MONOCHROME1, WindowCenter 15000, WindowWidth 30000
    stored = pydicom.dcmread(path).pixel_array.astype(float)
    expected = 255 * (1 - np.clip((stored - 14999.5) / 29999 + 0.5, 0, 1))
    assert np.abs(read_grey(path, "voi") - expected).max() <= 0.5 + 1e-6


@given(
    arrays(st.sampled_from([np.uint8, np.uint16, np.int16, np.int32]), (3, 4)),
    st.sampled_from(["none", "window", "padding", "lut"]),
    st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
)
def test_grey_by_level_is_grey_by_pixel(stored: np.ndarray, kind: str, photometric: str) -> None:
    assume(stored.min() < stored.max())  # a constant image is refused before
    dataset = make(stored, photometric=photometric)
    if kind == "window":
        dataset.WindowCenter, dataset.WindowWidth = 100, 300
    elif kind == "padding":
        dataset.add_new("PixelPaddingValue", "SS" if stored.dtype.kind == "i" else "US", int(stored[0, 0]) % 2**15)
    elif kind == "lut":
        dataset.VOILUTSequence = [lut_item(0, np.arange(256)[::-1] ** 2 % 256, 8)]

    def grey_of(values: np.ndarray) -> np.ndarray:
        return dicom.voi(values, dataset)

    try:
        expected = grey_of(stored)
    except InputError as error:
        with pytest.raises(InputError, match=f"^{re.escape(str(error))}$"):
            dicom.by_level(stored, grey_of)
        return
    assert np.array_equal(dicom.by_level(stored, grey_of), expected)


@given(
    arrays(st.sampled_from([np.uint8, np.uint16, np.int16, np.int32]), (3, 4)),
    st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
)
def test_minmax_is_its_formula(stored: np.ndarray, photometric: str) -> None:
    assume(stored.min() < stored.max())
    values = stored.astype(float)
    values = values.max() - values if photometric == "MONOCHROME1" else values
    if stored.dtype != np.uint8:
        values = (values - values.min()) / (values.max() - values.min()) * 255
    assert np.array_equal(dicom.minmax(stored, photometric), values.astype(np.uint8))


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEG2000, JPEGLSLossless, JPEGLSNearLossless])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_the_decoder_gives_the_values_of_gdcm(syntax: str, bits: int) -> None:
    smooth = np.add.outer(np.arange(50), np.arange(40)) * (2**bits // 100)
    dataset = make(smooth.astype(np.uint8 if bits == 8 else np.uint16), bits)
    options = {JPEG2000: {"j2k_cr": [5]}, JPEGLSNearLossless: {"jls_error": 2}}.get(syntax, {})
    dataset.compress(syntax, encoding_plugin=DECODERS[syntax], **options)
    assert np.array_equal(decode(dataset), pixel_array(dataset, decoding_plugin="gdcm"))


def test_a_decoder_that_does_not_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lossless.dcm"
    path.write_bytes(FORMATS["JPEG lossless"])
    expected = read_grey(path, "minmax")
    os.kill(_decoding_process()[0].pid, signal.SIGSTOP)
    monkeypatch.setattr("amae.data.decode.LONGEST", 0.2)
    with pytest.raises(InputError, match=r"cannot be decoded as .*JPEG Lossless"):
        read_grey(path, "minmax")
    monkeypatch.undo()
    assert np.array_equal(read_grey(path, "minmax"), expected)


def test_a_decoder_whose_command_is_killed_with_an_answer_unread_ends_in_silence() -> None:
    ours, theirs = Pipe()
    server = Thread(target=_serve, args=(theirs,))  # a traceback would be an unhandled exception, an error here
    server.start()
    ours.send((Dataset(), ""))
    assert ours.poll(60)
    ours.close()
    server.join(60)
    assert not server.is_alive()
