"""Containers: what the images install, in a fresh environment; the images themselves are not built here."""

import os
import re
import shutil
import subprocess

import pytest
import yaml
from conftest import ROOT

INSTALL = "containers/install.sh"


def test_both_images_have_one_pinned_base_and_one_script():
    docker, apptainer = ((ROOT / name).read_text() for name in ("Dockerfile", "containers/amae.def"))
    (base,) = re.findall(r"^FROM (.+)$", docker, re.M)
    assert re.findall(r"^From: (.+)$", apptainer, re.M) == [base]
    assert re.fullmatch(r"python:3\.1[123]\.\d+-slim-\w+", base)
    assert docker.count(f"{INSTALL} /opt/amae") == apptainer.count(f"{INSTALL} /opt/amae") == 1
    copied = re.findall(r"^    (\S+) /amae/(\S+)$", apptainer, re.M)
    assert copied and all(source == target and (ROOT / source).exists() for source, target in copied)
    assert 'container: "containers/amae.sif"' in (ROOT / "workflow/Snakefile").read_text()


def test_the_job_of_kubernetes_runs_the_workflow_on_volumes_it_has():
    job = yaml.safe_load((ROOT / "containers/job.yaml").read_text())["spec"]["template"]["spec"]
    (container,) = job["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in job["volumes"]}
    assert container["command"][0] == "snakemake" and "NOT TRIED" in (ROOT / "containers/job.yaml").read_text()


@pytest.mark.long
def test_the_script_makes_an_environment_in_which_both_commands_of_the_readme_run(finished, tmp_path):
    project = finished.copy(tmp_path / "amae")
    shutil.rmtree(project.results / "seed0")  # what is made once more, by the environment
    folder = project.folder
    for name in (INSTALL, "README.md", "LICENSE"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def ended(command, cwd, path=""):
        variables = {**environment, "PATH": path + environment["PATH"], "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    ended([folder / INSTALL, "environment"], elsewhere)
    path = f"{elsewhere}/environment/bin:"
    tiny = ["--configfile", "tests/tiny.yaml", "--config", "results=out"]
    assert ended(["which", "amae"], folder, path).strip() == f"{elsewhere}/environment/bin/amae"
    ended(["snakemake", "--cores", "1", "--resources", "gpu=1", *tiny], folder, path)
    assert (folder / "out/tiny/seed0/model.safetensors").exists()
    ended(["snakemake", "--report", "out/report.html", *tiny], folder, path)
    assert "AMAE" in (folder / "out/report.html").read_text()
