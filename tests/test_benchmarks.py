"""The straightforward path of the benchmarks computes what we compute; the counted operations are those of torch."""

import numpy as np
import pandas as pd
import pytest
import torch

from amae.mae.architecture import Architecture
from amae.mae.model import masked_loss
from amae.method.reconstruct import draw_orders
from amae.runtime.errors import InputError
from amae.settings import ReconstructionSettings
from benchmarks import straightforward
from benchmarks.contamination import contaminated
from benchmarks.measure import operations
from benchmarks.run import MARKS, PAGE, markdown, read_results
from benchmarks.sizes import with_fewer_unlabeled
from benchmarks.training import our_scores, pair

SMALL = Architecture(32, 8, width=16, depth=2, heads=2, decoder_width=24, decoder_depth=2, decoder_heads=2)


@pytest.fixture
def images():
    """Grey images, uint8 (3, 32, 32)."""
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8))


def rgb(model, images):
    """Normalised images in three equal channels."""
    return model.normalise(images).repeat(1, 3, 1, 1)


def test_a_step_of_either_path_has_the_same_loss_and_gradient(images):
    ours, plain = pair(SMALL)
    noises = torch.rand(2, 3, 16)
    order = noises.transpose(0, 1).flatten(0, 1).argsort(1)
    loss = masked_loss(ours, ours.normalise(images), order, 4)
    loss.backward()
    optimiser = torch.optim.SGD(plain.parameters(), lr=0)
    assert straightforward.adapt(plain, optimiser, rgb(ours, images), noises, 0.75) == pytest.approx(loss.item(), 1e-5)
    known = dict(plain.named_parameters())
    for name, parameter in ours.named_parameters():
        gradient = known[name].grad
        if name.startswith("decoder_pred"):  # three channels of the prediction, each a third of the loss
            gradient = gradient.unflatten(0, (-1, 3)).sum(1)
        elif name == "patch_embed.proj.weight":
            gradient = gradient.mean(1, keepdim=True)
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-6, rtol=1e-4)


def test_both_paths_give_the_same_features(images):
    ours, plain = pair(SMALL)
    known = plain.encode(rgb(ours, images))[:, 1:].mean(dim=1)
    torch.testing.assert_close(ours.features(ours.normalise(images)), known, atol=1e-5, rtol=1e-5)


def test_both_paths_give_the_same_scores(images):
    pairs = [pair(SMALL, seed) for seed in (0, 1)]
    orders = draw_orders(["a", "b", "c"], 0, 16, ReconstructionSettings())
    noises = orders.argsort(-1).float()  # the noise that sorts to these orders
    plain = [each[1] for each in pairs]
    known = straightforward.inter_discrepancy(plain, rgb(pairs[0][0], images), noises, 0.75)
    assert our_scores([each[0] for each in pairs], images, orders).tolist() == pytest.approx(known, rel=1e-5)


def test_operations_are_those_of_the_matrix_products():
    a = Architecture(32, 8, width=16, depth=2, heads=2, decoder_width=24, decoder_depth=1, decoder_heads=2)
    model = pair(a)[0]
    encoder = 17 * 24 * 16**2 + 2 * 2 * 17**2 * 16  # a block: projections and MLP, then attention
    assert operations(lambda: model.features(torch.zeros(3, 1, 32, 32))) == 3 * (2 * encoder + 2 * 16 * 64 * 16)


def test_the_page_shows_the_table_of_results():
    assert MARKS[0] + markdown(read_results()) + MARKS[1] in PAGE.read_text(encoding="utf-8")


def test_contaminated_normal_images_keep_their_number_and_come_from_no_set():
    split = np.repeat(["train_normal", "train_unlabeled", "test"], [40, 30, 20])
    manifest = pd.DataFrame({"image_id": [f"i{n}" for n in range(90)], "split": split, "label": ""})
    pool = pd.DataFrame({"image_id": [f"j{n}" for n in range(10)], "split": "train_unlabeled", "label": ""})
    found = {percent: contaminated(manifest, pool, percent, 0) for percent in (0, 5, 20)}
    assert found[0].equals(manifest)
    added = {percent: set(frame["image_id"]) - set(manifest["image_id"]) for percent, frame in found.items()}
    assert [len(names) for names in added.values()] == [0, 2, 8] and added[5] < added[20] < set(pool["image_id"])
    for frame in found.values():
        assert (frame["split"] == "train_normal").sum() == 40 and not frame["image_id"].duplicated().any()
        rest = [each[each["split"] != "train_normal"].reset_index(drop=True) for each in (frame, manifest)]
        assert rest[0].equals(rest[1])
    for wrong in (pool[:7], manifest[manifest["split"] == "test"]):
        with pytest.raises(InputError, match="expected 8 or more that are in no set"):
            contaminated(manifest, wrong, 20, 0)


def test_a_smaller_unlabeled_set_is_a_part_of_a_greater_one_and_has_the_ratio():
    split = np.repeat(["train_normal", "train_unlabeled", "test"], [10, 50, 20])
    manifest = pd.DataFrame({"image_id": [f"i{n}" for n in range(80)], "split": split, "label": ""})
    labels = pd.Series({f"i{n}": "abnormal" if n % 5 < 3 else "normal" for n in range(10, 60)})
    for ratio, sizes in {0.6: (5, 20, 50), 0.3: (10, 20), 0.1: (10, 20)}.items():
        before = set()
        for count in sizes:
            found = with_fewer_unlabeled(manifest, labels, count, ratio, 0)
            kept = set(found.loc[found["split"] == "train_unlabeled", "image_id"])
            assert before <= kept and len(kept) == count
            assert (labels[list(kept)] == "abnormal").sum() == round(count * ratio)
            others = [each[each["split"] != "train_unlabeled"].reset_index(drop=True) for each in (found, manifest)]
            assert others[0].equals(others[1])
            before = kept
    assert with_fewer_unlabeled(manifest, labels, 25, 0.1, 0) is None
