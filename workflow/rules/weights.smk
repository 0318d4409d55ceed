"""The pre-trained autoencoder that everything starts from."""


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


rule pretrain_mae:
    """Pre-train a masked autoencoder on the normal and the unlabeled training images."""
    input:
        manifest=f"{DATA}/manifest.csv",
        images=f"{DATA}/images.npy",
        index=f"{DATA}/images.csv",
    output:
        weights=f"{DATA}/pretraining/mae.safetensors",
        history=f"{DATA}/pretraining/history.csv",
        record=f"{DATA}/pretraining/run.json",
    log:
        f"{DATA}/logs/pretrain_mae.log",
    benchmark:
        f"{DATA}/logs/pretrain_mae.benchmark.tsv"
    conda:
        "../../environment.yml"
    threads: CORES
    resources:
        gpu=1,
        device=config["device"],
    params:
        sizes=options(SETTINGS[""]["mae"]),
        settings=options(SETTINGS[""]["pretrain"]),
        code=code("train:pretrain"),
    shell:
        "amae pretrain --manifest {input.manifest:q} --images {input.images:q} --index {input.index:q}"
        " --weights {output.weights:q} --history {output.history:q} --record {output.record:q}"
        " {params.sizes} {params.settings} --device {resources.device} --gpus {resources.gpu} 2>&1 | tee {log:q}"


rule import_weights:
    """Check the pre-trained autoencoder against the configured sizes, and fold a published one; or take a DenseNet."""
    input:
        source=weights_source,
    output:
        weights=f"{DATA}/{{variant}}mae.safetensors",
    log:
        f"{DATA}/logs/{{variant}}import_weights.log",
    benchmark:
        f"{DATA}/logs/{{variant}}import_weights.benchmark.tsv"
    conda:
        "../../environment.yml"
    params:
        sizes=sizes_of_weights,
        normalisation=normalisation,
        content=content_of(weights_source),
        code=code("train:import_weights"),
    shell:
        "amae import-weights --source {input.source:q} --weights {output.weights:q} {params.sizes}"
        " --normalisation {params.normalisation} 2>&1 | tee {log:q}"
