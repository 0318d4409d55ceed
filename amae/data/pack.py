"""Every image of a manifest packed at two sizes, with an index table (`amae.data.packed`), a part at a time.

Parts lie in a folder beside the arrays until they are joined, so that a killed conversion continues after them.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from amae.data.images import in_order, read_image
from amae.data.manifest import overlap_warning, read_manifest
from amae.data.packed import MASK_SIZE, Geometry
from amae.runtime.errors import InputError
from amae.runtime.files import atomic, seal, sha256, write_csv
from amae.runtime.fingerprint import fingerprint
from amae.runtime.progress import Progress

PART = 64  # files whose results a kill may cost
REJECTED_COLUMNS = ["image_id", "path", "reason"]
NOTES_COLUMNS = ["image_id", "path", "note"]
INDEX_COLUMNS = ["image_id", *Geometry._fields]


def convert(
    manifest_path: str | Path,
    images_path: str | Path,
    lung_images_path: str | Path,
    index_path: str | Path,
    rejected_path: str | Path,
    size: int,
    conversion: str,
    square: str,
    workers: int = 1,
    allowed_failures: int = 0,
) -> None:
    """Write the packed arrays, their index table and the table of rejected files for every image of a manifest.

    Beside the rejected files, notes.csv lists the images whose grey levels a header leaves open; one line to stderr for
    each kind of note counts them, and one counts the test images that are also in training.

    The arrays are uint8 (N, size, size) and, to find lungs in, (N, 256, 256), in manifest order without the rejected;
    index columns: image_id and those of Geometry, of the first array; rejected columns: image_id, path, reason; notes
    columns: image_id, path, note. Any number of workers (processes) gives the same bytes, and memory grows with N by
    the rows of the tables alone. Killed, the same conversion continues. Raises InputError, after the table of rejected
    files is written and with no array left behind, when more than `allowed_failures` files are rejected or none is
    left.
    """
    manifest = read_manifest(manifest_path)
    if warning := overlap_warning(manifest):
        print(warning, file=sys.stderr)
    what = [sha256(manifest_path), size, conversion, square, fingerprint("amae.data.pack")]
    parts = _parts(images_path, len(manifest), hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16])
    files = list(zip(manifest["image_id"], manifest["path"], strict=True))
    how = (conversion, square, size)
    made = _valid([path for path in parts if path.exists()], how, workers)
    missing = [(path, files[start : start + PART]) for path, start in parts.items() if path not in made]
    rejected = sum(len(json.loads(text.item())) for text in _read(made, "rejected"))
    done = len(files) - sum(len(part) for _, part in missing)
    if made:
        print(f"continuing after {done} images", file=sys.stderr)
    progress = Progress("convert", len(files), "images", done)
    results = in_order(read_image, ((file, *how) for _, part in missing for _, file in part), workers)
    for path, part in missing:
        rejected += _write_part(path, part, islice(results, len(part)), size)
        done += len(part)
        progress.reached(done, f", {rejected} rejected")
    _check_rejected(list(parts), rejected_path, allowed_failures)
    _write_notes(list(parts), Path(rejected_path).with_name("notes.csv"))
    pictures = dict(row for text in _read(parts, "pictures") for row in json.loads(text.item()))
    if warning := repeated_pictures(manifest, pictures):
        print(warning, file=sys.stderr)
    _join(list(parts), images_path, lung_images_path, index_path)


def _parts(images_path: str | Path, count: int, identity: str) -> dict[Path, int]:
    """The files of the parts and the row that each begins with; removes parts that belong to another conversion."""
    images_path = Path(images_path)
    folder = images_path.with_name(f".{images_path.stem}.{identity}.unfinished")
    for other in images_path.parent.glob(f".{images_path.stem}.*.unfinished"):
        if other != folder:
            shutil.rmtree(other)
    return {folder / f"{start:09d}.npz": start for start in range(0, count, PART)}


def _valid(parts: list[Path], how: tuple[str, str, int], workers: int) -> list[Path]:
    """The parts whose rejected files are unreadable still; a file may have been put right since."""
    texts = zip(parts, _read(parts, "rejected"), strict=True)
    rejected = [(path, file) for path, text in texts for _, file, _ in json.loads(text.item())]
    again = in_order(read_image, ((file, *how) for _, file in rejected), workers)
    repaired = {path for (path, _), (_, reason) in zip(rejected, again, strict=True) if not reason}
    return [path for path in parts if path not in repaired]


def _write_part(path: Path, files: list[tuple[str, str]], results: Iterable[tuple[Any, Any]], size: int) -> int:
    """Write a part: images, rows of the index as text, and rejected files, whose number is returned."""
    images, lung_images, index, rejected, notes, pictures = [], [], [], [], [], []
    for (image_id, file), (result, reason) in zip(files, results, strict=True):
        if reason:
            rejected.append([image_id, file, reason])
        else:
            image, lung_image, geometry, noted = result
            images.append(image)
            lung_images.append(lung_image)
            index.append([image_id, *geometry])
            notes += [[image_id, file, note] for note in noted]
            pictures.append([image_id, picture_of(lung_image, geometry)])
    with atomic(path) as temporary:
        np.savez(
            temporary,
            images=np.array(images, np.uint8).reshape(-1, size, size),
            lung_images=np.array(lung_images, np.uint8).reshape(-1, MASK_SIZE, MASK_SIZE),
            index=pd.DataFrame(index, columns=INDEX_COLUMNS).to_csv(index=False, header=False),
            count=len(images),  # without reading them
            rejected=json.dumps(rejected),
            notes=json.dumps(notes),
            pictures=json.dumps(pictures),
        )
    return len(rejected)


def picture_of(lung_image: np.ndarray, geometry: Geometry) -> str:
    """What two files of the same pixels have in common, whatever their format: a hash.

    It is that of the image at 256 px, which is at hand, and of the matrix; files themselves need not be read again, and
    copies in another format are found as well. Other pictures differ in some of the 65,536 pixels.
    """
    matrix = f"{geometry.rows} {geometry.columns} ".encode()
    return hashlib.sha256(matrix + lung_image.tobytes()).hexdigest()


def repeated_pictures(manifest: pd.DataFrame, pictures: Mapping[str, str]) -> str:
    """One line that counts the test images whose picture is in another split too, or "". pictures: by image_id."""
    table = manifest.assign(picture=manifest["image_id"].map(pictures)).dropna(subset="picture")
    test = table["split"] == "test"
    other = table[~test].drop_duplicates("picture").set_index("picture")["image_id"]
    both = table[test & table["picture"].isin(other.index)]
    if both.empty:
        return ""
    first = both.iloc[0]
    return (
        f"warning: {len(both)} of {test.sum()} test images are the same picture as one in training or calibration, the "
        f"first is {first['image_id']} (as {other[first['picture']]})"
    )


def _read(parts: Iterable[Path], name: str) -> Iterator[np.ndarray]:
    """One of the arrays of each part."""
    for path in parts:
        with np.load(path) as part:
            yield part[name]


def _join(parts: list[Path], images_path: str | Path, lung_images_path: str | Path, index_path: str | Path) -> None:
    """Write arrays and index from the parts, and remove these."""
    with atomic(images_path) as images, atomic(lung_images_path) as lung_images, atomic(index_path) as index:
        _join_array(parts, "images", images)
        _join_array(parts, "lung_images", lung_images)
        with index.open("w", encoding="utf-8") as file:
            file.write(",".join(INDEX_COLUMNS) + "\n")
            file.writelines(text.item() for text in _read(parts, "index"))
    shutil.rmtree(parts[0].parent)


def _join_array(parts: list[Path], name: str, path: Path) -> None:
    """Write one array of the parts, sealed."""
    kept = sum(int(count) for count in _read(parts, "count"))
    with path.open("wb") as file:
        for images in _read(parts, name):
            if not file.tell():
                header = {"descr": "|u1", "fortran_order": False, "shape": (kept, *images.shape[1:])}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(images.tobytes())
    seal(path)


def _write_notes(parts: list[Path], path: Path) -> None:
    """Write the table of notes, and count each kind on stderr."""
    rows = [row for text in _read(parts, "notes") for row in json.loads(text.item())]
    notes = pd.DataFrame(rows, columns=NOTES_COLUMNS)
    write_csv(notes, path)
    for note, count in notes["note"].value_counts(sort=False).items():
        print(f"warning: {count} images: {note} (listed in {path})", file=sys.stderr)


def _check_rejected(parts: list[Path], rejected_path: str | Path, allowed: int) -> None:
    """Write the table of rejected files; raise InputError for more than are allowed, or where no image is left."""
    kept = sum(int(count) for count in _read(parts, "count"))
    rejected = [row for text in _read(parts, "rejected") for row in json.loads(text.item())]
    write_csv(pd.DataFrame(rejected, columns=REJECTED_COLUMNS), rejected_path)
    if len(rejected) <= allowed and kept:
        return
    shutil.rmtree(parts[0].parent)  # a file that is put right must not stay rejected
    first = "; ".join(f"{path}: {reason}" for _, path, reason in rejected[:3])
    raise InputError(
        f"{len(rejected)} of {len(rejected) + kept} images cannot be used, allowed_failures is {allowed}: {first}"
        f"{'; and others' if len(rejected) > 3 else ''}. Every file and reason: {rejected_path}"
    )
