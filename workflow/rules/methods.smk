"""Functions that say which methods a table or figure shows, and where their numbers lie."""

import csv
from amae.captions import caveats

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


def compared_parts(dataset):
    """Where the scores lie of every method that the main run is compared with."""
    names = [f"comparators/{m}_{p}" for m in EXPERIMENTS["comparators"] for p in protocols_of(m, dataset)]
    return names + ["pooled"] * has_unlabeled(dataset) + ["stage1"]


def compared_scores(wildcards):
    """Tables of scores of all methods that a run is compared with."""
    return expand(f"{RUN}/{{part}}/scores.csv", part=compared_parts(wildcards.dataset), **wildcards)


def audited_scores(wildcards):
    """Tables of scores of every method of the main run, one seed after another; the audit has the view by itself."""
    reconstruction = ["reconstruction"] * has_unlabeled(wildcards.dataset)
    compared = [part for part in compared_parts(wildcards.dataset) if not part.startswith("comparators/view_only_")]
    run = dict(dataset=wildcards.dataset, variant="")
    parts = reconstruction + compared
    return [file for s in config["seeds"] for file in expand(f"{RUN}/{{part}}/scores.csv", part=parts, seed=s, **run)]


def shown(method, protocol, part, score, dataset, variant="", **more):
    """A row of a table or figure: what it is called, and where its score lies for every seed."""
    run = dict(dataset=dataset, variant=variant and f"{variant}/", seed=config["seeds"])
    files = expand(f"{RUN}/{part}/scores.csv", **run)
    taxonomy = more.pop("taxonomy", TAXONOMY.get(method, "reference"))
    name = f"{Path(part).name}/{score}"
    return dict(method=method, protocol=protocol, taxonomy=taxonomy, score=name, scores=files, **more)


def table2_methods(dataset):
    """Every row of Table 2 that is built, and the rows of this project's own."""
    rows = []
    for m in EXPERIMENTS["comparators"]:
        method = load_method(m)
        about = {key.lower(): getattr(method, key) for key in ("TAXONOMY", "NOTE") if hasattr(method, key)}
        for p, score in protocols_of(m, dataset).items():
            rows.append(shown(method.TITLE, p, f"comparators/{m}_{p}", column(m, score), dataset, **about))
    if "imagenet" in EXPERIMENTS["backbones"]:
        rows.append(stage1_of("imagenet", dataset, "AMAE-IN stage 1"))
    rows.append(stage1_of("", dataset, "AMAE stage 1"))
    if has_unlabeled(dataset):
        rows.append(shown("AMAE Mask Rec.", "Y", "pooled", "mask_rec", dataset))
        rows.append(shown("AMAE stage 2", "Y", "reconstruction", "inter", dataset))
        for score, title in [("error_ratio", "Error ratio"), ("error_ratio_patch", "Error ratio per patch")]:
            about = dict(taxonomy="ours", note="not in the paper")
            rows.append(shown(title, "Y", "reconstruction", score, dataset, **about))
    return rows


def caption_caveats(wildcards):
    """What a caption has to say of the run: departures from the paper, and what no figure shows."""
    return caveats(config, wildcards.dataset, has_unlabeled(wildcards.dataset))


def exposure(wildcards):
    """Whether the weights are Medical-MAE's chest files, whose pre-training list tells which images they have seen."""
    weights = Path(dataset_of(wildcards)["weights"]).name
    return "--exposure" if weights in CHEST_WEIGHTS else ""


def every_printed(wildcards):
    """Table 2 also lists what was only printed."""
    return "--every-printed" if wildcards.name == "table2" else ""


def reference(wildcards):
    """The method that the others of a table are tested against: AMAE's last stage on this data set."""
    return "AMAE stage 2" if has_unlabeled(wildcards.dataset) else "AMAE stage 1"


def stage1_of(variant, dataset, title):
    """Stage 1 with the weights of a variant."""
    return shown(title, "N", "stage1", "p_abnormal", dataset, variant, taxonomy="SSL")


def variants_methods(names):
    """A function of the data set: the main run and these variants, by every score of the reconstructions."""

    def rows(dataset):
        return [
            shown(title_of(score, v), "Y", "reconstruction", score, dataset, v, **whose(score, v))
            for score in ("inter", "mask_rec", "error_ratio", "error_ratio_patch")
            for v in ["", *names]
        ]

    return rows


