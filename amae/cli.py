"""The command line: one sub-command for each rule of the workflow, files in, files out.

A sub-command is a row of COMMANDS. Its code is imported only when it runs, so `amae --help` is quick and torch is
loaded only by what computes with it.
"""

import argparse
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import amae
from amae.errors import InputError
from amae.failures import explain
from amae.running import join
from amae.settings import (
    ModelSettings,
    ModuleSettings,
    PretrainSettings,
    PseudoLabelSettings,
    ReconstructionSettings,
    Stage1Settings,
    add_options,
)


@dataclass(frozen=True)
class Command:
    """A sub-command: `function` is module:name, `files` are required paths, `settings` become options.

    `arguments` are given by their place, the others by name.
    """

    function: str
    meaning: str
    files: dict[str, str]
    settings: tuple[type, ...] = ()
    options: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()


FILES = {
    "figure": "picture to write (.png)",
    "head": "stage 1 head (.safetensors)",
    "hidden-labels": "labels of the unlabeled images (.csv), for diagnosis only",
    "history": "training history (.csv)",
    "images": "packed images (.npy)",
    "index": "table of the packed images (.csv)",
    "labels": "table of labels (.csv)",
    "lungs": "packed lung masks (.npy)",
    "manifest": "manifest (.csv)",
    "maps": "mean maps of both modules (.npz)",
    "metrics": "metrics of one seed (.csv)",
    "model": "trained autoencoder (.safetensors)",
    "model-a": "module A (.safetensors)",
    "model-b": "module B (.safetensors)",
    "markdown": "table to write (.md)",
    "latex": "table to write (.tex)",
    "probe-scores": "the probe's probabilities of T_u (.csv)",
    "pseudo-labels": "pseudo-labels (.csv)",
    "published": "figures that the papers print (.csv)",
    "state": "trained comparator (.safetensors)",
    "text": "text to write (.md)",
    "reconstruction-scores": "scores from the reconstructions (.csv)",
    "record": "record of how the result was made (.json)",
    "rejected": "table of the images that could not be read (.csv)",
    "scores": "scores of the test images (.csv)",
    "sheet": "contact sheet (.png)",
    "stage1-scores": "stage 1 probabilities of T_u and the test images (.csv)",
    "table": "table (.csv)",
    "unlabeled-scores": "probabilities of T_u, of stage 1 or of the probe (.csv)",
    "weights": "pre-trained autoencoder f_0, g_0 (.safetensors)",
}

