"""Functions that say which methods a table or figure shows, and where their numbers lie."""

import csv

EXPERIMENTS = config["experiments"]
PUBLISHED = f"{PACKAGE}/data/published.csv"
with open(PUBLISHED, encoding="utf-8") as file:
    TAXONOMY = {row["method"]: row["taxonomy"] for row in csv.DictReader(file)}


def needed(need, file):
    """An input function: a file that a comparator asks for, from the variant that changes it or from the main run."""

    def path(wildcards):
        wanted = need in load_method(wildcards.method).NEEDS
        return made("weights", file)(wildcards) if wanted else []

    return path


def needed_options(wildcards, input):
    """The files that a comparator asks for, as options of `amae compare`."""
    words = [("--lungs", input.lungs), ("--weights", input.weights)]
    return shlex.join(word for option, file in words if file for word in (option, str(file)))


def comparator_settings(method=None):
    """A param function: what the preset changes of a comparator's recipe, as JSON."""

    def text(wildcards):
        settings = config["presets"][config["preset"]].get("comparators", {})
        return json.dumps(settings.get(method or wildcards.method, {}))

    return text


def unlabeled_scores(wildcards):
    """The probabilities that rank T_u for pseudo-labels: of stage 1, as in the paper, or of the probe."""
    if not has_unlabeled(wildcards.dataset):
        raise WorkflowError(
            f"data set {wildcards.dataset} has no unlabeled images, so stage 2 and what needs it (the trained model, "
            "predictions, localisation) cannot be made; give it some, or ask for other targets"
        )
    source = SETTINGS[variant_of(wildcards)]["pseudo_labels"].source
    stage = {"stage1": "stage1_scores", "probe": "comparators"}[source]
    return made(stage, f"{RUN}/{source}/scores.csv")(wildcards)


def method_code(wildcards):
    """Fingerprint of a comparator's own code, which the command finds by name."""
    return [fingerprint(f"amae.comparators.{wildcards.method}:{name}") for name in ("fit", "score", "Settings")]


def protocols_of(method, dataset):
    """Protocols that a comparator can follow on a data set, each with the score to report."""
    return {p: score for p, score in load_method(method).PROTOCOLS.items() if p == "N" or has_unlabeled(dataset)}


def compared_parts(variant, dataset):
    """Where the scores of all methods lie that a run is compared with.

    The main run: every comparator, Mask Rec. and stage 1; a point of the sweep: DDAD and Mask Rec.; other weights:
    stage 1.
    """
    names = [f"{m}_{p}" for m in EXPERIMENTS["comparators"] for p in protocols_of(m, dataset)]
    if variant:
        names = [name for name in names if name == "ddad_Y"] if "anomaly_ratio" in VARIANTS[variant] else []
    pooled = has_unlabeled(dataset) and (not variant or "anomaly_ratio" in VARIANTS[variant])
    stage1 = not variant or "weights" in VARIANTS[variant]
    return [f"comparators/{name}" for name in names] + ["pooled"] * pooled + ["stage1"] * stage1


def compared_scores(wildcards):
    """Tables of scores of all methods that a run is compared with."""
    parts = compared_parts(variant_of(wildcards), wildcards.dataset)
    if not parts:
        raise WorkflowError(
            f"variant {variant_of(wildcards)}: nothing is compared with it, so there is no comparison.csv; metrics.csv "
            "has its own scores"
        )
    return expand(f"{RUN}/{{part}}/scores.csv", part=parts, **wildcards)


def audited_scores(wildcards):
    """Tables of scores of every method of the main run, one seed after another; the audit has the view by itself."""
    reconstruction = ["reconstruction"] * has_unlabeled(wildcards.dataset)
    compared = [part for part in compared_parts("", wildcards.dataset) if not part.startswith("comparators/view_only_")]
    run = dict(dataset=wildcards.dataset, variant="")
    parts = reconstruction + compared
    return [file for s in config["seeds"] for file in expand(f"{RUN}/{{part}}/scores.csv", part=parts, seed=s, **run)]


def shown(method, protocol, score, dataset, variant="", table="metrics.csv", **more):
    """A row of a table or figure: what it is called, and the score's metrics of every seed."""
    files = expand(f"{RUN}/{table}", dataset=dataset, variant=variant and f"{variant}/", seed=config["seeds"])
    taxonomy = more.pop("taxonomy", TAXONOMY.get(method, "reference"))
    return dict(method=method, protocol=protocol, taxonomy=taxonomy, score=score, metrics=files, **more)


