"""New radiographs scored with a trained model."""

import hashlib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd

from amae.commands import parameters as p
from amae.predict.card import calibrated_on, chosen_score, describe, noise_of, origin
from amae.predict.files import list_files
from amae.runtime.errors import InputError
from amae.runtime.files import atomic, sha256
from amae.runtime.fingerprint import fingerprint
from amae.runtime.progress import Progress
from amae.runtime.provenance import versions

if TYPE_CHECKING:
    from amae.predict.calibration import OperatingPoint
    from amae.predict.kept import Kept
    from amae.predict.model import Model

LONGEST = 230  # bytes of a file's name that leave room for a suffix and a temporary name, of 255


def predict(
    radiographs: Annotated[list[p.file("")], p.meaning("DICOM, PNG, JPEG, TIFF or BMP files, or folders of them")],
    /,
    *,
    model: p.Model,
    output: p.Output,
    score: p.Score = "detector",
    specificity: p.Specificity = 0.95,
    dicom: Annotated[
        bool,
        p.meaning("also write each map as a DICOM secondary capture, with the source's patient; needs highdicom"),
    ] = False,
    workers: p.Workers = 1,
    device: p.Device = "auto",
    gpus: p.Gpus = 1,
    jobs_per_card: p.JobsPerCard = 1,
) -> None:
    """Score new radiographs: table, heat maps, overlays, contact sheet, and one page that opens offline.

    In an output that was scored before, by the same model with the same options, only new and changed files are
    scored: a run that was killed continues, and the result is that of one run. Fails, with the reasons, where not one
    file can be scored.
    """
    files = list_files(radiographs, output)
    _refuse_clash(files, (".png", ".webp", *[".dcm"] * dicom))
    score = _checked(describe(model), score, specificity, dicom)  # before torch, which takes seconds to load
    from amae.predict.kept import hold, remove_strays
    from amae.predict.model import load_model
    from amae.runtime.device import choose_device

    trained = load_model(model, chosen := choose_device(device, gpus, jobs_per_card))
    what = {"model": sha256(model), "score": score, "specificity": specificity, "dicom": dicom}
    what |= {"device": chosen.type, "code": fingerprint(__name__), **versions()}
    with hold(output, what) as again:
        job = _Job(trained, files, output, score, specificity, dicom, workers)
        kept = _predict_into(job)
        if again:
            remove_strays(output, kept)
        _summarise(job, kept)


def _summarise(job: "_Job", kept: "Kept") -> None:
    """Table, contact sheet and page from the rows of all files."""
    from amae.figures.page import Reading, write_page
    from amae.figures.prediction import SHOWN, draw_sheet
    from amae.predict.domain import drift_warnings
    from amae.predict.score import operating_point_of, why_no_call

    table = _write_table(job, kept)
    scored = table["reason"] == ""
    if not scored.any():
        for name in ("contact_sheet.png", "summary.html"):  # of a run before
            (job.output / name).unlink(missing_ok=True)
        raise InputError(_none_scored(table))
    trained, score, output = job.model, job.score, job.output
    like, reference = trained.reference()
    warnings = drift_warnings(table[scored], reference, like)
    warnings = [f"Unlike {like} as a whole: {warning}." for warning in warnings]
    point = operating_point_of(trained, score, job.specificity)
    if not point:
        warnings.append(f"No image is called: {why_no_call(trained, score, job.specificity)}.")
    warnings += _same_instances(job.output, kept) if job.dicom else []
    notes = _notes(table, trained.about, score, job.specificity, point)
    ranked = table.sort_values([score, "file"], ascending=[False, True])
    highest, shown = ranked.index[ranked["reason"] == ""][:SHOWN], _shown_on_page(ranked)
    rows = _rows(kept, {*highest, *shown})
    draw_sheet(rows.loc[highest], score, output, output / "contact_sheet.png", int(scored.sum()))
    normal = trained.group("calibration").get(score)
    about = Reading(notes, warnings, trained.about["map_limit"], normal, point)
    write_page(rows.loc[shown], score, about, output)
    for line in (notes[0], *(f"warning: {warning}" for warning in warnings)):
        print(line, file=sys.stderr)


