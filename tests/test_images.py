"""Squares, geometry, PNG and JPEG, the packed array, contact sheets; conformance with the published conversion."""

import io
import os
import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from corpus import GREY, saved
from corpus import dataset as dicom_dataset
from crashing import read_or_die
from PIL import Image
from project import ROOT, environment

from amae.data import images as module
from amae.data import pack, parts
from amae.data.images import make_square, read_image
from amae.data.manifest import read_manifest
from amae.data.pack import convert
from amae.data.packed import open_images, rejected_beside, select
from amae.figures.contact_sheet import OUTLINE, contact_sheet
from amae.runtime.errors import InputError

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (40, 60), dtype=np.uint8)


def read(path: Path, square: str = "squash", size: int = 32) -> np.ndarray:
    return read_image(path, "minmax", square, size)[0]


def test_minmax_squash_agrees_with_the_conformance_file(shared: Path) -> None:
    expected = np.load(shared / "data/conformance/convert.npz")
    assert len(expected) >= 6
    for name in expected:
        packed = read_image(shared / "data/dicom" / name, "minmax", "squash", 512)[0]
        assert np.abs(packed.astype(int) - expected[name]).max() <= 1, name


@pytest.mark.parametrize("square", module.SQUARES)
@pytest.mark.parametrize("rows, columns", [(300, 200), (200, 300), (257, 257), (90, 401)])
def test_a_drawn_rectangle_lands_where_the_geometry_says(square: str, rows: int, columns: int) -> None:
    x0, x1, y0, y1 = columns // 2 - 20, columns // 2 + 33, rows // 2 - 31, rows // 2 + 22
    grey = np.zeros((rows, columns), np.uint8)
    grey[y0:y1, x0:x1] = 200
    packed, geometry = make_square(grey, square, 128)
    assert packed.shape == (128, 128) and packed.dtype == np.uint8
    assert (geometry.rows, geometry.columns) == (rows, columns)
    weight = packed / 200
    left, right = (x * geometry.scale_x + geometry.offset_x for x in (x0, x1))
    top, bottom = (y * geometry.scale_y + geometry.offset_y for y in (y0, y1))
    # the area and the centre of what was drawn, measured on the packed image
    assert weight.sum() == pytest.approx((right - left) * (bottom - top), rel=0.01)
    centres = np.arange(128) + 0.5
    assert (weight.sum(0) @ centres) / weight.sum() == pytest.approx((left + right) / 2, abs=0.05)
    assert (weight.sum(1) @ centres) / weight.sum() == pytest.approx((top + bottom) / 2, abs=0.05)


@pytest.mark.parametrize("rows, columns", [(300, 200), (200, 301), (64, 64)])
def test_squares_keep_what_they_promise(rows: int, columns: int) -> None:
    white = np.full((rows, columns), 255, np.uint8)
    padded, geometry = make_square(white, "pad", 96)
    share = (padded == 255).mean()
    assert share == pytest.approx(min(rows, columns) / max(rows, columns), abs=0.01) and set(np.unique(padded)) <= {
        0,
        255,
    }
    assert geometry.scale_x == pytest.approx(geometry.scale_y, rel=0.02)
    cropped, geometry = make_square(white, "crop", 96)
    assert (cropped == 255).all() and geometry.scale_x == geometry.scale_y == 96 / min(rows, columns)
    # corners of the original map to the edges of the square when squashed
    _, geometry = make_square(white, "squash", 96)
    assert columns * geometry.scale_x == pytest.approx(96) and rows * geometry.scale_y == pytest.approx(96)


def test_content_decides_not_the_suffix(tmp_path: Path) -> None:
    Image.fromarray(NOISE).save(tmp_path / "picture.dcm", format="PNG")
    assert np.array_equal(read(tmp_path / "picture.dcm"), make_square(NOISE, "squash", 32)[0])
    (tmp_path / "table.png").write_text("a,b\n" * 99)
    (tmp_path / "zero.jpg").write_bytes(b"")
    for name, reason in {
        "table.png": "not a DICOM, PNG, JPEG, TIFF or BMP",
        "zero.jpg": "empty",
        "none.png": "no such",
    }.items():
        with pytest.raises(InputError, match=f"{name}: {reason}"):
            read(tmp_path / name)


