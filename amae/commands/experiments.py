"""Commands that make the tables and figures of a paper, the audit of a benchmark, and the localisation results."""

import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from amae.runtime.errors import InputError, naming
from amae.runtime.files import atomic, load_arrays, read_csv, read_record, rows_of, write_csv


def localise(options: Namespace) -> None:
    """Measure every anomaly map against the boxes."""
    from amae.evaluation.localisation import MAPS, localisation_metrics

    images, index, made = _reconstructions(options)
    boxes, findings = _boxes(options.boxes, index)
    manifest = read_csv(options.manifest, ["image_id", "label"])
    labels = rows_of(manifest, made["ids"], options.manifest)["label"]
    tables = []
    for name in MAPS:
        values = _map(name, images, index, made)
        table = localisation_metrics(values, made["ids"], labels, boxes, findings, options.seed)
        table.insert(0, "seed", options.seed)
        table.insert(1, "map", name)
        tables.append(table)
    write_csv(pd.concat(tables, ignore_index=True), options.table)


def plot_localisation(options: Namespace) -> None:
    """Boxes and maps of images with boxes, evenly spaced from the highest to the lowest of a score."""
    from amae.evaluation.localisation import MAPS
    from amae.evaluation.tables import labelled_scores, score_columns
    from amae.figures.localisation import plot_localisation as plot
    from amae.figures.style import score_name

    images, index, made = _reconstructions(options)
    boxes, findings = _boxes(options.boxes, index)
    scores = labelled_scores(options.scores)
    if options.score not in score_columns(scores):
        raise InputError(f"{options.scores}: no score {options.score!r}; it has {', '.join(score_columns(scores))}")
    ranked = scores.sort_values([options.score, "image_id"], ascending=[False, True], ignore_index=True)
    boxed = ranked[ranked["image_id"].isin(set(boxes) & set(made["ids"])) & (ranked["label"] == "abnormal")]
    if boxed.empty:
        raise InputError(f"{options.boxes}: no abnormal test image has a box")
    places = np.unique(np.linspace(0, len(boxed) - 1, min(options.rows, len(boxed))).round().astype(int))
    shown = boxed.iloc[places]
    at = [made["ids"].index(image_id) for image_id in shown["image_id"]]
    part = {"ids": shown["image_id"].tolist(), "patch": made["patch"]} | {n: made[n][at] for n in ("mu_a", "mu_b")}
    titles = [
        f"{image_id[:20]}\n{', '.join(sorted(set(findings[image_id]) - {''}))}\n{score_name(options.score)}:\n"
        f"{value:.3g} (rank {rank + 1} of {len(ranked)})"
        for rank, image_id, value in zip(shown.index, shown["image_id"], shown[options.score], strict=True)
    ]
    plot(
        images[_rows(index, part["ids"])],
        {name: _map(name, images, index, part) for name in MAPS},
        [boxes[image_id] for image_id in part["ids"]],
        titles,
        options.figure,
    )


def _boxes(path: Path | None, index: pd.DataFrame) -> tuple[dict[str, list], dict[str, list[str]]]:
    """Boxes in packed pixels and their findings. Raises InputError where there is none, with what to get."""
    from amae.data.boxes import packed_boxes, read_boxes

    if path is None:
        raise InputError("--boxes: missing; expected a table of boxes (for data of kind own: datasets.NAME.boxes)")
    boxes, findings = packed_boxes(read_boxes(path), index)
    if not boxes:
        raise InputError(
            f"{path}: no box of any image here, and localisation needs some. rsna, vindr, nih: `uv pip install "
            "--no-deps torchxrayvision` brings the boxes; vindr: also the original DICOM files, as the PNG copies do "
            "not tell the size that boxes refer to; paediatric: none are published; own: the image_id are the table's"
        )
    return boxes, findings


