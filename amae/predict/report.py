"""The result of an image as a structured report: Enhanced SR by TID 1500, Measurement Report (PS3.16).

Needs the optional package highdicom. It contains a score, its percentile and the call, names the image they are of, and
belongs to the image's study. Codes that DICOM does not have are of the scheme 99AMAE.
"""

from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

import amae
from amae.predict.dicom_out import referring_to, uid_of
from amae.runtime.files import atomic

SERIES = 9002
DESCRIPTION = "AMAE score, research only, not for diagnosis"
NUMBER, PERCENT = Code("1", "UCUM", "no units"), Code("%", "UCUM", "percent")
CHEST_XRAY = Code("399208008", "SCT", "Plain X-ray of chest")
INHERITED = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate")
INHERITED += ("StudyTime",)


@dataclass(frozen=True)
class Result:
    """What is reported of an image.

    `score`: its name; `value`: higher is more abnormal; `percentile`: percent of the model's normal calibration images
    that score no higher, None where there are none; `call`: abnormal, normal or "". `model`: the SHA-256 of its file.
    `settings`: sentences on the score and its threshold.
    """

    score: str
    value: float
    percentile: float | None
    call: str
    model: str
    settings: tuple[str, ...]


def write_report(source: Path, result: Result, path: Path) -> None:
    """Write the result of a DICOM file as a structured report; equal settings and models give equal UIDs.

    Raises InputError for a source without what a DICOM file of the same study needs.
    """
    from highdicom.sr import EnhancedSR

    with referring_to(source, "SeriesInstanceUID") as reference:
        for keyword in INHERITED:  # of type 2: empty where it is not known
            if keyword not in reference:
                setattr(reference, keyword, None)
        uids = (result.model, result.score, *result.settings)
        report = EnhancedSR(
            [reference],
            _content(reference, result),
            series_instance_uid=uid_of("report series", reference.StudyInstanceUID, *uids),
            series_number=SERIES,
            sop_instance_uid=uid_of("report", reference.SOPInstanceUID, *uids),
            instance_number=1,
            manufacturer="amae",
            is_complete=True,
            series_description=DESCRIPTION,
        )
        with atomic(path) as temporary:
            report.save_as(temporary, enforce_file_format=True)


def _content(reference: Dataset, result: Result) -> Dataset:
    """The tree of the report: who observed (the model), the score and percentile as measurements, the call."""
    from highdicom import sr

    device = sr.DeviceObserverIdentifyingAttributes(uid_of("model", result.model), "amae", model_name=result.model)
    observer = sr.ObserverContext(Code("121007", "DCM", "Device"), device)
    name = f"Anomaly score {result.score}, higher is more abnormal"
    measured = [sr.Measurement(Code(result.score, "99AMAE", name), result.value, NUMBER)]
    if result.percentile is not None:
        percentile = Code("percentile", "99AMAE", "Percent of normal calibration images that score no higher")
        measured.append(sr.Measurement(percentile, result.percentile, PERCENT))
    called = []
    if result.call:
        value = Code(result.call, "99AMAE", f"Called {result.call}; research only, not for diagnosis")
        called.append(sr.QualitativeEvaluation(Code("call", "99AMAE", "Call at the threshold"), value))
    group = sr.MeasurementsAndQualitativeEvaluations(
        sr.TrackingIdentifier(uid_of("tracking", reference.SOPInstanceUID, result.model, result.score), DESCRIPTION),
        algorithm_id=sr.AlgorithmIdentification("amae", amae.__version__, result.settings),
        measurements=measured,
        qualitative_evaluations=called or None,
        source_images=[sr.SourceImageForMeasurementGroup(reference.SOPClassUID, reference.SOPInstanceUID)],
    )
    return sr.MeasurementReport(sr.ObservationContext(observer), CHEST_XRAY, [group])[0]
