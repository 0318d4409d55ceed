"""Jobs side by side take different GPUs; they are names here, processes and locks are real."""

import itertools
import os
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from project import ROOT

from amae.runtime import gpus
from amae.runtime.device import choose_device
from amae.runtime.gpus import choose_place

JOB = """
import sys
from pathlib import Path
from amae.runtime.gpus import take_gpu
names = sys.argv[3:]
print(names[take_gpu(names, int(sys.argv[2]), Path(sys.argv[1]))], flush=True)
sys.stdin.read()  # at work until it is ended
"""


@pytest.fixture
def job(tmp_path):
    """A function that starts a process which takes one of these cards and holds it until it ends."""
    started = []

    def start(*names, jobs_per_card=1):
        words = [sys.executable, "-c", JOB, str(tmp_path / "locks"), str(jobs_per_card), *names]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(words, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def card_of(process):
    """The card that a process reports."""
    return process.stdout.readline().strip()


def test_the_choice_is_a_free_place_on_the_emptiest_card():
    names = ["a", "b", "c"]
    for jobs_per_card in (1, 2):
        places = list(itertools.product(names, range(jobs_per_card)))
        for count in range(len(places) + 1):
            for held in itertools.combinations(places, count):
                chosen = choose_place(names, jobs_per_card, held)
                if count == len(places):
                    assert chosen is None
                    continue
                jobs = [sum(card == name for card, _ in held) for name in names]
                assert chosen in places and chosen not in held
                assert chosen[0] == names[jobs.index(min(jobs))]
    assert choose_place([], 1, []) is None
    assert choose_place(["a"], 1, [("b", 0)]) == ("a", 0)  # another process may see other cards


def test_jobs_side_by_side_take_different_cards(job):
    names = ["a", "b", "c", "d"]
    assert sorted(map(card_of, [job(*names) for _ in names])) == names


def test_cards_count_by_hardware_whatever_each_process_sees(job):
    assert card_of(job("b", "a")) == "b"  # CUDA_VISIBLE_DEVICES=1,0
    assert card_of(job("a", "b")) == "a"
    assert card_of(job("b", "c")) == "c"


def test_a_job_waits_for_a_card_with_one_line_and_gets_that_of_a_killed_one(job):
    first = job("a", "b")
    assert card_of(first) == "a"
    second = job("a", "b")
    assert card_of(second) == "b"
    third = job("a", "b")
    assert third.stderr.readline() == (
        "device: 2 card(s) visible, 1 job(s) on each (key jobs_per_card), all taken; waiting for one\n"
    )
    second.kill()
    second.wait()
    assert card_of(third) == "b"
    assert first.poll() is None and third.poll() is None


def test_a_card_is_shared_by_as_many_jobs_as_the_key_allows(job):
    assert sorted(map(card_of, [job("a", "b", jobs_per_card=2) for _ in range(4)])) == ["a", "a", "b", "b"]
    assert "2 job(s) on each" in job("a", "b", jobs_per_card=2).stderr.readline()


def test_the_device_is_the_card_that_was_taken(monkeypatch, request, tmp_path, job, capsys):
    monkeypatch.setattr(gpus, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(gpus, "_held", [])
    (tmp_path / f"amae-cards-{os.getuid()}").symlink_to(tmp_path / "locks")
    (tmp_path / "locks").mkdir()
    assert card_of(job("GPU-0", "GPU-1")) == "GPU-0"
    used = []
    fake = {
        "is_available": lambda: True,
        "device_count": lambda: 3,
        "get_device_properties": lambda number: SimpleNamespace(uuid=f"GPU-{number}"),
        "get_device_name": lambda device: "A card",
        "set_device": used.append,
    }
    for name, function in fake.items():
        monkeypatch.setattr(torch.cuda, name, function)
    request.addfinalizer(partial(torch.set_float32_matmul_precision, "highest"))
    torch.set_float32_matmul_precision("high")  # as NVIDIA's containers set it by an environment variable
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert choose_device("auto", 1) == torch.device("cuda", 1) == used[0]
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cudnn.allow_tf32
    assert choose_device("cuda", 1) == torch.device("cuda", 2)
    assert choose_device("auto", 1, jobs_per_card=2).index in (0, 1, 2)
    assert "device: A card, cuda:1 of 3, GPU-1" in capsys.readouterr().err
    for file in gpus._held:
        os.close(file)
