"""The check of the workflow's configuration, before anything is planned. A variant is checked where it is used."""

import difflib
import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from amae.comparators.methods import ANOMALIB, NEEDS_ANOMALIB, all_methods, of_anomalib
from amae.plan.compared import SHARED
from amae.plan.schema import schema
from amae.plan.variants import resolve
from amae.plan.weights import fetched_encoders
from amae.runtime.errors import InputError
from amae.settings import from_mapping

# Folders in that of a data set, those of the sweep of the anomaly ratio (ar0.2) among them.
TAKEN = re.compile(r"seed\d+|ar\d[\d.e-]*|pretraining|raw|tables|figures|logs|transfer")
NULLABLE = ("root", "boxes", "folder", "repartition", "metadata", "textures", "backbone")
TEXT = ("results", "dataset", "preset", "table", "weights", *NULLABLE)
NAMES = ("table2", "figure3", "audit", "localisation", "transfer", "comparators", "backbones", "masks", "decisions")


def typed(value: Any) -> Any:
    """Numbers and truth values that arrive as text, as they are; keys whose value is a name or a path stay text.

    Snakemake reads nested values of --config as text ("seeds=[0,1]"), and YAML takes 1e-4 for text. A whole number
    written as 3.0 is 3. A path that may be null is None where it arrives as the text "null".
    """
    if isinstance(value, dict):
        named = {key for key, each in value.items() if key in TEXT or (key in NAMES and isinstance(each, list))}
        return {key: _text(key, each) if key in named else typed(each) for key, each in value.items()}
    if isinstance(value, list):
        return [typed(each) for each in value]
    try:
        value = json.loads(value.lower()) if isinstance(value, str) else value
    except ValueError:
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _text(key: str, value: Any) -> Any:
    """A name, a path or a list of names; a data set may be called 2024, which YAML takes for a number."""
    if isinstance(value, list):
        return [_text(key, each) for each in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return None if key in NULLABLE and value in ("null", "~") else value


def check(config: dict[str, Any], files: Sequence[str | Path] = ("config/config.yaml",)) -> None:
    """Raise InputError for the first key of a configuration that is unknown, missing, of a wrong kind or contradictory.

    `files`, YAML or JSON, are those that the configuration was read from.
    """
    from jsonschema import Draft202012Validator

    for file in files:
        check_file(file)
    source = _source(files)
    errors = sorted(
        Draft202012Validator(schema(all_methods())).iter_errors(config), key=lambda error: len(error.absolute_path)
    )
    if errors:
        raise InputError(f"{source}: {_explain(errors[0])}")
    for key, value in _values(config):
        if wrong := _wrong(key, value):
            raise InputError(f"{source}: key {key}: {wrong}")
    for table in ("datasets", "variants", "presets"):
        for name in config[table]:
            if not isinstance(name, str):
                raise InputError(f"{source}: key {table}.{name}: found {name!r}, expected a name; write it in quotes")
    for name in config["variants"]:
        if TAKEN.fullmatch(name):
            raise InputError(f"{source}: key variants.{name}: the workflow has a folder of that name; choose another")
    for key, table in [("dataset", "datasets"), ("preset", "presets")]:
        if config[key] not in config[table]:
            names = ", ".join(sorted(config[table]))
            raise InputError(f"{source}: key {key}: found {config[key]!r}, expected one of {table}: {names}")
    _check_experiments(config, source)
    try:
        fetched_encoders(config)
        resolve(config, {})
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def _source(files: Sequence[str | Path]) -> str:
    return " + ".join([*map(str, files), "--config"])


def with_source(error: InputError, files: Sequence[str | Path]) -> str:
    """What an error says; one about a key, after the files that the configuration was read from."""
    return f"{_source(files)}: {error}" if re.match(r"(variant \S+: )?key ", str(error)) else str(error)


def check_file(path: str | Path) -> None:
    """Raise InputError for a configuration file that is no YAML, or has no key or one twice: the last would count."""
    try:
        nodes = [(yaml.compose(Path(path).read_text("utf-8"), yaml.CSafeLoader), "")]
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = f"line {mark.line + 1}: " if (mark := getattr(error, "problem_mark", None)) else ""
        what = getattr(error, "problem", None) or (
            error.reason if isinstance(error, yaml.reader.ReaderError) else error
        )
        raise InputError(f"{path}: {line}not readable as YAML ({what})") from None
    if not isinstance(nodes[0][0], yaml.MappingNode):
        raise InputError(f"{path}: found no key at its top level, expected keys with values")
    while nodes:
        node, above = nodes.pop()
        lines: dict[str, int] = {}
        for name, value in node.value if isinstance(node, yaml.MappingNode) else []:
            key, line = f"{above}{name.value}", name.start_mark.line + 1
            if key in lines:
                raise InputError(f"{path}: key {key}: found in lines {lines[key]} and {line}, expected one")
            lines[key] = line
            nodes.append((value, f"{key}."))


def _values(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value below a key, with its own dotted key; those of a list share the list's."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _values(each, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        for each in value:
            yield from _values(each, key)
    else:
        yield key, value


def _wrong(key: str, value: Any) -> str | None:
    """The fault of a value that the schema accepts; None for a right one."""
    if isinstance(value, str) and value.startswith("-") and key.rpartition(".")[2] in TEXT:
        return "begins with a dash, as options do; write ./ before it"
    if key == "results" and set("{}") & set(value):
        return f"found {value!r}, expected a folder without braces, which Snakemake takes for wildcards"
    if isinstance(value, float) and not math.isfinite(value):
        return f"found {value}, expected a finite number"
    return None


def _check_experiments(config: dict[str, Any], source: str) -> None:
    """Raise InputError for a name in experiments that stands for nothing, or settings that a comparator refuses."""
    methods = all_methods()
    known = dict.fromkeys(("table2", "figure3", "audit", "localisation", "transfer"), config["datasets"])
    known |= dict.fromkeys(("backbones", "masks", "decisions"), config["variants"]) | {"comparators": methods}
    for key, names in known.items():
        for name in config["experiments"][key]:
            if name not in names:
                lacking = name.startswith(ANOMALIB) and not of_anomalib()
                expected = NEEDS_ANOMALIB if lacking else f"expected some of {', '.join(sorted(names))}"
                raise InputError(f"{source}: key experiments.{key}: found {name!r}, {expected}")
    for preset, settings in config["presets"].items():
        for name, given in settings.get("comparators", {}).items():
            key = f"presets.{preset}.comparators.{name}"
            if name not in methods:
                raise InputError(f"{source}: key {key}: expected some of {', '.join(methods)}")
            if name in SHARED:
                raise InputError(f"{source}: key {key}: unknown; it takes the settings of {' and '.join(SHARED[name])}")
            try:
                from_mapping(methods[name].settings, given)
            except InputError as error:
                raise InputError(f"{source}: key {key}.{error}") from None


def _explain(error: Any) -> str:
    """One sentence for a schema error: the key, what was found, what was expected."""
    path = ".".join(str(part) for part in error.absolute_path)
    if error.validator == "additionalProperties":
        known = list(error.schema["properties"])
        unknown = next(key for key in error.instance if key not in known)
        close = difflib.get_close_matches(str(unknown), known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(known)}"
        return f"key {path + '.' if path else ''}{unknown}: unknown; {hint}"
    if error.validator == "required":
        missing = next(key for key in error.schema["required"] if key not in error.instance)
        unknown = [str(key) for key in error.instance if key not in error.schema.get("properties", {})]
        close = difflib.get_close_matches(missing, unknown, n=1)
        hint = f"; found {close[0]}, is it meant?" if close else ""
        return f"key {path + '.' if path else ''}{missing}: missing{hint}"
    expected = {
        "type": lambda v: f"a value of type {' or '.join(v) if isinstance(v, list) else v}",
        "enum": lambda v: f"one of {', '.join(map(str, v))}",
        "const": lambda v: str(v),
        "minimum": lambda v: f"at least {v}",
        "maximum": lambda v: f"at most {v}",
        "exclusiveMinimum": lambda v: f"more than {v}",
        "exclusiveMaximum": lambda v: f"less than {v}",
        "minItems": lambda v: f"at least {v} item",
        "uniqueItems": lambda v: "no value twice",
        "pattern": lambda v: "a name of letters, digits, _, . and -, the first a letter or digit",
    }.get(error.validator, lambda v: f"{error.validator} {v}")
    return f"key {path or 'configuration'}: found {error.instance!r}, expected {expected(error.validator_value)}"
