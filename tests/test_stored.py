"""Trainings from files that are read batch by batch: the same bytes as from memory."""

import numpy as np
import pytest
import torch

from amae.commands import pretrain
from amae.data import stored
from amae.data.packed import evenly, load_lung_masks
from amae.data.stored import Stored, stored_images, stored_masks
from amae.mae.architecture import Architecture
from amae.mae.model import MAE
from amae.method.adaptation import train_autoencoder
from amae.method.stage1 import score_stage1, train_stage1
from amae.method.training import Resume
from amae.settings import ModuleSettings, Stage1Settings

CPU = torch.device("cpu")


@pytest.fixture
def packed(tmp_path):
    """A memory map of images, rows out of order, and packed lung masks."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "images.npy", rng.integers(0, 256, (9, 16, 16), dtype=np.uint8))
    np.save(tmp_path / "lungs.npy", rng.integers(0, 256, (9, 256, 32), dtype=np.uint8))
    return np.load(tmp_path / "images.npy", mmap_mode="r"), np.array([7, 0, 3, 4, 8]), tmp_path / "lungs.npy"


def test_items_read_from_the_file_are_those_held_in_memory(packed, monkeypatch):
    images, rows, lungs = packed
    held = stored_images(images, rows, CPU), stored_masks(lungs, rows, 16, CPU)
    monkeypatch.setattr(stored, "free_memory", lambda device: 2 * 5 * 16 * 16 - 1)  # one byte less than it takes
    read = stored_images(images, rows, CPU), stored_masks(lungs, rows, 16, CPU)
    known = torch.from_numpy(np.array(images[rows])), torch.from_numpy(load_lung_masks(lungs, rows, 16))
    ids = torch.tensor([4, 0, 0])
    for in_memory, in_file, expected in zip(held, read, known, strict=True):
        assert isinstance(in_memory, torch.Tensor) and isinstance(in_file, Stored)
        assert torch.equal(in_memory, expected)
        assert torch.equal(in_file[ids], expected[ids]) and in_file[ids].dtype == expected.dtype
        assert [torch.equal(*pair) for pair in zip(in_file.split(2), expected.split(2), strict=True)] == [True] * 3
        assert torch.equal(torch.cat(list(in_file[:3].split(2))), expected[:3]) and len(in_file[:3]) == 3
        assert len(in_file) == 5 and in_file.device == CPU


def test_memory_is_measured():
    assert 2**20 < stored.free_memory(CPU) < 2**50


@pytest.mark.parametrize(("limit", "left"), [("5000", 4000), ("900", 0), ("max", None)])
def test_the_limit_of_a_control_group_counts(tmp_path, monkeypatch, limit, left):
    """A container or a Slurm job may have less memory than the machine."""
    group = tmp_path / "slice/job"
    group.mkdir(parents=True)
    (group / "memory.max").write_text(f"{limit}\n")
    (group / "memory.current").write_text("1000\n")
    (tmp_path / "cgroup").write_text("0::/slice/job/step\n")
    monkeypatch.setattr(stored, "GROUPS", ((tmp_path, "memory.max", "memory.current"),))
    monkeypatch.setattr(stored, "OWN_GROUPS", tmp_path / "cgroup")
    available = stored.psutil.virtual_memory().available
    found = stored.free_memory(CPU)
    assert found == left if left is not None else abs(found - available) < 2**30


@pytest.fixture
def both(packed, monkeypatch):
    """Images and lung masks held in memory, then the same read from their files."""
    images, rows, lungs = packed
    held = stored_images(images, rows, CPU), stored_masks(lungs, rows, 16, CPU)
    monkeypatch.setattr(stored, "free_memory", lambda device: 0)
    return held, (stored_images(images, rows, CPU), stored_masks(lungs, rows, 16, CPU))


def small():
    """A tiny autoencoder, always the same."""
    torch.manual_seed(0)
    return MAE(Architecture(16, 8, width=8, depth=1, heads=2, decoder_width=8, decoder_depth=1, decoder_heads=2))


@pytest.mark.usefixtures("one_thread")
def test_modules_are_trained_the_same(both, tmp_path):
    models = [small(), small()]
    settings = ModuleSettings(epochs=2, warmup_epochs=0, batch_size=2)
    for number, (model, (images, _)) in enumerate(zip(models, both, strict=True)):
        train_autoencoder(model, images, settings, 1e-2, 0, Resume(tmp_path / str(number), "x"), masks=2)
    for held, read in zip(*(model.state_dict().values() for model in models), strict=True):
        assert torch.equal(held, read)


@pytest.mark.usefixtures("one_thread")
def test_stage1_is_trained_and_scores_the_same(both, tmp_path):
    scores = []
    for number, (images, lungs) in enumerate(both):
        settings = Stage1Settings(epochs=2, warmup_epochs=0, batch_size=4)
        head, _ = train_stage1(small(), images, lungs, settings, 0, Resume(tmp_path / str(number), "x"))
        scores.append(score_stage1(small(), head, images))
    assert torch.equal(*scores)


def test_images_have_the_same_statistics(both):
    assert pretrain._grey_statistics(both[0][0]) == pretrain._grey_statistics(both[1][0])


@pytest.mark.parametrize(("rows", "count"), [(0, 3), (2, 3), (3, 3), (4, 3), (65, 64), (257, 256), (1000, 7)])
def test_rows_are_evenly_spread(rows, count):
    """As many as asked for, from the first to the last, and gaps that differ by one at most."""
    found = evenly(np.arange(rows), count)
    assert len(found) == min(rows, count)
    if rows > count:
        assert (found[0], found[-1]) == (0, rows - 1) and np.ptp(np.diff(found)) <= 1
