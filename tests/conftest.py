"""Fixtures shared by the tests."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real images and conformance files, which lives outside the repository (AMAE_SHARED, or ../shared)."""
    folder = Path(os.environ.get("AMAE_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"conformance data not found at {folder}; set AMAE_SHARED to the folder that holds data/")
    return folder
