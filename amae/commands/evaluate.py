"""Commands that measure and show, after the fact."""

from argparse import Namespace

from amae.evaluation import tables
from amae.runtime.errors import naming
from amae.runtime.files import load_arrays, read_csv, rows_of, write_csv

PSEUDO_LABELS = ["image_id", "p_normal", "p_abnormal", "predicted", "threshold", "kept", "pseudo_label"]


def compute_metrics(options: Namespace) -> None:
    """Join the scores of the test images with their labels, and measure each; without T_u that is stage 1 alone."""
    scores = tables.tested_images(options.manifest, options.index)
    stage1 = read_csv(options.stage1_scores, ["image_id", "p_abnormal"])
    scores["stage1"] = rows_of(stage1, scores["image_id"], options.stage1_scores)["p_abnormal"]
    if path := options.reconstruction_scores:
        made = rows_of(read_csv(path, ["image_id"]), scores["image_id"], path)
        scores = scores.join(made.drop(columns="image_id"))
    write_csv(scores, options.scores)
    with naming(options.scores):
        metrics = tables.metrics_of_scores(scores[scores["label"] != ""], options.seed)
    write_csv(metrics, options.metrics)


def measure_scores(options: Namespace) -> None:
    """Metrics of several tables of scores in one; a score is named by its table's folder: ddad_Y/ddad_inter."""
    images = tables.tested_images(options.manifest, options.index)
    scores = tables.join_scores(images[images["label"] != ""], options.score_tables)
    with naming(options.manifest):
        metrics = tables.metrics_of_scores(scores, options.seed)
    write_csv(metrics, options.metrics)


def summarise_metrics(options: Namespace) -> None:
    """Mean, spread over seeds and interval over images of every score."""
    write_csv(tables.summarise([tables.labelled_scores(path) for path in options.scores_of_seeds]), options.table)


def diagnose_pseudo_labels(options: Namespace) -> None:
    """Purity and counts of the pseudo-labels, as a table and a picture."""
    from amae.figures.distributions import plot_pseudo_labels

    pseudo = read_csv(options.pseudo_labels, PSEUDO_LABELS)
    hidden = read_csv(options.hidden_labels, ["image_id", "label"])
    with naming(options.hidden_labels):
        diagnosis = tables.diagnose_pseudo_labels(pseudo, hidden)
    write_csv(diagnosis, options.table)
    plot_pseudo_labels(pseudo, hidden, options.figure)


def plot_training(options: Namespace) -> None:
    """Loss and learning rate of each training, named by its folder."""
    from amae.figures.curves import plot_training as plot

    plot({path.parent.name: read_csv(path, ["epoch", "lr", "loss"]) for path in options.histories}, options.figure)


def plot_scores(options: Namespace) -> None:
    """ROC and precision-recall curves of every score, all seeds."""
    from amae.figures.curves import plot_precision_recall, plot_roc

    files = zip(options.seeds, options.scores_of_seeds, strict=True)
    scores = {seed: tables.labelled_scores(path) for seed, path in files}
    plot_roc(scores, options.roc)
    plot_precision_recall(scores, options.precision_recall)


def plot_histograms(options: Namespace) -> None:
    """Histograms of every score by label."""
    from amae.figures.distributions import plot_histograms as plot

    plot(tables.labelled_scores(options.scores), options.figure)


def plot_gallery(options: Namespace) -> None:
    """Images, reconstructions and maps of the most and least anomalous images and of the worst mistakes."""
    from amae.data.boxes import packed_boxes, read_boxes
    from amae.data.packed import open_images
    from amae.figures import gallery

    scores = tables.labelled_scores(options.scores)
    with naming(options.scores):
        examples = gallery.choose_examples(scores, options.score, options.rows)
    rows, titles = gallery.title_rows(examples, scores, options.score)
    images, index = open_images(options.images, options.index)
    places = rows_of(index.reset_index(names="row"), rows, options.index)["row"]
    shown = dict(zip(rows, images[places.to_numpy()], strict=True))
    boxes = packed_boxes(read_boxes(options.boxes), index)[0] if options.boxes else None
    maps = load_arrays(options.maps, ("image_id", "mu_a", "mu_b", "visible"))
    with naming(options.maps):
        gallery.plot_gallery(rows, shown, maps, titles, options.figure, boxes)
