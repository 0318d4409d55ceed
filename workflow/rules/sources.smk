"""Published data sets and weights: fetched where that is allowed, else from a folder."""


rule fetch_source:
    """Fetch, verify and unpack what is open of a published data set; say what a person has to get."""
    input:
        catalogue=f"{PACKAGE}/sources/sources.csv",
    output:
        done=touch(f"{RESULTS}/sources/{{source}}/fetched"),
    log:
        f"{RESULTS}/sources/logs/fetch_{{source}}.log",
    benchmark:
        f"{RESULTS}/sources/logs/fetch_{{source}}.benchmark.tsv"
    wildcard_constraints:
        source=any_of(PUBLISHED_KINDS),
    conda:
        "../../environment.yml"
    params:
        folder=subpath(output.done, parent=True),
        code=code("sources:fetch_source"),
    shell:
        "amae fetch-source --dataset {wildcards.source} --folder {params.folder:q} 2>&1 | tee {log:q}"


rule fetch_weights:
    """Fetch published weights; the checksum of the first download must hold afterwards."""
    input:
        catalogue=f"{PACKAGE}/sources/sources.csv",
    output:
        weights=f"{RESULTS}/sources/weights/{{file}}",
    log:
        f"{RESULTS}/sources/logs/fetch_{{file}}.log",
    benchmark:
        f"{RESULTS}/sources/logs/fetch_{{file}}.benchmark.tsv"
    wildcard_constraints:
        file=any_of(SOURCE_WEIGHTS.values()),
    conda:
        "../../environment.yml"
    params:
        folder=subpath(output.weights, parent=True),
        name=name_of_weights,
        code=code("sources:fetch_source"),
    shell:
        "amae fetch-source --dataset {params.name} --folder {params.folder:q} 2>&1 | tee {log:q}"


rule list_source:
    """List every image that a published data set uses at any anomaly ratio, so that each is converted once."""
    input:
        fetched=fetched,
    output:
        table=f"{DATA}/candidate_labels.csv",
        candidates=f"{DATA}/candidates.csv",
    log:
        f"{DATA}/logs/list_source.log",
    benchmark:
        f"{DATA}/logs/list_source.benchmark.tsv"
    wildcard_constraints:
        dataset=any_of(names_of_kind(*PUBLISHED_KINDS)),
    conda:
        "../../environment.yml"
    params:
        options=source_options,
        code=code("sources:list_source"),
    shell:
        "amae list-source --table {output.table:q} --candidates {output.candidates:q} {params.options}"
        " 2>&1 | tee {log:q}"


rule index_source:
    """Make manifest, hidden labels and boxes of a published data set for one anomaly ratio."""
    input:
        fetched=fetched,
    output:
        table=f"{DATA}/{{variant}}labels.csv",
        manifest=f"{DATA}/{{variant}}manifest.csv",
        hidden=f"{DATA}/{{variant}}hidden_labels.csv",
        boxes=f"{DATA}/{{variant}}boxes.csv",
    log:
        f"{DATA}/logs/{{variant}}index_source.log",
    benchmark:
        f"{DATA}/logs/{{variant}}index_source.benchmark.tsv"
    wildcard_constraints:
        dataset=any_of(names_of_kind(*PUBLISHED_KINDS)),
    conda:
        "../../environment.yml"
    params:
        options=source_options,
        code=code("sources:index_source"),
    shell:
        "amae index-source --table {output.table:q} --manifest {output.manifest:q}"
        " --hidden-labels {output.hidden:q} --boxes {output.boxes:q} {params.options} 2>&1 | tee {log:q}"
