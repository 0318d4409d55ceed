"""Score tables in, tables of results out. Written after the fact: no training command reads anything made here."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from amae.data.manifest import read_manifest
from amae.data.packed import rejected_beside, select
from amae.evaluation.metrics import auc, average_precision, bootstrap_interval, chi_square_distance
from amae.evaluation.statistics import mean_and_spread
from amae.runtime.errors import InputError, naming
from amae.runtime.files import read_csv, rows_of

CLASSES = ("normal", "abnormal")
NOT_SCORES = ("image_id", "label", "view", "finding", "severity")
THIRDS = ("faintest", "middle", "plainest")  # of the abnormal images, by severity
RANKING = {"auc": auc, "ap": average_precision}  # those with an interval over images
SMALLEST_GROUP = 10  # images per class: with fewer, an AUC means nothing


def read_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """The table of scores, checked, with score columns as float64: every column but those of NOT_SCORES is a score.

    Raises InputError for a missing column, a label other than normal or abnormal, a class without images, a repeated
    image or a score that is not a finite number.
    """
    missing = [column for column in ("image_id", "label") if column not in scores]
    if missing or not score_columns(scores):
        raise InputError(
            f"table of scores: found the columns {', '.join(scores)}; expected image_id, label and at least one score"
        )
    repeated = scores["image_id"][scores["image_id"].duplicated()]
    if len(repeated):
        raise InputError(
            f"table of scores: image_id {repeated.iloc[0]!r} appears more than once; expected one row each"
        )
    unknown = scores[~scores["label"].isin(CLASSES)]
    if len(unknown):
        raise InputError(
            f"table of scores: image {unknown['image_id'].iloc[0]!r} has the label {unknown['label'].iloc[0]!r}; "
            "test images need normal or abnormal"
        )
    counts = {name: int((scores["label"] == name).sum()) for name in CLASSES}
    if min(counts.values()) == 0:
        raise InputError(
            f"test set: found {counts['normal']} normal and {counts['abnormal']} abnormal images; AUC and average "
            "precision need both classes: add labelled test images of the missing class to the manifest"
        )
    return scores.assign(**{column: _numbers(scores, column) for column in score_columns(scores)})


def tested_images(manifest: Path, index: Path, *also: str) -> pd.DataFrame:
    """image_id, label ("" where unknown) and view of every test image of a manifest that could be read.

    With them the columns `also` that the manifest has.
    """
    images = read_manifest(manifest, needs=("test",))
    columns = ["image_id", "label", "view", *(name for name in also if name in images)]
    with naming(manifest):
        return select(images, read_csv(index, ["image_id"]), "test", rejected_beside(index))[columns]


def scores_by_folder(path: Path) -> pd.DataFrame:
    """A method's table of scores: image_id, and each score named by the table's folder, as in ddad_Y/ddad_inter.

    Methods and protocols share names of columns, but not folders.
    """
    table = read_csv(path, ["image_id"]).drop(columns=["label", "view", "split", "p_normal"], errors="ignore")
    return table.rename(columns={name: f"{path.parent.name}/{name}" for name in table if name != "image_id"})


def labelled_scores(path: Path) -> pd.DataFrame:
    """The scores of the test images whose label is known, as `read_scores` gives them; an InputError names the file."""
    scores = read_csv(path, ["image_id", "label"])
    with naming(path):
        return read_scores(scores[scores["label"] != ""])


def join_scores(images: pd.DataFrame, paths: Sequence[Path]) -> pd.DataFrame:
    """These images (image_id, ...) with every score of one seed, named by `scores_by_folder`.

    Raises InputError, naming the table, where an image has no score, or a score is in two tables.
    """
    for path in paths:
        table = scores_by_folder(path)
        twice = (set(table) & set(images)) - {"image_id"}
        if twice:
            raise InputError(f"{path}: score {sorted(twice)[0]!r} is in another table too; expected each score once")
        found = rows_of(table, images["image_id"], path).drop(columns="image_id")
        images = images.reset_index(drop=True).join(found)
    return images


def dependence(patients: pd.Series) -> str:
    """What speaks against intervals over images, from the patient of each, "" where unknown; "" for nothing."""
    repeated = int((patients[patients != ""].value_counts() > 1).sum())
    if not repeated:
        return ""
    return f"{repeated} patients have several images; the intervals take images as independent"


def score_columns(scores: pd.DataFrame) -> list[str]:
    """Names of the columns that contain scores, in their order."""
    return [column for column in scores if column not in NOT_SCORES]


def is_abnormal(scores: pd.DataFrame) -> np.ndarray:
    """Labels (N,) as int: 0 normal, 1 abnormal."""
    return (scores["label"] == "abnormal").to_numpy(int)


def metrics_of_scores(scores: pd.DataFrame, seed: int) -> pd.DataFrame:
    """AUC, average precision (each with a bootstrap 95 % interval over images) and chi-square distance of every score.

    Long form, one row per score and group: seed, score, group (all, view=PA, ...), normal and abnormal (counts), auc,
    auc_low, auc_high, ap, ap_low, ap_high, chi2. A group has at least 10 images of each class: a view; a finding, or a
    third of the abnormal images by severity, each against all normal images. A score is any column but those of
    `NOT_SCORES`. `seed` names the replicate alone: every table of a score has the same resamples. Raises InputError as
    `read_scores` does.
    """
    scores = read_scores(scores)
    rows = []
    for group, part in groups_of(scores):
        labels = is_abnormal(part)
        for column in score_columns(scores):
            values = part[column].to_numpy()
            row = {"seed": seed, "score": column, "group": group}
            row |= {"normal": int((labels == 0).sum()), "abnormal": int(labels.sum())}
            for name, metric in RANKING.items():
                row[name] = metric(labels, values)
                row[f"{name}_low"], row[f"{name}_high"] = bootstrap_interval(labels, values, metric)
            row["chi2"] = chi_square_distance(values[labels == 0], values[labels == 1])
            rows.append(row)
    return pd.DataFrame(rows)


def stack_scores(tables: Sequence[pd.DataFrame]) -> dict[str, np.ndarray]:
    """Each score's replicates (S, N) float64, one for each table that contains it, for the images of the first table.

    tables: as `read_scores` takes them, rows in any order. Raises InputError as it does, and where images differ.
    """
    ids = tables[0]["image_id"]
    stacked: dict[str, list[np.ndarray]] = {}
    for table in (read_scores(table).set_index("image_id") for table in tables):
        if len(table) != len(ids) or not table.index.isin(ids).all():
            raise InputError(
                f"tables of scores: one contains {len(ids)} images, another {len(table)}; expected the same ones"
            )
        for column in score_columns(table):
            stacked.setdefault(column, []).append(table.loc[ids, column].to_numpy())
    return {column: np.stack(values) for column, values in stacked.items()}


def measure(labels: np.ndarray, replicates: np.ndarray) -> dict[str, float | None]:
    """Metrics of a score over its replicates: labels (N,) int, 1 for abnormal; replicates (S, N), one for each seed.

    auc, ap, chi2 (means over replicates), each with _spread (1.96 x sample standard deviation over replicates, None for
    one), and for auc and ap _low and _high: the bootstrap 95 % interval of that mean over images; a resample consists
    of the same images for all replicates.
    """
    row = {}
    for name, metric in RANKING.items():
        row[name], row[f"{name}_spread"] = mean_and_spread([metric(labels, values) for values in replicates])
        row[f"{name}_low"], row[f"{name}_high"] = bootstrap_interval(labels, replicates, metric)
    chi2 = [chi_square_distance(values[labels == 0], values[labels == 1]) for values in replicates]
    row["chi2"], row["chi2_spread"] = mean_and_spread(chi2)
    return row


def summarise(scores: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables of scores of the same images, one for each seed, become one row per score and group.

    Columns: score, group, normal, abnormal, seeds (how many), then for auc, ap and chi2 what `measure` gives: _mean,
    _spread and, for auc and ap, _low and _high.
    """
    if not scores:
        raise InputError("summary: no table of scores given; expected one per seed")
    stacked = stack_scores(scores)
    rows = []
    for group, part in groups_of(scores[0].reset_index(drop=True)):
        labels = is_abnormal(part)
        for column, replicates in stacked.items():
            row = {"score": column, "group": group}
            row |= {name: int((part["label"] == name).sum()) for name in CLASSES} | {"seeds": len(replicates)}
            rows.append(row | measure(labels, replicates[:, part.index]))
    table = pd.DataFrame(rows).rename(columns={name: f"{name}_mean" for name in (*RANKING, "chi2")})
    return table.astype({column: float for column in table if column.endswith("_spread")})


