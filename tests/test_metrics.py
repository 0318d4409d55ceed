"""AUC, average precision, chi-square distance, intervals and tests, against counts and formulas written out."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student
from sklearn.metrics import average_precision_score, roc_auc_score

from amae.commands.compute_metrics import compute_metrics
from amae.commands.measure_scores import measure_scores
from amae.evaluation.metrics import (
    _resampled_auc,
    _resampled_average_precision,
    auc,
    average_precision,
    bootstrap_interval,
    chi_square_distance,
)
from amae.evaluation.statistics import delong_test, mean_and_spread, placements, stars, welch_test
from amae.evaluation.tables import diagnose_pseudo_labels, metrics_of_scores, summarise
from amae.runtime.errors import InputError


def scores_with_ties(rng: np.random.Generator, images: int = 40) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(images) % 2
    return labels, np.round(rng.normal(labels * 0.7, 1), 1)


def table_of_scores(rng: np.random.Generator, images: int = 60) -> pd.DataFrame:
    labels, values = scores_with_ties(rng, images)
    return pd.DataFrame(
        {
            "image_id": [f"{i:03}" for i in range(images)],
            "label": np.where(labels, "abnormal", "normal"),
            "view": np.where(np.arange(images) < 44, "PA", "AP"),
            "stage1": values.astype(str),
            "inter": rng.random(images).astype(str),
        }
    )


@pytest.mark.parametrize("seed", range(5))
def test_auc_is_the_share_of_pairs_in_order(seed):
    labels, scores = scores_with_ties(np.random.default_rng(seed))
    pairs = [(a > n) + 0.5 * (a == n) for a in scores[labels == 1] for n in scores[labels == 0]]
    assert auc(labels, scores) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_average_precision_by_hand():
    # Ranked from the top: 1 0 1 (0 1 tied) 0. Recall rises by 1/3 at precisions 1/1, 2/3 and, both tied ones in, 3/5.
    labels, scores = np.array([1, 0, 1, 0, 1, 0]), np.array([6, 5, 4, 3, 3, 1])
    assert average_precision(labels, scores) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)


def test_chi_square_known_answers():
    same = np.array([0.1, 0.4, 0.8])
    assert chi_square_distance(same, same) == 0
    assert chi_square_distance(np.full(3, 0.5), np.full(7, 0.5)) == 0
    # Disjoint: every term is the density itself, and each density sums to the number of bins: 0.5 * (100 + 100).
    assert chi_square_distance(np.array([0.0, 0.1]), np.array([0.9, 1.0])) == pytest.approx(100)
    assert chi_square_distance(np.array([0.0, 0.1]), np.array([0.9, 1.0]), bins=10) == pytest.approx(10)
    # Two bins, densities (2, 0) and (1, 1): 0.5 * ((2 - 1)^2 / 3 + (0 - 1)^2 / 1) = 2/3, whatever the scale.
    assert chi_square_distance(np.array([10.0, 12.0]), np.array([10.0, 20.0]), bins=2) == pytest.approx(2 / 3)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_of_a_resample_agree_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    levels = np.arange(8)[::-1]  # scores, from the highest down
    normal, abnormal = rng.integers(0, 4, (2, 1, 8))
    labels = np.repeat([0, 1], [normal.sum(), abnormal.sum()])
    scores = np.concatenate([np.repeat(levels, normal[0]), np.repeat(levels, abnormal[0])])
    assert _resampled_auc(normal, abnormal)[0] == pytest.approx(roc_auc_score(labels, scores))
    assert _resampled_average_precision(normal, abnormal)[0] == pytest.approx(average_precision_score(labels, scores))


@pytest.mark.parametrize("metric", [auc, average_precision])
def test_bootstrap_agrees_with_drawing_images_one_resample_at_a_time(metric):
    labels, scores = scores_with_ties(np.random.default_rng(1), 60)
    rng = np.random.default_rng(2)
    values = []
    for _ in range(800):
        drawn = np.concatenate([rng.choice(np.flatnonzero(labels == label), 30) for label in (0, 1)])
        values.append(metric(labels[drawn], scores[drawn]))
    interval = bootstrap_interval(labels, scores, metric, resamples=4000, seed=3)
    assert interval == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=0.02)


@pytest.mark.parametrize("metric", [auc, average_precision])
def test_bootstrap_of_replicates_is_of_their_mean_over_the_same_images(metric):
    rng = np.random.default_rng(1)
    labels = np.arange(60) % 2
    replicates = np.stack([np.round(rng.normal(labels * shift, 1), 1) for shift in (0.4, 0.7, 1.0)])
    values = []
    for _ in range(800):
        drawn = np.concatenate([rng.choice(np.flatnonzero(labels == label), 30) for label in (0, 1)])
        values.append(np.mean([metric(labels[drawn], scores[drawn]) for scores in replicates]))
    interval = bootstrap_interval(labels, replicates, metric, resamples=4000, seed=3)
    assert interval == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=0.02)
    one = bootstrap_interval(labels, replicates[0], metric)
    assert bootstrap_interval(labels, replicates[[0, 0, 0]], metric) == pytest.approx(one)


def test_bootstrap_covers_the_true_auc_and_is_deterministic():
    truth, covered = 0.760, 0  # two unit normals one apart: Phi(1 / sqrt 2)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        labels = np.repeat([0, 1], 80)
        scores = rng.normal(labels, 1)
        low, high = bootstrap_interval(labels, scores, auc, resamples=300, seed=seed)
        assert low <= auc(labels, scores) <= high
        covered += low <= truth <= high
    assert 51 <= covered <= 60
    once, again, other = (bootstrap_interval(labels, scores, auc, seed=seed) for seed in (4, 4, 5))
    assert once == again != other


def test_mean_and_spread():
    mean, spread = mean_and_spread([1, 2, 3, 6])
    assert mean == 3
    assert spread == pytest.approx(1.96 * np.sqrt((4 + 1 + 0 + 9) / 3))
    assert mean_and_spread([0.7]) == (0.7, None)


def test_welch_against_its_formula():
    a, b = np.array([0.81, 0.83, 0.86, 0.80]), np.array([0.78, 0.70, 0.79])
    of_a, of_b = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    t = (a.mean() - b.mean()) / np.sqrt(of_a + of_b)
    freedom = (of_a + of_b) ** 2 / (of_a**2 / (len(a) - 1) + of_b**2 / (len(b) - 1))
    assert welch_test(a, b) == pytest.approx((t, 2 * student.sf(abs(t), freedom)))
    assert welch_test(b, a)[1] == pytest.approx(welch_test(a, b)[1])


def test_welch_of_deterministic_methods():
    assert welch_test([0.7] * 4, [0.7] * 4) == (0, 1)
    assert welch_test([0.8] * 4, [0.7] * 4) == (np.inf, 0)
    assert 0 < welch_test([0.8] * 4, [0.7, 0.71, 0.69, 0.7])[1] < 0.001
    with pytest.raises(InputError, match="at least two replicates"):
        welch_test([0.7], [0.7, 0.8])


def psi(abnormal, normal):
    """The kernel of the AUC (DeLong et al. 1988), of numbers or arrays: 1, 1/2 or 0."""
    return (abnormal > normal) + (abnormal == normal) / 2


def test_delong_by_the_covariances_of_the_definition():
    """Every pair compared, and the 2 x 2 covariance of both AUCs, with ties and classes of different size."""
    rng = np.random.default_rng(3)
    labels = rng.permutation(np.repeat([0, 1], [23, 14]))
    both = np.round(rng.normal(np.outer([0.6, 1.1], labels), 1), 1)
    normal = [[scores[i] for i in np.flatnonzero(labels == 0)] for scores in both]
    abnormal = [[scores[i] for i in np.flatnonzero(labels == 1)] for scores in both]
    v10 = np.array([[np.mean([psi(x, y) for y in normal[r]]) for x in abnormal[r]] for r in (0, 1)])
    v01 = np.array([[np.mean([psi(x, y) for x in abnormal[r]]) for y in normal[r]] for r in (0, 1)])
    for r in (0, 1):
        found = placements(labels, both[r])
        np.testing.assert_allclose(found[0], v01[r])
        np.testing.assert_allclose(found[1], v10[r])
        assert found[0].mean() == pytest.approx(roc_auc_score(labels, both[r]))
    covariance = np.cov(v10) / 14 + np.cov(v01) / 23
    contrast = np.array([1, -1])
    expected = (contrast @ v10.mean(1)) / np.sqrt(contrast @ covariance @ contrast)
    z, p = delong_test(labels, *both)
    assert z == pytest.approx(expected) and p == pytest.approx(2 * student.sf(abs(expected), 1e12))
    assert delong_test(labels, *both[::-1]) == pytest.approx((-z, p))
    assert delong_test(labels, np.exp(both[0]), both[1]) == pytest.approx((z, p))  # ranks alone count


def test_delong_has_the_spread_of_a_bootstrap_over_images():
    """For a mean of three seeds against one training: the deviation that z implies is that of resampled images."""
    rng = np.random.default_rng(5)
    labels = np.repeat([0, 1], [80, 60])
    shared = rng.normal(labels, 1)
    a, b = shared + rng.normal(0, 0.7, (3, 140)), shared + rng.normal(0, 1.2, 140)

    pairs = [psi(each[80:, None], each[None, :80]) for each in (*a, b)]  # every abnormal image against every normal one

    def difference(normal, abnormal):
        *of_a, of_b = (each[np.ix_(abnormal, normal)].mean() for each in pairs)
        return np.mean(of_a) - of_b

    resampled = [difference(rng.integers(0, 80, 80), rng.integers(0, 60, 60)) for _ in range(2000)]
    z, _ = delong_test(labels, a, b)
    assert difference(np.arange(80), np.arange(60)) / z == pytest.approx(np.std(resampled), rel=0.08)


def test_delong_rejects_equal_methods_as_often_as_it_claims():
    rng = np.random.default_rng(7)
    labels = np.repeat([0, 1], [60, 60])
    found = []
    for _ in range(400):
        shared = rng.normal(labels, 1)
        found.append(delong_test(labels, *(shared + rng.normal(0, 0.5, 120) for _ in range(2)))[1])
    assert 0.025 < np.mean(np.array(found) <= 0.05) < 0.08


def test_delong_without_variance_or_images():
    labels = np.repeat([0, 1], 5)
    perfect = labels + np.arange(10) / 100
    assert delong_test(labels, perfect, 2 * perfect) == (0, 1)
    assert delong_test(labels, perfect, -perfect) == (np.inf, 0)
    with pytest.raises(InputError, match="at least two of each class, found 9 normal and 1 abnormal"):
        delong_test(np.repeat([0, 1], [9, 1]), perfect, perfect)


@pytest.mark.parametrize(
    ("p", "printed"),
    [(1, "ns"), (0.0501, "ns"), (0.05, "**"), (0.0101, "**"), (0.01, "***"), (0.0011, "***"), (0.001, "p = 1.0e-03")],
)
def test_stars_at_the_borders(p, printed):
    assert stars(p) == printed


def test_metrics_table_and_summary():
    frames = [table_of_scores(np.random.default_rng(seed)) for seed in (0, 1)]
    metrics = [metrics_of_scores(frame, seed) for seed, frame in enumerate(frames)]
    # 44 PA images give a group of their own, 16 AP images (8 of each class) do not.
    assert list(metrics[0]["group"]) == ["all", "all", "view=PA", "view=PA"]
    assert list(metrics[0]["score"]) == ["stage1", "inter"] * 2
    assert list(metrics[0]["normal"]) == [30, 30, 22, 22]
    assert (metrics[0]["auc_low"] <= metrics[0]["auc"]).all() and (metrics[0]["ap"] <= metrics[0]["ap_high"]).all()

    table = summarise(frames).set_index(["score", "group"])
    of_all = [float(frame.query("score == 'inter' and group == 'all'")["auc"].iloc[0]) for frame in metrics]
    assert table.at[("inter", "all"), "auc_mean"] == pytest.approx(np.mean(of_all))
    assert table.at[("inter", "all"), "auc_spread"] == pytest.approx(1.96 * np.std(of_all, ddof=1))
    assert table.at[("inter", "all"), "seeds"] == 2
    assert summarise(frames[:1])["auc_spread"].isna().all()
    for seed in (0, 1):  # of one seed, whichever it is, the interval is that of its own table
        own, of_one = (found.set_index(["score", "group"]) for found in (metrics[seed], summarise([frames[seed]])))
        pd.testing.assert_series_equal(of_one["ap_low"], own["ap_low"])
    pd.testing.assert_frame_equal(metrics_of_scores(frames[0], 0), metrics[0])


def test_findings_and_thirds_of_severity_are_groups_against_all_normal_images():
    rng = np.random.default_rng(0)
    label = np.repeat(["normal", "abnormal"], [20, 36])
    finding = np.array(["", *["nodule"] * 12, *["mass"] * 15, *["rib"] * 9])[np.r_[[0] * 20, 1:37]]
    together = np.where(finding == "rib", "rib | mass", finding)  # an image of two findings counts for each
    severity = np.r_[np.zeros(20), rng.permutation(36) / 36]
    frame = pd.DataFrame({"image_id": range(56), "label": label, "s": rng.normal(size=56), "finding": finding})
    table = metrics_of_scores(frame.assign(severity=severity), 0).set_index("group")
    thirds = [f"severity={name} third" for name in ("faintest", "middle", "plainest")]
    assert list(table.index) == ["all", "finding=mass", "finding=nodule", *thirds]  # nine ribs are too few
    for group, members in [("finding=mass", finding == "mass"), (thirds[1], (severity >= 1 / 3) & (severity < 2 / 3))]:
        pairs = frame["s"].to_numpy()[members & (label == "abnormal")][:, None] > frame["s"].to_numpy()[:20]
        assert table.at[group, "auc"] == pytest.approx(pairs.mean())
        assert table.at[group, "abnormal"] == members.sum() and table.at[group, "normal"] == 20
    groups = metrics_of_scores(frame.assign(finding=together), 0).set_index("group")["abnormal"]
    assert groups.to_dict() == {"all": 36, "finding=mass": 24, "finding=nodule": 12}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "normal"}, "60 normal and 0 abnormal"),
        ({"label": "sick"}, "has the label 'sick'"),
        ({"inter": "nan"}, "inter = 'nan'"),
        ({"image_id": "same"}, "'same' appears more than once"),
    ],
)
def test_unusable_scores_are_named(change, message):
    frame = table_of_scores(np.random.default_rng(0)).assign(**change)
    with pytest.raises(InputError, match=message):
        metrics_of_scores(frame, 0)
    with pytest.raises(InputError, match="expected image_id, label"):
        metrics_of_scores(frame[["image_id", "label"]], 0)


def pseudo_labels() -> tuple[pd.DataFrame, pd.DataFrame]:
    pseudo = pd.DataFrame(
        {
            "image_id": list("abcdef"),
            "predicted": ["normal"] * 2 + ["abnormal"] * 4,
            "kept": ["True", "False", "True", "True", "True", "False"],
            "pseudo_label": ["normal", "", "abnormal", "abnormal", "abnormal", ""],
        }
    )
    hidden = ["normal", "abnormal", "abnormal", "normal", "", "abnormal"]
    return pseudo, pd.DataFrame({"image_id": list("abcdef"), "label": hidden}).iloc[::-1]


def test_purity_of_pseudo_labels_by_hand():
    table = diagnose_pseudo_labels(*pseudo_labels()).set_index("class")
    assert list(table["predicted"]) == [2, 4, 6]
    assert list(table["kept"]) == [1, 3, 4]
    assert list(table["known"]) == [1, 2, 3]
    assert list(table["purity"]) == pytest.approx([1, 1 / 2, 2 / 3])
    assert list(table["accuracy"]) == pytest.approx([1 / 2, 2 / 3, 3 / 5])


def test_purity_is_empty_where_nothing_is_known():
    pseudo, hidden = pseudo_labels()
    for unknown in (hidden.iloc[:0], hidden.assign(label="")):
        table = diagnose_pseudo_labels(pseudo.assign(kept=pseudo["kept"] == "True"), unknown)
        assert list(table["kept"]) == [1, 3, 4]
        assert table[["purity", "accuracy"]].isna().all(axis=None)


def test_labels_that_are_unknown_or_of_unreadable_images_are_left_out():
    pseudo, hidden = pseudo_labels()
    for one, other in ((pseudo, hidden[:-1]), (pseudo[1:], hidden)):
        table = diagnose_pseudo_labels(one, other)
        assert (
            table["known"].iloc[-1] == one.merge(other, on="image_id").query("kept == 'True' and label != ''").shape[0]
        )
    with pytest.raises(InputError, match="none of the 6 images"):
        diagnose_pseudo_labels(pseudo, hidden.assign(image_id=list("uvwxyz")))


def test_patients_with_several_labelled_images_are_reported(tmp_path, capsys):
    ids = [f"t{n}" for n in range(8)]
    manifest = pd.DataFrame({"image_id": ids, "label": [*["normal", "abnormal"] * 3, "", ""], "split": "test"})
    manifest["path"], manifest["view"] = manifest["image_id"], ""
    manifest[["image_id"]].to_csv(tmp_path / "index.csv", index=False)
    pd.DataFrame({"image_id": ids, "p_abnormal": np.arange(8.0)}).to_csv(tmp_path / "stage1.csv", index=False)
    files = {name: tmp_path / f"{name}.csv" for name in ("manifest", "index", "scores", "metrics")}
    for patients, said in [
        ("aabbb-cc", "warning: 2 patients have several images; the intervals take images as independent\n"),
        ("abcdefgg", ""),  # one patient with two images, neither of which is measured
        ("--------", ""),
    ]:
        manifest.assign(patient_id=[name.strip("-") for name in patients]).to_csv(files["manifest"], index=False)
        compute_metrics(**files, stage1_scores=tmp_path / "stage1.csv")
        assert capsys.readouterr().err == said
        assert set(pd.read_csv(files["metrics"])["score"]) == {"stage1"}


def test_a_test_image_without_a_score_is_refused_and_an_unreadable_one_is_not_measured(tmp_path):
    ids = [f"t{n}" for n in range(6)]
    manifest = pd.DataFrame({"image_id": ids, "label": ["normal", "abnormal"] * 3, "split": "test", "view": "PA"})
    manifest.assign(path=manifest["image_id"], patient_id="").to_csv(tmp_path / "manifest.csv", index=False)
    pd.DataFrame({"image_id": ids[1:]}).to_csv(tmp_path / "index.csv", index=False)
    (tmp_path / "rejected.csv").write_text("image_id,path,reason\nt0,t0.png,truncated\n")
    scores = pd.DataFrame({"image_id": ids[:0:-1], "p_abnormal": np.arange(5.0)})
    scores.to_csv(tmp_path / "scores.csv", index=False)
    files = {name: tmp_path / f"{name}.csv" for name in ("manifest", "index", "scores", "metrics", "made")}
    given = {name: files[name] for name in ("manifest", "index", "metrics")} | {"seed": 0}
    whole = dict(**given, stage1_scores=files["scores"], scores=files["made"], reconstruction_scores=None)
    of_tables = dict(**given, score_tables=[files["scores"]])
    for command, options in [(compute_metrics, whole), (measure_scores, of_tables)]:
        command(**options)
        assert pd.read_csv(files["metrics"])[["normal", "abnormal"]].to_numpy().tolist() == [[2, 3]]
    assert pd.read_csv(files["made"])["stage1"].tolist() == [4, 3, 2, 1, 0]
    scores[1:].to_csv(files["scores"], index=False)
    for command, options in [(compute_metrics, whole), (measure_scores, of_tables)]:
        with pytest.raises(InputError, match=r"scores\.csv: no row for 1 of 5 images, the first is 't5'"):
            command(**options)