def audit(options: Namespace) -> None:
    """Shortcuts beside the scores of every seed, all in the groups that nobody reports, as a table and a text.

    Of `score_tables` each seed has the same number, in the order of `seeds`.
    """
    from amae.data.manifest import read_manifest
    from amae.data.packed import open_images
    from amae.evaluation.audit import audit_table, audit_text, shortcut_scores
    from amae.evaluation.tables import join_scores

    manifest = read_manifest(options.manifest, needs=("test",))
    images, index = open_images(options.images, options.index)
    shortcuts = manifest[["image_id", "label"]].merge(shortcut_scores(images, manifest, index), on="image_id")
    count, left = divmod(len(options.score_tables), len(options.seeds))
    if left:
        raise InputError(
            f"--score-tables: found {len(options.score_tables)} tables for {len(options.seeds)} seeds; expected the "
            "same number for each"
        )
    of_seeds = [options.score_tables[place * count : (place + 1) * count] for place in range(len(options.seeds))]
    scores = [join_scores(shortcuts[["image_id", "label"]], paths) for paths in of_seeds]
    table = audit_table([shortcuts, *scores], manifest, options.exposure)
    write_csv(table, options.table)
    with atomic(options.text) as temporary:
        temporary.write_text(audit_text(table, options.dataset, options.caveats), encoding="utf-8")


def tabulate_results(options: Namespace) -> None:
    """Methods side by side with what was printed, as CSV, Markdown and LaTeX."""
    from amae.evaluation import results

    replicates, published = _replicates(options), read_csv(options.published)
    with naming("--methods"):
        table = results.results_table(replicates, published, options.kind, options.anomaly_ratio, options.reference)
    if options.every_printed:
        table = results.add_printed_only(table, published, options.kind, options.anomaly_ratio)
    write_csv(table, options.table)
    ratio = "" if options.anomaly_ratio is None else f", anomaly ratio {options.anomaly_ratio}"
    caption = (
        f"{options.dataset}: AUC and average precision in percent, mean ± 1.96 sd over seeds, [95 % bootstrap interval "
        "of that mean over test images], the printed value and the difference to it. Protocol N: trained on normal "
        f"images only; Y: normal and unlabeled images{ratio}."
    )
    text = results.readable(table)
    if "AUC Welch" in text:
        caption += (
            f" Welch test against {options.reference}, two-sided, over seeds: ns p > 0.05, ** p ≤ 0.05, *** p ≤ 0.01, "
            "smaller p as it is."
        )
    caption = f"{caption} {options.caveats}".rstrip()
    results.write_markdown(text, options.markdown, caption)
    results.write_latex(text, options.latex, caption, f"tab:results-{options.dataset}")


def tabulate_costs(options: Namespace) -> None:
    """What each method takes, from the records of its jobs, as CSV, Markdown and LaTeX."""
    from amae.evaluation import results

    paths = {
        method: [Path(path) for path in of_method]
        for method, of_method in _json(options.records, "--records", dict).items()
    }
    records = {method: [read_record(path) for path in of_method] for method, of_method in paths.items()}
    sizes = {method: _bytes_of({path.parent for path in of_method}) for method, of_method in paths.items()}
    table = results.cost_table(records, sizes)
    write_csv(table, options.table)
    caption = (
        "Jobs, wall-clock hours in total, largest peak memory of a job, and size of the files that a method makes. "
        "AMAE stage 2 needs stage 1 as well, whose pseudo-labels it trains on; what starts from f_0 (AMAE, Mask Rec., "
        "the references on its features) needs its pre-training, which has a row where it was done here."
    )
    caption = f"{caption} {options.caveats}".rstrip()
    results.write_markdown(results.readable_costs(table), options.markdown, caption)
    results.write_latex(results.readable_costs(table), options.latex, caption, "tab:costs")


def plot_sweep(options: Namespace) -> None:
    """AUC against the anomaly ratio, with what was printed."""
    from amae.figures.sweep import plot_sweep as plot

    frame = _replicates(options)
    published = read_csv(options.published)
    chosen = (published["dataset"] == options.kind) & (published["metric"] == "auc")
    plot(frame, options.figure, published[chosen & published["method"].isin(frame["method"])])


def plot_comparison(options: Namespace) -> None:
    """AUC of methods with Welch tests against one of them."""
    from amae.figures.sweep import plot_comparison as plot

    replicates = _replicates(options)
    with naming("--reference"):
        plot(replicates, options.figure, options.reference)


