"""What jobs ask a cluster for: more with more images, larger ones and each attempt; the page states what is asked."""

import re

import pytest
import yaml
from conftest import ROOT
from test_workflow import RULES

from amae.comparators.methods import METHODS
from amae.plan import demand
from amae.plan.check import typed

PROFILE = yaml.safe_load((ROOT / "workflow/profiles/slurm/config.yaml").read_text())
LOCAL = re.findall(r"^    (\w+),$", (ROOT / "workflow/rules/local.smk").read_text(), re.M)
PAGE = (ROOT / "docs/cluster.md").read_text().partition("<!-- demand -->")[2].partition("<!-- end of demand -->")[0]


@pytest.fixture
def config():
    """The configuration, with the paper's settings."""
    return typed(yaml.safe_load((ROOT / "config/config.yaml").read_text())) | {"preset": "paper"}


def cores_of(rule):
    """Cores of a rule's jobs under the profile."""
    return PROFILE["set-threads"].get(rule, PROFILE["max-threads"] if "threads: 64" in RULES[rule] else 1)


def test_every_rule_states_its_own_demand_and_a_gpu_where_it_has_a_network():
    for rule, body in RULES.items():
        assert re.findall(r"needs\((.*?)\)", body) == [f'"{rule}"'], rule
        assert ("{resources.gpu}" in body) == (rule in demand.ON_GPU), rule
    assert demand.DEMANDS.keys() <= RULES.keys() and set(LOCAL) <= RULES.keys()
    assert demand.COMPARATORS.keys() <= METHODS.keys()
    assert not [rule for rule in LOCAL if "threads:" in RULES[rule]]


def test_demand_grows_with_images_their_size_and_attempts(config):
    where = {"dataset": "simulated", "variant": ""}

    def asked(rule="train_module", attempt=1, threads=2):
        memory = demand.memory_of(config, rule, "simulated", attempt)
        return memory, demand.runtime_of(config, rule, where, threads, attempt)

    memory, minutes = asked()
    assert asked(attempt=2) == pytest.approx((2 * memory, 2 * minutes), abs=1)  # rounded
    images = config["datasets"]["simulated"]["images"] + 100  # of the split calibration
    need = demand.DEMANDS["train_module"]
    assert memory == need.memory + need.kilobytes * images / 1000
    assert minutes == round(10 + images * 150 * need.gflop / demand.GPU / 60)
    config["device"] = "cpu"
    on_cpu = asked()[1]
    assert on_cpu > 10 * minutes and asked(threads=4)[1] == pytest.approx(10 + (on_cpu - 10) / 2, abs=1)
    config["device"] = "auto"
    config["overrides"] = {"mae": {"image_size": 448}}
    assert asked()[0] - need.memory == pytest.approx(4 * (memory - need.memory))
    config["overrides"] = {"modules": {"epochs": 300}}
    assert asked()[1] == pytest.approx(10 + 2 * (minutes - 10), abs=1)


def test_images_are_those_of_the_table_of_the_folder_and_of_the_published_sets(config, tmp_path):
    (tmp_path / "table.csv").write_text("path\n" + "a.png\n" * 5000)
    config["datasets"]["mine"] = {"kind": "own", "table": str(tmp_path / "table.csv"), "splits": None}
    need = demand.DEMANDS["segment_lungs"]
    assert demand.memory_of(config, "segment_lungs", "mine", 1) == need.memory + need.kilobytes * 5
    assert demand.memory_of(config, "segment_lungs", "rsna", 1) == round(need.memory + need.kilobytes * 13.851)
    config["predict"] = {"folder": str(tmp_path)}
    need = demand.DEMANDS["predict_radiographs"]
    assert demand.memory_of(config, "predict_radiographs", "mine", 1) == round(need.memory + need.kilobytes / 1000)


def test_jobs_get_no_gpu_where_the_device_is_the_cpu(config):
    assert demand.gpu_of(config, "train_module") == {"gpu": 1, "device": "auto", "jobs_per_card": 1}
    assert demand.gpu_of(config, "compute_metrics") == {"gpu": 0}
    assert demand.gpu_of(config | {"device": "cpu"}, "train_module")["gpu"] == 0


def test_the_page_states_what_is_asked(config):
    rows = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in PAGE.splitlines()]
    rows = {row[0]: row[2:] for row in rows if row[0] in RULES}
    assert rows.keys() == demand.DEMANDS.keys()
    for rule, (cores, gpu, memory, kilobytes, gflop, seconds, megabytes, minutes) in rows.items():
        need = demand.DEMANDS[rule]
        assert (int(cores), gpu) == (cores_of(rule), "1" if rule in demand.ON_GPU else ""), rule
        stated = [float(value or 0) for value in (memory, kilobytes, gflop, seconds)]
        assert stated == [need.memory, need.kilobytes, need.gflop, need.seconds], rule
        where = {} if rule.startswith("fetch_") else {"dataset": "rsna", "variant": "", "method": "knn"}
        if megabytes:
            assert int(megabytes) == demand.memory_of(config, rule, where.get("dataset"), 1), rule
        if minutes:
            assert int(minutes) == demand.runtime_of(config, rule, where, int(cores), 1), rule
    where = {"dataset": "rsna", "variant": ""}
    text = " ".join((ROOT / "docs/cluster.md").read_text().split())
    for method in demand.COMPARATORS:
        minutes = demand.runtime_of(config, "run_comparator", where | {"method": method}, 2, 1)
        assert f"`{method}` {minutes}" in text
