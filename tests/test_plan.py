"""What a run asks for, without Snakemake: variants, data sets, weights, rows, targets; and the form of rule files."""

import ast
import copy
import os
import re
import shlex
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from amae.figures.style import score_name
from amae.method.scores import DESCRIPTIONS
from amae.plan import (
    captions,
    check,
    compared,
    datasets,
    jobs,
    rows,
    splits,
    stage2,
    targets,
    variants,
    watched,
    weights,
)
from amae.predict.files import list_files
from amae.runtime.errors import InputError

CONFIG = yaml.safe_load((ROOT / "config/config.yaml").read_text())
RULES = sorted((ROOT / "workflow/rules").glob("*.smk"))


@pytest.fixture
def config() -> dict:
    """The configuration as it comes, free to change."""
    return copy.deepcopy(CONFIG)


@pytest.fixture
def own(config, tmp_path):
    """The configuration with a data set "mine", whose table of images has these lines."""

    def make(lines: list[str], ratio: float | None = 0.6, drawn: bool = True) -> dict:
        table = tmp_path / f"table{len(list(tmp_path.iterdir()))}.csv"
        table.write_text("\n".join(lines) + "\n")
        about = {key: config["datasets"]["simulated"][key] for key in ("conversion", "square", "allowed_failures")}
        drawing = CONFIG["datasets"]["simulated"]["splits"] | {"anomaly_ratio": ratio}
        about |= {"kind": "own", "table": str(table), "root": None, "weights": "pretrain"}
        return config | {"datasets": config["datasets"] | {"mine": about | {"splits": drawing if drawn else None}}}

    return make


UNSPLIT = ["path,label", *(f"{number}.png,{number % 2 if number < 3000 else ''}" for number in range(4000))]
SPLIT = ["path,split,label", "a.png,train_normal,", "b.png,train_unlabeled,", "c.png,test,0", "d.png,test,1"]
PROTOCOL_N = ["path,split,label", "a.png,train_normal,", "b.png,test,0", "c.png,test,1"]


def test_own_data_without_a_conversion_go_through_their_window(own):
    config = own(SPLIT)
    assert datasets.quoted(config, "mine", "conversion") == "minmax"
    del config["datasets"]["mine"]["conversion"]
    check.check(config)
    assert datasets.quoted(config, "mine", "conversion") == "voi"
    assert "conversion voi" in captions.departures(config, "mine")
    del config["datasets"]["simulated"]["conversion"]
    with pytest.raises(InputError, match=r"datasets\.simulated\.conversion"):
        check.check(config)


# Variants


@pytest.mark.parametrize(
    ("variant", "own"),
    [
        ("", ""),
        ("ar0.2", "manifest stage1_scores probe_scores detector_scores pseudo_labels modules"),
        ("imagenet", "weights stage1 stage1_scores probe_scores pseudo_labels modules"),
        ("probe_pseudo_labels", "pseudo_labels modules"),
        ("train_masks_1", "modules"),
        ("test_masks_1", ""),
    ],
)
def test_a_variant_makes_what_it_changes_and_shares_the_rest(config, variant, own):
    made = {stage for stage in variants.DEPENDS if variants.owner(config, variant, stage)}
    assert made == set(own.split())
    assert {variants.owner(config, variant, stage) for stage in made} <= {variant}


def test_a_variant_is_checked_when_it_is_used(config):
    config["overrides"] = {"mae": {"image_size": 112}}  # 49 patches, which complementary masks cannot share out
    check.check(config)
    assert variants.settings_of(config, "train_masks_1")["modules"].masks == 1
    assert rows.rows_of(config, "rsna", "figure3b")
    refusal = "variant complementary_masks: key reconstruction.mask_scheme complementary contradicts images of 49"
    for use in (
        lambda: variants.options_of(config, "complementary_masks", "reconstruction"),
        lambda: rows.rows_of(config, "rsna", "sensitivity"),
    ):
        with pytest.raises(InputError, match=refusal):
            use()


