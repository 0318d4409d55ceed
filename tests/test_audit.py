"""Shortcut scores against pictures whose answer is known, groups against counts by hand, and the published figures."""

from argparse import Namespace

import numpy as np
import pandas as pd
import pytest
from project import call

from amae.commands.audit import audit
from amae.evaluation.audit import SHORTCUTS, age_in_years, audit_table, audit_text, shortcut_scores, spectrum
from amae.evaluation.metrics import auc
from amae.runtime.errors import InputError

SIZE = 64


def noise_of_slope(rng: np.random.Generator, exponent: float, size: int = 128) -> np.ndarray:
    """An image whose power falls as 1/f^exponent, phases at random."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size))
    amplitude = np.where(frequency > 0, np.maximum(frequency, 1e-9), np.inf) ** (-exponent / 2)
    image = np.fft.ifft2(np.fft.fft2(rng.normal(size=(size, size))) * amplitude).real
    return np.round(255 * (image - image.min()) / np.ptp(image)).astype(np.uint8)


@pytest.fixture
def data(rng) -> tuple[np.ndarray, pd.DataFrame, pd.DataFrame]:
    """Packed images, manifest and index of 30 T_n, 10 T_u and 80 test images."""
    splits = ["train_normal"] * 30 + ["train_unlabeled"] * 10 + ["test"] * 80
    number = np.arange(120)
    test = number >= 40
    abnormal = test & (number % 2 == 1)
    manifest = pd.DataFrame(
        {
            "image_id": [f"i{i:03}" for i in number],
            "path": [f"{i}.png" for i in number],
            "split": splits,
            "label": np.select([~test & (number >= 30), abnormal], ["", "abnormal"], "normal"),
            "patient_id": [f"p{i % 70}" for i in number],  # test image 70 and later: the patients of 0 to 49
            "view": np.where(number % 4 < 2, "PA", "AP"),
            "sex": np.where(number < 100, "F", "M"),
            "age": [f"{20 + i % 50:03}Y" for i in number],
        }
    )
    index = pd.DataFrame({"image_id": manifest["image_id"], "rows": 400 + number, "columns": 500})
    images = rng.integers(0, 256, (120, SIZE, SIZE)).astype(np.uint8)
    return images, manifest, index


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0])
def test_slope_of_noise_with_a_known_spectrum(rng, exponent):
    images = np.stack([noise_of_slope(rng, exponent) for _ in range(8)])
    slope, share = spectrum(images)
    assert slope.mean() == pytest.approx(-exponent, abs=0.15)
    size = images.shape[1]
    radius = np.hypot(np.fft.fftfreq(size, 1 / size)[:, None], np.fft.fftfreq(size, 1 / size))
    expected = np.where(radius > 0, np.maximum(radius, 0.5), np.inf) ** -exponent
    # most of a steep spectrum's power lies in a few coefficients, so that its share varies from image to image
    assert share.mean() == pytest.approx(expected[radius > size / 4].sum() / expected.sum(), rel=0.2, abs=0.01)


def test_octaves_of_a_spectrum_weigh_the_same(rng):
    """Power that falls as 1/f^3 to 8 cycles and is flat from there: a plain fit would find nearly no slope."""
    size, cycles = 128, np.arange(2, 65)
    radius = np.hypot(np.fft.fftfreq(size, 1 / size)[:, None], np.fft.fftfreq(size, 1 / size))
    amplitude = np.where(radius > 0, np.clip(radius, 1, 8), np.inf) ** -1.5
    noise = np.fft.ifft2(np.fft.fft2(rng.normal(size=(16, size, size))) * amplitude).real
    low, high = noise.min((1, 2), keepdims=True), noise.max((1, 2), keepdims=True)
    slope, _ = spectrum(np.round(255 * (noise - low) / (high - low)).astype(np.uint8))
    expected, plain = (
        np.polyfit(np.log(cycles), -3 * np.log(np.minimum(cycles, 8)), 1, w=weights)[0]
        for weights in (cycles**-0.5, np.ones(63))
    )
    assert abs(expected - plain) > 0.5 and slope.mean() == pytest.approx(expected, abs=0.15)


def test_spectrum_without_contrast_and_of_a_sine():
    flat = np.full((SIZE, SIZE), 77, np.uint8)
    x = np.arange(SIZE) / SIZE
    fine, coarse = (np.round(127 + 100 * np.sin(2 * np.pi * n * x) * np.ones((SIZE, 1))) for n in (24, 4))
    slope, share = spectrum(np.stack([flat, fine, coarse]).astype(np.uint8))
    assert (slope[0], share[0]) == (0, 0)
    assert share[1] > 0.99 and share[2] < 0.01


def test_shortcuts_by_hand(data):
    images, manifest, index = data
    table = shortcut_scores(images, manifest, index)
    assert list(table) == ["image_id", *SHORTCUTS] and len(table) == 80
    row, place = table.iloc[5], 45
    assert row["image_id"] == "i045" and row["view_only"] == 0
    assert row["original_size"] == 445 * 500 and row["aspect_ratio"] == pytest.approx(500 / 445)
    assert row["mean_intensity"] == pytest.approx(images[place].mean() / 255)
    sizes = 500 * (400 + np.arange(30))
    assert row["unusual_original_size"] == pytest.approx((445 * 500 - sizes.mean()) / sizes.std())


def test_shortcuts_see_no_training_label_and_no_unlabeled_image(data):
    images, manifest, index = data
    expected = shortcut_scores(images, manifest, index)
    changed = images.copy()
    changed[30:40] = 0
    manifest.loc[manifest["split"] != "test", "label"] = ""
    pd.testing.assert_frame_equal(shortcut_scores(changed, manifest, index), expected)


def test_unknown_views_are_the_mean_and_no_view_is_no_score(data):
    images, manifest, index = data
    manifest.loc[[40, 41], "view"] = ["", "LL"]
    known = manifest.iloc[42:120]["view"]
    table = shortcut_scores(images, manifest, index)
    assert table["view_only"][:2].tolist() == pytest.approx([(known == "AP").mean()] * 2)
    assert "view_only" not in shortcut_scores(images, manifest.assign(view=""), index)
    with pytest.raises(InputError, match="no labelled test image"):
        shortcut_scores(images, manifest[manifest["split"] != "test"], index)


def test_constant_property_of_training_gives_no_division_by_zero(data):
    images, manifest, index = data
    index["rows"] = np.where(np.arange(120) < 40, 500, index["rows"])
    assert np.isfinite(shortcut_scores(images, manifest, index)["unusual_aspect_ratio"]).all()


def test_an_image_that_a_table_lacks_is_an_error(data):
    images, manifest, index = data
    more = pd.concat([manifest, manifest.tail(1).assign(image_id="late")], ignore_index=True)
    with pytest.raises(InputError, match="index of the images: no row for 1 of 81 images, the first is 'late'"):
        shortcut_scores(images, more, index)
    with pytest.raises(InputError, match="manifest: no row for 1 of 81 images, the first is 'late'"):
        audit_table([scores_of(more, inter=0.5)], manifest)


def scores_of(manifest: pd.DataFrame, **columns) -> pd.DataFrame:
    return manifest[manifest["split"] == "test"][["image_id", "label", "view"]].assign(**columns).reset_index(drop=True)


def test_groups_counted_by_hand(data, rng):
    manifest = data[1]
    scores = scores_of(manifest, inter=rng.random(80), view_only=1.0)
    number = np.arange(len(manifest))  # of the last 20 test images it is not known
    manifest["in_pretraining"] = np.select([number < 60, number < 100], ["yes", "no"], "")
    rejected = manifest.tail(1).assign(image_id="unreadable")  # has no scores, and is in no group
    table = audit_table([scores], pd.concat([manifest, rejected], ignore_index=True), exposure=True)
    counts = table[table["score"] == "inter"].set_index("group")[["normal", "abnormal"]]
    assert counts.loc["all"].tolist() == [40, 40]
    assert counts.loc["view=AP"].tolist() == counts.loc["view=PA"].tolist() == [20, 20]
    # test images 40 to 69 are of patients of their own; 70 to 109 share theirs with training images 0 to 39
    assert counts.loc["patient in training"].tolist() == [20, 20]
    assert counts.loc["patient not in training"].tolist() == [20, 20]
    nameless = manifest.assign(patient_id=manifest["patient_id"].where(number != 70, ""))  # who may be in training
    of_known = audit_table([scores], nameless).query("score == 'inter'").set_index("group")[["normal", "abnormal"]]
    assert of_known.loc["patient not in training"].tolist() == [20, 20]
    assert of_known.loc["patient in training"].tolist() == [19, 20]
    held_out = manifest.assign(split=manifest["split"].replace("train_normal", "calibration"))  # no network sees these
    of_few = audit_table([scores], held_out).query("score == 'inter'").set_index("group")[["normal", "abnormal"]]
    assert of_few.loc["patient in training"].sum() == 10  # those of the ten images of T_u
    assert counts.loc["seen in pre-training"].tolist() == [10, 10]
    assert counts.loc["not seen in pre-training"].tolist() == [20, 20]
    assert counts.loc["sex=F"].tolist() == [30, 30] and counts.loc["sex=M"].tolist() == [10, 10]
    # ages 60 to 69 (images 40 to 49 and 90 to 99), 20 to 39 (50 to 69 and 100 to 119), 40 to 59 (70 to 89)
    assert counts.loc["age=60-79"].tolist() == [10, 10] and counts.loc["age=18-39"].tolist() == [20, 20]
    assert counts.loc["age=40-59"].tolist() == [10, 10] and "age=0-17" not in counts.index
    unknown = audit_table([scores], manifest.assign(in_pretraining=""), exposure=True)
    assert set(unknown["group"]) == set(audit_table([scores], manifest)["group"])
    assert set(audit_table([scores], manifest)["group"]) == set(table["group"]) - {
        "seen in pre-training",
        "not seen in pre-training",
    }


def test_an_image_is_in_the_group_of_each_of_its_readers(data, rng):
    manifest = data[1].assign(readers=np.where(np.arange(120) % 2, "R10 | R8", "R9"))
    manifest.loc[40:50, "readers"] = ["", *["R8|R9"] * 10]
    table = audit_table([scores_of(manifest, inter=rng.random(80))], manifest)
    counts = table.set_index("group")[["normal", "abnormal"]].filter(like="reader=", axis=0)
    assert counts.T.to_dict("list") == {"reader=R10": [0, 35], "reader=R8": [5, 40], "reader=R9": [39, 5]}
    text = audit_text(table, "x")
    assert "By reader of the label" in text and "*reader=R10* (0 normal, 35 abnormal): too few for an AUC." in text
    assert "reader=" not in str(audit_table([scores_of(manifest, inter=0.5)], manifest.assign(readers=""))["group"])


def test_metrics_of_groups_and_signs(data, rng):
    manifest = data[1]
    scores = scores_of(manifest, inter=rng.random(80))
    scores["inter"] += scores["label"] == "normal"
    table = audit_table([scores], manifest).set_index("group")
    part = scores[scores["view"] == "AP"]
    assert table.loc["view=AP", "auc"] == pytest.approx(auc(part["label"] == "abnormal", part["inter"]))
    low, found, high = table.loc["view=AP", ["auc_low", "auc", "auc_high"]]
    assert low <= found <= high < 0.5
    assert table.loc["view=AP", "note"] == f"turned round: {1 - found:.3f}"
    few = audit_table([scores], manifest.assign(sex=np.where(manifest["image_id"] == "i045", "M", "F")))
    few = few.set_index("group").loc["sex=M"]
    assert few["abnormal"] == 1 and np.isnan(few["auc"]) and few["note"] == ""


def test_view_alone_on_rsna_is_the_published_figure():
    """817 PA and 183 AP normal images, 239 PA and 761 AP abnormal ones: AUC 0.789, average precision 0.733."""
    view = np.repeat(["PA", "AP", "PA", "AP"], [817, 183, 239, 761])
    label = np.repeat(["normal", "abnormal"], 1000)
    ids = [f"i{i}" for i in range(2000)]
    empty = dict.fromkeys(("path", "patient_id"), "")
    manifest = pd.DataFrame({"image_id": ids, "split": "test", "label": label, "view": view, **empty})
    index = pd.DataFrame({"image_id": ids, "rows": 1024, "columns": 1024})
    images = np.zeros((2000, 8, 8), np.uint8)
    shortcuts = shortcut_scores(images, manifest, index)
    assert "unusual_original_size" not in shortcuts  # there is no T_n
    scores = manifest[["image_id", "label"]].merge(shortcuts, on="image_id")
    row = audit_table([scores], manifest).set_index(["score", "group"]).loc[("view_only", "all")]
    assert (round(row["auc"], 3), round(row["ap"], 3)) == (0.789, 0.733)


def test_ages():
    assert age_in_years("058Y") == age_in_years("58") == age_in_years(" 58 ") == 58
    assert age_in_years("018M") == 1.5 and age_in_years("026W") == pytest.approx(0.5, abs=0.01)
    assert age_in_years("000D") == 0
    for text in ("", "148", "young", "nan"):
        assert np.isnan(age_in_years(text))


def test_text_says_what_the_table_holds(data, rng):
    images, manifest, index = data
    abnormal = scores_of(manifest)["label"].to_numpy() == "abnormal"
    scores = scores_of(manifest, inter=rng.random(80), stage1=rng.random(80) + 0.5 * abnormal)
    scores = scores.merge(shortcut_scores(images, manifest, index), on="image_id")
    scores["view_only"] = np.where(abnormal, 0.0, 1.0)
    text = audit_text(audit_table([scores], manifest), "simulated")
    assert "What simulated hides" in text and "40 normal and 40 abnormal" in text
    assert "`view_only` 0.000 (0.000 to 0.000)" in text and "turned round 1.000" in text
    assert "2 of 2 scores do no better: `inter`, `stage1`" in text
    assert "*patient not in training* (20 normal, 20 abnormal): `inter`" in text
    assert "pre-training" not in text and "nan" not in text
    many = scores.assign(**{f"own{i}": rng.random(80) for i in range(6)})
    text = audit_text(audit_table([many], manifest.assign(patient_id="")), "simulated")
    assert "over 8 scores" in text and "Patients are not known" in text


def test_text_where_no_shortcut_tells(data, rng):
    manifest = data[1]
    scores = scores_of(manifest, inter=rng.random(80), mean_intensity=0.5)
    assert "None of 1 shortcuts" in audit_text(audit_table([scores], manifest), "x")
    assert "No shortcut was measured" in audit_text(
        audit_table([scores[["image_id", "label", "inter"]]], manifest), "x"
    )


def test_text_where_nothing_can_be_measured_names_the_limit(data, rng):
    scores = scores_of(data[1], inter=rng.random(80), mean_intensity=0.5)
    scores = scores.drop(index=scores.index[scores["label"] == "abnormal"][9:])
    text = audit_text(audit_table([scores], data[1]), "x")
    assert "40 normal and 9 abnormal" in text and "at least 10 test images of each class" in text


def test_replicates_are_averaged_and_never_pooled(data, rng):
    images, manifest, index = data
    seeds = [scores_of(manifest, inter=rng.random(80), knn=0.5) for _ in range(3)]
    shuffled = [seeds[0], seeds[1].sample(frac=1, random_state=0), seeds[2]]  # rows belong to images, not to places
    shortcuts = manifest[["image_id", "label"]].merge(shortcut_scores(images, manifest, index), on="image_id")
    table = audit_table([shortcuts, *shuffled], manifest)
    rows = table.set_index(["score", "group"])
    for group, members in [("all", slice(None)), ("view=AP", seeds[0]["view"] == "AP")]:
        parts = [seed.loc[members] for seed in seeds]
        aucs = [auc(part["label"] == "abnormal", part["inter"]) for part in parts]
        row = rows.loc[("inter", group)]
        assert row["seeds"] == 3 and row["auc"] == pytest.approx(np.mean(aucs))
        assert row["auc_spread"] == pytest.approx(1.96 * np.std(aucs, ddof=1))
        assert row["auc_low"] < row["auc"] < row["auc_high"]
    assert rows.loc[("knn", "all"), ["auc", "auc_spread", "auc_low", "auc_high"]].tolist() == [0.5, 0, 0.5, 0.5]
    shortcut = rows.loc[("mean_intensity", "all")]
    assert shortcut["seeds"] == 1 and np.isnan(shortcut["auc_spread"]) and set(table["score"]) > {*SHORTCUTS}
    text, row = audit_text(table, "x"), rows.loc[("inter", "view=AP")]
    assert "mean over 3 seeds" in text and f"`inter` {row['auc']:.3f} ± {row['auc_spread']:.3f} (" in text


def test_text_names_the_extremes_of_many_scores(data, rng):
    manifest = data[1]
    scores = scores_of(manifest, **{f"s{i}": rng.random(80) for i in range(8)})
    table = audit_table([scores], manifest)
    part, whole = (table[table["group"] == group].set_index("score")["auc"] for group in ("view=AP", "all"))
    text = next(line for line in audit_text(table, "x").splitlines() if "*view=AP*" in line)
    text = text[text.index("*view=AP*") : text.index("*view=PA*")]
    change = part - whole
    assert f"AUC {part.min():.3f} (" in text and f"(`{part.idxmin()}`) to {part.max():.3f} (" in text
    assert f"by {change.min():+.3f} (`{change.idxmin()}`) to {change.max():+.3f} (`{change.idxmax()}`)" in text


@pytest.fixture
def files(data, rng, tmp_path) -> Namespace:
    """Two seeds of two methods, with a column of the same name, as files where the workflow puts them."""
    images, manifest, index = data
    index = index.assign(scale_x=1.0, scale_y=1.0, offset_x=0.0, offset_y=0.0)
    np.save(tmp_path / "images.npy", images)
    seen = np.where(np.arange(len(manifest)) < 90, "yes", "no")
    table = manifest.assign(path=[f"{i}.png" for i in range(len(manifest))], in_pretraining=seen)
    table.to_csv(tmp_path / "manifest.csv", index=False)
    index.to_csv(tmp_path / "index.csv", index=False)
    (tmp_path / "rejected.csv").write_text("image_id,path,reason\nunreadable,x.png,truncated\n")
    paths = [tmp_path / f"seed{seed}" / part / "scores.csv" for seed in (0, 1) for part in ("stage1", "ae_N", "ae_Y")]
    for path in paths:
        path.parent.mkdir(parents=True)
        scores = scores_of(manifest, ae=rng.random(80)).drop(columns=["label", "view"])
        if path.parent.name == "stage1":  # as stage 1 writes it, T_u too
            unlabeled = pd.DataFrame({"image_id": [f"i{i:03}" for i in range(30, 40)], "ae": 0.5})
            scores = pd.concat([unlabeled, scores]).assign(split="test", p_normal=0.5)
        scores.to_csv(path, index=False)
    options = {name: tmp_path / f"{name}.csv" for name in ("manifest", "index", "table")} | {"text": tmp_path / "a.md"}
    return Namespace(
        **options,
        images=tmp_path / "images.npy",
        score_tables=paths,
        seeds=[0, 1],
        dataset="simulated",
        exposure=True,
        caveats="Mind.",
    )


def test_audit_as_a_command(files, data):
    call(audit, files)
    table = pd.read_csv(files.table)
    assert set(table["score"]) == {*SHORTCUTS, "stage1/ae", "ae_N/ae", "ae_Y/ae"}
    labels = scores_of(data[1])["label"].to_numpy() == "abnormal"
    aucs = [auc(labels, pd.read_csv(path)["ae"]) for path in files.score_tables if path.parent.name == "ae_Y"]
    row = table.set_index(["score", "group"]).loc[("ae_Y/ae", "all")]
    assert row["auc"] == pytest.approx(np.mean(aucs)) and row["seeds"] == len(aucs) == 2
    assert files.text.read_text().endswith("\n\nMind.\n")
    text = files.text.read_text()
    files.exposure = False
    call(audit, files)
    assert "pre-training" not in files.text.read_text()
    assert "*not seen in pre-training* (15 normal, 15 abnormal): `stage1/ae`" in text


def test_audit_mistakes_as_a_command(files):
    given = files.score_tables
    files.score_tables = [given[1], given[1]]
    files.seeds = [0]
    with pytest.raises(InputError, match="score 'ae_N/ae' is in another table too"):
        call(audit, files)
    files.score_tables, files.seeds = given[:3], [0, 1]
    with pytest.raises(InputError, match="found 3 tables for 2 seeds"):
        call(audit, files)
    pd.read_csv(given[5])[1:].to_csv(given[5], index=False)
    files.score_tables = given
    with pytest.raises(InputError, match=r"ae_Y/scores\.csv: no row for 1 of 80 images, the first is 'i040'"):
        call(audit, files)
