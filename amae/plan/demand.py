"""Memory and time that each rule asks a scheduler for, which ends a job that takes more.

They grow with the number and size of the images, and with each attempt after a failure. docs/cluster.md names the
measurements behind them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from amae.plan.compared import own_settings
from amae.plan.datasets import PUBLISHED_KINDS
from amae.plan.variants import settings_of
from amae.plan.watched import files_to_predict
from amae.runtime.files import read_csv

NIH_OF_SEX = {"M": 2_411, "F": 2_008}
PUBLISHED_IMAGES = {"rsna": 13_851, "vindr": 13_394, "nih": 4_419, "paediatric": 5_856}  # at every anomaly ratio
SIDE = 224  # pixels of the images that the amounts below are for
CORE, GPU = 40.0, 2_000.0  # GFLOP/s: half of what a core reaches in a training, as measured; a GPU, assumed


@dataclass(frozen=True)
class Demand:
    """What a rule asks for.

    `memory`: MB of the process, whatever the images; `kilobytes`: more for each image. `gflop`: operations for each
    image and, of a training, each epoch of the settings in `section`; `seconds`: of a core, for each image.
    """

    memory: int = 1_000
    kilobytes: float = 10.0
    gflop: float = 0.0
    seconds: float = 0.0
    section: str | None = None


PLAIN = Demand(1_000, 20)  # all other rules, which read tables and write tables or a figure
DEMANDS = {
    "simulate_radiographs": Demand(1_000, 10, seconds=0.2),
    "fetch_source": Demand(1_000, 100, seconds=1.0),
    "fetch_weights": Demand(1_000, 100, seconds=1.0),
    "convert_images": Demand(1_000, 10, seconds=0.6),
    "segment_lungs": Demand(1_500, 150, seconds=0.05),
    "pretrain_mae": Demand(8_000, 150, gflop=13, section="pretrain"),
    "import_weights": Demand(1_500, 0),
    "train_stage1": Demand(4_000, 250, gflop=10, section="stage1"),
    "score_stage1": Demand(3_000, 150, gflop=10),
    "score_probe": Demand(3_000, 150, gflop=10),
    "train_module": Demand(4_000, 150, gflop=27, section="modules"),
    "reconstruct_test": Demand(4_000, 250, gflop=36),
    "run_comparator": Demand(4_000, 400),
    "export_model": Demand(4_000, 250, gflop=90),
    "combine_models": Demand(4_000, 250, gflop=30),
    "predict_radiographs": Demand(4_000, 20, gflop=150, seconds=1.0),
    "evaluate_model": Demand(4_000, 250, gflop=90, seconds=1.0),
    "audit_scores": Demand(2_000, 150, seconds=0.05),
    "measure_localisation": Demand(2_000, 250, seconds=0.1),
    "plot_localisation": Demand(2_000, 250),
    "plot_gallery": Demand(2_000, 250),
}
COMPARATORS = {  # GFLOP for each image and epoch, at the size of the published recipe; of the others, once
    "ae": 0.3,
    "ae_u": 0.3,
    "ddad": 1.8,
    "ddad_u": 1.8,
    "anatpaste": 14.0,
    "cutpaste": 15.0,
    "fpi": 15.0,
    "pii": 15.0,
    "nsa": 15.0,
    **dict.fromkeys(("detector", "detector_balanced", "detector_masks"), 1.0),
    "detector_plain": 0.5,
    "detector_encoder": 110.0,
    "detector_ratio": 55.0,
    "mask_rec": 27.0,
    "mae_multi": 27.0,
    "two_distributions": 54.0,
}
ON_GPU = (
    "pretrain_mae",
    "train_stage1",
    "score_stage1",
    "score_probe",
    "train_module",
    "reconstruct_test",
    "run_comparator",
    "export_model",
    "combine_models",
    "predict_radiographs",
    "evaluate_model",
)


def gpu_of(config: dict[str, Any], rule: str) -> dict[str, int | str]:
    """The resource gpu of a rule, 1 or 0, and of one that takes a GPU also the resources that its command is given."""
    if rule not in ON_GPU:
        return {"gpu": 0}
    wanted = config["device"]
    return {"gpu": int(wanted != "cpu"), "device": wanted, "jobs_per_card": config["jobs_per_card"]}


def resources_of(config: dict[str, Any], rule: str, call: Callable[..., int]) -> dict[str, Any]:
    """Resources of a rule as Snakemake takes them: memory and time as functions, which `call` calls."""

    def mem_mb(wildcards: Mapping[str, str], attempt: int) -> int:
        return call(memory_of, config, rule, wildcards.get("dataset"), attempt)

    def runtime(wildcards: Mapping[str, str], threads: int, attempt: int) -> int:
        known = {name: value.rstrip("/") for name, value in wildcards.items()}
        return call(runtime_of, config, rule, known, threads, attempt)

    return {"mem_mb": mem_mb, "runtime": runtime, **gpu_of(config, rule)}


def memory_of(config: dict[str, Any], rule: str, dataset: str | None, attempt: int) -> int:
    """Memory of a job in MB: twice as much at the second attempt, and so on."""
    demand = DEMANDS.get(rule, PLAIN)
    images = images_of(config, rule, dataset) * (_side(config) / SIDE) ** 2
    return round(attempt * (demand.memory + demand.kilobytes * images / 1_000))


def runtime_of(config: dict[str, Any], rule: str, wildcards: dict[str, str], threads: int, attempt: int) -> int:
    """Time of a job in minutes, at least 10: twice as much at the second attempt, and so on.

    `wildcards` are the rule's: dataset, variant and method count. A rule of ON_GPU has a GPU unless `device` is cpu.
    """
    return round(attempt * (10 + 60 * hours_of(config, rule, wildcards, threads)))


def hours_of(config: dict[str, Any], rule: str, wildcards: dict[str, str], threads: int) -> float:
    """Hours of a job, as `runtime_of` reckons them without its ten minutes."""
    demand = DEMANDS.get(rule, PLAIN)
    images = images_of(config, rule, wildcards.get("dataset"))
    speed = GPU if rule in ON_GPU and config["device"] != "cpu" else CORE * threads
    seconds = demand.seconds / threads + _gflop(config, rule, wildcards, images) / speed
    return images * seconds / 3600


def _gflop(config: dict[str, Any], rule: str, wildcards: dict[str, str], images: int) -> float:
    """Operations of a job for each image, all epochs together."""
    variant = wildcards.get("variant", "")
    if rule == "run_comparator":
        return _of_comparator(config, variant, wildcards["method"], images)
    demand = DEMANDS.get(rule, PLAIN)
    epochs = settings_of(config, variant)[demand.section].epochs if demand.section else 1
    return epochs * demand.gflop * (_side(config) / SIDE) ** 2


def _of_comparator(config: dict[str, Any], variant: str, method: str, images: int) -> float:
    """Operations of a comparator for each image, all epochs together."""
    settings = own_settings(config, method) or settings_of(config, variant)["modules"]
    epochs = getattr(settings, "epochs", 1)
    if steps := getattr(settings, "updates", 0):  # an epoch of so many steps, whatever the number of images
        epochs *= steps * settings.batch_size / max(1, images)
    return epochs * COMPARATORS.get(method, 10.0)


def images_of(config: dict[str, Any], rule: str, dataset: str | None) -> int:
    """Images that a job reads: of the folder to predict, of the data set, for every anomaly ratio, or a thousand."""
    shards = config["shards"] if rule in ("convert_images", "segment_lungs") else 1
    if rule == "predict_radiographs":
        return len(files_to_predict(config))
    if dataset is None:
        return 1_000
    about = config["datasets"][dataset]
    if about["kind"] == "simulated":
        images = about["images"] + about["splits"].get("calibration", 0)
    elif about["kind"] in PUBLISHED_KINDS:
        images = sum(NIH_OF_SEX[sex] for sex in about.get("sexes", ())) or PUBLISHED_IMAGES[about["kind"]]
    else:
        images = _rows(about["table"])
    return -(-images // shards)


@cache
def _rows(table: str) -> int:
    """Rows of a person's table; none where it is missing, which another check reports."""
    return len(read_csv(table)) if Path(table).is_file() else 0


def _side(config: dict[str, Any]) -> int:
    """Pixels of a side of the packed images."""
    return settings_of(config, "")["mae"].image_size