OPTIONS: dict[str, dict[str, Any]] = {
    "abnormal": {"type": float, "default": 0.4, "help": "share of images with a finding (default: %(default)s)"},
    "allowed-failures": {"type": int, "default": 0, "help": "unreadable images allowed (default: %(default)s)"},
    "boxes": {"type": Path, "help": "table of finding boxes to draw, in original pixels (.csv)"},
    "calibration": {
        "type": int,
        "default": 0,
        "help": "further normal images, kept for calibration (default: %(default)s)",
    },
    "conversion": {
        "choices": ["minmax", "voi"],
        "default": "minmax",
        "help": "grey levels: minmax as published, voi through the DICOM window (default: %(default)s)",
    },
    "count": {"type": int, "default": 1000, "help": "number of images (default: %(default)s)"},
    "device": {
        "choices": ["auto", "cpu", "cuda"],
        "default": "auto",
        "help": "auto takes a GPU where there is one (default: %(default)s)",
    },
    "dicom": {
        "action": "store_true",
        "help": "also write each map as a DICOM secondary capture, with the source's patient and study; "
        "needs highdicom (default: %(default)s)",
    },
    "folder": {"type": Path, "required": True, "help": "folder of the data set, or to write to"},
    "gpus": {"type": int, "default": 1, "help": "GPUs granted; 0 forces the CPU (default: %(default)s)"},
    "histories": {"type": Path, "nargs": "+", "required": True, "help": "training histories (.csv)"},
    "image-size": {"type": int, "default": 224, "help": "side of the square images, in pixels (default: %(default)s)"},
    "metrics-of-seeds": {"type": Path, "nargs": "+", "required": True, "help": "metrics, one table per seed (.csv)"},
    "module": {"choices": ["A", "B", "pooled"], "required": True, "help": "module to train"},
    "anomaly-ratio": {"type": float, "help": "abnormal share of T_u; without it, a data set has no T_u"},
    "dataset": {"required": True, "help": "name of the data set, as in the table of sources"},
    "lungs": {"type": Path, "help": "packed lung masks, where the method needs them (.npy)"},
    "metadata": {"type": Path, "help": "folder of further tables: mapping to NIH, pre-training list"},
    "method": {"required": True, "help": "comparator: a module of amae.comparators"},
    "methods": {"required": True, "help": "methods, as JSON: method, protocol, taxonomy, score, metrics, note"},
    "normalisation": {
        "choices": ["chest", "imagenet"],
        "default": "chest",
        "help": "what published weights were trained with (default: %(default)s)",
    },
    "output": {"type": Path, "required": True, "metavar": "FOLDER", "help": "folder to write to; new, or empty"},
    "panels": {"required": True, "help": "tables of scores by heading, as JSON"},
    "patient-disjoint": {
        "action": "store_true",
        "help": "leave out the training images of patients who are in the test set (default: %(default)s)",
    },
    "protocol": {"choices": ["N", "Y"], "required": True, "help": "N: trained on T_n; Y: on T_n and T_u"},
    "pseudo-labels": {"type": Path, "help": "pseudo-labels, which modules A and B need (.csv)"},
    "reconstruction-scores": {
        "type": Path,
        "help": "scores from the reconstructions; without T_u there are none (.csv)",
    },
    "records": {"required": True, "help": "records of jobs by method, as JSON"},
    "reference": {"help": "method that the others are tested against (Welch)"},
    "repartition": {"type": Path, "help": "repartition file, or folder of lists (default: in the folder)"},
    "score-tables": {"type": Path, "nargs": "+", "required": True, "help": "tables of scores (.csv)"},
    "settings": {"help": "settings of the method that differ from its recipe, as JSON"},
    "weights": {"type": Path, "help": "pre-trained autoencoder, where the method needs it (.safetensors)"},
    "root": {"type": Path, "help": "folder the table's paths start from (default: the table's own)"},
    "rows": {"type": int, "default": 4, "help": "images of each kind (default: %(default)s)"},
    "score": {"default": "inter", "help": "score that ranks the images (default: %(default)s)"},
    "scores-of-seeds": {"type": Path, "nargs": "+", "required": True, "help": "scores, one table per seed (.csv)"},
    "seeds": {"type": int, "nargs": "+", "required": True, "help": "seeds of these tables, in the same order"},
    "seed": {"type": int, "default": 0, "help": "seed (default: %(default)s)"},
    "source": {"type": Path, "required": True, "help": "published .pth or .safetensors file"},
    "specificity": {
        "type": float,
        "default": 0.95,
        "help": "share of normal images to call normal (default: %(default)s)",
    },
    "splits": {"help": "splits to draw, as JSON; without it the table's split column counts"},
    "square": {
        "choices": ["squash", "pad", "crop"],
        "default": "squash",
        "help": "how an image becomes square (default: %(default)s)",
    },
    "workers": {"type": int, "default": 1, "help": "processes (default: %(default)s)"},
}

ARGUMENTS: dict[str, dict[str, Any]] = {
    "exported": {"type": Path, "metavar": "MODEL", "help": "model made by amae export (.safetensors)"},
    "radiographs": {
        "type": Path,
        "nargs": "+",
        "metavar": "FILE",
        "help": "DICOM, PNG or JPEG files, or folders of them",
    },
}

_SOURCE = ("dataset", "folder", "repartition", "anomaly-ratio", "patient-disjoint", "splits", "metadata")
_COMPUTE = ("seed", "device", "gpus")

