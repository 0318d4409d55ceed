"""Targets: of the configured data set, and of the paper.

Data sets without unlabeled images, or whose weights have no decoder, have no stage 2, and are left out where a target
needs it.
"""

from amae.plan import targets, transfer

TABLE2 = plan(targets.of_experiment, key="table2", names=["tables/table2.html", "tables/costs.html"])
FIGURE3A = plan(targets.of_experiment, key="figure3", names=["figures/figure3a.png"], stage2=True)
FIGURE3B = plan(targets.of_experiment, key="figure3", names=["figures/figure3b.png"], stage2=True)
FIGURE3C = plan(targets.of_experiment, key="figure3", names=["figures/figure3c.png"])
MASKS = plan(targets.of_experiment, key="figure3", names=["tables/masks_ablation.html"], stage2=True)
SENSITIVITY = plan(targets.of_experiment, key="figure3", names=["tables/sensitivity.html"], stage2=True)
AUDIT = plan(targets.of_experiment, key="audit", names=["tables/audit.html", "tables/audit.png"])
LOCALISATION = plan(targets.localisation)
BACKBONES = plan(targets.of_experiment, key="figure3", names=["tables/backbones.html"])


rule data:
    """Manifest, packed images and lung masks of the configured data set."""
    input:
        plan(targets.of_dataset, names=[*targets.IMAGES, "manifest.csv"]),


rule pretrain:
    """The pre-trained autoencoder of the configured data set."""
    input:
        plan(targets.of_dataset, names=["pretraining/mae.safetensors"]),


rule model:
    """The trained model as one file; with several seeds, also one of them all."""
    input:
        plan(targets.of_replicates, names=["model.safetensors"]),
        plan(targets.over_seeds),


rule predictions:
    """The radiographs of the configured folder, scored."""
    input:
        FOLDER,  # asked for even where there are predictions already
        plan(targets.of_replicates, names=["predictions"]),


rule setting:
    """Checks of the configured data set that need no label: do T_n and T_u suit each other?"""
    input:
        plan(targets.of_replicates, names=["setting.csv"]),


rule table2:
    """Table 2: every method on the benchmarks, beside what the papers print, and what each took."""
    input:
        TABLE2,


rule figure3a:
    """Figure 3a: AUC against the anomaly ratio."""
    input:
        FIGURE3A,


rule figure3b:
    """Figure 3b: with and without pseudo-labels."""
    input:
        FIGURE3B,


rule figure3c:
    """Figure 3c: backbones of stage 1."""
    input:
        FIGURE3C,


rule masks_ablation:
    """The number of masks in training and in test."""
    input:
        MASKS,


rule sensitivity:
    """The decisions of the method that a reader would question."""
    input:
        SENSITIVITY,


rule audit:
    """What the benchmarks hide: shortcuts, views, patients, subgroups."""
    input:
        AUDIT,


rule localisation:
    """Anomaly maps against boxes."""
    input:
        LOCALISATION,


rule transfer:
    """Models of each data set on the test images of the others."""
    input:
        plan(transfer.matrix),


rule paper:
    """Every table and figure of the paper, for every benchmark."""
    input:
        TABLE2,
        FIGURE3A,
        FIGURE3B,
        FIGURE3C,
        MASKS,
        SENSITIVITY,
        AUDIT,
        LOCALISATION,


rule backbones:
    """Every frozen encoder by stage 1, nearest neighbours, Mahalanobis distance and the probe."""
    input:
        BACKBONES,
