"""The detector: it learns what T_u has and T_n has not, without a label, and not by a column that is balanced."""

import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from sklearn.metrics import roc_auc_score

from amae.commands.score_detector import score_detector
from amae.mae.architecture import Architecture
from amae.mae.checkpoints import write_tensors
from amae.mae.model import MAE
from amae.method.augment import random_affine_flip
from amae.method.detector import (
    FineTuned,
    balanced_weights,
    fit_rounds,
    influence_maps,
    logit_maps,
    make_network,
    normalise,
    ranked_abnormal,
    score_maps,
    train_network,
)
from amae.method.training import Resume, Schedule, seed_of, train
from amae.runtime.errors import InputError
from amae.settings import DetectorSettings

SETTINGS = DetectorSettings(image_size=32, folds=2, rounds=1, epochs=6, warmup_epochs=1, batch_size=16, lr=3e-3)


def radiographs(count: int, planted: np.ndarray, seed: int) -> torch.Tensor:
    """Noise images uint8 (N, 32, 32), with a bright square where `planted`."""
    rng = np.random.default_rng(seed)
    images = rng.integers(60, 120, (count, 32, 32))
    for row in np.flatnonzero(planted):
        y, x = rng.integers(2, 22, 2)
        images[row, y : y + 8, x : x + 8] += 100
    return torch.from_numpy(images.astype(np.uint8))


@pytest.fixture(scope="module")
def sets():
    """T_n, a T_u of which 60 % have a square, folds, and the truth, which training is not given."""
    unlabeled = np.repeat([False, True], [60, 100])
    planted = np.concatenate([np.zeros(60, bool), np.arange(100) < 60])
    return radiographs(160, planted, 0), unlabeled, np.arange(160) % 2, planted


def fit(sets, folder, settings=SETTINGS):
    """The networks, the logits out of fold and the history."""
    images, unlabeled, folds, _ = sets
    return fit_rounds(images, unlabeled, folds, None, settings, 0, Resume(folder / "detector.pt", "same"))


@pytest.fixture(scope="module")
def fitted(sets, tmp_path_factory):
    """Trained once for the tests that only look."""
    return fit(sets, tmp_path_factory.mktemp("detector"))


def test_it_ranks_new_images_and_the_unlabeled_ones_by_what_is_planted(sets, fitted):
    networks, out_of_fold, history = fitted
    planted = np.arange(80) < 40
    scores = score_maps(networks, radiographs(80, planted, 1)).mean((1, 2)).numpy()
    assert roc_auc_score(planted, scores) >= 0.95
    _, unlabeled, _, truth = sets
    assert roc_auc_score(truth[unlabeled], out_of_fold[unlabeled]) >= 0.9
    assert history.groupby("network").size().to_dict() == {"round0_network0": 6, "round0_network1": 6}


def test_the_map_is_highest_at_the_square(fitted):
    images = np.full((1, 32, 32), 90, np.uint8)
    images[0, 18:26, 2:10] = 190
    found = score_maps(fitted[0], torch.from_numpy(images))[0]
    assert found.shape == (2, 2)
    assert found.argmax() == 2  # lower left


def test_logits_out_of_fold_are_of_the_network_that_saw_no_image_of_the_fold(sets, fitted):
    images, _, folds, _ = sets
    networks, out_of_fold, _ = fitted
    for fold, network in enumerate(networks):
        logits = logit_maps(network, images).mean((1, 2)).numpy()
        assert np.allclose(out_of_fold[folds == fold], logits[folds == fold], atol=1e-5)
        assert not np.allclose(out_of_fold[folds != fold], logits[folds != fold], atol=1e-2)


def test_an_image_and_its_mirror_image_score_alike(fitted):
    images = radiographs(4, np.ones(4, bool), 2)
    maps, mirrored = (score_maps(fitted[0], each) for each in (images, images.flip(2)))
    assert torch.allclose(maps, mirrored.flip(2), atol=1e-5)


