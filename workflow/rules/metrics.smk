"""Metrics of a run, over seeds, and of its pseudo-labels."""

from amae.plan import stage2


rule compute_metrics:
    """AUC and average precision of every score, with intervals, for all test images and by view."""
    input:
        **TESTED,
        stage1=made("stage1_scores", f"{RUN}/stage1/scores.csv"),
        reconstruction_scores=of_stage2("reconstruction/scores.csv"),
        detector_scores=plan(stage2.detector_scores, "dataset", "variant", "seed"),
    output:
        scores=f"{RUN}/scores.csv",
        metrics=f"{RUN}/metrics.csv",
    log:
        log_of("compute_metrics"),
    benchmark:
        benchmark_of("compute_metrics")
    conda:
        "../../environment.yml"
    resources:
        **needs("compute_metrics"),
    params:
        more=optional("reconstruction_scores", "detector_scores"),
        code=code("compute_metrics"),
    shell:
        "amae compute-metrics --manifest {input.manifest:q} --index {input.index:q}"
        " --stage1-scores {input.stage1:q} {params.more} --scores {output.scores:q} --metrics {output.metrics:q}"
        " --seed {wildcards.seed} 2>&1 | tee {log:q}"


rule summarise_metrics:
    """Mean, spread over the seeds and interval over the images of every score."""
    input:
        scores=SCORES,
    output:
        summary=f"{DATA}/{{variant}}summary.csv",
    log:
        log_of("{variant}summarise_metrics", DATA_LOGS),
    benchmark:
        benchmark_of("{variant}summarise_metrics", DATA_LOGS)
    conda:
        "../../environment.yml"
    resources:
        **needs("summarise_metrics"),
    params:
        code=code("summarise_metrics"),
    shell:
        "amae summarise-metrics --scores-of-seeds {input.scores:q} --table {output.summary:q} 2>&1 | tee {log:q}"


rule diagnose_pseudo_labels:
    """Purity and counts of the pseudo-labels by the hidden labels: a diagnosis that no training reads."""
    input:
        pseudo_labels=f"{RUN}/pseudo_labels.csv",
        hidden=f"{DATA}/{{variant}}hidden_labels.csv",
    output:
        table=f"{RUN}/pseudo_label_purity.csv",
        figure=shown(f"{RUN}/pseudo_labels.png", "pseudo_labels", "2 Training", "pseudo-labels"),
    log:
        log_of("diagnose_pseudo_labels"),
    benchmark:
        benchmark_of("diagnose_pseudo_labels")
    conda:
        "../../environment.yml"
    resources:
        **needs("diagnose_pseudo_labels"),
    params:
        code=code("diagnose_pseudo_labels"),
    shell:
        "amae diagnose-pseudo-labels --labels {input.pseudo_labels:q} --hidden-labels {input.hidden:q}"
        " --table {output.table:q} --figure {output.figure:q} 2>&1 | tee {log:q}"
