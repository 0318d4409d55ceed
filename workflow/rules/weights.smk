"""The pre-trained autoencoder that everything starts from."""

from amae.plan import variants, weights

SOURCE = plan(weights.weights_file, "dataset", "variant")


rule pretrain_mae:
    """Pre-train a masked autoencoder on the normal and the unlabeled training images."""
    input:
        **IMAGES,
        manifest=f"{DATA}/manifest.csv",
    output:
        weights=f"{DATA}/pretraining/mae.safetensors",
        history=f"{DATA}/pretraining/history.csv",
        record=f"{DATA}/pretraining/run.json",
    log:
        log_of("pretrain_mae", DATA_LOGS),
    benchmark:
        benchmark_of("pretrain_mae", DATA_LOGS)
    conda:
        "../../environment.yml"
    threads: CORES
    resources:
        **needs("pretrain_mae"),
    params:
        sizes=variants.options_of(config, "", "mae"),
        settings=variants.options_of(config, "", "pretrain"),
        code=code("pretrain"),
    shell:
        "amae pretrain --manifest {input.manifest:q} --images {input.images:q} --index {input.index:q}"
        " --weights {output.weights:q} --history {output.history:q} --record {output.record:q}"
        " {params.sizes} {params.settings}"
        " --device {resources.device} --gpus {resources.gpu} --jobs-per-card {resources.jobs_per_card}"
        " 2>&1 | tee {log:q}"


rule import_weights:
    """Check the pre-trained autoencoder against the configured sizes, and fold a published one; or take an encoder."""
    input:
        source=unless_touched(SOURCE),
    output:
        weights=f"{DATA}/{{variant}}mae.safetensors",
    log:
        log_of("{variant}import_weights", DATA_LOGS),
    benchmark:
        benchmark_of("{variant}import_weights", DATA_LOGS)
    conda:
        "../../environment.yml"
    resources:
        **needs("import_weights"),
    params:
        sizes=plan(weights.sizes_options, "dataset", "variant"),
        origin=plan(weights.origin_option, "dataset", "variant"),
        content=content_of(SOURCE),
        code=code("import_weights"),
    shell:
        "amae import-weights --file {input.source:q} --weights {output.weights:q} {params.sizes}"
        " {params.origin} 2>&1 | tee {log:q}"
