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
from amae.data.dicom import CONVERSIONS, minmax, read_grey
from amae.data.packed import MASK_SIZE, Geometry
from amae.runtime.errors import InputError
from amae.runtime.processes import clean_context, end_with_parent

Task = tuple[str, str, str, int]  # path, conversion, square, size
SQUARES = ("squash", "pad", "crop")
GREY_TOLERANCE = 2  # grey levels between the channels of a JPEG that contains a grey picture as colour


def read_image(path: str | Path, conversion: str, square: str, size: int) -> tuple[np.ndarray, np.ndarray, Geometry]:
    """Read a DICOM, PNG or JPEG radiograph (recognised by content) as uint8 (size, size), the size of a model.

    With it: the same at 256 px, uint8 (256, 256), in which lungs are found, and the geometry of the first.
    conversion: "minmax" or "voi" (DICOM only: PNG and JPEG carry no window; their 8-bit values are kept and 16-bit
    values scaled min..max). square: "squash", "pad" (black) or "crop" (centre). Raises InputError with file and reason.
    """
    for name, value, allowed in (("conversion", conversion, CONVERSIONS), ("square", square, SQUARES)):
        if value not in allowed:
            raise InputError(f"{name} is {value!r}; expected one of {', '.join(allowed)}")
    try:
        _require_file(Path(path))
        with Path(path).open("rb") as file:
            head = file.read(132)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        grey = _read_picture(path)
    elif head[128:] == b"DICM":
        grey = read_grey(path, conversion)
    else:
        raise InputError(f"{path}: {'not a DICOM, PNG or JPEG file' if head else 'empty file'}")
    image, geometry = make_square(grey, square, size)
    return image, make_square(grey, square, MASK_SIZE)[0], geometry


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


def _read_picture(path: str | Path) -> np.ndarray:
    """PNG or JPEG as uint8 (rows, columns), turned by its EXIF orientation."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL warns of large images and of odd EXIF; neither harms
            with Image.open(path, formats=("PNG", "JPEG")) as picture:
                if getattr(picture, "n_frames", 1) != 1:
                    raise InputError(f"{path}: contains {picture.n_frames} pictures, expected 1")
                _check_pixels(picture.height, picture.width, Path(path))
                if picture.format == "PNG":
                    _check_sums(path)
                picture = ImageOps.exif_transpose(picture)
                mode, values = picture.mode, np.asarray(picture)
                transparent = "transparency" in picture.info
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(f"{path}: too many pixels; expected up to {MOST_PIXELS}") from None
    except Exception as error:  # PIL's plugins raise many kinds for a damaged file
        raise InputError(f"{path}: truncated or corrupt PNG or JPEG ({type(error).__name__})") from None
    try:
        return _grey_of(values, mode, transparent)
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


def _grey_of(values: np.ndarray, mode: str, transparent: bool) -> np.ndarray:
    """Decoded values (rows, columns[, channels]) of a PIL mode to uint8 (rows, columns)."""
    if mode in ("LA", "RGBA") and not transparent:
        transparent = bool((values[..., -1] != 255).any())
        mode, values = mode[:-1], values[..., :-1]
    if transparent:
        raise InputError("transparent pixels; expected an opaque grey image")
    if mode == "RGB":
        spread = int((values.max(axis=-1) - values.min(axis=-1)).max())
        if spread > GREY_TOLERANCE:
            raise InputError(f"colour image: red, green and blue differ by up to {spread} levels; expected grey")
        values = ((values.sum(axis=-1, dtype=np.uint16) + 1) // 3).astype(np.uint8)  # the mean, rounded
    elif mode not in ("L", "LA") and not mode.startswith("I"):
        raise InputError(f"PNG or JPEG of type {mode} (palette, bilevel or CMYK); expected 8 or 16 bit grey")
    values = values.reshape(values.shape[:2])
    if values.min() == values.max():
        raise InputError(f"constant image: every pixel is {values.flat[0]}")
    return values if values.dtype == np.uint8 else minmax(values, "MONOCHROME2")


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
