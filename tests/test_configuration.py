"""The configuration: what is accepted, what is refused in which words, and that its three descriptions agree."""

import copy
import dataclasses
import inspect
import json
import shlex

import pytest
import yaml
from conftest import ROOT

from amae.cli import main
from amae.commands import index, list_images, train_module
from amae.comparators.methods import METHODS
from amae.plan import check as configuration
from amae.plan import keys, splits, variants
from amae.plan.schema import schema
from amae.runtime.errors import InputError
from amae.settings import SECTIONS, ModuleSettings, SplitSettings

CONFIG = yaml.safe_load((ROOT / "config/config.yaml").read_text())


def change(**changes):
    """The configuration with changes by dotted key, __ for a dot."""
    config = copy.deepcopy(CONFIG)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = config
        for parent in parents:
            place = place[parent]
        place[last] = value
    return config


def test_the_configuration_is_accepted():
    configuration.check(CONFIG)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"results": "--output=x"}, "key results: begins with a dash"),
        ({"predict__folder": "-x"}, r"key predict\.folder: begins with a dash"),
        ({"datasets__simulated__weights": "-x.pth"}, r"key datasets\.simulated\.weights: begins with a dash"),
        ({"sedes": [1]}, r"key sedes: unknown; did you mean seeds\?"),
        ({"presets__demo__stage1__epoch": 3}, r"key presets\.demo\.stage1\.epoch: unknown; did you mean epochs\?"),
        (
            {"overrides": {"modules": {"mask_ratio": 3}}},
            r"key overrides\.modules\.mask_ratio: found 3, .* at most 0\.95",
        ),
        ({"overrides": {"modules": {"epochs": 1}}}, r"key modules\.warmup_epochs 2 is more than epochs 1"),
        ({"overrides": {"mae": {"patch_size": 15}}}, r"mae\.image_size 128 is not a multiple of mae\.patch_size 15"),
        ({"overrides": {"reconstruction": {"mask_scheme": "complementary", "masks": 3}}}, "contradicts masks 3"),
        ({"datasets__simulated__kind": "mine"}, r"datasets\.simulated\.kind: found 'mine', .* simulated, own"),
        ({"datasets__simulated__splits__anomaly_ratio": 2}, "anomaly_ratio: found 2, expected at most 1"),
        ({"seeds": 0}, "key seeds: found 0, expected a value of type array"),
        ({"seeds": [1, 1]}, "no value twice"),
        ({"dataset": "rsma"}, "key dataset: found 'rsma', expected one of datasets: nih, paediatric, pretraining"),
        ({"results": "out {x}"}, r"key results: found 'out \{x\}', expected a folder without braces"),
        ({"datasets": {2024: CONFIG["datasets"]["simulated"]}}, r"key datasets\.2024: found 2024, .* in quotes"),
        (
            {"gallery__score": "intre"},
            r"key gallery\.score: found 'intre', expected one of auto, detector, stage1, inter",
        ),
        (
            {"predict__score": "intre"},
            r"key predict\.score: found 'intre', expected one of auto, detector, stage1, inter",
        ),
        ({"presets__demo__stage1__lr": float("nan")}, r"key presets\.demo\.stage1\.lr: found nan, .* finite number"),
        ({"datasets__rsna__anomaly_ratio": float("nan")}, r"key datasets\.rsna\.anomaly_ratio: found nan"),
        ({"presets__demo__comparators__ae": {"epoch": 3}}, r"comparators\.ae\.epoch: unknown; did you mean epochs\?"),
        ({"presets__demo__comparators__ae": {"image_size": 40}}, r"ae\.image_size: found 40, .* multiple of 16"),
        (
            {"overrides": {"reconstruction": {"mask_scheme": "complementary"}, "mae": {"image_size": 144}}},
            "key reconstruction.mask_scheme complementary contradicts images of 81 patches: .* shows 20 of them",
        ),
        ({"variants": {"seed0": {}}}, r"key variants\.seed0: the workflow has a folder of that name"),
        ({"variants": {"ar0.2": {}}}, r"key variants\.ar0\.2: the workflow has a folder of that name"),
        ({"variants": {"ar1e-05": {}}}, r"key variants\.ar1e-05: the workflow has a folder of that name"),
        ({"preset": "papr"}, "key preset: found 'papr', expected one of presets: demo, paper"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(InputError, match=message):
        configuration.check(change(**changes))


@pytest.mark.parametrize(
    ("text", "key"), [("a:\n  b: 1\nc: 2\na: {b: 3}\n", "a"), ('{"a":\n{"b": 1,\n"c": {},\n"b": 2}}', r"a\.b")]
)
def test_a_key_that_a_file_contains_twice_is_named(text, key, tmp_path):
    once, twice = tmp_path / "once.yaml", tmp_path / "twice.json"
    once.write_text("a: {b: 1}\nc: {b: [{b: 1}, {b: 2}]}\n")
    twice.write_text(text)
    configuration.check(CONFIG, [ROOT / "config/config.yaml", once])
    lines = "2 and 4" if key != "a" else "1 and 4"
    with pytest.raises(InputError, match=rf"twice\.json: key {key}: found in lines {lines}, expected one"):
        configuration.check(CONFIG, [once, twice])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"dataset: a\nseeds: [0\npreset: demo\n", "line 3: not readable as YAML (did not find expected ',' or ']')"),
        (b"- a\n", "found no key at its top level, expected keys with values"),
        (b"", "found no key at its top level, expected keys with values"),
        (b"dataset: a: b\n", "line 1: not readable as YAML (mapping values are not allowed in this context)"),
        ("dataset: ä\n".encode("latin-1"), "not readable as YAML ('utf-8' codec can't decode"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_line(content, message, tmp_path, capsys, monkeypatch):
    (tmp_path / "mine.yaml").write_bytes(content)
    monkeypatch.chdir(ROOT)
    assert main(["plan", "--configfile", str(tmp_path / "mine.yaml")]) == 2
    assert f"error: {tmp_path / 'mine.yaml'}: {message}" in capsys.readouterr().err


def test_a_key_that_the_plan_refuses_comes_with_the_files(tmp_path, capsys, monkeypatch):
    (tmp_path / "mine.yaml").write_text("datasets: {rsna: {folder: absent}}\ndataset: rsna\n")
    monkeypatch.chdir(ROOT)
    assert main(["plan", "--configfile", str(tmp_path / "mine.yaml")]) == 2
    said = f"{tmp_path}/mine.yaml + config/config.yaml + --config: key datasets.rsna.folder: absent: no such file"
    assert said in capsys.readouterr().err


def test_a_missing_key_is_named():
    config = change()
    del config["datasets"]["simulated"]["images"]
    with pytest.raises(InputError, match=r"key datasets\.simulated\.images: missing$"):
        configuration.check(config)
    config["datasets"]["simulated"]["image"] = 100
    with pytest.raises(InputError, match=r"images: missing; found image, is it meant\?"):
        configuration.check(config)


def test_a_path_that_is_null_on_the_command_line_is_none():
    own = {"root": "null", "boxes": "null", "table": "null"}  # a table may not be null, but be called so
    given = {"datasets": {"mine": own}, "predict": {"folder": "null"}}
    expected = {"datasets": {"mine": {"root": None, "boxes": None, "table": "null"}}, "predict": {"folder": None}}
    assert configuration.typed(given) == expected
    assert configuration.typed({"draem": {"textures": "null"}}) == {"draem": {"textures": None}}


def test_numbers_given_as_text_are_numbers():
    given = {"a": ["0", 1, "1e-4", "True"], "b": {"c": "random", "d": "null"}, "epochs": 3.0}
    found = configuration.typed(given)
    assert found == {"a": [0, 1, 1e-4, True], "b": {"c": "random", "d": None}, "epochs": 3}
    assert isinstance(found["epochs"], int)


def test_overrides_replace_single_settings():
    settings = variants.resolve(change(overrides={"modules": {"epochs": 7}}), {})
    assert settings["modules"] == dataclasses.replace(variants.resolve(CONFIG, {})["modules"], epochs=7)


def test_the_paper_preset_is_the_default_of_the_command_line():
    settings = variants.resolve(change(preset="paper"), {})
    assert settings == {name: kind() for name, kind in SECTIONS.items()}


def test_a_preset_states_only_what_differs():
    config = change(presets={"mine": {"modules": {"epochs": 30}}}, preset="mine")
    configuration.check(config)
    settings = variants.resolve(config, {})
    assert settings == {name: kind() for name, kind in SECTIONS.items()} | {"modules": ModuleSettings(epochs=30)}


def test_settings_survive_the_command_line(monkeypatch):
    settings = ModuleSettings(epochs=7, warmup_epochs=1, equal_updates=True, lr=1e-5, augmentation="none")
    given = {}
    monkeypatch.setattr("amae.commands.train_module.train_module", _as(train_module.train_module, given))
    names = ("manifest", "images", "index", "weights", "labels", "trained_module", "history", "record")
    files = [word for name in names for word in (f"--{name}", "x")]
    options = shlex.split(variants.options("modules", settings))
    assert main(["train-module", "--module", "A", *files, *options]) == 0
    assert given["modules"] == settings
    assert isinstance(given["modules"], ModuleSettings)


@pytest.mark.parametrize("ratio", [None, 0.5])
def test_splits_survive_the_command_line(monkeypatch, ratio):
    settings, given = SplitSettings(3, 4, ratio, 1, 2, seed=5), {}
    monkeypatch.setattr("amae.commands.index.index", _as(index.index, given))
    files = [word for name in ("image-table", "manifest", "hidden-labels") for word in (f"--{name}", "x")]
    assert main(["index", *files, *shlex.split(variants.options("splits", settings))]) == 0
    assert given["splits"] == settings


@pytest.mark.parametrize("dataset", ["rsna", "vindr", "nih", "paediatric"])
def test_a_published_set_survives_the_command_line(monkeypatch, dataset):
    config, given = change(), {}
    monkeypatch.setattr("amae.commands.list_images.list_images", _as(list_images.list_images, given))
    monkeypatch.setattr("amae.commands.index.index", _as(index.index, given))
    names = ("image-table", "manifest", "hidden-labels", "boxes")
    files = [word for name in names for word in (f"--{name}", "x")]
    ratio = {"rsna": 0.6, "vindr": 0.6}.get(dataset)
    about = config["datasets"][dataset]
    for words in (
        [
            "list-images",
            *files[:2],
            "--candidates",
            "x",
            *shlex.split(splits.source_candidate_options(config, dataset)),
        ],
        ["index", *files, *shlex.split(splits.source_index_options(config, dataset, ""))],
    ):
        given.clear()
        assert main(words) == 0
        assert (given["source"].dataset, given["source"].anomaly_ratio) == (dataset, ratio)
        assert list(given["source"].sexes) == about.get("sexes", [])
        assert dataclasses.asdict(given["splits"]).items() >= about["splits"].items() if "splits" in about else True


def _as(function, given):
    """A function of the same signature that keeps what it is given."""

    def kept(**options):
        given.update(options)

    kept.__signature__, kept.__doc__, kept.__name__ = inspect.signature(function), function.__doc__, function.__name__
    return kept


def test_a_data_set_may_be_called_by_a_year():
    config = configuration.typed({"dataset": 2024, "experiments": {"audit": [2024], "anomaly_ratios": ["0.5"]}})
    assert config == {"dataset": "2024", "experiments": {"audit": ["2024"], "anomaly_ratios": [0.5]}}


def test_the_manual_explains_every_key():
    manual = (ROOT / "config/README.md").read_text() + (ROOT / "docs/keys.md").read_text()

    def keys_of(schema):
        """Names under any "properties" of a JSON schema."""
        if isinstance(schema, dict):
            yield from schema.get("properties", {})
        for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
            yield from keys_of(part)

    found = set(keys_of(schema())) - METHODS.keys()
    assert {"seeds", "repartition", "equal_updates", "backbones", "normalisation", "anomaly_ratio"} <= found
    assert {key for key in found if f"`{key}`" not in manual} == set()


def test_the_schema_and_the_page_of_settings_are_up_to_date():
    assert json.loads((ROOT / "workflow/schemas/config.schema.json").read_text()) == schema()
    assert (ROOT / "docs/keys.md").read_text() == keys.page()
    first = (ROOT / "config/config.yaml").read_text().splitlines()[0]
    assert (ROOT / "config" / first.partition("$schema=")[2]).is_file()  # by this line an editor finds it
