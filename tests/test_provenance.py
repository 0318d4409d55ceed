"""Records of how an artefact was made."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

import amae
from amae.runtime.files import read_record, write_json
from amae.runtime.provenance import code_revision, other_versions, recording, versions


@dataclass(frozen=True)
class Inner:
    """Settings within settings."""

    sizes: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Settings:
    """Settings as a command has them."""

    lr: float = 1e-3
    weights: Path = Path("w.safetensors")
    inner: Inner = Inner()


@pytest.mark.parametrize("program", ["/usr/bin/amae", "/site-packages/amae/__main__.py"])
def test_a_record_holds_what_was_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr("sys.argv", [program, "pretrain"])
    (tmp_path / "images.npy").write_bytes(b"abc")
    path = tmp_path / "deep" / "run.json"
    inputs = {"images": tmp_path / "images.npy"}
    with recording(path, settings=Settings(), seed=3, inputs=inputs, device="cpu") as record:
        record["images"] = 1000
        (tmp_path / "images.npy").write_bytes(b"changed while running")
    read = json.loads(path.read_text(encoding="utf-8"))
    assert read["command"] == ["amae", "pretrain"]
    assert read["settings"] == {"lr": 1e-3, "weights": "w.safetensors", "inner": {"sizes": [1, 2]}}
    assert read["seed"] == 3
    assert read["inputs"] == {"images": {"path": str(inputs["images"]), "sha256": sha256(b"abc").hexdigest()}}
    assert read["versions"]["amae"] == amae.__version__ and read["versions"]["python"].startswith("3.")
    assert read["device"]["type"] == "cpu" and read["device"]["name"] and read["device"]["threads"] >= 1
    started = datetime.fromisoformat(read["started"])
    assert started.tzinfo == UTC and 0 <= (datetime.now(UTC) - started).total_seconds() < 60
    assert read["wall_seconds"] >= 0 and read["images_per_second"] > 0
    if sys.platform != "win32":
        assert 5 < read["peak_memory_mib"] < 1e5


def test_a_failure_leaves_no_record(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), recording(tmp_path / "run.json", settings={}):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_recording_does_not_load_torch(tmp_path: Path) -> None:
    code = (
        "import sys, amae.runtime.provenance as p\n"
        "with p.recording(sys.argv[1], settings={}) as record: pass\n"
        "assert 'torch' not in sys.modules and record['device']['threads'] == 3"
    )
    environment = {"OMP_NUM_THREADS": "3", "PYTHONPATH": str(Path(amae.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code, tmp_path / "run.json"], env=environment, check=True)
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["seed"] is None


def test_versions_of_what_is_missing_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amae.runtime.provenance.PACKAGES", ("numpy", "no-such-package"))
    assert versions()["numpy"] and versions()["no-such-package"] is None


def test_code_revision_follows_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", "-C", tmp_path, *who, *arguments], capture_output=True, text=True, check=True
        ).stdout

    (tmp_path / "ignored").mkdir()
    (tmp_path / "code.py").write_text("1\n")
    (tmp_path / ".gitignore").write_text("ignored\n")
    git("init", "-q")
    git("add", ".")
    assert code_revision(tmp_path) is None  # nothing is committed yet
    git("commit", "-q", "-m", "one")
    assert code_revision(tmp_path) == {"commit": git("rev-parse", "HEAD").strip(), "dirty": False}
    assert code_revision(tmp_path / "ignored") is None
    (tmp_path / "code.py").write_text("2\n")
    assert code_revision(tmp_path)["dirty"]
    monkeypatch.setenv("PATH", "")
    assert code_revision(tmp_path) is None  # no git


def test_results_of_other_versions_are_named(tmp_path):
    for name, torch_version in [("a", "1.0"), ("b", "1.0"), ("c", versions()["torch"])]:
        (tmp_path / name).mkdir()
        write_json({"versions": versions() | {"torch": torch_version}}, tmp_path / name / "run.json")
    (line,) = other_versions(tmp_path)
    assert line.startswith(f"2 results were made with torch 1.0, now {versions()['torch']} is installed")
    assert line.endswith(f"the first is {tmp_path / 'a'}")
    assert other_versions(tmp_path / "c") == []


def test_a_name_that_is_no_utf8_is_kept_in_a_record(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.dcm")
    write_json({"command": ["amae", "predict", name]}, tmp_path / "run.json")
    assert read_record(tmp_path / "run.json")["command"][2] == name
