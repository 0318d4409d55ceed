"""Properties that hold for any input: the pixel chain, squares, masks, paste, metrics, scores, calibration.

What a second computation or an identity of mathematics says, on inputs that hypothesis makes; the same on each run.
"""

from dataclasses import fields

import numpy as np
import pytest
import torch
from corpus import dataset, full
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import percentileofscore
from sklearn.metrics import average_precision_score

from amae.data.dicom import by_level, minmax, voi
from amae.data.images import SQUARES, make_square
from amae.data.lungs import PLAUSIBLE_COVERAGE, mask_flag
from amae.data.packed import MASK_SIZE, load_lung_masks
from amae.evaluation.metrics import auc, average_precision, bootstrap_interval, chi_square_distance
from amae.method.anatpaste import PasteParameters, draw_parameters, paste
from amae.method.scores import discrepancy_map, reconstruction_scores
from amae.predict.calibration import operating_point, percentiles
from amae.runtime.errors import InputError

same_each_run = settings(max_examples=60, deadline=None, derandomize=True, database=None)
stored_values = arrays(np.uint16, (5, 7), elements=st.integers(0, 4095)).filter(lambda values: np.ptp(values) > 0)
grey_images = st.tuples(st.integers(2, 90), st.integers(2, 90), st.integers(0, 10**6)).map(
    lambda shape: np.random.default_rng(shape[2]).integers(20, 236, shape[:2], dtype=np.uint8)
)


def shown(stored: np.ndarray, **elements: object) -> np.ndarray:
    """Grey levels of stored values by the `voi` conversion."""
    made = dataset(stored, BitsStored=12, HighBit=11, **elements)
    return by_level(stored, lambda values: voi(values, made)).astype(int)


# The pixel chain


@same_each_run
@given(
    stored=stored_values,
    slope=st.sampled_from([-3, -1, 0.5, 1, 2]),
    center=st.integers(-4000, 8000),
    width=st.integers(2, 8000),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
)
def test_a_window_keeps_the_order_and_monochrome1_turns_it_round(stored, slope, center, width, function):
    elements = {"RescaleSlope": slope, "RescaleIntercept": 10, "WindowCenter": center, "WindowWidth": width}
    elements["VOILUTFunction"] = function
    try:
        grey = shown(stored, **elements)
    except InputError as error:
        assert "constant image" in str(error)
        return
    order = np.argsort(stored.astype(float) * slope, axis=None, kind="stable")
    assert (np.diff(grey.ravel()[order]) >= 0).all()
    inverted = shown(stored, PhotometricInterpretation="MONOCHROME1", **elements)
    assert np.abs(inverted - (255 - grey)).max() <= 1  # a half rounds to the even level
    values = stored.astype(float) * slope + 10
    if function != "SIGMOID":
        assert (grey[values <= center - width / 2 - 1] == 0).all()
        assert (grey[values >= center + width / 2 + 1] == 255).all()


@same_each_run
@given(stored=stored_values, shift=st.integers(-2000, 2000), center=st.integers(500, 3500), width=st.integers(2, 4000))
def test_a_shift_of_values_and_window_together_changes_nothing(stored, shift, center, width):
    elements = {"RescaleSlope": 1, "WindowWidth": width}
    try:
        grey = shown(stored, RescaleIntercept=0, WindowCenter=center, **elements)
    except InputError:
        assume(False)
    assert np.array_equal(grey, shown(stored, RescaleIntercept=shift, WindowCenter=center + shift, **elements))


@same_each_run
@given(stored=stored_values, factor=st.integers(1, 15), offset=st.integers(0, 4000))
def test_minmax_knows_no_unit(stored, factor, offset):
    grey = minmax(stored, "MONOCHROME2").astype(int)
    assert np.abs(minmax(stored * factor + offset, "MONOCHROME2") - grey).max() <= 1
    assert np.abs(minmax(stored, "MONOCHROME1") - full(stored, inverted=True)).max() <= 1
    assert (grey.min(), grey.max()) == (0, 255)


# Squares and masks


@same_each_run
@given(grey=grey_images, square=st.sampled_from(SQUARES), size=st.integers(8, 64))
def test_a_square_adds_no_grey_level_beyond_those_of_the_image(grey, square, size):
    packed, geometry = make_square(grey, square, size)
    assert packed.max() <= grey.max()
    rows, columns = np.mgrid[:size, :size] + 0.5
    x, y = (columns - geometry.offset_x) / geometry.scale_x, (rows - geometry.offset_y) / geometry.scale_y
    inside = (x >= 0) & (x <= grey.shape[1]) & (y >= 0) & (y <= grey.shape[0])
    assert packed[inside].min() >= grey.min()
    assert (packed[~inside] == 0).all()
    assert square == "pad" or inside.all()


