"""Nothing that the user is given or writes is executed, and nothing is fetched unasked."""

import ast
import json
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from project import ROOT, copy_sources, environment

from amae.cli import main

CODE = [
    *sorted((ROOT / "amae").rglob("*.py")),
    *sorted((ROOT / "workflow").rglob("*.smk")),
    ROOT / "workflow/Snakefile",
]
EXECUTED = (
    r"(?<![.\w])(exec|eval|os\.system|os\.popen|yaml\.(unsafe_|full_)?load|pickle\.loads?|joblib\.load|read_pickle)\("
)


def calls(path):
    """Every call in a file of the package: what is called, and its keywords with their values, as text."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}


def test_no_code_reads_a_file_that_could_run_something():
    found = set()
    for path in CODE:
        assert not re.search(EXECUTED, path.read_text()), path
        for name, words in calls(path) if path.suffix == ".py" else ():
            if name == "torch.load":
                assert words["weights_only"] == "True", path
                found.add(name)
            elif name == "np.load":
                assert words.get("allow_pickle", "False") == "False", path
                found.add(name)
            assert "shell" not in words, path
    assert found == {"torch.load", "np.load"}


class Payload:
    """What touches a file when a pickle of it is read without care."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.fixture
def evil(tmp_path):
    """Files by suffix that would touch `mark`, and `mark`."""
    mark = tmp_path / "mark"
    payload = Payload(mark)
    torch.save({"model": payload}, tmp_path / "evil.pth")
    (tmp_path / "evil.pickle").write_bytes(pickle.dumps(payload))
    np.save(tmp_path / "evil.npy", np.array([payload], object), allow_pickle=True)
    np.savez(tmp_path / "evil.npz", mu_a=np.array([payload], object), image_id=np.array([payload], object))
    for path in (tmp_path / "evil.npy", tmp_path / "evil.pickle"):  # they do bite
        with path.open("rb") as file:
            np.load(file, allow_pickle=True)
        assert mark.exists()
        mark.unlink()
    return {path.suffix: path for path in tmp_path.iterdir()}, mark


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("segment-lungs", "lung-images"),
        ("pretrain", "images"),
        ("import-weights", "file"),
        ("train-stage1", "lungs"),
        ("train-stage1", "weights"),
        ("score-stage1", "head"),
        ("train-module", "weights"),
        ("reconstruct", "model-a"),
        ("plot-gallery", "maps"),
        ("export", "model-b"),
    ],
)
def test_a_file_that_would_run_something_is_refused(finished, tmp_path, monkeypatch, capsys, evil, command, option):
    files, mark = evil
    monkeypatch.chdir(shutil.copytree(finished.folder, tmp_path / "project", ignore=shutil.ignore_patterns("dicom")))
    words = finished.commands(command)[0]
    for path in files.values():
        words[words.index(f"--{option}") + 1] = str(path)
        assert main(words) == 2
        err = capsys.readouterr().err
        assert f"amae {command}: error: " in err and path.name in err and "Traceback" not in err, err
        assert not mark.exists()


def test_a_model_or_unfinished_training_that_would_run_something_is_refused(
    finished, tmp_path, monkeypatch, capsys, evil
):
    files, mark = evil
    for path in files.values():
        assert main(["predict", str(ROOT / "docs"), "--model", str(path), "--output", str(tmp_path / "out")]) == 2
        assert main(["inspect", str(path)]) == 2
    monkeypatch.chdir(finished.folder)
    words = finished.commands("train-module")[0]
    for option in ("trained-module", "history", "record"):
        words[words.index(f"--{option}") + 1] = str(tmp_path / "made" / option)
    (tmp_path / "made").mkdir()
    shutil.copy(files[".pth"], tmp_path / "made/.trained-module.unfinished.pt")
    capsys.readouterr()
    assert main(words) == 0
    assert "unreadable, training starts afresh" in capsys.readouterr().err
    assert not mark.exists()


HOSTILE = "x; touch pwned; $(touch pwned) `touch pwned` ' \" & | > pwned \\ * \n -rf é"
STUB = """#!{python}
import json, os, sys
words = sys.argv[1:]
with open({log!r}, "a") as file:
    file.write(json.dumps(words) + "\\n")
for word in words:  # every file that does not exist yet and could be an output
    if "results of" in word and not os.path.isfile(word) and not word.startswith(("{{", "[")):
        if word.endswith(("raw", "predictions", "gallery")):
            os.makedirs(word + "/dicom")
            for name in ("labels.csv", "boxes.csv"):
                open(os.path.join(word, name), "w").close()
        else:
            open(word, "w").close()
"""


