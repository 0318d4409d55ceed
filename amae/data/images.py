"""Image files, one by one or by several processes, to square grey images of two sizes with their geometry."""

import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from amae.data.decode import MOST_PIXELS, MOST_RATIO
from amae.data.dicom import CONVERSIONS, begins_as_dicom, grey_of_colour, minmax, read_grey
from amae.data.header import header_flags
from amae.data.packed import MASK_SIZE, Geometry
from amae.runtime.errors import InputError
from amae.runtime.processes import clean_context, end_with_parent

Task = tuple[str, str, str, int]  # path, conversion, square, size
SQUARES = ("squash", "pad", "crop")
PICTURES = {  # how a file of each format begins
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "TIFF": (b"II*\0", b"MM\0*"),
    "BMP": (b"BM",),
}
PHOTOMETRIC, SAMPLE_BITS = 262, 258  # tags of TIFF
FEW_BITS = {"L;2": 85, "L;4": 17}  # how PIL spreads the levels of PNG with fewer bits, but not the transparent one


def read_image(
    path: str | Path, conversion: str, square: str, size: int
) -> tuple[np.ndarray, np.ndarray, Geometry, list[str]]:
    """Read a DICOM file or picture of a radiograph (recognised by content) as uint8 (size, size), the size of a model.

    With it: the same at 256 px, uint8 (256, 256), in which lungs are found, the geometry of the first, and notes: what
    the header of a DICOM file leaves open of the grey levels, and signs in it of no frontal chest radiograph. Pictures
    are PNG, JPEG, TIFF and BMP.
    conversion: "minmax" or "voi" (DICOM only: pictures carry no window; their 8-bit values are kept and 16-bit
    values scaled min..max). square: "squash", "pad" (black) or "crop" (centre). Raises InputError with file and reason.
    """
    for name, value, allowed in (("conversion", conversion, CONVERSIONS), ("square", square, SQUARES)):
        if value not in allowed:
            raise InputError(f"{name} is {value!r}; expected one of {', '.join(allowed)}")
    grey, notes = read_radiograph(path, conversion)
    image, geometry = make_square(grey, square, size)
    return image, make_square(grey, square, MASK_SIZE)[0], geometry, [*header_flags(path), *notes]


def read_radiograph(path: str | Path, conversion: str) -> tuple[np.ndarray, list[str]]:
    """A file as uint8 (rows, columns) in its own size, and the notes on its grey levels; see `read_image`."""
    notes: list[str] = []
    try:
        _require_file(Path(path))
        with Path(path).open("rb") as file:
            head = file.read(132)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    kind = next((name for name, starts in PICTURES.items() if head.startswith(starts)), "")
    if kind in ("PNG", "JPEG") or (kind and not begins_as_dicom(head)):  # a file may be TIFF and DICOM at once
        return _read_picture(path, kind), notes
    if begins_as_dicom(head):
        return read_grey(path, conversion, notes), notes
    raise InputError(f"{path}: {'not a DICOM, PNG, JPEG, TIFF or BMP file' if head else 'empty file'}")


def grey_of_array(values: np.ndarray) -> np.ndarray:
    """Grey levels (rows, columns) of any whole numbers, 0 black, as those of a picture: uint8 (rows, columns).

    Uint8 stays as it is, others are scaled min..max. Raises InputError for other arrays and for a constant one.
    """
    values = np.asarray(values)
    if values.ndim != 2 or values.dtype.kind not in "ui":
        raise InputError(f"an array of {values.dtype} {values.shape}; expected whole numbers (rows, columns)")
    if not 0 < values.size <= MOST_PIXELS:
        raise InputError(f"{values.shape[0]} x {values.shape[1]} pixels; expected 1 to {MOST_PIXELS}")
    return _grey_of(values, "L" if values.dtype == np.uint8 else "I", transparent=False, white_is_zero=False)