def test_a_path_that_the_system_refuses_is_a_reason(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="File name too long"):
        read(tmp_path / ("x" * 300))


def test_sixteen_bit_png_is_scaled_over_its_range(tmp_path: Path) -> None:
    values = (NOISE.astype(np.uint16) * 11 + 300)[:32, :32]
    Image.fromarray(values).save(tmp_path / "deep.png")
    low, high = values.min().astype(int), values.max().astype(int)
    expected = 255 * (values.astype(int) - low) // (high - low)
    assert np.abs(read(tmp_path / "deep.png").astype(int) - expected).max() <= 1


@pytest.mark.parametrize("kind", ["RGB", "RGBA", "LA", "JPEG"])
def test_grey_stored_as_colour_is_grey(tmp_path: Path, kind: str) -> None:
    picture = Image.fromarray(NOISE)
    if kind == "JPEG":
        smooth = picture.resize((32, 32), Image.Resampling.BICUBIC)
        smooth.convert("RGB").save(tmp_path / "x.jpg", quality=95)
        smooth.save(tmp_path / "grey.jpg", quality=95)
        difference = read(tmp_path / "x.jpg").astype(int) - read(tmp_path / "grey.jpg")
        assert np.abs(difference).max() <= 2
    else:
        picture.convert(kind).save(tmp_path / "x.png")
        assert np.array_equal(read(tmp_path / "x.png"), make_square(NOISE, "squash", 32)[0])


def png(picture: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, **{"format": "PNG", **options})
    return buffer.getvalue()


IMAGE = Image.fromarray(NOISE)
DEEP = NOISE.astype(np.uint16) * 200 + np.uint16(7)


def grey_palette() -> Image.Image:
    """The picture in a palette whose order is not that of the grey levels."""
    order = np.random.default_rng(1).permutation(256).astype(np.uint8)
    picture = Image.fromarray(np.argsort(order).astype(np.uint8)[NOISE], "L").convert("P")
    picture.putpalette(np.repeat(order, 3).tobytes())
    return picture


def tiff_of_words(values: np.ndarray, photometric: int, order: str = "<") -> bytes:
    """An uncompressed TIFF of 16 bits, written out by hand: header, one directory, pixels."""
    rows, columns = values.shape
    tags = [(256, columns), (257, rows), (258, 16), (259, 1), (262, photometric), (273, 8), (277, 1), (278, rows)]
    tags.append((279, values.nbytes))
    pixels = values.astype(f"{order}u2").tobytes()
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(pixels))
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags)
    return head + pixels + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


FEW = np.random.default_rng(2).integers(4, 16, (30, 30), dtype=np.uint8)  # 4 bits a pixel, none of 0 to 3