def test_the_main_run_is_checked_at_once(config):
    config["overrides"] = {"reconstruction": {"mask_scheme": "complementary", "masks": 3}}
    with pytest.raises(
        InputError, match=r"^config/config\.yaml \+ --config: key reconstruction\.mask_scheme complementary"
    ):
        check.check(config)


# Rows


def titles(config, name):
    return [row["method"] for row in rows.rows_of(config, "rsna", name)]


def test_the_backbone_of_imagenet_is_known_by_its_weights(config):
    backbones, tried = config["variants"], "AMAE-IN stage 1"
    backbones["other_name"] = backbones.pop("imagenet")
    config["experiments"]["backbones"] = ["densenet_mae", "other_name"]
    (row,) = [row for row in rows.rows_of(config, "rsna", "table2") if row["method"] == tried]
    assert row["scores"] == ["results/rsna/other_name/seed0/stage1/scores.csv"]
    backbones["mine"] = {"weights": "/of/mine.pth", "normalisation": "imagenet"}
    config["experiments"]["backbones"] = ["densenet_mae", "mine"]
    assert titles(config, "table2").count(tried) == 1
    config["experiments"]["backbones"] = ["other_name", "mine"]  # a title stands for one row
    assert [title for title in titles(config, "table2") if tried in title] == [f"{tried} ({v})" for v in backbones][-2:]
    config["experiments"]["backbones"] = ["densenet_mae"]
    assert tried not in titles(config, "table2")


def test_figure_3b_takes_the_variant_that_leaves_pseudo_labels_out(config):
    changes = config["variants"].pop("without_pseudo_labels")
    check.check(config | {"experiments": config["experiments"] | {"decisions": []}})  # nobody asked for figure 3b
    with pytest.raises(InputError, match="figure 3b"):
        rows.rows_of(config, "rsna", "figure3b")
    config["variants"] |= {"more": changes | {"stage1": {"epochs": 30}}, "plain": changes}
    assert ["plain" in row["scores"][0] for row in rows.rows_of(config, "rsna", "figure3b")] == [True, False]


def test_mask_rec_stands_where_there_are_unlabeled_images_and_once(config):
    for listed in ([], ["knn", compared.MASK_REC]):
        config["experiments"]["comparators"] = listed
        for name in ("table2", "figure3a"):
            found = [row for row in rows.rows_of(config, "rsna", name) if row["method"] == "AMAE Mask Rec."]
            assert len(found) == (1 if name == "table2" else len(config["experiments"]["anomaly_ratios"]))
        assert "AMAE Mask Rec." in compared.records(config, "rsna")
        assert "AMAE Mask Rec." not in titles(config | {"datasets": {"rsna": config["datasets"]["nih"]}}, "table2")
        scores = compared.compared_scores(config, "rsna", "", "0")
        assert len(scores) == len(set(scores))


def test_a_sweep_takes_the_main_run_at_its_own_ratio(config):
    config["seeds"] = [0, 3]
    drawn = [row for row in rows.rows_of(config, "rsna", "figure3a") if row["protocol"] == "Y"]
    found = {row["anomaly_ratio"]: row["scores"] for row in drawn}
    assert found[0.6][0].startswith("results/rsna/seed0/") and found[0.6][1].startswith("results/rsna/seed3/")
    assert found[0.2][0].startswith("results/rsna/ar0.2/seed0/")
    files = [file for scores in found.values() for file in scores]
    assert set(files) <= set(rows.score_files(config, "rsna", "figure3a"))


