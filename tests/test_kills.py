"""Runs that are killed again and again end with the same bytes: thirty kills, off by default (`pytest -m kills`)."""

import os
import random
import shutil
import signal
import subprocess
import time

import pytest
from project import copy_sources, start, workers

CHAINS, KILLS = 6, 5  # each chain is the whole workflow, with so many kills on its way
LONGEST = 22  # seconds from a start to a kill
TARGETS = ("workflow", "group", "worker")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def strike(process: subprocess.Popen, target: str, number: signal.Signals) -> str:
    """Send a signal to the workflow alone, to its process group, or to one of its workers; say what was hit."""
    if target == "group":
        os.killpg(process.pid, number)
    elif target == "worker" and (found := workers(process)):
        os.kill(found[0], number)
    else:
        target = "workflow"
        os.kill(process.pid, number)
    return f"{number.name} to the {target}"


def tables(project) -> dict[str, bytes]:
    """Every table of the results, and the trained weights, by name."""
    files = [path for suffix in ("csv", "safetensors", "npy") for path in project.results.rglob(f"*.{suffix}")]
    return {path.relative_to(project.results).as_posix(): path.read_bytes() for path in files}


@pytest.mark.kills
@pytest.mark.parametrize("seed", range(CHAINS))
def test_a_workflow_killed_again_and_again_ends_with_the_same_tables(finished, tmp_path, seed):
    rng, project = random.Random(seed), copy_sources(tmp_path / "project")
    number = 0
    while number < KILLS:
        log = tmp_path / "log"
        process = start(project.command(), project.folder, log)
        wait = rng.uniform(2, LONGEST)
        time.sleep(wait)
        if process.poll() == 0:  # a quick machine: the run is complete, and the next begins afresh
            assert tables(project) == tables(finished)
            shutil.rmtree(project.results)
            continue
        said = strike(process, rng.choice(TARGETS), rng.choice(SIGNALS))
        process.wait(timeout=300)
        # before, Snakemake itself is loaded, and an interruption shows Python's traceback
        output = log.read_text().partition("Building DAG of jobs")[2]
        after = output.count("rule ")
        print(f"chain {seed}, kill {number}: {said} after {wait:.1f} s, {after} jobs begun")
        assert "Traceback" not in output, output
        while workers(process):  # what a killed workflow left behind; a new run is refused until it has ended
            time.sleep(0.1)
        number += 1
    status, output = project.run()
    assert status == 0, output
    assert tables(project) == tables(finished)
    assert not list(project.folder.rglob("*.tmp*")) and not list(project.results.rglob("*.unfinished*"))
