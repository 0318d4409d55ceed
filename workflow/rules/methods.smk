"""The methods that are compared: what each needs, and where its scores and records lie."""

EXPERIMENTS = config["experiments"]


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
