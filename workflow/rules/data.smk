"""From radiographs to packed images and lung masks."""

from amae.plan import datasets, splits, variants

TABLE = plan(datasets.images_table, "dataset")


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
        rejected=f"{DATA}/rejected.csv",
        code=code("convert"),
    shell:
        "amae convert --manifest {input.candidates:q} --images {output.images:q}"
        " --lung-images {output.lung_images:q} --index {output.index:q} --rejected {params.rejected:q}"
        " --sheet {output.sheet:q} --image-size {params.size} --conversion {params.conversion} --square {params.square}"
        " --allowed-failures {params.allowed} --workers {threads} 2>&1 | tee {log:q}"


rule segment_lungs:
    """Find the lungs of every image, once."""
    input:
        lung_images=f"{DATA}/lung_images.npy",
        index=f"{DATA}/images.csv",
    output:
        lungs=f"{DATA}/lungs.npy",
        table=f"{DATA}/lungs.csv",
        sheet=shown(f"{DATA}/lungs.png", "lung_outlines", "1 Data", "lung outlines"),
    log:
        log_of("segment_lungs", DATA_LOGS),
    benchmark:
        benchmark_of("segment_lungs", DATA_LOGS)
    conda:
        "../../environment.yml"
    threads: 64
    resources:
        **needs("segment_lungs"),
    params:
        code=code("segment_lungs"),
    shell:
        "amae segment-lungs --lung-images {input.lung_images:q} --index {input.index:q}"
        " --lungs {output.lungs:q} --lungs-table {output.table:q} --sheet {output.sheet:q}"
        " --workers {threads} 2>&1 | tee {log:q}"