def few_bits(transparent: int) -> bytes:
    """PNG of 4 bits with a transparent level, written out by hand."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    lines = b"".join(b"\0" + bytes(row[::2] * 16 + row[1::2]) for row in FEW)
    head = chunk(b"IHDR", struct.pack(">2I5B", 30, 30, 4, 0, 0, 0, 0)) + chunk(b"tRNS", struct.pack(">H", transparent))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def scaled(values: np.ndarray) -> np.ndarray:
    """Grey levels over the whole range, cut to whole ones."""
    return (255 * ((values - float(values.min())) / np.ptp(values))).astype(np.uint8)


def smooth(most: int) -> Image.Image:
    """A ramp, which JPEG keeps."""
    return Image.fromarray((np.add.outer(np.arange(40.0), np.arange(60.0)) / 98 * most).astype(np.uint8))


WITHOUT_7 = np.where(NOISE == 7, 8, NOISE).astype(np.uint8)
READ = {
    "TIFF": (lambda: png(IMAGE, format="TIFF"), NOISE),
    "TIFF, compressed": (lambda: png(IMAGE, format="TIFF", compression="tiff_lzw"), NOISE),
    "TIFF of equal channels": (lambda: png(IMAGE.convert("RGB"), format="TIFF"), NOISE),
    "TIFF, 16 bits": (lambda: tiff_of_words(DEEP, 1), scaled(DEEP)),
    "TIFF, 16 bits, big endian": (lambda: tiff_of_words(DEEP, 1, ">"), scaled(DEEP)),
    "TIFF, 16 bits, 0 is white": (lambda: tiff_of_words(DEEP, 0), scaled(DEEP.max() - DEEP)),
    "BMP": (lambda: png(IMAGE, format="BMP"), NOISE),
    "BMP of equal channels": (lambda: png(IMAGE.convert("RGB"), format="BMP"), NOISE),
    "grey palette": (lambda: png(grey_palette()), NOISE),
    "unused transparent level": (lambda: png(Image.fromarray(WITHOUT_7), transparency=7), WITHOUT_7),
    "unused transparent level of 16 bits": (lambda: png(Image.fromarray(DEEP), transparency=3), scaled(DEEP)),
    "unused transparent colour": (lambda: png(IMAGE.convert("RGB"), transparency=(1, 2, 3)), NOISE),
    "unused transparent level of 4 bits": (lambda: few_bits(3), FEW * 17),
    "inks, black alone": (
        lambda: png(Image.merge("CMYK", [Image.new("L", (60, 40))] * 3 + [smooth(255)]), format="JPEG", quality=100),
        255 - np.asarray(smooth(255)),
    ),
    "inks, equal": (
        lambda: png(Image.merge("CMYK", [smooth(200)] * 3 + [Image.new("L", (60, 40))]), format="JPEG", quality=100),
        255 - np.asarray(smooth(200)),
    ),
}


@pytest.mark.parametrize("name", sorted(READ))
def test_pictures_of_other_kinds_are_read(tmp_path: Path, name: str) -> None:
    build, grey = READ[name]
    (tmp_path / "x").write_bytes(build())
    expected = make_square(grey, "squash", 32)[0].astype(int)
    assert np.abs(read(tmp_path / "x") - expected).max() <= (2 if "inks" in name else 0)


def test_a_used_level_of_few_bits_is_transparent(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(few_bits(int(FEW[0, 0])))
    with pytest.raises(InputError, match="transparent"):
        read(tmp_path / "x")


def tinted() -> Image.Image:
    colour = np.repeat(NOISE[..., None] // 2, 3, axis=-1)
    colour[3, 4, 2] += 3
    return Image.fromarray(colour)


REFUSED = {
    "colour": (lambda: png(tinted()), "colour image.*up to 3 levels"),
    "palette": (lambda: png(tinted().convert("P")), "colour image"),
    "bilevel": (lambda: png(Image.fromarray(NOISE).convert("1")), "type 1"),
    "transparent": (lambda: png(Image.merge("LA", [Image.fromarray(NOISE), Image.fromarray(NOISE)])), "transparent"),
    "transparent colour": (lambda: png(Image.fromarray(NOISE), transparency=7), "transparent"),
    "constant": (lambda: png(Image.new("L", (9, 9), 4)), "constant image: every pixel is 4"),
    "animated": (
        lambda: png(Image.fromarray(NOISE), save_all=True, append_images=[Image.fromarray(NOISE[::-1])]),
        "2 pictures",
    ),
    "truncated": (lambda: png(Image.fromarray(NOISE))[:900], "truncated or corrupt"),
    "header only": (lambda: png(Image.fromarray(NOISE))[:20], "truncated or corrupt"),
    "no end": (lambda: png(Image.fromarray(NOISE))[:-12], "truncated or corrupt"),
    "wrong check sum": (
        lambda: png(Image.fromarray(NOISE))[:-20] + b"0" * 4 + png(Image.fromarray(NOISE))[-16:],
        "corrupt",
    ),
    "CMYK": (lambda: png(Image.new("CMYK", (40, 40), (200, 90, 30, 0)), format="JPEG"), "colour image"),
    "TIFF of two pages": (lambda: png(IMAGE, format="TIFF", save_all=True, append_images=[IMAGE]), "2 pictures"),
    "TIFF of colour": (lambda: png(tinted(), format="TIFF"), "colour image"),
    "TIFF of fractions": (lambda: png(IMAGE.convert("F"), format="TIFF"), "type F"),
    "TIFF cut": (lambda: png(IMAGE, format="TIFF")[:-900], "truncated or corrupt TIFF"),
    "BMP cut": (lambda: png(IMAGE, format="BMP")[:-900], "truncated or corrupt BMP"),
    "palette with a transparent level": (lambda: png(IMAGE.convert("P"), transparency=int(NOISE[0, 0])), "transparent"),
    "GIF": (lambda: png(IMAGE, format="GIF"), "not a DICOM, PNG, JPEG, TIFF or BMP file"),
}


def test_bytes_behind_the_end_of_a_picture_play_no_part(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png(Image.fromarray(NOISE)) + b"more" * 99)
    assert np.array_equal(read(tmp_path / "x.png"), make_square(NOISE, "squash", 32)[0])


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused_pictures_name_file_and_reason(tmp_path: Path, name: str) -> None:
    build, reason = REFUSED[name]
    (tmp_path / "x.png").write_bytes(build())
    with pytest.raises(InputError, match=rf"x\.png: .*{reason}"):
        read(tmp_path / "x.png")


def test_exif_orientation_is_applied_before_the_geometry(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the first row of the file is the right-hand edge
    Image.fromarray(NOISE).save(tmp_path / "x.png", exif=exif)
    turned, _, geometry, _ = read_image(tmp_path / "x.png", "minmax", "squash", 32)
    assert (geometry.rows, geometry.columns) == (60, 40)
    assert np.array_equal(turned, make_square(np.ascontiguousarray(np.rot90(NOISE, -1)), "squash", 32)[0])


def test_unknown_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"conversion is 'max'; expected one of minmax, voi"):
        read_image(tmp_path / "x.png", "max", "pad", 8)
    with pytest.raises(InputError, match=r"square is 'cut'; expected one of squash, pad, crop"):
        read_image(tmp_path / "x.png", "voi", "cut", 8)


def dataset(folder: Path, count: int = 9, broken: tuple[int, ...] = ()) -> Path:
    rows = []
    for number in range(count):
        path = folder / f"{number}.png"
        values = np.random.default_rng(number).integers(0, 256, (20 + number, 31), dtype=np.uint8)
        Image.fromarray(values).save(path)
        if number in broken:
            path.write_bytes(b"nothing")
        split = ("train_normal", "train_unlabeled", "test")[number % 3]
        rows.append([f"00{number}", path, split, "normal" if split == "test" else "", f"p{number}", "PA"])
    frame = pd.DataFrame(rows, columns=["image_id", "path", "split", "label", "patient_id", "view"])
    frame.to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


OUTPUTS = ["images.csv", "images.npy", "lung_images.npy", "notes.csv", "rejected.csv"]


def run(
    folder: Path, out: str, workers: int = 1, allowed: int = 0, size: int = 16, shard: tuple[int, int] | None = None
) -> Path:
    target = folder / out
    names = ("images.npy", "lung_images.npy", "images.csv", "rejected.csv")
    convert(folder / "manifest.csv", *(target / name for name in names), size, "minmax", "pad", workers, allowed, shard)
    return target


def test_any_number_of_workers_writes_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    dataset(tmp_path, count=12, broken=(5,))
    one, two = run(tmp_path, "one", 1, allowed=1), run(tmp_path, "two", 2, allowed=1)
    names = sorted(os.listdir(one))
    assert names == sorted(os.listdir(two)) == OUTPUTS
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)
    assert "convert: 12/12 images, 1 rejected" in capsys.readouterr().err


def test_parts_of_any_size_make_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset(tmp_path, count=9, broken=(0, 1, 2, 7))  # the first part contains no image
    whole = run(tmp_path, "whole", allowed=4)
    monkeypatch.setattr(parts, "PART", 3)
    again = run(tmp_path, "again", allowed=4)
    assert sorted(os.listdir(again)) == OUTPUTS
    assert all((whole / name).read_bytes() == (again / name).read_bytes() for name in os.listdir(whole))


def test_shards_make_what_one_conversion_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any order, from several processes at once; a shard that is missing is made when the others are joined."""
    dataset(tmp_path, count=11, broken=(2,))
    whole = run(tmp_path, "whole", allowed=1)
    monkeypatch.setattr(parts, "PART", 2)
    read: list[str] = []
    monkeypatch.setattr(pack, "read_image", lambda path, *how: read.append(Path(path).stem) or read_image(path, *how))
    run(tmp_path, "out", shard=(3, 4))
    assert read == ["4", "5"]
    run(tmp_path, "out", shard=(1, 4))
    assert read[2:] == ["0", "1", "8", "9"]
    assert all(name.endswith(".unfinished") for name in os.listdir(tmp_path / "out"))
    run(tmp_path, "out", shard=(2, 4))
    run(tmp_path, "out", allowed=1)
    assert read[6:] == ["2", "3", "10", "2", "6", "7"]  # the rejected one again
    assert sorted(os.listdir(tmp_path / "out")) == OUTPUTS
    assert all((whole / name).read_bytes() == (tmp_path / "out" / name).read_bytes() for name in OUTPUTS)