def test_figure_3a_has_the_curves_of_the_paper(config):
    drawn = rows.rows_of(config, "rsna", "figure3a")
    ratios = config["experiments"]["anomaly_ratios"]
    names = {"AMAE stage 2", "AMAE stage 1", "AMAE Mask Rec.", "DDAD-AE", "AE", "MAE multi-reconstruction"}
    for name in names:
        assert [row["anomaly_ratio"] for row in drawn if row["method"] == name] == ratios
    constant = {name: [row for row in drawn if row["method"] == name] for name in ("AE", "MAE multi-reconstruction")}
    for name, folder in {"AE": "ae_N", "MAE multi-reconstruction": "mae_multi_N"}.items():
        # T_n is the same at every ratio, and so is what is trained on it alone
        assert {(row["protocol"], *row["scores"]) for row in constant[name]} == {
            ("N", f"results/rsna/seed0/comparators/{folder}/scores.csv")
        }
    config["experiments"]["comparators"] = ["knn"]
    assert {row["method"] for row in rows.rows_of(config, "rsna", "figure3a")} & names == names - {
        *("DDAD-AE", "AE", "MAE multi-reconstruction")
    }


@pytest.mark.parametrize(("key", "found"), [("train_normal", 2), ("unlabeled", 1)])
def test_fewer_images_than_folds_are_refused_in_the_plan(config, key, found):
    config["datasets"]["simulated"]["splits"][key] = found
    check.check(config)
    for method, name in (("detector", "detector"), ("detector_encoder",) * 2, ("detector_ratio", "detector")):
        refusal = (
            rf"key datasets\.simulated\.splits\.{key}: found {found}, expected at least 3.*comparators\.{name}\.folds"
        )
        with pytest.raises(InputError, match=refusal):
            compared.needed_weights(config, "simulated", "", method)
    assert compared.needed_weights(config, "simulated", "", "knn")
    probe = rf"key datasets\.simulated\.splits\.{key}: found {found}, expected at least 5.*pu_probe\.folds"
    assert stage2.ranking(config, "simulated", "", "0")
    with pytest.raises(InputError, match=probe):
        stage2.ranking(config, "simulated", "probe_pseudo_labels", "0")
    config["datasets"]["simulated"]["splits"][key] = 5
    assert compared.needed_weights(config, "simulated", "", "detector") == []
    assert stage2.ranking(config, "simulated", "probe_pseudo_labels", "0")


def test_fewer_patients_than_folds_in_the_splits_of_a_table_are_refused_in_the_plan(own):
    rows = [f"{split}{n}.png,{split},,p{n}" for split in ("train_normal", "train_unlabeled") for n in range(3)]
    table = ["path,split,label,patient_id", "c.png,test,0,", "d.png,test,1,", *rows]
    unknown = [row.removesuffix("p2") for row in table]  # of a patient of its own
    for lines in (table, unknown):
        assert compared.needed_weights(own(lines, drawn=False), "mine", "", "detector") == []
    for split in ("train_normal", "train_unlabeled"):
        shared = [row.replace("p1", " p0") if split in row else row for row in table]  # two images of one patient
        refusal = rf"table\d+\.csv: split {split}: found images of 2 patients, expected at least 3, .*detector\.folds"
        with pytest.raises(InputError, match=refusal):
            compared.needed_weights(own(shared, drawn=False), "mine", "", "detector")


@pytest.mark.parametrize("key", ["gallery", "predict"])
def test_the_score_auto_is_refused_in_the_plan_without_calibration_images(config, own, key):
    model = "results/simulated/seed0/model.safetensors"
    config["datasets"]["simulated"]["splits"]["calibration"] = 0
    assert stage2.model_for(config, "simulated", "", "0", key) == ([] if key == "gallery" else model)
    config[key]["score"] = "auto"
    refusal = rf"key {key}\.score: found auto, .* expected datasets\.simulated\.splits\.calibration of at least 1"
    with pytest.raises(InputError, match=refusal):
        stage2.model_for(config, "simulated", "", "0", key)
    config["datasets"]["simulated"]["splits"]["calibration"] = 1
    assert stage2.model_for(config, "simulated", "", "0", key) == model
    swept = "results/simulated/ar0.2/seed0/model.safetensors"  # its table marks the calibration images
    assert stage2.model_for(config, "simulated", "ar0.2", "0", key) == swept
    with pytest.raises(InputError, match=rf"key {key}\.score: found auto, .* rsna has none; expected another score"):
        stage2.model_for(config, "rsna", "", "0", key)
    marked = own([*SPLIT, "e.png,calibration,0"], drawn=False)
    assert stage2.model_for(marked, "mine", "", "0", key) == "results/mine/seed0/model.safetensors"
    with pytest.raises(InputError, match=rf"key {key}\.score: found auto"):
        stage2.model_for(own(SPLIT, drawn=False), "mine", "", "0", key)


