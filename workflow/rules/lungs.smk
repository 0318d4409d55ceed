"""Lung masks."""


rule segment_lungs:
    """Find the lungs of every image, once."""
    input:
        lung_images=f"{DATA}/lung_images.npy",
        index=f"{DATA}/images.csv",
        shards=expand(f"{DATA}/lungs_shard{{shard}}.done", shard=SHARDS, allow_missing=True),
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
        folder=subpath(input.index, parent=True),
        shard="",
        code=code("segment_lungs"),
    shell:
        "amae segment-lungs --lung-images {input.lung_images:q} --index {input.index:q}"
        " --lungs {params.folder:q}/lungs.npy --lungs-table {params.folder:q}/lungs.csv"
        " --sheet {params.folder:q}/lungs.png {params.shard} --workers {threads} 2>&1 | tee {log:q}"


use rule segment_lungs as segment_shard with:
    input:
        lung_images=f"{DATA}/lung_images.npy",
        index=f"{DATA}/images.csv",
    output:
        temp(touch(f"{DATA}/lungs_shard{{shard}}.done")),
    log:
        log_of("segment_shard{shard}", DATA_LOGS),
    benchmark:
        benchmark_of("segment_shard{shard}", DATA_LOGS)
    params:
        shard=f"--shard {{shard}}/{config['shards']}",
