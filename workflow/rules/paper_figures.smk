"""Figures 3a to 3c of the paper."""

from amae.plan import captions, datasets, paths, rows


rule plot_sweep:
    """Figure 3a: AUC against the anomaly ratio of the unlabeled set."""
    input:
        published=paths.PUBLISHED,
        manifest=f"{DATA}/manifest.csv",
        index=f"{DATA}/images.csv",
        scores=plan(rows.score_files, "dataset", name="figure3a"),
    output:
        figure=shown(f"{DATA}/figures/figure3a.png", "figure3a", "5 Experiments", "figure 3a"),
    log:
        log_of("plot_sweep", DATA_LOGS),
    benchmark:
        benchmark_of("plot_sweep", DATA_LOGS)
    conda:
        "../../environment.yml"
    resources:
        **needs("plot_sweep"),
    params:
        methods=plan(rows.rows_option, "dataset", name="figure3a"),
        kind=plan(datasets.printed_kind, "dataset"),
        caveats=plan(captions.caption_of, "dataset"),
        code=code("plot_sweep"),
    shell:
        "amae plot-sweep --published {input.published:q} --manifest {input.manifest:q} --index {input.index:q}"
        " --methods {params.methods:q} --kind {params.kind} --figure {output.figure:q} 2>&1 | tee {log:q}"


rule plot_pseudo_label_effect:
    """Figure 3b: scores of the test images without and with pseudo-labels."""
    input:
        published=paths.PUBLISHED,
        manifest=f"{DATA}/manifest.csv",
        index=f"{DATA}/images.csv",
        scores=plan(rows.score_files, "dataset", name="figure3b"),
    output:
        figure=shown(f"{DATA}/figures/figure3b.png", "figure3b", "5 Experiments", "figure 3b"),
    log:
        log_of("plot_pseudo_label_effect", DATA_LOGS),
    benchmark:
        benchmark_of("plot_pseudo_label_effect", DATA_LOGS)
    conda:
        "../../environment.yml"
    resources:
        **needs("plot_pseudo_label_effect"),
    params:
        methods=plan(rows.rows_option, "dataset", name="figure3b"),
        kind=plan(datasets.printed_kind, "dataset"),
        ratio=plan(datasets.ratio_option, "dataset"),
        caveats=plan(captions.caption_of, "dataset"),
        code=code("plot_panels"),
    shell:
        "amae plot-panels --published {input.published:q} --manifest {input.manifest:q} --index {input.index:q}"
        " --methods {params.methods:q} --kind {params.kind} {params.ratio} --figure {output.figure:q}"
        " 2>&1 | tee {log:q}"


rule plot_backbones:
    """Figure 3c: stage 1 with other backbones, with tests against the main weights."""
    input:
        manifest=f"{DATA}/manifest.csv",
        index=f"{DATA}/images.csv",
        scores=plan(rows.score_files, "dataset", name="figure3c"),
    output:
        figure=shown(f"{DATA}/figures/figure3c.png", "figure3c", "5 Experiments", "figure 3c"),
    log:
        log_of("plot_backbones", DATA_LOGS),
    benchmark:
        benchmark_of("plot_backbones", DATA_LOGS)
    conda:
        "../../environment.yml"
    resources:
        **needs("plot_backbones"),
    params:
        methods=plan(rows.rows_option, "dataset", name="figure3c"),
        reference=plan(rows.reference, "dataset", name="figure3c"),
        caveats=plan(captions.caption_of, "dataset"),
        code=code("plot_comparison"),
    shell:
        "amae plot-comparison --manifest {input.manifest:q} --index {input.index:q} --methods {params.methods:q}"
        " --reference {params.reference:q} --figure {output.figure:q} 2>&1 | tee {log:q}"