def run_with_stub(tmp_path, changes, *targets):
    """Run the workflow with a program in the place of `amae` that notes what it is given; return what it noted."""
    project = copy_sources(tmp_path / "project")
    log, stub = tmp_path / "log", tmp_path / "bin/amae"
    stub.parent.mkdir(exist_ok=True)
    stub.write_text(STUB.format(python=sys.executable, log=str(log)))
    stub.chmod(0o755)
    config = yaml.safe_load((project.folder / "tests/tiny.yaml").read_text())
    for name, change in changes.items():
        config[name] = {**config.get(name, {}), **change} if isinstance(change, dict) else change
    (project.folder / "hostile.yaml").write_text(yaml.safe_dump(config, allow_unicode=True))
    for name in ("table", "root", "boxes", "weights", "folder", "repartition", "metadata"):
        (project.folder / f"{name} {HOSTILE}").mkdir()
    variables = environment(project.folder)
    variables["PATH"] = f"{stub.parent}{os.pathsep}{variables['PATH']}"
    command = [sys.executable, "-m", "snakemake", *targets, "--cores", "1", "--configfile", "hostile.yaml", "--nocolor"]
    done = subprocess.run(command, cwd=project.folder, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(tmp_path.rglob("pwned*"))
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.mark.long
def test_values_of_the_configuration_reach_no_shell(tmp_path):
    paths = {name: f"{name} {HOSTILE}" for name in ("table", "root", "boxes", "weights", "folder")}
    splits = {"train_normal": 2, "unlabeled": 2, "anomaly_ratio": 0.5, "test_normal": 1, "test_abnormal": 1, "seed": 0}
    own = {"kind": "own", "conversion": "minmax", "square": "squash", "allowed_failures": 0, "splits": splits}
    own |= {name: paths[name] for name in ("table", "root", "boxes", "weights")}
    results = f"results of {HOSTILE}"
    changes = {
        "results": results,
        "dataset": "mine",
        "datasets": {"mine": own},
        "predict": {"folder": paths["folder"], "score": "inter", "specificity": 0.5},
        "experiments": {"localisation": ["mine"]},
    }
    seen = run_with_stub(tmp_path, changes, "all", "localisation", "predictions")
    words = [word for command in seen for word in command]
    assert {*paths.values(), f"{results}/mine/images.npy", f"{results}/mine/seed0/predictions"} <= set(words)
    for name, value in splits.items():
        given = {words[i + 1] for i, word in enumerate(words) if word == f"--splits.{name.replace('_', '-')}"}
        assert str(value) in given and given <= {str(value), "0", "0.6"}, name  # of a variant, another ratio


@pytest.mark.long
def test_values_of_a_published_or_simulated_data_set_reach_no_shell(tmp_path):
    results = f"results of {HOSTILE}"
    paths = {name: f"{name} {HOSTILE}" for name in ("folder", "repartition", "metadata")}
    rsna = {"kind": "rsna", "weights": "pretrain", "conversion": "minmax", "square": "squash", "allowed_failures": 0}
    rsna |= {**paths, "anomaly_ratio": 0.6, "patient_disjoint": False}
    seen = run_with_stub(tmp_path, {"results": results, "datasets": {"lungs": rsna}, "dataset": "lungs"}, "data")
    assert set(paths.values()) <= {word for command in seen for word in command}
    shutil.rmtree(tmp_path / "project")
    seen = run_with_stub(tmp_path, {"results": results}, "data")
    assert ["simulate", "--folder", f"{results}/tiny/raw"] in [command[:3] for command in seen]


def test_the_tests_of_the_workflow_are_cut_off_from_the_network(finished):
    """`finished` ran so: whatever had asked for the network would have ended with status 97."""
    for call in ("getaddrinfo('localhost', 80)", "create_connection(('127.0.0.1', 9))"):
        code = f"import socket\ntry:\n    socket.{call}\nexcept BaseException:\n    pass"
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment(finished.folder), capture_output=True, check=False
        )
        assert done.returncode == 97


def test_scoring_needs_no_network(finished, tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("network")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    radiographs = sorted((finished.results / "raw/dicom").glob("*.dcm"))[:2]
    words = ["predict", *map(str, radiographs), "--model", str(finished.results / "seed0/model.safetensors")]
    assert main([*words, "--output", str(tmp_path / "out")]) == 0