@same_each_run
@given(grey=grey_images, size=st.integers(8, 64))
def test_a_mirrored_radiograph_is_packed_mirrored(grey, size):
    for square in ("squash", "crop") if grey.shape[1] % 2 == min(grey.shape) % 2 else ("squash",):
        packed, mirrored = (make_square(np.ascontiguousarray(each), square, size)[0] for each in (grey, grey[:, ::-1]))
        assert np.abs(packed[:, ::-1].astype(int) - mirrored).max() <= 1


@same_each_run
@given(grey=grey_images, square=st.sampled_from(SQUARES))
def test_a_square_of_its_own_size_is_the_image(grey, square):
    side = min(grey.shape)
    packed, geometry = make_square(np.ascontiguousarray(grey[:side, :side]), square, side)
    assert np.array_equal(packed, grey[:side, :side])
    assert geometry == (side, side, 1, 1, 0, 0)


def area(mask: np.ndarray, size: int) -> np.ndarray:
    """Pixels of a mask (side, side) in each of `size` x `size` equal squares, whole or in part, by its integral."""
    whole = np.pad(mask.cumsum(0).cumsum(1), ((1, 0), (1, 0))).astype(float)
    for _ in range(2):  # between whole pixels an integral is linear along each axis
        edges, known = np.linspace(0, len(mask), size + 1), np.arange(len(mask) + 1)
        whole = np.stack([np.interp(edges, known, column) for column in whole.T])
    return np.diff(np.diff(whole, axis=0), axis=1)


@settings(same_each_run, max_examples=25)
@given(seed=st.integers(0, 10**6), size=st.integers(8, 300))
def test_masks_at_any_size_hold_half_of_each_pixel(tmp_path_factory, seed, size):
    mask = (np.random.default_rng(seed).random((16, 16)) < 0.4).repeat(16, 0).repeat(16, 1)
    mask[::3, ::5] ^= True
    path = tmp_path_factory.mktemp("masks") / "lungs.npy"
    np.save(path, np.packbits(mask[None], axis=-1))
    share = area(mask, size) * (size / MASK_SIZE) ** 2
    clear = np.abs(share - 0.5) > 1e-9
    found = load_lung_masks(path, np.array([0]), size)[0]
    assert np.array_equal(found[clear], share[clear] > 0.5)
    assert found[~clear].all()


@same_each_run
@given(mask=arrays(bool, (8, 10)))
def test_a_mask_is_flagged_by_its_area_and_its_halves(mask):
    half = mask[:, :5].sum() / max(mask.sum(), 1)
    low, high = PLAUSIBLE_COVERAGE
    good = low <= mask.mean() <= high and 0.05 <= half <= 0.95
    assert mask_flag(mask) == ("empty" if not mask.any() else "" if good else "implausible")


# Synthetic anomalies