def test_files_that_were_read_stay_read_when_too_many_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset(tmp_path, broken=(2,))
    with pytest.raises(InputError, match="1 of 9 images cannot be used"):
        run(tmp_path, "out")
    read: list[str] = []
    monkeypatch.setattr(pack, "read_image", lambda path, *how: read.append(Path(path).stem) or read_image(path, *how))
    run(tmp_path, "out", allowed=1)
    assert read == ["2"]


def test_an_interrupted_conversion_continues_and_another_starts_afresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    dataset(tmp_path, broken=(2,))
    whole = run(tmp_path, "whole", allowed=1)
    monkeypatch.setattr(parts, "PART", 2)
    asked: list[str] = []

    def read(path: str, *settings: object) -> tuple:
        asked.append(Path(path).stem)
        if len(asked) == 6:  # in the third part
            raise KeyboardInterrupt
        return read_image(path, *settings)

    monkeypatch.setattr(pack, "read_image", read)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "out", allowed=1)
    assert [name for name in os.listdir(tmp_path / "out") if not name.endswith(".unfinished")] == []
    run(tmp_path, "out", allowed=1)
    assert asked[6:] == ["2", "4", "5", "6", "7", "8"]  # the rejected one again: it may have been put right
    assert all((whole / name).read_bytes() == (tmp_path / "out" / name).read_bytes() for name in os.listdir(whole))
    assert "continuing after 4 images" in capsys.readouterr().err

    asked.clear()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "changed", allowed=1)
    (tmp_path / "1.png").write_bytes((tmp_path / "8.png").read_bytes())
    changed = run(tmp_path, "changed", allowed=1)
    assert asked[6:] == ["2", "0", "1", "4", "5", "6", "7", "8"]
    assert np.array_equal(*np.load(changed / "images.npy")[[1, -1]])

    asked.clear()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "out", allowed=1, size=8)
    run(tmp_path, "out", allowed=1, size=16)
    assert asked[6:] == [str(n) for n in range(9)]
    assert sorted(os.listdir(tmp_path / "out")) == OUTPUTS


