"""An anomaly map as a DICOM file that a viewer shows beside its radiograph: a secondary capture (PS3.3 A.8).

Needs the optional package highdicom (`dicom-out`). The file belongs to the source's study, so it has what identifies
patient and study there: name, id, birth date, sex, accession number, study date, referring physician. It is made only
where a person asks for it.
"""

import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import UID, RLELossless, generate_uid
from pydicom.valuerep import DA, TM

from amae.data.dicom import read_header
from amae.runtime.errors import InputError
from amae.runtime.files import atomic

SERIES = 9001
REQUIRED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID")
TIMES = {"PatientBirthDate": DA, "StudyDate": DA, "StudyTime": TM}
COPIED = (*REQUIRED, *TIMES, "PatientID", "PatientName", "PatientSex", "AccessionNumber", "StudyID")
COPIED += ("ReferringPhysicianName", "PatientOrientation", "SpecificCharacterSet")
OF_THE_PICTURE = ("BurnedInAnnotation", "LossyImageCompression", "LossyImageCompressionRatio")
OF_THE_PICTURE += ("LossyImageCompressionMethod",)  # PS3.3 C.7.6.1.1.5: once lossy, always so
ORIENTATION = re.compile("[LRAPHF]{1,3}")  # PS3.3 C.7.6.1.1.1
TIMES_OF_WRITING = ("InstanceCreationDate", "InstanceCreationTime", "DateOfSecondaryCapture", "TimeOfSecondaryCapture")
TIMES_OF_WRITING += ("ContentDate", "ContentTime", "SeriesDate", "SeriesTime", "ContributionDateTime")
# all optional (PS3.3 A.8.1, C.12.1)
DESCRIPTION = "AMAE anomaly map, research only, not for diagnosis"


def require_highdicom(option: str = "--dicom") -> None:
    """Raise InputError where the package is not installed."""
    if find_spec("highdicom") is None:
        raise InputError(f"{option}: needs the optional package highdicom (pip install highdicom)")


@contextmanager
def silence() -> Iterator[None]:
    """No warning and no log line from within: those of pydicom and its relatives quote header values."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def referring_to(source: Path, *required: str) -> Iterator[Dataset]:
    """The header of a DICOM file, for a file that refers to it and is made within, in silence.

    Raises InputError for a source without what a DICOM file of the same study needs.
    """
    with silence():
        reference = read_header(source, stop_before_pixels=True)
        if "SpecificCharacterSet" in reference:
            reference.SpecificCharacterSet = character_sets(reference.SpecificCharacterSet)
        if wrong := [keyword for keyword in (*COPIED, *required) if not _is_usable(reference, keyword)]:
            raise InputError(f"{source}: no DICOM file can refer to it: {', '.join(wrong)} missing or not as in PS3.3")
        try:
            yield reference
        except (AttributeError, TypeError, ValueError) as error:
            raise InputError(f"{source}: no DICOM file can refer to it ({type(error).__name__})") from None


def write_capture(source: Path, picture: np.ndarray, made_by: str, path: Path) -> None:
    """Write a picture, uint8 `(h, w, 3)`, that refers to the DICOM file that it was made from.

    `made_by`: what identifies a model, for UIDs that are the same on every run. Raises InputError for a
    source without what a DICOM file of the same study needs.
    """
    from highdicom.sc import SCImage

    with referring_to(source) as reference:
        capture = SCImage.from_ref_dataset(
            reference,
            picture,
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=("L", "F"),
            series_instance_uid=uid_of("series", reference.StudyInstanceUID, made_by),
            sop_instance_uid=uid_of("instance", reference.SOPInstanceUID, made_by),
            series_number=SERIES,
            instance_number=1,
            manufacturer="amae",
            series_description=DESCRIPTION,
            transfer_syntax_uid=RLELossless,
        )
        orientation = reference.get("PatientOrientation") or []
        known = len(orientation) == 2 and all(ORIENTATION.fullmatch(str(each)) for each in orientation)
        capture.PatientOrientation = orientation if known else None
        capture.DerivationDescription = DESCRIPTION
        for keyword in OF_THE_PICTURE:  # which the map contains
            if keyword in reference and _is_usable(reference, keyword):
                setattr(capture, keyword, reference[keyword].value)
        for dataset in (capture, *capture.get("ContributingEquipmentSequence", [])):
            for name in TIMES_OF_WRITING:  # the UIDs are those of every run, so the bytes must be
                if name in dataset:
                    delattr(dataset, name)
        capture.SourceImageSequence = [_reference(reference)]
        with atomic(path) as temporary:
            capture.save_as(temporary, enforce_file_format=True)


def repeated(captures: Mapping[str, Path]) -> list[str]:
    """Captures, by their sources' names, that have the UID of one before: their sources are one instance.

    Each as "b as a", with a word where their pixels differ.
    """
    first: dict[str, str] = {}
    found = []
    for name, path in captures.items():
        uid = read_header(path, stop_before_pixels=True).SOPInstanceUID
        if (before := first.setdefault(uid, name)) != name:
            same = read_header(path).PixelData == read_header(captures[before]).PixelData
            found.append(f"{name} as {before}" + ("" if same else ", with other pixels"))
    return found


def uid_of(*sources: str) -> UID:
    """The UID that belongs to these words: the same on every run and machine."""
    return generate_uid(entropy_srcs=list(sources))


def character_sets(value: str | Sequence[str] | None) -> str | list[str] | None:
    """SpecificCharacterSet in the spelling that highdicom takes; None for the default repertoire (PS3.3 C.12.1.1.2).

    Several sets are all with code extensions, an empty first one is the default; a single set has none.
    """
    names = [value] if isinstance(value, str) else list(value or [])
    if len(names) > 1:
        return [name.replace("ISO_IR", "ISO 2022 IR") or "ISO 2022 IR 6" for name in names]
    name = "".join(names).replace("ISO 2022 IR", "ISO_IR")
    return None if name in ("", "ISO_IR 6") else name


def _is_usable(source: Dataset, keyword: str) -> bool:
    """True where highdicom takes an attribute of the source as it is."""
    from highdicom import SpecificCharacterSetValues

    try:
        value = source.get(keyword)
        if keyword.endswith("UID"):
            return bool(value) and UID(value).is_valid
        if keyword == "PatientSex":
            return value in ("M", "F", "O", "", None)
        if keyword in TIMES and value:
            TIMES[keyword](value)
        if keyword == "SpecificCharacterSet" and value:
            known = {each.value for each in SpecificCharacterSetValues}
            return {value} <= known if isinstance(value, str) else set(value) <= known
        return True
    except Exception:  # pydicom parses an attribute when it is first asked for; its message would quote the value
        return False


def _reference(source: Dataset) -> Dataset:
    """The source as an item of SourceImageSequence (PS3.3 C.7.6.1.1.4)."""
    purpose, item = Dataset(), Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "121322", "DCM"
    purpose.CodeMeaning = "Source image for image processing operation"
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    item.PurposeOfReferenceCodeSequence = [purpose]
    return item
