"""Functions that say which scores a table or figure of the paper shows, and what its caption has to say."""

import csv
from amae.plan.captions import caveats

PUBLISHED = f"{PACKAGE}/evaluation/published.csv"
with open(PUBLISHED, encoding="utf-8") as file:
    TAXONOMY = {row["method"]: row["taxonomy"] for row in csv.DictReader(file)}


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
