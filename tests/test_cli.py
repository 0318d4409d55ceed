"""The command line: help, exit status, and one clear line for every mistake, with nothing lost."""

import argparse
import importlib
import json
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from safetensors.torch import load_file

from amae.cli import main, make_parser
from amae.runtime.errors import InputError
from amae.subcommands import COMMANDS

SPLITS = {"train_normal": 2, "unlabeled": 2, "anomaly_ratio": 0.5, "test_normal": 1, "test_abnormal": 1, "seed": 0}


@pytest.fixture
def refused(capsys):
    """Run a command line that must fail; returns its one line of error."""

    def run(words, status=2):
        assert main([str(word) for word in words]) == status
        out, err = capsys.readouterr()
        lines = [line for line in err.splitlines() if line.startswith("amae ")]
        assert len(lines) == 1, err
        assert "Traceback" not in out + err
        return lines[0]

    return run


@pytest.fixture
def project(finished, tmp_path, monkeypatch):
    """The finished project, to be changed, as the working directory."""
    copy = finished.copy(tmp_path / "project")
    monkeypatch.chdir(copy.folder)
    return copy


def changed(words, **options):
    """A command line with some options replaced."""
    words = list(words)
    for name, value in options.items():
        words[words.index(f"--{name.replace('_', '-')}") + 1] = str(value)
    return words


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_code(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: amae {name} ")
    module, function = COMMANDS[name].function.split(":")
    assert getattr(importlib.import_module(module), function).__doc__
    parser = make_parser()._subparsers._group_actions[0].choices[name]
    for action in parser._actions:
        assert action.help, f"{name} {action.option_strings}"
        assert (action.option_strings or [action.metavar])[-1] in text
        assert action.required or action.default in (None, argparse.SUPPRESS) or "(default: " in action.help, action


def test_help_does_not_load_torch():
    code = "import sys, amae.cli; amae.cli.make_parser().format_help(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["trian"],
        ["convert"],
        ["convert", "--image-size", "big"],
        ["convert", "--image-size", "0"],
        ["pretrain", "--seed", "-1"],
        ["index", "--x", "1"],
    ],
)
def test_a_wrong_command_line_is_refused(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert "usage: amae" in err
    if words[1:2] in (["--image-size"], ["--seed"]):
        assert f"argument {words[1]}: found {words[2]!r}, expected a whole number of at least" in err


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("a.csv: empty"), 2, "error: a.csv: empty"),
        (OSError(28, "No space left on device", "b.npy"), 2, "error: b.npy: No space left on device"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_exit_status(monkeypatch, refused, error, status, line):
    def fails(options):
        raise error

    monkeypatch.setattr("amae.commands.evaluate.summarise_metrics", fails)
    words = ["summarise-metrics", "--scores-of-seeds", "a", "--table", "b"]
    assert refused(words, status) == f"amae summarise-metrics: {line}"


def test_every_input_of_every_command_may_be_missing_or_something_else(project, refused, tmp_path):
    """Whatever file is given in the place of an input: one line that names it, and no output."""
    wrong = {"missing": None, "table.csv": b"a,b\n1,2\n", "empty": b"", "noise": bytes(range(128, 256)) * 40}
    for name, content in wrong.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
    tried = 0
    for command in {words[0]: words for words in project.commands()}.values():
        files = [i for i, word in enumerate(command) if command[i - 1].startswith("--") and "/" in word]
        inputs = [i for i in files if command[i - 1] not in outputs_of(command[0])]
        for place in inputs:
            for name in wrong:
                words = list(command)
                words[place] = str(tmp_path / name)
                for other in files:
                    if other not in inputs:
                        words[other] = str(tmp_path / "made" / command[other - 1])
                assert str(tmp_path / name) in refused(words), words
                tried += 1
        assert not (tmp_path / "made").exists() or not list((tmp_path / "made").iterdir())
    assert tried > 100


def outputs_of(command):
    """Options of a command that name files it writes."""
    written = {
        "convert": ("images", "lung-images", "index", "rejected", "sheet"),
        "segment-lungs": ("lungs", "table", "sheet"),
        "import-weights": ("weights",),
        "pretrain": ("weights", "history", "record"),
        "train-stage1": ("head", "history", "record"),
        "score-stage1": ("stage1-scores",),
        "score-probe": ("probe-scores",),
        "export-pseudo-labels": ("pseudo-labels",),
        "train-module": ("model", "history", "record"),
        "reconstruct": ("reconstruction-scores", "maps", "record"),
        "compute-metrics": ("scores", "metrics"),
        "index": ("manifest", "hidden-labels"),
        "list-images": ("candidates",),
        "export": ("model", "card"),
        "plot-scores": ("roc", "precision-recall"),
    }
    return {f"--{name}" for name in written.get(command, ("table", "figure", "folder"))}


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (None, [], r"table\.csv: no such file"),
        ("path,label\na.png,normal\nb.png,abnormal\n", [], "no column split"),
        ("path,split\na.png,test\nb.png,test\n", [], r"table\.csv: 2 of 2 image files do not exist: .*a\.png"),
        ("path,split\na.png,tset\n", [], r"row 2: split is 'tset'; expected one of train_normal"),
        ("path,label\na.png,sick\n", [], "row 2: label is 'sick'; expected normal, abnormal"),
        ("path\n", [], "no rows"),
        (
            9,
            ["--splits", json.dumps(SPLITS | {"anomaly_ratio": 1, "unlabeled": 6})],
            "anomaly_ratio 1 needs 6 abnormal",
        ),
        (9, ["--splits", json.dumps(SPLITS | {"test_normal": 50})], "test_normal is 50, but the table has 5 images"),
        (9, ["--splits", '{"train_normal": 1}'], r"--splits: .*missing"),
        (9, ["--splits", "{"], r"--splits: .*expected JSON"),
    ],
)
def test_a_table_that_cannot_be_used(tmp_path, refused, table, options, message):
    path = tmp_path / "table.csv"
    if isinstance(table, int):
        table = "path,label\n" + "".join(f"{i}.png,{('normal', 'abnormal')[i % 2]}\n" for i in range(table))
    if table:
        path.write_text(table)
    words = [
        "index",
        "--table",
        path,
        "--manifest",
        tmp_path / "m.csv",
        "--hidden-labels",
        tmp_path / "h.csv",
        *options,
    ]
    line = refused(words)
    assert re.search(message, line), line
    assert not (tmp_path / "m.csv").exists()
    assert not (tmp_path / "h.csv").exists()


