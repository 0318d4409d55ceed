"""DICOM radiographs to 8-bit grey: a chain of small functions, array in and array out.

stored values -> modality rescale or LUT -> VOI LUT or window -> inversion -> 0..255 (DICOM PS3.4 N.2).
Messages name attributes and files, never a value that could identify a patient.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from amae.data.decode import MOST_PIXELS, check_size, decode
from amae.data.shutter import shown_by_shutter
from amae.runtime.errors import InputError

GREY = ("MONOCHROME1", "MONOCHROME2")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
GREY_TOLERANCE = 2  # grey levels between the channels of a JPEG that contains a grey picture as colour
CONVERSIONS = ("minmax", "voi")
FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
MOST_LEVELS = 2**16  # between the smallest and the largest value of an image, for a table of them


def read_grey(path: str | Path, conversion: str, notes: list[str] | None = None) -> np.ndarray:
    """Read a single-frame grey DICOM file as uint8 (rows, columns), 0 black.

    `conversion` is "minmax" (as the published comparisons convert) or "voi" (as a viewer shows it, black outside the
    display shutter). RGB and YBR with equal channels are grey, and keep their 8 bits. Attributes that are put right or
    passed over are added to `notes`, by name and never by a value that a person typed. Raises InputError that names the
    file and the reason when the file is not such an image, cannot be decoded or is constant.
    """
    notes = [] if notes is None else notes
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a warning of pydicom may quote a header value
            dataset = _read_dataset(path, notes)
            stored = decode(dataset, notes)
            colour = stored.ndim == 3
            if colour:
                stored = grey_of_colour(stored)
            if stored.min() == stored.max():
                raise InputError(f"constant image: every stored value is {stored.flat[0]}")
            if colour:  # no window applies to colour (PS3.3 C.11.2)
                return minmax(stored, "MONOCHROME2")
            if conversion == "minmax":
                notes += _passed_over(stored, dataset)
                return minmax(stored, dataset.PhotometricInterpretation)
            shown = shown_by_shutter(dataset, notes)
            if shown is None:
                return by_level(stored, lambda values: voi(values, dataset, notes))
            grey = np.zeros(stored.shape, np.uint8)
            grey[shown] = by_level(stored[shown][None], lambda values: voi(values, dataset, notes))[0]
            return grey
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def is_dicom(path: str | Path) -> bool:
    """True if a file begins as DICOM files do (PS3.10, 7.1), or with a first element where the preamble is missing."""
    with Path(path).open("rb") as file:
        return begins_as_dicom(file.read(132))


def begins_as_dicom(head: bytes) -> bool:
    """True if these first 132 bytes are a DICOM file's; without a preamble, an element of group 2 or 8 comes first."""
    if head[128:] == b"DICM":
        return True
    first = head[:2] in (b"\2\0", b"\x08\0") and head[2:4] <= b"\x18\0" and head[3:4] == b"\0"
    return first and ((head[4:6].isalpha() and head[4:6].isupper()) or (len(head) == 132 and head[6:8] == b"\0\0"))


