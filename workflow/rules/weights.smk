"""The pre-trained autoencoder that everything starts from."""


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
