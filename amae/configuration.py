"""The workflow's configuration: its schema, its check, and the settings that follow from preset and overrides."""

import dataclasses
import difflib
import json
import shlex
import sys
from typing import Any

from amae.errors import InputError
from amae.settings import SECTIONS

_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean"}


def _object(description: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """Schema of a mapping that has these keys and no others."""
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _section(settings: type, complete: bool) -> dict[str, Any]:
    """Schema of one section of settings; a preset is complete, overrides are not."""
    properties = {}
    for field in dataclasses.fields(settings):
        limits = {k: field.metadata[k] for k in ("minimum", "maximum") if field.metadata[k] is not None}
        choices = {"enum": list(field.metadata["choices"])} if field.metadata["choices"] else {}
        properties[field.name] = {
            "type": _TYPES[field.type],
            "description": field.metadata["description"],
            **limits,
            **choices,
        }
    return _object(settings.__doc__.splitlines()[0], properties, list(properties) if complete else [])


def _count(description: str, minimum: int = 0) -> dict[str, Any]:
    """Schema of a whole number."""
    return {"type": "integer", "minimum": minimum, "description": description}


def _dataset(kind: str) -> dict[str, Any]:
    """Schema of a data set: what both kinds share, and what is the kind's own."""
    shared = {
        "kind": {"const": kind, "description": "simulated, or own: a table of one's own radiographs"},
        "weights": {
            "type": "string",
            "description": "f_0 and g_0: embedded (the small MAE of this package), pretrain (on T_n and T_u, in the "
            "workflow), or the path of a published .pth or a .safetensors file",
        },
        "conversion": {
            "enum": ["minmax", "voi"],
            "description": "grey levels: minmax as in the published benchmarks, voi through the DICOM window",
        },
        "square": {
            "enum": ["squash", "pad", "crop"],
            "description": "how an image becomes square: squash as published, pad, or centre crop",
        },
        "allowed_failures": _count("images that may be unreadable before the run stops; they are listed"),
        "splits": _object(
            "splits to draw, patient-disjoint between training and test; null where the table has a split column",
            {
                "train_normal": _count("images of T_n", 1),
                "unlabeled": _count("images of T_u", 1),
                "anomaly_ratio": {
                    "type": ["number", "null"],
                    "minimum": 0,
                    "maximum": 1,
                    "description": "share of T_u that is abnormal; null: T_u is drawn from the images without label",
                },
                "test_normal": _count("normal test images", 1),
                "test_abnormal": _count("abnormal test images", 1),
                "seed": _count("seed of the draw"),
            },
            ["train_normal", "unlabeled", "anomaly_ratio", "test_normal", "test_abnormal", "seed"],
        ),
    }
    if kind == "simulated":
        own = {
            "images": _count("radiographs to simulate", 1),
            "seed": _count("seed of the simulation; an image is determined by it and by its number"),
            "abnormal": {"type": "number", "minimum": 0, "maximum": 1, "description": "share with a finding"},
        }
    else:
        shared["splits"]["type"] = ["object", "null"]
        own = {
            "table": {
                "type": "string",
                "description": "CSV of images: path, and where known label, patient_id, view, split, ...",
            },
            "root": {
                "type": ["string", "null"],
                "description": "folder that the table's paths start from; null: the table's folder",
            },
        }
    return _object(f"a data set of kind {kind}", {**shared, **own}, list({**shared, **own}))


def schema() -> dict[str, Any]:
    """JSON schema of config.yaml, every key with its description; it holds no defaults."""
    sections = {name: _section(settings, complete=True) for name, settings in SECTIONS.items()}
    overrides = {name: _section(settings, complete=False) for name, settings in SECTIONS.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_object(
            "configuration of the amae workflow",
            {
                "results": {"type": "string", "description": "folder of everything that is computed"},
                "dataset": {"type": "string", "description": "data set to run on: a key of datasets"},
                "preset": {"type": "string", "description": "settings to run with: a key of presets"},
                "seeds": {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 0},
                    "minItems": 1,
                    "uniqueItems": True,
                    "description": "replicates: one training of everything for each seed",
                },
                "device": {
                    "enum": ["auto", "cpu", "cuda"],
                    "description": "auto: a GPU where there is one; cuda: fail without one. "
                    "--resources gpu=0 forces the CPU",
                },
                "gallery": _object(
                    "the gallery of reconstructions",
                    {
                        "score": {"type": "string", "description": "score that ranks the images shown"},
                        "rows": _count("images of each kind", 1),
                    },
                    ["score", "rows"],
                ),
                "overrides": _object("settings that replace those of the preset, by section", overrides, []),
                "datasets": {
                    "type": "object",
                    "description": "data sets by name",
                    "propertyNames": {"pattern": "^[A-Za-z0-9][A-Za-z0-9_-]*$"},
                    "additionalProperties": {
                        "type": "object",
                        "properties": {"kind": {"enum": ["simulated", "own"]}},
                        "required": ["kind"],
                        "if": {"properties": {"kind": {"const": "simulated"}}},
                        "then": _dataset("simulated"),
                        "else": {
                            "if": {"properties": {"kind": {"const": "own"}}},
                            "then": _dataset("own"),
                        },
                    },
                },
                "presets": {
                    "type": "object",
                    "description": "complete sets of settings by name",
                    "additionalProperties": _object("a preset", sections, list(sections)),
                },
            },
            [
                "results",
                "dataset",
                "preset",
                "seeds",
                "device",
                "gallery",
                "overrides",
                "datasets",
                "presets",
            ],
        ),
    }