def _write_table(job: "_Job", kept: "Kept") -> pd.DataFrame:
    """Write predictions.csv a part at a time; the columns that the summary needs of every file."""
    from amae.predict.domain import MEASURES
    from amae.predict.score import scores_for

    scores = scores_for(job.score)
    percentiles = [f"{name}_percentile" for name in scores]
    pictures = ["map", "overlay", "reading", *["dicom"] * job.dicom]
    columns = ["file", *scores, *percentiles, "call", "flag", "reason", *pictures]
    light = []
    with atomic(job.output / "predictions.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        for table in kept.tables():
            table.reindex(columns=columns).to_csv(file, index=False, header=not light)
            light.append(table[["file", "reason", "flag", job.score, *MEASURES]])
    return pd.concat(light)


def _shown_on_page(ranked: pd.DataFrame) -> pd.Index:
    """The rows of the page, in their order: the first called or not, the first flagged, the first not scored."""
    from amae.figures.page import LISTED

    flagged, scored = ranked["flag"] != "", ranked["reason"] == ""
    parts = (scored & ~flagged, scored & flagged, ~scored)
    return ranked.index[np.concatenate([np.flatnonzero(part)[:LISTED] for part in parts])]


def _rows(kept: "Kept", places: set[int]) -> pd.DataFrame:
    """All columns of some files."""
    return pd.concat(table[table.index.isin(places)] for table in kept.tables())


def _checked(about: dict[str, Any], score: str, specificity: float, dicom: bool) -> str:
    """The score to rank by; InputError for options that do not exist, or not for this model."""
    from amae.predict.calibration import require_specificity
    from amae.predict.dicom_out import require_highdicom

    require_specificity(specificity)
    if dicom:
        require_highdicom()
    return chosen_score(about, score)


def _none_scored(table: pd.DataFrame) -> str:
    """The reasons themselves, as the workflow deletes the table of a job that fails."""
    reasons = [f"{file}: {reason}" for file, reason in table[["file", "reason"]].head(5).itertuples(index=False)]
    more = f"; and {len(table) - 5} more" if len(table) > 5 else ""
    return f"none of {len(table)} files can be scored: {'; '.join(reasons)}{more}"


@dataclass(frozen=True)
class _Job:
    model: "Model"
    files: dict[str, str]
    output: Path
    score: str
    specificity: float
    dicom: bool
    workers: int


def _predict_into(job: _Job) -> "Kept":
    """Score the files that have no row yet, and write the pictures of each batch, then its rows, as it is done."""
    from amae.figures.prediction import heat_map, overlay, reading, write_picture
    from amae.predict.kept import PICTURES, Kept
    from amae.predict.score import score_files

    names, paths, limit = list(job.files), list(job.files.values()), job.model.about["map_limit"]
    kept = Kept(job.output, names, paths)
    missing = kept.missing
    if kept.gone:
        print(f"{kept.gone} files that were scored before are no longer given: left out", file=sys.stderr)
    if done := len(names) - len(missing):
        print(f"continuing: {done} of {len(names)} files are scored already", file=sys.stderr)
    progress = Progress("predict", len(names), "files", done)
    for table, images, maps in score_files(
        job.model, [paths[place] for place in missing], job.score, job.specificity, job.workers
    ):
        table.index = missing[table.index]
        table["file"] = [names[place] for place in table.index]
        scored = table["reason"] == ""
        for column, suffix in (("map", ".png"), ("overlay", ".png"), ("reading", ".webp")):
            pictures = [f"{PICTURES[column]}/{_picture_name(name, suffix)}" for name in table["file"]]
            table[column] = pd.Series(pictures, table.index).where(scored, "")
        for row, image, difference in zip(table[scored].itertuples(), images, maps, strict=True):
            write_picture(heat_map(difference, limit), job.output / row.map)
            write_picture(overlay(image, difference, limit), job.output / row.overlay)
            write_picture(reading(row.radiograph, difference, limit, row.geometry), job.output / row.reading)
        if job.dicom:
            _write_captures(table, maps, job)
        kept.add(table.drop(columns=["geometry", "radiograph"], errors="ignore"))
        done += len(table)
        progress.reached(done)
    kept.merge()
    return kept


def _write_captures(table: pd.DataFrame, maps: np.ndarray, job: _Job) -> None:
    """Write the map of each scored DICOM file as a DICOM file, named in the column dicom; "" where there is none."""
    from amae.data.dicom import is_dicom, read_grey
    from amae.figures.prediction import full_overlay
    from amae.predict.dicom_out import write_capture

    table["dicom"] = ""
    about = job.model.about
    made_by = "".join(about["files"].values())
    kept = table[table["reason"] == ""]
    for row, difference in zip(kept.itertuples(), maps, strict=True):
        source = Path(job.files[row.file])
        if not is_dicom(source):
            continue
        written = f"dicom/{_picture_name(row.file, '.dcm')}"
        grey = read_grey(source, about["conversion"])
        try:
            picture = full_overlay(grey, difference, about["map_limit"], row.geometry)
            write_capture(source, picture, made_by, job.output / written)
            table.loc[row.Index, "dicom"] = written
        except InputError as error:
            print(f"warning: {str(error).replace(str(source), row.file)}", file=sys.stderr)


def _same_instances(output: Path, kept: "Kept") -> list[str]:
    """A sentence where several captures have one UID, as their sources are the same DICOM instance."""
    from amae.predict.dicom_out import repeated

    captures = {}
    for table in kept.tables():
        written = table[table["dicom"] != ""]
        captures |= {file: output / name for file, name in zip(written["file"], written["dicom"], strict=True)}
    # those that were moved to an archive since are not there
    if not (found := repeated({file: path for file, path in captures.items() if path.is_file()})):
        return []
    more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
    return [
        "Captures with the UID of another, as their files are one instance (SOPInstanceUID), of which an archive "
        f"keeps one: {len(found)} ({'; '.join(found[:3])}{more})."
    ]


def _picture_name(name: str, suffix: str = ".png") -> str:
    """A file's name with a suffix behind it; shortened, with a hash, where a file system would refuse it."""
    parent, _, last = name.rpartition("/")
    if len(last.encode()) > LONGEST:
        last = last.encode()[:150].decode(errors="ignore") + hashlib.sha256(last.encode()).hexdigest()[:16]
    return f"{parent}/{last}{suffix}" if parent else f"{last}{suffix}"


def _refuse_clash(names: Iterable[str], suffixes: Sequence[str]) -> None:
    """Raise InputError where a picture of a file would have the name of a folder of other pictures."""
    folders = {str(folder) for name in names for folder in PurePosixPath(name).parents}
    for name in names:
        for picture in (_picture_name(name, suffix) for suffix in suffixes):
            if picture in folders:
                raise InputError(f"{name}: its picture would have the name of the folder {picture}; rename one of them")


def _notes(
    table: pd.DataFrame, about: dict[str, Any], score: str, specificity: float, point: "OperatingPoint | None"
) -> list[str]:
    """Sentences that a reader of the page needs."""
    from amae.figures.page import listed, pictured
    from amae.method.scores import DESCRIPTIONS
    from amae.predict.calibration import CONFIDENCE

    scored, flagged = (table["reason"] == "").sum(), (table["flag"] != "").sum()
    found = f"{len(table)} files: {scored} scored ({flagged} of them flagged), {len(table) - scored} not scored."
    lines = [found, f"Model {about['dataset']}, {origin(about)}. Score: {DESCRIPTIONS[score]}; high is abnormal."]
    tested = about["test"].get(score)
    if tested:
        lines.append(
            f"On the test images of its run this score had an AUC of {tested[0]:.2f} ({CONFIDENCE:.0%} interval "
            f"{tested[1]:.2f} to {tested[2]:.2f}); how good it is on other images is not known."
        )
    else:
        lines.append("How well this score separates abnormal from normal images is not known.")
    if point:
        lines += [
            f"Called abnormal above {point.threshold:.4g}, by {about['images']['calibration']} {calibrated_on(about)}: "
            f"of new images like these {specificity:.1%} or a little more are called normal on average over such sets; "
            f"by this set {point.low:.1%} to {point.high:.1%} ({CONFIDENCE:.0%} interval). Percentiles are among the "
            "same images.",
        ]
    else:
        normal = about["images"]["calibration"]
        among = f" Percentiles are among {normal} {calibrated_on(about)}." if normal else ""
        lines += [f"No image is called; a warning gives the reason.{among}"]
    return [
        *lines,
        *filter(None, [noise_of(about), pictured(scored), listed(len(table))]),
        "Flagged images, at the end, may not be frontal chest radiographs, or their grey levels may be wrong: they "
        "keep their scores, and are not called.",
        "Research software, not a medical device.",
    ]