def test_an_interrupted_training_ends_with_the_same_weights(sets, tmp_path, monkeypatch, fitted):
    from amae.method import training

    run, calls = training._epoch, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return run(*arguments)

    monkeypatch.setattr(training, "_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(sets, tmp_path)
    networks, out_of_fold, _ = fit(sets, tmp_path)
    assert np.array_equal(out_of_fold, fitted[1])
    for network, other in zip(networks, fitted[0], strict=True):
        for name, value in network.state_dict().items():
            assert torch.equal(value, other.state_dict()[name]), name


def test_a_second_round_is_without_what_the_first_ranks_as_normal_and_without_folds(sets, fitted, tmp_path):
    images, unlabeled, _, planted = sets
    logits = fitted[1]
    used = ~unlabeled | ranked_abnormal(logits, unlabeled)
    assert 40 <= used[unlabeled].sum() <= 70  # 60 of 100 are planted
    assert planted[used & unlabeled].mean() > 0.9
    assert logits[used & unlabeled].min() > logits[~used].max()
    networks, out_of_fold, history = fit(sets, tmp_path, replace(SETTINGS, rounds=2))
    assert np.array_equal(out_of_fold, logits)  # those of the second round would be of networks that saw the images
    assert history["network"].nunique() == 4
    for number, network in enumerate(networks):
        resume = Resume(tmp_path / f"by_hand{number}.pt", "same")
        target, weights = torch.from_numpy(unlabeled[used]).float(), torch.ones(used.sum())
        seed = seed_of(seed_of(0, 1), number)
        other, _ = train_network(images[torch.from_numpy(used)], target, weights, SETTINGS, seed, resume)
        for name, value in network.state_dict().items():
            assert torch.equal(value, other.state_dict()[name]), name


def test_a_tenth_of_the_unlabeled_images_stays_where_none_seems_abnormal():
    logits, unlabeled = np.tile(np.linspace(0, 1, 100), 3), np.arange(300) < 200
    assert ranked_abnormal(logits, unlabeled).sum() == 20


def test_balanced_weights_make_a_column_independent_of_the_set():
    rng = np.random.default_rng(0)
    unlabeled = np.repeat([False, True], [300, 500])
    views = np.where(rng.random(800) < np.where(unlabeled, 0.7, 0.2), "AP", "PA").astype(object)
    views[:5] = "LL"  # in T_n alone
    weights = balanced_weights(unlabeled, views)
    assert weights.mean() == pytest.approx(1)
    assert (weights[:5] == 0).all()
    share = {
        u: weights[(unlabeled == u) & (views == "AP")].sum() / weights[unlabeled == u].sum() for u in (False, True)
    }
    assert share[False] == pytest.approx(share[True])
    assert weights[unlabeled].sum() / weights.sum() == pytest.approx(500 / 795)


def test_weights_are_one_where_the_column_says_nothing():
    unlabeled = np.array([False, False, True])
    assert (balanced_weights(unlabeled, ["", "", ""]) == 1).all()
    assert (balanced_weights(unlabeled, ["PA", "PA", "AP"]) == 1).all()  # no group in both: nothing to balance


def test_a_detector_that_could_win_by_the_view_does_not_when_it_is_balanced(tmp_path):
    rng = np.random.default_rng(1)
    unlabeled = np.repeat([False, True], [150, 150])
    frame = rng.random(300) < np.where(unlabeled, 0.8, 0.2)  # a frame marks the view AP
    images = radiographs(300, np.zeros(300, bool), 3)
    images[torch.from_numpy(frame), :2] = 255
    new = radiographs(60, np.zeros(60, bool), 4)
    new[:30, :2] = 255
    gap = {}
    for name, groups in [("plain", None), ("balanced", frame)]:
        resume = Resume(tmp_path / name / "detector.pt", name)
        networks, *_ = fit_rounds(images, unlabeled, np.arange(300) % 2, groups, SETTINGS, 0, resume)
        logits = score_maps(networks, new).mean((1, 2))
        gap[name] = (logits[:30].mean() - logits[30:].mean()).item()
    assert gap["plain"] > 1.5  # the truth is log(0.8 / 0.2) - log(0.2 / 0.8) = 2.8
    assert abs(gap["balanced"]) < 0.3


def test_an_affine_draw_without_range_only_flips():
    images = torch.rand(8, 1, 16, 16)
    moved = random_affine_flip(images, torch.Generator().manual_seed(0), 0.0, scale=0, degrees=0, shift=0, contrast=0)
    same = [torch.allclose(a, b, atol=1e-5) for a, b in zip(images, moved, strict=True)]
    flipped = [torch.allclose(a.flip(2), b, atol=1e-5) for a, b in zip(images, moved, strict=True)]
    assert all(a != b for a, b in zip(same, flipped, strict=True))
    assert any(same)
    assert any(flipped)


def test_the_network_is_small_and_its_map_has_a_place_for_every_sixteen_pixels():
    network = make_network()
    assert network(torch.zeros(2, 1, 96, 64)).shape == (2, 1, 6, 4)
    assert 0.3e6 < sum(p.numel() for p in network.parameters()) < 0.5e6


@pytest.fixture
def fine_tuned():
    """A small f_0 with a head that is not zero."""
    torch.manual_seed(0)
    sizes = {"width": 32, "depth": 3, "heads": 2, "decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2}
    encoder = MAE(Architecture(image_size=32, patch_size=8, mean=0.4, std=0.3, **sizes))
    network = FineTuned(encoder, decay=0.5)
    torch.nn.init.normal_(network.head.weight)
    return encoder, network


def test_the_mean_logit_of_a_fine_tuned_encoder_is_its_head_on_the_pooled_features(fine_tuned):
    encoder, network = fine_tuned
    images = radiographs(4, np.arange(4) < 2, 0)
    maps = logit_maps(network, images)
    assert maps.shape == (4, 4, 4)
    pooled = [encoder.features(encoder.normalise(each)) for each in (images, images.flip(2))]
    torch.testing.assert_close(maps.mean((1, 2)), network.head(sum(pooled) / 2)[:, 0])


def test_a_step_moves_each_layer_by_its_share_of_the_learning_rate(fine_tuned, tmp_path):
    _, network = fine_tuned
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    images = normalise(radiographs(8, np.arange(8) < 4, 0))
    schedule = Schedule(1, 0, 8, lr=1e-3, weight_decay=0.0)
    train(network, lambda ids, _: network(images[ids]).square().mean(), 8, schedule, 0, Resume(tmp_path / "t.pt", ""))
    moved = {name: (p.detach() - before[name]).abs().max().item() for name, p in network.named_parameters()}
    shares = {"patch_embed.proj.weight": 1 / 16, "cls_token": 1 / 16, "norm.weight": 1.0}
    shares |= {f"blocks.{i}.mlp.fc1.weight": 0.5 ** (3 - i) for i in range(3)}
    for name, share in {f"encoder.{name}": share for name, share in shares.items()}.items():
        assert moved[name] == pytest.approx(1e-3 * share, rel=0.02), name  # Adam's first step is the rate
    assert moved["head.weight"] == pytest.approx(1e-3, rel=0.02)


def test_the_detectors_logits_of_the_unlabeled_images_become_probabilities(tmp_path):
    manifest = pd.DataFrame({"image_id": list("abcde"), "split": ["train_unlabeled"] * 5})
    manifest.loc[1, "split"] = "test"
    manifest.to_csv(tmp_path / "manifest.csv", index=False)
    manifest[:3].to_csv(tmp_path / "images.csv", index=False)
    manifest[3:].to_csv(tmp_path / "rejected.csv", index=False)  # files that could not be read
    state = {"normal": torch.zeros(1), "unlabeled": torch.tensor([0.0, np.log(3.0)], dtype=torch.float64)}
    write_tensors(state, tmp_path / "state.safetensors", {"method": "detector"})
    files = {"manifest": tmp_path / "manifest.csv", "index": tmp_path / "images.csv"}
    files |= {"detector_ranking": tmp_path / "scores.csv"}
    with pytest.raises(InputError, match=r"embedded\.safetensors: not a trained detector"):
        score_detector(trained_detector=ROOT / "amae/mae/embedded.safetensors", **files)
    score_detector(trained_detector=tmp_path / "state.safetensors", **files)
    found = pd.read_csv(tmp_path / "scores.csv")
    assert found["image_id"].tolist() == ["a", "c"]
    np.testing.assert_allclose(found[["p_normal", "p_abnormal"]], [[0.5, 0.5], [0.25, 0.75]])


def test_influence_is_the_difference_to_normal_images_times_the_slope(fitted, sets, monkeypatch):
    """The slope by finite differences, in float64, at some pixels; no blur."""
    networks, images, normal = fitted[0], sets[0][-3:], sets[0][:60].double().mean(0)
    monkeypatch.setattr("amae.method.detector.BLUR", 0)
    found = influence_maps(networks, images, normal)
    exact = [copy.deepcopy(network).double().eval() for network in networks]
    batch, step = normalise(images).double(), 1e-5
    pixels = [(0, 3, 4), (0, 20, 9), (1, 8, 8), (1, 30, 1), (2, 15, 15), (2, 16, 27), (2, 9, 9), (1, 2, 20)]
    for row, y, x in pixels:
        sides = batch[row : row + 1].repeat(2, 1, 1, 1)
        sides[:, 0, y, x] += torch.tensor([step, -step])
        above, below = torch.stack([network(sides).mean((1, 2, 3)) for network in exact]).mean(0)
        difference = (images[row, y, x] - normal[y, x]).item() / 255 / 0.25  # in units of the normalised image
        expected = max(difference * ((above - below) / (2 * step)).item(), 0)
        assert found[row, y, x].item() == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert sum(found[pixel].item() > 0 for pixel in pixels) >= 2


def test_influence_is_greatest_on_what_only_unlabeled_images_have(fitted, sets):
    """Squares of new images are hit where chance is a tenth, and the same for an image alone."""
    images, normal = radiographs(40, np.ones(40, bool), 7), sets[0][:60].double().mean(0)
    maps = influence_maps(fitted[0], images, normal)
    places = maps.flatten(1).argmax(1)
    brightest = images.flatten(1).float().gather(1, places[:, None])[:, 0]
    assert (brightest >= 160).float().mean() >= 0.8  # of a square
    alone = influence_maps(fitted[0], images[3:4], normal)
    torch.testing.assert_close(alone[0], maps[3], rtol=1e-4, atol=1e-6)
