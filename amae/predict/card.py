"""The card of a model file: all that is known of it, read without torch.

The description in the file's header is `about`; `arrays` are its float64 arrays, by group: `features.mean (D,)` and
`features.precision (D, D)` of the training images; `normal.image (S, S)`, the mean of T_n at the size of the
detector's input; `training.<measure> (N,)`, measures as in amae.predict.domain;
`calibration.<score> (M,)`, none where no normal images were held out; of a combined model also `scale.<score>`, mean
and standard deviation of each member, `(members, 2)`. A recalibrated model has those of a site as
`calibration` and `site.<measure>`, and those of its own run as `original.<score>`.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from amae.method.scores import DESCRIPTIONS
from amae.predict.calibration import CONFIDENCE, SPECIFICITY, operating_point
from amae.predict.domain import DRIFT, MASKS, MEASURES, RARE, distance_limit
from amae.runtime.errors import InputError
from amae.runtime.tensors import read_about, read_arrays, under

KIND = "amae model"
COMBINED_FORMAT = 6  # of a file with the models of several seeds
FORMAT = 5  # of the file; raised when a file of before can no longer be read, or its statistics mean something else
DAMAGE = (KeyError, TypeError, ValueError, RuntimeError, ZeroDivisionError, AttributeError)


def require_model(about: Mapping[str, Any], path: str | Path) -> None:
    """Raise InputError, naming the file and what it is, where it is no model of this format."""
    if about.get("kind") != KIND:
        known = "a trained autoencoder" if "architecture" in about else about.get("kind", "something else")
        raise InputError(f"{path}: not a model made by `amae export`, but {known}")
    expected = COMBINED_FORMAT if "members" in about else FORMAT
    if about.get("format") != expected:
        made = about.get("versions", {}).get("amae", "another version")
        raise InputError(
            f"{path}: a model of format {about.get('format')}, by amae {made}; this version reads format {expected}; "
            "export it again"
        )


def damaged(path: str | Path, error: Exception) -> InputError:
    """The error for a model that lacks something, or has it in another form."""
    reason = str(error).splitlines()[0] if str(error) else ""
    return InputError(f"{path}: a damaged model ({type(error).__name__}: {reason}); export it again")


def describe(path: str | Path) -> dict[str, Any]:
    """The description of a model, from its header alone. Raises InputError for any other file."""
    about = read_about(path)
    require_model(about, path)
    return about


def read_card(path: str | Path) -> str:
    """The card of a model file. Raises InputError for any other file, and for a damaged one."""
    about, arrays = read_arrays(path)
    require_model(about, path)
    try:
        return card_of(about, {name: array for name, array in arrays.items() if array.dtype == np.float64})
    except DAMAGE as error:
        raise damaged(path, error) from None


def origin(about: Mapping[str, Any]) -> str:
    """The seed of a model, or the seeds of a combined one, in words."""
    seeds = [str(each["seed"]) for each in about.get("members", [about])]
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}"


def calibrated_on(about: Mapping[str, Any]) -> str:
    """The images that percentiles and thresholds come from, in words."""
    return (
        "normal images of the recalibration" if "recalibration" in about else "normal images held out for calibration"
    )


def noise_of(about: Mapping[str, Any]) -> str:
    """The abnormal share of T_n that was stated for the data set, as a sentence; "" for none."""
    noise = about.get("normal_noise", 0)  # a model of before states none
    return f"Up to {noise:.1%} of the normal training images may be abnormal, as stated for the data set." * (noise > 0)


def chosen_score(about: Mapping[str, Any], score: str) -> str:
    """The score of this name; for auto the one with the greatest AUCp, of T_u against held-out normal images.

    Raises InputError for any other name, and for auto where no AUCp is known.
    """
    if score == "auto":
        if not (auc_p := about["auc_p"]):
            raise InputError("--score auto: the model was exported without calibration images, so no AUCp is known")
        score = max(auc_p, key=auc_p.__getitem__)
        print(f"score {score}: its AUCp, {auc_p[score]:.3f}, is the greatest", file=sys.stderr)
    if score not in DESCRIPTIONS:
        raise InputError(f"--score: found {score!r}, expected one of auto, {', '.join(DESCRIPTIONS)}")
    return score


def score_shown(score: str, model: Path | None) -> str:
    """The score that a figure shows: this one; for auto that of greatest AUCp, by the model, which must be given."""
    if score != "auto":
        return score
    if model is None:
        raise InputError("--score auto: needs the AUCp of the scores, which --model contains")
    return chosen_score(describe(model), score)


def card_of(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """The model card, in Markdown."""
    images, size = about["images"], about["architecture"]["image_size"]
    held_out = about.get("recalibration", {}).get("calibration_before", images["calibration"])
    lines = [
        f"# AMAE model: {about['dataset']}, {origin(about)}",
        "",
        "Scores frontal chest radiographs by how abnormal they look (Bozorgtabar, Mahapatra and Thiran, MICCAI 2023).",
        "**Research software, not a medical device.**",
        "",
        "## How good it is",
        "",
        *_quality(about),
        "",
        "## Input",
        "",
        f"DICOM, PNG, JPEG, TIFF or BMP; grey levels `{about['conversion']}`, made square by `{about['square']}`, "
        f"{size} x {size} pixels.",
        "The scores of an image depend on its converted pixels alone, not on its name: its masks are drawn from them.",
        "",
        "## Training",
        "",
        f"{images['train_normal']} normal images (T_n), {images['train_unlabeled']} without label (T_u); "
        f"{held_out} further normal images for calibration.",
        *filter(None, [noise_of(about)]),
        "",
        *_table(["file", "SHA-256"], list(about["files"].items())),
        "",
        "## Operating points",
        "",
        *_calibrations(about, arrays),
        "",
        "## What is unlike the training images",
        "",
        *_domain(about, arrays),
        "",
        "## Settings and versions",
        "",
        *_table(["setting", "value"], list({**about["architecture"], **about["masks_of_new_images"]}.items())),
        "",
        *_table(["package", "version"], [*about["versions"].items(), ("commit", about["commit"])]),
    ]
    return "\n".join(lines) + "\n"


def _calibrations(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Operating points; of a recalibrated model the new ones, then those of its own run."""
    now = _operating_points(under(arrays, "calibration"), about["no_calls"])
    if not (made := about.get("recalibration")):
        return now
    return [
        f"Recalibrated on {made['images']} normal images of a site, {made['left_out']} further files left out, by amae "
        f"{made['versions']['amae']}; from the model of SHA-256 {made['model']}. These operating points are in use:",
        "",
        *now,
        "",
        f"Before, on {made['calibration_before']} normal images held out of the run (no longer in use):",
        "",
        *_operating_points(under(arrays, "original"), about["no_calls"]),
    ]


