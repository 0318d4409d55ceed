"""Stage 1 and the pseudo-labels (Sec. 2.1 and 2.2)."""

from amae.plan import compared, stage2


rule train_stage1:
    """Train the head that separates normal images from synthetic anomalies, on frozen features."""
    input:
        **PACKED,
        lungs=f"{DATA}/lungs.npy",
        weights=WEIGHTS,
    output:
        head=f"{RUN}/stage1/head.safetensors",
        history=f"{RUN}/stage1/history.csv",
        record=f"{RUN}/stage1/run.json",
    log:
        log_of("train_stage1"),
    benchmark:
        benchmark_of("train_stage1")
    conda:
        "../../environment.yml"
    threads: CORES
    resources:
        **needs("train_stage1"),
    params:
        settings=settings_of("stage1"),
        code=code("train_stage1"),
    shell:
        "amae train-stage1 --manifest {input.manifest:q} --images {input.images:q} --index {input.index:q}"
        " --lungs {input.lungs:q} --weights {input.weights:q} --head {output.head:q}"
        " --history {output.history:q} --record {output.record:q} {params.settings} --seed {wildcards.seed}"
        " --device {resources.device} --gpus {resources.gpu} --jobs-per-card {resources.jobs_per_card}"
        " 2>&1 | tee {log:q}"


rule score_stage1:
    """Score the unlabeled and the test images with stage 1."""
    input:
        **PACKED,
        weights=WEIGHTS,
        head=made("stage1", f"{RUN}/stage1/head.safetensors"),
    output:
        scores=f"{RUN}/stage1/scores.csv",
    log:
        log_of("score_stage1"),
    benchmark:
        benchmark_of("score_stage1")
    conda:
        "../../environment.yml"
    threads: CORES
    resources:
        **needs("score_stage1"),
    params:
        code=code("score_stage1"),
    shell:
        "amae score-stage1 --manifest {input.manifest:q} --images {input.images:q} --index {input.index:q}"
        " --weights {input.weights:q} --head {input.head:q} --stage1-scores {output.scores:q}"
        " --device {resources.device} --gpus {resources.gpu} --jobs-per-card {resources.jobs_per_card}"
        " 2>&1 | tee {log:q}"


rule score_probe:
    """Score the unlabeled images with the positive-unlabeled probe, for pseudo-labels that are not the paper's."""
    input:
        **PACKED,
        weights=WEIGHTS,
    output:
        scores=f"{RUN}/probe/scores.csv",
    log:
        log_of("score_probe"),
    benchmark:
        benchmark_of("score_probe")
    conda:
        "../../environment.yml"
    threads: CORES
    resources:
        **needs("score_probe"),
    params:
        settings=plan(compared.method_settings, "variant", method="pu_probe"),
        code=code("score_probe"),
    shell:
        "amae score-probe --manifest {input.manifest:q} --images {input.images:q} --index {input.index:q}"
        " --weights {input.weights:q} {params.settings} --probe-scores {output.scores:q}"
        " --device {resources.device} --gpus {resources.gpu} --jobs-per-card {resources.jobs_per_card}"
        " 2>&1 | tee {log:q}"


rule score_detector:
    """Write the detector's probabilities of the unlabeled images, for pseudo-labels that are not the paper's."""
    input:
        state=f"{RUN}/comparators/detector_Y/state.safetensors",
        manifest=PACKED["manifest"],
        index=PACKED["index"],
    output:
        scores=f"{RUN}/detector/scores.csv",
    log:
        log_of("score_detector"),
    benchmark:
        benchmark_of("score_detector")
    conda:
        "../../environment.yml"
    resources:
        **needs("score_detector"),
    params:
        code=code("score_detector"),
    shell:
        "amae score-detector --trained-detector {input.state:q} --manifest {input.manifest:q} --index {input.index:q}"
        " --detector-ranking {output.scores:q} 2>&1 | tee {log:q}"


rule export_pseudo_labels:
    """Decide which unlabeled images become pseudo-normal and pseudo-abnormal, in a table to read."""
    input:
        scores=plan(stage2.ranking, "dataset", "variant", "seed"),
    output:
        pseudo_labels=f"{RUN}/pseudo_labels.csv",
    log:
        log_of("export_pseudo_labels"),
    benchmark:
        benchmark_of("export_pseudo_labels")
    conda:
        "../../environment.yml"
    resources:
        **needs("export_pseudo_labels"),
    params:
        settings=settings_of("pseudo_labels"),
        code=code("export_pseudo_labels"),
    shell:
        "amae export-pseudo-labels --unlabeled-scores {input.scores:q} --labels {output.pseudo_labels:q}"
        " {params.settings} 2>&1 | tee {log:q}"
