"""Where the findings are."""

from amae.plan import stage2


rule measure_localisation:
    """Anomaly maps against boxes: pixel AUC and AP, AUPRO at 30 % false positives, pointing game."""
    input:
        **PACKED,
        maps=f"{RUN}/reconstruction/maps.npz",
        boxes=unless_touched(BOXES),
    output:
        table=f"{RUN}/localisation.csv",
    log:
        log_of("measure_localisation"),
    benchmark:
        benchmark_of("measure_localisation")
    conda:
        "../../environment.yml"
    resources:
        **needs("measure_localisation"),
    params:
        boxes=optional("boxes"),
        content=content_of(BOXES),
        code=code("localise"),
    shell:
        "amae localise --manifest {input.manifest:q} --images {input.images:q} --index {input.index:q}"
        " --maps {input.maps:q} {params.boxes} --table {output.table:q} --seed {wildcards.seed}"
        " 2>&1 | tee {log:q}"


rule plot_localisation:
    """Boxes and anomaly maps of test images, from the highest to the lowest score."""
    input:
        **IMAGES,
        maps=f"{RUN}/reconstruction/maps.npz",
        scores=f"{RUN}/scores.csv",
        boxes=unless_touched(BOXES),
        model=plan(stage2.model_for, "dataset", "variant", "seed", key="gallery"),
    output:
        figure=shown(f"{RUN}/localisation.png", "boxes_and_maps", "5 Experiments", "boxes and maps"),
    log:
        log_of("plot_localisation"),
    benchmark:
        benchmark_of("plot_localisation")
    conda:
        "../../environment.yml"
    resources:
        **needs("plot_localisation"),
    params:
        options=optional("boxes", "model"),
        score=config["gallery"]["score"],
        rows=config["gallery"]["rows"],
        content=content_of(BOXES),
        code=code("plot_localisation"),
    shell:
        "amae plot-localisation --images {input.images:q} --index {input.index:q} --maps {input.maps:q}"
        " --scores {input.scores:q} {params.options} --figure {output.figure:q} --score {params.score:q}"
        " --rows {params.rows} 2>&1 | tee {log:q}"
