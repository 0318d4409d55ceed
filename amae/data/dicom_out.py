"""An anomaly map as a DICOM file that a viewer shows beside its radiograph: a secondary capture (PS3.3 A.8).

Needs the optional package highdicom (`dicom-out`). The file belongs to the source's study, so it holds what identifies
patient and study there: name, id, birth date, sex, accession number, study date, referring physician. It is made only
where a person asks for it.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless, generate_uid

from amae.data.dicom import read_grey
from amae.data.packed import Geometry
from amae.errors import InputError
from amae.figures.prediction import overlay
from amae.files import atomic

LONGEST = 1024  # pixels of the longer side, where the source has more
SERIES = 9001
DESCRIPTION = "AMAE anomaly map, research only, not for diagnosis"


def require_highdicom() -> None:
    """Raise InputError where the package is not installed."""
    if find_spec("highdicom") is None:
        raise InputError("--dicom: needs the optional package highdicom (pip install 'amae[dicom-out]')")


def write_capture(
    source: Path, difference: np.ndarray, limit: float, geometry: Geometry, conversion: str, made_by: str, path: Path
) -> None:
    """Write a map |mu_A - mu_B| `(S, S)` over its radiograph, in the radiograph's own proportions.

    `limit`: where the colours of the map end; `geometry`: how `source` became the model's image; `made_by`: what tells
    one model from another, for UIDs that are the same on every run. Raises InputError for a source without what a
    DICOM file of the same study needs.
    """
    from highdicom.sc import SCImage

    picture = _picture(read_grey(source, conversion), difference, limit, geometry)
    reference = pydicom.dcmread(source, stop_before_pixels=True)
    try:
        uid = reference.SOPInstanceUID
        orientation = reference.get("PatientOrientation") or []
        capture = SCImage.from_ref_dataset(
            reference,
            picture,
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=tuple(orientation) if len(orientation) == 2 else ("L", "F"),
            series_instance_uid=generate_uid(entropy_srcs=["series", reference.StudyInstanceUID, made_by]),
            sop_instance_uid=generate_uid(entropy_srcs=["instance", uid, made_by]),
            series_number=SERIES,
            instance_number=1,
            manufacturer="amae",
            series_description=DESCRIPTION,
            transfer_syntax_uid=RLELossless,
        )
        if len(orientation) != 2:
            capture.PatientOrientation = None  # not known, and not to be made up
        capture.DerivationDescription, capture.BurnedInAnnotation = DESCRIPTION, "NO"
        capture.SourceImageSequence = [_reference(reference)]
        with atomic(path) as temporary:
            capture.save_as(temporary, enforce_file_format=True)
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{source}: no DICOM file can refer to it ({type(error).__name__})") from None


def _picture(grey: np.ndarray, difference: np.ndarray, limit: float, geometry: Geometry) -> np.ndarray:
    """The map over the radiograph, uint8 `(h, w, 3)`."""
    rows, columns = grey.shape
    shrink = min(1.0, LONGEST / max(rows, columns))
    size = (max(1, round(columns * shrink)), max(1, round(rows * shrink)))
    step_x, step_y = columns / size[0] * geometry.scale_x, rows / size[1] * geometry.scale_y
    to_packed = (step_x, 0, geometry.offset_x, 0, step_y, geometry.offset_y)
    where = Image.fromarray(difference.astype(np.float32)).transform(
        size, Image.Transform.AFFINE, to_packed, Image.Resampling.BILINEAR
    )
    shown = Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR)
    return overlay(np.asarray(shown), np.asarray(where), limit)


def _reference(source: Dataset) -> Dataset:
    """The source as an item of SourceImageSequence (PS3.3 C.7.6.1.1.4)."""
    purpose, item = Dataset(), Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "121322", "DCM"
    purpose.CodeMeaning = "Source image for image processing operation"
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    item.PurposeOfReferenceCodeSequence = [purpose]
    return item