def test_the_backbone_of_igd_is_fetched_unless_a_file_is_named_or_none_is_wanted(config, tmp_path):
    config["preset"], config["presets"]["paper"] = "paper", {"comparators": {"igd": {}}}
    fetched = "results/sources/weights/resnet18-f37072fd.pth"
    assert compared.needed_backbone(config, "igd") == fetched
    assert not any("note" in row for row in rows.rows_of(config, "rsna", "table2") if row["method"] == "IGD")
    assert f"--igd.backbone {fetched}" in compared.method_settings(config, "", "igd")
    assert weights.name_of_file(config, "resnet18-f37072fd.pth") == "weights-resnet18-imagenet"
    own = tmp_path / "own.pth"
    config["presets"]["paper"]["comparators"]["igd"] = {"backbone": str(own)}
    with pytest.raises(InputError, match=r"key presets\.paper\.comparators\.igd\.backbone: .*own\.pth: no such file"):
        compared.needed_backbone(config, "igd")
    own.touch()
    assert compared.needed_backbone(config, "igd") == str(own)
    config["presets"]["paper"]["comparators"]["igd"] = {"pretrained": False}
    assert compared.needed_backbone(config, "igd") == []
    noted = [row.get("note") for row in rows.rows_of(config, "rsna", "table2") if row["method"] == "IGD"]
    assert noted == ["encoder from scratch, not pre-trained"] * 2
    assert "--igd.no-pretrained" in compared.method_settings(config, "", "igd")
    for method in ("ae", "knn", "mask_rec", "mae_multi"):
        assert compared.needed_backbone(config, method) == []
    config["presets"]["paper"]["comparators"] = {"mae_multi": {}}
    with pytest.raises(InputError, match=r"comparators\.mae_multi: unknown"):
        check.check(config)


@pytest.mark.parametrize("method", ["two_distributions", "detector_ratio"])
def test_masks_of_a_comparator_that_do_not_fit_the_patches_are_refused_in_the_plan(config, method):
    config["overrides"] = {"mae": {"image_size": 80}}
    check.check(config)  # no other target need fail
    assert compared.needed_weights(config, "simulated", "", "mae_multi")
    refusal = r"key mae\.image_size 80 with mae\.patch_size 16: .* images of 25 patches.*leave both out of experiments"
    with pytest.raises(InputError, match=refusal):
        compared.needed_weights(config, "simulated", "", method)
    config["overrides"] = {"mae": {"image_size": 96}}
    assert compared.needed_weights(config, "simulated", "", method)


# Data sets


@pytest.mark.parametrize("kind", ["null", "named", "published", "paediatric"])
def test_another_ratio_is_refused_where_unlabeled_images_are_not_drawn_by_label(config, own, kind):
    name, why = "mine", "its splits or its anomaly_ratio is null"
    if kind == "null":
        config = own(UNSPLIT, ratio=None)
    elif kind == "named":
        config, why = own(SPLIT, drawn=False), "its table names the splits"
    elif kind == "published":
        name, config["datasets"]["rsna"]["anomaly_ratio"] = "rsna", None
    else:
        name, config["datasets"]["paediatric"]["splits"]["anomaly_ratio"] = "paediatric", None
    ask = splits.index_options if name == "mine" else splits.source_index_options
    assert ask(config, name, "") == ask(config, name, "train_masks_1")
    for use in (lambda: ask(config, name, "ar0.2"), lambda: rows.score_files(config, name, "figure3a")):
        with pytest.raises(InputError, match=rf"anomaly_ratio 0(\.2)? contradicts datasets\.{name}.*{re.escape(why)}"):
            use()
    if kind != "published":
        assert datasets.has_unlabeled(config, name)  # figure3a is asked for, and what else it could show is right


