"""The systems that a run is compared with, the baseline Mask Rec. among them."""

from amae.plan import compared, splits

BACKBONE = plan(compared.needed_backbone, "method")


rule run_comparator:
    """Train a comparator under protocol N (on T_n) or Y (on T_n and T_u), and score the test images."""
    input:
        **PACKED,
        lungs=plan(compared.needed_lungs, "dataset", "method"),
        weights=plan(compared.needed_weights, "dataset", "variant", "method"),
        backbone=unless_touched(BACKBONE),
    output:
        state=f"{RUN}/comparators/{{method}}_{{protocol}}/state.safetensors",
        history=f"{RUN}/comparators/{{method}}_{{protocol}}/history.csv",
        record=f"{RUN}/comparators/{{method}}_{{protocol}}/run.json",
        scores=f"{RUN}/comparators/{{method}}_{{protocol}}/scores.csv",
    log:
        log_of("run_comparator_{method}_{protocol}"),
    benchmark:
        benchmark_of("run_comparator_{method}_{protocol}")
    conda:
        "../../environment.yml"
    threads: CORES
    resources:
        **needs("run_comparator"),
    params:
        needs=optional("lungs", "weights"),
        settings=plan(compared.method_settings, "variant", "method"),
        content=content_of(BACKBONE),
        code=plan(compared.method_code, "method"),
    shell:
        "amae compare {wildcards.method} --protocol {wildcards.protocol} --manifest {input.manifest:q}"
        " --images {input.images:q} --index {input.index:q} {params.needs} --state {output.state:q}"
        " --history {output.history:q} --record {output.record:q} --scores {output.scores:q}"
        " {params.settings} --seed {wildcards.seed}"
        " --device {resources.device} --gpus {resources.gpu} --jobs-per-card {resources.jobs_per_card}"
        " 2>&1 | tee {log:q}"


rule measure_comparison:
    """Metrics of all methods that a run is compared with, in one table."""
    input:
        **TESTED,
        scores=plan(compared.compared_scores, "dataset", "variant", "seed"),
    output:
        metrics=f"{RUN}/comparison.csv",
    log:
        log_of("measure_comparison"),
    benchmark:
        benchmark_of("measure_comparison")
    conda:
        "../../environment.yml"
    resources:
        **needs("measure_comparison"),
    params:
        code=code("measure_scores"),
    shell:
        "amae measure-scores --manifest {input.manifest:q} --index {input.index:q}"
        " --score-tables {input.scores:q} --metrics {output.metrics:q} --seed {wildcards.seed} 2>&1 | tee {log:q}"


rule check_setting:
    """Check without labels how well T_u is separated from T_n, by what, and how much of it is abnormal."""
    input:
        **PACKED,
        state=f"{RUN}/comparators/detector_Y/state.safetensors",
    output:
        table=f"{RUN}/setting.csv",
    log:
        log_of("check_setting"),
    benchmark:
        benchmark_of("check_setting")
    conda:
        "../../environment.yml"
    resources:
        **needs("check_setting"),
    params:
        ratio=plan(splits.setting_options, "dataset", "variant"),
        code=code("check_setting"),
    shell:
        "amae check-setting --trained-detector {input.state:q} --manifest {input.manifest:q} --images {input.images:q}"
        " --index {input.index:q} --table {output.table:q} {params.ratio} 2>&1 | tee {log:q}"
