"""Figures 3a to 3c of the paper."""


rule plot_sweep:
    """Figure 3a: AUC against the anomaly ratio of the unlabeled set."""
    input:
        published=PUBLISHED,
        manifest=f"{DATA}/manifest.csv",
        index=f"{DATA}/images.csv",
        scores=scores_files("figure3a"),
    output:
        figure=report(
            f"{DATA}/figures/figure3a.png",
            caption="../report/figure3a.rst",
            category="5 Experiments",
            labels={"data set": "{dataset}", "figure": "figure 3a"},
        ),
    log:
        f"{DATA}/logs/plot_sweep.log",
    benchmark:
        f"{DATA}/logs/plot_sweep.benchmark.tsv"
    conda:
        "../../environment.yml"
    params:
        methods=methods_param("figure3a"),
        kind=quoted_setting("kind"),
        caveats=caption_caveats,
        code=code("experiments:plot_sweep"),
    shell:
        "amae plot-sweep --published {input.published:q} --manifest {input.manifest:q} --index {input.index:q}"
        " --methods {params.methods:q} --kind {params.kind} --figure {output.figure:q} 2>&1 | tee {log:q}"


rule plot_pseudo_label_effect:
    """Figure 3b: scores of the test images without and with pseudo-labels."""
    input:
        published=PUBLISHED,
        manifest=f"{DATA}/manifest.csv",
        index=f"{DATA}/images.csv",
        scores=scores_files("figure3b"),
    output:
        figure=report(
            f"{DATA}/figures/figure3b.png",
            caption="../report/figure3b.rst",
            category="5 Experiments",
            labels={"data set": "{dataset}", "figure": "figure 3b"},
        ),
    log:
        f"{DATA}/logs/plot_pseudo_label_effect.log",
    benchmark:
        f"{DATA}/logs/plot_pseudo_label_effect.benchmark.tsv"
    conda:
        "../../environment.yml"
    params:
        methods=methods_param("figure3b"),
        kind=quoted_setting("kind"),
        ratio=main_ratio,
        caveats=caption_caveats,
        code=code("experiments:plot_histogram_panels"),
    shell:
        "amae plot-panels --published {input.published:q} --manifest {input.manifest:q} --index {input.index:q}"
        " --methods {params.methods:q} --kind {params.kind} {params.ratio} --figure {output.figure:q}"
        " 2>&1 | tee {log:q}"


rule plot_backbones:
    """Figure 3c: stage 1 with other backbones, with Welch tests."""
    input:
        manifest=f"{DATA}/manifest.csv",
        index=f"{DATA}/images.csv",
        scores=scores_files("figure3c"),
    output:
        figure=report(
            f"{DATA}/figures/figure3c.png",
            caption="../report/figure3c.rst",
            category="5 Experiments",
            labels={"data set": "{dataset}", "figure": "figure 3c"},
        ),
    log:
        f"{DATA}/logs/plot_backbones.log",
    benchmark:
        f"{DATA}/logs/plot_backbones.benchmark.tsv"
    conda:
        "../../environment.yml"
    params:
        methods=methods_param("figure3c"),
        caveats=caption_caveats,
        code=code("experiments:plot_comparison"),
    shell:
        "amae plot-comparison --manifest {input.manifest:q} --index {input.index:q} --methods {params.methods:q}"
        " --reference 'ViT-S MAE' --figure {output.figure:q} 2>&1 | tee {log:q}"
