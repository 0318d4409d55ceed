"""Files and options that sub-commands share by name, and what the help says of them."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any


def whole(minimum: int) -> Callable[[str], int]:
    """The type of an option: a whole number of at least `minimum`."""

    def number(text: str) -> int:
        if not text.strip().lstrip("+-").isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number of at least {minimum}")
        return int(text)

    return number


FILES = {
    "figure": "picture to write (.png)",
    "head": "stage 1 head (.safetensors)",
    "hidden-labels": "labels of the unlabeled images (.csv), for diagnosis only",
    "history": "training history (.csv)",
    "images": "packed images (.npy)",
    "index": "table of the packed images (.csv)",
    "lung-images": "packed images of 256 px, to find lungs in (.npy)",
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
    "unlabeled-scores": "probabilities of T_u, of stage 1 or of the probe (.csv)",
    "weights": "pre-trained autoencoder f_0, g_0 (.safetensors)",
}

OPTIONS: dict[str, dict[str, Any]] = {
    "abnormal": {"type": float, "default": 0.4, "help": "share of images with a finding (default: %(default)s)"},
    "allowed-failures": {"type": whole(0), "default": 0, "help": "unreadable images allowed (default: %(default)s)"},
    "boxes": {"type": Path, "help": "table of finding boxes, in original pixels (.csv)"},
    "calibration": {
        "type": whole(0),
        "default": 0,
        "help": "further normal images, kept for calibration (default: %(default)s)",
    },
    "caveats": {"default": "", "help": "sentences to add to the caption (default: none)"},
    "conversion": {
        "choices": ["minmax", "voi"],
        "default": "minmax",
        "help": "grey levels: minmax as published, voi through the DICOM window (default: %(default)s)",
    },
    "count": {"type": whole(1), "default": 1000, "help": "number of images (default: %(default)s)"},
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
    "every-printed": {
        "action": "store_true",
        "help": "also list methods that were only printed (default: %(default)s)",
    },
    "exposure": {
        "action": "store_true",
        "help": "weights are Medical-MAE's of chest X-rays, so in_pretraining counts (default: %(default)s)",
    },
    "folder": {"type": Path, "required": True, "help": "folder of the data set; simulate and fetch-source write to it"},
    "gpus": {"type": whole(0), "default": 1, "help": "GPUs granted; 0 forces the CPU (default: %(default)s)"},
    "histories": {"type": Path, "nargs": "+", "required": True, "help": "training histories (.csv)"},
    "image-size": {
        "type": whole(1),
        "default": 224,
        "help": "side of the square images, in pixels (default: %(default)s)",
    },
    "module": {"choices": ["A", "B", "pooled"], "required": True, "help": "module to train"},
    "anomaly-ratio": {"type": float, "help": "abnormal share of T_u; without it, a data set has no T_u"},
    "dataset": {
        "required": True,
        "help": "name of the data set, for captions and the card; where sources are fetched, indexed and listed: rsna, "
        "vindr, nih, paediatric, and to fetch also weights, metadata or a name in amae/sources/sources.csv",
    },
    "kind": {"required": True, "help": "kind of the data set; values are printed for rsna, vindr and nih"},
    "lungs": {"type": Path, "help": "packed lung masks, where the method needs them (.npy)"},
    "metadata": {"type": Path, "help": "folder of further tables: mapping to NIH, pre-training list"},
    "method": {"required": True, "help": "comparator: a module of amae.comparators"},
    "methods": {
        "required": True,
        "help": "methods, as a JSON list: method, protocol, taxonomy, score (folder/column), scores (a table for each "
        "seed); optional: note, anomaly_ratio",
    },
    "normalisation": {
        "choices": ["chest", "imagenet"],
        "default": "chest",
        "help": "what published weights were trained with (default: %(default)s)",
    },
    "output": {"type": Path, "required": True, "metavar": "FOLDER", "help": "folder to write to; new, or empty"},
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
    "rows": {
        "type": whole(1),
        "default": 4,
        "help": "images: of each kind in the gallery, in all beside maps and boxes (default: %(default)s)",
    },
    "score": {
        "default": "inter",
        "help": "stage1, inter, mask_rec, error_ratio or error_ratio_patch: ranks the images, and what predict "
        "calls abnormal (default: %(default)s)",
    },
    "scores-of-seeds": {"type": Path, "nargs": "+", "required": True, "help": "scores, one table per seed (.csv)"},
    "seeds": {"type": whole(0), "nargs": "+", "required": True, "help": "seeds of these tables, in the same order"},
    "seed": {"type": whole(0), "default": 0, "help": "seed (default: %(default)s)"},
    "source": {"type": Path, "required": True, "help": "published .pth or .safetensors file"},
    "specificity": {
        "type": float,
        "default": 0.95,
        "help": "share of normal images to call normal (default: %(default)s)",
    },
    "sexes": {"nargs": "+", "choices": ["M", "F"], "help": "nih only: whose images to take (default: both)"},
    "splits": {"help": "splits to draw, as JSON; without it the table's split column counts"},
    "square": {
        "choices": ["squash", "pad", "crop"],
        "default": "squash",
        "help": "how an image becomes square (default: %(default)s)",
    },
    "workers": {"type": whole(1), "default": 1, "help": "processes (default: %(default)s)"},
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
