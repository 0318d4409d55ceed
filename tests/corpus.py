"""Radiographs as they should not be: more than two hundred files, each with what must come of it.

Every file is made here, the same on each run, from arrays that are known; what a conversion must give is worked out
from those arrays by the formulas of the standard, without the code under test.
"""

import io
import os
import struct
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import gdcm
import numpy as np
import pydicom
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence

SIZE = 64
ROW, COLUMN = np.mgrid[:SIZE, :SIZE]
BUMP = 300 * np.exp(-((COLUMN - 20) ** 2 + (ROW - 40) ** 2) / 80)
GREY = (COLUMN * 40 + ROW * 17 + BUMP).astype(np.uint16) + 9  # 12 bits, no symmetry
BYTES = (GREY // 16).astype(np.uint8)
SMALL = BYTES.astype(float)
LOSSY = 6  # grey levels
ANY = "any"  # damage that no reader can tell from an image: read or refused
CUT = "truncated|empty file|not a DICOM|no pixel data|corrupt"
REFUSED = (
    f"{CUT}|missing|no decoder|not a grey|contains|expected|not readable|not a number|constant|multi-frame|contradict"
)


@dataclass(frozen=True)
class Variant:
    """A file and what must come of it by either conversion: grey levels (rows, columns), words of the reason, or ANY.

    `voi` of None: the same as `minmax`. `tolerance` in grey levels: 1 for rounding, more for lossy codecs.
    """

    kind: str
    name: str
    content: bytes | Callable[[Path], None]
    minmax: np.ndarray | str
    voi: np.ndarray | str | None = None
    tolerance: int = 1

    def expected(self, conversion: str) -> np.ndarray | str:
        """The outcome of a conversion."""
        return self.minmax if conversion == "minmax" or self.voi is None else self.voi

    def write(self, folder: Path) -> Path:
        """Make the file."""
        path = folder / os.fsdecode(self.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(self.content):
            self.content(path)
        else:
            path.write_bytes(self.content)
        return path


def full(values: np.ndarray, inverted: bool = False) -> np.ndarray:
    """Values over their whole range as 0..255."""
    values = values.astype(float)
    shown = (values - values.min()) / (values.max() - values.min())
    return 255 * (1 - shown if inverted else shown)


def linear(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.2.1: the window, as 0..255."""
    return 255 * np.clip((values.astype(float) - (center - 0.5)) / (width - 1) + 0.5, 0, 1)


def dataset(stored: np.ndarray = GREY, syntax: str = uid.ExplicitVRLittleEndian, **elements: object) -> Dataset:
    """A radiograph of these stored values; an element of None is left out."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    made.Modality, made.BodyPartExamined, made.ViewPosition = "DX", "CHEST", "PA"
    made.Rows, made.Columns = stored.shape[:2]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = 8 * stored.dtype.itemsize
    made.BitsStored = 12 if stored is GREY else made.BitsAllocated
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(stored.dtype.kind == "i")
    made.add_new("PixelData", "OW", stored.tobytes())
    for keyword, value in elements.items():
        if value is None:
            delattr(made, keyword)
        else:
            setattr(made, keyword, value)
    return made


def saved(made: Dataset) -> bytes:
    """A dataset as a file."""
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def encapsulated(frame: bytes, syntax: str, stored: np.ndarray = BYTES, **elements: object) -> bytes:
    """A codestream as a DICOM file."""
    made = dataset(stored, syntax, PixelData=encapsulate([frame]), **elements)
    made["PixelData"].VR = "OB"
    return saved(made)


def compressed(syntax: str) -> bytes:
    """The radiograph in a lossless compression."""
    made = dataset()
    made.compress(syntax, encoding_plugin="pylibjpeg" if syntax != uid.JPEGLSLossless else "pyjpegls")
    return saved(made)


def by_gdcm(syntax: str) -> bytes:
    """The radiograph in a compression that only GDCM writes."""
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        Path(file.name).write_bytes(saved(dataset()))
        reader, writer, change = gdcm.ImageReader(), gdcm.ImageWriter(), gdcm.ImageChangeTransferSyntax()
        reader.SetFileName(file.name)
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(file.name)
        assert writer.Write()
        return Path(file.name).read_bytes()


def picture(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """A picture as PIL writes it."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def lut(first: int, table: np.ndarray, bits: int, entries: int | None = None) -> Sequence:
    """A LUT sequence, whose descriptor may name another number of entries than there are."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(table) if entries is None else entries, first, bits])
    item.add_new("LUTData", "OW", table.astype("<u2").tobytes())
    return Sequence([item])


def flipped(content: bytes, seed: int, start: int, stop: int | None = None) -> bytes:
    """Two bytes between `start` and `stop` changed."""
    random, changed = np.random.default_rng(seed), bytearray(content)
    for place in random.integers(start, stop or len(content), 2):
        changed[place] ^= int(random.integers(1, 256))
    return bytes(changed)


def patched(content: bytes, place: int, code: str, *values: int) -> bytes:
    """Numbers in the place of those that are there."""
    new = struct.pack(code, *values)
    return content[:place] + new + content[place + len(new) :]


def frame_of(content: bytes) -> bytes:
    """The codestream in a DICOM file."""
    return next(generate_frames(pydicom.dcmread(io.BytesIO(content)).PixelData, number_of_frames=1))


JPEG = picture(Image.fromarray(BYTES), "JPEG", quality=97)
FORMATS = {
    "explicit": saved(dataset()),
    "implicit": saved(dataset(syntax=uid.ImplicitVRLittleEndian)),
    "deflated": saved(dataset(syntax=uid.DeflatedExplicitVRLittleEndian)),
    "big endian": saved(dataset(GREY.astype(">u2"), uid.ExplicitVRBigEndian, BitsStored=12, HighBit=11)),
    "RLE": compressed(uid.RLELossless),
    "JPEG-LS": compressed(uid.JPEGLSLossless),
    "JPEG 2000": compressed(uid.JPEG2000Lossless),
    "JPEG lossless": by_gdcm(uid.JPEGLossless),
    "JPEG lossless SV1": by_gdcm(uid.JPEGLosslessSV1),
    "JPEG baseline": encapsulated(JPEG, uid.JPEGBaseline8Bit),
    "JPEG extended": encapsulated(JPEG, uid.JPEGExtended12Bit),
}
PICTURES = {
    "PNG": picture(Image.fromarray(BYTES)),
    "PNG 16 bit": picture(Image.fromarray(GREY)),
    "JPEG": JPEG,
    "JPEG progressive": picture(Image.fromarray(BYTES), "JPEG", quality=97, progressive=True),
}
SYNTAX = {"JPEG baseline": uid.JPEGBaseline8Bit, "JPEG-LS": uid.JPEGLSLossless, "JPEG 2000": uid.JPEG2000Lossless}
SYNTAX |= {"JPEG lossless": uid.JPEGLossless, "RLE": uid.RLELossless}
PLAIN = full(GREY)
PIXELS = b"\xe0\x7f\x10\x00"  # the tag PixelData
ITEM = b"\xfe\xff\x00\xe0"


def variants() -> list[Variant]:
    """The whole corpus."""
    makers = [undamaged, truncated, damaged, lengths, contradictions, grey_levels, bombs, names, places]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of what is wrong on purpose
        return [variant for maker in makers for variant in maker()]


def undamaged() -> Iterator[Variant]:
    """Every format that can be read."""
    for name, content in FORMATS.items():
        lossy = name in ("JPEG baseline", "JPEG extended")
        yield Variant("undamaged", f"{name}.dcm", content, *((SMALL, full(BYTES), LOSSY) if lossy else (PLAIN,)))
    for name, content in PICTURES.items():
        seen = PLAIN if name == "PNG 16 bit" else SMALL
        yield Variant("undamaged", f"{name}.picture", content, seen, seen, LOSSY if "JPEG" in name else 1)


def truncated() -> Iterator[Variant]:
    """Every format at every tenth of the file, and codestreams that end early in files that are whole."""
    for name, content in (FORMATS | PICTURES).items():
        for tenth in range(10):
            yield Variant("truncated file", f"{name} {tenth}.dcm", content[: len(content) * tenth // 10], CUT)
    for name, syntax in SYNTAX.items():
        frame, stored = frame_of(FORMATS[name]), BYTES if name == "JPEG baseline" else GREY
        for tenth in (2, 5, 8):
            cut = encapsulated(frame[: len(frame) * tenth // 20 * 2], syntax, stored)
            yield Variant("truncated codestream", f"{name} {tenth}.dcm", cut, CUT)


def damaged() -> Iterator[Variant]:
    """Two bytes changed at random behind the head of every format, and in tables at which GDCM aborts its process."""
    for name, content in (FORMATS | PICTURES).items():
        for seed in range(3):
            yield Variant("changed bytes", f"{name} {seed}.dcm", flipped(content, seed, 132), ANY)
    content = FORMATS["JPEG lossless"]
    start = content.index(b"\xff\xd8\xff")
    for seed in (11, 29, 69, 81, 117):
        aborting, reason = flipped(content, seed, start, start + 120), "corrupt: cannot be decoded as .*JPEG Lossless"
        yield Variant("decoder aborts", f"JPEG lossless {seed}.dcm", aborting, reason)


def lengths() -> Iterator[Variant]:
    """Lengths of pixels and fragments that are not those of what follows."""
    content = FORMATS["explicit"]
    at = content.index(PIXELS) + 8
    for value in (GREY.nbytes + 100, 0xFFFFFFF0):
        yield Variant("wrong length", f"pixels {value}.dcm", patched(content, at, "<I", value), PLAIN)  # all is there
    for value in (GREY.nbytes - 1000, GREY.nbytes - 1, 0, 0xFFFFFFFF):
        yield Variant("wrong length", f"pixels {value}.dcm", patched(content, at, "<I", value), CUT)
    for name in SYNTAX:
        content = FORMATS[name]
        at = content.index(ITEM, content.index(ITEM, content.index(PIXELS)) + 4) + 4
        right = struct.unpack_from("<I", content, at)[0]
        whole = (SMALL, full(BYTES), LOSSY) if name == "JPEG baseline" else (PLAIN,)
        for value, outcome in ((right + 50, whole), (0x7FFFFFFF, whole), (right // 2, (CUT,)), (0, (CUT,))):
            yield Variant("wrong length", f"{name} {value}.dcm", patched(content, at, "<I", value), *outcome)


def contradictions() -> Iterator[Variant]:
    """Elements that are missing, or contradict each other or the pixels, and pixels that are not grey."""
    for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel"):
        made = saved(dataset(**{keyword: None}))
        yield Variant("contradiction", f"no {keyword}.dcm", made, f"{keyword} is missing")
    for name, elements, outcome in (
        ("no HighBit", {"HighBit": None}, PLAIN),
        ("empty pixels", {"PixelData": b""}, CUT),
        ("float", {"PixelData": None, "FloatPixelData": GREY.astype("f4").tobytes()}, "floating point"),
        ("BitsStored 20", {"BitsStored": 20}, "BitsAllocated 16, BitsStored 20"),
        ("BitsStored 0", {"BitsStored": 0}, "BitsStored 0"),
        ("BitsAllocated 8", {"BitsAllocated": 8}, "BitsAllocated 8, BitsStored 12"),
        ("BitsAllocated 12", {"BitsAllocated": 12}, "BitsAllocated 12"),
        ("1 bit", {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "PixelData": bytes(512)}, "BitsAllocated 1"),
        ("HighBit 15", {"HighBit": 15}, "HighBit 15 contradicts BitsStored 12"),
        ("HighBit 7", {"HighBit": 7}, "HighBit 7 contradicts BitsStored 12"),
        ("signed 7", {"PixelRepresentation": 7}, "cannot be decoded"),
        ("samples 3", {"SamplesPerPixel": 3}, "not a grey image"),
        ("no rows", {"Rows": 0}, "0 x 64 pixels"),
        ("huge", {"Rows": 65535, "Columns": 65535}, "65535 x 65535 pixels"),
        ("rows twice", {"Rows": 2 * SIZE}, CUT),
        ("rows half", {"Rows": SIZE // 2}, "PixelData contains 8192 bytes"),
        ("columns half", {"Columns": SIZE // 2}, "PixelData contains 8192 bytes"),
        ("frames 0", {"NumberOfFrames": 0}, PLAIN),
        ("frames", {"NumberOfFrames": 3, "PixelData": GREY.tobytes() * 3}, "multi-frame image: NumberOfFrames 3"),
        ("MONOCHROME3", {"PhotometricInterpretation": "MONOCHROME3"}, "not a grey image"),
    ):
        yield Variant("contradiction", f"{name}.dcm", saved(dataset(**elements)), outcome)
    colour = dataset(np.repeat(BYTES[..., None], 3, axis=-1), SamplesPerPixel=3, PhotometricInterpretation="RGB")
    colour.PlanarConfiguration = 0
    yield Variant("contradiction", "RGB of grey.dcm", saved(colour), SMALL)
    colour.PixelData = np.stack([BYTES, BYTES, BYTES[::-1]], -1).tobytes()
    yield Variant("contradiction", "RGB.dcm", saved(colour), "colour image: red, green and blue differ")
    yield Variant("contradiction", "MPEG2.dcm", encapsulated(b"1234", uid.MPEG2MPML), "no decoder for .*MPEG2")
    unknown = FORMATS["explicit"].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0")
    yield Variant("contradiction", "unknown syntax.dcm", unknown, "no decoder for transfer syntax")
    yield Variant("contradiction", "no preamble.dcm", FORMATS["explicit"][132:], PLAIN)


def grey_levels() -> Iterator[Variant]:
    """Kinds of stored values, and how they are to be shown: rescale, windows, LUTs, padding, inversion."""
    window, table = {"WindowCenter": 1500, "WindowWidth": 900}, np.arange(4096) ** 2 // 4096
    by_table, dark, one = 255 * table[GREY] / 4095, full(GREY, True), {"PhotometricInterpretation": "MONOCHROME1"}
    limit = {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 500}
    bare = lut(0, table, 12)
    del bare[0].LUTData
    for name, elements, voi, *minmax in (
        ("slope negative", {"RescaleSlope": -1, "RescaleIntercept": 4095}, dark),
        ("rescaled", {"RescaleSlope": 2, "RescaleIntercept": -7, **window}, linear(2.0 * GREY - 7, 1500, 900)),
        ("windows", {"WindowCenter": [1500, 9], "WindowWidth": [900, 3]}, linear(GREY, 1500, 900)),
        ("center alone", {"WindowCenter": 1500}, PLAIN),
        ("width 1", {"WindowCenter": 2000, "WindowWidth": 1}, 255.0 * (GREY > 1999.5)),
        ("width -5", {"WindowCenter": 1500, "WindowWidth": -5}, PLAIN),
        ("LUT", {"VOILUTSequence": lut(0, table, 12), **window}, by_table),
        ("LUT short", {"VOILUTSequence": lut(0, table, 12, 5000)}, PLAIN),
        ("LUT long", {"VOILUTSequence": lut(0, table, 12, 3000)}, 255 * table[np.minimum(GREY, 2999)] / 4095),
        ("LUT 20 bits", {"VOILUTSequence": lut(0, table, 20)}, 255 * table[GREY] / table.max()),
        ("LUT no data", {"VOILUTSequence": bare, **window}, linear(GREY, 1500, 900)),
        ("modality LUT", {"ModalityLUTSequence": lut(0, table, 12), **window}, linear(table[GREY], 1500, 900)),
        ("padding", limit, np.clip(full(np.maximum(GREY, GREY[GREY > 500].min())), 0, 255)),
        ("MONOCHROME1", one | window, 255 - linear(GREY, 1500, 900), dark),
        ("MONOCHROME1 inverse", one | {"PresentationLUTShape": "INVERSE"}, dark, dark),
        ("overlay above", {"PixelData": (GREY | 0x7000).tobytes()}, PLAIN),
    ):
        yield Variant("grey levels", f"{name}.dcm", saved(dataset(**elements)), *(minmax or [PLAIN]), voi)
    word = saved(dataset(WindowCenter=1500, WindowWidth="900 ")).replace(b"900 ", b"wide")
    yield Variant("grey levels", "width word.dcm", word, PLAIN)
    signed = GREY.astype(np.int16) - 2048
    for stored in (signed, GREY * 16, (BYTES - 128.0).astype(np.int8), GREY.astype(np.uint32) * 10**6):
        yield Variant("grey levels", f"{stored.dtype}.dcm", saved(dataset(stored)), full(stored))
    twelve = {"BitsStored": 12, "HighBit": 11}
    yield Variant("grey levels", "12 bit signed.dcm", saved(dataset(signed, **twelve)), full(signed))
    yield Variant("grey levels", "8 bit.dcm", saved(dataset(BYTES)), SMALL, full(BYTES))
    yield Variant("grey levels", "constant.dcm", saved(dataset(np.full_like(GREY, 7), **twelve)), "constant image")


def bombs() -> Iterator[Variant]:
    """Little files that ask for much."""
    wide = struct.pack(">4s2I5B", b"IHDR", 50000, 50000, 8, 0, 0, 0, 0)
    declared = PICTURES["PNG"][:12] + wide + struct.pack(">I", zlib.crc32(wide)) + PICTURES["PNG"][33:]
    yield Variant("bomb", "declared.png", declared, "pixels; expected")
    text = b"zTXta\0\0" + zlib.compress(bytes(10**8), 9)
    text = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    yield Variant("bomb", "text.png", PICTURES["PNG"][:33] + text + PICTURES["PNG"][33:], "corrupt")
    size = JPEG.index(b"\xff\xc0") + 5
    yield Variant("bomb", "declared.jpg", patched(JPEG, size, ">2H", 65000, 65000), "pixels; expected")
    yield Variant("bomb", "high.jpg", patched(JPEG, size, ">2H", 4000, 8000), CUT)
    yield Variant("bomb", "deflated.dcm", inflating(), "more than 128 MiB")
    yield Variant("bomb", "sparse.dcm", sparse, "more than 128 MiB")
    marks = {"JPEG 2000": (b"\xff\x4f\xff\x51", 8), "JPEG-LS": (b"\xff\xf7", 5), "JPEG lossless": (b"\xff\xc3", 5)}
    for name, (marker, skip) in {**marks, "JPEG baseline": (b"\xff\xc0", 5)}.items():
        frame, stored = frame_of(FORMATS[name]), BYTES if name == "JPEG baseline" else GREY
        at, code, step = frame.index(marker) + skip, *((">2I", -1) if name == "JPEG 2000" else (">2H", 1))
        for high, elements, outcome in (
            ((60000, 60000), {}, "the codestream contains 60000 x 60000 pixels"),
            ((4000, 8000)[::step], {"Rows": 4000, "Columns": 8000}, CUT),
        ):
            changed = encapsulated(patched(frame, at, code, *high), SYNTAX[name], stored, **elements)
            yield Variant("bomb", f"{name} {high}.dcm", changed, outcome)
    large = encapsulated(frame_of(FORMATS["RLE"]), uid.RLELossless, GREY, Rows=4000, Columns=8000)
    yield Variant("bomb", "RLE large.dcm", large, CUT)


def inflating() -> bytes:
    """A deflated file that goes on for 129 MiB of zeros."""
    content = FORMATS["deflated"]
    start = 144 + struct.unpack_from("<I", content, 140)[0]
    plain = zlib.decompress(content[start:], -zlib.MAX_WBITS)
    pack = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    head = plain[: plain.index(PIXELS)] + PIXELS + b"OW\0\0" + struct.pack("<I", 129 << 20)
    return content[:start] + pack.compress(head) + pack.compress(bytes(129 << 20)) + pack.flush()


def sparse(path: Path) -> None:
    """A file of 3 GiB that takes no room."""
    with path.open("wb") as file:
        file.write(FORMATS["explicit"][: -GREY.nbytes])
        file.truncate(3 << 30)


def names() -> Iterator[Variant]:
    """Good files under names that shells, tables and pages could break on."""
    good = [
        "with spaces .dcm",
        "--output.dcm",
        "quote'\".dcm",
        "new\nline\t.dcm",
        "$(touch injected)`touch injected`;.dcm",
    ]
    good += ["comma,semicolon;.dcm", "<b>&amp;.dcm", "ünïcødé 胸部.dcm", "=1+1.dcm", "x" * 251 + ".dcm", "no suffix"]
    for name in [*good, "invalid \udcff utf-8.dcm"]:
        yield Variant("name", name, FORMATS["explicit"], PLAIN)


def places() -> Iterator[Variant]:
    """What a folder may hold that is no file of an image."""
    for suffix in ("dcm", "png", "jpg"):
        yield Variant("place", f"empty.{suffix}", b"", "empty file")
    yield Variant("place", "web.dcm", b"<!DOCTYPE html><html>" * 30, "not a DICOM, PNG, JPEG, TIFF or BMP file")
    yield Variant("place", "folder.dcm/inner.dcm", FORMATS["explicit"], PLAIN)
    yield Variant("place", "pipe.dcm", os.mkfifo, "not a file, but a folder, pipe or device")
    for name, target, outcome in (
        ("dangling", "nowhere", "a link to no file"),
        ("loop", "loop.dcm", "a link to no file"),
        ("folder link", ".", "not a file, but a folder"),
        ("device", "/dev/zero", "not a file, but a folder, pipe"),
        ("unreadable", "/proc/self/mem", "Input/output error"),
        ("link", "folder.dcm/inner.dcm", PLAIN),
    ):
        yield Variant("place", f"{name}.dcm", lambda path, target=target: path.symlink_to(target), outcome)
