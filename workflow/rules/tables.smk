"""The paper's tables, what each method takes, and what the benchmarks hide."""

from amae.plan import captions, compared, datasets, paths, rows, weights


rule tabulate_results:
    """Methods beside what the papers print: Table 2, masks, decisions of the method, or encoders."""
    input:
        published=paths.PUBLISHED,
        manifest=f"{DATA}/manifest.csv",
        index=f"{DATA}/images.csv",
        scores=plan(rows.score_files, "dataset", "name"),
    output:
        table=f"{DATA}/tables/{{name}}.csv",
        markdown=f"{DATA}/tables/{{name}}.md",
        latex=f"{DATA}/tables/{{name}}.tex",
    log:
        log_of("tabulate_{name}", DATA_LOGS),
    benchmark:
        benchmark_of("tabulate_{name}", DATA_LOGS)
    wildcard_constraints:
        name="table2|masks_ablation|sensitivity|backbones",
    conda:
        "../../environment.yml"
    resources:
        **needs("tabulate_results"),
    params:
        methods=plan(rows.rows_option, "dataset", "name"),
        ratio=plan(datasets.ratio_option, "dataset"),
        reference=plan(rows.reference, "dataset", "name"),
        kind=plan(datasets.printed_kind, "dataset"),
        every=plan(rows.every_printed_option, "name"),
        caveats=plan(captions.caption_of, "dataset"),
        code=code("tabulate_results"),
    shell:
        "amae tabulate-results --published {input.published:q} --manifest {input.manifest:q} --index {input.index:q}"
        " --methods {params.methods:q} {params.ratio} --reference {params.reference:q}"
        " --dataset {wildcards.dataset:q} --kind {params.kind} {params.every} --caveats={params.caveats:q}"
        " --table {output.table:q} --markdown {output.markdown:q} --latex {output.latex:q} 2>&1 | tee {log:q}"


rule tabulate_costs:
    """What each method takes: jobs, hours by device, memory, disk."""
    input:
        records=plan(compared.record_files, "dataset"),
    output:
        table=f"{DATA}/tables/costs.csv",
        markdown=f"{DATA}/tables/costs.md",
        latex=f"{DATA}/tables/costs.tex",
    log:
        log_of("tabulate_costs", DATA_LOGS),
    benchmark:
        benchmark_of("tabulate_costs", DATA_LOGS)
    conda:
        "../../environment.yml"
    resources:
        **needs("tabulate_costs"),
    params:
        records=plan(compared.records_option, "dataset"),
        caveats=plan(captions.caption_of, "dataset"),
        code=code("tabulate_costs"),
    shell:
        "amae tabulate-costs --records {params.records:q} --caveats={params.caveats:q} --table {output.table:q}"
        " --markdown {output.markdown:q} --latex {output.latex:q} 2>&1 | tee {log:q}"


rule audit_scores:
    """Shortcuts that need no lungs, and every method's scores by view, for unseen patients, by sex, age and reader."""
    input:
        **IMAGES,
        manifest=f"{DATA}/manifest.csv",
        scores=plan(compared.audited_scores, "dataset"),
    output:
        table=f"{DATA}/tables/audit.csv",
        text=f"{DATA}/tables/audit.md",
    log:
        log_of("audit_scores", DATA_LOGS),
    benchmark:
        benchmark_of("audit_scores", DATA_LOGS)
    conda:
        "../../environment.yml"
    resources:
        **needs("audit_scores"),
    params:
        seeds=config["seeds"],
        exposure=plan(weights.exposure_option, "dataset"),
        caveats=plan(captions.caption_of, "dataset"),
        code=code("audit"),
    shell:
        "amae audit --manifest {input.manifest:q} --images {input.images:q} --index {input.index:q}"
        " --score-tables {input.scores:q} --seeds {params.seeds} --dataset {wildcards.dataset:q} {params.exposure}"
        " --caveats={params.caveats:q} --table {output.table:q} --text {output.text:q} 2>&1 | tee {log:q}"


rule plot_audit:
    """Every method of the audit as a dot with its interval, and the strongest shortcuts as lines."""
    input:
        audit=f"{DATA}/tables/audit.csv",
    output:
        figure=shown(f"{DATA}/tables/audit.png", "audit_figure", "5 Experiments", "audit, as a figure"),
    log:
        log_of("plot_audit", DATA_LOGS),
    benchmark:
        benchmark_of("plot_audit", DATA_LOGS)
    conda:
        "../../environment.yml"
    resources:
        **needs("plot_audit"),
    params:
        caveats=plan(captions.caption_of, "dataset"),
        code=code("plot_audit"),
    shell:
        "amae plot-audit --audit {input.audit:q} --figure {output.figure:q} 2>&1 | tee {log:q}"
