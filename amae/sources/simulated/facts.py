"""Decisions about an image before anything is drawn: patient, view, geometry, file format, label, finding.

Every decision comes from `default_rng([seed, number, stream])`, so a fact depends on nothing but the seed and the
index, and one stream never disturbs another. Facts of hundreds of images take a second; no pixel is made here.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

FINDINGS = (
    "nodule_or_mass",
    "consolidation",
    "effusion",
    "pneumothorax",
    "atelectasis",
    "interstitial",
    "cardiomegaly",
)
STREAMS = {
    name: number
    for number, name in enumerate(
        ("facts", "label", "pose", "finding", "overlay", "texture", "noise", "patient", "vessels", "block")
    )
}
IMAGES_OF_BLOCK = (1, 1, 1, 1, 1, 1, 1, 1, 2, 3)  # ten patients share thirteen consecutive images
MATRICES = (
    (256, 256),
    (256, 214),
    (240, 200),
    (224, 224),
    (288, 240),
    (320, 264),
    (280, 280),
    (200, 240),
    (192, 192),
    (300, 320),
)
MORE_FINDINGS = ((0, 0.3), (1, 0.4), (2, 0.3))  # beside an image's first: abnormal radiographs rarely show one alone
SYNTAXES = (
    (ImplicitVRLittleEndian, 0.25),
    (ExplicitVRLittleEndian, 0.25),
    (RLELossless, 0.2),
    (JPEG2000Lossless, 0.15),
    (JPEGLSLossless, 0.15),
)
RESCALES = (("none", 0.4), ("identity", 0.1), ("negative", 0.25), ("slope", 0.25))
WINDOWS = (("none", 0.4), ("linear", 0.3), ("several", 0.15), ("narrow", 0.15))
BITS = ((8, 0.2), (10, 0.15), (12, 0.35), (14, 0.15), (16, 0.15))


@dataclass(frozen=True)
class Facts:
    """Header facts and ground truth of one image. Lengths in cm, `spacing` in mm at the detector, `age` in years."""

    seed: int
    index: int
    image_id: str
    patient: int
    patient_id: str
    sex: str
    age: int
    view: str
    rows: int
    columns: int
    spacing: float
    source_distance: float
    photometric: str
    bits_stored: int
    rescale: str  # none | identity | negative | slope; Digital X-Ray allows identity alone (PS3.3 C.8.11.3)
    window: str  # none | linear | several | narrow; Digital X-Ray demands one
    syntax: str
    sop_class: str
    date: str
    time: str
    label: str
    finding: str
    severity: float  # conspicuity of the finding, 0 faint to 1 plain
    others: tuple[tuple[str, float], ...] = ()  # further findings, none plainer than the first

    @property
    def uid(self) -> str:
        """SOP Instance UID, derived from seed and index alone."""
        return derived_uid(self, "instance")


def stream(seed: int, number: int, name: str) -> np.random.Generator:
    """Random generator of one named stream of an image (or patient) number."""
    return np.random.default_rng([seed, number, STREAMS[name]])


def derived_uid(facts: "Facts", role: str) -> str:
    """DICOM UID that is the same on every run: a hash of the seed, the index and the role of the UID."""
    return generate_uid(entropy_srcs=["amae-simulated", str(facts.seed), str(facts.index), role])


def patient_of(seed: int, index: int) -> int:
    """Patient number of an image: blocks of thirteen images contain ten patients with one to three images each."""
    size = sum(IMAGES_OF_BLOCK)
    block, place = divmod(index, size)
    owners = np.repeat(np.arange(len(IMAGES_OF_BLOCK)), IMAGES_OF_BLOCK)
    return block * len(IMAGES_OF_BLOCK) + int(stream(seed, block, "block").permutation(owners)[place])


def choose(rng: np.random.Generator, weighted: tuple) -> object:
    """One of `((value, weight), ...)`."""
    values, weights = zip(*weighted, strict=True)
    return values[int(rng.choice(len(values), p=np.array(weights) / sum(weights)))]


def draw_facts(seed: int, index: int, abnormal: float = 0.4) -> Facts:
    """Draw everything about image `index` that is not a pixel.

    The label has its own stream: it is `abnormal` with that probability whatever the patient, view or file format.
    """
    truth, patient = stream(seed, index, "label"), patient_of(seed, index)
    person = stream(seed, patient, "patient")
    sex, age = ("M", "F")[int(person.integers(2))], int(np.clip(person.normal(55, 18), 18, 95))
    is_abnormal = bool(truth.random() < abnormal)
    finding, severity = FINDINGS[int(truth.integers(len(FINDINGS)))], round(float(truth.uniform(0.02, 1.0)), 3)
    names = [name for name in FINDINGS if name != finding]
    others = [str(name) for name in truth.permutation(names)[: choose(truth, MORE_FINDINGS)]]
    return Facts(
        seed=seed,
        index=index,
        image_id="sim" + hashlib.sha256(f"amae image {seed} {index}".encode()).hexdigest()[:13],
        patient=patient,
        patient_id=f"SIM{seed}-{patient:06d}",
        sex=sex,
        age=age,
        label="abnormal" if is_abnormal else "normal",
        finding=finding if is_abnormal else "",
        severity=severity if is_abnormal else 0.0,
        others=tuple((name, round(severity * truth.uniform(0.5, 1), 3)) for name in others if is_abnormal),
        **_draw_file(stream(seed, index, "facts"), sex),
    )


def _draw_file(rng: np.random.Generator, sex: str) -> dict:
    """Geometry and file format: the facts that have nothing to do with the label."""
    view = "PA" if rng.random() < 0.6 else "AP"
    rows, columns = MATRICES[int(rng.integers(len(MATRICES)))]
    # The operator collimates to the chest with some margin; the chest needs about 33 by 35 cm at the detector.
    margin = rng.uniform(0.93, 1.1) * (1.05 if view == "AP" else 1.0)
    digital = bool(rng.random() < 0.5)
    return {
        "view": view,
        "rows": rows,
        "columns": columns,
        "spacing": round(10 * max(33.0 / columns, 34.5 / rows) * margin * (0.96 if sex == "F" else 1.0), 2),
        "source_distance": 180.0 if view == "PA" else float(rng.choice([100.0, 110.0, 120.0, 150.0])),
        "photometric": "MONOCHROME1" if rng.random() < 0.3 else "MONOCHROME2",
        "bits_stored": choose(rng, BITS),
        "rescale": "identity" if digital else choose(rng, RESCALES),
        "window": choose(rng, WINDOWS[1:] if digital else WINDOWS),
        "syntax": choose(rng, SYNTAXES),
        "sop_class": DigitalXRayImageStorageForPresentation if digital else ComputedRadiographyImageStorage,
        "date": f"20{rng.integers(10, 24):02d}{rng.integers(1, 13):02d}{rng.integers(1, 29):02d}",
        "time": f"{rng.integers(6, 23):02d}{rng.integers(60):02d}{rng.integers(60):02d}",
    }
