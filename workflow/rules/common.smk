"""Configuration, paths and input functions that the other rules share."""

import json
import shlex
from pathlib import Path

import amae
from amae.configuration import check, options, resolve, typed
from amae.errors import InputError
from amae.fingerprint import fingerprint
from snakemake.exceptions import WorkflowError

for key in ("seeds", "overrides", "gallery", "presets"):
    config[key] = typed(config[key])
try:
    check(config, " + ".join(map(str, workflow.configfiles)))
except InputError as error:
    raise WorkflowError(str(error)) from None

SETTINGS = resolve(config)
RESULTS = config["results"].rstrip("/")
DATA = f"{RESULTS}/{{dataset}}"  # everything of one data set
RUN = f"{DATA}/seed{{seed}}"  # everything of one replicate
LOGS = f"{DATA}/logs"
EMBEDDED = Path(amae.__file__).parent / "mae" / "embedded.safetensors"


wildcard_constraints:
    dataset="|".join(config["datasets"]),
    seed=r"\d+",
    module="[AB]",


def code(command):
    """Fingerprint of all code behind a command, so that an edit reruns exactly the rules it touches."""
    return fingerprint(f"amae.commands.{command}")


def dataset_of(wildcards):
    """Configuration of the data set that a job belongs to."""
    return config["datasets"][wildcards.dataset]


def quoted_setting(key):
    """A param function: one key of the data set's configuration, quoted for the shell."""

    def value(wildcards):
        return shlex.quote(str(dataset_of(wildcards)[key]))

    return value


def is_simulated(dataset):
    """Whether the workflow simulates this data set."""
    return config["datasets"][dataset]["kind"] == "simulated"


def table_of_images(wildcards):
    """The table that a data set starts from: simulated, or the user's own."""
    if is_simulated(wildcards.dataset):
        return f"{RESULTS}/{wildcards.dataset}/raw/labels.csv"
    return dataset_of(wildcards)["table"]


def raw_images(wildcards):
    """Simulated DICOM files, as one folder; a user's own files are named by the manifest alone."""
    return (
        f"{RESULTS}/{wildcards.dataset}/raw/dicom"
        if is_simulated(wildcards.dataset)
        else []
    )


def boxes_of(wildcards):
    """Finding boxes, where the data set has them."""
    return (
        f"{RESULTS}/{wildcards.dataset}/raw/boxes.csv"
        if is_simulated(wildcards.dataset)
        else []
    )


def boxes_option(wildcards, input):
    """Finding boxes as an option of `amae plot-gallery`."""
    return f"--boxes {shlex.quote(str(input.boxes))}" if input.boxes else ""


def index_options(wildcards):
    """Root folder and splits as options of `amae index`."""
    dataset = dataset_of(wildcards)
    words = ["--splits", json.dumps(dataset["splits"])] if dataset["splits"] else []
    words += ["--root", dataset["root"]] if dataset.get("root") else []
    return shlex.join(words)


def weights_source(wildcards):
    """The file that f_0 and g_0 are read from."""
    weights = dataset_of(wildcards)["weights"]
    if weights == "pretrain":
        return f"{RESULTS}/{wildcards.dataset}/pretraining/mae.safetensors"
    return EMBEDDED if weights == "embedded" else weights


def of_every_seed(pattern):
    """An input function: one file for each configured seed."""

    def files(wildcards):
        return expand(pattern, seed=config["seeds"], **wildcards)

    return files


def images_of(dataset):
    """What shows that the images of a data set are ready."""
    return expand(
        f"{DATA}/{{name}}",
        dataset=dataset,
        name=["images.npy", "contact_sheet.png", "lungs.png"],
    )


def results_of(dataset):
    """Every table and picture of a data set and the configured seeds."""
    per_seed = ["training.png", "pseudo_labels.png", "histograms.png", "gallery.png"]
    return images_of(dataset) + [
        *expand(
            f"{DATA}/{{name}}",
            dataset=dataset,
            name=["summary.csv", "roc.png", "precision_recall.png"],
        ),
        *expand(
            f"{RUN}/{{name}}", dataset=dataset, seed=config["seeds"], name=per_seed
        ),
    ]