def _require_file(path: Path) -> None:
    """Refuse what would not end when it is read (a pipe, a device), and what is not there."""
    if path.is_file():
        return
    if path.is_symlink() and not path.exists():
        raise InputError(f"{path}: a link to no file")
    raise InputError(f"{path}: {'not a file, but a folder, pipe or device' if path.exists() else 'no such file'}")


def make_square(grey: np.ndarray, square: str, size: int) -> tuple[np.ndarray, Geometry]:
    """Resize uint8 (rows, columns) to (size, size) by antialiased bilinear interpolation (PIL), with the geometry."""
    rows, columns = grey.shape
    picture = Image.fromarray(grey)
    if square == "squash":
        packed = picture.resize((size, size), Image.Resampling.BILINEAR)
        geometry = Geometry(rows, columns, size / columns, size / rows, 0.0, 0.0)
    elif square == "pad":
        longest = max(rows, columns)
        width, height = max(1, round(columns * size / longest)), max(1, round(rows * size / longest))
        left, top = (size - width) // 2, (size - height) // 2
        packed = Image.new("L", (size, size))
        packed.paste(picture.resize((width, height), Image.Resampling.BILINEAR), (left, top))
        geometry = Geometry(rows, columns, width / columns, height / rows, float(left), float(top))
    else:
        side = min(rows, columns)
        left, top = (columns - side) // 2, (rows - side) // 2
        box = (left, top, left + side, top + side)
        packed = picture.resize((size, size), Image.Resampling.BILINEAR, box=box)
        scale = size / side
        geometry = Geometry(rows, columns, scale, scale, -left * scale, -top * scale)
    return np.asarray(packed), geometry