def title_of(score, variant):
    """A variant's row: its name and score; the main run by the paper's score is the paper's method."""
    return "AMAE stage 2" if (score, variant) == ("inter", "") else f"{variant or 'main'}: {score}"


def whose(score, variant):
    """Whether a score of a variant is the paper's, or this project's own."""
    if score == "inter" and SETTINGS[variant]["pseudo_labels"].source == "stage1":
        return dict(taxonomy=TAXONOMY["AMAE stage 2"])
    return dict(taxonomy="ours", note="not in the paper")


def sweep_methods(dataset):
    """Figure 3a: scores at every anomaly ratio; the main run stands for its own."""
    main, rows = anomaly_ratio(dataset), []
    for ratio in EXPERIMENTS["anomaly_ratios"]:
        at = dict(dataset=dataset, variant="" if ratio == main else f"ar{ratio:g}", anomaly_ratio=ratio)
        rows.append(shown("AMAE stage 2", "Y", "reconstruction", "inter", **at))
        rows.append(shown("AMAE stage 1", "Y", "stage1", "p_abnormal", **at))
        rows.append(shown("Error ratio (ours)", "Y", "reconstruction", "error_ratio", **at, taxonomy="ours"))
        rows.append(shown("AMAE Mask Rec.", "Y", "pooled", "mask_rec", **at))
        if "ddad" in EXPERIMENTS["comparators"]:
            rows.append(shown("DDAD-AE", "Y", "comparators/ddad_Y", "ddad_inter", **at))
    return rows


def pseudo_label_methods(dataset):
    """Figure 3b: stage 2 without and with pseudo-labels."""
    of = dict(part="reconstruction", score="inter", dataset=dataset)
    without = shown("AMAE stage 2 without pseudo-labels", "Y", variant="without_pseudo_labels", **of)
    return [without, shown("AMAE stage 2", "Y", **of)]


def backbone_methods(dataset):
    """Figure 3c: stage 1 with the main weights and with those of other backbones."""
    return [stage1_of(variant, dataset, variant or "ViT-S MAE") for variant in ["", *EXPERIMENTS["backbones"]]]


METHODS_OF = {
    "table2": table2_methods,
    "masks_ablation": variants_methods(EXPERIMENTS["masks"]),
    "sensitivity": variants_methods(EXPERIMENTS["decisions"]),
    "figure3a": sweep_methods,
    "figure3b": pseudo_label_methods,
    "figure3c": backbone_methods,
}


def methods_param(name=None):
    """A param function: the rows of a table or figure, as JSON."""

    def text(wildcards):
        return json.dumps(METHODS_OF[name or wildcards.name](wildcards.dataset))

    return text


def scores_files(name=None):
    """An input function: the scores behind a table or figure."""

    def files(wildcards):
        rows = METHODS_OF[name or wildcards.name](wildcards.dataset)
        return sorted({file for row in rows for file in row["scores"]})

    return files


def records(wildcards):
    """Records of all jobs of the main run, by method; the pre-training is shared by those that start from f_0."""
    seeds = dict(dataset=wildcards.dataset, variant="", seed=config["seeds"])
    parts = {"AMAE stage 1": ["stage1"]}
    if has_unlabeled(wildcards.dataset):
        parts["AMAE stage 2, after stage 1"] = ["module_A", "module_B", "reconstruction"]
        parts["AMAE Mask Rec."] = ["pooled"]
    for m in EXPERIMENTS["comparators"]:
        for p in protocols_of(m, wildcards.dataset):
            parts[f"{load_method(m).TITLE} ({p})"] = [f"comparators/{m}_{p}"]
    files = {title: expand(f"{RUN}/{{part}}/run.json", part=names, **seeds) for title, names in parts.items()}
    if dataset_of(wildcards)["weights"] == "pretrain":
        files = {"Pre-training, once": expand(f"{DATA}/pretraining/run.json", **wildcards)} | files
    return files


def record_files(wildcards):
    """The records behind the table of costs."""
    return [file for files in records(wildcards).values() for file in files]


def records_param(wildcards):
    """The records by method, as JSON."""
    return json.dumps(records(wildcards))
