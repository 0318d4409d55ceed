"""Maps beside boxes."""

import numpy as np

from amae.commands import parameters as p
from amae.data.packed import evenly
from amae.evaluation.localisation import MAPS
from amae.evaluation.reconstructions import Reconstructions, boxes_of
from amae.evaluation.tables import labelled_scores, score_columns
from amae.figures import localisation
from amae.figures.style import score_name
from amae.predict.card import score_shown
from amae.runtime.errors import InputError


def plot_localisation(
    *,
    images: p.Images,
    index: p.Index,
    maps: p.Maps,
    scores: p.Scores,
    figure: p.Figure,
    boxes: p.Boxes = None,
    score: p.Score = "inter",
    rows: p.Rows = 4,
    model: p.optional(p.Model) = None,
) -> None:
    """Show boxes and maps of images with boxes, evenly spaced from the highest to the lowest score.

    Score auto needs the model.
    """
    score = score_shown(score, model)
    made = Reconstructions.read(images, index, maps)
    marked, findings = boxes_of(boxes, made.index)
    table = labelled_scores(scores)
    if score not in score_columns(table):
        raise InputError(f"{scores}: no score {score!r}; it has {', '.join(score_columns(table))}")
    ranked = table.sort_values([score, "image_id"], ascending=[False, True], ignore_index=True)
    boxed = ranked[ranked["image_id"].isin(set(marked) & set(made.ids)) & (ranked["label"] == "abnormal")]
    if boxed.empty:
        raise InputError(f"{boxes}: no abnormal test image has a box")
    shown = boxed.iloc[evenly(np.arange(len(boxed)), rows)]
    titles = [
        f"{image_id[:20]}\n{score_name(score)}:\n{value:.3g} (rank {rank + 1} of {len(ranked)})"
        for rank, image_id, value in zip(shown.index, shown["image_id"], shown[score], strict=True)
    ]
    part = made.part(shown["image_id"].tolist())
    localisation.plot_localisation(
        part.images,
        {name: part.map(name) for name in MAPS},
        [marked[each] for each in part.ids],
        titles,
        figure,
        [findings[each] for each in part.ids],
    )