COMMANDS = {
    "simulate": Command(
        "amae.commands.data:simulate",
        "simulate chest radiographs as DICOM files, with labels and boxes",
        {},
        options=("folder", "count", "seed", "abnormal", "calibration", "workers"),
    ),
    "fetch-source": Command(
        "amae.commands.sources:fetch_source",
        "fetch, verify and unpack what is open of a published data set or of published weights",
        {},
        options=("dataset", "folder"),
    ),
    "index-source": Command(
        "amae.commands.sources:index_source",
        "make the manifest and the boxes of a published data set",
        {"table": "table of every image with its label (.csv)", "manifest": "", "hidden-labels": ""}
        | {"boxes": "boxes of the test images (.csv)"},
        options=_SOURCE,
    ),
    "list-source": Command(
        "amae.commands.sources:list_source",
        "list every image that a published data set uses at any anomaly ratio",
        {"table": "table of every image with its label (.csv)", "candidates": "manifest of all these images (.csv)"},
        options=_SOURCE,
    ),
    "list-images": Command(
        "amae.commands.data:list_images",
        "list every image that a data set uses at any anomaly ratio",
        {"table": "table of images (.csv)", "candidates": "manifest of all these images (.csv)"},
        options=("root", "splits"),
    ),
    "index": Command(
        "amae.commands.data:index",
        "make the manifest from a table of images, and draw the splits",
        {"table": "table of images: path, and where known label, patient_id, view, split (.csv)", "manifest": ""}
        | {"hidden-labels": ""},
        options=("root", "splits"),
    ),
    "convert": Command(
        "amae.commands.data:convert",
        "pack DICOM, PNG or JPEG files as square 8-bit grey images",
        {"manifest": "", "images": "", "index": "", "rejected": "", "sheet": ""},
        options=("image-size", "conversion", "square", "allowed-failures", "workers"),
    ),
    "segment-lungs": Command(
        "amae.commands.data:segment_lungs",
        "find the lungs of every image",
        {"images": "", "index": "", "lungs": "", "table": "coverage of every mask (.csv)", "sheet": ""},
        options=("workers",),
    ),
    "pretrain": Command(
        "amae.commands.train:pretrain",
        "pre-train a masked autoencoder on T_n and T_u",
        {"manifest": "", "images": "", "index": "", "weights": "", "history": "", "record": ""},
        (ModelSettings, PretrainSettings),
        _COMPUTE,
    ),
    "import-weights": Command(
        "amae.commands.train:import_weights",
        "check a pre-trained autoencoder (or a DenseNet-121 for stage 1), and write it as safetensors of this project",
        {"weights": ""},
        (ModelSettings,),
        ("source", "normalisation"),
    ),
    "train-stage1": Command(
        "amae.commands.train:train_stage1",
        "train the stage 1 head on normal images and synthetic anomalies",
        {"manifest": "", "images": "", "index": "", "lungs": "", "weights": ""}
        | {"head": "", "history": "", "record": ""},
        (Stage1Settings,),
        _COMPUTE,
    ),
    "score-stage1": Command(
        "amae.commands.train:score_stage1",
        "score T_u and the test images with stage 1",
        {"manifest": "", "images": "", "index": "", "weights": "", "head": "", "stage1-scores": ""},
        options=("device", "gpus"),
    ),
    "score-probe": Command(
        "amae.commands.compare:score_probe",
        "score T_u with the positive-unlabeled probe, out of fold, for pseudo-labels of our own",
        {"manifest": "", "images": "", "index": "", "weights": "", "probe-scores": ""},
        options=("settings", "device", "gpus"),
    ),
    "export-pseudo-labels": Command(
        "amae.commands.pseudolabels:export_pseudo_labels",
        "decide which unlabeled images become pseudo-normal and pseudo-abnormal",
        {"unlabeled-scores": "", "pseudo-labels": ""},
        (PseudoLabelSettings,),
    ),
    "train-module": Command(
        "amae.commands.train:train_module",
        "adapt the autoencoder as module A or B, or on T_n and T_u pooled",
        {"manifest": "", "images": "", "index": "", "weights": "", "model": "", "history": "", "record": ""},
        (ModuleSettings,),
        ("module", "pseudo-labels", *_COMPUTE),
    ),
    "reconstruct": Command(
        "amae.commands.train:reconstruct",
        "reconstruct the test images with both modules, and score them",
        {"manifest": "", "images": "", "index": "", "model-a": "", "model-b": ""}
        | {"reconstruction-scores": "", "maps": "", "record": ""},
        (ReconstructionSettings,),
        _COMPUTE,
    ),
    "score-pooled": Command(
        "amae.commands.train:score_pooled",
        "score the test images with the baseline Mask Rec.",
        {"manifest": "", "images": "", "index": "", "model": "", "scores": ""},
        (ReconstructionSettings,),
        _COMPUTE,
    ),
    "compare": Command(
        "amae.commands.compare:compare",
        "train a comparator, and score the test images with it",
        {"manifest": "", "images": "", "index": "", "state": "", "history": "", "record": "", "scores": ""},
        options=("method", "protocol", "settings", "lungs", "weights", *_COMPUTE),
    ),
    "export": Command(
        "amae.commands.predict:export_model",
        "put a trained model into one file, to score new radiographs with",
        {"manifest": "", "images": "", "index": "", "lungs-table": "coverage of every lung mask (.csv)"}
        | {"weights": "", "head": "", "model-a": "", "model-b": ""}
        | {"model": "model to write (.safetensors)", "card": "model card to write (.md)"},
        (ReconstructionSettings,),
        ("dataset", "conversion", "square", *_COMPUTE),
    ),
    "inspect": Command("amae.commands.predict:inspect_model", "print what a model is", {}, arguments=("exported",)),
    "predict": Command(
        "amae.commands.predict:predict_files",
        "score new radiographs: table, heat maps, overlays, contact sheet, and one page that opens offline",
        {"model": "model made by amae export (.safetensors)"},
        options=("output", "score", "specificity", "dicom", "workers", "device", "gpus"),
        arguments=("radiographs",),
    ),
    "compute-metrics": Command(
        "amae.commands.evaluate:compute_metrics",
        "join the scores with the test labels, and compute AUC and average precision",
        {"manifest": "", "stage1-scores": "", "scores": "", "metrics": ""},
        options=("reconstruction-scores", "seed"),
    ),
    "measure-scores": Command(
        "amae.commands.evaluate:measure_scores",
        "compute the metrics of several tables of scores",
        {"manifest": "", "metrics": ""},
        options=("score-tables", "seed"),
    ),
    "summarise-metrics": Command(
        "amae.commands.evaluate:summarise_metrics",
        "mean and spread of the metrics over seeds",
        {"table": "summary to write (.csv)"},
        options=("metrics-of-seeds",),
    ),
    "diagnose-pseudo-labels": Command(
        "amae.commands.evaluate:diagnose_pseudo_labels",
        "purity and counts of the pseudo-labels, by the hidden labels",
        {"pseudo-labels": "", "hidden-labels": "", "table": "diagnosis to write (.csv)", "figure": ""},
    ),
    "plot-training": Command(
        "amae.commands.evaluate:plot_training",
        "plot the training curves",
        {"figure": ""},
        options=("histories",),
    ),
    "plot-scores": Command(
        "amae.commands.evaluate:plot_scores",
        "plot ROC and precision-recall curves of every score",
        {"roc": "ROC curves to write (.png)", "precision-recall": "precision-recall curves to write (.png)"},
        options=("scores-of-seeds", "seeds"),
    ),
    "plot-histograms": Command(
        "amae.commands.evaluate:plot_histograms",
        "plot the scores of normal and abnormal test images",
        {"scores": "", "figure": ""},
    ),
    "localise": Command(
        "amae.commands.experiments:localise",
        "measure the anomaly maps against boxes",
        {"manifest": "", "images": "", "index": "", "maps": "", "table": "localisation metrics to write (.csv)"},
        options=("boxes", "seed"),
    ),
    "plot-localisation": Command(
        "amae.commands.experiments:plot_localisation",
        "show boxes and maps of images with boxes",
        {"images": "", "index": "", "maps": "", "scores": "", "figure": ""},
        options=("boxes", "score", "rows"),
    ),
    "audit": Command(
        "amae.commands.experiments:audit",
        "measure shortcuts, and every score in the groups that comparisons leave out",
        {"manifest": "", "images": "", "index": "", "table": "audit to write (.csv)", "text": ""},
        options=("score-tables", "seeds", "dataset"),
    ),
    "tabulate-results": Command(
        "amae.commands.experiments:tabulate_results",
        "methods beside what the papers print",
        {"published": "", "table": "results to write (.csv)", "markdown": "", "latex": ""},
        options=("methods", "dataset", "anomaly-ratio", "reference"),
    ),
    "tabulate-costs": Command(
        "amae.commands.experiments:tabulate_costs",
        "what each method takes",
        {"table": "costs to write (.csv)", "markdown": "", "latex": ""},
        options=("records",),
    ),
    "plot-sweep": Command(
        "amae.commands.experiments:plot_sweep",
        "plot AUC against the anomaly ratio",
        {"published": "", "figure": ""},
        options=("methods", "dataset"),
    ),
    "plot-comparison": Command(
        "amae.commands.experiments:plot_comparison",
        "plot AUC of methods with Welch tests",
        {"figure": ""},
        options=("methods", "reference"),
    ),
    "plot-panels": Command(
        "amae.commands.experiments:plot_histogram_panels",
        "plot histograms of one score from several tables",
        {"figure": ""},
        options=("panels", "score"),
    ),
    "plot-gallery": Command(
        "amae.commands.evaluate:plot_gallery",
        "show image, masked input, both reconstructions and the map for telling examples",
        {"images": "", "index": "", "scores": "", "maps": "", "figure": ""},
        options=("score", "rows", "boxes"),
    ),
}


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(prog="amae", description=amae.__doc__)
    parser.add_argument("--version", action="version", version=amae.__version__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        sub = subparsers.add_parser(name, help=command.meaning, description=command.meaning.capitalize() + ".")
        group = sub.add_argument_group("files")
        for file, meaning in command.files.items():
            group.add_argument(f"--{file}", type=Path, required=True, metavar="FILE", help=meaning or FILES[file])
        for argument in command.arguments:
            sub.add_argument(argument, **ARGUMENTS[argument])
        for option in command.options:
            sub.add_argument(f"--{option}", **OPTIONS[option])
        for settings in command.settings:
            add_options(sub, settings)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one sub-command. Returns the exit status: 0, or 2 after what a user can put right, told in one line."""
    options = make_parser().parse_args(arguments)
    module, function = COMMANDS[options.command].function.split(":")
    try:
        join()
        getattr(importlib.import_module(module), function)(options)
    except (InputError, OSError, MemoryError, RuntimeError) as error:
        if not (reason := explain(error, options)):
            raise
        print(f"amae {options.command}: error: {reason}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"amae {options.command}: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