def plot_histogram_panels(options: Namespace) -> None:
    """Histograms of a score of all seeds, one panel for each method, with the chi-square distance that was printed."""
    from amae.evaluation.results import printed_value
    from amae.figures.sweep import plot_histogram_panels as plot

    published, panels, printed = read_csv(options.published), {}, {}
    for about, tables in _methods(options):
        title, column = about["method"], about["score"].rpartition("/")[2]
        panels[title] = [table.rename(columns={about["score"]: column}) for table in tables]
        printed[title] = printed_value(published, about, options.kind, "chi2", options.anomaly_ratio)[0]
    plot(panels, column, options.figure, printed)


def _replicates(options: Namespace) -> pd.DataFrame:
    """A row for each method and seed of `--methods`."""
    from amae.evaluation.results import replicates_of

    rows = []
    for about, tables in _methods(options):
        ratio = about.pop("anomaly_ratio", "")
        with naming("--methods"):
            rows.append(replicates_of(tables, **about).assign(anomaly_ratio=ratio))
    return pd.concat(rows, ignore_index=True)


def _methods(options: Namespace) -> list[tuple[dict[str, Any], list[pd.DataFrame]]]:
    """Methods with their scores of every seed: image_id, label (the manifest's) and the scores of the method's table.

    `--methods` is a JSON list of {method, protocol, taxonomy, score, scores [, note, anomaly_ratio]}, where `scores` is
    the table of each seed and `score` is named folder/column, as in ddad_Y/ddad_inter.
    """
    from amae.evaluation.tables import join_scores, tested_images

    images = tested_images(options.manifest, options.index).drop(columns="view")
    images = images[images["label"] != ""]
    known, found = {"method", "protocol", "taxonomy", "score", "scores"}, []
    for about in _json(options.methods, "--methods", list):
        if not isinstance(about, dict) or not known <= set(about) <= known | {"note", "anomaly_ratio"}:
            raise InputError(
                f"--methods: {about}; expected the keys method, protocol, taxonomy, score and scores (a list of "
                "files), and at most note and anomaly_ratio"
            )
        found.append((about, [join_scores(images, [Path(path)]) for path in about.pop("scores")]))
    if not found:
        raise InputError("--methods: no method given")
    return found


def _json(text: str, option: str, kind: type) -> Any:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputError(f"{option} {text[:80]}: not JSON ({error})") from None
    if not isinstance(value, kind):
        raise InputError(f"{option}: found {text[:80]}, expected JSON of {'an object' if kind is dict else 'a list'}")
    return value


def _bytes_of(folders: set[Path]) -> int:
    """Size of the files in these folders; a folder inside another is counted once."""
    files = {file for folder in folders for file in folder.rglob("*") if file.is_file()}
    return sum(file.stat().st_size for file in files)


def _reconstructions(options: Namespace) -> tuple[np.ndarray, pd.DataFrame, dict[str, Any]]:
    """Packed images, their index, and the mean maps: ids, patch (pixels), mu_a, mu_b `(N, H, W)`."""
    from amae.data.packed import open_images

    images, index = open_images(options.images, options.index)
    maps = load_arrays(options.maps, ("image_id", "mu_a", "mu_b", "hidden"))
    made = {"ids": maps["image_id"].tolist(), "mu_a": maps["mu_a"], "mu_b": maps["mu_b"]}
    made["patch"] = maps["mu_a"].shape[1] // maps["hidden"].shape[1]
    if made["mu_a"].shape[1:] != images.shape[1:]:
        raise InputError(
            f"{options.maps}: maps of {made['mu_a'].shape[1]} px, the packed images have {images.shape[1]} px"
        )
    rows_of(index, made["ids"], options.index)  # refuses maps of another data set
    return images, index, made


def _map(name: str, images: np.ndarray, index: pd.DataFrame, made: Mapping[str, Any]) -> np.ndarray:
    from amae.evaluation.localisation import anomaly_map

    return anomaly_map(name, images[_rows(index, made["ids"])], made["mu_a"], made["mu_b"], made["patch"])


def _rows(index: pd.DataFrame, ids: Sequence[str]) -> np.ndarray:
    """Places of these images in the packed array."""
    return pd.Series(np.arange(len(index)), index=index["image_id"])[list(ids)].to_numpy()