def typed(value: Any) -> Any:
    """Numbers and truth values that arrive as text, as they are.

    Snakemake reads nested values of --config as text ("seeds=[0,1]"), and YAML takes 1e-4 for text.
    """
    if isinstance(value, dict):
        return {key: typed(each) for key, each in value.items()}
    if isinstance(value, list):
        return [typed(each) for each in value]
    try:
        return json.loads(value.lower()) if isinstance(value, str) else value
    except ValueError:
        return value


def check(config: dict[str, Any], source: str = "config/config.yaml") -> None:
    """Raise InputError for the first key of a configuration that is unknown, missing, of a wrong kind or contradictory.

    `source` is what the message calls the configuration.
    """
    from jsonschema import Draft202012Validator

    errors = sorted(Draft202012Validator(schema()).iter_errors(config), key=lambda error: len(error.absolute_path))
    if errors:
        raise InputError(f"{source}: {_explain(errors[0])}")
    for key, table in [("dataset", "datasets"), ("preset", "presets")]:
        if config[key] not in config[table]:
            names = ", ".join(sorted(config[table]))
            raise InputError(f"{source}: key {key}: found {config[key]!r}, expected one of {table}: {names}")
    try:
        resolve(config)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


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
        return f"key {path + '.' if path else ''}{missing}: missing"
    expected = {
        "type": lambda v: f"a value of type {' or '.join(v) if isinstance(v, list) else v}",
        "enum": lambda v: f"one of {', '.join(map(str, v))}",
        "const": lambda v: str(v),
        "minimum": lambda v: f"at least {v}",
        "maximum": lambda v: f"at most {v}",
        "minItems": lambda v: f"at least {v} item",
        "uniqueItems": lambda v: "no value twice",
        "pattern": lambda v: "a name of letters, digits, _ and -",
    }.get(error.validator, lambda v: f"{error.validator} {v}")
    return f"key {path or 'configuration'}: found {error.instance!r}, expected {expected(error.validator_value)}"


def resolve(config: dict[str, Any]) -> dict[str, Any]:
    """Settings by section: the preset with its overrides. Raises InputError, naming the keys, on contradiction."""
    from amae.mae.architecture import Architecture

    preset, overrides = config["presets"][config["preset"]], config["overrides"]
    settings = {}
    for name, kind in SECTIONS.items():
        try:
            settings[name] = kind(**preset[name] | overrides.get(name, {}))
        except InputError as error:
            raise InputError(f"key {name}.{error}") from None
    Architecture(**dataclasses.asdict(settings["mae"]))
    return settings


def options(settings: Any) -> str:
    """Settings as command-line options, quoted for a shell: `--epochs 30 --lr 0.00025`."""
    words = []
    for name, value in dataclasses.asdict(settings).items():
        option = name.replace("_", "-")
        words += [f"--{'' if value else 'no-'}{option}"] if isinstance(value, bool) else [f"--{option}", str(value)]
    return shlex.join(words)


def main() -> None:
    """Print the schema as YAML."""
    import yaml

    sys.stdout.write("# Made by `uv run python -m amae.configuration`; a test holds it to amae/settings.py.\n")
    yaml.safe_dump(schema(), sys.stdout, sort_keys=False, width=110)


if __name__ == "__main__":
    main()
