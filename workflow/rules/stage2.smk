"""Stage 2: modules A and B, and the reconstruction of the test images (Sec. 2.2 and 2.3)."""


rule train_module:
    """Adapt the pre-trained autoencoder as module A (normal images) or B (pseudo-abnormal images)."""
    input:
        **PACKED,
        weights=WEIGHTS,
        pseudo_labels=made("pseudo_labels", f"{RUN}/pseudo_labels.csv"),
    output:
        model=f"{RUN}/module_{{module}}/mae.safetensors",
        history=f"{RUN}/module_{{module}}/history.csv",
        record=f"{RUN}/module_{{module}}/run.json",
    log:
        log_of("train_module_{module}"),
    benchmark:
        benchmark_of("train_module_{module}")
    conda:
        "../../environment.yml"
    threads: CORES
    resources:
        **needs("train_module"),
    params:
        settings=settings_of("modules"),
        code=code("train_module"),
    shell:
        "amae train-module --module {wildcards.module} --manifest {input.manifest:q} --images {input.images:q}"
        " --index {input.index:q} --weights {input.weights:q} --labels {input.pseudo_labels:q}"
        " --trained-module {output.model:q} --history {output.history:q} --record {output.record:q} {params.settings}"
        " --seed {wildcards.seed}"
        " --device {resources.device} --gpus {resources.gpu} --jobs-per-card {resources.jobs_per_card}"
        " 2>&1 | tee {log:q}"


rule reconstruct_test:
    """Reconstruct the test images with both modules under the same masks, and score them."""
    input:
        **PACKED,
        model_a=made("modules", f"{RUN}/module_A/mae.safetensors"),
        model_b=made("modules", f"{RUN}/module_B/mae.safetensors"),
    output:
        scores=f"{RUN}/reconstruction/scores.csv",
        maps=f"{RUN}/reconstruction/maps.npz",
        record=f"{RUN}/reconstruction/run.json",
    log:
        log_of("reconstruct_test"),
    benchmark:
        benchmark_of("reconstruct_test")
    conda:
        "../../environment.yml"
    threads: CORES
    resources:
        **needs("reconstruct_test"),
    params:
        settings=settings_of("reconstruction"),
        code=code("reconstruct"),
    shell:
        "amae reconstruct --manifest {input.manifest:q} --images {input.images:q} --index {input.index:q}"
        " --model-a {input.model_a:q} --model-b {input.model_b:q} --reconstruction-scores {output.scores:q}"
        " --maps {output.maps:q} --record {output.record:q} {params.settings} --seed {wildcards.seed}"
        " --device {resources.device} --gpus {resources.gpu} --jobs-per-card {resources.jobs_per_card}"
        " 2>&1 | tee {log:q}"
