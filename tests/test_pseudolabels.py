"""Pseudo-labels: thresholds by percentile of the images predicted as a class, and the fallback of a scarce class."""

import numpy as np
import pandas as pd
import pytest

from amae.commands.export_pseudo_labels import export_pseudo_labels
from amae.method.pseudolabels import pseudo_label
from amae.runtime.errors import InputError
from amae.settings import PseudoLabelSettings


def scores(p_abnormal):
    p = np.asarray(p_abnormal, float)
    return pd.DataFrame({"image_id": [f"i{n}" for n in range(len(p))], "p_normal": 1 - p, "p_abnormal": p})


def test_half_of_each_predicted_class_is_kept_at_the_median():
    table = pseudo_label(scores([0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.9]), PseudoLabelSettings(minimum=2))
    assert table["predicted"].tolist() == ["normal"] * 4 + ["abnormal"] * 3
    assert table["threshold"].tolist() == pytest.approx([0.75] * 4 + [0.7] * 3)
    assert table["pseudo_label"].tolist() == ["normal", "normal", "", "", "", "abnormal", "abnormal"]
    assert table["kept"].tolist() == [True, True, False, False, False, True, True]


def test_thresholds_agree_with_a_second_way_to_compute_them():
    p = np.random.default_rng(0).random(301)
    table = pseudo_label(scores(p), PseudoLabelSettings(percentile=30, minimum=10))
    abnormal = np.sort(p[p > 0.5])
    position = 0.3 * (len(abnormal) - 1)
    low = int(position)
    threshold = abnormal[low] + (position - low) * (abnormal[low + 1] - abnormal[low])
    assert set(table.loc[table["pseudo_label"] == "abnormal", "image_id"]) == {
        f"i{n}" for n in np.flatnonzero(p >= threshold)
    }


def test_a_scarce_class_takes_the_top_quarter_and_says_so(capsys):
    p = np.concatenate([np.linspace(0.01, 0.49, 98), [0.6, 0.7]])
    table = pseudo_label(scores(p), PseudoLabelSettings())
    abnormal = table[table["pseudo_label"] == "abnormal"]
    assert abnormal["image_id"].tolist() == [f"i{n}" for n in range(75, 100)]
    assert (table["pseudo_label"] == "normal").sum() == 49
    assert "only 2 of 100 unlabeled images are predicted abnormal" in capsys.readouterr().err


def test_two_scarce_classes_do_not_meet():
    table = pseudo_label(scores(np.linspace(0.1, 0.9, 20)), PseudoLabelSettings())
    assert table["pseudo_label"].tolist() == ["normal"] * 5 + [""] * 10 + ["abnormal"] * 5


def test_percentile_zero_keeps_everything():
    table = pseudo_label(scores([0.2, 0.4, 0.8]), PseudoLabelSettings(percentile=0, minimum=1))
    assert table["kept"].all()


def test_the_probe_keeps_the_bottom_and_the_top_third_whatever_its_level(capsys):
    p = np.random.default_rng(1).permutation(np.linspace(0.6, 0.99, 20))  # all "abnormal" by the level
    table = pseudo_label(scores(p), PseudoLabelSettings(source="probe", minimum=30, percentile=100))
    order = [f"i{n}" for n in np.argsort(p)]
    kept = {name: set(part["image_id"]) for name, part in table.groupby("pseudo_label")}
    assert kept == {"normal": set(order[:7]), "": set(order[7:13]), "abnormal": set(order[13:])}
    ends = table.groupby("pseudo_label")["threshold"].agg(set)
    assert ends["abnormal"] == {np.sort(p)[13]} and ends["normal"] == {1 - np.sort(p)[6]}
    assert capsys.readouterr().err == ""  # no class is scarce: the rule is meant


@pytest.mark.parametrize("source", ["stage1", "probe", "detector"])
def test_ties_favour_no_class(source):
    settings = PseudoLabelSettings(source=source)
    table = pseudo_label(scores([0.0] * 8 + [1.0] + [0.0] * 3), settings)
    count = 3 if source == "stage1" else 4
    assert table["pseudo_label"].value_counts()[["normal", "abnormal"]].tolist() == [count, count]
    assert table["pseudo_label"][8] == "abnormal"
    first = dict(zip(table["image_id"], table["pseudo_label"], strict=True))
    turned = pseudo_label(scores([0.0] * 8 + [1.0] + [0.0] * 3)[::-1], settings)
    assert dict(zip(turned["image_id"], turned["pseudo_label"], strict=True)) == first  # rows in another order
    normal = table.index[table["pseudo_label"] == "normal"].tolist()
    assert normal not in (list(range(count)), list(range(12 - count, 12)))  # nor do names in order say who is normal


def test_what_cannot_be_ranked_is_refused(tmp_path):
    with pytest.raises(InputError, match="all 9 unlabeled images have the same probabilities"):
        pseudo_label(scores([0.3] * 9), PseudoLabelSettings())
    for name, p in {"empty": [], "constant": [0.3] * 9}.items():
        scores(p).assign(split="train_unlabeled").to_csv(tmp_path / f"{name}.csv", index=False)
    with pytest.raises(InputError, match=r"empty\.csv: split train_unlabeled has 0 rows"):
        export_pseudo_labels(unlabeled_scores=tmp_path / "empty.csv", labels=tmp_path / "out.csv")
    with pytest.raises(InputError, match=r"constant\.csv: all 9"):
        export_pseudo_labels(unlabeled_scores=tmp_path / "constant.csv", labels=tmp_path / "out.csv")


@pytest.mark.parametrize("count", [2, 9, 11])
def test_the_halves_of_an_odd_number_do_not_overlap(count, capsys):
    table = pseudo_label(scores(np.linspace(0.2, 0.8, count)), PseudoLabelSettings(fallback_share=0.5))
    assert table["pseudo_label"].value_counts()[["normal", "abnormal"]].tolist() == [count // 2, count // 2]
    assert capsys.readouterr().err.count(f"the {count // 2} with the highest p_") == 2
