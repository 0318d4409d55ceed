"""Commands for new radiographs: export a trained model, look at one, score files with it."""

import dataclasses
import hashlib
import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from amae.data.dicom import is_dicom, read_grey
from amae.data.manifest import read_manifest
from amae.data.packed import open_images, select
from amae.data.splits import patients_of
from amae.figures.prediction import (
    draw_sheet,
    full_overlay,
    heat_map,
    overlay,
    shown_of,
    write_page,
    write_picture,
)
from amae.mae.weights import load_weights
from amae.method.scores import DESCRIPTIONS
from amae.method.stage1 import frozen_features, load_head
from amae.predict.calibration import CONFIDENCE, OperatingPoint, operating_point
from amae.predict.dicom_out import require_highdicom, write_capture
from amae.predict.domain import MASKS, drift_warnings, fit_features, held_out_distances
from amae.predict.model import Portable, card, load_portable, save_portable
from amae.predict.score import BATCH, SCORES, judge, predict, score_images
from amae.runtime.device import choose_device
from amae.runtime.errors import InputError, naming
from amae.runtime.files import atomic, read_csv, rows_of, sha256, write_csv
from amae.runtime.provenance import code_revision, versions
from amae.settings import ReconstructionSettings, from_options

LIMIT_IMAGES = 64  # of T_n, which say where the colours of the maps end
LIMIT_PERCENTILE = 99.8
REASONS = 5  # of files that cannot be scored, shown where none can
LONGEST = 230  # bytes of a file's name that leave room for a suffix and a temporary name, of 255
FILES = ("manifest", "images", "index", "lungs_table", "weights", "head", "model_a", "model_b")
COLUMNS = ["file", *SCORES, *(f"{name}_percentile" for name in SCORES), "call", "flag", "reason", "map", "overlay"]


def export_model(options: Namespace) -> None:
    """Put a trained model and all that scoring a new radiograph needs into one file, with a card to read."""
    device = choose_device(options.device, options.gpus)
    encoder, a, b = (load_weights(path, device) for path in (options.weights, options.model_a, options.model_b))
    head = load_head(options.head, encoder.architecture.width).to(device).eval()
    about = {
        "dataset": options.dataset,
        "seed": options.seed,
        "conversion": options.conversion,
        "square": options.square,
        "reconstruction": dataclasses.asdict(from_options(ReconstructionSettings, options)),
        "files": {name: sha256(getattr(options, name)) for name in FILES},
        "versions": versions(),
        "commit": (code_revision() or {}).get("commit", "unknown"),
    }
    model = Portable(about, encoder, head, a, b, {})
    learned, arrays = _describe_training(model, options)
    save_portable(dataclasses.replace(model, about=about | learned, arrays=arrays), options.model)
    with atomic(options.card) as temporary:
        temporary.write_text(card(load_portable(options.model)), encoding="utf-8")


def _describe_training(model: Portable, options: Namespace) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Statistics of the training images, and the scores of the calibration images, if any."""
    manifest, (images, index) = read_manifest(options.manifest), open_images(options.images, options.index)
    if images.shape[1] != model.encoder.architecture.image_size:
        raise InputError(f"{options.images}: {images.shape[1]} px, but {options.weights} is for images of other sizes")
    calibration = ["calibration"] if (manifest["split"] == "calibration").any() else []
    with naming(options.manifest):
        parts = {split: select(manifest, index, split) for split in ("train_normal", "train_unlabeled", *calibration)}
    normal, training = parts["train_normal"], pd.concat([parts["train_normal"], parts["train_unlabeled"]])
    lungs = _lungs(options.lungs_table, training)
    pixels = images[training["row"].to_numpy()]
    features = frozen_features(model.encoder, torch.from_numpy(pixels).to(model.device)).double().cpu().numpy()
    mean, precision = fit_features(features)
    arrays = {
        "features.mean": mean,
        "features.precision": precision,
        "training.intensity": pixels.mean((1, 2)),
        "training.coverage": lungs["coverage"].astype(float).to_numpy(),
        "training.distance": held_out_distances(features, patients_of(training)),
    }
    _, maps = _score(model, normal.head(LIMIT_IMAGES), images)
    about = {
        "images": {"calibration": 0} | {split: len(chosen) for split, chosen in parts.items()},
        "mask_shares": {name: float((lungs["flag"] == name).mean()) for name in MASKS},
        "map_limit": max(float(np.percentile(maps, LIMIT_PERCENTILE)), 1e-6),
    }
    if "calibration" in parts:
        scores, _ = _score(model, parts["calibration"], images)
        arrays |= {f"calibration.{name}": np.sort(scores[name].to_numpy(np.float64)) for name in scores}
    return about, arrays


def _lungs(path: Path, chosen: pd.DataFrame) -> pd.DataFrame:
    """Coverage and flag of these images' lung masks."""
    return rows_of(read_csv(path, ["image_id", "coverage", "flag"]), chosen["image_id"], path)


