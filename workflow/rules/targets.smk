"""Targets: of the configured data set, and of the paper.

Data sets without unlabeled images have no stage 2, and are left out where a target needs it.
"""

IMAGES = ["images.npy", "contact_sheet.png", "lungs.png"]
OVER_SEEDS = ["summary.csv", "roc.png", "precision_recall.png"]
PER_SEED = ["training.png", "histograms.png"]
# What only T_u makes possible; without it, stage 1 is compared with the other methods of protocol N.
PER_SEED += (
    ["pseudo_labels.png", "gallery.png", "model.safetensors"]
    if has_unlabeled(config["dataset"])
    else ["comparison.csv"]
)
MAIN = dict(dataset=config["dataset"], variant="", seed=config["seeds"])


rule data:
    """Manifest, packed images and lung masks of the configured data set."""
    input:
        expand(f"{DATA}/{{name}}", name=IMAGES + ["manifest.csv"], **MAIN),


rule pretrain:
    """The pre-trained autoencoder of the configured data set."""
    input:
        expand(f"{DATA}/pretraining/mae.safetensors", **MAIN),


rule model:
    """The trained model as one file."""
    input:
        expand(f"{RUN}/model.safetensors", **MAIN),


rule predictions:
    """The radiographs of the configured folder, scored."""
    input:
        folder_to_predict,  # asked for even where there are predictions already
        expand(f"{RUN}/predictions", **MAIN),


rule table2:
    """Table 2: every method on the benchmarks, beside what the papers print, and what each took."""
    input:
        expand(f"{DATA}/tables/{{name}}.md", dataset=EXPERIMENTS["table2"], name=["table2", "costs"]),


rule figure3a:
    """Figure 3a: AUC against the anomaly ratio."""
    input:
        expand(f"{DATA}/figures/figure3a.png", dataset=filter(has_unlabeled, EXPERIMENTS["figure3"])),


rule figure3b:
    """Figure 3b: with and without pseudo-labels."""
    input:
        expand(f"{DATA}/figures/figure3b.png", dataset=filter(has_unlabeled, EXPERIMENTS["figure3"])),


rule figure3c:
    """Figure 3c: backbones of stage 1."""
    input:
        expand(f"{DATA}/figures/figure3c.png", dataset=EXPERIMENTS["figure3"]),


rule masks_ablation:
    """The number of masks in training and in test."""
    input:
        expand(f"{DATA}/tables/masks_ablation.md", dataset=filter(has_unlabeled, EXPERIMENTS["figure3"])),


rule sensitivity:
    """The decisions of the method that a reader would question."""
    input:
        expand(f"{DATA}/tables/sensitivity.md", dataset=filter(has_unlabeled, EXPERIMENTS["figure3"])),


rule audit:
    """What the benchmarks hide: shortcuts, views, patients, subgroups."""
    input:
        expand(f"{DATA}/tables/audit.md", dataset=EXPERIMENTS["audit"]),


rule localisation:
    """Anomaly maps against boxes."""
    input:
        expand(
            f"{RUN}/localisation.{{suffix}}",
            dataset=filter(has_unlabeled, EXPERIMENTS["localisation"]),
            variant="",
            seed=config["seeds"],
            suffix=["csv", "png"],
        ),


rule paper:
    """Everything above, for every benchmark."""
    input:
        rules.table2.input,
        rules.figure3a.input,
        rules.figure3b.input,
        rules.figure3c.input,
        rules.masks_ablation.input,
        rules.sensitivity.input,
        rules.audit.input,
        rules.localisation.input,
