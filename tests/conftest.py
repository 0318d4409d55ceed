"""Fixtures shared by the tests."""

import fcntl
import os
from pathlib import Path

import pytest

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # tolerances are those of the CPU

from project import ROOT, Project, copy_sources


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real images and conformance files, which lives outside the repository (AMAE_SHARED, or ../shared)."""
    folder = Path(os.environ.get("AMAE_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"conformance data not found at {folder}; set AMAE_SHARED to the folder that contains data/")
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """A copy of the project in which the whole workflow has run once, on the tiny configuration; never changed.

    AMAE_TINY_RUN names a folder in which several test processes share that run; each works on a copy.
    """
    own = tmp_path_factory.mktemp("finished")
    common = Path(os.environ.get("AMAE_TINY_RUN", own))
    with (common / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (common / "output").exists():
            made = copy_sources(common / "run")
            status, output = made.run("--printshellcmds")
            assert status == 0, output
            (common / "output").write_text(output)
    return Project(common / "run", (common / "output").read_text()).copy(own / "project")


@pytest.fixture
def one_thread():
    """torch on one thread, as `--cores 1` runs it: more of them add numbers in another order."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
