"""From radiographs to packed images and lung masks."""


rule simulate_radiographs:
    """Simulate chest radiographs as DICOM files, with a table of labels and one of finding boxes."""
    output:
        dicom=directory(f"{DATA}/raw/dicom"),
        labels=f"{DATA}/raw/labels.csv",
        boxes=f"{DATA}/raw/boxes.csv",
    log:
        f"{DATA}/logs/simulate_radiographs.log",
    benchmark:
        f"{DATA}/logs/simulate_radiographs.benchmark.tsv"
    wildcard_constraints:
        dataset=any_of(names_of_kind("simulated")),
    conda:
        "../../environment.yml"
    threads: 64
    params:
        folder=subpath(output.labels, parent=True),
        images=quoted_setting("images"),
        seed=quoted_setting("seed"),
        abnormal=quoted_setting("abnormal"),
        calibration=calibration_images,
        code=code("data:simulate"),
    shell:
        "amae simulate --folder {params.folder:q} --count {params.images} --seed {params.seed}"
        " --abnormal {params.abnormal} --calibration {params.calibration} --workers {threads} 2>&1 | tee {log:q}"


rule list_images:
    """List every image that the data set uses at any anomaly ratio, so that each is converted once."""
    input:
        table=table_of_images,
    output:
        candidates=f"{DATA}/candidates.csv",
    log:
        f"{DATA}/logs/list_images.log",
    benchmark:
        f"{DATA}/logs/list_images.benchmark.tsv"
    wildcard_constraints:
        dataset=any_of(names_of_kind("simulated", "own")),
    conda:
        "../../environment.yml"
    params:
        options=index_options(ratio_counts=False),
        content=content_of(table_of_images),
        code=code("data:list_images"),
    shell:
        "amae list-images --table {input.table:q} --candidates {output.candidates:q} {params.options}"
        " 2>&1 | tee {log:q}"


rule index_images:
    """Make the manifest; the hidden labels of the unlabeled images go to a table of their own."""
    input:
        table=table_of_images,
    output:
        manifest=f"{DATA}/{{variant}}manifest.csv",
        hidden=f"{DATA}/{{variant}}hidden_labels.csv",
    log:
        f"{DATA}/logs/{{variant}}index_images.log",
    benchmark:
        f"{DATA}/logs/{{variant}}index_images.benchmark.tsv"
    wildcard_constraints:
        dataset=any_of(names_of_kind("simulated", "own")),
    conda:
        "../../environment.yml"
    params:
        options=index_options(ratio_counts=True),
        content=content_of(table_of_images),
        code=code("data:index"),
    shell:
        "amae index --table {input.table:q} --manifest {output.manifest:q} --hidden-labels {output.hidden:q}"
        " {params.options} 2>&1 | tee {log:q}"


rule convert_images:
    """Convert DICOM, PNG or JPEG files to packed square 8-bit images: at the model's size, and to find lungs in."""
    input:
        candidates=f"{DATA}/candidates.csv",
        raw=raw_images,
    output:
        images=f"{DATA}/images.npy",
        lung_images=f"{DATA}/lung_images.npy",
        index=f"{DATA}/images.csv",
        sheet=report(
            f"{DATA}/contact_sheet.png",
            caption="../report/contact_sheet.rst",
            category="1 Data",
            labels={"data set": "{dataset}", "figure": "contact sheet"},
        ),
    log:
        f"{DATA}/logs/convert_images.log",
    benchmark:
        f"{DATA}/logs/convert_images.benchmark.tsv"
    conda:
        "../../environment.yml"
    threads: 64
    params:
        size=SETTINGS[""]["mae"].image_size,
        conversion=quoted_setting("conversion"),
        square=quoted_setting("square"),
        allowed=quoted_setting("allowed_failures"),
        rejected=f"{DATA}/rejected.csv",
        code=code("data:convert"),
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
        sheet=report(
            f"{DATA}/lungs.png",
            caption="../report/lung_outlines.rst",
            category="1 Data",
            labels={"data set": "{dataset}", "figure": "lung outlines"},
        ),
    log:
        f"{DATA}/logs/segment_lungs.log",
    benchmark:
        f"{DATA}/logs/segment_lungs.benchmark.tsv"
    conda:
        "../../environment.yml"
    threads: 64
    params:
        code=code("data:segment_lungs"),
    shell:
        "amae segment-lungs --lung-images {input.lung_images:q} --index {input.index:q}"
        " --lungs {output.lungs:q} --table {output.table:q} --sheet {output.sheet:q}"
        " --workers {threads} 2>&1 | tee {log:q}"