def _quality(about: Mapping[str, Any]) -> list[str]:
    """AUC of each score on the run's test images and AUCp, which needs no label; and the noise of the masks."""
    rows = []
    for score, meaning in DESCRIPTIONS.items():
        tested, auc_p = about["test"].get(score), about["auc_p"].get(score)
        known = f"{tested[0]:.2f} ({tested[1]:.2f} to {tested[2]:.2f})" if tested else "not known"
        implied = about["implied_auc"].get(score)
        cells = ("not known" if value is None else f"{value:.2f}" for value in (auc_p, implied))
        rows.append((f"`{score}`: {meaning}", known, *cells))
    masks, run = about["masks_of_new_images"]["masks"], about["reconstruction"]
    noise = ", ".join(f"`{name}` {share:.0%}" for name, share in about["mask_noise_of_run"].items())
    return [
        *_members(about),
        *_table(["score", "AUC on test images, 95 % interval", "AUCp", "AUC implied by it"], rows),
        "",
        "AUC: abnormal against normal test images of the run that made the model. AUCp: images without label",
        "(T_u) against normal ones; it needs no label, and orders scores as their AUC does. For `detector` it is out",
        "of fold; for the scores of modules A and B, which were trained on T_u, it flatters. An implied AUC above 1 or",
        "below 0 means that these images are too few, or that T_u differs by more than its abnormal images. Where no",
        "anomaly ratio was stated it is by the estimated one: mostly too high, and not known where that may be 0.",
        "",
        "The AUC of the scores of modules A and B was measured with the masks of the run's test images, AUCp with",
        f"those of new images: {masks} an image. The noise of these masks is",
        f"{about['mask_noise']:.0%} of the spread of normal images (the worse of `inter` and `error_ratio`). With the",
        f"run's own {run['masks']} {run['mask_scheme']} masks it is: {noise}.",
    ]


