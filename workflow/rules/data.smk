"""From radiographs to packed images."""

from amae.plan import datasets, jobs, splits, variants

TABLE = plan(datasets.images_table, "dataset")
SHARDS = jobs.shards_of(config)


rule simulate_radiographs:
    """Simulate chest radiographs as DICOM files, with a table of labels and one of finding boxes."""
    output:
        dicom=directory(f"{DATA}/raw/dicom"),
        labels=f"{DATA}/raw/labels.csv",
        boxes=f"{DATA}/raw/boxes.csv",
    log:
        log_of("simulate_radiographs", DATA_LOGS),
    benchmark:
        benchmark_of("simulate_radiographs", DATA_LOGS)
    wildcard_constraints:
        dataset=any_of(datasets.names_of_kind(config, "simulated")),
    conda:
        "../../environment.yml"
    threads: 64
    resources:
        **needs("simulate_radiographs"),
    params:
        folder=subpath(output.labels, parent=True),
        images=quoted("images"),
        seed=quoted("seed"),
        abnormal=quoted("abnormal"),
        calibration=plan(datasets.calibration_images, "dataset"),
        code=code("simulate"),
    shell:
        "amae simulate --folder {params.folder:q} --count {params.images} --seed {params.seed}"
        " --abnormal {params.abnormal} --calibration {params.calibration} --workers {threads} 2>&1 | tee {log:q}"


rule list_images:
    """List every image that the data set uses at any anomaly ratio, so that each is converted once."""
    input:
        table=unless_touched(TABLE),
    output:
        candidates=f"{DATA}/candidates.csv",
    log:
        log_of("list_images", DATA_LOGS),
    benchmark:
        benchmark_of("list_images", DATA_LOGS)
    wildcard_constraints:
        dataset=any_of(datasets.names_of_kind(config, "simulated", "own")),
    conda:
        "../../environment.yml"
    resources:
        **needs("list_images"),
    params:
        options=plan(splits.candidate_options, "dataset"),
        content=content_of(TABLE),
        code=code("list_images"),
    shell:
        "amae list-images --image-table {input.table:q} --candidates {output.candidates:q} {params.options}"
        " 2>&1 | tee {log:q}"


rule index_images:
    """Make the manifest; the hidden labels of the unlabeled images go to a table of their own."""
    input:
        table=unless_touched(TABLE),
    output:
        manifest=f"{DATA}/{{variant}}manifest.csv",
        hidden=f"{DATA}/{{variant}}hidden_labels.csv",
    log:
        log_of("{variant}index_images", DATA_LOGS),
    benchmark:
        benchmark_of("{variant}index_images", DATA_LOGS)
    wildcard_constraints:
        dataset=any_of(datasets.names_of_kind(config, "simulated", "own")),
    priority: 1  # a table that cannot be used is refused before images are converted
    conda:
        "../../environment.yml"
    resources:
        **needs("index_images"),
    params:
        options=plan(splits.index_options, "dataset", "variant"),
        content=content_of(TABLE),
        code=code("index"),
    shell:
        "amae index --image-table {input.table:q} --manifest {output.manifest:q} --hidden-labels {output.hidden:q}"
        " {params.options} 2>&1 | tee {log:q}"


rule convert_images:
    """Convert DICOM files and pictures to packed square 8-bit images: at the model's size, and to find lungs in."""
    input:
        candidates=f"{DATA}/candidates.csv",
        raw=plan(datasets.raw_images, "dataset"),
        shards=expand(f"{DATA}/convert_shard{{shard}}.done", shard=SHARDS, allow_missing=True),
    output:
        images=f"{DATA}/images.npy",
        lung_images=f"{DATA}/lung_images.npy",
        index=f"{DATA}/images.csv",
        sheet=shown(f"{DATA}/contact_sheet.png", "contact_sheet", "1 Data", "contact sheet"),
    log:
        log_of("convert_images", DATA_LOGS),
    benchmark:
        benchmark_of("convert_images", DATA_LOGS)
    conda:
        "../../environment.yml"
    threads: 64
    resources:
        **needs("convert_images"),
    params:
        size=variants.settings_of(config, "")["mae"].image_size,
        conversion=quoted("conversion"),
        square=quoted("square"),
        allowed=quoted("allowed_failures"),
        folder=subpath(input.candidates, parent=True),
        shard="",
        code=code("convert"),
    shell:
        "amae convert --manifest {input.candidates:q} --images {params.folder:q}/images.npy"
        " --lung-images {params.folder:q}/lung_images.npy --index {params.folder:q}/images.csv"
        " --rejected {params.folder:q}/rejected.csv --sheet {params.folder:q}/contact_sheet.png"
        " --image-size {params.size} --conversion {params.conversion} --square {params.square}"
        " --allowed-failures {params.allowed} {params.shard} --workers {threads} 2>&1 | tee {log:q}"


use rule convert_images as convert_shard with:
    input:
        candidates=f"{DATA}/candidates.csv",
        raw=plan(datasets.raw_images, "dataset"),
    output:
        temp(touch(f"{DATA}/convert_shard{{shard}}.done")),
    log:
        log_of("convert_shard{shard}", DATA_LOGS),
    benchmark:
        benchmark_of("convert_shard{shard}", DATA_LOGS)
    params:
        shard=f"--shard {{shard}}/{config['shards']}",
