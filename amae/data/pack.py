"""Every image of a manifest packed at two sizes, with an index table (`amae.data.packed`), a part at a time."""

import hashlib
import json
import shutil
import sys
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from amae.data.images import in_order, read_image
from amae.data.manifest import read_manifest
from amae.data.packed import MASK_SIZE, Geometry
from amae.data.parts import Shard, join_array, of_shard, parts_of, read_parts, write_part
from amae.runtime.errors import InputError
from amae.runtime.files import atomic, sha256, size_and_time, write_csv
from amae.runtime.fingerprint import fingerprint
from amae.runtime.progress import Progress

REJECTED_COLUMNS = ["image_id", "path", "reason"]
NOTES_COLUMNS = ["image_id", "path", "note"]
INDEX_COLUMNS = ["image_id", *Geometry._fields]
# Splits, and those that may not have the same pictures.
REPEATED = {
    "test": ("train_normal", "train_unlabeled", "calibration"),
    "calibration": ("train_normal", "train_unlabeled"),
    "train_unlabeled": ("train_normal",),
}


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
    shard: Shard | None = None,
) -> None:
    """Write the packed arrays, their index table and the table of rejected files for every image of a manifest.

    Beside the rejected files, notes.csv lists the images whose grey levels a header leaves open; one line to stderr for
    each kind of note counts them, and others count the pictures that are in two sets, at whatever anomaly ratio.

    The arrays are uint8 (N, size, size) and, to find lungs in, (N, 256, 256), in manifest order without the rejected;
    index columns: image_id and those of Geometry, of the first array; rejected columns: image_id, path, reason; notes
    columns: image_id, path, note. Any number of workers (processes) gives the same bytes, and memory grows with N by
    the rows of the tables alone. Killed, the same conversion continues. A `shard` makes its parts and no more; the
    conversion without one makes those that are missing, and joins all. Raises InputError, after the table of rejected
    files is written and with no array left behind, when more than `allowed_failures` files are rejected or none is
    left.
    """
    manifest = read_manifest(manifest_path)
    what = [sha256(manifest_path), size, conversion, square, fingerprint("amae.data.pack")]
    parts = of_shard(parts_of(images_path, len(manifest), json.dumps(what)), shard)
    files = list(zip(manifest["image_id"], manifest["path"], strict=True))
    how = (conversion, square, size)
    of_parts = {path: files[rows.start : rows.stop] for path, rows in parts.items()}
    made = _valid({path: part for path, part in of_parts.items() if path.exists()}, how, workers)
    missing = [(path, part) for path, part in of_parts.items() if path not in made]
    rejected = sum(len(json.loads(text.item())) for text in read_parts(made, "rejected"))
    done = sum(len(of_parts[path]) for path in made)
    if made:
        print(f"continuing after {done} images", file=sys.stderr)
    progress = Progress("convert", sum(map(len, of_parts.values())), "images", done)
    results = in_order(read_image, ((file, *how) for _, part in missing for _, file in part), workers)
    for path, part in missing:
        rejected += _write_part(path, part, islice(results, len(part)), size)
        done += len(part)
        progress.reached(done, f", {rejected} rejected")
    if shard:
        return
    _check_rejected(list(parts), rejected_path, allowed_failures)
    _write_notes(list(parts), Path(rejected_path).with_name("notes.csv"))
    pictures = dict(row for text in read_parts(parts, "pictures") for row in json.loads(text.item()))
    if warning := repeated_pictures(manifest, pictures):
        print(warning, file=sys.stderr)
    _join(list(parts), images_path, lung_images_path, index_path)


def _valid(parts: dict[Path, list[tuple[str, str]]], how: tuple[str, str, int], workers: int) -> list[Path]:
    """The parts whose files have the size and time of then, and whose rejected ones are unreadable still."""
    known = zip(parts.items(), read_parts(parts, "states"), strict=True)
    parts = [path for (path, files), states in known if states.item() == _states(files)]
    texts = zip(parts, read_parts(parts, "rejected"), strict=True)
    rejected = [(path, file) for path, text in texts for _, file, _ in json.loads(text.item())]
    again = in_order(read_image, ((file, *how) for _, file in rejected), workers)
    repaired = {path for (path, _), (_, reason) in zip(rejected, again, strict=True) if not reason}
    return [path for path in parts if path not in repaired]


