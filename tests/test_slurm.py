"""The workflow on a real Slurm: results as without it, a card for each training, continued when cancelled.

`python -m pytest -m slurm` runs these tests as root, where Slurm is installed; they skip, with the reason, elsewhere.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from cluster import cluster, missing
from project import ROOT, copy_sources, run, start
from test_kills import tables
from test_resume import wait_for

from amae.plan.demand import ON_GPU

PROFILE = "workflow/profiles/slurm"
# One core for each job, as in the local run; no accounting here, and a job here takes 7 s.
HERE = "--max-threads 1 --slurm-status-command squeue --slurm-init-seconds-before-status-checks 8"
TARGET = "out/tiny/seed0/metrics.csv"  # what runs on the cluster, from stage 1 on; figures and pages after it do not
LONGER = "overrides={modules: {epochs: 400}}"  # long enough to be cancelled on the way
MODULES = [f"out/tiny/seed0/module_{module}" for module in "AB"]
# In the place of `amae`: notes command, module and card of each job, then runs it; a module when both are there.
NOTING = """#!{python}
import os, sys, time
with open({notes!r}, "a") as file:
    print(sys.argv[1], sys.argv[3], os.environ.get("CUDA_VISIBLE_DEVICES") or "none", file=file)
end = time.monotonic() + 200
while sys.argv[1] == "train-module" and time.monotonic() < end and open({notes!r}).read().count("train-module") < 2:
    time.sleep(0.1)
os.execv({amae!r}, [{amae!r}, *sys.argv[1:]])
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A running cluster."""
    if reason := missing():
        pytest.skip(f"no Slurm here: {reason}")
    if not find_spec("snakemake_executor_plugin_slurm"):
        pytest.skip("no Slurm here: snakemake-executor-plugin-slurm is not installed (uv sync --extra slurm)")
    with cluster(tmp_path_factory.mktemp("slurm") / "cluster"):
        yield


def submit(*words):
    """Snakemake with the profile, the tiny configuration, longer modules and these words."""
    snakemake = [sys.executable, "-m", "snakemake", "--workflow-profile", PROFILE, "--nocolor", *shlex.split(HERE)]
    return [*snakemake, *words, "--configfile", "tests/tiny.yaml", "--config", "results=out", LONGER]


def running():
    """Comment of each job that Slurm runs, by its number."""
    words = ["squeue", "--noheader", "--states=RUNNING", "--format=%i %k"]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    return dict(line.split(maxsplit=1) for line in lines)


def noting(folder, notes):
    """A folder with an `amae` that notes what it is given, and that goes before all others."""
    words = {"python": sys.executable, "notes": str(notes), "amae": str(Path(sys.executable).with_name("amae"))}
    folder.mkdir()
    (folder / "amae").write_text(NOTING.format(**words))
    (folder / "amae").chmod(0o755)
    return f"PATH={folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"


@pytest.mark.slurm
def test_the_chain_ends_as_a_local_run_though_one_of_two_trainings_side_by_side_is_cancelled(slurm, tmp_path):
    local = copy_sources(tmp_path / "local")
    status, output = local.run(TARGET, config=(LONGER,))
    assert status == 0, output
    project = local.copy(tmp_path / "project")
    shutil.rmtree(project.results / "seed0")
    path = noting(tmp_path / "bin", tmp_path / "notes")
    words = ["--retries", "0", "--resources", "gpu=2"]
    first, log = start(["env", path, *submit(TARGET, *words)], project.folder, tmp_path / "log"), tmp_path / "log"
    states = [project.folder / module / ".mae.unfinished.pt" for module in MODULES]
    wait_for(lambda: states[1].exists(), first, seconds=500)
    trainings = {comment[-1]: job for job, comment in running().items() if "rule_train_module" in comment}
    subprocess.run(["scancel", trainings["B"]], check=True)
    assert first.wait(timeout=240) != 0
    output = log.read_text()
    print(output)
    assert f"SLURM-job '{trainings['B']}' failed, SLURM status is: 'CANCELLED'" in output
    assert "note: --resources gpu=N is a limit for the whole cluster" in output
    assert not states[0].exists() and states[1].exists()
    notes = [line.split() for line in (tmp_path / "notes").read_text().splitlines()]
    cards = {module: card for command, module, card in notes if command == "train-module"}
    assert cards in ({"A": "0", "B": "1"}, {"A": "1", "B": "0"}), notes

    status, output = run(submit(TARGET), project.folder)
    print(output)
    assert status == 0 and "note: " not in output
    said = (project.results / "logs/seed0/train_module_B.log").read_text()
    assert int(re.search(r"continuing after epoch (\d+)", said)[1]) >= 1
    assert tables(project) == tables(local)


@pytest.mark.slurm
@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (["--max-threads", "64"], "More processors requested than permitted"),
        (["--set-resources", "simulate_radiographs:mem_mb=900000"], "Memory specification can not be satisfied"),
    ],
)
def test_a_job_that_asks_for_too_much_fails_at_once_with_a_line(slurm, tmp_path, asked, reason):
    project = copy_sources(tmp_path / "project")
    begin = time.monotonic()
    status, output = run([*submit("out/tiny/raw/labels.csv", *asked)], project.folder)
    assert status != 0
    assert reason in output and "Traceback" not in output, output
    assert time.monotonic() - begin < 60


def test_the_profile_names_every_rule_that_takes_a_gpu_and_keeps_the_default_profile():
    profile, default = (
        yaml.safe_load((ROOT / f"workflow/profiles/{name}/config.yaml").read_text()) for name in ("slurm", "default")
    )
    assert profile["set-threads"] == dict.fromkeys(ON_GPU, 2)
    assert profile.items() >= default.items()
