"""What captions say of a run: nothing of the paper's own, and every departure from it by its name."""

import copy

import pytest
import yaml
from conftest import ROOT

from amae.comparators.methods import METHODS
from amae.plan.captions import SHIPPED, caveats, departures
from amae.plan.datasets import printed_kind
from amae.runtime.files import read_csv


@pytest.fixture
def paper() -> dict:
    """The configuration of the paper's own runs."""
    return yaml.safe_load((ROOT / "config/config.yaml").read_text()) | {"preset": "paper", "seeds": [0, 1, 2, 3]}


@pytest.mark.parametrize(("name", "unlabeled"), [("rsna", True), ("vindr", True), ("nih", False)])
def test_the_papers_own_runs_need_no_word(paper, name, unlabeled):
    assert caveats(paper, name, unlabeled) == ""
    paper["datasets"][name]["weights"] = "/of/mine/vit-s_CXR_0.3M_mae.pth"  # the same file
    assert departures(paper, name) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"preset": "demo"}, ["preset demo"]),
        ({"preset": "demo", "overrides": {"modules": {"epochs": 3}}}, ["preset demo", "modules.epochs 3"]),
        ({"overrides": {"stage1": {"lr": 1e-3}}}, ["stage1.lr 0.001"]),
        ({"presets.paper.modules": {"masks": 4}}, ["modules.masks 4"]),
        ({"presets.paper.comparators": {"ae": {"epochs": 1}}}, ["comparators.ae.epochs 1"]),
        ({"presets.paper.comparators": {"ae": {"epochs": 250}}}, []),
        ({"presets.paper.comparators": {"igd": {"backbone": "/of/mine/resnet18-f37072fd.pth"}}}, []),
        ({"presets.paper.comparators": {"draem": {"textures": "/of/mine/dtd"}}}, ["comparators.draem.textures dtd"]),
        (
            {"preset": "demo", "presets.demo.modules": {"epochs": 1, "warmup_epochs": 0}},
            ["preset demo", "modules.epochs 1", "modules.warmup_epochs 0"],
        ),
        (
            {
                "preset": "demo",
                "presets.demo.comparators.igd.pretrained": True,
                "presets.demo.comparators.nsa.epochs": 9,
            },
            ["preset demo", "comparators.igd.pretrained true", "comparators.nsa.epochs 9"],
        ),
        (
            {"preset": "mine", "presets.mine": {"stage1": {"epochs": 30}, "comparators": {"detector": {"rounds": 1}}}},
            ["preset mine (own: presets.mine of config.yaml in the folder of results)"],
        ),
        (
            {"preset": "mine", "presets.mine": {"stage1": {"epochs": 30}}, "overrides": {"stage1": {"epochs": 50}}},
            ["preset mine (own: presets.mine of config.yaml in the folder of results)", "stage1.epochs 50"],
        ),
        ({"seeds": [5]}, ["1 seed instead of 4"]),
        ({"datasets.rsna.weights": "pretrain"}, ["weights pretrain"]),
        ({"datasets.rsna.weights": "/of/mine/other.pth"}, ["weights other.pth"]),
        ({"datasets.rsna.patient_disjoint": True}, ["patient_disjoint true"]),
        ({"datasets.rsna.conversion": "voi", "datasets.rsna.square": "pad"}, ["conversion voi", "square pad"]),
        ({"datasets.rsna.anomaly_ratio": 0.4}, ["anomaly ratio 0.4"]),
        ({"datasets.rsna.anomaly_ratio": None}, ["no unlabeled images"]),
    ],
)
def test_every_departure_is_named(paper, changes, said):
    config = copy.deepcopy(paper)
    for key, value in changes.items():
        *path, last = key.split(".")
        place = config
        for part in path:
            place = place[part]
        place[last] = value
    assert departures(config, "rsna") == said
    text = caveats(config, "rsna", True)
    assert said or not text
    assert not said or f"Not the paper's settings: {', '.join(said)}. Printed values are for orientation." in text


def test_a_preset_that_a_name_stands_for_is_the_shipped_one(paper):
    assert yaml.safe_load(SHIPPED["demo"].read_text()) == paper["presets"]["demo"]
    del paper["presets"]["demo"]["comparators"]["ae"]  # which has the values of its recipe then
    assert departures(paper | {"preset": "demo"}, "rsna") == ["preset demo", "comparators.ae.epochs 250"]


def test_a_model_of_one_sex_is_not_the_papers(paper):
    paper["datasets"]["nih"]["sexes"] = ["F"]
    assert departures(paper, "nih") == ["sexes F"]
    assert printed_kind(paper, "nih") == "none" and "orientation" not in caveats(paper, "nih", False)
    assert printed_kind(paper, "rsna") == "rsna"


def test_lists_that_are_not_the_published_ones_are_named(paper, shared, tmp_path):
    published = next((shared / "data").rglob("rsna_data.json"))
    for content, said in ((published.read_bytes(), []), (b"{}", ["repartition mine.json"])):
        (tmp_path / "mine.json").write_bytes(content)
        paper["datasets"]["rsna"]["repartition"] = str(tmp_path / "mine.json")
        assert departures(paper, "rsna") == said


def test_pre_training_on_the_images_at_hand_is_said(paper):
    paper["datasets"]["rsna"]["weights"] = paper["datasets"]["nih"]["weights"] = "pretrain"
    assert "Under protocol N too, f_0 was pre-trained on T_n and T_u, without labels" in caveats(paper, "rsna", True)
    assert "protocol" not in caveats(paper, "nih", False)
    assert "pre-trained on T_n, without labels" in caveats(paper, "nih", False)
    assert "± leaves its variance out" in caveats(paper, "nih", False)


def test_what_is_stated_of_a_data_set_is_in_every_caption(paper):
    before = caveats(paper, "rsna", True)
    paper["datasets"]["rsna"] |= {"normal_noise": 0.05, "accept_differences": True}
    found = caveats(paper, "rsna", True)
    assert "Up to 0.05 of T_n may be abnormal" in found and "beyond disease were accepted" in found
    paper["datasets"]["rsna"] |= {"normal_noise": 0, "accept_differences": False}
    assert caveats(paper, "rsna", True) == before


def test_easy_and_simulated_sets_show_no_disease(paper):
    assert "No figure on this set shows how well disease is seen" in caveats(paper, "paediatric", True)
    assert "No figure on simulated radiographs shows" in caveats(paper, "simulated", True)
    assert "orientation" not in caveats(paper, "paediatric", True)  # nothing is printed for it


def test_what_the_paper_does_not_have_says_so():
    printed = set(read_csv(ROOT / "amae/evaluation/published.csv")["method"])
    for name, method in METHODS.items():
        assert (method.title in printed) != (method.note or "").startswith("not in the paper"), name
    ours = {name for name, method in METHODS.items() if method.taxonomy == "ours"}
    detectors = {
        "detector",
        "detector_balanced",
        "detector_encoder",
        "detector_masks",
        "detector_plain",
        "detector_ratio",
    }
    assert ours == detectors | {"gaussian_ratio", "knn", "knn_ratio", "mahalanobis", "pu_probe", "two_distributions"}
