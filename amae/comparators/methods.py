"""Every comparator: its name in the tables, settings, needs and protocols. Nothing here loads torch."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from amae.comparators import settings as s
from amae.runtime.errors import InputError
from amae.runtime.fingerprint import IGNORED, fingerprint
from amae.settings import DetectorSettings

if TYPE_CHECKING:
    from amae.comparators.interface import Fitted, Scores, TestData, TrainingData
    from amae.method.training import Resume

BOTH = {"N": "score", "Y": "score"}


@dataclass(frozen=True)
class Method:
    """A comparator.

    `title`: its row, the paper's name where the paper has it. `module`: contains its `fit(data, settings, seed,
    resume)` and `score(state, data, settings)`, with `options` for both. `settings`: a frozen dataclass.
    `protocols`: those that it can follow (N: T_n alone, Y: T_n and T_u), each with the score to report. `needs`: of
    lungs, encoder (f_0) and autoencoder (f_0 and g_0). `taxonomy` and `note`: of a method that the paper does not have.
    """

    title: str
    module: str
    settings: type
    protocols: Mapping[str, str] = field(default_factory=lambda: BOTH)
    needs: frozenset[str] = frozenset()
    taxonomy: str | None = None
    note: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def fit(self, data: "TrainingData", settings: Any, seed: int, resume: "Resume") -> "Fitted":
        """Train it: its state, tensors by name, and its history, one row for each epoch."""
        return importlib.import_module(self.module).fit(data, settings, seed, resume, **self.options)

    def score(self, state: dict[str, Any], data: "TestData", settings: Any) -> "Scores":
        """Score images: `(N,)` by name, higher is more abnormal, each independent of the other images."""
        return importlib.import_module(self.module).score(state, data, settings, **self.options)


_HERE = "amae.comparators"
_NOT_PAPER = "not in the paper"
_OURS = {"taxonomy": "ours", "note": _NOT_PAPER}
_ENCODER = frozenset({"encoder"})

METHODS = {
    "ae": Method("AE", f"{_HERE}.autoencoder", s.AutoencoderSettings, options={"uncertain": False}),
    "ae_u": Method("AE-U", f"{_HERE}.autoencoder", s.AutoencoderSettings, options={"uncertain": True}),
    "anatpaste": Method("AnatPaste", f"{_HERE}.anatpaste", s.AnatPasteSettings, needs=frozenset({"lungs"})),
    "cutpaste": Method("CutPaste-e2e", f"{_HERE}.cutpaste", s.SegmentationSettings),
    "ddad": Method(
        "DDAD-AE",
        f"{_HERE}.ddad",
        s.EnsembleSettings,
        {"N": "intra", "Y": "inter"},
        options={"uncertain": False},
    ),
    "ddad_asr": Method(
        "DDAD-ASR",
        f"{_HERE}.ddad_asr",
        s.RefinedSettings,
        {"Y": "score"},
        taxonomy="Rec.+SSL",
        note=_NOT_PAPER,
    ),
    "ddad_u": Method(
        "DDAD-AE-U",
        f"{_HERE}.ddad",
        s.EnsembleSettings,
        {"N": "intra", "Y": "inter"},
        taxonomy="Rec.",
        note=_NOT_PAPER,
        options={"uncertain": True},
    ),
    "detector": Method("Detector of T_u", f"{_HERE}.detector", DetectorSettings, {"Y": "score"}, **_OURS),
    "detector_balanced": Method(
        "Detector of T_u, views balanced",
        f"{_HERE}.detector",
        DetectorSettings,
        {"Y": "score"},
        **_OURS,
        options={"balanced": True},
    ),
    "detector_masks": Method(
        "Detector of T_u, lung masks alone",
        f"{_HERE}.detector",
        DetectorSettings,
        {"Y": "score"},
        frozenset({"lungs"}),
        **_OURS,
        options={"masks": True},
    ),
    "detector_plain": Method(
        "Detector of T_u, one round",
        f"{_HERE}.detector",
        DetectorSettings,
        {"Y": "score"},
        **_OURS,
        options={"plain": True},
    ),
    "draem": Method("DRAEM", f"{_HERE}.draem", s.DraemSettings),
    "fanogan": Method("f-AnoGAN", f"{_HERE}.fanogan", s.FAnoGanSettings),
    "fpi": Method("FPI", f"{_HERE}.foreign_patch", s.SegmentationSettings, options={"clone": False, "move": False}),
    "gaussian_ratio": Method(
        "Gaussian log-ratio", f"{_HERE}.mahalanobis", s.NoSettings, {"Y": "score"}, _ENCODER, **_OURS
    ),
    "igd": Method("IGD", f"{_HERE}.igd", s.IgdSettings),
    "knn": Method("Nearest neighbours", f"{_HERE}.knn", s.NeighbourSettings, {"N": "score"}, _ENCODER, **_OURS),
    "knn_ratio": Method(
        "Nearest-neighbour ratio", f"{_HERE}.knn", s.NeighbourSettings, {"Y": "score"}, _ENCODER, **_OURS
    ),
    "mae_multi": Method(
        "MAE multi-reconstruction",
        f"{_HERE}.mae_multi",
        s.MaskRecSettings,
        {"N": "score"},
        frozenset({"autoencoder"}),
    ),
    "mahalanobis": Method(
        "Mahalanobis distance", f"{_HERE}.mahalanobis", s.NoSettings, {"N": "score"}, _ENCODER, **_OURS
    ),
    "mask_rec": Method(
        "AMAE Mask Rec.", f"{_HERE}.mask_rec", s.MaskRecSettings, {"Y": "pooled"}, frozenset({"autoencoder"})
    ),
    "nsa": Method("NSA", f"{_HERE}.foreign_patch", s.NsaSettings, options={"clone": True, "move": True}),
    "pii": Method("PII", f"{_HERE}.foreign_patch", s.SegmentationSettings, options={"clone": True, "move": False}),
    "pu_probe": Method(
        "Positive-unlabeled probe", f"{_HERE}.pu_probe", s.ProbeSettings, {"Y": "score"}, _ENCODER, **_OURS
    ),
    "two_distributions": Method(
        "Two-distribution error ratio",
        f"{_HERE}.two_distributions",
        s.TwoDistributionSettings,
        {"Y": "score"},
        frozenset({"autoencoder"}),
        **_OURS,
    ),
    "view_only": Method(
        "View only",
        f"{_HERE}.view_only",
        s.NoSettings,
        {"N": "score"},
        note=f"{_NOT_PAPER}; exactly 50 where views are unknown or all alike",
    ),
}


def method_of(name: str) -> Method:
    """The method of a name; InputError that lists all of them for an unknown one."""
    if name not in METHODS:
        raise InputError(f"method {name!r}: expected one of {', '.join(METHODS)}")
    return METHODS[name]


def code_of(name: str) -> list[str]:
    """Fingerprints of the code behind a method's training and scores, and the options that it gets from its row."""
    about = method_of(name)
    command = fingerprint("amae.commands.compare", ignored=IGNORED | {__name__})
    return [command, fingerprint(about.module), repr(about.options)]


def column(method: str, score: str) -> str:
    """Name of a score's column in tables: the method's own for one called "score", otherwise method_score."""
    return method if score == "score" else f"{method}_{score}"
