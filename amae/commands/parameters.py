"""Options that sub-commands share: one name, one meaning, in one place. Also: a setting as an option."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter, Token

from amae.settings import SplitSettings, limits


def meaning(text: str) -> Parameter:
    """An option with its line of help."""
    return Parameter(help=text)


def whole(minimum: int, text: str) -> Parameter:
    """An option that takes a whole number of at least `minimum`, and no other spelling of one, with its help."""

    def number(kind: type, tokens: Sequence[Token]) -> int:
        given = tokens[0].value
        if not given.strip().lstrip("+-").isdecimal() or int(given) < minimum:
            raise ValueError(f"found {given!r}, expected a whole number of at least {minimum}")
        return int(given)

    return Parameter(help=text, converter=number)


def share(text: str) -> Parameter:
    """An option that takes a number from 0 to 1, with its help."""

    def number(kind: type, tokens: Sequence[Token]) -> float:
        given = tokens[0].value
        try:
            found = float(given)
        except ValueError:
            found = math.nan
        if not 0 <= found <= 1:
            raise ValueError(f"found {given!r}, expected a number from 0 to 1")
        return found

    return Parameter(help=text, converter=number)


def of_setting(field: dataclasses.Field) -> Any:
    """The annotation of a setting for the command line: type, choices, range and help from its metadata."""
    about = field.metadata
    if about["choices"]:
        return Annotated[Literal[about["choices"]], meaning(about["description"])]
    text = f"{about['description']} [{limits(field)}]" if limits(field) else about["description"]
    if field.type is int:
        return Annotated[int, whole(about["minimum"] or 0, text)]
    return Annotated[field.type, meaning(text)]


def _path(kind: type, tokens: Sequence[Token]) -> Path:
    """A path; an empty word would be the folder in which the command is called."""
    if not tokens[0].value:
        raise ValueError("found '', expected a path; a variable of the shell may be empty")
    return Path(tokens[0].value)


def file(text: str) -> Any:
    """The annotation of a file or folder, with its line of help."""
    return Annotated[Path, Parameter(help=text, converter=_path)]


def optional(kind: Any) -> Any:
    """The annotation of a file that may be left out, with the same line of help."""
    return Annotated[kind.__origin__ | None, *kind.__metadata__]


def _shard(kind: Any, tokens: Sequence[Token]) -> tuple[int, int]:
    """Number and count of a shard, from a text like 2/8."""
    number, _, count = tokens[0].value.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ValueError(f"found {tokens[0].value!r}, expected a number and how many there are, as in 2/8")
    return int(number), int(count)


Number = Annotated[int, whole(0, "")]

# Data set
Folder = file("folder of the data set, to write to")
ImageTable = file("table of every image with its label: read, or of a published data set written (.csv)")
Candidates = file("manifest of all these images (.csv)")
Manifest = file("manifest (.csv)")
HiddenLabels = file("labels of the unlabeled images (.csv), for diagnosis only")
Images = file("packed images (.npy)")
LungImages = file("packed images of 256 px, to find lungs in (.npy)")
Index = file("table of the packed images (.csv)")
Lungs = file("packed lung masks (.npy)")
Sheet = file("contact sheet to write (.png)")
LungsTable = file("coverage of every lung mask (.csv)")
Boxes = optional(file("table of finding boxes, in original pixels (.csv)"))
Root = optional(file("folder that the table's paths start from; by default the table's own"))
Splits = SplitSettings | None  # to draw; without them the table's split column counts
DatasetName = Annotated[str, meaning("name of the data set, for captions and the model's card")]
Kind = Annotated[str, meaning("kind of the data set; values are printed for rsna, vindr and nih")]
Conversion = Annotated[
    Literal["minmax", "voi"], meaning("grey levels: minmax as published, voi through the DICOM window")
]
Square = Annotated[Literal["squash", "pad", "crop"], meaning("how an image becomes square")]

# Trainings and trained networks
Weights = file("pre-trained autoencoder f_0, g_0 (.safetensors)")
Encoder = Annotated[str, meaning("timm's name of a network: architecture, or architecture.tag")]
Head = file("stage 1 head (.safetensors)")
Model = file("trained model, as amae export makes it (.safetensors)")
ModelA = file("module A (.safetensors)")
ModelB = file("module B (.safetensors)")
TrainedDetector = file("trained detector (.safetensors)")
Labels = file("pseudo-labels of T_u (.csv)")
History = file("training history to write (.csv)")
Record = file("record to write of how the result was made (.json)")
Maps = file("mean maps of both modules (.npz)")
Seed = Annotated[int, whole(0, "seed")]
Output = file("folder to write to")
Specificity = Annotated[float, meaning("share of normal images to call normal")]
Device = Annotated[Literal["auto", "cpu", "cuda"], meaning("auto takes a GPU where there is one")]
Gpus = Annotated[int, whole(0, "GPUs granted; 0 forces the CPU")]
JobsPerCard = Annotated[int, whole(1, "jobs that may share a GPU; the others wait")]
Shard = Annotated[
    tuple[int, int] | None,
    Parameter(
        help="make one of several parts, as in 2/8, and nothing else; the command without it joins them",
        converter=_shard,
        metavar="K/N",
        n_tokens=1,
    ),
]
Workers = Annotated[int, whole(1, "processes")]

# Scores, tables and figures
DetectorScores = file("scores of the detector (.csv)")
Stage1Scores = file("stage 1 probabilities of T_u and the test images (.csv)")
ReconstructionScores = file("scores from the reconstructions (.csv)")
Scores = file("scores of the test images (.csv)")
ScoresOfSeeds = Annotated[list[Path], meaning("scores, one table for each seed (.csv)")]
ScoreTables = Annotated[list[Path], meaning("tables of scores (.csv)")]
Seeds = Annotated[list[Number], meaning("seeds of these tables, in the same order")]
Score = Annotated[
    str,
    meaning(
        "ranks the images: detector, stage1, inter, mask_rec, error_ratio or error_ratio_patch; where a model calls "
        "them also auto, the one of greatest AUCp"
    ),
]
Rows = Annotated[int, whole(1, "images: of each kind in the gallery, in all beside maps and boxes")]
Published = file("values that the papers print (.csv)")
Methods = Annotated[
    str,
    meaning(
        "methods, as a JSON list: method, protocol, taxonomy, score (folder/column), scores (a table for each seed); "
        "optional: note, anomaly_ratio, reference (the method that it is tested against)"
    ),
]
AnomalyRatio = Annotated[float | None, share("abnormal share of T_u; without it, a data set has no T_u")]
NormalNoise = Annotated[float, share("share of T_n that may be abnormal, as stated: for captions and cards alone")]
AcceptDifferences = Annotated[
    bool, meaning("warn, not refuse, where T_n and T_u differ by far more than the anomaly ratio explains")
]
Reference = Annotated[str, meaning("method that the others are tested against (Welch, DeLong)")]
Caveats = Annotated[str, meaning("sentences to add to the caption")]
Metrics = file("metrics of one seed, to write (.csv)")
Figure = file("picture to write (.png)")
Table = file("table to write (.csv)")
Markdown = file("table to write (.md)")
Latex = file("table to write (.tex)")
Page = file("page of the report to write (.html)")
