"""Data sets: what the configuration says of them, where their files lie, and how their splits are drawn."""

import json
from amae.data.manifest import given_splits
from amae.sources.catalogue import catalogue

PUBLISHED_KINDS = ("rsna", "vindr", "nih", "paediatric")
SOURCE_WEIGHTS = {source.name: source.file for source in catalogue() if source.dataset == "weights"}
# By name, or as files of one's own: those that were pre-trained on the images of Medical-MAE's list.
CHEST_WEIGHTS = {word for pair in SOURCE_WEIGHTS.items() if "imagenet" not in pair[0] for word in pair}
IMAGENET_WEIGHTS = SOURCE_WEIGHTS["weights-vit-s-imagenet"]


def require_own_files(name):
    """Refuse a data set for which a file or folder that its keys name is not there."""
    dataset = config["datasets"][name]
    for key in ("table", "root", "boxes", "folder", "repartition", "metadata", "weights"):
        given = dataset.get(key)
        if key == "weights" and given in ("embedded", "pretrain", *SOURCE_WEIGHTS):
            continue
        if given and not Path(given).is_relative_to(RESULTS) and not Path(given).exists():
            raise WorkflowError(f"key datasets.{name}.{key}: {given}: no such file or folder")


require_own_files(config["dataset"])


@cache
def named_splits(dataset):
    """The splits that the table of own data names itself, calibration aside; none where they are drawn."""
    configured = config["datasets"][dataset]
    if configured["kind"] != "own" or not Path(configured["table"]).is_file():
        return set()
    try:
        return given_splits(configured["table"]) - {"calibration"}
    except InputError as error:
        raise WorkflowError(str(error)) from None


def has_unlabeled(dataset):
    """Whether a data set has unlabeled images, so that protocol Y can be followed."""
    configured = config["datasets"][dataset]
    if named := named_splits(dataset):
        return "train_unlabeled" in named
    return configured["kind"] not in ("rsna", "vindr", "nih") or configured["anomaly_ratio"] is not None


def with_unlabeled(*patterns):
    """An input function: these files, where the data set has unlabeled images, so that stage 2 makes them."""

    def files(wildcards):
        return expand(patterns, **wildcards) if has_unlabeled(wildcards.dataset) else []

    return files


def table_of_images(wildcards):
    """The table that a data set starts from: simulated, or the user's own."""
    return dataset_of(wildcards).get("table") or f"{RESULTS}/{wildcards.dataset}/raw/labels.csv"


def calibration_images(wildcards):
    """How many normal images to simulate for calibration, on top of the others."""
    return dataset_of(wildcards)["splits"].get("calibration", 0)


def raw_images(wildcards):
    """Simulated DICOM files, as one folder; a user's own files are named by the manifest alone."""
    simulated = wildcards.dataset in names_of_kind("simulated")
    return f"{RESULTS}/{wildcards.dataset}/raw/dicom" if simulated else []


def boxes_of(wildcards):
    """Finding boxes, where the data set has them; for a published one the table may be empty."""
    kind = dataset_of(wildcards)["kind"]
    if kind == "own":
        return dataset_of(wildcards).get("boxes") or []
    return f"{RESULTS}/{wildcards.dataset}/{'raw/' if kind == 'simulated' else ''}boxes.csv"


def fetched(wildcards):
    """The record of what was fetched for a published data set; nothing where a folder is given."""
    dataset = dataset_of(wildcards)
    return [] if dataset["folder"] else f"{RESULTS}/sources/{dataset['kind']}/fetched"


def source_options(wildcards):
    """A published data set as options of `amae index-source` and `amae list-source`."""
    dataset = dataset_of(wildcards)
    folder = dataset["folder"] or f"{RESULTS}/sources/{dataset['kind']}"
    words = ["--dataset", dataset["kind"], "--folder", folder]
    words += [word for key in ("repartition", "metadata") if dataset.get(key) for word in (f"--{key}", dataset[key])]
    words += ["--patient-disjoint"] if dataset.get("patient_disjoint") else []
    words += ["--sexes", *dataset["sexes"]] if dataset.get("sexes") else []
    if dataset["kind"] == "paediatric":
        splits = splits_of_variant(wildcards) if "variant" in wildcards.keys() else dataset["splits"]
        return shlex.join([*words, "--splits", json.dumps(splits)])
    ratio = dataset["anomaly_ratio"]
    if "variant" in wildcards.keys():
        ratio = ratio_of_variant(wildcards).get("anomaly_ratio", ratio)
    return shlex.join(words if ratio is None else [*words, "--anomaly-ratio", str(ratio)])


def index_options(ratio_counts):
    """A param function: root folder and splits; the anomaly ratio only where `ratio_counts`."""

    def words(wildcards):
        dataset = dataset_of(wildcards)
        found = ["--root", dataset["root"]] if dataset.get("root") else []
        splits = splits_of_variant(wildcards) if ratio_counts else dataset["splits"]
        if splits and not ratio_counts and splits["anomaly_ratio"] is not None:
            splits = splits | {"anomaly_ratio": 0}
        return shlex.join([*found, "--splits", json.dumps(splits)] if splits else found)

    return words


def splits_of_variant(wildcards):
    """Splits of a data set at a variant's anomaly ratio; another one may need the images kept for calibration."""
    ratio = ratio_of_variant(wildcards)
    splits = dataset_of(wildcards)["splits"]
    return splits | ratio | {"calibration": 0} if ratio else splits


def ratio_of_variant(wildcards):
    """The anomaly ratio that a variant changes, if it does; refused where the unlabeled images are not drawn."""
    name, variant, dataset = wildcards.dataset, variant_of(wildcards), dataset_of(wildcards)
    changes = VARIANTS[variant]
    drawn = dataset.get("splits") or dataset.get("anomaly_ratio") is not None
    if "anomaly_ratio" in changes and (named_splits(name) or not drawn):
        why = "its table names the splits" if named_splits(name) else "its splits or its anomaly_ratio is null"
        raise WorkflowError(
            f"variant {variant}: anomaly_ratio {changes['anomaly_ratio']:g} contradicts datasets.{name}, whose "
            f"unlabeled images are not drawn ({why}); leave out this variant and figure3a"
        )
    return {key: value for key, value in changes.items() if key == "anomaly_ratio"}


def anomaly_ratio(dataset):
    """The main run's anomaly ratio, where one is configured; None otherwise."""
    configured = config["datasets"][dataset]
    return configured.get("anomaly_ratio", (configured.get("splits") or {}).get("anomaly_ratio"))


def main_ratio(wildcards):
    """The main run's anomaly ratio as an option, where there is one."""
    ratio = anomaly_ratio(wildcards.dataset)
    return "" if ratio is None else f"--anomaly-ratio {ratio}"