def diagnose_pseudo_labels(pseudo: pd.DataFrame, hidden: pd.DataFrame) -> pd.DataFrame:
    """Counts of pseudo-labels, and how many are right, by the hidden labels of the unlabeled set.

    One row per class (normal, abnormal) and one for both (all): predicted (images that stage 1 calls so), accuracy
    (share of these whose hidden label agrees), kept (images given this pseudo-label), purity (share of these whose
    hidden label agrees), known (kept images whose hidden label is known). Shares are empty where no label is known;
    `hidden` may have no rows at all. Raises InputError where an image has two hidden labels, or the tables have no
    image in common.
    """
    truth = hidden_labels_of(pseudo, hidden)
    kept = is_kept(pseudo)
    rows = []
    for name in (*CLASSES, "all"):
        predicted = pseudo["predicted"].isin(CLASSES if name == "all" else [name])
        chosen = kept & pseudo["pseudo_label"].isin(CLASSES if name == "all" else [name])
        rows.append(
            {
                "class": name,
                "predicted": int(predicted.sum()),
                "accuracy": _agreement(pseudo["predicted"], truth, predicted),
                "kept": int(chosen.sum()),
                "purity": _agreement(pseudo["pseudo_label"], truth, chosen),
                "known": int((chosen & truth.isin(CLASSES)).sum()),
            }
        )
    return pd.DataFrame(rows).astype({"accuracy": float, "purity": float})