def _members(about: Mapping[str, Any]) -> list[str]:
    """What a combined model is made of, and how good each part was; nothing of any other model."""
    if "members" not in about:
        return []
    members, held_out = about["members"], about["images"]["calibration"]
    of = "normal images held out for calibration" if held_out else "images of T_n"
    known = [
        [f"{each['test'][score][0]:.2f}" if score in each["test"] else "not known" for each in members]
        for score in DESCRIPTIONS
    ]
    return [
        f"The models of {origin(about)} in one: a score is the mean over them, each less its mean and by its standard",
        f"deviation on {about['scaled_by']} {of}, and a map the mean of their maps. AUC on test images of each:",
        "",
        *_table(
            ["score", *(f"seed {each['seed']}" for each in members)],
            [(f"`{score}`", *row) for score, row in zip(DESCRIPTIONS, known, strict=True)],
        ),
        "",
        "Of the combined model; AUCp and the AUC implied by it are the means of those of the single models, and the",
        "noise of the masks is that of the noisiest one:",
        "",
    ]


def _operating_points(calibration: dict[str, np.ndarray], no_calls: dict[str, str]) -> list[str]:
    """Thresholds of every score, or why there are none; `no_calls`: scores that call no image, with the reason."""
    if not calibration:
        lacking = "None: no normal images were held out for calibration (`splits.calibration`)."
        return [lacking, "Scores have no percentile, and no image is called normal or abnormal."]
    rows = []
    for score, values in calibration.items():
        point = operating_point(values)
        found = (f"{point.threshold:.5g}", f"{point.low:.3f} to {point.high:.3f}") if point else ("too few images", "")
        found = (f"no calls: {no_calls[score]}", "") if score in no_calls else found
        rows.append((f"`{score}`", *found))
    header = [
        "score",
        f"abnormal above (specificity {SPECIFICITY:g})",
        f"specificity reached, {CONFIDENCE:.0%} interval",
    ]
    return _table(header, rows)


def _domain(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Statistics of the training images, and which checks they allow."""
    training, site, shares = under(arrays, "training"), under(arrays, "site"), about["mask_shares"]
    measured = [(training, ""), (site, ", normal images of the site")] if site else [(training, "")]
    rows = [
        (f"{MEASURES[name]}{of}", *(f"{value:.4g}" for value in np.percentile(part[name], [5, 50, 95])))
        for part, of in measured
        for name in MEASURES
    ]
    masks = [
        f"{MASKS[name]}: {share:.1%} of the training images, so such an image is "
        f"{'' if share <= RARE else 'not '}flagged"
        for name, share in shares.items()
    ]
    return [
        *_table(["measure", "5 %", "median", "95 %"], rows),
        "",
        f"An image is flagged beyond a distance of {distance_limit(training['distance']):.4g}. {'; '.join(masks)}.",
        f"A folder is warned of where a measure's distribution differs at p < {DRIFT:g} over all of them"
        f"{', from that of the site' if site else ''}.",
    ]


def _table(header: list[str], rows: list[tuple[Any, ...]]) -> list[str]:
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in [header, ["---"] * len(header), *rows]]
    return [f"| {' | '.join(row)} |" for row in cells]
