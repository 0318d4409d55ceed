"""The gallery of one run."""

from amae.commands import parameters as p
from amae.data.boxes import packed_boxes, read_boxes
from amae.data.packed import open_images
from amae.evaluation.tables import labelled_scores
from amae.figures import gallery
from amae.predict.card import score_shown
from amae.runtime.errors import naming
from amae.runtime.files import load_arrays, rows_of


def plot_gallery(
    *,
    images: p.Images,
    index: p.Index,
    scores: p.Scores,
    maps: p.Maps,
    figure: p.Figure,
    pages: p.file("folder to write: a picture of each kind of example (.png)"),
    score: p.Score = "inter",
    rows: p.Rows = 4,
    boxes: p.Boxes = None,
    model: p.optional(p.Model) = None,
) -> None:
    """Show image, masked input, both reconstructions and the map for telling examples; score auto needs the model."""
    score = score_shown(score, model)
    table = labelled_scores(scores)
    with naming(scores):
        examples = gallery.choose_examples(table, score, rows)
    ids, titles = gallery.title_rows(examples, table, score)
    packed, about = open_images(images, index)
    places = rows_of(about.reset_index(names="row"), ids, index)["row"]
    shown = dict(zip(ids, packed[places.to_numpy()], strict=True))
    marked, findings = packed_boxes(read_boxes(boxes), about) if boxes else (None, None)
    arrays = load_arrays(maps, ("image_id", "mu_a", "mu_b", "visible"))
    with naming(maps):
        gallery.plot_gallery(ids, shown, arrays, titles, figure, marked, findings)
        for number, (kind, part) in enumerate(examples.items(), start=1):
            if part:
                page = pages / f"{number}_{kind.replace(',', '').replace(' ', '_')}.png"
                texts = titles[: len(part)]
                titles = titles[len(part) :]
                gallery.plot_gallery(part, shown, arrays, texts, page, marked, findings, scaled_by=ids)