def _states(files: list[tuple[str, str]]) -> str:
    """Size and time of the last change of each file, as text."""
    return json.dumps([size_and_time(file) for _, file in files])


def _write_part(path: Path, files: list[tuple[str, str]], results: Iterable[tuple[Any, Any]], size: int) -> int:
    """Write a part: images, rows of the index as text, and rejected files, whose number is returned."""
    images, lung_images, index, rejected, notes, pictures = [], [], [], [], [], []
    states = _states(files)
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
    write_part(
        path,
        images=np.array(images, np.uint8).reshape(-1, size, size),
        lung_images=np.array(lung_images, np.uint8).reshape(-1, MASK_SIZE, MASK_SIZE),
        index=pd.DataFrame(index, columns=INDEX_COLUMNS).to_csv(index=False, header=False),
        count=len(images),  # without reading them
        states=states,
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
    """Lines that count the images of a split whose picture is in another one too, or "". pictures: by image_id.

    The workflow converts the candidates of every anomaly ratio at once, so a line says that it counts them all.
    """
    table, lines = manifest.assign(picture=manifest["image_id"].map(pictures)).dropna(subset="picture"), []
    for name, others in REPEATED.items():
        here = table["split"] == name
        other = table[table["split"].isin(others)].drop_duplicates("picture").set_index("picture")["image_id"]
        both = table[here & table["picture"].isin(other.index)]
        if len(both):
            lines.append(
                f"warning: {len(both)} of {here.sum()} {name} images are the same picture as one in "
                f"{' or '.join(others)}, the first is {both['image_id'].iloc[0]} (as {other[both['picture'].iloc[0]]})"
                "; counted over all images converted, those of every anomaly ratio"
            )
    return "\n".join(lines)


def _join(parts: list[Path], images_path: str | Path, lung_images_path: str | Path, index_path: str | Path) -> None:
    """Write arrays and index from the parts, and remove these."""
    with atomic(images_path) as images, atomic(lung_images_path) as lung_images, atomic(index_path) as index:
        count = sum(int(count) for count in read_parts(parts, "count"))
        join_array(parts, "images", count, images)
        join_array(parts, "lung_images", count, lung_images)
        with index.open("w", encoding="utf-8") as file:
            file.write(",".join(INDEX_COLUMNS) + "\n")
            file.writelines(text.item() for text in read_parts(parts, "index"))
    shutil.rmtree(parts[0].parent)


def _write_notes(parts: list[Path], path: Path) -> None:
    """Write the table of notes, and count each kind on stderr."""
    rows = [row for text in read_parts(parts, "notes") for row in json.loads(text.item())]
    notes = pd.DataFrame(rows, columns=NOTES_COLUMNS)
    write_csv(notes, path)
    for note, count in notes["note"].value_counts(sort=False).items():
        print(f"warning: {count} images: {note} (listed in {path})", file=sys.stderr)


def _check_rejected(parts: list[Path], rejected_path: str | Path, allowed: int) -> None:
    """Write the table of rejected files; raise InputError for more than are allowed, or where no image is left."""
    kept = sum(int(count) for count in read_parts(parts, "count"))
    rejected = [row for text in read_parts(parts, "rejected") for row in json.loads(text.item())]
    write_csv(pd.DataFrame(rejected, columns=REJECTED_COLUMNS), rejected_path)
    if len(rejected) <= allowed and kept:
        return
    first = "; ".join(f"{path}: {reason}" for _, path, reason in rejected[:3])
    raise InputError(
        f"{len(rejected)} of {len(rejected) + kept} images cannot be used, allowed_failures is {allowed}: {first}"
        f"{'; and others' if len(rejected) > 3 else ''}. Every file and reason: {rejected_path}"
    )
