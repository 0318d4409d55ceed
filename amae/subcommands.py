"""The sub-commands of the command line as a table; nothing here imports what they compute with."""

from dataclasses import dataclass

from amae.settings import (
    ModelSettings,
    ModuleSettings,
    PretrainSettings,
    PseudoLabelSettings,
    ReconstructionSettings,
    Stage1Settings,
)


@dataclass(frozen=True)
class Command:
    """A sub-command: `function` is module:name, `files` are required paths, `settings` become options.

    `arguments` are given by their place, the others by name.
    """

    function: str
    meaning: str
    files: dict[str, str]
    settings: tuple[type, ...] = ()
    options: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()


_SOURCE = ("dataset", "folder", "repartition", "anomaly-ratio", "patient-disjoint", "sexes", "splits", "metadata")
_COMPUTE = ("seed", "device", "gpus")

COMMANDS = {
    "simulate": Command(
        "amae.commands.data:simulate",
        "simulate chest radiographs as DICOM files, with labels and boxes",
        {},
        options=("folder", "count", "seed", "abnormal", "calibration", "workers"),
    ),
    "fetch-source": Command(
        "amae.commands.sources:fetch_source",
        "fetch, verify and unpack what is open of a published data set or of published weights",
        {},
        options=("dataset", "folder"),
    ),
    "index-source": Command(
        "amae.commands.sources:index_source",
        "make the manifest and the boxes of a published data set",
        {"table": "table of every image with its label (.csv)", "manifest": "", "hidden-labels": ""}
        | {"boxes": "boxes of the test images (.csv)"},
        options=_SOURCE,
    ),
    "list-source": Command(
        "amae.commands.sources:list_source",
        "list every image that a published data set uses at any anomaly ratio",
        {"table": "table of every image with its label (.csv)", "candidates": "manifest of all these images (.csv)"},
        options=_SOURCE,
    ),
    "list-images": Command(
        "amae.commands.data:list_images",
        "list every image that a data set uses at any anomaly ratio",
        {"table": "table of images (.csv)", "candidates": "manifest of all these images (.csv)"},
        options=("root", "splits"),
    ),
    "index": Command(
        "amae.commands.data:index",
        "make the manifest from a table of images, and draw the splits",
        {"table": "table of images: path, and where known label, patient_id, view, split (.csv)", "manifest": ""}
        | {"hidden-labels": ""},
        options=("root", "splits"),
    ),
    "convert": Command(
        "amae.commands.data:convert",
        "pack DICOM, PNG or JPEG files as square 8-bit grey images",
        {"manifest": "", "images": "", "lung-images": "", "index": "", "rejected": "", "sheet": ""},
        options=("image-size", "conversion", "square", "allowed-failures", "workers"),
    ),
    "segment-lungs": Command(
        "amae.commands.data:segment_lungs",
        "find the lungs of every image",
        {"lung-images": "", "index": "", "lungs": "", "table": "coverage of every mask (.csv)", "sheet": ""},
        options=("workers",),
    ),
    "pretrain": Command(
        "amae.commands.train:pretrain",
        "pre-train a masked autoencoder on T_n and T_u",
        {"manifest": "", "images": "", "index": "", "weights": "", "history": "", "record": ""},
        (ModelSettings, PretrainSettings),
        _COMPUTE,
    ),
    "import-weights": Command(
        "amae.commands.train:import_weights",
        "check a pre-trained autoencoder (or a DenseNet-121 for stage 1), and write it as safetensors of this project",
        {"weights": ""},
        (ModelSettings,),
        ("source", "normalisation"),
    ),
    "train-stage1": Command(
        "amae.commands.train:train_stage1",
        "train the stage 1 head on normal images and synthetic anomalies",
        {"manifest": "", "images": "", "index": "", "lungs": "", "weights": ""}
        | {"head": "", "history": "", "record": ""},
        (Stage1Settings,),
        _COMPUTE,
    ),
    "score-stage1": Command(
        "amae.commands.train:score_stage1",
        "score T_u and the test images with stage 1",
        {"manifest": "", "images": "", "index": "", "weights": "", "head": "", "stage1-scores": ""},
        options=("device", "gpus"),
    ),
    "score-probe": Command(
        "amae.commands.compare:score_probe",
        "score T_u with the positive-unlabeled probe, out of fold, for pseudo-labels of our own",
        {"manifest": "", "images": "", "index": "", "weights": "", "probe-scores": ""},
        options=("settings", "device", "gpus"),
    ),
    "export-pseudo-labels": Command(
        "amae.commands.pseudolabels:export_pseudo_labels",
        "decide which unlabeled images become pseudo-normal and pseudo-abnormal",
        {"unlabeled-scores": "", "pseudo-labels": ""},
        (PseudoLabelSettings,),
    ),
    "train-module": Command(
        "amae.commands.train:train_module",
        "adapt the autoencoder as module A or B, or on T_n and T_u pooled",
        {"manifest": "", "images": "", "index": "", "weights": "", "model": "", "history": "", "record": ""},
        (ModuleSettings,),
        ("module", "pseudo-labels", *_COMPUTE),
    ),
    "reconstruct": Command(
        "amae.commands.train:reconstruct",
        "reconstruct the test images with both modules, and score them",
        {"manifest": "", "images": "", "index": "", "model-a": "", "model-b": ""}
        | {"reconstruction-scores": "", "maps": "", "record": ""},
        (ReconstructionSettings,),
        _COMPUTE,
    ),
    "score-pooled": Command(
        "amae.commands.train:score_pooled",
        "score the test images with the baseline Mask Rec.",
        {"manifest": "", "images": "", "index": "", "model": "", "scores": ""},
        (ReconstructionSettings,),
        _COMPUTE,
    ),
    "compare": Command(
        "amae.commands.compare:compare",
        "train a comparator, and score the test images with it",
        {"manifest": "", "images": "", "index": "", "state": "", "history": "", "record": "", "scores": ""},
        options=("method", "protocol", "settings", "lungs", "weights", *_COMPUTE),
    ),
    "export": Command(
        "amae.commands.predict:export_model",
        "put a trained model into one file, to score new radiographs with",
        {"manifest": "", "images": "", "index": "", "lungs-table": "coverage of every lung mask (.csv)"}
        | {"weights": "", "head": "", "model-a": "", "model-b": ""}
        | {"model": "model to write (.safetensors)", "card": "model card to write (.md)"},
        (ReconstructionSettings,),
        ("dataset", "conversion", "square", *_COMPUTE),
    ),
    "inspect": Command("amae.commands.predict:inspect_model", "print what a model is", {}, arguments=("exported",)),
    "predict": Command(
        "amae.commands.predict:predict_files",
        "score new radiographs: table, heat maps, overlays, contact sheet, and one page that opens offline",
        {"model": "model made by amae export (.safetensors)"},
        options=("output", "score", "specificity", "dicom", "workers", "device", "gpus"),
        arguments=("radiographs",),
    ),
    "compute-metrics": Command(
        "amae.commands.evaluate:compute_metrics",
        "join the scores with the test labels, and compute AUC and average precision",
        {"manifest": "", "index": "", "stage1-scores": "", "scores": "", "metrics": ""},
        options=("reconstruction-scores", "seed"),
    ),
    "measure-scores": Command(
        "amae.commands.evaluate:measure_scores",
        "compute the metrics of several tables of scores",
        {"manifest": "", "index": "", "metrics": ""},
        options=("score-tables", "seed"),
    ),
    "summarise-metrics": Command(
        "amae.commands.evaluate:summarise_metrics",
        "mean, spread over seeds and interval over images of every score",
        {"table": "summary to write (.csv)"},
        options=("scores-of-seeds",),
    ),
    "diagnose-pseudo-labels": Command(
        "amae.commands.evaluate:diagnose_pseudo_labels",
        "purity and counts of the pseudo-labels, by the hidden labels",
        {"pseudo-labels": "", "hidden-labels": "", "table": "diagnosis to write (.csv)", "figure": ""},
    ),
    "plot-training": Command(
        "amae.commands.evaluate:plot_training",
        "plot the training curves",
        {"figure": ""},
        options=("histories",),
    ),
    "plot-scores": Command(
        "amae.commands.evaluate:plot_scores",
        "plot ROC and precision-recall curves of every score",
        {"roc": "ROC curves to write (.png)", "precision-recall": "precision-recall curves to write (.png)"},
        options=("scores-of-seeds", "seeds"),
    ),
    "plot-histograms": Command(
        "amae.commands.evaluate:plot_histograms",
        "plot the scores of normal and abnormal test images",
        {"scores": "", "figure": ""},
    ),
    "localise": Command(
        "amae.commands.experiments:localise",
        "measure the anomaly maps against boxes",
        {"manifest": "", "images": "", "index": "", "maps": "", "table": "localisation metrics to write (.csv)"},
        options=("boxes", "seed"),
    ),
    "plot-localisation": Command(
        "amae.commands.experiments:plot_localisation",
        "show boxes and maps of images with boxes",
        {"images": "", "index": "", "maps": "", "scores": "", "figure": ""},
        options=("boxes", "score", "rows"),
    ),
    "audit": Command(
        "amae.commands.experiments:audit",
        "measure shortcuts, and every score in the groups that comparisons leave out",
        {"manifest": "", "images": "", "index": "", "table": "audit to write (.csv)", "text": ""},
        options=("score-tables", "seeds", "dataset", "exposure", "caveats"),
    ),
    "tabulate-results": Command(
        "amae.commands.experiments:tabulate_results",
        "methods beside what the papers print",
        {"published": "", "manifest": "", "index": "", "table": "results to write (.csv)", "markdown": "", "latex": ""},
        options=("methods", "dataset", "kind", "anomaly-ratio", "reference", "every-printed", "caveats"),
    ),
    "tabulate-costs": Command(
        "amae.commands.experiments:tabulate_costs",
        "what each method takes",
        {"table": "costs to write (.csv)", "markdown": "", "latex": ""},
        options=("records", "caveats"),
    ),
    "plot-sweep": Command(
        "amae.commands.experiments:plot_sweep",
        "plot AUC against the anomaly ratio",
        {"published": "", "manifest": "", "index": "", "figure": ""},
        options=("methods", "kind"),
    ),
    "plot-comparison": Command(
        "amae.commands.experiments:plot_comparison",
        "plot AUC of methods with Welch tests",
        {"manifest": "", "index": "", "figure": ""},
        options=("methods", "reference"),
    ),
    "plot-panels": Command(
        "amae.commands.experiments:plot_histogram_panels",
        "plot histograms of one score of several methods",
        {"published": "", "manifest": "", "index": "", "figure": ""},
        options=("methods", "kind", "anomaly-ratio"),
    ),
    "plot-gallery": Command(
        "amae.commands.evaluate:plot_gallery",
        "show image, masked input, both reconstructions and the map for telling examples",
        {"images": "", "index": "", "scores": "", "maps": "", "figure": ""},
        options=("score", "rows", "boxes"),
    ),
}