def truncated(dataset, path):
    dataset.save_as(path)
    path.write_bytes(path.read_bytes()[:-2000])


def text(dataset, path):
    path.write_text("a letter")


def colour(dataset, path):
    dataset.PhotometricInterpretation, dataset.SamplesPerPixel, dataset.PlanarConfiguration = "RGB", 3, 0
    dataset.PixelData = np.zeros((dataset.Rows, dataset.Columns, 3), np.uint16).tobytes()
    dataset.save_as(path)


def multi_frame(dataset, path):
    dataset.NumberOfFrames, dataset.PixelData = 2, 2 * dataset.PixelData
    dataset.save_as(path)


def constant(dataset, path):
    dataset.PixelData = np.full((dataset.Rows, dataset.Columns), 7, np.uint16).tobytes()
    dataset.save_as(path)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (truncated, "truncated"),
        (text, "not a DICOM, PNG or JPEG file"),
        (colour, "PhotometricInterpretation RGB, SamplesPerPixel 3"),
        (multi_frame, "multi-frame image: NumberOfFrames 2, expected 1"),
        (constant, "constant image"),
    ],
)
def test_an_image_that_cannot_be_used(tmp_path, refused, spoil, reason):
    dataset = pydicom.dcmread(pydicom.data.get_testdata_file("CT_small.dcm"))
    dataset.save_as(tmp_path / "good.dcm")
    spoil(dataset, tmp_path / "bad.dcm")
    rows = [{"image_id": name, "path": tmp_path / f"{name}.dcm", "split": "test"} for name in ("good", "bad")]
    pd.DataFrame(rows).assign(label="", patient_id="", view="").to_csv(tmp_path / "manifest.csv", index=False)
    files = {
        "manifest": "csv",
        "images": "npy",
        "lung-images": "npy",
        "index": "csv",
        "rejected": "csv",
        "sheet": "png",
    }
    words = ["convert", *(word for name, kind in files.items() for word in (f"--{name}", tmp_path / f"{name}.{kind}"))]
    words += ["--image-size", "32"]
    (tmp_path / "images.npy").write_text("computed before")
    assert re.search(rf"1 of 2 images .*{tmp_path}/bad\.dcm: .*{reason}.*rejected\.csv", refused(words))
    assert (tmp_path / "images.npy").read_text() == "computed before"
    rejected = pd.read_csv(tmp_path / "rejected.csv")
    assert rejected["image_id"].tolist() == ["bad"]
    assert reason in rejected["reason"][0]
    assert main([*map(str, words), "--allowed-failures", "1"]) == 0
    assert np.load(tmp_path / "images.npy").shape == (1, 32, 32)


