"""The trained model as one file, and new radiographs scored with it."""

from amae.plan import datasets, paths, splits, stage2, watched

FOLDER = plan(watched.folder_to_predict)


rule export_model:
    """Put a trained model into one file, with what normal and training images look like to it."""
    input:
        **PACKED,
        lungs=f"{DATA}/lungs.csv",
        weights=WEIGHTS,
        head=made("stage1", f"{RUN}/stage1/head.safetensors"),
        model_a=made("modules", f"{RUN}/module_A/mae.safetensors"),
        model_b=made("modules", f"{RUN}/module_B/mae.safetensors"),
        trained_detector=f"{RUN}/comparators/detector_Y/state.safetensors",
        measured=f"{RUN}/metrics.csv",
    output:
        model=f"{RUN}/model.safetensors",
        card=f"{RUN}/model.md",
        separation=f"{RUN}/separation.csv",
    log:
        log_of("export_model"),
    benchmark:
        benchmark_of("export_model")
    conda:
        "../../environment.yml"
    threads: CORES
    resources:
        **needs("export_model"),
    params:
        conversion=quoted("conversion"),
        square=quoted("square"),
        ratio=plan(splits.setting_options, "dataset", "variant"),
        noise=plan(datasets.noise_option, "dataset"),
        stage1=settings_of("stage1"),
        modules=settings_of("modules"),
        settings=settings_of("reconstruction"),
        code=code("export"),
    shell:
        "amae export --manifest {input.manifest:q} --images {input.images:q} --index {input.index:q}"
        " --lungs-table {input.lungs:q} --weights {input.weights:q} --head {input.head:q}"
        " --model-a {input.model_a:q} --model-b {input.model_b:q} --trained-detector {input.trained_detector:q}"
        " --measured {input.measured:q} --model {output.model:q} --card {output.card:q}"
        " --separation {output.separation:q} {params.ratio} {params.noise} {params.stage1} {params.modules}"
        " --dataset {wildcards.dataset} --conversion {params.conversion} --square {params.square} {params.settings}"
        " --seed {wildcards.seed}"
        " --device {resources.device} --gpus {resources.gpu} --jobs-per-card {resources.jobs_per_card}"
        " 2>&1 | tee {log:q}"


rule combine_models:
    """Put the models of all seeds into one file, which gives the mean of their scores and of their maps."""
    input:
        **PACKED,
        models=plan(paths.of_every_seed, "dataset", "variant", file="model.safetensors"),
    output:
        model=f"{DATA}/{{variant}}model.safetensors",
        card=f"{DATA}/{{variant}}model.md",
    log:
        log_of("{variant}combine_models", DATA_LOGS),
    benchmark:
        benchmark_of("{variant}combine_models", DATA_LOGS)
    conda:
        "../../environment.yml"
    threads: CORES
    resources:
        **needs("combine_models"),
    params:
        code=code("combine_models"),
    shell:
        "amae combine-models --models {input.models:q} --manifest {input.manifest:q} --images {input.images:q}"
        " --index {input.index:q} --model {output.model:q} --card {output.card:q}"
        " --device {resources.device} --gpus {resources.gpu} --jobs-per-card {resources.jobs_per_card}"
        " 2>&1 | tee {log:q}"


rule predict_radiographs:
    """Score the radiographs of the configured folder."""
    input:
        model=plan(stage2.model_for, "dataset", "variant", "seed", key="predict"),
        radiographs=ancient(FOLDER),
    output:
        folder=directory(f"{RUN}/predictions"),
    log:
        log_of("predict_radiographs"),
    benchmark:
        benchmark_of("predict_radiographs")
    conda:
        "../../environment.yml"
    threads: 64
    resources:
        **needs("predict_radiographs"),
    params:
        score=config["predict"]["score"],
        specificity=config["predict"]["specificity"],
        content=plan(watched.listing_of),
        code=code("predict"),
    shell:
        "amae predict {input.radiographs:q} --model {input.model:q} --output {output.folder:q} --score {params.score:q}"
        " --specificity {params.specificity} --workers {threads}"
        " --device {resources.device} --gpus {resources.gpu} --jobs-per-card {resources.jobs_per_card}"
        " 2>&1 | tee {log:q}"
