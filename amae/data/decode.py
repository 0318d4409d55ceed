"""Pixel data of a DICOM file to stored values, whatever is in the file.

Each transfer syntax has one decoder, the safest. What is larger than any radiograph, or contradicts its header, is
refused before it is decoded.
"""

import os
import struct
import warnings
import zlib
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.filereader import read_dataset
from pydicom.pixels import get_decoder, pixel_array
from pydicom.tag import BaseTag
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from amae.runtime.errors import InputError
from amae.runtime.processes import clean_context

MOST_PIXELS = 2**25  # of up to 16 bits: 34 million; a radiograph of the chest has at most 20 million
DECODERS = {
    JPEGBaseline8Bit: "pillow",
    JPEGExtended12Bit: "pillow",
    JPEGLossless: "gdcm",
    JPEGLosslessSV1: "gdcm",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    JPEG2000Lossless: "pylibjpeg",
    JPEG2000: "pylibjpeg",
    HTJ2KLossless: "pylibjpeg",
    HTJ2KLosslessRPCL: "pylibjpeg",
    HTJ2K: "pylibjpeg",
    RLELossless: "pylibjpeg",
}
MOST_BYTES = 2**27  # of a file, inflated
MOST_RATIO = 1000  # pixels for a byte of a codestream; a radiograph is at 30 to 100 when compression is strong
APART = (JPEGLossless, JPEGLosslessSV1, RLELossless)  # decoded in a process of its own, see `_apart`
LONGEST = 120  # seconds that one image may take there
SIZ = b"\xff\x4f\xff\x51"  # how a JPEG 2000 codestream begins
FRAME_HEADERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # SOF of JPEG (ITU-T T.81, table B.1) and JPEG-LS
SCAN = 0xDA
SCAN_MARKER = b"\xff\xda"
OVERLAYS, OVERLAY_BIT = range(0x6000, 0x6020, 2), 0x0102  # groups of overlays, and OverlayBitPosition in each
PREAMBLE = 132  # bytes before the file meta information, whose group is 2
END = b"\xff\xd9"  # the last marker of every JPEG, JPEG-LS and JPEG 2000 codestream; never within one


def decode(dataset: Dataset, notes: list[str] | None = None) -> np.ndarray:
    """Stored values (rows, columns), or (rows, columns, 3) of colour, of a single frame in their own integer type.

    A fault of the header that the pixels put right is added to `notes`. Raises InputError that names the transfer
    syntax, for one without a decoder and for pixel data that is truncated or corrupt.
    """
    syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
    if syntax is None:
        raise InputError("the DICOM attribute TransferSyntaxUID is missing")
    named = f"transfer syntax {syntax.name} ({syntax})" if syntax.name != syntax else f"transfer syntax {syntax}"
    try:
        get_decoder(syntax)
    except NotImplementedError:
        raise InputError(f"no decoder for {named}") from None
    bits, decoder = int(dataset.BitsStored), DECODERS.get(syntax, "")
    if syntax == JPEGExtended12Bit and bits > 8:
        if find_spec("libjpeg") is None:
            raise InputError(
                f"no decoder for {named} with {bits} bits; the optional package pylibjpeg-libjpeg (GPL) reads it"
            )
        decoder = "pylibjpeg"
    try:
        _check_length(dataset, syntax)
        raw = _apart(dataset, decoder) if syntax in APART else _pixels(dataset, decoder)
    except InputError:
        raise
    except Exception:  # decoders raise many kinds
        raise InputError(f"pixel data truncated or corrupt: cannot be decoded as {named}, {bits} bits") from None
    return _used_bits(raw, dataset, [] if notes is None else notes)


def _pixels(dataset: Dataset, decoder: str) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pixel_array(dataset, decoding_plugin=decoder, correct_unused_bits=False)


def _used_bits(raw: np.ndarray, dataset: Dataset, notes: list[str]) -> np.ndarray:
    """Values of BitsStored bits; of all their bits where the picture shows that BitsStored is too small.

    Bits above BitsStored may belong to an overlay (PS3.5, 8.1.1, retired), with or without its description. Neighbours
    in a radiograph differ little: bits that belong to the values make them differ less, bits of an overlay more.
    """
    bits = int(dataset.BitsStored)
    unused = 8 * raw.itemsize - bits
    if not unused:
        return raw
    kept = raw << unused >> unused
    if np.array_equal(kept, raw):
        return kept
    above = raw.view(f"{raw.dtype.byteorder}u{raw.itemsize}") >> bits
    for overlay in filter(None, (dataset.get((group, OVERLAY_BIT)) for group in OVERLAYS)):
        if bits <= (overlay.value or 0) < 8 * raw.itemsize:
            above &= ~above.dtype.type(1 << (overlay.value - bits))
    if above.min() == above.max():
        return kept
    if _roughness(kept) <= _roughness(raw):
        notes.append(f"bits above BitsStored {bits} differ between pixels, and are not shown")
        return kept
    notes.append(f"BitsStored {bits} is too small for the values: all {8 * raw.itemsize} bits are read")
    return raw