def _score(model: Portable, chosen: pd.DataFrame, images: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """Scores and maps of packed images, in batches."""
    parts = [chosen[start : start + BATCH] for start in range(0, len(chosen), BATCH)]
    found = [score_images(model, images[part["row"].to_numpy()], part["image_id"].tolist()) for part in parts]
    return pd.concat([scores for scores, *_ in found]), np.concatenate([maps for *_, maps in found])


def inspect_model(options: Namespace) -> None:
    """Print the card of a model."""
    print(card(load_portable(options.exported)), end="")


def predict_files(options: Namespace) -> None:
    """Score radiographs: a table, heat maps, overlays, a contact sheet and a page.

    Raises InputError, with the first reasons, where not one file can be scored: the table may be gone with the job.
    """
    device = choose_device(options.device, options.gpus)
    model, files = load_portable(options.model, device), list_files(options.radiographs, options.output)
    if options.score not in SCORES:
        raise InputError(f"--score: found {options.score!r}, expected one of {', '.join(SCORES)}")
    if options.dicom:
        require_highdicom()
    calibration = model.group("calibration")
    point = operating_point(calibration[options.score], options.specificity) if calibration else None
    table = _predict_into(model, files, options)
    scored = table["reason"] == ""
    if scored.any():
        table = judge(table, calibration, options.score, point)
    columns = [*COLUMNS, "dicom"] if options.dicom else COLUMNS
    write_csv(table.reindex(columns=columns), options.output / "predictions.csv")
    if not scored.any():
        reasons = [f"{file}: {reason}" for file, reason in table[["file", "reason"]].head(REASONS).to_numpy()]
        more = f"; and {len(table) - REASONS} more" if len(table) > REASONS else ""
        raise InputError(f"none of {len(table)} files can be scored: {'; '.join(reasons)}{more}")
    warnings = drift_warnings(table[scored], model.group("training"))
    warnings = [f"Unlike the training images as a whole: {warning}." for warning in warnings]
    notes = _notes(table, model, options, point)
    ranked = table.sort_values([options.score, "file"], ascending=[False, True])
    draw_sheet(ranked[ranked["reason"] == ""], options.score, options.output, options.output / "contact_sheet.png")
    write_page(ranked, options.score, notes, warnings, options.output)
    for line in (notes[0], *(f"warning: {warning}" for warning in warnings)):
        print(line, file=sys.stderr)


def list_files(given: list[Path], output: Path) -> dict[str, Path]:
    """Files to score by name: a file's own, or its path in the folder given; hidden files and `output` left out.

    Raises InputError where there are none, where a name stands for two files, and where `output` is in use.
    """
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise InputError(f"{output}: exists, and holds something; choose another folder, or delete it first")
    found: dict[str, Path] = {}
    for each in given:
        if not each.exists():
            raise InputError(f"{each}: no such file or folder")
        for path in _walk(each, output) if each.is_dir() else [each]:
            name = path.relative_to(each).as_posix() if each.is_dir() else path.name
            name = os.fsencode(name).decode("utf-8", "backslashreplace")  # whatever bytes a file system allows
            if name in found:
                raise InputError(f"{name}: two of the given files have this name; give one folder that holds both")
            found[name] = path
    if not found:
        raise InputError(f"{given[0]}: no files in this folder")
    return found


def _walk(folder: Path, output: Path) -> Iterator[Path]:
    """Files in a folder and those below, in a fixed order; a link to a folder is not followed, but given itself."""
    for here, folders, names in os.walk(folder):
        links = [name for name in folders if Path(here, name).is_symlink()]
        folders[:] = sorted(name for name in folders if name[0] != "." and Path(here, name) != output)
        yield from (Path(here, name) for name in sorted([*names, *links]) if name[0] != ".")


def _predict_into(model: Portable, files: dict[str, Path], options: Namespace) -> pd.DataFrame:
    """Score files, and write the pictures of each batch as it is done."""
    names, limit = list(files), model.about["map_limit"]
    tables = []
    ids = [Path(name).stem for name in names]  # as `amae index` names the rows of a table without image_id
    for table, images, maps in predict(model, [str(path) for path in files.values()], ids, options.workers):
        table["file"] = [names[place] for place in table.index]
        for column in ("map", "overlay"):
            pictures = [f"{column}s/{_picture_name(name)}" for name in table["file"]]
            table[column] = pd.Series(pictures, table.index).where(table["reason"] == "", "")
        kept = table.loc[table["reason"] == "", ["map", "overlay"]]
        for (heat, over), image, difference in zip(kept.to_numpy(), images, maps, strict=True):
            write_picture(heat_map(difference, limit), options.output / heat)
            write_picture(overlay(image, difference, limit), options.output / over)
        if options.dicom:
            _write_captures(table, files, maps, model, options)
        tables.append(table.drop(columns="geometry", errors="ignore"))
        print(f"predict: {table.index[-1] + 1}/{len(names)} files", file=sys.stderr, flush=True)
    return pd.concat(tables)


def _write_captures(
    table: pd.DataFrame, files: dict[str, Path], maps: np.ndarray, model: Portable, options: Namespace
) -> None:
    """Write the map of each scored DICOM file as a DICOM file, named in the column dicom; "" where there is none."""
    table["dicom"] = ""
    about, made_by = model.about, "".join(model.about["files"].values())
    kept = table[table["reason"] == ""]
    for place, name, geometry, difference in zip(kept.index, kept["file"], kept["geometry"], maps, strict=True):
        if not is_dicom(files[name]):
            continue
        written = f"dicom/{_picture_name(name, '.dcm')}"
        grey = read_grey(files[name], about["conversion"])
        try:
            picture = full_overlay(grey, difference, about["map_limit"], geometry)
            write_capture(files[name], picture, made_by, options.output / written)
            table.loc[place, "dicom"] = written
        except InputError as error:
            print(f"warning: {str(error).replace(str(files[name]), name)}", file=sys.stderr)


def _picture_name(name: str, suffix: str = ".png") -> str:
    """A file's name with a suffix behind it; shortened, with a hash, where a file system would refuse it."""
    parent, _, last = name.rpartition("/")
    if len(last.encode()) > LONGEST:
        last = last.encode()[:150].decode(errors="ignore") + hashlib.sha256(last.encode()).hexdigest()[:16]
    return f"{parent}/{last}{suffix}" if parent else f"{last}{suffix}"


def _notes(table: pd.DataFrame, model: Portable, options: Namespace, point: OperatingPoint | None) -> list[str]:
    """What a reader of the page has to know, in sentences."""
    scored, flagged = (table["reason"] == "").sum(), (table["flag"] != "").sum()
    found = f"{len(table)} files: {scored} scored ({flagged} of them flagged), {len(table) - scored} not scored."
    about = model.about
    lines = [
        found,
        f"Model {about['dataset']}, seed {about['seed']}. Score: {DESCRIPTIONS[options.score]}; high is abnormal.",
    ]
    if point:
        lines += [
            f"Called abnormal above {point.threshold:.4g}, so that at least {options.specificity:.1%} of the "
            f"{about['images']['calibration']} normal images kept for calibration are called normal; of all such it is "
            f"{point.low:.1%} to {point.high:.1%} ({CONFIDENCE:.0%} interval). Percentiles are among the same "
            "images.",
        ]
    else:
        lines += ["The model knows no normal images kept for calibration, so there are no percentiles and no calls."]
    return [
        *lines,
        *filter(None, [shown_of(scored)]),
        "Flagged images may not be frontal chest radiographs: they keep their scores, and are not called.",
        "Research software, not a medical device.",
    ]
