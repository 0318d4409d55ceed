"""Signs in a DICOM header that its image is no frontal chest radiograph, or not one for the eye."""

import re
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from amae.data.dicom import is_dicom, read_header, read_text
from amae.runtime.errors import InputError

RADIOGRAPHY = ("CR", "DX", "DR", "RG", "")  # Modality (PS3.3 C.7.3.1.1.1); DR is not standard, but found
# parts of the words for chest, thorax and lungs in the languages of most devices, without accents
CHEST = re.compile(
    "CHEST|CXR|THORA|TORA|LUNG|PULM|POUMON|POLMON|PLUC|PLIC|POITRINE|PECHO|PEITO|PETTO|BRUST|BORST|BRYST|BROST|KLATK|"
    "HRUDN|KEUHKO|RINTAKEH|MELLKAS|TUDO|GOGUS|AKCIGER|ГРУД|ЛЕГК|ΘΩΡΑ|胸|肺|흉부"
)
SPINE = re.compile("SPINE|LUMB|WIRBEL|RACHIS|COLUMN")
# ViewPosition (PS3.3 C.8.1.2): lateral, decubitus, oblique
NOT_FRONTAL = ("LL", "RL", "LLD", "RLD", "LLO", "RLO", "RAO", "LAO", "RPO", "LPO")
NOT_FRONTAL_WORDS = re.compile("(?<!BI)LAT|OBL|DECUB|PROFIL|PERFIL|SEITLICH")
TAGS = ["Modality", "BodyPartExamined", "ViewPosition", "ViewCodeSequence", "PresentationIntentType"]
TAGS += ["PatientOrientation", "PixelAspectRatio"]


def header_flags(path: str | Path) -> list[str]:
    """Reasons why a file is no frontal chest radiograph by its header; none for a picture, or a header that is silent.

    They name attributes, never their values: these may contain what a person typed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not is_dicom(path):
                return []
            return list(_flags(read_header(path, stop_before_pixels=True, specific_tags=TAGS)))
    except Exception:  # a damaged file: reading its pixels gives the reason
        return []


def _flags(dataset: Dataset) -> Iterator[str]:
    if read_text(dataset, "Modality") not in RADIOGRAPHY:
        yield "header: Modality is not radiography"
    part = _letters(dataset.get("BodyPartExamined"))
    if part and (SPINE.search(part) or not CHEST.search(part)):
        yield "header: BodyPartExamined is not the chest"
    given = dataset.get("PatientOrientation") or ""
    right, down = (*(str(each).strip()[:1] for each in ([given] if isinstance(given, str) else given)), "", "")[:2]
    lateral = right in ("A", "P")  # rows run to the front or the back
    if lateral or any(view in NOT_FRONTAL or NOT_FRONTAL_WORDS.search(view) for view in _views(dataset)):
        yield "header: the view is not frontal"
    if right in ("F", "H") or down not in ("", "F"):
        yield "header: PatientOrientation says that the picture is not upright"
    if len({str(each) for each in dataset.get("PixelAspectRatio") or []}) > 1:
        yield "header: PixelAspectRatio is not 1:1, and is ignored"
    if read_text(dataset, "PresentationIntentType") == "FOR PROCESSING":  # PS3.3 C.8.11.1
        yield "header: PresentationIntentType is FOR PROCESSING: values of the detector, not made to be looked at"


def _letters(value: Any) -> str:
    """A value in capitals without accents; pydicom takes a code string for Latin-1, and some are in UTF-8."""
    text = str(value or "")
    with suppress(UnicodeError):
        text = text.encode("latin-1").decode()
    letters = [letter for letter in unicodedata.normalize("NFD", text.upper()) if not unicodedata.combining(letter)]
    return unicodedata.normalize("NFC", "".join(letters)).strip()


def _views(dataset: Dataset) -> Iterator[str]:
    """The view in capitals, by code and by text."""
    yield read_text(dataset, "ViewPosition")
    for code in dataset.get("ViewCodeSequence") or []:
        try:
            yield read_text(code, "CodeMeaning")
        except InputError:
            continue