def _roughness(values: np.ndarray) -> int:
    """Sum of the differences between neighbours in a row."""
    return int(np.abs(np.diff(values.astype(np.int64), axis=1)).sum())


def _check_length(dataset: Dataset, syntax: UID) -> None:
    """Refuse pixel data of another size than the header states, and a codestream without its end.

    Decoders make up what lies behind the end of a truncated codestream, and allocate what its own header asks for.
    """
    rows, columns = dataset.Rows, dataset.Columns
    if not syntax.is_compressed:
        row = columns * dataset.BitsAllocated // 8 * dataset.SamplesPerPixel
        if len(dataset.PixelData) >= (rows + 1) * row:
            raise InputError(f"PixelData contains {len(dataset.PixelData)} bytes; Rows and Columns say {rows * row}")
    elif syntax != RLELossless:
        frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
        end = frame.rfind(END)  # behind it is padding of any length; before the scan it would be that of a thumbnail
        if end <= frame.rfind(SCAN_MARKER):
            raise InputError("pixel data truncated: the codestream has no end")
        frame = frame[: end + len(END)]
        if rows * columns > MOST_RATIO * len(frame):
            raise InputError(f"pixel data truncated: {len(frame)} bytes for {rows} x {columns} pixels")
        if (size := codestream_size(frame)) != (rows, columns):
            raise InputError(
                f"the codestream contains {size[0]} x {size[1]} pixels; the header says {rows} x {columns}"
            )


def codestream_size(frame: bytes) -> tuple[int, int]:
    """Rows and columns of a JPEG, JPEG-LS or JPEG 2000 codestream, by its own header.

    Raises ValueError, IndexError or struct.error where it has none.
    """
    if SIZ in frame[:200]:
        columns, rows, left, top = struct.unpack_from(">4I", frame, frame.index(SIZ) + len(SIZ) + 4)
        return rows - top, columns - left
    place = 2
    while (marker := frame[place + 1]) not in FRAME_HEADERS:
        if marker == SCAN:
            raise ValueError("a scan before the frame header")
        fill = marker == 0xFF  # may precede a marker
        place += 1 if fill else 2 + struct.unpack_from(">H", frame, place + 2)[0]
    return struct.unpack_from(">2H", frame, place + 5)


def _after_meta(tag: BaseTag, *_: object) -> bool:
    return tag.group != 2


def check_size(path: str | Path) -> None:
    """Raise InputError for a DICOM file that is larger than one with a radiograph, or inflates to more."""
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        file.seek(PREAMBLE if file.read(PREAMBLE)[128:] == b"DICM" else 0)
        meta = read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=_after_meta)
        if size <= MOST_BYTES and meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            size = len(inflate.decompress(file.read(), MOST_BYTES + 1))
    if size > MOST_BYTES:
        raise InputError(f"more than {MOST_BYTES >> 20} MiB in one file; expected a single radiograph")


def _apart(dataset: Dataset, decoder: str) -> np.ndarray:
    """Decode in a process of its own: GDCM aborts on some damaged files, and so ends but this process."""
    process, connection = _decoding_process()
    try:
        connection.send((dataset, decoder))
        if not connection.poll(LONGEST):
            process.kill()
            raise TimeoutError
        found = connection.recv()
    except (EOFError, OSError):
        _decoding_process.cache_clear()  # the next file gets a new one
        raise
    if isinstance(found, Exception):
        raise found
    return found


@cache
def _decoding_process() -> tuple[BaseProcess, Connection]:
    """A process that lives as long as this one, or until it dies of a file, and the connection to it."""
    ours, theirs = Pipe()
    process = clean_context(__name__).Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def _serve(connection: Connection) -> None:
    """Decode what comes, until the other side is gone, killed with an answer unread perhaps."""
    with suppress(EOFError, ConnectionError):
        while True:
            try:
                connection.send(_strict(*connection.recv()))
            except ValueError as error:
                connection.send(error)


def _strict(dataset: Dataset, decoder: str) -> np.ndarray:
    """Decode, and fail where the decoder reports damage, which GDCM does on stderr alone."""
    with TemporaryFile() as told:
        stderr = os.dup(2)
        os.dup2(told.fileno(), 2)
        try:
            pixels = _pixels(dataset, decoder)
        except BaseException as error:  # a panic in the RLE decoder (Rust) is no Exception
            raise ValueError("damage") from error
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        told.seek(0)
        if b"Corrupt JPEG" in told.read():
            raise ValueError("damage")
    return pixels
