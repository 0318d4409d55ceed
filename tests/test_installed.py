"""Comparators of other packages: the example of docs/comparators.md as it stands there, and its authors' mistakes."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT
from test_comparators import draw, write_data_set

from amae.commands.compare import _command, compare
from amae.comparators import methods
from amae.comparators.interface import TrainingData, check_fitted, check_scores
from amae.figures.dots import _title
from amae.mae.architecture import Architecture
from amae.mae.model import MAE
from amae.plan import compared, rows
from amae.plan.check import check
from amae.plan.schema import schema
from amae.runtime.errors import InputError

PAGE = (ROOT / "docs/comparators.md").read_text(encoding="utf-8")
EXAMPLE = re.search(r"```python\n(\"\"\"Mean image.*?)```", PAGE, re.S)[1]
POINT = tomllib.loads(re.search(r"```toml\n(.*?)```", PAGE, re.S)[1])


def install(folder: Path, code: str = EXAMPLE, name: str = "mean_image", target: str = "mean_image:METHOD") -> Path:
    """A folder for sys.path with the package of the page, as an installer leaves it."""
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mean-image\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[amae.comparators]\n{name} = {target}\n")
    (folder / "mean_image.py").write_text(code)
    return folder


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Install a package for one test; returns its folder."""

    def found(*given: str) -> Path:
        folder = install(tmp_path / "site", *given)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, "mean_image", raising=False)
        methods.installed.cache_clear()
        return folder

    yield found
    sys.modules.pop("mean_image", None)
    monkeypatch.undo()
    methods.installed.cache_clear()


@pytest.fixture
def few() -> TrainingData:
    """Eight images without a square and eight with one."""
    encoder = MAE(Architecture(64, 16, 16, 1, 2, 16, 1, 2))
    return TrainingData(draw(8, 0, False), draw(8, 1, True), encoder=encoder)


def words_of(folder: Path, method: str = "mean_image") -> dict[str, Path | str]:
    """Options of `amae compare` for a data set that `write_data_set` wrote, by name."""
    names = {"manifest": "manifest.csv", "images": "images.npy", "index": "images.csv", "state": "state.safetensors"}
    names |= {"history": "history.csv", "record": "run.json", "scores": "scores.csv"}
    return {"protocol": "N", "device": "cpu"} | {name: folder / file for name, file in names.items()}


