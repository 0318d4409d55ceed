"""Studies of a DICOMweb server scored with a trained model, and the results stored there."""

import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from amae.commands import parameters as p
from amae.predict.archive import Archive, Fault, Place
from amae.predict.card import chosen_score, describe
from amae.predict.ledger import KEPT, MISSING, STORED, WITHHELD, Ledger
from amae.runtime.errors import InputError, naming
from amae.runtime.files import sha256

if TYPE_CHECKING:
    from amae.predict.calibration import OperatingPoint
    from amae.predict.model import Model

SUFFIXES = (".map.dcm", ".report.dcm")


@dataclass(frozen=True)
class _Job:
    archive: Archive
    ledger: Ledger
    output: Path
    score: str
    specificity: float
    digest: str
    store: bool


@dataclass(frozen=True)
class _Scorer:
    model: "Model"
    point: "OperatingPoint | None"
    settings: tuple[str, ...]


def dicomweb(
    url: Annotated[str, p.meaning("root of the server's DICOMweb services, as http://host:8042/dicom-web")],
    /,
    *,
    model: p.Model,
    output: p.Output,
    query: Annotated[
        list[str] | None,
        p.meaning("attributes of the studies, as StudyDate=20260101-20260131 ModalitiesInStudy=DX PatientID=7"),
    ] = None,
    studies: p.optional(p.file("file of StudyInstanceUIDs, one a line")) = None,
    score: p.Score = "detector",
    specificity: p.Specificity = 0.95,
    store: Annotated[bool, p.meaning("store the results; else keep them in the folder for a later run")] = True,
    timeout: Annotated[float, p.meaning("seconds to wait for an answer")] = 30.0,
    device: p.Device = "auto",
    gpus: p.Gpus = 1,
    jobs_per_card: p.JobsPerCard = 1,
) -> None:
    """Score the studies of a DICOMweb server, and store maps and reports there.

    Takes the radiographs (CR, DX, DR, RG) of all studies that match the query and the list. An image that is flagged
    gets a row in predictions.csv, and nothing is stored of it. Fails after all else is done where something is left to
    do again.
    """
    from amae.predict.calibration import require_specificity
    from amae.predict.dicom_out import require_highdicom

    require_specificity(specificity)
    require_highdicom("dicomweb")
    if not timeout > 0:
        raise InputError(f"--timeout: found {timeout:g}, expected more than 0 seconds")
    filters, listed = _filters(query or [], studies)
    score, archive = chosen_score(describe(model), score), Archive(url, timeout)
    bound = {"url": archive.url, "model": sha256(model), "score": score, "specificity": specificity}
    others = [name for name in ("predictions.csv", "kept", "incoming") if (output / name).exists()]
    if others and not (output / "ledger.jsonl").exists():  # such as the table of `amae predict`
        raise InputError(f"{output}: contains {others[0]}, but no ledger of this command; choose another --output")
    ledger = Ledger(output / "ledger.jsonl", bound)
    try:
        with naming(url):
            found = {}
            for each in listed:
                matching = archive.studies(filters | each)
                found |= dict.fromkeys(matching)
                if each and not matching:
                    match = "that matches --query" if filters else "of this UID"
                    print(f"study {each['StudyInstanceUID']}: left out, the server has none {match}", file=sys.stderr)
        job = _Job(archive, ledger, output, score, specificity, bound["model"], store)
        _run(job, model, list(found), (device, gpus, jobs_per_card))
    finally:
        shutil.rmtree(output / "incoming", ignore_errors=True)
        _write_table(ledger, score, output / "predictions.csv")
        ledger.close()