def test_a_file_that_was_put_right_after_a_kill_is_no_longer_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset(tmp_path)
    whole = run(tmp_path, "whole")
    good = (tmp_path / "2.png").read_bytes()
    (tmp_path / "2.png").write_bytes(b"nothing")
    monkeypatch.setattr(parts, "PART", 2)

    def killed(path: str, *settings: object) -> tuple:
        if Path(path).stem == "5":
            raise KeyboardInterrupt
        return read_image(path, *settings)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(pack, "read_image", killed)
        run(tmp_path, "out", allowed=1)
    (tmp_path / "2.png").write_bytes(good)
    run(tmp_path, "out")
    assert all((whole / name).read_bytes() == (tmp_path / "out" / name).read_bytes() for name in OUTPUTS)


def test_rejected_images_leave_array_and_index_in_step(tmp_path: Path) -> None:
    manifest = read_manifest(dataset(tmp_path, broken=(0, 4)))
    out = run(tmp_path, "out", allowed=2)
    packed, index = open_images(out / "images.npy", out / "images.csv")
    assert isinstance(packed, np.memmap) and packed.shape == (7, 16, 16) and packed.dtype == np.uint8
    lung_images, _ = open_images(out / "lung_images.npy", out / "images.csv")
    assert lung_images.shape == (7, 256, 256)
    assert (out / "images.npy").stat().st_size == packed.offset + packed.size + 32  # and the hash
    assert list(index["image_id"]) == ["001", "002", "003", "005", "006", "007", "008"]
    for row, image_id in enumerate(index["image_id"]):
        image, lung_image, geometry, _ = read_image(tmp_path / f"{int(image_id)}.png", "minmax", "pad", 16)
        assert np.array_equal(packed[row], image) and np.array_equal(lung_images[row], lung_image)
        assert tuple(index.loc[row, list(geometry._fields)]) == geometry  # scales survive the text exactly
    rejected = pd.read_csv(out / "rejected.csv", dtype=str)
    assert list(rejected["image_id"]) == ["000", "004"]
    assert set(rejected["reason"]) == {"not a DICOM, PNG, JPEG, TIFF or BMP file"}
    chosen = select(manifest, index, "train_unlabeled", rejected_beside(out / "images.csv"))
    assert list(chosen["image_id"]) == ["001", "007"] and list(chosen["row"]) == [0, 5]