def table2_methods(dataset):
    """Every row of Table 2 that is built, and the rows of this project's own."""
    rows = []
    for m in EXPERIMENTS["comparators"]:
        about = dict(table="comparison.csv", note=getattr(load_method(m), "NOTE", ""))
        for p, score in protocols_of(m, dataset).items():
            rows.append(shown(load_method(m).TITLE, p, f"{m}_{p}/{column(m, score)}", dataset, **about))
    if "imagenet" in EXPERIMENTS["backbones"]:
        rows.append(stage1_of("imagenet", dataset, "AMAE-IN stage 1"))
    rows.append(stage1_of("", dataset, "AMAE stage 1"))
    if has_unlabeled(dataset):
        rows.append(shown("AMAE Mask Rec.", "Y", "pooled/mask_rec", dataset, table="comparison.csv"))
        rows.append(shown("AMAE stage 2", "Y", "inter", dataset))
        for score, title in [("error_ratio", "Error ratio"), ("error_ratio_patch", "Error ratio per patch")]:
            rows.append(shown(title, "Y", score, dataset, taxonomy="ours", note="not in the paper"))
    return rows


def stage1_of(variant, dataset, title):
    """Stage 1 with the weights of a variant."""
    return shown(title, "N", "stage1/p_abnormal", dataset, variant, "comparison.csv", taxonomy="SSL")


def variants_methods(names):
    """A function of the data set: the main run and these variants, by the paper's score and by the error ratio."""

    def rows(dataset):
        return [
            shown(f"{variant or 'main'}: {score}", "Y", score, dataset, variant, **whose(score, variant))
            for score in ("inter", "error_ratio")
            for variant in ["", *names]
        ]

    return rows


def whose(score, variant):
    """Whether a score of a variant is the paper's, or this project's own."""
    if score == "inter" and SETTINGS[variant]["pseudo_labels"].source == "stage1":
        return dict(taxonomy="AMAE stage 2")
    return dict(taxonomy="ours", note="not in the paper")


def sweep_methods(dataset):
    """Figure 3a: scores at every anomaly ratio; the main run stands for its own."""
    main, rows = anomaly_ratio(dataset), []
    for ratio in EXPERIMENTS["anomaly_ratios"]:
        at = dict(dataset=dataset, variant="" if ratio == main else f"ar{ratio:g}", anomaly_ratio=ratio)
        rows += [shown("AMAE stage 2", "Y", "inter", **at), shown("AMAE stage 1", "Y", "stage1", **at)]
        rows.append(shown("Error ratio", "Y", "error_ratio", **at, taxonomy="ours"))
        rows.append(shown("AMAE Mask Rec.", "Y", "pooled/mask_rec", table="comparison.csv", **at))
        if "ddad" in EXPERIMENTS["comparators"]:
            rows.append(shown("DDAD-AE", "Y", "ddad_Y/ddad_inter", table="comparison.csv", **at))
    return rows


def backbone_methods(dataset):
    """Figure 3c: stage 1 with the main weights and with those of other backbones."""
    return [stage1_of(variant, dataset, variant or "ViT-S MAE") for variant in ["", *EXPERIMENTS["backbones"]]]


METHODS_OF = {
    "table2": table2_methods,
    "masks_ablation": variants_methods(EXPERIMENTS["masks"]),
    "sensitivity": variants_methods(EXPERIMENTS["decisions"]),
    "figure3a": sweep_methods,
    "figure3c": backbone_methods,
}


def methods_param(name=None):
    """A param function: the rows of a table or figure, as JSON."""

    def text(wildcards):
        return json.dumps(METHODS_OF[name or wildcards.name](wildcards.dataset))

    return text


def metrics_files(name=None):
    """An input function: the metrics behind a table or figure."""

    def files(wildcards):
        rows = METHODS_OF[name or wildcards.name](wildcards.dataset)
        return sorted({file for row in rows for file in row["metrics"]})

    return files


def panels(wildcards):
    """Figure 3b: scores of the first seed without and with pseudo-labels, by heading."""
    first = dict(dataset=wildcards.dataset, seed=config["seeds"][0])
    without, with_ = (expand(f"{RUN}/scores.csv", variant=v, **first)[0] for v in ("without_pseudo_labels/", ""))
    return {"without pseudo-labels": without, "with pseudo-labels": with_}


def panel_files(wildcards):
    """The tables behind Figure 3b."""
    return list(panels(wildcards).values())


def panels_param(wildcards):
    """Figure 3b's tables by heading, as JSON."""
    return json.dumps(panels(wildcards))


def records(wildcards):
    """Records of all jobs of the main run, by method."""
    seeds = dict(dataset=wildcards.dataset, variant="", seed=config["seeds"])
    parts = {"AMAE stage 1": ["stage1"], "AMAE stage 2": ["module_A", "module_B", "reconstruction"]}
    if not has_unlabeled(wildcards.dataset):
        del parts["AMAE stage 2"]
    for m in EXPERIMENTS["comparators"]:
        for p in protocols_of(m, wildcards.dataset):
            parts[f"{load_method(m).TITLE} ({p})"] = [f"comparators/{m}_{p}"]
    return {title: expand(f"{RUN}/{{part}}/run.json", part=names, **seeds) for title, names in parts.items()}


def record_files(wildcards):
    """The records behind the table of costs."""
    return [file for files in records(wildcards).values() for file in files]


def records_param(wildcards):
    """The records by method, as JSON."""
    return json.dumps(records(wildcards))
