"""Figures of a run."""

from amae.plan import stage2


rule plot_training:
    """Training curves of stage 1 and, where there is a T_u, of both modules."""
    input:
        stage1=f"{RUN}/stage1/history.csv",
        modules=of_stage2("module_A/history.csv", "module_B/history.csv"),
    output:
        figure=shown(f"{RUN}/training.png", "training_curves", "2 Training", "training curves"),
    log:
        log_of("plot_training"),
    benchmark:
        benchmark_of("plot_training")
    conda:
        "../../environment.yml"
    resources:
        **needs("plot_training"),
    params:
        code=code("plot_training"),
    shell:
        "amae plot-training --histories {input.stage1:q} {input.modules:q} --figure {output.figure:q} 2>&1 | tee {log:q}"


rule plot_scores:
    """ROC and precision-recall curves of every score over all seeds."""
    input:
        scores=SCORES,
    output:
        roc=shown(f"{DATA}/{{variant}}roc.png", "roc", "4 Results", "ROC curves"),
        precision_recall=shown(
            f"{DATA}/{{variant}}precision_recall.png", "precision_recall", "4 Results", "precision-recall curves"
        ),
    log:
        log_of("{variant}plot_scores", DATA_LOGS),
    benchmark:
        benchmark_of("{variant}plot_scores", DATA_LOGS)
    conda:
        "../../environment.yml"
    resources:
        **needs("plot_scores"),
    params:
        code=code("plot_scores"),
    shell:
        "amae plot-scores --scores-of-seeds {input.scores:q} --roc {output.roc:q}"
        " --precision-recall {output.precision_recall:q} 2>&1 | tee {log:q}"


rule plot_histograms:
    """Histograms of every score for normal and abnormal test images, and the sensitivity by finding."""
    input:
        **TESTED,
        scores=f"{RUN}/scores.csv",
    output:
        figure=shown(f"{RUN}/histograms.png", "histograms", "4 Results", "score histograms"),
        sensitivity=shown(f"{RUN}/sensitivity.png", "sensitivity", "4 Results", "sensitivity by finding"),
    log:
        log_of("plot_histograms"),
    benchmark:
        benchmark_of("plot_histograms")
    conda:
        "../../environment.yml"
    resources:
        **needs("plot_histograms"),
    params:
        specificity=config["predict"]["specificity"],
        code=code("plot_histograms"),
    shell:
        "amae plot-histograms --manifest {input.manifest:q} --index {input.index:q} --scores {input.scores:q}"
        " --figure {output.figure:q} --sensitivity {output.sensitivity:q} --specificity {params.specificity}"
        " 2>&1 | tee {log:q}"


rule plot_gallery:
    """Image, masked input, both reconstructions and the map for telling examples."""
    input:
        **IMAGES,
        scores=f"{RUN}/scores.csv",
        maps=f"{RUN}/reconstruction/maps.npz",
        boxes=unless_touched(BOXES),
        model=plan(stage2.model_for, "dataset", "variant", "seed", key="gallery"),
    output:
        figure=f"{RUN}/gallery.png",
        pages=shown(directory(f"{RUN}/gallery"), "gallery", "3 Reconstructions", "gallery {page}", ["{page}.png"]),
    log:
        log_of("plot_gallery"),
    benchmark:
        benchmark_of("plot_gallery")
    conda:
        "../../environment.yml"
    resources:
        **needs("plot_gallery"),
    params:
        options=optional("boxes", "model"),
        score=config["gallery"]["score"],
        rows=config["gallery"]["rows"],
        content=content_of(BOXES),
        code=code("plot_gallery"),
    shell:
        "amae plot-gallery --images {input.images:q} --index {input.index:q} --scores {input.scores:q}"
        " --maps {input.maps:q} --figure {output.figure:q} --pages {output.pages:q} --score {params.score:q}"
        " --rows {params.rows} {params.options} 2>&1 | tee {log:q}"