def _read_picture(path: str | Path, kind: str) -> np.ndarray:
    """A picture as uint8 (rows, columns), turned by its EXIF orientation."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL warns of large images and of odd EXIF; neither harms
            with Image.open(path, formats=(kind,)) as picture:
                if getattr(picture, "n_frames", 1) != 1:
                    raise InputError(f"{path}: contains {picture.n_frames} pictures, expected 1")
                _check_pixels(picture.height, picture.width, Path(path))
                if kind == "PNG":
                    _check_sums(path)
                white = _white_is_zero(picture) if kind == "TIFF" else False
                few_bits = FEW_BITS.get(picture.tile[0].args, 1) if kind == "PNG" else 1
                picture = ImageOps.exif_transpose(picture)
                mode, values = picture.mode, np.asarray(picture)
                transparent = _uses_transparency(values, mode, picture.info.get("transparency"), few_bits)
                if mode == "P" or (mode == "CMYK" and "icc_profile" not in picture.info):
                    mode, values = "RGB", np.asarray(picture.convert("RGB"))
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(f"{path}: too many pixels; expected up to {MOST_PIXELS}") from None
    except Exception as error:  # PIL's plugins raise many kinds for a damaged file
        raise InputError(f"{path}: truncated or corrupt {kind} ({type(error).__name__})") from None
    try:
        return _grey_of(values, mode, transparent, white)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _check_pixels(rows: int, columns: int, path: Path) -> None:
    """Refuse more pixels than a radiograph has, or than a file of this size can contain: decoders make up the rest."""
    if rows * columns > MOST_PIXELS:
        raise InputError(f"{path}: {rows} x {columns} pixels; expected up to {MOST_PIXELS}")
    if rows * columns > MOST_RATIO * path.stat().st_size:
        raise InputError(f"{path}: truncated: {path.stat().st_size} bytes for {rows} x {columns} pixels")


def _check_sums(path: str | Path) -> None:
    """Raise for a PNG whose check sums differ from its content, which decoding alone does not notice."""
    with Image.open(path, formats=("PNG",)) as picture:
        picture.verify()


def _white_is_zero(picture: Image.Image) -> bool:
    """True for a TIFF of 16 bits whose lowest value is white, which PIL does not invert as it does 8 bits.

    Raises InputError for colour of 16 bits, of which PIL would drop the lower half.
    """
    bits, deep = picture.tag_v2.get(SAMPLE_BITS, (1,)), picture.mode.startswith("I")
    if max(bits) > 8 and not deep and picture.mode != "F":
        raise InputError(f"colour of {max(bits)} bits; expected 8 or 16 bit grey")
    return deep and picture.tag_v2.get(PHOTOMETRIC) == 0


def _uses_transparency(values: np.ndarray, mode: str, level: int | tuple | bytes | None, few_bits: int) -> bool:
    """True where a pixel of these decoded values of a PIL mode is not opaque.

    `level` is the grey level or colour that is transparent, or the opacity of each level of a palette.
    """
    if mode in ("LA", "RGBA"):
        return bool((values[..., -1] != 255).any())
    if isinstance(level, bytes):
        opacity = np.full(256, 255)
        opacity[: len(level)] = list(level)
        return bool((opacity[values] != 255).any())
    if isinstance(level, tuple):
        return max(level) > 255 or bool((values == level).all(-1).any())  # of 16 bits PIL keeps the upper 8
    return level is not None and bool((values == level * few_bits).any())


def _grey_of(values: np.ndarray, mode: str, transparent: bool, white_is_zero: bool) -> np.ndarray:
    """Decoded values (rows, columns[, channels]) of a PIL mode to uint8 (rows, columns)."""
    if transparent:
        raise InputError("transparent pixels; expected an opaque grey image")
    if mode in ("LA", "RGBA"):
        mode, values = mode[:-1], values[..., :-1]
    if mode == "RGB":
        values = grey_of_colour(values)
    elif mode != "L" and not mode.startswith("I"):
        raise InputError(f"picture of type {mode} (1: bilevel, F: fractions, CMYK: inks); expected 8 or 16 bit grey")
    values = values.reshape(values.shape[:2])
    if values.min() == values.max():
        raise InputError(f"constant image: every pixel is {values.flat[0]}")
    if values.dtype == np.uint8:
        return values
    return minmax(values.astype(values.dtype.newbyteorder("=")), "MONOCHROME1" if white_is_zero else "MONOCHROME2")


def in_order(read: Callable[..., Any], tasks: Iterable[Task], workers: int) -> Iterator[tuple[Any, str]]:
    """Result of `read` for each task and "", or None and the reason where it fails, in the order of the tasks.

    A task (path, conversion, square, size) is the arguments of `read`. At most four tasks a worker (process) are under
    way, so that memory stays flat. A file whose process dies is a file that fails; one worker is this process itself.
    """
    if workers <= 1:
        yield from (attempt(read, task) for task in tasks)
        return
    tasks = iter(tasks)
    while lost := (yield from _pooled(read, tasks, workers, 4 * workers)):
        suspects = iter(lost)
        while (yield from _pooled(read, suspects, 1, 1)):  # one by one, so that it is known whose process died
            yield None, "the process that read this file died: out of memory, or its decoder crashed"


def attempt(read: Callable[..., Any], task: Task) -> tuple[Any, str]:
    """Result of `read` for a task and "", or None and the reason where it fails."""
    try:
        return read(*task), ""
    except InputError as error:
        return None, str(error).removeprefix(f"{task[0]}: ")
    except MemoryError:
        return None, "too large for the memory of this machine"


def _pooled(
    read: Callable[..., Any], tasks: Iterator[Task], workers: int, ahead: int
) -> Generator[tuple[Any, str], None, list[Task]]:
    """Yield as `in_order` does, with up to `ahead` tasks under way, until none is left or a process dies.

    Returns the tasks that were under way when it died; none at the end.
    """
    waiting: deque[tuple[Task, Future | None]] = deque()
    context = clean_context(__name__, read.__module__)
    with ProcessPoolExecutor(workers, context, initializer=end_with_parent) as pool:
        try:
            for task in tasks:
                waiting.append((task, None))
                waiting[-1] = (task, pool.submit(attempt, read, task))
                if len(waiting) >= ahead:
                    yield waiting[0][1].result()
                    waiting.popleft()
            while waiting:
                yield waiting[0][1].result()
                waiting.popleft()
        except BrokenProcessPool:
            pass
    return [task for task, _ in waiting]