@pytest.mark.parametrize(
    ("command", "split"),
    [
        ("pretrain", "train_normal"),
        ("train-stage1", "train_normal"),
        ("score-stage1", "test"),
        ("train-module", "train_normal"),
        ("reconstruct", "test"),
        ("compute-metrics", "test"),
    ],
)
def test_an_empty_split(project, tmp_path, refused, command, split):
    manifest = pd.read_csv("out/tiny/manifest.csv", dtype=str, keep_default_na=False)
    kept = manifest["split"] != split
    manifest[kept].to_csv(tmp_path / "manifest.csv", index=False)
    assert f"split {split} is empty" in refused(
        changed(project.commands(command)[0], manifest=tmp_path / "manifest.csv")
    )


def test_weights_without_a_decoder_or_of_other_sizes(project, tmp_path, refused):
    words = project.commands("import-weights")[0]
    before = (project.results / "mae.safetensors").read_bytes()
    state = load_file(project.results / "mae.safetensors")
    encoder = {name: tensor for name, tensor in state.items() if "decoder" not in name and name != "mask_token"}
    torch.save({"model": encoder}, tmp_path / "encoder.pth")
    line = refused(changed(words, source=tmp_path / "encoder.pth"))
    assert re.search(r"encoder\.pth: .*without the decoder; keys missing: decoder_blocks\.0", line)
    assert "width 16 instead of 24" in refused(changed(words, width=24))
    assert "image_size 32 instead of 64" in refused(changed(words, image_size=64))
    assert (project.results / "mae.safetensors").read_bytes() == before


def test_a_gpu_that_is_not_there(project, refused, monkeypatch):
    words = project.commands("train-module")[0]
    assert "key device: cuda demands a CUDA GPU, but the workflow grants none" in refused(changed(words, device="cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "none is available to torch" in refused(changed(words, device="cuda", gpus=1))


@pytest.mark.parametrize("command", ["pretrain", "train-stage1", "train-module"])
def test_a_loss_that_is_no_number_keeps_what_was_computed(project, refused, command):
    words = project.commands(command)[0]
    output = words[words.index({"pretrain": "--weights", "train-stage1": "--head"}.get(command, "--model")) + 1]
    before = (project.folder / output).read_bytes()
    line = refused(changed(words, lr=1e38, epochs=20, warmup_epochs=0))
    assert re.search(r"epoch \d+: the loss is (nan|inf).* choose a lower lr", line)
    assert (project.folder / output).read_bytes() == before


def test_settings_that_contradict_each_other(project, refused):
    stage1, reconstruct = project.commands("train-stage1")[0], project.commands("reconstruct")[0]
    assert "warmup_epochs 3 is more than epochs 2" in refused(changed(stage1, warmup_epochs=3))
    assert "masks: found 0, expected at least 1" in refused(changed(reconstruct, masks=0))
    assert "contradicts masks 3" in refused(changed(reconstruct, mask_scheme="complementary", masks=3))


def test_a_score_that_is_not_there(project, refused):
    line = refused(changed(project.commands("plot-gallery")[0], score="magic"))
    assert "no score 'magic' in the table; it has stage1, inter" in line


@pytest.mark.parametrize(
    ("command", "file", "message"),
    [
        ("plot-gallery", "scores", r"images\.csv: no row for \d+ of \d+ images, the first is 'other-"),
        ("train-module", "pseudo_labels", r"manifest\.csv: no row for \d+ of \d+ images, the first is 'other-"),
        ("compute-metrics", "stage1_scores", r"other\.csv: no row for 20 of 20 images, the first is "),
    ],
)
def test_a_table_of_another_data_set(project, tmp_path, refused, command, file, message):
    words = project.commands(command)[0]
    table = pd.read_csv(words[words.index(f"--{file.replace('_', '-')}") + 1], dtype=str, keep_default_na=False)
    table.assign(image_id="other-" + table["image_id"]).to_csv(tmp_path / "other.csv", index=False)
    assert re.search(message, refused(changed(words, **{file: tmp_path / "other.csv"})))


def test_module_weights_made_for_other_images(project, tmp_path, refused):
    images = np.load("out/tiny/images.npy").repeat(2, 1).repeat(2, 2)
    np.save(tmp_path / "images.npy", images)
    line = refused(changed(project.commands("reconstruct")[0], images=tmp_path / "images.npy"))
    assert "made for images of 32 px, the packed images have 64 px" in line