def test_the_example_of_the_page_trains_and_scores_from_the_command_line(few, tmp_path):
    """Scores by numpy, from the pixels alone; the page's entry point is the one installed."""
    assert POINT["project"]["entry-points"][methods.GROUP] == {"mean_image": "mean_image:METHOD"}
    write_data_set(tmp_path / "data", few, ["normal"] * 4 + ["abnormal"] * 4)
    options = words_of(tmp_path / "data")
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    path = os.pathsep.join([str(install(tmp_path / "site")), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", "amae", "compare", "mean_image", *words, "--mean-image.image-size", "64"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    packed = np.load(tmp_path / "data/images.npy").astype(float)
    expected = ((packed[16:] - packed[:8].mean(0)) ** 2).mean((1, 2))
    np.testing.assert_allclose(pd.read_csv(options["scores"])["mean_image"], expected, rtol=1e-5)
    assert json.loads(options["record"].read_text())["settings"]["image_size"] == 64


def test_an_installed_method_has_settings_schema_and_help_as_ours(package):
    package()
    ours = [*methods.METHODS, *methods.of_anomalib(), "mean_image"]
    assert list(methods.all_methods()) == ours == list(compared.all_methods())
    comparators = schema(methods.all_methods())["properties"]["presets"]["additionalProperties"]["properties"]
    size = comparators["comparators"]["properties"]["mean_image"]["properties"]["image_size"]
    assert size["minimum"] == 1 and size["description"] == "side of the images in pixels"
    assert "mean_image" not in json.dumps(schema())  # the committed one is this project's
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    config["experiments"]["comparators"] = ["mean_image"]
    config["presets"]["demo"]["comparators"] = {"mean_image": {"image_size": 32}}
    check(config)
    assert compared.method_settings(config, "", "mean_image") == "--mean-image.image-size 32"
    config["presets"]["demo"]["comparators"] = {"mean_image": {"image_size": 0}}
    with pytest.raises(InputError, match=r"mean_image\.image_size: found 0, expected at least 1"):
        check(config)


@pytest.mark.parametrize("name", ["pretrained", "backbone", "column"])
def test_a_setting_may_have_the_name_of_one_of_ours(package, few, tmp_path, name):
    """The names of settings of `igd` and `detector_balanced` mean nothing in another method."""
    package(EXAMPLE.replace("image_size", name))
    assert compared.needed_backbone({"preset": "demo", "presets": {"demo": {}}}, "mean_image") == []
    write_data_set(tmp_path / "data", few, ["normal"] * 4 + ["abnormal"] * 4)
    options = words_of(tmp_path / "data")
    compare("mean_image", methods.method_of("mean_image").settings(), **options)
    assert len(pd.read_csv(options["scores"])) == 8


def test_the_figure_of_the_audit_names_it_by_title_and_protocol(package):
    package()
    assert _title("mean_image_N/mean_image") == "Mean image (N)"


def test_the_rows_of_amae_are_those_whose_titles_no_method_may_have():
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    config["experiments"]["comparators"] = []
    titles = [row["method"] for row in rows.rows_of(config, "simulated", "table2")]
    assert sorted({*titles} - {"AMAE Mask Rec."}) == sorted(methods.OWN_ROWS)


def test_its_code_counts_and_that_of_ours_that_it_uses(package, monkeypatch, tmp_path):
    folder = package()
    ours, before = methods.code_of("knn"), methods.code_of("mean_image")
    source = (folder / "mean_image.py").read_text()
    (folder / "mean_image.py").write_text("# a comment\n" + source)
    assert methods.code_of("mean_image") == before
    (folder / "mean_image.py").write_text(source.replace(".square()", ".abs()"))
    changed = methods.code_of("mean_image")
    assert changed != before and methods.code_of("knn") == ours
    (folder / "mean_image.py").write_text(source.replace("amae.comparators.shared", "amae.comparators.losses"))
    assert methods.code_of("mean_image")[1] not in (before[1], changed[1])  # another module of ours is behind it


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("def score(", "def scores(", "found no score, expected score(state, data, settings)"),
        ("METHOD = ", "METHOD = (", "was never closed"),
        ("def score(", "from elsewhere import score\n\n\ndef other(", ""),
    ],
)
def test_functions_of_its_module_are_looked_at_in_the_plan(package, old, new, message):
    folder = package()
    methods.installed()
    (folder / "mean_image.py").write_text(EXAMPLE.replace(old, new))
    if not message:
        assert methods.code_of("mean_image")
        return
    with pytest.raises(InputError, match=r"^method mean_image: ") as error:
        compared.method_code({}, "mean_image")
    assert message in str(error.value) and "mean_image.py" in str(error.value)


def test_no_entry_point_is_read_for_a_method_of_ours(monkeypatch):
    methods.installed.cache_clear()
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: pytest.fail("read"))
    assert methods.method_of("ae").title == "AE"


@pytest.mark.parametrize(
    ("old", "new", "name", "target", "message"),
    [
        (
            "",
            "",
            "mean_image",
            "mean_imag:METHOD",
            "cannot be loaded (ModuleNotFoundError: No module named 'mean_imag'",
        ),
        ("", "", "mean_image", "mean_image:METHODS", "cannot be loaded (AttributeError"),
        ("METHOD = Method", "METHOD = 3  #", "mean_image", "mean_image:METHOD", "found int, expected an amae."),
        ("", "", "ae", "mean_image:METHOD", "a method of this name exists already"),
        ("", "", "Mean-image", "mean_image:METHOD", "expected a name of small letters"),
        ('Method("Mean image"', 'Method("AE"', "mean_image", "mean_image:METHOD", "'AE' is that of another method"),
        ('Method("Mean image"', 'Method("Error ratio"', "mean_image", "mean_image:METHOD", "'Error ratio' is that of"),
        ('{"N": "score"}', '{"M": "score"}', "mean_image", "mean_image:METHOD", "protocols: found M; expected N, Y"),
        ('"N": "score"}', '"N": "score"}, {"lung"}', "mean_image", "mean_image:METHOD", "needs: found lung; expected"),
        ("(Checked)", "", "mean_image", "mean_image:METHOD", "settings: expected a frozen dataclass"),
        (
            'setting(64, "side of the images in pixels", 1)',
            "64",
            "mean_image",
            "mean_image:METHOD",
            "image_size: expect",
        ),
    ],
)
def test_an_entry_point_that_cannot_be_used_is_named(package, old, new, name, target, message):
    assert old in EXAMPLE
    package(EXAMPLE.replace(old, new) if old else EXAMPLE, name, target)
    with pytest.raises(InputError) as error:
        methods.all_methods()
    assert str(error.value).startswith(f"entry point {name} = {target} of the package mean-image: ")
    assert message in str(error.value)


