"""Signs in a DICOM header that its image is no frontal chest radiograph."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from amae.data.dicom import read_text
from amae.runtime.errors import InputError

RADIOGRAPHY = ("CR", "DX", "DR", "RG", "")  # Modality (PS3.3 C.7.3.1.1.1); DR is not standard, but found
CHEST = ("CHEST", "THORA", "TORA", "LUNG")  # parts of words: THORAX, THORACIC, and TORAX, TORACE where it is so spelt
NOT_FRONTAL = ("LL", "RL", "LLD", "RLD", "LLO", "RLO")  # ViewPosition (PS3.3 C.8.1.2): lateral, decubitus, oblique
NOT_FRONTAL_WORDS = ("LAT", "OBL", "DECUB")
TAGS = ["Modality", "BodyPartExamined", "ViewPosition", "ViewCodeSequence"]


def header_flags(path: str | Path) -> list[str]:
    """Reasons why a file is no frontal chest radiograph by its header; none for PNG, JPEG, or a header that is silent.

    They name attributes, never their values: these may contain what a person typed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
            return list(_flags(dataset))
    except Exception:  # no DICOM file, or a damaged one: reading its pixels gives the reason
        return []


def _flags(dataset: Dataset) -> Iterator[str]:
    if read_text(dataset, "Modality") not in RADIOGRAPHY:
        yield "header: Modality is not radiography"
    part = read_text(dataset, "BodyPartExamined")
    if part and not any(word in part for word in CHEST):
        yield "header: BodyPartExamined is not the chest"
    if any(view in NOT_FRONTAL or any(word in view for word in NOT_FRONTAL_WORDS) for view in _views(dataset)):
        yield "header: the view is not frontal"


def _views(dataset: Dataset) -> Iterator[str]:
    """The view in capitals, by code and by text."""
    yield read_text(dataset, "ViewPosition")
    for code in dataset.get("ViewCodeSequence") or []:
        try:
            yield read_text(code, "CodeMeaning")
        except InputError:
            continue
