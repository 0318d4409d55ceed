"""What a run would take."""

import pytest
import yaml
from conftest import ROOT
from project import run

from amae.plan.outlook import Job, report


@pytest.fixture
def config():
    return yaml.safe_load((ROOT / "config/config.yaml").read_text())


def test_jobs_downloads_and_what_a_person_gets(config):
    where = {"dataset": "rsna", "variant": "", "seed": "0"}
    jobs = [Job("fetch_source", {"source": "rsna"}, 1), Job("fetch_source", {"source": "nih"}, 1)]
    jobs += [Job("train_module", where | {"module": module}, 2) for module in "AB"]
    jobs += [Job("summarise_metrics", where, 1), Job("fetch_weights", {"file": "vit-s_CXR_0.3M_mae.pth"}, 1)]
    lines = list(report(config | {"preset": "paper"}, jobs, 1))
    # 2 modules x 13,851 images x 150 epochs x 27 GFLOP at 2,000 GFLOP/s
    row = next(line.split() for line in lines if line.startswith("train_module"))
    assert row[1] == "2" and float(row[2]) == pytest.approx(2 * 13_851 * 150 * 27 / 2_000 / 3_600, rel=0.05)
    assert next(line.split()[4] for line in lines if line.startswith("all, one")) == "6"
    text = "\n".join(lines)
    assert "to download: 0.57 GB, and 1 files of a size that is not published" in text and "weights-vit-s-cxr" in text
    assert "rsna-kaggle: https://www.kaggle.com" in text and "3.9 GB" in text
    assert "by hand, unless those above suffice or they are in results/sources/rsna" in text
    assert "by hand, unless they are in results/sources/nih already" in text and "vindr" not in text
    cpu = next(
        line.split() for line in report(config | {"preset": "paper"}, jobs, 0) if line.startswith("train_module")
    )
    assert float(cpu[2].replace(",", "")) == pytest.approx(25 * float(row[2]), rel=0.05)  # two cores at 40 GFLOP/s


def test_what_a_persons_folder_lacks_is_told(config, tmp_path):
    jobs = [Job("list_source", {"dataset": "nih"}, 1)]
    config["datasets"]["nih"]["folder"] = str(tmp_path)
    text = "\n".join(report(config | {"preset": "paper"}, jobs, 1))
    assert f"by hand, for data set nih: {tmp_path}/norm_MaleAdultPA_train_curated_list.txt: no such file" in text
    assert "by hand: nothing" not in text


@pytest.mark.long
def test_the_command_plans_for_the_users_configuration(finished):
    command = ["amae", "plan", "--configfile", "tests/tiny.yaml", "--config", "results=out", "device=cpu"]
    status, output = run([*command, "--gpus", "0"], finished.folder)
    assert status == 0 and "nothing to do" in output, output
    status, output = run([*command, "seeds=[0,1]"], finished.folder)
    rows = {line.split()[0]: line.split()[1] for line in output.splitlines() if len(line.split()) > 1}
    assert status == 0 and rows["all,"] and "by hand: nothing" in output and len(output.splitlines()) < 40, output
    status, output = run([*command[:4], "--config", "results=out", "preset=none"], finished.folder)
    assert status == 2 and "key preset" in output and "Traceback" not in output
    for words, message in (
        (["paperr"], "paperr; snakemake --list-target-rules lists"),
        (["--config", "a.b=3"], "found a.b=3, expected the form"),
    ):
        status, output = run(["amae", "plan", *words], finished.folder)
        assert status == 2 and message in output and "Traceback" not in output
    status, output = run(["amae", "plan"], finished.folder / "out")
    assert status == 2 and "call this command in the folder of the repository" in output
