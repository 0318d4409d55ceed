"""Every comparator: its name in the tables, settings, needs and protocols. Nothing here loads torch.

`METHODS` has those of this project. Another package adds its own by an entry point of the group `amae.comparators`; the
optional extra `anomalib` adds its image models.
"""

import ast
import dataclasses
import importlib
import re
import symtable
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amae.comparators import settings as s
from amae.runtime.errors import InputError, naming
from amae.runtime.fingerprint import IGNORED, file_of, fingerprint
from amae.settings import Checked, DetectorSettings, FineTunedSettings

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from amae.comparators.interface import Fitted, Scores, TestData, TrainingData
    from amae.method.training import Resume

GROUP = "amae.comparators"  # of entry points
ANOMALIB = "anomalib:"  # begins the names of anomalib's models
NEEDS_ANOMALIB = "models of anomalib need the optional extra of that name: `uv sync --extra anomalib`"
BOTH = {"N": "score", "Y": "score"}
OWN_ROWS = ("AMAE stage 1", "AMAE stage 2", "AMAE-IN stage 1", "Error ratio", "Error ratio per patch")  # of tables
NEEDS = frozenset({"lungs", "encoder", "autoencoder"})
FUNCTIONS = {"fit": ("data", "settings", "seed", "resume"), "score": ("state", "data", "settings")}  # of a module


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
        "Detector of T_u, balanced",
        f"{_HERE}.detector",
        s.BalancedSettings,
        {"Y": "score"},
        **_OURS,
    ),
    "detector_encoder": Method(
        "Detector of T_u, f_0 fine-tuned",
        f"{_HERE}.detector_encoder",
        FineTunedSettings,
        {"Y": "score"},
        frozenset({"autoencoder"}),
        **_OURS,
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
        s.PlainSettings,
        {"Y": "score"},
        **_OURS,
    ),
    "detector_ratio": Method(
        "Detector of T_u + error ratio",
        f"{_HERE}.detector_ratio",
        s.SumSettings,
        {"Y": "score"},
        frozenset({"autoencoder"}),
        **_OURS,
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


@cache
def installed() -> dict[str, Method]:
    """Methods of other packages by the name of their entry point, in alphabetical order.

    Raises InputError, naming entry point and package, for one that cannot be loaded or is no usable Method, or whose
    name or title another method has.
    """
    from importlib.metadata import entry_points

    found: dict[str, Method] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
        package = f" of the package {entry.dist.name}" if entry.dist else ""
        with naming(f"entry point {entry.name} = {entry.value}{package}"):
            found[entry.name] = _loaded(entry, METHODS | found)
    return found


def _loaded(entry: "EntryPoint", taken: Mapping[str, Method]) -> Method:
    """The method of an entry point; InputError for one that the command line, the workflow or a table cannot take."""
    if not re.fullmatch("[a-z][a-z0-9_]*", entry.name):
        raise InputError("expected a name of small letters, digits and _ that begins with a letter")
    if entry.name in taken:
        raise InputError("a method of this name exists already; give it another name")
    try:
        method = entry.load()
    except Exception as error:  # code of others can raise anything
        raise InputError(f"cannot be loaded ({type(error).__name__}: {error})") from None
    if not isinstance(method, Method):
        raise InputError(f"found {type(method).__name__}, expected an amae.comparators.methods.Method")
    if method.title in {*OWN_ROWS, *(other.title for other in taken.values())}:
        raise InputError(f"title: {method.title!r} is that of another method; give it another title")
    kind = method.settings
    if not (isinstance(kind, type) and issubclass(kind, Checked) and dataclasses.is_dataclass(kind)):
        raise InputError("settings: expected a frozen dataclass that inherits from amae.settings.Checked")
    for each in dataclasses.fields(kind):
        if "description" not in each.metadata:
            raise InputError(f"settings: {each.name}: expected amae.settings.setting(default, description, ...)")
    if not method.protocols or not method.protocols.keys() <= BOTH.keys():
        raise InputError(f"protocols: found {', '.join(method.protocols)}; expected N, Y or both")
    if unknown := set(method.needs) - NEEDS:
        raise InputError(f"needs: found {', '.join(sorted(unknown))}; expected some of {', '.join(sorted(NEEDS))}")
    return dataclasses.replace(method, needs=frozenset(method.needs))


def package_of(name: str) -> dict[str, str]:
    """The version of the package that brings a method, with a hash of the method's code; {} for those of `amae`."""
    from importlib.metadata import entry_points

    return {
        entry.dist.name: f"{entry.dist.version} (code {code_of(name)[1]})"
        for entry in entry_points(group=GROUP, name=name)
        if entry.dist
    }


@cache
def of_anomalib() -> dict[str, Method]:
    """The image models of anomalib, `anomalib:Padim` and so on; none where it is not installed. It is not imported."""
    if not (folder := _folder_of("anomalib")):
        return {}
    tree = ast.parse((folder / "anomalib/models/image/__init__.py").read_text(encoding="utf-8"))
    names = next(node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "__all__")
    return {
        f"{ANOMALIB}{name}": Method(
            f"{name} (anomalib)",
            f"{_HERE}.anomalib_model",
            s.AnomalibSettings,
            {"N": "score"},
            taxonomy="anomalib",
            note=_NOT_PAPER,
            options={"model": name},
        )
        for name in ast.literal_eval(names)
    }


def all_methods() -> dict[str, Method]:
    """The methods of this project, then those of anomalib and of other packages, by name."""
    return METHODS | of_anomalib() | installed()


def method_of(name: str) -> Method:
    """The method of a name; InputError that lists all of them for an unknown one."""
    if name in METHODS:
        return METHODS[name]
    if name.startswith(ANOMALIB) and not of_anomalib():
        raise InputError(f"method {name!r}: {NEEDS_ANOMALIB}")
    if name not in (found := all_methods()):
        raise InputError(f"method {name!r}: expected one of {', '.join(found)}")
    return found[name]


def code_of(name: str) -> list[str]:
    """Fingerprints of the code behind a method's training and scores, and the options that it gets from its row.

    Raises InputError where the method's module is no Python file that can be found, or has no such `fit` or `score`.
    """
    about, ignored = method_of(name), IGNORED | {__name__}
    try:
        own = fingerprint(about.module, _folder_of(about.module), ignored)
        _check_functions(about)
    except (ValueError, SyntaxError, InputError) as error:
        raise InputError(f"method {name}: {error}") from None
    return [fingerprint("amae.commands.compare", ignored=ignored), own, repr(about.options)]


def _check_functions(method: Method) -> None:
    """Raise InputError where a method's module has no `fit` or `score`. It is read, not run: it may load torch."""
    path = file_of(method.module, {method.module.partition(".")[0]: _folder_of(method.module)})
    text = path.read_text(encoding="utf-8")
    names = symtable.symtable(text, str(path), "exec").get_identifiers()
    for name, given in FUNCTIONS.items():
        if name not in names and "import *" not in text:
            raise InputError(f"{path}: found no {name}, expected {name}({', '.join([*given, *method.options])})")


def _folder_of(module: str) -> Path | None:
    """The folder that contains a module's top-level package; None where no such package is found."""
    spec = find_spec(module.partition(".")[0])
    places = [*(spec.submodule_search_locations or [spec.origin])] if spec else []
    return Path(places[0]).parent if places and places[0] else None


def section(name: str) -> str:
    """The part of the command line that has a method's settings: its name; for models of anomalib, anomalib."""
    return name.partition(":")[0]


def column(method: str, score: str) -> str:
    """Name of a score's column in tables: the method's own for one called "score", otherwise method_score."""
    return method if score == "score" else f"{method}_{score}"
