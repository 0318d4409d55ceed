"""Do anomaly maps point at the findings? Pixel AUC and average precision, AUPRO and pointing game against boxes.

Maps are float (N, H, W), higher = more abnormal, nan (a patch that no mask hid) scored 0. Boxes are (left, top, right,
bottom) in packed pixels, edges at integers; a pixel lies in a box if its centre does.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from amae.data.boxes import Box
from amae.evaluation.tables import SMALLEST_GROUP
from amae.method.scores import TINY, discrepancy_map, patch_means
from amae.runtime.errors import InputError

MAPS = {
    "inter": "|mu_A - mu_B| (Eq. 4)",
    "error_a": "squared error of module A's mean map",
    "error_ratio": "log(e_A / e_B) per pixel (this project's own)",
    "error_ratio_patch": "log(e_A / e_B) per patch (this project's own)",
}
FALSE_POSITIVE_LIMIT = 0.3  # AUPRO up to here, as Bergmann et al. (CVPR 2020) define it
LEVELS = 4096  # grey levels of a quantised map, by rank: a step of the false positive rate is 1/4096
SAMPLE = 2**22  # pixels that the ranks are taken from
RESAMPLES = 1000
BATCH = 64  # maps at a time


class _Counts(NamedTuple):
    """Counts that each boxed image adds; sums over images give every metric. Levels run from the lowest up."""

    positives: np.ndarray  # (M, L) pixels in any box
    overlap: np.ndarray  # (M, L) sum over boxes of the share of the box
    regions: np.ndarray  # (M,) boxes
    hits: np.ndarray  # (M,) 1 where the maximum lies in a box
    areas: np.ndarray  # (M,) share of the image in any box: what pointing at random hits


def anomaly_map(name: str, images: np.ndarray, mu_a: np.ndarray, mu_b: np.ndarray, patch: int) -> np.ndarray:
    """One of MAPS as float32 (N, H, W).

    images: uint8 (N, H, W); mu_a, mu_b: float (N, H, W) in [0, 1]; patch: in pixels. A patch that no mask hid is 0
    in `inter` and nan in `error_a`. In the ratios it gets the mean of its image, since 0 could be the highest value of
    all. Raises KeyError for another name.
    """
    MAPS[name]
    made = np.empty(mu_a.shape, np.float32)
    for part in _batches(len(made)):
        a, b = np.asarray(mu_a[part], np.float32), np.asarray(mu_b[part], np.float32)
        if name == "inter":
            made[part] = discrepancy_map(a, b)
            continue
        target = np.asarray(images[part], np.float32) / 255
        error_a, error_b = (a - target) ** 2, (b - target) ** 2
        if name == "error_ratio_patch":
            means = (patch_means(error, patch) for error in (error_a, error_b))
            error_a, error_b = (each.repeat(patch, axis=1).repeat(patch, axis=2) for each in means)
        if name == "error_a":
            made[part] = error_a
            continue
        ratio = np.log((error_a + TINY) / (error_b + TINY))
        made[part] = np.where(np.isnan(ratio), np.nanmean(ratio, axis=(1, 2), keepdims=True), ratio)
    return made


def box_pixels(box: Box, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of the pixels whose centre lies in a box; empty where the box is outside the image.

    A box too thin for any centre keeps the pixel at its own centre, so that no finding disappears by resizing.
    """
    left, top, right, bottom = box
    return _span(top, bottom, height), _span(left, right, width)


