"""The environment: pins, and what conda users get."""

import re
import tomllib
from importlib import metadata

import yaml
from conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINS = dict(pin.split("==") for pin in PROJECT["tool"]["uv"]["constraint-dependencies"])
DIRECT = {
    re.split(r"[><=\[; ]", requirement)[0]
    for requirement in PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"]
}
OPTIONAL = {
    re.split(r"[><=\[; ]", requirement)[0]
    for extra in PROJECT["project"]["optional-dependencies"].values()
    for requirement in extra
}


def test_every_dependency_is_pinned():
    assert set(PINS) >= DIRECT | OPTIONAL


def test_conda_users_get_the_same_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert pip[0] == "-e ."
    assert dict(pin.split("==") for pin in pip[1:]) == {name: PINS[name] for name in DIRECT}
    python = next(e for e in environment["dependencies"] if isinstance(e, str) and e.startswith("python="))
    assert python.removeprefix("python=") in ("3.11", "3.12", "3.13")


def test_the_tested_versions_are_installed():
    installed = {name: metadata.version(name) for name in DIRECT}
    released = {name: version.partition("+")[0] for name, version in installed.items()}
    assert released == {n: PINS[n] for n in DIRECT}


def test_no_registry_is_named():
    texts = [(ROOT / name).read_text() for name in ("pyproject.toml", "environment.yml", ".ci/run")]
    assert not any(re.search(r"https?://", text) for text in texts)
