"""Files of results traced back to the images."""

import hashlib
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from amae.cli import main
from amae.runtime import records
from amae.runtime.files import read_csv, write_json
from amae.runtime.provenance import recording
from amae.runtime.records import edited_files, read_list, recorded
from amae.runtime.tensors import METADATA, digest, read_about, read_arrays


def described(path: Path, about: dict) -> str:
    """Write a safetensors file with a description; returns its SHA-256."""
    array = np.arange(3, dtype=np.float32)
    parts = [("x", "torch.float32", [3], array.view(np.uint8))]
    save_file({"x": array}, path, {METADATA: json.dumps(about | {"sha256": digest(about, parts)})})
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def made(tmp_path, monkeypatch) -> Path:
    """Two radiographs, their manifest, a network trained on it with its record, and a model of that network."""
    monkeypatch.chdir(tmp_path)
    data, folder = Path("out/data"), Path("out/data/seed0/net")
    folder.mkdir(parents=True)
    (data / "a.png").touch()
    (data / "manifest.csv").write_text("path\nout/data/a.png\nout/data/gone.png\n")
    monkeypatch.setattr("sys.argv", ["/usr/bin/amae", "pretrain", "--seed", "3", "a b"])
    inputs = {"manifest": data / "manifest.csv"}
    with recording(folder / "run.json", settings={"lr": 0.5}, seed=3, inputs=inputs):
        network = described(folder / "net.safetensors", {"kind": "network"})
    about = {"kind": "amae model", "seed": 3, "commit": "abc", "files": {"weights": network}, "versions": {"amae": "1"}}
    described(data / "seed0/model.safetensors", about)
    return data


def run(path: Path, capsys, status: int = 0) -> tuple[str, str]:
    """What `amae trace` prints: standard output and error."""
    assert main(["trace", str(path)]) == status
    return capsys.readouterr()


def test_a_model_is_traced_to_the_images(made, capsys):
    lines = run(made / "seed0/model.safetensors", capsys)[0].splitlines()
    indents = [(len(line) - len(line.lstrip()), line.strip()) for line in lines]
    assert (2, "made by amae export, seed 3, code: commit abc") in indents
    assert [line for depth, line in indents if depth == 2][-1].endswith(": as recorded")
    record = next(line for depth, line in indents if depth == 4 and line.startswith("made "))
    assert record.endswith("by: amae pretrain --seed 3 'a b'")
    assert (4, 'settings: {"lr": 0.5}') in indents
    manifest = hashlib.sha256((made / "manifest.csv").read_bytes()).hexdigest()
    assert (4, f"from manifest: out/data/manifest.csv, SHA-256 {manifest}: as recorded") in indents
    assert indents[-1] == (
        6,
        "names 2 files of radiographs, of which 1 are there, the first out/data/a.png; their bytes were not recorded, "
        "those of the packed images were",
    )


def test_files_moved_together_are_found_by_their_content(made, tmp_path, monkeypatch, capsys):
    made.rename(tmp_path / "moved")
    out, _ = run(tmp_path / "moved/seed0/model.safetensors", capsys)
    assert f"{tmp_path / 'moved/manifest.csv'}, SHA-256" in out and "NOT FOUND" not in out


def test_a_changed_input_and_a_missing_one_are_faults(made, capsys):
    before = hashlib.sha256((made / "manifest.csv").read_bytes()).hexdigest()
    (made / "manifest.csv").write_text("path\nout/data/a.png\n")
    now = hashlib.sha256((made / "manifest.csv").read_bytes()).hexdigest()
    out, err = run(made / "seed0/net/net.safetensors", capsys, 2)
    assert f"SHA-256 {before}: CHANGED, now {now}" in out
    assert "inputs that are not as recorded: manifest out/data/manifest.csv" in err
    (made / "seed0/net/net.safetensors").unlink()
    out, err = run(made / "seed0/model.safetensors", capsys, 2)
    assert "NOT FOUND" in out and "not as recorded: weights" in err


def test_the_origin_of_imported_weights_may_be_elsewhere(made, capsys):
    weights = described(made / "mae.safetensors", {"description": {"made": "by others", "images_sha256": "0" * 64}})
    out, _ = run(made / "mae.safetensors", capsys)
    assert weights in out
    assert f"from images: a file, SHA-256 {'0' * 64}: not in this folder; the weights were brought in as a file" in out


def test_what_nothing_describes_or_is_damaged_is_refused(made, capsys):
    (made / "b.csv").write_text("a\n")
    assert "nothing describes it" in run(made / "b.csv", capsys, 2)[1]
    assert "gone: no such file" in run(made / "gone", capsys, 2)[1]
    assert f"{made}: found a folder, expected a file in it" in run(made, capsys, 2)[1]
    write_json({"seed": 1}, made / "run.json")
    assert "run.json: not a record of a run (KeyError: 'code')" in run(made / "b.csv", capsys, 2)[1]
    path = made / "seed0/model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    assert "model.safetensors: damaged: not what was written" in run(path, capsys, 2)[1]