def test_candidates_do_not_depend_on_the_ratio(own):
    asked = [splits.candidate_options(own(UNSPLIT, ratio), "mine") for ratio in (0.2, 0.6)]
    assert asked[0] == asked[1] and given_splits(asked[0])["anomaly_ratio"] == "0"
    assert given_splits(splits.candidate_options(own(UNSPLIT, None), "mine"))["anomaly_ratio"] == "null"


def test_a_variant_of_the_ratio_keeps_no_image_for_calibration(own):
    found = given_splits(splits.index_options(own(UNSPLIT), "mine", "ar0.2"))
    expected = CONFIG["datasets"]["simulated"]["splits"] | {"anomaly_ratio": 0.2, "calibration": 0}
    assert found == {name: str(value) for name, value in expected.items()}


def given_splits(options):
    """The splits among options, as text by key."""
    words = shlex.split(options)
    pairs = zip(words[::2], words[1::2], strict=True)
    return {name[len("--splits.") :].replace("-", "_"): value for name, value in pairs if name.startswith("--splits.")}


def test_what_a_person_states_of_a_data_set_reaches_the_check_of_the_setting_and_the_model(own):
    config = own(UNSPLIT)
    assert splits.setting_options(config, "mine", "") == "--anomaly-ratio 0.6"
    assert splits.setting_options(config, "mine", "ar0.2") == "--anomaly-ratio 0.2"
    assert datasets.noise_option(config, "mine") == ""
    config["datasets"]["mine"] |= {"accept_differences": True, "normal_noise": 0.05}
    check.check(config)
    assert splits.setting_options(config, "mine", "") == "--anomaly-ratio 0.6 --accept-differences"
    assert datasets.noise_option(config, "mine") == "--normal-noise 0.05"
    assert splits.setting_options(own(UNSPLIT, ratio=None), "mine", "") == ""
    config["datasets"]["mine"]["normal_noise"] = 0.6
    with pytest.raises(InputError, match=r"normal_noise"):
        check.check(config)


def test_a_table_with_splits_of_its_own_contradicts_splits_to_draw(own):
    config = own(SPLIT)
    for use in (
        lambda: splits.candidate_options(config, "mine"),
        lambda: splits.index_options(config, "mine", ""),
        lambda: datasets.ratio_option(config, "mine"),
        lambda: captions.caption_of(config, "mine"),
        lambda: targets.everything(config | {"dataset": "mine"}),
    ):
        with pytest.raises(InputError, match=r"key datasets\.mine\.splits: .*table\d\.csv names the splits itself"):
            use()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (SPLIT[:3], r"no row has the split test \(found: train_normal, train_unlabeled\)"),
        (SPLIT[:1] + SPLIT[3:], r"no row has the split train_normal \(found: test\)"),
        (UNSPLIT, r"key datasets\.mine\.splits: null, and .*has no column split with entries"),
    ],
)
def test_a_table_without_a_split_that_every_run_needs_is_refused_when_planned(own, lines, message):
    with pytest.raises(InputError, match=message):
        targets.everything(own(lines, drawn=False) | {"dataset": "mine"})


@pytest.mark.parametrize(
    ("lines", "drawn", "ratio"),
    [
        (SPLIT, False, ""),
        (UNSPLIT, True, "--anomaly-ratio 0.6"),
        (["path,label,split", "a.png,0,calibration", *(f"{row}," for row in UNSPLIT[1:])], True, "--anomaly-ratio 0.6"),
    ],
)
def test_the_ratio_that_is_printed_is_the_one_that_is_drawn(own, lines, drawn, ratio):
    config = own(lines, drawn=drawn)
    assert datasets.ratio_option(config, "mine") == ratio
    assert given_splits(splits.index_options(config, "mine", "")).get("anomaly_ratio") == ("0.6" if drawn else None)


