"""The models of several seeds in one file: means of scaled scores, by hand."""

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from small import write_model
from test_comparators import draw, write_data_set

from amae.cli import main
from amae.comparators.interface import TrainingData
from amae.mae.model import MAE
from amae.method.detector import make_network
from amae.method.scores import DESCRIPTIONS
from amae.method.stage1 import make_head
from amae.predict.model import Model, load_model, save_model
from amae.predict.score import score_arrays, score_images
from amae.runtime.files import sha256

FILES = {"manifest": "manifest.csv", "images": "images.npy", "index": "images.csv"}


def replicate(template: Model, seed: int, files: dict[str, str], calibrated: bool) -> Model:
    """Random networks beside the f_0 of a template."""
    torch.manual_seed(seed)
    made = [MAE(template.encoder.architecture).eval() for _ in "AB"]
    arrays = {k: v for k, v in template.arrays.items() if calibrated or not k.startswith("calibration.")}
    about = template.about | {"seed": seed, "files": files, "test": {"inter": [0.6 + seed / 10, 0.5, 0.8]}}
    about |= {
        "auc_p": {"inter": 0.6 + seed / 10},
        "no_calls": {"inter": "x"} if seed else {},
        "mask_noise": 0.3 - seed / 10,
    }
    about["images"] = about["images"] | {"calibration": 20 * calibrated}
    networks = (template.encoder, make_head(16).eval(), *made, (make_network().eval(),))
    return Model(about, *networks, arrays)


@pytest.fixture(params=["calibration", "train_normal"])
def run(request, tmp_path):
    """Files of two replicates and of their data set, and the images that set the scale."""
    template, folder = load_small(tmp_path), tmp_path / "data"
    few = TrainingData(draw(8, 0, False), draw(8, 1, True), encoder=template.encoder)
    write_data_set(folder, few, ["normal"] * 4 + ["abnormal"] * 4)
    table = pd.read_csv(folder / "manifest.csv")
    if request.param == "calibration":
        table.loc[table.index[-8:-4], "split"] = "calibration"
        table.to_csv(folder / "manifest.csv", index=False)
    files = {name: sha256(folder / file) for name, file in FILES.items()} | {"weights": "1" * 64}
    paths = [folder / f"seed{seed}.safetensors" for seed in (0, 1)]
    for seed, path in enumerate(paths):
        save_model(replicate(template, seed, files, request.param == "calibration"), path)
    packed = np.load(folder / "images.npy")
    return folder, paths, packed[(table["split"] == request.param).to_numpy()], packed


def load_small(folder) -> Model:
    return load_model(write_model(folder / "small.safetensors", 64, "minmax"))


def combine(folder, paths, **other):
    """The command's exit status."""
    options = {name: folder / file for name, file in FILES.items()} | {"model": folder / "both.safetensors"}
    options |= {"card": folder / "both.md", "device": "cpu", **other}
    words = [str(word) for key, value in options.items() for word in (f"--{key}", value)]
    return main(["combine-models", "--models", *map(str, paths), *words])


def test_scores_and_maps_are_the_means_by_hand(run):
    folder, paths, reference, packed = run
    assert combine(folder, paths) == 0
    both, single = load_model(folder / "both.safetensors"), [load_model(path) for path in paths]
    expected, maps = dict.fromkeys(DESCRIPTIONS, 0.0), 0.0
    for model in single:
        normal, (found, _, each) = score_images(model, reference)[0], score_images(model, packed)
        maps = maps + each / 2
        for name in DESCRIPTIONS:
            values = normal[name].to_numpy(float)
            centre = sum(values) / len(values)
            spread = (sum((values - centre) ** 2) / (len(values) - 1)) ** 0.5
            expected[name] = expected[name] + (found[name].to_numpy(float) - centre) / spread / 2
    scores, _, found = score_images(both, packed)
    assert set(scores) == set(DESCRIPTIONS)
    for name in DESCRIPTIONS:
        np.testing.assert_allclose(scores[name], expected[name], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found, maps, atol=1e-6)
    unlabeled = (pd.read_csv(folder / "manifest.csv")["split"] == "train_unlabeled").to_numpy()
    assert both.about["map_limit"] == pytest.approx(np.percentile(maps[unlabeled].max((1, 2)), 75), rel=1e-5)
    table = score_arrays(both, list(packed[:3]), every=True).table
    np.testing.assert_array_equal(table["inter"], scores["inter"][:3])
    few = score_arrays(both, list(packed[:3])).table
    assert "inter" not in few and few["detector"].equals(table["detector"])
    calibration = both.group("calibration")
    assert bool(calibration) == (len(reference) == 4)
    if calibration:
        at = score_images(both, reference)[0]
        np.testing.assert_allclose(calibration["inter"], np.sort(at["inter"]), atol=1e-6)


def test_the_file_states_its_seeds_and_stays_the_same_when_written_again(run):
    folder, paths, reference, _ = run
    assert combine(folder, paths) == 0
    card = (folder / "both.md").read_text()
    assert "# AMAE model: random, seeds 0, 1" in card and "| `inter` | 0.60 | 0.70 |" in card
    assert f"deviation on {len(reference)} " in card and "model of seed 1" in card
    both = load_model(folder / "both.safetensors")
    assert both.about["auc_p"] == {"inter": pytest.approx(0.65)} and both.about["test"] == {}
    assert both.about["no_calls"] == {"inter": "seed 1: x"} and both.about["mask_noise"] == 0.3
    save_model(both, folder / "again.safetensors")
    for name in ("both", "seed0"):
        path = folder / f"{name}.safetensors"
        save_model(load_model(path), folder / "again.safetensors")
        assert (folder / "again.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 0}, "seed1.safetensors: seed 0, as"),
        ({"dataset": "other"}, "seed1.safetensors: dataset is other, but random in"),
        ({"files": {**dict.fromkeys(FILES, "2"), "weights": "1" * 64}}, "made from another file manifest than"),
        ({"recalibration": {}}, "already recalibrated"),
    ],
)
@pytest.mark.parametrize("run", ["train_normal"], indirect=True)
def test_models_that_do_not_belong_are_refused(run, change, message, capsys, monkeypatch):
    folder, paths, *_ = run
    monkeypatch.setattr("amae.predict.model._check_arrays", lambda _: None)
    monkeypatch.setattr("amae.predict.model.card_of", lambda *_: None)
    model = load_model(paths[1])
    save_model(dataclasses.replace(model, about=model.about | change), paths[1])
    assert combine(folder, paths) == 2
    assert message in capsys.readouterr().err and not (folder / "both.safetensors").exists()


@pytest.mark.parametrize("run", ["train_normal"], indirect=True)
def test_one_model_or_other_images_are_refused(run, capsys):
    folder, paths, *_ = run
    assert combine(folder, paths[:1]) == 2
    assert "the only model; expected two or more" in capsys.readouterr().err
    other = shutil.copy(folder / "manifest.csv", folder / "other.csv")
    assert combine(folder, paths, index=other) == 2
    assert "other.csv: not the file from which" in capsys.readouterr().err


@pytest.mark.parametrize("run", ["train_normal"], indirect=True)
def test_its_detectors_are_not_exported_as_one(run, capsys):
    folder, paths, *_ = run
    assert combine(folder, paths) == 0
    assert main(["export-onnx", str(folder / "both.safetensors"), "--network", str(folder / "x.onnx")]) == 2
    assert "a combined model (seeds 0, 1); expected one of a single seed" in capsys.readouterr().err