def noisy_manifest(folder: Path, rows: list[tuple[str, str]]) -> Path:
    """A manifest of (file, split), all of them there."""
    frame = pd.DataFrame(rows, columns=["path", "split"]).assign(image_id=[name for name, _ in rows])
    frame["path"] = [str(folder / name) for name in frame["path"]]
    frame.assign(label="", patient_id="", view="").to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def test_notes_are_listed_and_each_kind_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for number in range(5):
        elements = {"RescaleSlope": -1, "RescaleIntercept": 0} if number % 2 else {}
        elements |= {"NumberOfFrames": 0} if number == 1 else {}
        elements |= {"ViewPosition": "LL"} if number == 4 else {}
        (tmp_path / f"{number}.dcm").write_bytes(saved(dicom_dataset(GREY + np.uint16(number), **elements)))
    noisy_manifest(tmp_path, [(f"{number}.dcm", "train_normal") for number in range(5)])
    out = run(tmp_path, "out")
    notes = pd.read_csv(out / "notes.csv")
    slope = "minmax ignores the negative RescaleSlope, so black and white are exchanged"
    assert list(notes.itertuples(index=False, name=None)) == [
        ("1.dcm", str(tmp_path / "1.dcm"), "NumberOfFrames is 0; taken for 1"),
        ("1.dcm", str(tmp_path / "1.dcm"), slope),
        ("3.dcm", str(tmp_path / "3.dcm"), slope),
        ("4.dcm", str(tmp_path / "4.dcm"), "header: the view is not frontal"),
    ]
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    where = f"(listed in {out / 'notes.csv'})"
    assert lines == [
        f"warning: 1 images: NumberOfFrames is 0; taken for 1 {where}",
        f"warning: 2 images: {slope} {where}",
        f"warning: 1 images: header: the view is not frontal {where}",
    ]