def test_a_data_set_without_unlabeled_images_has_no_stage_2(own, capsys):
    config = own(PROTOCOL_N, drawn=False) | {"dataset": "mine"}
    assert not datasets.has_unlabeled(config, "mine")
    assert stage2.files(config, "mine", "", "0", ["scores.csv"]) == []
    with pytest.raises(InputError, match="data set mine has no unlabeled images, so stage 2"):
        stage2.ranking(config, "mine", "", "0")
    files = targets.everything(config)
    assert "results/mine/seed0/comparison.html" in files and "results/mine/seed0/model.safetensors" not in files
    assert rows.reference(config, "mine", "table2") == "AMAE stage 1"
    experiments = config["experiments"] | {"figure3": ["mine", "rsna"]}
    asked = targets.of_experiment(config | {"experiments": experiments}, "figure3", ["x.png"], stage2=True)
    assert asked == ["results/rsna/x.png"]
    assert capsys.readouterr().err == "note: experiments.figure3: mine left out, without a stage 2\n"


@pytest.mark.parametrize("labels", [("", ""), ("0", "0"), ("abnormal", "")])
def test_a_test_set_that_nothing_can_be_measured_on_is_refused_when_it_is_planned(own, labels):
    lines = ["path, Split,LABEL", "a.png,train_normal,", *(f"{i}.png,test,{label}" for i, label in enumerate(labels))]
    with pytest.raises(InputError, match=r"table\d\.csv: of 2 test images \d normal, \d abnormal, \d without label"):
        targets.everything(own(lines, drawn=False) | {"dataset": "mine"})


def test_pseudo_labels_of_the_probe_rank_by_its_scores(config):
    def ranking(variant):
        return stage2.ranking(config, "simulated", variant, "3")

    assert ranking("train_masks_1") == "results/simulated/seed3/stage1/scores.csv"
    assert ranking("probe_pseudo_labels") == "results/simulated/seed3/probe/scores.csv"
    assert ranking("detector_pseudo_labels") == "results/simulated/seed3/detector/scores.csv"
    assert ranking("ar0.2") == "results/simulated/ar0.2/seed3/stage1/scores.csv"


def test_whose_a_score_is_agrees_everywhere(config):
    """Of the scores of a run stage1 and inter are the paper's; README, card, legends and tables mark the others."""
    found = rows.rows_of(config, "simulated", "sensitivity")
    for score, meaning in DESCRIPTIONS.items():
        ours = score not in ("stage1", "inter")
        line = re.search(rf"^\| `{score}` \| [a-z].*$", (ROOT / "README.md").read_text(), re.M)[0]
        of_main = [row for row in found if row["score"] == f"reconstruction/{score}" and "main" in row["method"]]
        assert ("(ours" in line, "this project's own" in meaning, "(ours)" in score_name(score)) == (ours, ours, ours)
        assert all((row["taxonomy"] == "ours") == ours for row in of_main)


@pytest.mark.parametrize("name", ["masks_ablation", "sensitivity"])
def test_a_variant_is_tested_against_the_main_run_by_the_same_score(config, name):
    found = rows.rows_of(config, "simulated", name)
    score_of = {row["method"]: row["score"] for row in found}
    assert all(score_of[row["reference"]] == row["score"] for row in found)
    mains = {row["reference"]: row["scores"] for row in found if row["method"] == row["reference"]}
    assert set(mains) == {row["reference"] for row in found} and len(mains) == 4
    assert {tuple(files) for files in mains.values()} == {("results/simulated/seed0/reconstruction/scores.csv",)}


def test_an_encoder_is_tested_against_the_main_one_by_the_same_method(config):
    config["preset"], config["presets"]["paper"] = "paper", {}
    found = rows.rows_of(config, "rsna", "backbones")
    stage1 = rows.reference(config, "rsna", "backbones")
    of_method = {(row["method"], row["protocol"]): row for row in found}
    for row in found:
        main = of_method[row.get("reference", stage1), row["protocol"]]
        assert main["score"] == row["score"] and "ViT-S MAE: " in main["method"]


