"""Published data sets and weights: fetched where that is allowed, else from a folder."""

from amae.plan import datasets, paths, splits, watched, weights

SOURCE_LOGS = f"{RESULTS}/sources/logs"


rule fetch_source:
    """Fetch, verify and unpack what is open of a published data set; name what a person has to get."""
    input:
        catalogue=paths.CATALOGUE,
    output:
        done=touch(f"{RESULTS}/sources/{{source}}/fetched"),
    log:
        log_of("fetch_{source}", SOURCE_LOGS),
    benchmark:
        benchmark_of("fetch_{source}", SOURCE_LOGS)
    wildcard_constraints:
        source=any_of(datasets.PUBLISHED_KINDS),
    conda:
        "../../environment.yml"
    resources:
        **needs("fetch_source"),
    params:
        folder=subpath(output.done, parent=True),
        code=code("fetch_source"),
    shell:
        "amae fetch-source --name {wildcards.source} --folder {params.folder:q} 2>&1 | tee {log:q}"


rule fetch_weights:
    """Fetch published weights; later downloads must have the checksum of the first."""
    input:
        catalogue=paths.CATALOGUE,
    output:
        weights=f"{RESULTS}/sources/weights/{{file}}",
    log:
        log_of("fetch_{file}", SOURCE_LOGS),
    benchmark:
        benchmark_of("fetch_{file}", SOURCE_LOGS)
    wildcard_constraints:
        file=any_of(weights.FETCHED.values()),
    conda:
        "../../environment.yml"
    resources:
        **needs("fetch_weights"),
    params:
        folder=subpath(output.weights, parent=True),
        name=plan(weights.name_of_file, "file"),
        code=code("fetch_source"),
    shell:
        "amae fetch-source --name {params.name} --folder {params.folder:q} 2>&1 | tee {log:q}"


rule fetch_encoder:
    """Fetch the weights of a network of timm; later downloads are of the commit of the first."""
    output:
        weights=f"{RESULTS}/sources/weights/timm/{{encoder}}.safetensors",
    log:
        log_of("fetch_{encoder}", SOURCE_LOGS),
    benchmark:
        benchmark_of("fetch_{encoder}", SOURCE_LOGS)
    wildcard_constraints:
        encoder=any_of(refusing(weights.fetched_encoders, config)),
    conda:
        "../../environment.yml"
    resources:
        **needs("fetch_encoder"),
    params:
        code=code("fetch_encoder"),
    shell:
        "amae fetch-encoder --encoder {wildcards.encoder} --fetched {output.weights:q} 2>&1 | tee {log:q}"


rule list_source:
    """List every image that a published data set uses at any anomaly ratio, so that each is converted once."""
    input:
        fetched=plan(datasets.fetched_record, "dataset"),
    output:
        table=f"{DATA}/candidate_labels.csv",
        candidates=f"{DATA}/candidates.csv",
    log:
        log_of("list_source", DATA_LOGS),
    benchmark:
        benchmark_of("list_source", DATA_LOGS)
    wildcard_constraints:
        dataset=any_of(datasets.names_of_kind(config, *datasets.PUBLISHED_KINDS)),
    conda:
        "../../environment.yml"
    resources:
        **needs("list_source"),
    params:
        options=plan(splits.source_candidate_options, "dataset"),
        lists=plan(watched.lists_of, "dataset"),
        code=code("list_images"),
    shell:
        "amae list-images --image-table {output.table:q} --candidates {output.candidates:q} {params.options}"
        " 2>&1 | tee {log:q}"


rule index_source:
    """Make manifest, hidden labels and boxes of a published data set for one anomaly ratio."""
    input:
        fetched=plan(datasets.fetched_record, "dataset"),
    output:
        table=f"{DATA}/{{variant}}labels.csv",
        manifest=f"{DATA}/{{variant}}manifest.csv",
        hidden=f"{DATA}/{{variant}}hidden_labels.csv",
        boxes=f"{DATA}/{{variant}}boxes.csv",
    log:
        log_of("{variant}index_source", DATA_LOGS),
    benchmark:
        benchmark_of("{variant}index_source", DATA_LOGS)
    wildcard_constraints:
        dataset=any_of(datasets.names_of_kind(config, *datasets.PUBLISHED_KINDS)),
    conda:
        "../../environment.yml"
    resources:
        **needs("index_source"),
    params:
        options=plan(splits.source_index_options, "dataset", "variant"),
        tables=plan(watched.tables_of, "dataset"),
        code=code("index"),
    shell:
        "amae index --image-table {output.table:q} --manifest {output.manifest:q}"
        " --hidden-labels {output.hidden:q} --boxes {output.boxes:q} {params.options} 2>&1 | tee {log:q}"
