"""Where the findings are."""


rule measure_localisation:
    """Anomaly maps against boxes: pixel AUC and AP, AUPRO at 30 % false positives, pointing game."""
    input:
        manifest=MANIFEST,
        images=f"{DATA}/images.npy",
        index=f"{DATA}/images.csv",
        maps=f"{RUN}/reconstruction/maps.npz",
        boxes=boxes_of,
    output:
        table=report(
            f"{RUN}/localisation.csv",
            caption="../report/localisation.rst",
            category="5 Experiments",
            labels={"data set": "{dataset}", "run": "{variant}seed{seed}", "figure": "localisation"},
        ),
    log:
        f"{LOGS}/measure_localisation.log",
    benchmark:
        f"{LOGS}/measure_localisation.benchmark.tsv"
    conda:
        "../../environment.yml"
    params:
        boxes=optional("boxes", "boxes"),
        content=content_of(boxes_of),
        code=code("experiments:localise"),
    shell:
        "amae localise --manifest {input.manifest:q} --images {input.images:q} --index {input.index:q}"
        " --maps {input.maps:q} {params.boxes} --table {output.table:q} --seed {wildcards.seed}"
        " 2>&1 | tee {log:q}"


rule plot_localisation:
    """Boxes and anomaly maps of test images, from the highest to the lowest score."""
    input:
        images=f"{DATA}/images.npy",
        index=f"{DATA}/images.csv",
        maps=f"{RUN}/reconstruction/maps.npz",
        scores=f"{RUN}/scores.csv",
        boxes=boxes_of,
    output:
        figure=report(
            f"{RUN}/localisation.png",
            caption="../report/boxes_and_maps.rst",
            category="5 Experiments",
            labels={"data set": "{dataset}", "run": "{variant}seed{seed}", "figure": "boxes and maps"},
        ),
    log:
        f"{LOGS}/plot_localisation.log",
    benchmark:
        f"{LOGS}/plot_localisation.benchmark.tsv"
    conda:
        "../../environment.yml"
    params:
        boxes=optional("boxes", "boxes"),
        score=config["gallery"]["score"],
        rows=2 * config["gallery"]["rows"],
        content=content_of(boxes_of),
        code=code("experiments:plot_localisation"),
    shell:
        "amae plot-localisation --images {input.images:q} --index {input.index:q} --maps {input.maps:q}"
        " --scores {input.scores:q} {params.boxes} --figure {output.figure:q} --score {params.score:q}"
        " --rows {params.rows} 2>&1 | tee {log:q}"