def test_a_table_that_cannot_give_the_splits_is_refused_when_it_is_planned(own, capsys):
    with pytest.raises(
        InputError, match=r"table\d+\.csv: .*test_normal is \d+, but the table has 20 .*This fits: splits"
    ):
        splits.index_options(own(UNSPLIT[:41]), "mine", "")
    assert capsys.readouterr().err == ""


def test_a_list_that_lies_in_the_folder_of_a_published_set_counts(config, tmp_path):
    found = set()
    (tmp_path / "RSNA").mkdir()
    for name in ("RSNA/data.json", "data.json", "rsna_data.json"):  # from the last that is looked for to the first
        for content in ("a", "b"):
            (tmp_path / name).write_text(name + content)
            (tmp_path / "notes.txt").write_text(name)
            config["datasets"]["rsna"]["folder"] = str(tmp_path)
            watched._sha256.cache_clear()  # a run reads a file once
            found.add(tuple(watched.lists_of(config, "rsna")))
    assert len(found) == 6
    before, listed = watched.tables_of(config, "rsna"), watched.lists_of(config, "rsna")
    (tmp_path / "stage_2_train_labels.csv").write_text("boxes, which change the manifest and not the images")
    assert watched.tables_of(config, "rsna") != before and watched.lists_of(config, "rsna") == listed
    config["datasets"]["rsna"]["patient_disjoint"] = True
    assert watched.lists_of(config, "rsna") == watched.tables_of(config, "rsna") != listed


@pytest.mark.parametrize("key", ["table", "boxes", "weights"])
def test_a_file_that_is_missing_is_named_by_its_key(own, key):
    config = own(UNSPLIT)
    datasets.check_dataset(config, "mine")
    config["datasets"]["mine"][key] = "/nowhere"
    with pytest.raises(InputError, match=rf"key datasets\.mine\.{key}: /nowhere: no such file"):
        datasets.check_dataset(config, "mine")
    config["datasets"]["mine"][key] = "results/made/later"
    datasets.check_dataset(config, "mine")


def test_weights_by_name_by_path_and_from_the_workflow(config):
    config["variants"]["own"] = {"weights": "/of/mine.pth"}
    files = [weights.weights_file(config, "rsna", variant) for variant in ("", "imagenet", "own")]
    assert files[0] == "results/sources/weights/vit-s_CXR_0.3M_mae.pth" and files[2] == "/of/mine.pth"
    assert weights.name_of_file(config, Path(files[1]).name) == "weights-vit-s-imagenet"
    assert weights.weights_file(config, "pretraining", "").endswith("pretraining/pretraining/mae.safetensors")
    assert Path(weights.weights_file(config, "simulated", "")).is_file()
    assert weights.exposure_option(config, "rsna") and not weights.exposure_option(config, "simulated")


# Files of a person


def test_a_file_counts_by_its_content(config, tmp_path):
    file, copied = tmp_path / "a.csv", tmp_path / "b.csv"
    file.write_text("path\n")
    first = watched.content_of(config, str(file))
    copied.write_bytes(file.read_bytes())
    os.utime(copied, (1, 1))
    assert first and watched.content_of(config, str(copied)) == first
    copied.with_name("c.csv").write_text("other\n")
    assert watched.content_of(config, str(tmp_path / "c.csv")) != first
    config["results"] = str(tmp_path)  # what the workflow makes counts by its time
    assert watched.content_of(config, str(file)) == watched.content_of(config, []) == ""


