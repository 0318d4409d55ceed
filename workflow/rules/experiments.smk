"""The paper's tables and figures, what they hide, and where the findings are."""


rule tabulate_results:
    """Methods beside what the papers print: Table 2, the number of masks, or the decisions of the method."""
    input:
        published=PUBLISHED,
        manifest=f"{DATA}/manifest.csv",
        index=f"{DATA}/images.csv",
        scores=scores_files(),
    output:
        table=report(
            f"{DATA}/tables/{{name}}.csv",
            caption="../report/results.rst",
            category="5 Experiments",
            labels={"data set": "{dataset}", "figure": "{name}"},
        ),
        markdown=f"{DATA}/tables/{{name}}.md",
        latex=f"{DATA}/tables/{{name}}.tex",
    log:
        f"{DATA}/logs/tabulate_{{name}}.log",
    benchmark:
        f"{DATA}/logs/tabulate_{{name}}.benchmark.tsv"
    wildcard_constraints:
        name="table2|masks_ablation|sensitivity",
    conda:
        "../../environment.yml"
    params:
        methods=methods_param(),
        ratio=main_ratio,
        reference=reference,
        kind=quoted_setting("kind"),
        every=every_printed,
        caveats=caption_caveats,
        code=code("experiments:tabulate_results"),
    shell:
        "amae tabulate-results --published {input.published:q} --manifest {input.manifest:q} --index {input.index:q}"
        " --methods {params.methods:q} {params.ratio} --reference {params.reference:q}"
        " --dataset {wildcards.dataset:q} --kind {params.kind} {params.every} --caveats={params.caveats:q}"
        " --table {output.table:q} --markdown {output.markdown:q} --latex {output.latex:q} 2>&1 | tee {log:q}"


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


rule audit_scores:
    """Shortcuts that need no lungs, and every method's scores by view, for unseen patients, by sex and age."""
    input:
        manifest=f"{DATA}/manifest.csv",
        images=f"{DATA}/images.npy",
        index=f"{DATA}/images.csv",
        scores=audited_scores,
    output:
        table=report(
            f"{DATA}/tables/audit.csv",
            caption="../report/audit.rst",
            category="5 Experiments",
            labels={"data set": "{dataset}", "figure": "audit"},
        ),
        text=f"{DATA}/tables/audit.md",
    log:
        f"{DATA}/logs/audit_scores.log",
    benchmark:
        f"{DATA}/logs/audit_scores.benchmark.tsv"
    conda:
        "../../environment.yml"
    params:
        seeds=config["seeds"],
        exposure=exposure,
        caveats=caption_caveats,
        code=code("experiments:audit"),
    shell:
        "amae audit --manifest {input.manifest:q} --images {input.images:q} --index {input.index:q}"
        " --score-tables {input.scores:q} --seeds {params.seeds} --dataset {wildcards.dataset:q} {params.exposure}"
        " --caveats={params.caveats:q} --table {output.table:q} --text {output.text:q} 2>&1 | tee {log:q}"


rule measure_localisation:
    """Anomaly maps against boxes: pixel AUC and AP, AUPRO at 30 % false positives, pointing game."""
    input:
        manifest=MANIFEST,
        images=f"{DATA}/images.npy",
        index=f"{DATA}/images.csv",
        maps=f"{RUN}/reconstruction/maps.npz",
        boxes=boxes_of,
    output:
        table=report(
            f"{RUN}/localisation.csv",
            caption="../report/localisation.rst",
            category="5 Experiments",
            labels={"data set": "{dataset}", "run": "{variant}seed{seed}", "figure": "localisation"},
        ),
    log:
        f"{LOGS}/measure_localisation.log",
    benchmark:
        f"{LOGS}/measure_localisation.benchmark.tsv"
    conda:
        "../../environment.yml"
    params:
        boxes=optional("boxes", "boxes"),
        content=content_of(boxes_of),
        code=code("experiments:localise"),
    shell:
        "amae localise --manifest {input.manifest:q} --images {input.images:q} --index {input.index:q}"
        " --maps {input.maps:q} {params.boxes} --table {output.table:q} --seed {wildcards.seed}"
        " 2>&1 | tee {log:q}"


rule plot_localisation:
    """Boxes and anomaly maps of test images, from the highest to the lowest score."""
    input:
        images=f"{DATA}/images.npy",
        index=f"{DATA}/images.csv",
        maps=f"{RUN}/reconstruction/maps.npz",
        scores=f"{RUN}/scores.csv",
        boxes=boxes_of,
    output:
        figure=report(
            f"{RUN}/localisation.png",
            caption="../report/boxes_and_maps.rst",
            category="5 Experiments",
            labels={"data set": "{dataset}", "run": "{variant}seed{seed}", "figure": "boxes and maps"},
        ),
    log:
        f"{LOGS}/plot_localisation.log",
    benchmark:
        f"{LOGS}/plot_localisation.benchmark.tsv"
    conda:
        "../../environment.yml"
    params:
        boxes=optional("boxes", "boxes"),
        score=config["gallery"]["score"],
        rows=2 * config["gallery"]["rows"],
        content=content_of(boxes_of),
        code=code("experiments:plot_localisation"),
    shell:
        "amae plot-localisation --images {input.images:q} --index {input.index:q} --maps {input.maps:q}"
        " --scores {input.scores:q} {params.boxes} --figure {output.figure:q} --score {params.score:q}"
        " --rows {params.rows} 2>&1 | tee {log:q}"


rule tabulate_costs:
    """What each method takes: jobs, hours by device, memory, disk."""
    input:
        records=record_files,
    output:
        table=report(
            f"{DATA}/tables/costs.csv",
            caption="../report/costs.rst",
            category="5 Experiments",
            labels={"data set": "{dataset}", "figure": "costs"},
        ),
        markdown=f"{DATA}/tables/costs.md",
        latex=f"{DATA}/tables/costs.tex",
    log:
        f"{DATA}/logs/tabulate_costs.log",
    benchmark:
        f"{DATA}/logs/tabulate_costs.benchmark.tsv"
    conda:
        "../../environment.yml"
    params:
        records=records_param,
        caveats=caption_caveats,
        code=code("experiments:tabulate_costs"),
    shell:
        "amae tabulate-costs --records {params.records:q} --caveats={params.caveats:q} --table {output.table:q}"
        " --markdown {output.markdown:q} --latex {output.latex:q} 2>&1 | tee {log:q}"
