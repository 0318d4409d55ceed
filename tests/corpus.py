"""Radiographs as they should not be: more than two hundred files, each with what must come of it.

Every file is made here, the same on each run, from arrays that are known; what a conversion must give is worked out
from those arrays by the formulas of the standard, without the code under test.
"""

import io
import os
import struct
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gdcm
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

SIZE = 64
ROW, COLUMN = np.mgrid[:SIZE, :SIZE]
BUMP = 300 * np.exp(-((COLUMN - 20) ** 2 + (ROW - 40) ** 2) / 80)
GREY = (COLUMN * 40 + ROW * 17 + BUMP).astype(np.uint16) + 9  # 12 bits, no symmetry
BYTES = (GREY // 16).astype(np.uint8)
ANY = "any"  # damage that no reader can tell from an image: read or refused


@dataclass(frozen=True)
class Variant:
    """A file and what must come of it by either conversion: grey levels (rows, columns), words of the reason, or ANY.

    `tolerance` in grey levels: 1 for rounding, more for lossy codecs.
    """

    kind: str
    name: str
    content: bytes | Callable[[Path], None]
    minmax: np.ndarray | str
    voi: np.ndarray | str
    tolerance: int = 1

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
    shown = (values.astype(float) - (center - 0.5)) / (width - 1) + 0.5
    shown[values <= center - 0.5 - (width - 1) / 2] = 0
    shown[values > center - 0.5 + (width - 1) / 2] = 1
    return 255 * shown


def dataset(stored: np.ndarray = GREY, syntax: str = ExplicitVRLittleEndian, **elements: object) -> Dataset:
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


def saved(made: Dataset, change: Callable[[bytes], bytes] = lambda content: content) -> bytes:
    """A dataset as a file."""
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return change(buffer.getvalue())


def encapsulated(frame: bytes, syntax: str, stored: np.ndarray = BYTES, **elements: object) -> bytes:
    """A codestream as a DICOM file."""
    made = dataset(stored, syntax, PixelData=encapsulate([frame]), **elements)
    made["PixelData"].VR = "OB"
    return saved(made)


def compressed(syntax: str) -> bytes:
    """The radiograph in a lossless compression."""
    made = dataset()
    made.compress(syntax, encoding_plugin="pylibjpeg" if syntax != JPEGLSLossless else "pyjpegls")
    return saved(made)


def by_gdcm(syntax: str) -> bytes:
    """The radiograph in a compression that only GDCM writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/a.dcm"
        Path(path).write_bytes(saved(dataset()))
        reader, writer, change = gdcm.ImageReader(), gdcm.ImageWriter(), gdcm.ImageChangeTransferSyntax()
        reader.SetFileName(path)
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(path)
        assert writer.Write()
        return Path(path).read_bytes()


def picture(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """A picture as PIL writes it."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(lines: bytes, width: int, height: int, depth: int, colour: int = 0, interlaced: int = 0) -> bytes:
    """A PNG written by its specification; `lines` are filtered scan lines."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


def scan_lines(rows: np.ndarray) -> bytes:
    """Rows of bytes, each behind the filter type 0."""
    return b"".join(b"\0" + row.tobytes() for row in rows)


def interlaced(grey: np.ndarray) -> bytes:
    """Scan lines of the seven passes of Adam7."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    return b"".join(scan_lines(grey[top::down, left::right]) for top, left, down, right in passes)


def lut(first: int, table: np.ndarray, bits: int, entries: int | None = None) -> Sequence:
    """A LUT sequence, whose descriptor may name another number of entries than there are."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(table) if entries is None else entries, first, bits])
    item.add_new("LUTData", "OW", table.astype("<u2").tobytes())
    return Sequence([item])


def flipped(content: bytes, seed: int, start: int, count: int = 2) -> bytes:
    """Some bytes from `start` on changed."""
    random, changed = np.random.default_rng(seed), bytearray(content)
    for place in random.integers(start, len(content), count):
        changed[place] ^= int(random.integers(1, 256))
    return bytes(changed)


def with_size(frame: bytes, marker: bytes, skip: int, code: str, *size: int) -> bytes:
    """A codestream whose own header names another size."""
    place = frame.index(marker) + len(marker) + skip
    size_bytes = struct.pack(code, *size)
    return frame[:place] + size_bytes + frame[place + len(size_bytes) :]


def frame_of(content: bytes) -> bytes:
    """The codestream in a DICOM file."""
    return next(generate_frames(pydicom.dcmread(io.BytesIO(content)).PixelData, number_of_frames=1))


JPEG = picture(Image.fromarray(BYTES), "JPEG", quality=97)
FORMATS = {
    "explicit": saved(dataset()),
    "implicit": saved(dataset(syntax=ImplicitVRLittleEndian)),
    "deflated": saved(dataset(syntax=DeflatedExplicitVRLittleEndian)),
    "big endian": saved(dataset(GREY.astype(">u2"), ExplicitVRBigEndian, BitsStored=12, HighBit=11)),
    "RLE": compressed(RLELossless),
    "JPEG-LS": compressed(JPEGLSLossless),
    "JPEG 2000": compressed(JPEG2000Lossless),
    "JPEG lossless": by_gdcm(JPEGLossless),
    "JPEG lossless SV1": by_gdcm(JPEGLosslessSV1),
    "JPEG baseline": encapsulated(JPEG, JPEGBaseline8Bit),
    "JPEG extended": encapsulated(JPEG, JPEGExtended12Bit),
}
PICTURES = {
    "PNG": picture(Image.fromarray(BYTES)),
    "PNG 16 bit": picture(Image.fromarray(GREY)),
    "JPEG": JPEG,
    "JPEG progressive": picture(Image.fromarray(BYTES), "JPEG", quality=97, progressive=True),
}
SMALL = BYTES.astype(float)
CUT = "truncated|empty file|not a DICOM|no pixel data|corrupt"
REFUSED = f"{CUT}|missing|no decoder|not a grey|contains|expected|not readable|not a number|constant"
AS_PYDICOM = "as pydicom reads it"
LOSSY = 6  # grey levels
SYNTAX = {"JPEG baseline": JPEGBaseline8Bit, "JPEG-LS": JPEGLSLossless, "JPEG 2000": JPEG2000Lossless}
SYNTAX |= {"JPEG lossless": "1.2.840.10008.1.2.4.57", "RLE": RLELossless}


def both(kind: str, name: str, content: bytes | Callable[[Path], None], outcome: np.ndarray | str) -> Variant:
    """A variant of which both conversions make the same."""
    return Variant(kind, name, content, outcome, outcome)
