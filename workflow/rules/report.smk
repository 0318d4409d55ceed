"""Pages of the report: its first page, and tables to read."""

from amae.plan import captions, jobs, paths, targets

refusing(jobs.note_report, config)


rule write_overview:
    """Headline figures of a data set, with the code, versions and settings behind them."""
    input:
        summary=f"{DATA}/summary.csv",
        records=plan(paths.of_every_seed, "dataset", variant="", file="stage1/run.json"),
    output:
        page=shown(f"{DATA}/overview.html", "overview", "0 Overview", "overview"),
    log:
        log_of("write_overview", DATA_LOGS),
    benchmark:
        benchmark_of("write_overview", DATA_LOGS)
    conda:
        "../../environment.yml"
    resources:
        **needs("write_overview"),
    params:
        settings=plan(captions.settings_shown, "dataset"),
        code=code("write_overview"),
    shell:
        "amae write-overview --summary {input.summary:q} --training-records {input.records:q} --dataset {wildcards.dataset:q}"
        " --settings {params.settings:q} --page {output.page:q} 2>&1 | tee {log:q}"


rule show_table:
    """A table of results as a page of the report."""
    input:
        table=f"{DATA}/{{shown}}.csv",
    output:
        page=shown(f"{DATA}/{{shown}}.html", "table", plan(targets.category_of, "shown"), "{shown}"),
    log:
        log_of("show_table_{shown}", DATA_LOGS),
    benchmark:
        benchmark_of("show_table_{shown}", DATA_LOGS)
    wildcard_constraints:
        shown=targets.SHOWN_TABLES,
    conda:
        "../../environment.yml"
    resources:
        **needs("show_table"),
    params:
        caveats=plan(captions.caption_of, "dataset"),
        code=code("show_table"),
    shell:
        "amae show-table --shown {input.table:q} --page {output.page:q} 2>&1 | tee {log:q}"