def is_kept(pseudo: pd.DataFrame) -> pd.Series:
    """The column `kept` of pseudo_labels.csv as bool, whether read as text or as bool."""
    return pseudo["kept"].astype(str).str.lower().isin(["true", "1"])


def hidden_labels_of(pseudo: pd.DataFrame, hidden: pd.DataFrame) -> pd.Series:
    """Hidden label of each row of `pseudo`, "" where unknown; a row of `hidden` whose image was unreadable is left out.

    Raises InputError where the two have no image in common, or an image has two labels.
    """
    if len(hidden) and not pseudo["image_id"].isin(hidden["image_id"]).any():
        raise InputError(
            f"hidden labels: none of the {len(hidden)} images is in the table of pseudo-labels, which begins with "
            f"{pseudo['image_id'].iloc[0]!r}; expected the unlabeled training images of the same manifest"
        )
    repeated = hidden["image_id"][hidden["image_id"].duplicated()]
    if len(repeated):
        raise InputError(f"hidden labels: image_id {repeated.iloc[0]!r} appears more than once; expected one row each")
    labels = dict(zip(hidden["image_id"], hidden["label"], strict=True))
    return pd.Series([labels.get(image_id, "") for image_id in pseudo["image_id"]], index=pseudo.index, dtype=str)


def _agreement(labels: pd.Series, truth: pd.Series, rows: pd.Series) -> float | None:
    known = rows & truth.isin(CLASSES)
    return float((labels[known] == truth[known]).mean()) if known.any() else None


def members_of(column: pd.Series) -> pd.DataFrame:
    """Which rows name what: bool, a column for each name of a text column that has `|` between several."""
    return column.str.replace(r"\s*\|\s*", "|", regex=True).str.get_dummies().astype(bool)


def groups_of(scores: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Groups of labelled images with at least SMALLEST_GROUP of each class: all (of any size), then each view, each
    finding and each third by severity, the last two with all normal images.

    An image is in the group of each of its findings, which | separates in the column finding.
    """
    yield "all", scores
    if "view" in scores:
        for view in sorted(set(scores["view"].dropna()) - {""}):
            part = scores[scores["view"] == view]
            if min((part["label"] == name).sum() for name in CLASSES) >= SMALLEST_GROUP:
                yield f"view={view}", part
    abnormal = scores["label"] == "abnormal"
    kinds = {}
    if "finding" in scores:
        found = members_of(scores["finding"])
        kinds = {f"finding={name}": found[name] for name in sorted(found)}
    if "severity" in scores:
        rank = pd.to_numeric(scores["severity"].where(abnormal), errors="coerce").rank(pct=True)
        bounds = enumerate(THIRDS)
        kinds |= {f"severity={name} third": (rank > i / 3) & (rank <= (i + 1) / 3) for i, name in bounds}
    for name, members in kinds.items():
        if min((members & abnormal).sum(), (~abnormal).sum()) >= SMALLEST_GROUP:
            yield name, scores[~abnormal | members]


def _numbers(scores: pd.DataFrame, column: str) -> pd.Series:
    numbers = pd.to_numeric(scores[column], errors="coerce").astype(np.float64)
    bad = scores[~np.isfinite(numbers)]
    if len(bad):
        raise InputError(
            f"table of scores: image {bad['image_id'].iloc[0]!r} has {column} = {bad[column].iloc[0]!r}; "
            "expected a finite number"
        )
    return numbers
