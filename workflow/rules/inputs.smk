"""Functions of wildcards: where weights and other files come from, and what a command is told of them."""


def weights_of(wildcards):
    """The weights that are configured: a name or a path."""
    return VARIANTS[variant_of(wildcards)].get("weights") or dataset_of(wildcards)["weights"]


def sizes_of_weights(wildcards):
    """The configured sizes as options; named weights of other sizes are refused.

    A param function: Snakemake overlooks what an input function raises wherever the output is there already.
    """
    try:
        check_weights(weights_of(wildcards), SETTINGS[""]["mae"])
    except InputError as error:
        raise WorkflowError(f"data set {wildcards.dataset}: {error}") from None
    return options(SETTINGS[""]["mae"])


def weights_source(wildcards):
    """The file that f_0 and g_0 are read from."""
    weights = weights_of(wildcards)
    if weights == "embedded":
        return PACKAGE / "mae" / "embedded.safetensors"
    if weights in SOURCE_WEIGHTS:
        return f"{RESULTS}/sources/weights/{SOURCE_WEIGHTS[weights]}"
    return f"{RESULTS}/{wildcards.dataset}/pretraining/mae.safetensors" if weights == "pretrain" else weights


def normalisation(wildcards):
    """What published weights were trained with: ImageNet's are known by their file; a variant tells it of another."""
    if Path(weights_source(wildcards)).name == IMAGENET_WEIGHTS:
        return "imagenet"
    return VARIANTS[variant_of(wildcards)].get("normalisation", "chest")


def name_of_weights(wildcards):
    """The name in the catalogue of a file of published weights."""
    return next(name for name, file in SOURCE_WEIGHTS.items() if file == wildcards.file)


hash_of = cache(sha256)


def content_of(source):
    """A param function: the hash of a file that a person may edit, which counts whatever the clock said then."""

    def content(wildcards):
        path = source(wildcards)
        return hash_of(path) if path and Path(path).is_file() and not Path(path).is_relative_to(RESULTS) else ""

    return content


def optional(option, name):
    """A param function: an input file as an option, where the job has that input."""

    def words(wildcards, input):
        return shlex.join([f"--{option}", str(input[name])]) if input[name] else ""

    return words


def folder_to_predict(wildcards):
    """The folder of new radiographs; where there is none, a file name that Snakemake misses and so tells what to do."""
    return config["predict"]["folder"] or "key predict.folder: null, expected the folder of the radiographs to score"
