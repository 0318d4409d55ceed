"""Killed with SIGKILL in the middle of its work, the same command ends with the same bytes."""

import re
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from project import ROOT, kill, start

from amae.cli import main

EPOCHS = 150
TRAININGS = {"pretrain": "weights", "train-stage1": "head", "train-module": "trained-module"}


def wait_for(condition, process, seconds=120):
    """Wait until something is the case while a process runs."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the process ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.01)


def with_options(words, **options):
    """A command line with some options replaced."""
    words = list(words)
    for name, value in options.items():
        place = next(
            place
            for place, word in enumerate(words)
            if re.fullmatch(rf"--([a-z0-9-]+\.)?{name.replace('_', '-')}", word)
        )
        words[place + 1] = str(value)
    return words


@pytest.mark.long
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", TRAININGS)
def test_a_killed_training_ends_as_an_uninterrupted_one(finished, tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(finished.folder)
    outputs = [TRAININGS[name], "history", "record"]
    whole, killed = (
        with_options(finished.commands(name)[0], epochs=EPOCHS, **{file: tmp_path / folder / file for file in outputs})
        for folder in ("whole", "killed")
    )
    assert main(whole) == 0
    assert "continuing" not in capsys.readouterr().err

    unfinished = tmp_path / "killed" / f".{outputs[0]}.unfinished.pt"
    process = start(["amae", *killed], finished.folder, tmp_path / "log", ROOT)
    wait_for(unfinished.exists, process)
    first = unfinished.stat().st_mtime_ns
    wait_for(lambda: unfinished.stat().st_mtime_ns > first, process)
    kill(process)
    assert sorted(path.name for path in unfinished.parent.iterdir() if ".tmp" not in path.name) == [unfinished.name]

    assert main(killed) == 0
    err = capsys.readouterr().err
    assert "continuing after epoch " in err, err
    said = err.partition("continuing after epoch ")[2]
    assert 2 <= int(said.split()[0]) < EPOCHS
    for file in outputs[:2]:
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file
    assert len(pd.read_csv(tmp_path / "killed/history")) == EPOCHS
    assert not unfinished.exists()


@pytest.mark.long
def test_a_killed_conversion_ends_as_an_uninterrupted_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    picture = np.random.default_rng(0).integers(0, 256, (500, 500), dtype=np.uint8)
    rows = []
    for number in range(300):
        Image.fromarray(np.roll(picture, number)).save(f"{number}.png")
        rows.append({"image_id": number, "path": tmp_path / f"{number}.png", "split": "train_normal"})
    pd.DataFrame(rows).assign(label="", patient_id="", view="").to_csv("manifest.csv", index=False)

    def convert(folder):
        outputs = {"images": "images.npy", "lung-images": "lung_images.npy", "index": "images.csv"}
        outputs |= {"rejected": "rejected.csv", "sheet": "sheet.png"}
        words = [word for option, file in outputs.items() for word in (f"--{option}", f"{folder}/{file}")]
        return ["convert", "--manifest", "manifest.csv", *words]

    assert main(convert("whole")) == 0
    process = start(["amae", *convert("killed")], tmp_path, tmp_path / "log", ROOT)
    wait_for(lambda: list(Path("killed").glob(".images.*.unfinished/000000064.npz")), process)
    kill(process)
    capsys.readouterr()
    assert main(convert("killed")) == 0
    after = int(capsys.readouterr().err.partition("continuing after ")[2].split()[0])
    assert 128 <= after < 300
    for file in sorted(path.name for path in Path("whole").iterdir() if path.is_file()):
        assert Path("killed", file).read_bytes() == Path("whole", file).read_bytes(), file
    assert sorted(path.name for path in Path("killed").iterdir()) == sorted(
        path.name for path in Path("whole").iterdir()
    )


@pytest.mark.long
def test_a_killed_workflow_continues_by_the_same_command(finished, tmp_path):
    project = finished.copy(tmp_path / "project")
    model = "out/tiny/seed0/module_B/mae.safetensors"
    shutil.rmtree((project.folder / model).parent)
    log = tmp_path / "log"
    process = start(project.command(model), project.folder, log)
    wait_for(lambda: "module B: " in log.read_text(), process)
    kill(process)
    status, output = project.run(model)
    assert status == 0, output
    assert "Nothing to be done" not in output
    assert (project.folder / model).read_bytes() == (finished.folder / model).read_bytes()