def test_the_same_picture_in_training_and_test_is_counted_whatever_its_format(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pictures = [
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (40, 50), np.uint8)) for number in range(5)
    ]
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"{number}.png")
    pictures[0].save(tmp_path / "0.bmp")
    (tmp_path / "1.dcm").write_bytes(saved(dicom_dataset(np.asarray(pictures[1]))))
    (tmp_path / "copy.png").write_bytes((tmp_path / "2.png").read_bytes())
    pictures[3].crop((0, 0, 50, 39)).save(tmp_path / "cropped.png")
    train = [
        ("0.png", "train_normal"),
        ("1.png", "train_unlabeled"),
        ("2.png", "calibration"),
        ("3.png", "train_normal"),
    ]
    test = [(name, "test") for name in ("0.bmp", "1.dcm", "copy.png", "cropped.png", "4.png")]
    noisy_manifest(tmp_path, train + test)
    run(tmp_path, "out")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    counted = "; counted over all images converted, those of every anomaly ratio"
    assert len(lines) == 1 and lines[0].endswith(f"or calibration, the first is 0.bmp (as 0.png){counted}")
    assert lines[0].startswith("warning: 3 of 5 test images are the same picture")
    noisy_manifest(tmp_path, [train[0], ("0.bmp", "calibration"), ("1.dcm", "train_unlabeled"), ("1.png", train[0][1])])
    run(tmp_path, "out2")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert [line.partition(" images ")[0] for line in lines] == [
        "warning: 1 of 1 calibration",
        "warning: 1 of 1 train_unlabeled",
    ]
    noisy_manifest(tmp_path, train + test[3:])
    run(tmp_path, "out")
    assert "warning" not in capsys.readouterr().err