def test_every_change_of_a_folder_to_predict_is_noticed(config, tmp_path):
    folder = tmp_path / "new"
    (folder / "below").mkdir(parents=True)
    (folder / "a.png").write_bytes(b"a")
    config |= {"predict": config["predict"] | {"folder": str(folder)}, "results": str(tmp_path / "results")}
    seen = {watched.listing_of(config): sorted(list_files([folder], tmp_path / "results/predictions"))}

    def noticed():
        known, listing = len(seen), watched.listing_of(config)
        seen.setdefault(listing, [])
        return len(seen) > known

    assert not noticed()
    (folder / ".hidden").write_bytes(b"h")
    assert not noticed()
    (folder / "below/b.png").write_bytes(b"b")
    assert noticed()
    about = (folder / "a.png").stat()
    (folder / "a.png").write_bytes(b"c")  # as large as it was
    os.utime(folder / "a.png", ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    assert noticed()
    (folder / "below/b.png").rename(folder / "below/c.png")
    assert noticed()
    (folder / "below/link").symlink_to(tmp_path / "nowhere")
    assert noticed()
    config["predict"]["folder"] = str(folder / "a.png")
    assert noticed()
    config["predict"]["folder"] = str(tmp_path)
    with pytest.raises(InputError, match=r"key predict\.folder: .* contains the results"):
        watched.listing_of(config)
    config["predict"]["folder"] = None
    with pytest.raises(InputError, match=r"key predict\.folder: null"):
        watched.listing_of(config)


# The form of the rule files


def imported(path):
    """Names that a rule file imports, and the modules of the package that it imports from."""
    lines = re.findall(r"^(?:from (\S+) )?import (.+)$", path.read_text(), re.M)
    names = {name.strip() for _, names in lines for name in names.split(",")}
    return names, {module for module, _ in lines if module.startswith("amae")}


@pytest.mark.parametrize("path", [*RULES, ROOT / "workflow/Snakefile"], ids=lambda path: path.name)
def test_a_rule_file_holds_rules(path):
    text, (names, modules) = path.read_text(), imported(path)
    assert text.startswith('"""') and len(text.splitlines()) <= (60 if path.name == "Snakefile" else 150)
    assert modules <= {"amae.plan"}, "the plan is all that the workflow imports"
    code = re.sub(r'"(?:[^"\\\n]|\\.)*"', "", re.sub(r'"""(?s:.*?)"""|^(?:from|import) .*$', "", text, flags=re.M))
    assert {name for name in names if not re.search(rf"\b{name}\b", code)} == set(), "imported for another file"
    plan = {file.stem for file in (ROOT / "amae/plan").glob("*.py")}
    assert set(re.findall(r"(?<![\w.])(\w+)\.\w", code)) & plan <= names, "imported in another file"
    if path.name != "common.smk":
        assert not re.search(r"^def |\blambda\b", text, re.M)


def test_a_files_content_counts_exactly_where_its_time_does_not():
    for path in RULES:
        for body in re.split(r"^rule ", path.read_text(), flags=re.M)[1:]:
            touched, counted = (re.findall(rf"{name}\((\w+)\)", body) for name in ("unless_touched", "content_of"))
            assert touched == counted, body.partition(":")[0]


def test_no_variant_is_wired_in():
    """Names in config.yaml are a person's; no code may wait for one."""
    for path in [*(ROOT / "amae/plan").glob("*.py"), *RULES]:
        source = path.read_text()
        if path.suffix == ".py":
            words = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
        else:
            words = set(re.findall(r'"(\w+)"', source))
        found = words & set(CONFIG["variants"])
        assert found <= {"imagenet"} and (not found or path.name in ("weights.py", "rows.py", "schema.py")), path


def test_a_report_with_the_settings_of_another_run_has_a_warning(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["snakemake", "--report=report.html"])
    config |= {"results": str(tmp_path)}
    jobs.note_report(config)  # no run yet
    jobs.write_configuration(config)
    (tmp_path / "simulated").mkdir()
    jobs.note_report(config)
    assert capsys.readouterr().err == ""
    jobs.note_report(config | {"seeds": [0, 1], "predict": config["predict"] | {"specificity": 0.9}})
    line = capsys.readouterr().err
    assert line.startswith("warning: captions of simulated get the settings of this call, and the last run had others")
    assert line.count("warning") == 1 and str(tmp_path / "config.yaml") in line
    for damaged in ("", "presets: {}", "{", "datasets: {simulated: {kind: rsna}}"):  # of another version, or cut
        (tmp_path / "config.yaml").write_text(damaged)
        jobs.note_report(config)
        assert capsys.readouterr().err.startswith("warning: captions of simulated get the settings of this call")