@settings(same_each_run, max_examples=40)
@given(size=st.sampled_from([16, 33, 64, 96]), seed=st.integers(0, 10**6), share=st.sampled_from([0, 0.02, 0.5, 1]))
def test_a_paste_stays_in_its_place_and_knows_no_neighbours(size, seed, share):
    random = torch.Generator().manual_seed(seed)
    images = torch.rand(5, size, size, generator=random)
    masks = torch.rand(5, size, size, generator=random) < share
    parameters = draw_parameters(masks, torch.Generator().manual_seed(seed))
    pasted, alpha = paste(images, masks, parameters)
    assert torch.equal(pasted[alpha == 0], images[alpha == 0])
    assert pasted.min() >= 0 and pasted.max() <= 1
    for i in range(5):
        p = PasteParameters(*(getattr(parameters, field.name)[i : i + 1] for field in fields(PasteParameters)))
        alone, alone_alpha = paste(images[i : i + 1], masks[i : i + 1], p)
        torch.testing.assert_close(alone[0], pasted[i], atol=1e-6, rtol=0)
        top, left = int(p.centre_row - p.height // 2), int(p.centre_column - p.width // 2)
        place = torch.zeros(size, size, dtype=torch.bool)
        place[max(top, 0) : max(top + int(p.height), 0), max(left, 0) : max(left + int(p.width), 0)] = True
        allowed = masks[i] if masks[i].any() else torch.ones_like(place)
        assert allowed[p.centre_row, p.centre_column].all()
        assert (alone_alpha[0][~(place & allowed)] == 0).all()
        assert alone_alpha.max() <= p.opacity + 1e-6
        assert p.source_top >= 0 and p.source_top + p.height <= size
        assert p.source_left >= 0 and p.source_left + p.width <= size


# Metrics

labelled = st.integers(4, 40).flatmap(
    lambda count: st.tuples(
        arrays(np.int64, count, elements=st.integers(0, 1)).filter(lambda labels: 0 < labels.sum() < len(labels)),
        arrays(np.int64, count, elements=st.integers(-8, 8)),
    )
)


@same_each_run
@given(pair=labelled)
def test_auc_counts_pairs_and_depends_on_the_order_alone(pair):
    labels, scores = pair
    differences = scores[labels == 1][:, None] - scores[labels == 0]
    value = auc(labels, scores)
    assert value == pytest.approx((np.sign(differences).mean() + 1) / 2, abs=1e-12)
    assert auc(labels, np.exp(scores / 4.0) - 7) == pytest.approx(value, abs=1e-12)
    assert auc(1 - labels, scores) == pytest.approx(1 - value, abs=1e-12)
    assert auc(labels, -scores) == pytest.approx(1 - value, abs=1e-12)


@same_each_run
@given(pair=labelled)
def test_average_precision_is_the_sum_over_thresholds(pair):
    labels, scores = pair
    expected, recall = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        called = scores >= threshold
        new = labels[called].sum() / labels.sum()
        expected, recall = expected + (new - recall) * labels[called].mean(), new
    assert average_precision(labels, scores) == pytest.approx(expected, abs=1e-12)
    assert average_precision(labels, scores**3) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


@settings(same_each_run, max_examples=25)
@given(pair=labelled, metric=st.sampled_from([auc, average_precision]), seed=st.integers(0, 99))
def test_an_interval_depends_on_the_order_alone_and_lies_in_0_to_1(pair, metric, seed):
    labels, scores = pair
    low, high = bootstrap_interval(labels, scores, metric, resamples=60, seed=seed)
    assert 0 <= low <= high <= 1 + 1e-12
    assert bootstrap_interval(labels, np.exp(scores / 4.0), metric, resamples=60, seed=seed) == (low, high)


@same_each_run
@given(
    normal=arrays(np.int64, st.integers(1, 30), elements=st.integers(-50, 50)),
    abnormal=arrays(np.int64, st.integers(1, 30), elements=st.integers(-50, 50)),
)
def test_chi_square_distance_is_symmetric_and_bounded(normal, abnormal):
    value = chi_square_distance(normal, abnormal)
    assert 0 <= value <= 100 + 1e-9
    assert chi_square_distance(abnormal, normal) == pytest.approx(value)
    assert chi_square_distance(normal * 4, abnormal * 4) == pytest.approx(value)
    assert chi_square_distance(np.tile(normal, 3), abnormal) == pytest.approx(value)


# Scores

maps = arrays(np.float32, (2, 4, 4), elements=st.floats(-0.5, 1.5, width=32))


@same_each_run
@given(mu_a=maps, mu_b=maps, images=arrays(np.uint8, (2, 4, 4)))
def test_scores_say_which_module_errs_more(mu_a, mu_b, images):
    there, back = (reconstruction_scores(images, *pair, np.ones(2), 2) for pair in ((mu_a, mu_b), (mu_b, mu_a)))
    np.testing.assert_allclose(there["inter"], back["inter"])
    np.testing.assert_allclose(
        there["inter"], [abs(a.astype(float) - b).mean() for a, b in zip(mu_a, mu_b, strict=True)], rtol=1e-5, atol=1e-6
    )
    for name in ("error_ratio", "error_ratio_patch"):
        np.testing.assert_allclose(there[name], -back[name], rtol=1e-5, atol=1e-6)
    same = reconstruction_scores(images, mu_a, mu_a, np.ones(2), 2)
    assert (same[["inter", "error_ratio", "error_ratio_patch"]] == 0).all(axis=None)
    assert (discrepancy_map(mu_a, mu_b) >= 0).all()


# Calibration

references = arrays(np.float64, st.integers(1, 40), elements=st.integers(-20, 20))


@same_each_run
@given(reference=references, specificity=st.floats(0.01, 0.99), more=st.floats(0.01, 0.99))
def test_an_operating_point_is_the_least_score_that_suffices(reference, specificity, more):
    """A new score is as likely to lie in each of the count + 1 gaps, so the k-th smallest exceeds k / (count + 1)."""
    point, other = operating_point(reference, specificity), operating_point(reference, more)
    assert (point is None) == (len(reference) / (len(reference) + 1) < specificity - 1e-9)
    assume(point is not None)
    places = len(reference) + 1
    assert point.threshold in reference
    assert (reference <= point.threshold).sum() >= specificity * places - 1e-6
    assert (reference < point.threshold).sum() < specificity * places
    assert 0 <= point.low < point.high <= 1
    assert operating_point(reference**3, specificity).threshold == point.threshold**3
    assume(other is not None)
    assert (other.threshold >= point.threshold) if more >= specificity else (other.threshold <= point.threshold)


@same_each_run
@given(reference=references, scores=references)
def test_percentiles_are_shares_no_higher(reference, scores):
    expected = [percentileofscore(reference, score, kind="weak") for score in scores]
    np.testing.assert_allclose(percentiles(reference, scores), expected)