def _filters(query: Sequence[str], studies: Path | None) -> tuple[dict[str, str], list[dict[str, str]]]:
    """The attributes to search for, and those of each search; InputError for a query that is none."""
    import difflib

    from pydicom.config import IGNORE
    from pydicom.datadict import keyword_dict
    from pydicom.uid import UID

    if not query and studies is None:
        raise InputError("--query: found none, and no --studies; expected one of them, not the whole server")
    filters = {}
    for each in query:
        keyword, equals, value = each.partition("=")
        if keyword not in keyword_dict:
            close = difflib.get_close_matches(keyword, keyword_dict, n=1)
            raise InputError(
                f"--query: found {keyword!r}, expected an attribute's keyword{f' ({close[0]}?)' if close else ''}"
            )
        if not equals or not value:
            raise InputError(f"--query: found {each!r}, expected {keyword}=VALUE")
        filters[keyword] = value
    if studies is None:
        return filters, [{}]
    if not studies.is_file():
        raise InputError(f"{studies}: no such file")
    lines = [line.strip() for line in studies.read_text(encoding="utf-8-sig", errors="replace").splitlines()]
    for number, line in enumerate(lines, 1):
        if line and not UID(line, IGNORE).is_valid:
            raise InputError(f"{studies}, line {number}: found {line[:64]!r}, expected a StudyInstanceUID")
    if not any(lines):
        raise InputError(f"{studies}: no StudyInstanceUID in this file")
    return filters, [{"StudyInstanceUID": line} for line in dict.fromkeys(filter(None, lines))]


def _run(job: _Job, model: Path, studies: list[str], device: tuple[str, int, int]) -> None:
    """Go through the studies; InputError at the end for what is left, and at once where the server has gone."""
    faults = _store_kept(job)
    scorer, skipped = None, 0
    for number, study in enumerate(studies, 1):
        try:
            places = [place for place in job.archive.images(study) if _is_open(job, place)]
            if places:
                scorer = scorer or _load(job, model, device)
                faults += _score_study(job, scorer, places)
            else:
                skipped += 1
        except Fault as fault:
            _report(str(fault))
            faults += 1
            if fault.gone:
                _require_server(job, f"{number - 1} of {len(studies)} studies are done")
        print(f"dicomweb: {number}/{len(studies)} studies", file=sys.stderr, flush=True)
    states = Counter(row["state"] for row in job.ledger.rows.values())
    counts = ", ".join(f"{states[state]} {state}" for state in (STORED, WITHHELD, KEPT, MISSING))
    print(
        f"{len(studies)} studies ({skipped} without a new radiograph); images in {job.output}: {counts}",
        file=sys.stderr,
    )
    if faults:
        raise InputError(f"{faults} faults, see above; run the same command again, it does what is left")


def _is_open(job: _Job, place: Place) -> bool:
    """True for an image that is to be scored: no result of it is stored, kept or withheld."""
    state = job.ledger.rows.get(place.image, {}).get("state")
    if state == KEPT:
        return not all(path.is_file() for path in _results(job, place.image))
    return state not in (STORED, WITHHELD)


def _results(job: _Job, image: str) -> list[Path]:
    return [job.output / "kept" / f"{image}{suffix}" for suffix in SUFFIXES]


def _report(fault: str) -> None:
    print(f"fault: {fault}", file=sys.stderr, flush=True)


def _require_server(job: _Job, done: str) -> None:
    if job.archive.is_gone():
        raise InputError(f"{job.archive.url}: does not answer any more; {done}; run the same command again")


def _load(job: _Job, model: Path, device: tuple[str, int, int]) -> _Scorer:
    """The model, and what a report says of it."""
    from amae.method.scores import DESCRIPTIONS
    from amae.predict.model import load_model
    from amae.predict.score import operating_point_of, why_no_call
    from amae.runtime.device import choose_device

    trained = load_model(model, choose_device(*device))
    point = operating_point_of(trained, job.score, job.specificity)
    if point:
        call = f"called abnormal above {point.threshold:.5g}, set for a specificity of {job.specificity:g}"
    else:
        call = f"no call: {why_no_call(trained, job.score, job.specificity)}"
        print(f"warning: {call}", file=sys.stderr)
    return _Scorer(trained, point, (DESCRIPTIONS[job.score], call))


