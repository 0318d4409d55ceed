"""`amae predict` killed, called again, and called on a folder that has changed: the bytes of one run."""

import os
import pkgutil
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small import write_model

from amae.cli import main
from amae.predict import kept, score
from amae.runtime.files import read_csv


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "m.safetensors", 32, "minmax")


def write_pictures(folder: Path, *names: str) -> None:
    """Pictures of noise, each other by its name; one that is called bad is none."""
    for name in names:
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([*name.encode()])
        Image.fromarray(rng.integers(0, 256, (40, 36), np.uint8)).save(path)
        if "bad" in name:
            path.write_text("no picture")


def words(model: Path, folder: Path, output: Path, *more: str) -> list[str]:
    return [str(each) for each in ("predict", folder, "--model", model, "--output", output, "--device", "cpu", *more)]


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too; but for the record of the command, which tells the time."""
    files = (path for path in folder.rglob("*") if path.is_file())
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    return {name: file for name, file in found.items() if not name.startswith("records/")}


def from_scratch(model: Path, folder: Path, output: Path, *more: str) -> dict[str, bytes]:
    shutil.rmtree(output, ignore_errors=True)
    assert main(words(model, folder, output, *more)) == 0
    return content(output)


@pytest.fixture
def few(monkeypatch) -> list[str]:
    """Small batches; the names of the files that are read."""
    read, prepare = [], score.prepare
    monkeypatch.setattr(score, "BATCH", 4)
    monkeypatch.setattr(kept, "CHUNK", 5)
    monkeypatch.setattr(score, "prepare", lambda path, *how: read.append(Path(path).name) or prepare(path, *how))
    return read


def test_a_changed_folder_ends_as_from_scratch_and_only_new_files_are_read(model, few, tmp_path, capsys):
    folder, output = tmp_path / "in", tmp_path / "out"
    write_pictures(folder, *"bdfhjlnp", "below/q", "bad")
    assert main(words(model, folder, output)) == 0
    few.clear()
    before = content(output)
    assert main(words(model, folder, output)) == 0
    assert few == ["bad.png"] and content(output) == before  # it may have been put right without a change of the file
    write_pictures(folder, *"aeg", "below/r", "last/s")
    (folder / "d.png").write_bytes((folder / "b.png").read_bytes())  # another content
    (folder / "f.png").unlink()
    shutil.rmtree(folder / "below")
    few.clear()
    capsys.readouterr()
    assert main(words(model, folder, output)) == 0
    assert sorted(few) == ["a.png", "bad.png", "d.png", "e.png", "g.png", "s.png"]
    printed = capsys.readouterr().err
    assert "2 files that were scored before are no longer given: left out" in printed
    assert "continuing: 6 of 12 files are scored already" in printed
    continued = content(output)
    table = read_csv(output / "predictions.csv").set_index("file")
    assert list(table.index) == [*(f"{n}.png" for n in ("a", "b", "bad", *"deghjlnp")), "last/s.png"]
    assert table.loc["d.png", "detector"] == table.loc["b.png", "detector"]
    assert continued == from_scratch(model, folder, output)
    assert not (output / "maps/below").exists()


def test_what_can_no_longer_be_scored_leaves_nothing_of_the_run_before(model, few, tmp_path, capsys):
    folder, output = tmp_path / "in", tmp_path / "out"
    write_pictures(folder, "a")
    assert main(words(model, folder, output)) == 0
    (folder / "a.png").write_text("broken now")
    assert main(words(model, folder, output)) == 2
    assert "none of 1 files can be scored: a.png: not a DICOM" in capsys.readouterr().err
    left = {name for name in content(output) if not name.startswith(".amae/")}
    assert left == {"predictions.csv"}


@pytest.mark.parametrize("moment", ["first", "picture", "rows", "merge", "table", "page"])
def test_a_run_that_ends_anywhere_is_continued(model, few, tmp_path, monkeypatch, moment):
    """It ends within a batch, before its rows, before they are merged, or within the summary."""
    folder, output = tmp_path / "in", tmp_path / "out"
    write_pictures(folder, *"abcdefghij")
    places = {
        "first": "amae.figures.prediction.overlay",
        "picture": "amae.figures.prediction.reading",
        "rows": "amae.predict.kept.Kept.add",
        "merge": "amae.predict.kept.Kept.merge",
        "table": "amae.commands.predict._write_table",
        "page": "amae.figures.page.write_page",
    }
    calls = []

    def end(*given, **named):
        calls.append(1)
        if len(calls) == {"picture": 7, "rows": 2}.get(moment, 1):
            raise KeyboardInterrupt
        return whole(*given, **named)

    with monkeypatch.context() as patch:
        whole = pkgutil.resolve_name(places[moment])
        patch.setattr(places[moment], end)
        assert main(words(model, folder, output)) == 130
    (output / "maps/.zz.png.tmp.png").write_text("left by a kill")
    (output / ".amae/.part-0000009.tmp.jsonl").write_text("left by a kill")
    few.clear()
    assert main(words(model, folder, output)) == 0
    assert len(few) == {"first": 10, "picture": 6, "rows": 6}.get(moment, 0)
    assert content(output) == from_scratch(model, folder, output)


def test_another_model_or_option_is_refused_with_what_differs(model, few, tmp_path, capsys):
    folder, output = tmp_path / "in", tmp_path / "out"
    write_pictures(folder, "a", "b")
    assert main(words(model, folder, output)) == 0
    before, other = content(output), write_model(tmp_path / "other.safetensors", 32, "voi")
    for changed, named in [
        (words(other, folder, output), "(model: "),
        (words(model, folder, output, "--score", "inter"), "(score: detector there, inter now)"),
        (words(model, folder, output, "--specificity", "0.9"), "(specificity: 0.95 there, 0.9 now)"),
        (words(model, folder, output, "--dicom"), "(dicom: False there, True now)"),
    ]:
        few.clear()
        capsys.readouterr()
        assert main(changed) == 2
        error = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        assert len(error) == 1 and str(output) in error[0] and named in error[0]
        assert few == [] and content(output) == before


def test_a_batch_of_which_nothing_can_be_scored_stops_no_captures(model, few, tmp_path, monkeypatch):
    monkeypatch.setattr(score, "BATCH", 1)
    write_pictures(tmp_path / "in", "a", "bad")
    assert main(words(model, tmp_path / "in", tmp_path / "out", "--dicom")) == 0
    assert read_csv(tmp_path / "out/predictions.csv")["dicom"].tolist() == ["", ""]


def test_a_folder_of_something_else_or_in_use_is_refused(model, few, tmp_path, capsys):
    folder, output = tmp_path / "in", tmp_path / "out"
    write_pictures(folder, "a")
    output.mkdir()
    (output / "thesis.txt").write_text("mine")
    assert main(words(model, folder, output)) == 2
    assert "out: exists, and contains something" in capsys.readouterr().err
    assert content(output) == {"thesis.txt": b"mine"}
    with kept.hold(tmp_path / "used", {}):
        assert main(words(model, folder, tmp_path / "used")) == 2
    assert "used: another `amae predict` is at work in this folder" in capsys.readouterr().err


def test_scores_do_not_depend_on_what_is_scored_beside(model, monkeypatch):
    from amae.predict.model import load_model

    loaded, images = load_model(model), np.random.default_rng(0).integers(0, 256, (19, 32, 32), np.uint8)
    whole, features, maps = score.score_images(loaded, images)
    sizes = []
    forward = type(loaded.encoder).features
    monkeypatch.setattr(type(loaded.encoder), "features", lambda net, x: sizes.append(len(x)) or forward(net, x))
    for rows in ([3], [18, 2], [*range(18, -1, -1)]):
        found = score.score_images(loaded, images[rows])
        assert found[0].equals(whole.iloc[rows].reset_index(drop=True))
        assert (found[1] == features[rows]).all() and (found[2] == maps[rows]).all()
    assert set(sizes) == {1}  # equal on every processor


def test_another_output_in_the_folder_is_left_out(model, tmp_path, capsys):
    write_pictures(tmp_path / "in", *"ab")
    assert main(words(model, tmp_path / "in", tmp_path / "in/first")) == 0
    assert main(words(model, tmp_path / "in", tmp_path / "in/second")) == 0
    assert read_csv(tmp_path / "in/second/predictions.csv")["file"].tolist() == ["a.png", "b.png"]
    assert f"{tmp_path / 'in/first'}: an output of `amae predict`, left out" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2))
def test_killed_at_random_places_the_end_is_the_same(model, tmp_path, seed):
    """Real kills (SIGKILL) of the process alone or with its workers, among them pictures that come and go."""
    pytest.importorskip("highdicom")
    from amae.sources.simulated import simulate_dataset

    folder, output, rng = tmp_path / "in", tmp_path / "out", random.Random(seed)
    write_pictures(folder, *(f"{n:03d}" for n in range(100)), "bad")
    simulate_dataset(tmp_path, 1, seed=0)
    for path in (tmp_path / "dicom").iterdir():
        shutil.copy2(path, folder / f"{path.stem}.dcm")
    command = [sys.executable, "-m", "amae", *words(model, folder, output, "--dicom", "--workers", "2")]
    started = time.monotonic()
    assert subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0
    whole, seconds = content(output), time.monotonic() - started
    shutil.rmtree(output)
    kills = 0
    while kills < 3:
        done = set(output.glob(".amae/part-*"))
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        if kills % 2 == 0:  # after what takes long to load: the first part of this run is written
            while process.poll() is None and not set(output.glob(".amae/part-*")) - done:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, seconds / 6))
        else:
            time.sleep(rng.uniform(0, seconds))
        if process.poll() is not None:  # it was faster: once more
            assert process.returncode == 0 and content(output) == whole
            shutil.rmtree(output)
            continue
        os.killpg(process.pid, signal.SIGKILL) if rng.random() < 0.5 else process.kill()
        process.wait()
        kills += 1
    for _ in range(100):  # workers of a killed process end by themselves
        done = subprocess.run(command, capture_output=True, text=True)
        if "is at work" not in done.stderr:
            break
        time.sleep(0.1)
    assert done.returncode == 0, done.stderr
    assert content(output) == whole
