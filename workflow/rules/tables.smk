"""The paper's tables, what each method takes, and what the benchmarks hide."""


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
