"""Configuration, paths and input functions that the other rules share."""

import shlex
from functools import cache
from pathlib import Path

import amae
from amae.comparators import METHODS, column, load_method
from amae.plan.check import all_variants, check, check_weights, options, resolve, typed
from amae.runtime.errors import InputError
from amae.runtime.files import sha256
from amae.runtime.fingerprint import fingerprint
from amae.runtime.lock import check_folder, claim, has_nvidia
from snakemake.exceptions import WorkflowError

config.update(typed(config))
try:
    check(config, " + ".join(map(str, workflow.configfiles)))
    check_folder(config["results"])
except InputError as error:
    raise WorkflowError(str(error)) from None

# A variant departs from the main run in some settings. Its folder is its name and a slash; the main run's is "".
VARIANTS = all_variants(config)
SETTINGS = {name: resolve(config, changes) for name, changes in VARIANTS.items()}
# What a stage depends on, of what a variant can change: a stage that is the same is made once, in the main run.
DEPENDS = {"manifest": {"anomaly_ratio"}, "weights": {"weights"}, "stage1": {"weights", "stage1"}}
DEPENDS["stage1_scores"] = {*DEPENDS["manifest"], *DEPENDS["stage1"]}
DEPENDS["pseudo_labels"] = {*DEPENDS["stage1_scores"], "pseudo_labels"}
DEPENDS["modules"] = {*DEPENDS["pseudo_labels"], "modules"}
DEPENDS["comparators"] = {*DEPENDS["manifest"], *DEPENDS["weights"]}
DEPENDS["pooled"] = {*DEPENDS["comparators"], "modules"}

PACKAGE = Path(amae.__file__).parent
RESULTS = config["results"].rstrip("/")
# Cores of a job with a network: all, but few where it has a GPU, so that other jobs run beside it.
GRANTED = workflow.global_resources.get("gpu").value != 0  # None: no limit was set
CORES = 2 if GRANTED and config["device"] != "cpu" and has_nvidia() else 64
DATA = f"{RESULTS}/{{dataset}}"  # everything of one data set
RUN = f"{DATA}/{{variant}}seed{{seed}}"  # everything of one replicate
LOGS = f"{DATA}/logs/{{variant}}seed{{seed}}"


def any_of(names):
    """A pattern that matches these names and no others; nothing, where there are none."""
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    dataset=any_of(config["datasets"]),
    variant=any_of([""] + [f"{name}/" for name in VARIANTS if name]),
    seed=r"\d+",
    module="[AB]",
    method=any_of(METHODS),
    protocol="[NY]",


def hold_results():
    """Refuse to run beside another run in the same folder of results."""
    try:
        claim(RESULTS)
    except InputError as error:
        raise WorkflowError(str(error)) from None


def code(command):
    """Fingerprint of all code behind a command, so that an edit reruns exactly the rules it touches."""
    return fingerprint(f"amae.commands.{command}")


def dataset_of(wildcards):
    """Configuration of the data set that a job belongs to."""
    return config["datasets"][wildcards.dataset]


def names_of_kind(*kinds):
    """Names of the data sets of these kinds."""
    return [name for name, dataset in config["datasets"].items() if dataset["kind"] in kinds]


def variant_of(wildcards):
    """Name of the variant that a job belongs to; "" for the main run."""
    return wildcards.variant.rstrip("/")


def quoted_setting(key):
    """A param function: one key of the data set's configuration, quoted for the shell."""

    def value(wildcards):
        return shlex.quote(str(dataset_of(wildcards)[key]))

    return value


def settings_of(section):
    """A param function: one section of the variant's settings, as options."""

    def words(wildcards):
        return options(SETTINGS[variant_of(wildcards)][section])

    return words


def made(stage, file):
    """An input function: a file that `stage` makes, in this variant's run or in the main run, which it may share."""

    def path(wildcards):
        changed = VARIANTS[variant_of(wildcards)].keys() & DEPENDS[stage]
        return expand(file, **{**wildcards, "variant": wildcards.variant if changed else ""})

    return path


MANIFEST = made("manifest", f"{DATA}/{{variant}}manifest.csv")
WEIGHTS = made("weights", f"{DATA}/{{variant}}mae.safetensors")


def of_every_seed(pattern):
    """An input function: one file for each configured seed."""

    def files(wildcards):
        return expand(pattern, seed=config["seeds"], **wildcards)

    return files
