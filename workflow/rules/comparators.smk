"""The systems that the paper compares with, and the baseline Mask Rec."""


rule run_comparator:
    """Train a comparator under protocol N (on T_n) or Y (on T_n and T_u), and score the test images."""
    input:
        manifest=MANIFEST,
        images=f"{DATA}/images.npy",
        index=f"{DATA}/images.csv",
        lungs=needed("lungs", f"{DATA}/lungs.npy"),
        weights=needed("encoder", f"{DATA}/{{variant}}mae.safetensors"),
    output:
        state=f"{RUN}/comparators/{{method}}_{{protocol}}/state.safetensors",
        history=f"{RUN}/comparators/{{method}}_{{protocol}}/history.csv",
        record=f"{RUN}/comparators/{{method}}_{{protocol}}/run.json",
        scores=f"{RUN}/comparators/{{method}}_{{protocol}}/scores.csv",
    log:
        f"{LOGS}/run_comparator_{{method}}_{{protocol}}.log",
    benchmark:
        f"{LOGS}/run_comparator_{{method}}_{{protocol}}.benchmark.tsv"
    conda:
        "../../environment.yml"
    threads: CORES
    resources:
        gpu=1,
        device=config["device"],
    params:
        needs=needed_options,
        settings=comparator_settings(),
        code=code("compare:compare"),
        method_code=method_code,
    shell:
        "amae compare --method {wildcards.method} --protocol {wildcards.protocol} --manifest {input.manifest:q}"
        " --images {input.images:q} --index {input.index:q} {params.needs} --state {output.state:q}"
        " --history {output.history:q} --record {output.record:q} --scores {output.scores:q}"
        " --settings {params.settings:q} --seed {wildcards.seed} --device {resources.device}"
        " --gpus {resources.gpu} 2>&1 | tee {log:q}"


rule train_pooled:
    """Adapt one autoencoder to all training images, normal and unlabeled: the baseline Mask Rec."""
    input:
        manifest=MANIFEST,
        images=f"{DATA}/images.npy",
        index=f"{DATA}/images.csv",
        weights=WEIGHTS,
    output:
        model=f"{RUN}/pooled/mae.safetensors",
        history=f"{RUN}/pooled/history.csv",
        record=f"{RUN}/pooled/run.json",
    log:
        f"{LOGS}/train_pooled.log",
    benchmark:
        f"{LOGS}/train_pooled.benchmark.tsv"
    conda:
        "../../environment.yml"
    threads: CORES
    resources:
        gpu=1,
        device=config["device"],
    params:
        settings=settings_of("modules"),
        code=code("train:train_module"),
    shell:
        "amae train-module --module pooled --manifest {input.manifest:q} --images {input.images:q}"
        " --index {input.index:q} --weights {input.weights:q} --model {output.model:q}"
        " --history {output.history:q} --record {output.record:q} {params.settings} --seed {wildcards.seed}"
        " --device {resources.device} --gpus {resources.gpu} 2>&1 | tee {log:q}"


rule score_pooled:
    """Score the test images with Mask Rec.: the mean squared error over hidden patches."""
    input:
        manifest=MANIFEST,
        images=f"{DATA}/images.npy",
        index=f"{DATA}/images.csv",
        model=made("pooled", f"{RUN}/pooled/mae.safetensors"),
    output:
        scores=f"{RUN}/pooled/scores.csv",
    log:
        f"{LOGS}/score_pooled.log",
    benchmark:
        f"{LOGS}/score_pooled.benchmark.tsv"
    conda:
        "../../environment.yml"
    threads: CORES
    resources:
        gpu=1,
        device=config["device"],
    params:
        settings=settings_of("reconstruction"),
        code=code("train:score_pooled"),
    shell:
        "amae score-pooled --manifest {input.manifest:q} --images {input.images:q} --index {input.index:q}"
        " --model {input.model:q} --scores {output.scores:q} {params.settings} --seed {wildcards.seed}"
        " --device {resources.device} --gpus {resources.gpu} 2>&1 | tee {log:q}"


rule measure_comparison:
    """Metrics of all methods that a run is compared with, in one table."""
    input:
        manifest=MANIFEST,
        index=f"{DATA}/images.csv",
        scores=compared_scores,
    output:
        metrics=f"{RUN}/comparison.csv",
    log:
        f"{LOGS}/measure_comparison.log",
    benchmark:
        f"{LOGS}/measure_comparison.benchmark.tsv"
    conda:
        "../../environment.yml"
    params:
        code=code("evaluate:measure_scores"),
    shell:
        "amae measure-scores --manifest {input.manifest:q} --index {input.index:q}"
        " --score-tables {input.scores:q} --metrics {output.metrics:q} --seed {wildcards.seed} 2>&1 | tee {log:q}"