def grey_of_colour(values: np.ndarray) -> np.ndarray:
    """Mean of three channels (rows, columns, 3) that contain one grey picture, rounded: (rows, columns), same type.

    Raises InputError where channels differ by more than a lossy codec makes them differ.
    """
    spread = int((values.max(axis=-1) - values.min(axis=-1)).max())
    if spread > GREY_TOLERANCE:
        raise InputError(f"colour image: red, green and blue differ by up to {spread} levels; expected grey")
    return ((values.sum(axis=-1, dtype=np.uint32) + 1) // 3).astype(values.dtype)


def by_level(stored: np.ndarray, grey_of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Result of `grey_of` for an image (rows, columns), where a pixel's grey follows from its own value and the range.

    Each value that the image contains is worked out once: several times faster than each pixel, and the same.
    """
    low, high = int(stored.min()), int(stored.max())
    if high - low >= MOST_LEVELS:
        return grey_of(stored)
    if stored.dtype == np.uint8:
        low, place, counts = 0, stored, Image.fromarray(stored).histogram()
    else:
        place = np.subtract(stored, low, dtype=np.intp)
        counts = np.bincount(place.ravel())
    held = np.flatnonzero(counts)
    table = np.zeros(len(counts), np.uint8)
    table[held] = grey_of((held + low).astype(stored.dtype))
    return table.take(place)


def minmax(stored: np.ndarray, photometric: str) -> np.ndarray:
    """Scale stored values (rows, columns) from min..max to uint8 0..255; unsigned 8-bit values keep their scale.

    MONOCHROME1 is inverted as max - x first; fractions are cut off, as in the published data sets.
    """
    inverted = photometric == "MONOCHROME1"
    if stored.dtype == np.uint8:
        return stored.max() - stored if inverted else stored

    def grey_of(values: np.ndarray) -> np.ndarray:
        values = values.astype(np.float64)
        if inverted:
            values = values.max() - values
        values -= values.min()
        return (values / values.max() * 255).astype(np.uint8)

    return by_level(stored, grey_of)


def voi(stored: np.ndarray, dataset: Dataset, notes: list[str] | None = None) -> np.ndarray:
    """Show stored values (rows, columns) as a viewer does: uint8 (rows, columns), 0 black.

    The first VOI LUT is used if there is one, else the first window, else the full range; an unusable one is passed
    over, and added to `notes`. Padding pixels are left out of the range and shown black. Raises InputError when the
    rescale is unusable or all pixels get one grey level.
    """
    notes = [] if notes is None else notes
    padding = padding_mask(stored, dataset, notes)
    values = modality(stored, dataset)
    image = values[~padding]
    if image.size == 0 or image.min() == image.max():
        raise InputError(
            "constant image: every pixel outside PixelPaddingValue and inside any shutter has the same value"
        )
    shown, how = _values_of_interest(values, dataset, float(image.min()), float(image.max()), notes)
    # MONOCHROME1 and PresentationLUTShape INVERSE mean the same in a DX header (PS3.3 C.8.11.3): inverted once
    if dataset.PhotometricInterpretation == "MONOCHROME1" or read_text(dataset, "PresentationLUTShape") == "INVERSE":
        shown = 1 - shown
    grey = np.rint(shown * 255).astype(np.uint8)
    grey[padding] = 0
    visible = grey[~padding]
    if visible.min() == visible.max():
        raise InputError(f"constant image: {how} gives every pixel the same grey level; use conversion minmax")
    return grey


def padding_mask(stored: np.ndarray, dataset: Dataset, notes: list[str]) -> np.ndarray:
    """Bool (rows, columns): stored values in PixelPaddingValue..PixelPaddingRangeLimit (PS3.3 C.7.5.1.1.2)."""
    first = _optional(dataset, "PixelPaddingValue", notes)
    if first is None:
        return np.zeros(stored.shape, dtype=bool)
    last = _optional(dataset, "PixelPaddingRangeLimit", notes)
    ends = np.array([first, first if last is None else last]).astype(np.int64)
    levels = 2 ** (8 * stored.itemsize)
    if ends.min() < -levels // 2 or ends.max() >= levels:
        notes.append("PixelPaddingValue is outside the values that a pixel can have; passed over")
        return np.zeros(stored.shape, dtype=bool)
    ends = ends.astype(stored.dtype)  # some writers store a negative padding value as if it were unsigned
    return (stored >= ends.min()) & (stored <= ends.max())


def modality(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Apply the modality LUT or rescale slope and intercept; float64 (rows, columns) (PS3.3 C.11.1)."""
    if dataset.get("ModalityLUTSequence"):
        first, table, _ = lut(dataset.ModalityLUTSequence[0], "ModalityLUTSequence", _little_endian(dataset))
        return apply_lut(stored, first, table).astype(np.float64)
    slope, intercept = _number(dataset, "RescaleSlope"), _number(dataset, "RescaleIntercept")
    if slope == 0:
        raise InputError("RescaleSlope is 0, which makes every pixel the same")
    return stored * (1.0 if slope is None else slope) + (intercept or 0.0)


def window(values: np.ndarray, center: float, width: float, function: str = "LINEAR") -> np.ndarray:
    """Map values (rows, columns) to 0..1 by a window: LINEAR, LINEAR_EXACT or SIGMOID (PS3.3 C.11.2.1.2, C.11.2.1.3).

    Raises InputError for a width that the standard forbids or another function.
    """
    if width < 1 if function == "LINEAR" else width <= 0:
        raise InputError(f"WindowWidth {width:g} is too small for the VOI function {function}")
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    elif function != "LINEAR_EXACT":
        raise InputError("VOILUTFunction is none of LINEAR, LINEAR_EXACT, SIGMOID")
    if width == 0:
        return (values > center).astype(np.float64)
    return np.clip((values - center) / width + 0.5, 0, 1)


def lut(item: Dataset, name: str, little_endian: bool) -> tuple[int, np.ndarray, int]:
    """First mapped value, table (entries,), bits per entry of a LUT sequence item (PS3.3 C.11.1.1, C.11.2.1.1)."""
    try:
        entries, first, bits = (int(value) for value in item.LUTDescriptor)
        data = item.LUTData
    except (AttributeError, TypeError, ValueError):
        raise InputError(f"{name} lacks a usable LUTDescriptor or LUTData") from None
    entries = entries % 65536 or 65536  # 0 stands for 65536; a signed reading of more than 32767 is undone
    if isinstance(data, bytes):
        packed = bits <= 8 and len(data) < 2 * entries
        data = np.frombuffer(data[: len(data) // 2 * 2], "u1" if packed else "<u2" if little_endian else ">u2")
    table = np.atleast_1d(np.asarray(data))[:entries]
    if len(table) < entries:
        raise InputError(f"{name}: LUTDescriptor says {entries} entries of {bits} bits, LUTData contains {len(table)}")
    return first, table, bits


def apply_lut(values: np.ndarray, first: int, table: np.ndarray) -> np.ndarray:
    """Look values (rows, columns) up in `table`, whose entry 0 stands for `first` and below, its last for all above."""
    if first > 32767 and values.min() < 0:
        first -= 65536  # a negative first value in an attribute written as unsigned
    elif first + len(table) <= 0 <= values.min():
        first += 65536  # a first value of more than 32767 in an attribute written as signed
    return table[np.clip(np.rint(values).astype(np.int64) - first, 0, len(table) - 1)]


def _values_of_interest(
    values: np.ndarray, dataset: Dataset, low: float, high: float, notes: list[str]
) -> tuple[np.ndarray, str]:
    """Values mapped to 0..1, and which attribute did it; those that are unusable are passed over, with a note."""
    if dataset.get("VOILUTSequence"):
        try:
            first, table, bits = lut(dataset.VOILUTSequence[0], "VOILUTSequence", _little_endian(dataset))
            return apply_lut(values, first, table) / _white(table, bits, notes), "VOILUTSequence"
        except InputError as error:
            notes.append(f"{error}; passed over")
    center, width = (_optional(dataset, keyword, notes) for keyword in ("WindowCenter", "WindowWidth"))
    if center is not None and width is not None:
        function = read_text(dataset, "VOILUTFunction") or "LINEAR"
        if function not in FUNCTIONS:
            notes.append(f"VOILUTFunction is none of {', '.join(FUNCTIONS)}; taken for LINEAR")
            function = "LINEAR"
        try:
            shown = window(values, center, width, function)
            return shown, f"the window (WindowCenter {center:g}, WindowWidth {width:g})"
        except InputError as error:
            notes.append(f"{error}; passed over")
    elif (center is None) != (width is None):
        notes.append("one of WindowCenter and WindowWidth is missing; the other is passed over")
    return np.clip((values - low) / (high - low), 0, 1), "the full range"


def _white(table: np.ndarray, bits: int, notes: list[str]) -> int:
    """The entry of a VOI LUT that is white: the largest of its bits, or the largest in it where their number is wrong.

    It is wrong where an entry needs more bits, or none the uppermost (PS3.3 C.11.2.1.1).
    """
    needed = int(table.max()).bit_length()
    if bits == needed and bits:
        return 2**bits - 1
    notes.append(f"VOILUTSequence: LUTDescriptor says {bits} bits, LUTData has {needed}: its largest entry is white")
    return max(int(table.max()), 1)


def _passed_over(stored: np.ndarray, dataset: Dataset) -> list[str]:
    """Notes on what a header says of its grey levels and the conversion minmax leaves out."""
    found: list[str] = []
    try:
        if (_number(dataset, "RescaleSlope") or 0) < 0:
            found.append("minmax ignores the negative RescaleSlope, so black and white are exchanged")
    except InputError as error:
        found.append(f"{error}; minmax ignores it")
    if dataset.get("ModalityLUTSequence"):
        found.append("minmax ignores ModalityLUTSequence")
    if dataset.PhotometricInterpretation == "MONOCHROME2" and read_text(dataset, "PresentationLUTShape") == "INVERSE":
        found.append("minmax ignores PresentationLUTShape INVERSE, so black and white are exchanged")
    if padding_mask(stored, dataset, found).any():
        found.append("minmax ignores PixelPaddingValue, so padding counts as part of the picture")
    if shown_by_shutter(dataset, found) is not None:
        found.append("minmax ignores the display shutter, so what it hides counts as part of the picture")
    return found


def _read_dataset(path: str | Path, notes: list[str]) -> Dataset:
    """Header and undecoded pixel data of a single-frame grey image."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            check_size(path)
            dataset = read_header(path)
        except InputError:
            raise
        except (FileNotFoundError, IsADirectoryError):
            raise InputError("no such file") from None
        except InvalidDicomError:
            raise InputError("empty file" if Path(path).stat().st_size == 0 else "not a DICOM file") from None
        except EOFError:
            raise InputError("truncated DICOM file") from None
        except Exception as error:
            raise InputError(f"the DICOM file is corrupt or truncated ({type(error).__name__})") from None
        if "PixelData" in dataset:
            _check_header(dataset, notes)
            return dataset
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise InputError("pixel data in floating point; expected whole numbers")
    truncated = any("End of file" in str(warning.message) for warning in caught)
    raise InputError("truncated DICOM file" if truncated else "no pixel data (no image, or the file is truncated)")


def read_header(path: str | Path, **options: Any) -> Dataset:
    """A DICOM file as pydicom reads it, with these options; also one without preamble or without file meta information.

    The latter is uncompressed: nothing could say how it is compressed. Raises what pydicom raises.
    """
    dataset = pydicom.dcmread(path, force=is_dicom(path), **options)
    if "TransferSyntaxUID" not in dataset.file_meta and not dataset.file_meta:
        implicit, little = dataset.original_encoding
        plain = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = plain
    return dataset


def _check_header(dataset: Dataset, notes: list[str]) -> None:
    """Refuse what is not one grey frame, and what contradicts itself."""
    names = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel")
    numbers = [_number(dataset, keyword) for keyword in names]
    if None in numbers:
        raise InputError(f"the DICOM attribute {names[numbers.index(None)]} is missing")
    rows, columns, allocated, stored, _, samples = numbers
    if "SharedFunctionalGroupsSequence" in dataset:
        notes.append("SharedFunctionalGroupsSequence is passed over, with any window or rescale in it")
    photometric = read_text(dataset, "PhotometricInterpretation")
    if (photometric, samples) not in [*((name, 1) for name in GREY), *((name, 3) for name in COLOUR)]:
        raise InputError(
            f"not a grey image: PhotometricInterpretation {photometric or 'missing'}, SamplesPerPixel {samples:g}"
            "; expected MONOCHROME1 or MONOCHROME2, and 1, or equal channels of RGB or YBR, and 3"
        )
    dataset.PhotometricInterpretation = photometric
    frames = _number(dataset, "NumberOfFrames")
    if frames == 0:
        notes.append("NumberOfFrames is 0; taken for 1")
        dataset.NumberOfFrames = 1
    elif frames is not None and frames != 1:
        raise InputError(f"multi-frame image: NumberOfFrames {frames:g}, expected 1")
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated:
        raise InputError(
            f"BitsAllocated {allocated:g}, BitsStored {stored:g}; expected 8, 16 or 32, and no more bits stored"
        )
    high = _number(dataset, "HighBit")
    if high not in (None, stored - 1):
        raise InputError(f"HighBit {high:g} contradicts BitsStored {stored:g}; expected one less")
    if not (rows >= 1 and columns >= 1 and rows * columns * max(allocated * samples, 16) <= MOST_PIXELS * 16):
        raise InputError(f"{rows:g} x {columns:g} pixels of {allocated:g} bits; expected 1 to {MOST_PIXELS} of 16 bits")


def _little_endian(dataset: Dataset) -> bool:
    return dataset.original_encoding[1] is not False  # None (made in memory) counts as little endian


def _number(dataset: Dataset, keyword: str) -> float | None:
    """First value of a numeric attribute, or None where it is missing or empty."""
    value = _first(dataset, keyword)
    try:
        number = None if value in (None, "") else float(value)
    except (TypeError, ValueError):
        raise InputError(f"the DICOM attribute {keyword} is not a number") from None
    if number is not None and not np.isfinite(number):
        raise InputError(f"the DICOM attribute {keyword} is not a finite number")
    return number


def _optional(dataset: Dataset, keyword: str, notes: list[str]) -> float | None:
    """First value of a numeric attribute; None where it is missing or empty, and with a note where it is unusable."""
    try:
        return _number(dataset, keyword)
    except InputError as error:
        notes.append(f"{error}; passed over")
        return None


def read_text(dataset: Dataset, keyword: str) -> str:
    """First value of a text attribute in capitals, or ""."""
    return str(_first(dataset, keyword) or "").strip().upper()


def _first(dataset: Dataset, keyword: str) -> Any:
    try:
        value = dataset.get(keyword)
    except Exception:  # pydicom parses an attribute when it is first asked for; its message would quote the value
        raise InputError(f"the DICOM attribute {keyword} is not readable") from None
    if isinstance(value, list | tuple | pydicom.multival.MultiValue):
        return value[0] if len(value) else None
    return value