def test_a_file_written_by_torch_is_read_without_it(tmp_path):
    """The digest over arrays is that over tensors, whatever their types."""
    import torch

    from amae.mae.checkpoints import read_safetensors, write_tensors

    tensors = {"b": torch.ones(2, 3), "a": torch.arange(4), "c": torch.zeros(1, dtype=torch.float64)}
    tensors |= {"d": torch.tensor([True, False]), "e": torch.tensor(5)}
    write_tensors(tensors, tmp_path / "x", {"kind": "test", "n": [1, 2]})
    about, arrays = read_arrays(tmp_path / "x")
    assert about == read_about(tmp_path / "x") == read_safetensors(tmp_path / "x")[0] == {"kind": "test", "n": [1, 2]}
    assert {name: torch.from_numpy(array).dtype for name, array in arrays.items()} == {
        name: tensor.dtype for name, tensor in tensors.items()
    }
    assert all(np.array_equal(arrays[name], tensors[name].numpy()) for name in tensors)


def test_every_file_of_a_finished_run_is_traced(finished, monkeypatch, capsys):
    """But for logs and radiographs: each leads back to the table of radiographs, and every hash is that recorded."""
    monkeypatch.chdir(finished.folder)
    passed_over = {"config.yaml", "run.json", ".snakemake_timestamp"}
    files = [
        path.relative_to(finished.folder)
        for path in sorted(finished.results.rglob("*"))
        if path.is_file() and not {"logs", "records", "dicom"} & set(path.parts) and path.name not in passed_over
    ]
    assert {"scores.csv", "summary.csv", "pseudo_labels.png", "notes.csv", "model.md"} <= {path.name for path in files}
    for path in files:
        out, _ = run(path, capsys)
        assert "by: amae " in out and "amae simulate" in out, f"{path}: {out}"
        assert "no record" not in out, f"{path}: {out}"
    out, _ = run(finished.results / "images.npy", capsys)
    assert "60 of 60 radiographs as recorded" in out
    monkeypatch.chdir("/")
    for name in ("images.npy", "seed0/scores.csv"):
        out, _ = run(finished.results / name, capsys, 2)
        assert out.count("NOT FOUND") == out.count("NOT FOUND, the first out/tiny/raw") == 1  # radiographs alone


def test_what_changed_after_it_was_made_is_a_fault(finished, tmp_path, monkeypatch, capsys):
    copied = finished.copy(tmp_path / "copy")
    monkeypatch.chdir(copied.folder)
    picture = Path(read_csv(copied.results / "candidates.csv", ["path"])["path"].iloc[0])  # of those that are converted
    picture.write_bytes(picture.read_bytes() + b"\0")
    out, err = run(copied.results / "summary.csv", capsys, 2)
    assert "1 CHANGED, the first out/tiny/raw/dicom/" in out and "inputs that are not as recorded: radiograph" in err
    metrics = copied.results / "seed0/metrics.csv"
    metrics.write_text(metrics.read_text().replace("0.", "1."))
    out, err = run(metrics, capsys, 2)
    assert ": CHANGED, " in out.splitlines()[0] and "seed0/metrics.csv" in err


def test_the_record_of_a_command(tmp_path, monkeypatch):
    """Files that stay as they were are inputs; the settings are those of every option; edited files are named."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.png").write_bytes(b"1")
    (tmp_path / "in.csv").write_text("x\n")
    (tmp_path / "old.csv").write_text("old\n")
    subprocess.run(["git", "init", "-q"], check=True)
    monkeypatch.setattr(records, "code_revision", lambda: {"commit": "c", "dirty": True})
    monkeypatch.setattr(records, "edited_files", lambda: edited_files(tmp_path))
    named = {"files": [Path("a")], "table": Path("in.csv"), "output": Path("old.csv"), "unused": None, "seed": 4}
    with recorded("measure", named, ("files",)):
        Path("old.csv").write_text("new\n")
    made = json.loads(Path("records/old.csv.json").read_text())
    assert made["outputs"] == {"../old.csv": hashlib.sha256(b"new\n").hexdigest()} and made["seed"] == 4
    assert made["inputs"]["table"] == {"path": "in.csv", "sha256": hashlib.sha256(b"x\n").hexdigest()}
    assert Path(made["inputs"]["radiographs"]["path"]).read_text() == f"{hashlib.sha256(b'1').hexdigest()}  a/1.png\n"
    assert made["code"] == {"commit": "c", "dirty": True, "edited": ["a/", "in.csv", "old.csv"], "edited_count": 3}
    assert made["settings"] == {"files": ["a"], "table": "in.csv", "output": "old.csv", "unused": None, "seed": 4}
    before = Path("records/old.csv.json").read_bytes()
    with recorded("measure", named):
        pass  # a command that writes nothing
    assert Path("records/old.csv.json").read_bytes() == before


def test_names_in_a_list_of_radiographs_may_contain_anything(tmp_path):
    names = ["a  b.png", "a\\n.png", "a\nb.png", "a\\\nb.png", "a\rb.png"]
    for name in names:
        (tmp_path / name).write_text(name)
    records._list_radiographs([tmp_path], tmp_path / "list")
    assert {path.name for path in read_list(tmp_path / "list")} == set(names)
    subprocess.run(["sha256sum", "--check", "--quiet", "list"], cwd=tmp_path, check=True)