def localisation_metrics(
    maps: np.ndarray,
    image_ids: Sequence[str],
    labels: Sequence[str],
    boxes: Mapping[str, Sequence[Box]],
    findings: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Metrics of maps (N, H, W) by the boxes; one row for all boxes and one per finding shown by at least 10 images.

    Columns: finding ("all" or its name), normal and boxed (images), boxes; then pixel_auc, pixel_ap, aupro, pointing,
    each with _low and _high (95 % bootstrap interval over images, normal and boxed images resampled separately); and
    what chance reaches, pixel_ap_chance and pointing_chance (it reaches 0.5 in pixel_auc and 0.15 in aupro).

    * pixel_auc, pixel_ap: every pixel is a case, positive inside a box; normal images count with all their pixels.
    * aupro: mean over boxes of the share of the box found, against the false positive rate over all other pixels, up to
      a rate of 0.3, divided by 0.3. Every box is one region, overlapping boxes too.
    * pointing: share of boxed images whose maximum lies in a box; of several equal maxima the share that does.

    For one finding, only its boxes are positive, and pixels in the boxes of others are left out. An abnormal image
    without a box does not show where it is abnormal, so it is left out, as are images without a label.
    Raises InputError where no image has a box, or a normal image has one.
    """
    chosen, is_boxed = _choose_images(image_ids, labels, boxes, maps.shape[1:])
    levels, count = quantise(maps)
    ids = [image_ids[place] for place in chosen]
    outside = np.stack([_outside(levels[i], boxes.get(name, ()), count) for i, name in zip(chosen, ids, strict=True)])
    weights = _weights(is_boxed, seed)
    negatives = weights @ outside
    positions, boxed_ids = chosen[is_boxed], [name for name, yes in zip(ids, is_boxed, strict=True) if yes]
    rows = []
    for finding, regions in _groups(boxed_ids, boxes, findings):
        has_box = np.array([bool(of_image) for of_image in regions])
        counts = _count(maps, levels, count, positions[has_box], [of_image for of_image in regions if of_image])
        row = {"finding": finding, "normal": int((~is_boxed).sum())}
        row |= {"boxed": int((counts.regions > 0).sum()), "boxes": int(counts.regions.sum())}
        rows.append(row | _measure(counts, negatives, weights[:, is_boxed][:, has_box]))
    return pd.DataFrame(rows)


def quantise(maps: np.ndarray) -> tuple[np.ndarray, int]:
    """Maps as levels uint16 (N, H, W) that keep the order (equal stays equal), and their number.

    The LEVELS have about the same number of pixels each. Where a sample of SAMPLE pixels (all of smaller maps) has no
    more distinct values than that, every one has its own, and metrics are exact but for values outside the sample.
    """
    values = maps.reshape(-1)
    step = max(1, values.size // SAMPLE)
    while (
        math.gcd(step, values.size) > 1
    ):  # a stride that shares a factor with the width would sample some columns only
        step += 1
    sample = np.sort(np.nan_to_num(values[::step]))
    edges = np.unique(sample)
    if len(edges) > LEVELS:
        edges = np.unique(sample[np.linspace(0, len(sample) - 1, LEVELS).round().astype(int)])
    made = np.empty(maps.shape, np.uint16)
    for part in _batches(len(maps)):
        made[part] = np.searchsorted(edges, np.nan_to_num(maps[part]), side="right")
    return made, len(edges) + 1


def _count(
    maps: np.ndarray, levels: np.ndarray, count: int, positions: np.ndarray, regions: Sequence[Sequence[Box]]
) -> _Counts:
    """Counts of the images at `positions`, whose boxes are `regions`."""
    shape = levels.shape[1:]
    positives, overlap = np.zeros((2, len(positions), count))
    numbers, hits, areas = np.zeros((3, len(positions)))
    for row, (place, boxes) in enumerate(zip(positions, regions, strict=True)):
        slices = [where for where in (box_pixels(box, *shape) for box in boxes) if _has_pixels(where)]
        if not slices:
            continue
        inside = np.zeros(shape, bool)
        for where in slices:
            inside[where] = True
            found = np.bincount(levels[place][where].ravel(), minlength=count)
            overlap[row] += found / found.sum()
        positives[row] = np.bincount(levels[place][inside], minlength=count)
        values = np.nan_to_num(maps[place])
        numbers[row], hits[row], areas[row] = len(slices), inside[values == values.max()].mean(), inside.mean()
    return _Counts(positives, overlap, numbers, hits, areas)


def _measure(counts: _Counts, negatives: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """Every metric with its interval; row 0 of `negatives` and `weights` is the test set, the others are resamples."""
    negatives = negatives[:, ::-1]  # from the highest level down
    positives = (weights @ counts.positives)[:, ::-1]
    images, regions = weights @ (counts.regions > 0), weights @ counts.regions
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample may contain no image of a rare finding
        overlap = (weights @ counts.overlap)[:, ::-1] / regions[:, None]
        found = {
            "pixel_auc": _pixel_auc(negatives, positives),
            "pixel_ap": _pixel_average_precision(negatives, positives),
            "aupro": _aupro(negatives, overlap),
            "pointing": weights @ counts.hits / images,
        }
    row = {}
    for name, values in found.items():
        row[name] = values[0]
        row[f"{name}_low"], row[f"{name}_high"] = np.nanpercentile(values[1:], [2.5, 97.5])
    row["pixel_ap_chance"] = positives[0].sum() / (positives[0].sum() + negatives[0].sum())
    row["pointing_chance"] = counts.areas[counts.regions > 0].mean()
    return {name: float(value) for name, value in row.items()}


def _pixel_auc(negatives: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """Share of pairs in order, a tie counting half: counts per level from the highest down, (R, L) -> (R,)."""
    above = np.cumsum(positives, axis=1) - 0.5 * positives
    return (negatives * above).sum(axis=1) / (negatives.sum(axis=1) * positives.sum(axis=1))


def _pixel_average_precision(negatives: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """Sum over levels of (step of recall) * precision, (R, L) -> (R,)."""
    true_positives = np.cumsum(positives, axis=1)
    called = true_positives + np.cumsum(negatives, axis=1)
    return (positives * true_positives / np.maximum(called, 1)).sum(axis=1) / positives.sum(axis=1)


def _aupro(negatives: np.ndarray, overlap: np.ndarray) -> np.ndarray:
    """Area under mean overlap (steps that sum to 1) against false positive rate, up to the limit, (R, L) -> (R,)."""
    start = np.zeros((len(negatives), 1))
    rate = np.hstack([start, np.cumsum(negatives, axis=1) / negatives.sum(axis=1, keepdims=True)])
    found = np.hstack([start, np.cumsum(overlap, axis=1)])
    clipped = np.minimum(rate, FALSE_POSITIVE_LIMIT)
    width, step = np.diff(clipped, axis=1), np.diff(rate, axis=1)
    # where the limit cuts a step, the overlap is interpolated at the limit
    rise = np.diff(found, axis=1) * width / np.where(step > 0, step, 1)
    return (width * (found[:, :-1] + 0.5 * rise)).sum(axis=1) / FALSE_POSITIVE_LIMIT


def _weights(is_boxed: np.ndarray, seed: int) -> np.ndarray:
    """Number of times that each image counts: (1 + RESAMPLES, M), first every image once, then the resamples."""
    rng = np.random.default_rng([seed])
    weights = np.ones((1 + RESAMPLES, len(is_boxed)))
    for members in (np.flatnonzero(~is_boxed), np.flatnonzero(is_boxed)):
        if len(members):
            weights[1:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), RESAMPLES)
    return weights


def _choose_images(
    image_ids: Sequence[str], labels: Sequence[str], boxes: Mapping[str, Sequence[Box]], shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Places of the normal and the boxed images, and which of them are boxed."""
    boxed = np.array(
        [any(_has_pixels(box_pixels(box, *shape)) for box in boxes.get(image_id, ())) for image_id in image_ids], bool
    )
    normal = np.asarray(labels) == "normal"
    if (boxed & normal).any():
        name = image_ids[int(np.argmax(boxed & normal))]
        raise InputError(
            f"localisation: image {name!r} is labelled normal and has a box; correct the label or the boxes"
        )
    abnormal = boxed & (np.asarray(labels) == "abnormal")
    if not abnormal.any():
        raise InputError(
            f"localisation: none of the {len(image_ids)} test images is labelled abnormal and has a box; expected a "
            "table of boxes whose image_id are those of the manifest, in pixels of the original radiographs"
        )
    chosen = np.flatnonzero(normal | abnormal)
    return chosen, abnormal[chosen]


def _groups(
    ids: Sequence[str], boxes: Mapping[str, Sequence[Box]], findings: Mapping[str, Sequence[str]] | None
) -> Iterator[tuple[str, list[list[Box]]]]:
    """Name and boxes of each image, for all boxes and for each finding with enough images."""
    yield "all", [list(boxes[image_id]) for image_id in ids]
    names = {name for image_id in ids for name in (findings or {}).get(image_id, ())} - {""}
    for name in sorted(names):
        chosen = [[box for box, shown in zip(boxes[i], findings.get(i, ()), strict=True) if shown == name] for i in ids]
        if sum(bool(of_image) for of_image in chosen) >= SMALLEST_GROUP:
            yield name, chosen


def _outside(levels: np.ndarray, boxes: Sequence[Box], count: int) -> np.ndarray:
    """Pixels (H, W) outside all boxes, per level."""
    keep = np.ones(levels.shape, bool)
    for box in boxes:
        keep[box_pixels(box, *levels.shape)] = False
    return np.bincount(levels[keep], minlength=count).astype(np.float64)


def _span(low: float, high: float, size: int) -> slice:
    start, stop = math.ceil(low - 0.5), math.ceil(high - 0.5)
    if start == stop:
        start = math.floor((low + high) / 2)
        stop = start + 1
    return slice(min(max(start, 0), size), min(max(stop, 0), size))


def _has_pixels(where: tuple[slice, slice]) -> bool:
    return all(part.stop > part.start for part in where)


def _batches(count: int) -> Iterator[slice]:
    return (slice(start, start + BATCH) for start in range(0, count, BATCH))