def test_a_name_that_is_an_option_of_compare_is_refused(package):
    package(EXAMPLE, "seed")
    with pytest.raises(InputError, match="method seed: --seed is an option already; give the method another name"):
        _command("seed")


RETURN = 'return {"score": (resize(data.images, settings.image_size) - state["mean"]).square().mean((1, 2))}'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (", no_history()", "", "fit returned dict; expected (a dict of tensors by name, a pandas DataFrame)"),
        ("no_history()", "[]", "fit returned the history as list; expected a pandas DataFrame"),
        ('{"mean": ', '{"sum": 3, "mean": ', "fit returned a state with 'sum': int; expected a tensor by its name"),
        (".mean((1, 2))", "", "score 'score' is Tensor (8, 64, 64); expected a Tensor (8,), one an image"),
        (".mean((1, 2))", ".mean((1, 2)).numpy()", "score 'score' is ndarray; expected a Tensor (8,)"),
        (
            'return {"score"',
            'return {"scores"',
            "score returned a dict of scores; expected a dict with the score 'score'",
        ),
        (RETURN, "return data.images.float().mean((1, 2))", "score returned Tensor; expected a dict with the score"),
        (".square()", ".log()", "values are not finite, the first is nan of image 'i016'"),
    ],
)
def test_a_wrong_result_of_a_comparator_is_one_line(package, few, tmp_path, old, new, message):
    assert EXAMPLE.count(old) == 1
    package(EXAMPLE.replace(old, new))
    write_data_set(tmp_path / "data", few, ["normal"] * 4 + ["abnormal"] * 4)
    method = methods.method_of("mean_image")
    with pytest.raises(InputError) as error:
        compare("mean_image", method.settings(), **words_of(tmp_path / "data"))
    assert str(error.value).startswith("method mean_image: ") and message in str(error.value)


def test_right_results_stay_as_they_are():
    zeros, history = torch.zeros(2), pd.DataFrame()
    state, same = check_fitted(({"a": zeros, "b": zeros}, history))
    assert same is history and state["a"].tolist() == state["b"].tolist() == [0, 0]
    assert len({tensor.data_ptr() for tensor in state.values()}) == 2  # a file takes no tensor twice
    scores = torch.tensor([0.5, -1.0], requires_grad=True)
    found = check_scores({"score": scores, "other": torch.ones(2)}, ["x", "y"], "score")
    assert found["score"].tolist() == [0.5, -1.0] and not found["score"].requires_grad and "other" in found


def test_a_score_that_fails_costs_no_training_and_the_record_names_the_package(package, few, tmp_path):
    package(EXAMPLE.replace('return {"score"', 'raise ValueError("mine")\n    return {"score"'))
    write_data_set(tmp_path / "data", few, ["normal"] * 4 + ["abnormal"] * 4)
    options = words_of(tmp_path / "data")
    kept = tmp_path / "data/.state.unfinished/training.pt"
    kept.parent.mkdir()
    kept.write_bytes(b"what a training saved")
    with pytest.raises(ValueError, match="mine"):
        compare("mean_image", methods.method_of("mean_image").settings(), **options)
    assert kept.exists()
    versions = json.loads(options["record"].read_text())["versions"]
    assert versions["mean-image"] == f"1.0 (code {methods.code_of('mean_image')[1]})"


def test_needs_may_be_any_collection_of_names(package):
    package(EXAMPLE.replace('{"N": "score"},', '{"N": "score"}, ("encoder",),'))
    assert methods.method_of("mean_image").needs == {"encoder"}