def test_patients_of_candidates_are_not_counted(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    dataset(tmp_path, count=4)  # no anomaly ratio need have patient 1 in both sets
    frame = pd.read_csv(tmp_path / "manifest.csv", dtype=str, keep_default_na=False)
    splits = ["train_normal", "train_unlabeled", "calibration", "test"]
    frame.assign(split=splits, label="", patient_id=["0", "1", "1", "2"]).to_csv(tmp_path / "manifest.csv", index=False)
    run(tmp_path, "out")
    assert "patients" not in capsys.readouterr().err


def test_more_rejected_than_allowed_stops_with_the_table_written(tmp_path: Path) -> None:
    dataset(tmp_path, broken=(1, 2, 3, 4))
    with pytest.raises(
        InputError, match=r"4 of 9 images.*allowed_failures is 3.*1\.png: not a DICOM.*; and others\. .*rejected"
    ):
        run(tmp_path, "out", allowed=3)
    assert [name for name in os.listdir(tmp_path / "out") if not name.endswith(".unfinished")] == ["rejected.csv"]
    assert len(pd.read_csv(tmp_path / "out/rejected.csv")) == 4


def test_nothing_readable_is_an_error_whatever_is_allowed(tmp_path: Path) -> None:
    dataset(tmp_path, count=2, broken=(0, 1))
    with pytest.raises(InputError, match="2 of 2 images cannot be used"):
        run(tmp_path, "out", allowed=9)


def test_a_missing_file_is_rejected_like_an_unreadable_one(tmp_path: Path) -> None:
    dataset(tmp_path)
    (tmp_path / "3.png").unlink()
    assert list(pd.read_csv(run(tmp_path, "out", allowed=1) / "rejected.csv")["reason"]) == ["no such file"]


def test_pieces_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    manifest = read_manifest(dataset(tmp_path))
    out = run(tmp_path, "out")
    _, index = open_images(out / "images.npy", out / "images.csv")
    assert select(manifest.iloc[1:], index, "test").equals(select(manifest, index, "test"))
    with pytest.raises(InputError, match="split test is empty"):
        select(manifest[manifest["split"] != "test"], index, "test")
    with pytest.raises(
        InputError, match=r"3 of 3 images of split test are neither packed nor in rejected\.csv, the first"
    ):
        select(manifest, index.iloc[:2], "test")  # no look-up loses an image in silence
    index.iloc[1:].to_csv(out / "short.csv", index=False)
    with pytest.raises(InputError, match=r"short\.csv has 8 rows.*9 images"):
        open_images(out / "images.npy", out / "short.csv")
    with pytest.raises(InputError, match=r"absent\.npy: no such file"):
        open_images(out / "absent.npy", out / "images.csv")
    np.save(out / "float.npy", np.zeros((9, 4, 4)))
    with pytest.raises(InputError, match=r"float64 \(9, 4, 4\), expected uint8"):
        open_images(out / "float.npy", out / "images.csv")
    (out / "text.npy").write_text("image")
    with pytest.raises(InputError, match=r"text\.npy: not a packed array"):
        open_images(out / "text.npy", out / "images.csv")


def test_no_more_than_a_few_results_are_ever_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    submitted: list[str] = []

    def submit(_: object, attempt: object, read: object, task: tuple) -> Future:
        submitted.append(task[0])
        done: Future = Future()
        done.set_result((task[0], ""))
        return done

    monkeypatch.setattr(ProcessPoolExecutor, "submit", submit)
    tasks = [(str(number), "minmax", "pad", 8) for number in range(100)]
    for taken, (found, _) in enumerate(module.in_order(read_image, tasks, workers=2)):
        assert found == str(taken)
        assert len(submitted) - taken <= 8
    assert len(submitted) == 100


def test_contact_sheet_shows_tiles_borders_and_outlines(tmp_path: Path) -> None:
    tiles = np.stack([np.full((40, 50), 10 * n, np.uint8) for n in range(7)])
    masks = np.zeros(tiles.shape, bool)
    masks[:, 10:20, 10:30] = True
    borders = [(255, 0, 0), *[None] * 6]
    titles = [f"image_{n}_with_a_long_name" for n in range(7)]
    contact_sheet(tiles, titles, tmp_path / "sheet.png", columns=3, borders=borders, outlines=masks)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (4 + 3 * 58, 4 + 3 * 54, 3)
    assert (sheet[4 + 30, 4 + 54 + 5] == 10).all()  # the second tile is dark grey
    assert (sheet == (255, 0, 0)).all(-1).sum() == 44 * 54 - 40 * 50
    assert (sheet == OUTLINE).all(-1).sum() == 7 * (2 * 20 + 2 * 8)
    assert os.listdir(tmp_path) == ["sheet.png"]
    with pytest.raises(ValueError, match="2 titles for 7"):
        contact_sheet(tiles, ["a", "b"], tmp_path / "x.png")


def test_a_file_whose_process_dies_is_rejected_and_the_rest_goes_on() -> None:
    names = ["0", "1 bad", *"2345678"]
    found = list(module.in_order(read_or_die, [(name, "minmax", "pad", 8) for name in names], workers=2))
    assert [name for name, _ in found] == [None if "bad" in name else name for name in names]
    assert all(
        ("its decoder crashed" in reason) == ("bad" in name) for name, (_, reason) in zip(names, found, strict=True)
    )


def test_memory_that_does_not_suffice_is_a_reason() -> None:
    def read(*_: object) -> None:
        raise MemoryError

    assert list(module.in_order(read, [("a", "minmax", "pad", 8)], 1)) == [
        (None, "too large for the memory of this machine")
    ]


def is_alive(number: int) -> bool:
    """Whether there is a process of this number, and not only what is left of one."""
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_processes_end_with_the_one_that_was_killed(tmp_path: Path) -> None:
    tasks = [(str(tmp_path / name), "minmax", "pad", 8) for name in "ab"]
    code = f"from crashing import *; from amae.data.images import in_order; list(in_order(say_and_wait, {tasks}, 2))"
    with subprocess.Popen([sys.executable, "-c", code], env=environment(ROOT), cwd=ROOT / "tests") as process:
        while len(started := [path.read_text() for path in tmp_path.iterdir()]) < 2 or "" in started:
            assert process.poll() is None
            time.sleep(0.1)
        process.kill()
    end = time.monotonic() + 30
    while any(map(is_alive, map(int, started))):
        assert time.monotonic() < end
        time.sleep(0.1)
