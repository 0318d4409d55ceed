"""What the machine does to a run: full disks, damaged files, spent memory, wrong clocks, and a second run beside it."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from project import start, workers
from test_resume import wait_for, with_options

from amae.cli import main
from amae.mae.checkpoints import read_safetensors, write_tensors
from amae.predict.files import list_files
from amae.predict.ledger import Ledger
from amae.runtime.errors import InputError
from amae.runtime.files import atomic, open_sealed, seal
from amae.runtime.lock import LOCK, claim, in_turn
from amae.sources.unpack import unpack

OUTPUTS = {  # of a command, by option
    "segment-lungs": ("lungs", "lungs-table", "sheet"),
    "train-module": ("trained-module", "history", "record"),
    "reconstruct": ("reconstruction-scores", "maps", "record"),
    "plot-gallery": ("figure", "pages"),
}
DAMAGED = r"damaged|not a packed array"


@pytest.fixture
def mount(tmp_path):
    """A function that mounts a small file system in memory, or changes its options."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def with_options(options):
        again = ["-o", f"remount,{options}"] if os.path.ismount(folder) else ["-o", options]
        done = subprocess.run(["mount", "-t", "tmpfs", *again, "tmpfs", str(folder)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
        return folder

    yield with_options
    subprocess.run(["umount", str(folder)], capture_output=True, check=False)


def said(capsys, command):
    """The one line that a command ended with."""
    lines = capsys.readouterr().err.splitlines()
    assert "Traceback" not in "".join(lines)
    assert lines[-1].startswith(f"amae {command}: error: "), lines
    return lines[-1].removeprefix(f"amae {command}: error: ")


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("command", OUTPUTS)
def test_a_full_disk_is_told_and_the_next_run_recovers(finished, monkeypatch, mount, capsys, command):
    monkeypatch.chdir(finished.folder)
    disk = mount("size=1m")
    (disk / "fill").write_bytes(bytes(2**20 - 4096))
    before = finished.commands(command)[0]
    words = with_options(before, **{name: disk / "made" / f"{name}.csv" for name in OUTPUTS[command]})
    assert main(words) == 2
    message = said(capsys, command)
    assert str(disk / "made") in message and "No space left on device" in message, message
    left = [path for path in disk.rglob("*") if path.is_file() and path.stat().st_size]
    assert [path.name for path in left if "unfinished" not in path.parent.name] == ["fill"]  # parts are continued
    (disk / "fill").unlink()
    mount("size=100m")
    assert main(words) == 0
    for name in OUTPUTS[command]:
        if name != "record":  # tells the time
            assert _content(disk / "made" / f"{name}.csv") == _given(finished, before, name), name


def test_a_full_disk_is_told_when_an_archive_is_unpacked(tmp_path, mount):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a", bytes(2**21))
    disk = mount("size=1m")
    with pytest.raises(OSError, match=r"No space left on device: .*/disk/made"):
        unpack(tmp_path / "a.zip", disk / "made", limit=2**22)
    assert list(disk.iterdir()) == []


def _given(finished, words, name):
    return _content(finished.folder / words[words.index(f"--{name}") + 1])


def _content(path):
    """The bytes of a file; of a folder those of each of its files, Snakemake's hidden mark aside."""
    if path.is_dir():
        return {file.name: file.read_bytes() for file in path.iterdir() if file.name != ".snakemake_timestamp"}
    return path.read_bytes()


@pytest.mark.long
def test_a_folder_that_cannot_be_written_to_is_told_before_anything_is_computed(
    finished, tmp_path, monkeypatch, mount, capsys
):
    disk = mount("size=1m")
    mount("ro")
    (tmp_path / "file").write_text("not a folder")
    for results, why in ((disk, "Read-only file system"), (tmp_path / "file", "Not a directory")):
        status, output = finished.run("data", config=(f"results={results}",))
        assert status != 0
        assert f"key results: {results}: cannot be written to ({why}" in output and "Traceback" not in output, output
    monkeypatch.chdir(finished.folder)
    words = with_options(
        finished.commands("train-module")[0], trained_module=disk / "made/model", record=tmp_path / "record"
    )
    assert main(words) == 2
    assert said(capsys, "train-module") == f"{disk}/made: Read-only file system"
    assert not (tmp_path / "record").exists()


@pytest.mark.long
def test_a_second_run_in_the_same_folder_is_refused_and_the_first_is_unharmed(finished, tmp_path):
    project = finished.copy(tmp_path / "project")
    model = "out/tiny/seed0/module_B/mae.safetensors"
    shutil.rmtree((project.folder / model).parent)
    log = tmp_path / "log"
    first = start(project.command(model), project.folder, log)
    wait_for(lambda: "module B: " in log.read_text(), first)
    worker = min(workers(first))  # it may be starting git, under its own name still
    os.kill(worker, signal.SIGSTOP)
    for at_work in (f"{first.pid} {worker}", str(worker)):  # then what a killed workflow leaves behind
        status, output = project.run(model)
        assert status != 0
        assert "out: another run is at work in this folder, or a killed one left" in output, output
        assert f"(process {at_work})" in output, output
        assert "Traceback" not in output
        first.kill()
        first.wait()
    os.kill(worker, signal.SIGCONT)
    while workers(first):
        time.sleep(0.05)
    assert (project.folder / model).read_bytes() == (finished.folder / model).read_bytes()


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, capsys):
    def fail(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", fail)
    claim(tmp_path / "out")
    assert "cannot be locked (No locks available): start one run at a time" in capsys.readouterr().err
    assert LOCK not in os.environ
    with in_turn(tmp_path / "record"):
        pass
    assert "cannot be locked (No locks available): start one job at a time" in capsys.readouterr().err
    monkeypatch.setenv(LOCK, str(tmp_path / "out/.lock"))  # the run's machine has locks, that of the job has none
    assert main(["inspect", "no-such-model"]) == 2
    warning, error = capsys.readouterr().err.splitlines()
    assert (
        warning == f"warning: {tmp_path}/out/.lock cannot be locked here (No locks available): start one run at a time"
    )
    assert "no-such-model" in error


def damage(path):
    """Flip a bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("segment-lungs", "lung-images"),
        ("train-stage1", "lungs"),
        ("train-stage1", "weights"),
        ("score-stage1", "head"),
        ("train-module", "images"),
        ("reconstruct", "model-b"),
        ("export", "model-a"),
        ("plot-gallery", "maps"),
        ("inspect", None),
    ],
)
def test_a_changed_bit_is_found_and_named(finished, tmp_path, monkeypatch, capsys, command, option):
    monkeypatch.chdir(finished.folder)
    words = finished.commands(command)[0] if option else ["inspect", "out/tiny/seed0/model.safetensors"]
    place = words.index(f"--{option}") + 1 if option else 1
    broken = tmp_path / shutil.copy(words[place], tmp_path)
    damage(broken)
    words[place] = str(broken)
    words = with_options(words, **{name: tmp_path / name for name in OUTPUTS.get(command, ())})
    assert main(words) == 2
    message = said(capsys, command)
    assert str(broken) in message and "damaged" in message and "delete it" in message


def test_every_changed_bit_of_a_sealed_file_is_found(tmp_path):
    path = tmp_path / "a.npy"
    rng = np.random.default_rng(0)
    np.save(path, rng.integers(0, 256, (3, 4, 5), dtype=np.uint8))
    assert open_sealed(path).shape == (3, 4, 5)  # without a seal: not of this project
    seal(path)
    whole = path.read_bytes()
    assert (open_sealed(path) == np.load(path)).all()
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 1 << rng.integers(8)
        path.write_bytes(content)
        os.utime(path, ns=(place, place))
        with pytest.raises(InputError, match=DAMAGED):
            open_sealed(path)
    for length in (len(whole) - 1, len(whole) - 40, 10):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=DAMAGED):
            open_sealed(path)


def test_every_changed_bit_of_our_weights_is_found(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = {"a": torch.rand(3, 2), "b": torch.arange(3), "c": torch.tensor(1.5, dtype=torch.bfloat16)}
    write_tensors(tensors, path, {"kind": "x", "std": 0.25})
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    found = 0
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 1 << rng.integers(8)
        path.write_bytes(content)
        try:
            about, state = read_safetensors(path)
        except InputError:
            found += 1
            continue
        # a bit of the checksum's own name, or of the padding
        assert about.items() >= {"kind": "x", "std": 0.25}.items()
        assert all(torch.equal(state[name], tensors[name]) for name in tensors)
    assert found > len(whole) - 30


def test_what_a_killed_process_left_is_written_over(tmp_path):
    leave = "with atomic('a.csv') as path:\n path.write_text('half')\n os._exit(9)"
    leave = f"import os\nfrom amae.runtime.files import atomic\n{leave}"
    assert subprocess.run([sys.executable, "-c", leave], cwd=tmp_path).returncode == 9
    assert [path.read_text() for path in tmp_path.iterdir()] == ["half"]
    with atomic(tmp_path / "a.csv") as temporary:
        temporary.write_text("a")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.csv": "a"}


@pytest.mark.long
@pytest.mark.parametrize(
    ("error", "part"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"), "CUDA out of memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "CUBLAS_STATUS"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:1] . DefaultCPUAllocator: can't allocate memory"), "can't alloc"),
        (MemoryError(), "out of memory"),
    ],
)
@pytest.mark.parametrize(
    ("command", "step", "advice"),
    [
        ("pretrain", "amae.method.training._epoch", "lower the key pretrain.batch_size (--pretrain.batch-size), 8 now"),
        ("train-stage1", "amae.method.training._epoch", "lower the key stage1.batch_size (--stage1.batch-size), 8 now"),
        (
            "train-module",
            "amae.method.training._epoch",
            "lower the key modules.batch_size (--modules.batch-size), 8 now",
        ),
        ("reconstruct", "amae.commands.reconstruct.run", "--device cpu"),
    ],
)
@pytest.mark.usefixtures("one_thread")
def test_spent_memory_names_the_key_to_lower(
    finished, tmp_path, monkeypatch, capsys, error, part, command, step, advice
):
    monkeypatch.chdir(finished.folder)
    outputs = {**OUTPUTS, "pretrain": ("weights", "history", "record"), "train-stage1": ("head", "history", "record")}
    words = with_options(finished.commands(command)[0], **{name: tmp_path / name for name in outputs[command]})

    def fail(*arguments, **options):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(step, fail)
        assert main(words) == 2
    message = said(capsys, command)
    assert part in message and advice in message, message
    assert not list(tmp_path.iterdir())
    if isinstance(error, MemoryError):
        assert main(words) == 0
        name = outputs[command][0]
        assert (tmp_path / name).read_bytes() == _given(finished, finished.commands(command)[0], name)


def die(*arguments):
    """End a worker as the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_dead_worker_is_told_in_one_line(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(finished.folder)
    monkeypatch.setattr("amae.data.lungs._segment_part", die)
    words = with_options(finished.commands("segment-lungs")[0], workers=2, lungs=tmp_path / "lungs.npy")
    assert main(words) == 2
    assert "a worker process was ended from outside" in said(capsys, "segment-lungs")
    assert {path.suffix for path in tmp_path.iterdir()} <= {".unfinished"}


def test_an_error_that_only_a_programmer_can_put_right_keeps_its_traceback(finished, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr("amae.data.lungs.segment_lungs", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        main(finished.commands("segment-lungs")[0])


def test_times_of_the_past_change_nothing(finished, tmp_path):
    project = finished.copy(tmp_path / "project")
    for path in project.folder.joinpath("out").rglob("*"):
        moved = path.stat().st_mtime - 10 * 365 * 86400
        os.utime(path, (moved, moved))
    assert project.planned() == {}


@pytest.mark.long
def test_an_edited_table_counts_whatever_the_clock_said(finished, tmp_path):
    project = finished.copy(tmp_path / "project")
    tiny = project.folder / "tests/tiny.yaml"
    own = "{kind: own, table: mine.csv, root: null, weights: pretrain, conversion: minmax, square: squash,"
    own = f"datasets:\n  mine:\n    {own}\n     allowed_failures: 0, splits: null}}\n"
    tiny.write_text(tiny.read_text().replace("dataset: tiny\n", "dataset: mine\n").replace("datasets:\n", own, 1))
    table = pd.read_csv(project.results / "raw/labels.csv", dtype=str).head(8)
    table["path"] = "out/tiny/raw/" + table["path"]
    table["split"], table["label"] = "train_normal", "normal"
    table.to_csv(project.folder / "mine.csv", index=False)
    assert project.run("out/mine/candidates.csv")[0] == 0
    os.utime(project.folder / "mine.csv", (1e9, 1e9))
    assert "Nothing to be done" in project.run("--dry-run", "out/mine/candidates.csv")[1]
    table.head(7).to_csv(project.folder / "mine.csv", index=False)
    os.utime(project.folder / "mine.csv", (1e9, 1e9))
    output = project.run("--dry-run", "out/mine/candidates.csv")[1]
    assert "reason: Params have changed" in output, output


def test_a_folder_that_cannot_be_read_ends_the_listing(tmp_path, monkeypatch, capsys):
    """The tests may run as root, who reads every folder: the error is that of a share that went away."""
    for name in ("a.png", "closed/b.png", ".hidden.png", ".hidden/c.png", ".snakemake_timestamp"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    assert list(list_files([tmp_path / "in"], tmp_path / "out")) == ["a.png", "closed/b.png"]
    assert f"{tmp_path / 'in'}: 2 hidden files and folders left out" in capsys.readouterr().err
    scandir = os.scandir

    def without_closed(folder):
        if Path(folder).name == "closed":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", without_closed)
    with pytest.raises(InputError, match=f"^{tmp_path / 'in/closed'}: Permission denied$"):
        list_files([tmp_path / "in"], tmp_path / "out")


def test_a_ledger_on_a_full_disk_stays_whole(mount):
    folder = mount("size=16k")
    ledger = Ledger(folder / "ledger.jsonl", {"url": "x"})
    row = {"study": "1.2", "image": "1.2.3", "state": "kept", "reason": "x" * 500}
    (folder / "other").write_bytes(bytes(4096))
    with pytest.raises(OSError, match="No space left"):
        for number in range(100):
            ledger.add(row | {"image": f"1.2.{number}"})
    kept = number
    (folder / "other").unlink()
    ledger.add(row | {"image": "1.2.999"})
    ledger.close()
    again = Ledger(folder / "ledger.jsonl", {"url": "x"})
    assert list(again.rows) == [*(f"1.2.{number}" for number in range(kept)), "1.2.999"] and kept > 5
    again.close()
