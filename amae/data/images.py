"""Image files, one by one or by several processes, to square grey images with their geometry."""

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from amae.data.dicom import CONVERSIONS, minmax, read_grey
from amae.data.packed import Geometry
from amae.errors import InputError

SQUARES = ("squash", "pad", "crop")
GREY_TOLERANCE = 2  # grey levels between the channels of a JPEG that holds a grey picture as colour


def read_image(path: str | Path, conversion: str, square: str, size: int) -> tuple[np.ndarray, Geometry]:
    """Read a DICOM, PNG or JPEG radiograph (told apart by content) as uint8 (size, size) with its geometry.

    conversion: "minmax" or "voi" (DICOM only: PNG and JPEG carry no window; their 8-bit values are kept and 16-bit
    values scaled min..max). square: "squash", "pad" (black) or "crop" (centre). Raises InputError with file and reason.
    """
    for name, value, allowed in (("conversion", conversion, CONVERSIONS), ("square", square, SQUARES)):
        if value not in allowed:
            raise InputError(f"{name} is {value!r}; expected one of {', '.join(allowed)}")
    try:
        with Path(path).open("rb") as file:
            head = file.read(132)
    except OSError as error:
        raise InputError(f"{path}: {'no such file' if not Path(path).is_file() else error.strerror}") from None
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        grey = _read_picture(path)
    elif head[128:] == b"DICM":
        grey = read_grey(path, conversion)
    else:
        raise InputError(f"{path}: {'not a DICOM, PNG or JPEG file' if head else 'empty file'}")
    return make_square(grey, square, size)


def make_square(grey: np.ndarray, square: str, size: int) -> tuple[np.ndarray, Geometry]:
    """Resize uint8 (rows, columns) to (size, size) by antialiased bilinear interpolation (PIL), and say how."""
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
    """PNG or JPEG as uint8 (rows, columns), turned as EXIF says."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL warns of large images and of odd EXIF; neither harms
            with Image.open(path, formats=("PNG", "JPEG")) as picture:
                if getattr(picture, "n_frames", 1) != 1:
                    raise InputError(f"{path}: holds {picture.n_frames} pictures, expected 1")
                picture = ImageOps.exif_transpose(picture)
                mode, values = picture.mode, np.asarray(picture)
                transparent = "transparency" in picture.info
    except InputError:
        raise
    except Exception as error:  # PIL's plugins raise many kinds for a damaged file
        raise InputError(f"{path}: truncated or corrupt PNG or JPEG ({type(error).__name__})") from None
    try:
        return _grey_of(values, mode, transparent)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _grey_of(values: np.ndarray, mode: str, transparent: bool) -> np.ndarray:
    """Decoded values (rows, columns[, channels]) of a PIL mode to uint8 (rows, columns)."""
    if mode in ("LA", "RGBA") and not transparent:
        transparent = bool((values[..., -1] != 255).any())
        mode, values = mode[:-1], values[..., :-1]
    if transparent:
        raise InputError("transparent pixels; expected an opaque grey image")
    if mode == "RGB":
        spread = int((values.max(axis=-1).astype(int) - values.min(axis=-1)).max())
        if spread > GREY_TOLERANCE:
            raise InputError(f"colour image: red, green and blue differ by up to {spread} levels; expected grey")
        values = np.rint(values.mean(axis=-1)).astype(np.uint8)
    elif mode not in ("L", "LA") and not mode.startswith("I"):
        raise InputError(f"PNG or JPEG of type {mode} (palette, bilevel or CMYK); expected 8 or 16 bit grey")
    values = values.reshape(values.shape[:2])
    if values.min() == values.max():
        raise InputError(f"constant image: every pixel is {values.flat[0]}")
    return values if values.dtype == np.uint8 else minmax(values, "MONOCHROME2")


def load(task: tuple[str, str, str, int]) -> tuple[np.ndarray | None, Geometry | str]:
    """Read an image (path, conversion, square, size) with its geometry; None and the reason where that fails.

    Runs in a worker process.
    """
    path = task[0]
    try:
        return read_image(*task)
    except InputError as error:
        return None, str(error).removeprefix(f"{path}: ")


def in_order(
    load: Callable[[tuple[str, str, str, int]], Any], tasks: Iterable[tuple[str, str, str, int]], workers: int
) -> Iterator[Any]:
    """What `load` gives for each task (path, conversion, square, size), in the order of the tasks.

    At most four tasks a worker (process) are under way, so that memory stays flat.
    """
    if workers <= 1:
        yield from map(load, tasks)
        return
    reached = "the first file"
    # spawn: a fork of a process that runs threads (torch, BLAS) can hang
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            for path, future in _submitted(pool, load, tasks, 4 * workers):
                reached = path
                yield future.result()
        except BrokenProcessPool:
            raise InputError(
                f"a conversion worker died (out of memory, or a decoder crashed) at or soon after {reached}; "
                "convert with one worker to see at which file"
            ) from None


def _submitted(
    pool: ProcessPoolExecutor,
    load: Callable[[tuple[str, str, str, int]], Any],
    tasks: Iterable[tuple[str, str, str, int]],
    limit: int,
) -> Iterator[tuple[str, Future]]:
    """Path and future of each task in order, never more than `limit` of them submitted and not yet handed on."""
    waiting: deque[tuple[str, Future]] = deque()
    for task in tasks:
        waiting.append((task[0], pool.submit(load, task)))
        if len(waiting) >= limit:
            yield waiting.popleft()
    yield from waiting
