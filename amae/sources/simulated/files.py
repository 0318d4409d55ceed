"""DICOM files and tables of a simulated data set."""

from functools import partial
from pathlib import Path

import pandas as pd
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from amae.runtime.errors import InputError
from amae.runtime.files import atomic, write_csv
from amae.runtime.processes import in_processes
from amae.sources.simulated.facts import IMAGES_OF_BLOCK, Facts, derived_uid
from amae.sources.simulated.image import SimulatedImage, simulate_image

NOTICE = "SYNTHETIC IMAGE: computer simulation, not a patient. Not for clinical use."
LABEL_COLUMNS = ["image_id", "path", "split", "label", "finding", "severity", "others", "patient_id", "view", "sex"]
LABEL_COLUMNS += ["age", "rows", "columns", "spacing", "bits_stored", "photometric", "syntax"]
BOX_COLUMNS = ["image_id", "finding", "x_min", "y_min", "x_max", "y_max", "contrast", "severity"]


def simulate_dataset(
    folder: Path, images: int, seed: int, abnormal: float = 0.4, calibration: int = 0, workers: int = 1
) -> None:
    """Write `folder`/dicom/<image_id>.dcm, labels.csv and boxes.csv, the same bytes for any number of workers.

    `calibration` normal images of other patients come on top of the `images`, which do not depend on them.

    labels.csv: image_id, path (relative to the folder), split (calibration, or empty: to be drawn), label (normal |
    abnormal), finding and its severity (0 faint to 1 plain), others (further findings), patient_id, view, sex, age and
    the file's properties. boxes.csv: one row per instance of a finding, x_min, y_min, x_max, y_max in pixels of the
    stored matrix with edges at integers, contrast (mean change of the line integral). Raises InputError for impossible
    numbers.
    """
    if images < 1 or not 0 <= abnormal <= 1 or seed < 0 or calibration < 0:
        raise InputError(
            f"simulate: {images} images with seed {seed} and abnormal {abnormal}, {calibration} for calibration: "
            "expected at least 1 image, none or more for calibration, a seed of 0 or more and a probability from 0 to "
            "1; change the arguments"
        )
    folder = Path(folder)
    (folder / "dicom").mkdir(parents=True, exist_ok=True)
    block = sum(IMAGES_OF_BLOCK)
    first = -(-images // block) * block  # patients do not reach beyond their block
    numbers = [*range(images), *range(first, first + calibration)]
    splits = [""] * images + ["calibration"] * calibration
    task = partial(_write_one, folder, seed, abnormal)
    rows = list(in_processes(task, zip(numbers, splits, strict=True), workers))
    labels = pd.DataFrame([label for label, _ in rows], columns=LABEL_COLUMNS)
    boxes = pd.DataFrame([box for _, of_image in rows for box in of_image], columns=BOX_COLUMNS)
    write_csv(boxes, folder / "boxes.csv")
    write_csv(labels, folder / "labels.csv")


def _write_one(folder: Path, seed: int, abnormal: float, task: tuple[int, str]) -> tuple[dict, list[dict]]:
    index, split = task
    image = simulate_image(seed, index, 0.0 if split == "calibration" else abnormal)
    facts = image.facts
    path = Path("dicom") / f"{facts.image_id}.dcm"
    write_dicom(image, folder / path)
    label = {name: getattr(facts, name) for name in LABEL_COLUMNS if name not in ("path", "split", "syntax")}
    label |= {"others": " ".join(name for name, _ in facts.others)}
    label |= {"path": path.as_posix(), "split": split, "syntax": UID(facts.syntax).name}
    boxes = [
        {
            "image_id": facts.image_id,
            "finding": box.finding,
            "x_min": box.x_min,
            "y_min": box.y_min,
            "x_max": box.x_max,
            "y_max": box.y_max,
            "contrast": box.contrast,
            "severity": box.severity,
        }
        for box in image.boxes
    ]
    return label, boxes


def write_dicom(image: SimulatedImage, path: Path) -> None:
    """Write one image as a DICOM file (PS3.10), whole or not at all."""
    dataset = make_dicom(image)
    with atomic(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)


def make_dicom(image: SimulatedImage) -> Dataset:
    """The image as a data set of its SOP class (PS3.3 A.26 Digital X-Ray, A.2 Computed Radiography), compressed."""
    facts = image.facts
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = facts.sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = facts.uid
    _describe_patient(dataset, facts)
    _describe_exposure(dataset, facts)
    _describe_pixels(dataset, image)
    target = UID(facts.syntax)
    native = ImplicitVRLittleEndian if target == ImplicitVRLittleEndian else ExplicitVRLittleEndian
    dataset.file_meta.TransferSyntaxUID = native
    dataset.PixelData = image.pixels.tobytes()
    dataset["PixelData"].VR = "OW" if native == ImplicitVRLittleEndian or facts.bits_stored > 8 else "OB"
    if len(dataset.PixelData) % 2:
        dataset.PixelData += b"\0"
    if target.is_compressed:
        dataset.compress(target, generate_instance_uid=False, encoding_plugin=_plugin(target))
    return dataset


def _plugin(target: UID) -> str:
    return "pyjpegls" if "JPEG-LS" in target.name else "pylibjpeg"


def _describe_patient(dataset: Dataset, facts: Facts) -> None:
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.SOPClassUID, dataset.SOPInstanceUID = facts.sop_class, facts.uid
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = facts.date
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = facts.time
    dataset.AccessionNumber, dataset.ReferringPhysicianName = "", ""
    dataset.Manufacturer, dataset.ManufacturerModelName = "amae simulator (synthetic)", "simulated chest"
    dataset.SeriesDescription = f"SYNTHETIC chest {facts.view}"
    dataset.StudyDescription = "SYNTHETIC chest radiograph"
    dataset.PatientName = f"SYNTHETIC^{facts.patient:06d}"
    dataset.PatientID = facts.patient_id
    dataset.PatientBirthDate = ""
    dataset.PatientSex = facts.sex
    dataset.PatientAge = f"{facts.age:03d}Y"
    dataset.ImageComments = NOTICE
    dataset.StudyInstanceUID = derived_uid(facts, "study")
    dataset.SeriesInstanceUID = derived_uid(facts, "series")
    dataset.StudyID, dataset.SeriesNumber, dataset.InstanceNumber = "1", 1, 1


def _describe_exposure(dataset: Dataset, facts: Facts) -> None:
    digital = facts.sop_class == DigitalXRayImageStorageForPresentation
    dataset.Modality = "DX" if digital else "CR"
    dataset.BodyPartExamined, dataset.ViewPosition = "CHEST", facts.view
    dataset.DistanceSourceToDetector = round(facts.source_distance * 10)
    dataset.ImagerPixelSpacing = [facts.spacing, facts.spacing]
    dataset.KVP = 120 if facts.view == "PA" else 95
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    if digital:
        dataset.PresentationIntentType = "FOR PRESENTATION"
        dataset.PatientOrientation = ["L", "F"]
        dataset.ImageLaterality = "U"
        dataset.PixelIntensityRelationship = "LOG"
        dataset.PixelIntensityRelationshipSign = 1 if facts.photometric == "MONOCHROME1" else -1
        dataset.DetectorType = "DIRECT"
        dataset.AnatomicRegionSequence = [_code("51185008", "SCT", "Chest")]
        dataset.ViewCodeSequence = [
            _code("399148002", "SCT", "postero-anterior")
            if facts.view == "PA"
            else _code("399348003", "SCT", "antero-posterior")
        ]
        dataset.AcquisitionContextSequence = []
        dataset.PresentationLUTShape = "INVERSE" if facts.photometric == "MONOCHROME1" else "IDENTITY"


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _describe_pixels(dataset: Dataset, image: SimulatedImage) -> None:
    facts = image.facts
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = facts.photometric
    dataset.Rows, dataset.Columns = image.pixels.shape
    dataset.BitsAllocated = 8 if facts.bits_stored == 8 else 16
    dataset.BitsStored, dataset.HighBit = facts.bits_stored, facts.bits_stored - 1
    dataset.PixelRepresentation = 0
    slope, intercept = rescale(facts)
    if facts.rescale != "none":
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = slope, intercept, "US"
    centre, width = image.centre * slope + intercept, max(image.width * slope, 1)
    if facts.window == "linear":
        dataset.WindowCenter, dataset.WindowWidth = centre, width
    elif facts.window == "narrow":
        dataset.WindowCenter, dataset.WindowWidth = round(centre, 1), round(0.85 * width, 1)
    elif facts.window == "several":
        dataset.WindowCenter = [centre, round(centre, 1), round(centre, 1)]
        dataset.WindowWidth = [width, round(0.8 * width, 1), round(1.25 * width, 1)]
        dataset.WindowCenterWidthExplanation = ["STANDARD", "HARDER", "SOFTER"]


def rescale(facts: Facts) -> tuple[float, float]:
    """Modality rescale slope and intercept of the file: (1, 0) unless the facts state others."""
    half = 2 ** (facts.bits_stored - 1)
    return {"none": (1.0, 0.0), "identity": (1.0, 0.0), "negative": (1.0, -float(half)), "slope": (0.5, 0.0)}[
        facts.rescale
    ]
