"""Models of one data set measured on the test images of others, as one matrix."""

from amae.plan import datasets, transfer


rule evaluate_model:
    """Measure the model of a data set on the test images of this one or another, read as the model reads them."""
    input:
        model=plan(transfer.model_of, "trained", "seed"),
        manifest=f"{DATA}/manifest.csv",
        raw=plan(datasets.raw_images, "dataset"),
    output:
        folder=directory(f"{DATA}/transfer/{{trained}}_seed{{seed}}"),
    log:
        log_of("evaluate_model_{trained}_{seed}", DATA_LOGS),
    benchmark:
        benchmark_of("evaluate_model_{trained}_{seed}", DATA_LOGS)
    wildcard_constraints:
        trained=any_of(config["datasets"]),
    conda:
        "../../environment.yml"
    threads: 64
    resources:
        **needs("evaluate_model"),
    params:
        score=config["predict"]["score"],
        specificity=config["predict"]["specificity"],
        code=code("evaluate"),
    shell:
        "amae evaluate {input.model:q} {input.manifest:q} --root . --output {output.folder:q} --score {params.score:q}"
        " --specificity {params.specificity} --workers {threads} --device {resources.device} --gpus {resources.gpu}"
        " --jobs-per-card {resources.jobs_per_card} 2>&1 | tee {log:q}"


rule tabulate_transfer:
    """Every score of models trained on one data set and tested on each, as one matrix."""
    input:
        folders=plan(transfer.folders),
    output:
        table=f"{RESULTS}/transfer.csv",
        markdown=f"{RESULTS}/transfer.md",
    log:
        log_of("tabulate_transfer", RESULTS),
    benchmark:
        benchmark_of("tabulate_transfer", RESULTS)
    conda:
        "../../environment.yml"
    resources:
        **needs("tabulate_transfer"),
    params:
        evaluations=plan(transfer.evaluations_option),
        code=code("tabulate_transfer"),
    shell:
        "amae tabulate-transfer --evaluations {params.evaluations:q} --table {output.table:q}"
        " --markdown {output.markdown:q} 2>&1 | tee {log:q}"