def _score_study(job: _Job, scorer: _Scorer, places: list[Place]) -> int:
    """Download, score and store the images of a study that are open; the number of faults."""
    from amae.predict.score import score_files

    faults, files = 0, {}
    incoming = job.output / "incoming"
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir(parents=True)
    for place in places:
        path = incoming / f"{place.image}.dcm"
        try:
            job.archive.fetch(place, path)
            files[path] = place
        except Fault as fault:
            faults += 1
            _report(f"study {place.study}: image {place.image}: {fault}")
            job.ledger.add({"study": place.study, "image": place.image, "state": MISSING, "reason": str(fault)})
            if fault.gone and job.archive.is_gone():
                break
    made = []
    for table, _, maps in score_files(scorer.model, list(files), job.score, job.specificity):
        pictures = iter(maps)
        for row in table.to_dict("records"):
            path = Path(row["file"])
            picture = None if row["reason"] else next(pictures)
            if _keep(job, scorer, files[path], path, row, picture):
                made.append(files[path].image)
    shutil.rmtree(incoming)
    return faults + sum(_store(job, image) for image in made if job.store)


def _keep(job: _Job, scorer: _Scorer, place: Place, path: Path, row: dict[str, Any], picture: Any) -> bool:
    """Write the results of an image into the folder, then its row into the ledger; False where there are none."""
    from amae.data.dicom import read_grey
    from amae.figures.prediction import full_overlay
    from amae.predict.dicom_out import write_capture
    from amae.predict.report import Result, write_report

    reason = row["reason"]
    if not reason and not row["flag"]:
        about, (capture, report) = scorer.model.about, _results(job, place.image)
        percentile = _number(row[f"{job.score}_percentile"])
        result = Result(job.score, float(row[job.score]), percentile, row["call"], job.digest, scorer.settings)
        try:
            grey = read_grey(path, about["conversion"])
            drawn = full_overlay(grey, picture, about["map_limit"], row["geometry"])
            write_capture(path, drawn, job.digest, capture)
            write_report(path, result, report)
        except InputError as error:
            reason = str(error).removeprefix(f"{path}: ")
            _delete(job, place.image)
    state = WITHHELD if reason or row["flag"] else KEPT
    numbers = {name: _number(row[name]) for name in _columns(job.score)}
    words = {"call": row["call"], "flag": row["flag"], "reason": reason}
    job.ledger.add({"study": place.study, "image": place.image, "state": state, **numbers, **words})
    return state == KEPT


def _columns(score: str) -> list[str]:
    from amae.predict.score import scores_for

    names = scores_for(score)
    return [*names, *(f"{name}_percentile" for name in names)]


def _number(value: float) -> float | None:
    return None if value != value else float(value)


def _store_kept(job: _Job) -> int:
    """Store what earlier runs have kept, and delete what a killed one stored and left behind; the number of faults."""
    faults = 0
    for image, row in list(job.ledger.rows.items()):
        left = all(path.is_file() for path in _results(job, image))
        if row["state"] == KEPT and left and job.store:
            faults += _store(job, image)
        elif row["state"] == STORED:
            _delete(job, image)
    return faults


def _store(job: _Job, image: str) -> int:
    """Store the results of an image and delete them here; 1 where the server does not take them, else 0."""
    row = job.ledger.rows[image]
    try:
        job.archive.store(row["study"], _results(job, image))
    except Fault as fault:
        _report(f"study {row['study']}: image {image}: {fault}; kept in {job.output / 'kept'}")
        if fault.gone:
            _require_server(job, "results are kept")
        return 1
    job.ledger.add({**row, "state": STORED})
    _delete(job, image)
    return 0


def _delete(job: _Job, image: str) -> None:
    for path in _results(job, image):
        path.unlink(missing_ok=True)


def _write_table(ledger: Ledger, score: str, path: Path) -> None:
    """The ledger as a table, one row for each image."""
    import pandas as pd

    from amae.runtime.files import write_csv

    columns = ["study", "image", "state", *_columns(score), "call", "flag", "reason"]
    write_csv(pd.DataFrame(list(ledger.rows.values()), columns=columns), path)
