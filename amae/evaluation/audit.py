"""The parts of a benchmark that nobody reports: shortcuts that need no lungs, and every score by group.

A score trained with several seeds is reported by the mean of its seeds' AUCs, with 1.96 x their sample standard
deviation (how much the training varies) and the 95 % bootstrap interval of that mean over test images (how much the
choice of images matters). A seed's scores are never averaged with another's: an ensemble would be another method.

No sign, threshold or choice here is taken from test labels: an AUC below 0.5 stays below 0.5.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.fft import fft2

from amae.data.manifest import VIEWS
from amae.evaluation.tables import CLASSES, SMALLEST_GROUP, is_abnormal, measure, members_of, stack_scores
from amae.runtime.errors import InputError
from amae.runtime.files import rows_of

# Each property is a score as it is, "more of it" = higher. None of them is a property of the lungs.
PROPERTIES = {
    "original_size": "pixels of the original matrix, rows * columns",
    "aspect_ratio": "width / height of the original matrix",
    "mean_intensity": "mean of the packed image, 0 to 1",
    "spectral_slope": "slope of log power against log spatial frequency (less steep = higher)",
    "high_frequency": "share of the power above half the Nyquist frequency, within a Hann window",
}
UNUSUAL = "unusual_"  # prefix: |z|, the distance from the mean of T_n in its standard deviations, in either direction
SHORTCUTS = {
    "view_only": "1 for AP, 0 for PA, their mean for any other view",
    **PROPERTIES,
    **{f"{UNUSUAL}{name}": f"|z| against T_n of: {meaning}" for name, meaning in PROPERTIES.items()},
}
MANY = 6  # scores: with more, the text gives their range, and names the extremes
AGES = ((0, 18), (18, 40), (40, 60), (60, 80), (80, 121))  # years, the upper end excluded
# How the names of groups begin, and what a difference between such a group and the whole may mean.
_MEANINGS = {
    "view=": "Within one view nothing is gained by telling views apart: a loss in every view is what that was worth.",
    "patient not": "Images of patients whom no training image shows cannot be recognised: a loss there may be what the "
    "overlap of patients was worth.",
    "not seen": "On images that the pre-training has not seen, a loss may be what that exposure was worth; it came "
    "without labels, but may differ by class.",
    "sex=": "By sex, a difference means that the score serves one group less well, or that its findings are harder.",
    "age=": "By age, likewise.",
    "reader=": "By reader of the label (an image is in the group of each of its readers): where a reader's share "
    "differs by class, so may the time or place of the images, and a loss within a reader may be what that was worth.",
}
SIGN_NOTE = (
    "The sign of every score was fixed beforehand, so a shortcut may reach an AUC below 0.5; turned round it reaches "
    "1 - AUC, and a model free to choose its sign can use it that well."
)


def shortcut_scores(images: np.ndarray, manifest: pd.DataFrame, index: pd.DataFrame) -> pd.DataFrame:
    """One row per labelled test image: image_id and one column for each of SHORTCUTS.

    images: uint8 (N, S, S), one for each row of `index` (as `convert` writes them); manifest: its rows that have an
    image, with split, label, view. Only T_n and the test images are looked at, and of T_n no label. `view_only` is left
    out where no test image has a known view. Raises InputError where no test image has a label, and for one that the
    index lacks.
    """
    split, label = manifest["split"], manifest["label"]
    normal, test = manifest[split == "train_normal"], manifest[(split == "test") & label.isin(CLASSES)]
    if test.empty:
        raise InputError("audit: the manifest has no labelled test image; expected normal and abnormal ones")
    index = index.assign(row=np.arange(len(index)))
    reference, found = (
        _properties(images, rows_of(index, part["image_id"], "index of the images")) for part in (normal, test)
    )
    made = {"image_id": test["image_id"].to_numpy()}
    views = test["view"].map(VIEWS)
    if views.notna().any():
        made["view_only"] = views.fillna(views.mean()).to_numpy()
    made |= found
    for name, values in found.items() if len(normal) else ():
        centre, spread = reference[name].mean(), reference[name].std()
        made[f"{UNUSUAL}{name}"] = np.abs(values - centre) / (spread if spread > 0 else 1)
    return pd.DataFrame(made)


def spectrum(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spectral slope (N,) and share of high frequencies (N,) of square images (N, S, S); power is |FFT|^2.

    A Hann window keeps the edges of the image out of its spectrum. The slope is that of log radially averaged power
    against log frequency, from 2 cycles per image to Nyquist, octaves weighing the same; the share is of the power
    above half the Nyquist frequency, without the mean. An image without any contrast has slope 0 and share 0.
    """
    size = images.shape[1]
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    cycles = np.fft.fftfreq(size, 1 / size)
    radius = np.hypot(cycles[:, None], cycles)
    ring = radius.round().astype(int).ravel()
    pixels = np.bincount(ring)
    used = np.arange(2, size // 2 + 1)
    weights = 1 / used / (1 / used).sum()
    x = np.log(used) - weights @ np.log(used)
    slope, share = np.zeros((2, len(images)))
    for place, image in enumerate(images):
        grey = np.asarray(image, np.float32) / 255
        power = np.abs(fft2((grey - grey.mean()) * window[:, None] * window)) ** 2
        power[0, 0] = 0
        if power.sum() <= 1e-9 * power.size:  # rounding alone
            continue
        mean = np.bincount(ring, weights=power.ravel()) / pixels
        slope[place] = weights @ (x * np.log(mean[used] + 1e-12)) / (weights @ x**2)
        share[place] = power[radius > size / 4].sum() / power.sum()
    return slope, share


def audit_table(tables: Sequence[pd.DataFrame], manifest: pd.DataFrame, exposure: bool = False) -> pd.DataFrame:
    """Every score in every group of test images, in long form, one row per score and group.

    tables: image_id, label and score columns, of the same images each: one of the shortcuts, and one of the methods'
    scores for each seed. Several tables are replicates. manifest: with split, patient_id, view and, where known, sex,
    age, readers (| between several) and in_pretraining (yes, no, or "" where unknown: such an image is in neither
    group); exposure: whether the weights are of the pre-training that the last one describes. Columns: score, group,
    normal and abnormal (counts), seeds (replicates), and for auc and ap the mean over seeds, _spread (1.96 x sample
    standard deviation over seeds, empty for one), _low and _high (95 % bootstrap interval of the mean over images);
    note. A group with fewer than 10 images of a class keeps its counts, and its metrics are empty.
    """
    ids, labels, replicates = tables[0]["image_id"], is_abnormal(tables[0]), stack_scores(tables)
    training = manifest.loc[manifest["split"].isin(["train_normal", "train_unlabeled"]), "patient_id"]
    rows = []
    for group, members in _groups(rows_of(manifest, ids, "manifest"), training, exposure):
        counts = dict(zip(CLASSES, np.bincount(labels[members], minlength=2).tolist(), strict=True))
        for column, values in replicates.items():
            row = {"score": column, "group": group, **counts, "seeds": len(values)}
            row |= measure(labels[members], values[:, members]) if min(counts.values()) >= SMALLEST_GROUP else {}
            rows.append(row | {"note": f"turned round: {1 - row['auc']:.3f}" if row.get("auc", 1) < 0.5 else ""})
    metrics = [f"{name}{end}" for name in ("auc", "ap") for end in ("", "_spread", "_low", "_high")]
    table = pd.DataFrame(rows, columns=["score", "group", *CLASSES, "seeds", *metrics, "note"])
    return table.astype(dict.fromkeys(metrics, float))


def audit_text(table: pd.DataFrame, dataset: str, caveats: str = "") -> str:
    """The findings of `audit_table` on a data set, in plain words with its numbers (Markdown, a few paragraphs).

    caveats: what else a reader has to know of the run, stated at the end.
    """
    table = table.assign(method=~table["score"].isin(SHORTCUTS))
    whole = table[table["group"] == "all"]
    normal, abnormal = whole[list(CLASSES)].astype(int).iloc[0]
    seeds = int(whole["seeds"].max())
    mean = f"An AUC is the mean over {seeds} seeds, ± 1.96 standard deviations. " if seeds > 1 else ""
    parts = [
        f"**What {dataset} hides.** The test set has {normal} normal and {abnormal} abnormal images. {mean}Beside an "
        "AUC stands its 95 % bootstrap interval over images and, in a group, the change against all images."
    ]
    parts[0] += " " + _about_shortcuts(whole)
    for marks, meaning in _MEANINGS.items():
        groups = [group for group in dict.fromkeys(table["group"]) if group.startswith(marks)]
        told = [_about_group(table, group) for group in groups]
        if told:
            parts.append(f"{meaning} {' '.join(told)}")
    if not table["group"].str.startswith("patient").any():
        parts.append("Patients are not known, so that the same patient may be in training and test.")
    return "\n\n".join([*parts, caveats]).rstrip() + "\n"


def separates(table: pd.DataFrame) -> pd.Series:
    """True for the rows of `audit_table` whose interval of the AUC excludes 0.5."""
    return (table["auc_low"] > 0.5) | (table["auc_high"] < 0.5)


def age_in_years(text: str) -> float:
    """Age from a number of years or a DICOM age string (PS3.5 6.2, AS: 045Y, 018M, 002W); nan where not plausible."""
    found = re.fullmatch(r"\s*(\d{1,3}(?:\.\d+)?)\s*([YMWD]?)\s*", str(text), re.IGNORECASE)
    if not found:
        return np.nan
    years = float(found[1]) / {"Y": 1, "M": 12, "W": 52.18, "D": 365.25}[found[2].upper() or "Y"]
    return years if years < AGES[-1][1] else np.nan  # RSNA has patients of 148 and more


def _properties(images: np.ndarray, table: pd.DataFrame) -> dict[str, np.ndarray]:
    chosen = images[table["row"].to_numpy()]
    slope, share = spectrum(chosen)
    return {
        "original_size": (table["rows"] * table["columns"]).to_numpy(float),
        "aspect_ratio": (table["columns"] / table["rows"]).to_numpy(float),
        "mean_intensity": chosen.mean(axis=(1, 2), dtype=np.float64) / 255,
        "spectral_slope": slope,
        "high_frequency": share,
    }


def _groups(known: pd.DataFrame, training: pd.Series, exposure: bool) -> Iterator[tuple[str, np.ndarray]]:
    """Name and members (bool, one per test image) of each group; where a fact is unknown, an image is in none."""
    yield "all", np.ones(len(known), bool)
    for column in ("view", "sex"):
        if column in known:
            values = known[column].str.strip().str.upper()
            for value in sorted(set(values) - {""}):
                yield f"{column}={value}", (values == value).to_numpy()
    patient = known["patient_id"]
    if (patient != "").any() and (training != "").any():
        seen = patient.isin(set(training) - {""})
        yield "patient not in training", (~seen & (patient != "")).to_numpy()
        yield "patient in training", seen.to_numpy()
    if exposure and "in_pretraining" in known and (known["in_pretraining"] != "").any():
        yield "not seen in pre-training", (known["in_pretraining"] == "no").to_numpy()
        yield "seen in pre-training", (known["in_pretraining"] == "yes").to_numpy()
    ages = known["age"].map(age_in_years).to_numpy(float) if "age" in known else np.full(len(known), np.nan)
    for low, high in AGES:
        members = (ages >= low) & (ages < high)
        if members.any():
            yield f"age={low}-{high - 1}", members
    if "readers" in known:
        found = members_of(known["readers"])
        yield from ((f"reader={name}", found[name].to_numpy()) for name in found)


def _about_shortcuts(whole: pd.DataFrame) -> str:
    """Shortcuts that tell the classes apart, the strongest first, and scores that do no better than it."""
    shortcuts, methods = whole[~whole["method"]].dropna(subset="auc"), whole[whole["method"]].dropna(subset="auc")
    telling = shortcuts[separates(shortcuts)]
    if whole["auc"].isna().all():
        return f"Nothing was measured: an AUC needs at least {SMALLEST_GROUP} test images of each class."
    if shortcuts.empty:
        return "No shortcut was measured."
    if telling.empty:
        return (
            f"None of {len(shortcuts)} shortcuts that need no lungs separates the classes (all intervals contain 0.5)."
        )
    reach = np.maximum(telling["auc"], 1 - telling["auc"])
    telling = telling.assign(reach=reach).sort_values("reach", ascending=False)
    listed = "; ".join(f"`{row.score}` {_interval(row)}" for row in telling.itertuples())
    best = telling.iloc[0]
    behind = methods[methods["auc"] <= best["reach"]]["score"]
    verb = "separates" if len(telling) == 1 else "separate"
    turned = f", turned round {best['reach']:.3f}" if best["auc"] < 0.5 else ""
    text = (
        f"{len(telling)} of {len(shortcuts)} shortcuts that need no lungs {verb} the classes apart by AUC: {listed}. "
        f"{SIGN_NOTE} The strongest is `{best['score']}` ({SHORTCUTS[best['score']]}), AUC {best['auc']:.3f}{turned}"
    )
    if methods.empty:
        return text + "."
    names = f": {', '.join(f'`{name}`' for name in behind)}" if len(behind) else ""
    return f"{text}; {len(behind)} of {len(methods)} scores do no better{names}."


def _about_group(table: pd.DataFrame, group: str) -> str:
    """AUC of the scores in one group beside that over all images."""
    part = table[(table["group"] == group) & table["method"]]
    if part.empty:
        return ""
    head = f"*{group}* ({int(part['normal'].iloc[0])} normal, {int(part['abnormal'].iloc[0])} abnormal):"
    part = part.dropna(subset="auc")
    if part.empty:
        return f"{head} too few for an AUC."
    whole = table[table["group"] == "all"].set_index("score")["auc"]
    changes = part["auc"].to_numpy() - whole[part["score"]].to_numpy()
    if len(part) <= MANY:
        told = [
            f"`{row.score}` {_interval(row)}, {change:+.3f}"
            for row, change in zip(part.itertuples(), changes, strict=True)
        ]
        return f"{head} {'; '.join(told)}."
    lowest, highest = part.loc[part["auc"].idxmin()], part.loc[part["auc"].idxmax()]
    loses, gains = (part["score"].iloc[place] for place in (changes.argmin(), changes.argmax()))
    return (
        f"{head} AUC {_interval(lowest)} (`{lowest['score']}`) to {_interval(highest)} (`{highest['score']}`) over "
        f"{len(part)} scores, changed against all images by {changes.min():+.3f} (`{loses}`) to {changes.max():+.3f} "
        f"(`{gains}`), median {np.median(changes):+.3f}."
    )


def _interval(row: Any) -> str:
    """AUC with its spread over seeds, where there is one, and its interval over images."""
    spread = "" if np.isnan(row.auc_spread) else f" ± {row.auc_spread:.3f}"
    return f"{row.auc:.3f}{spread} ({row.auc_low:.3f} to {row.auc_high:.3f})"
