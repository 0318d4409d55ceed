"""The JSON schema of config.yaml, derived from the settings (`python -m amae.plan.schema` prints it)."""

import dataclasses
import sys
from typing import Any

from amae.method.scores import DESCRIPTIONS
from amae.settings import SECTIONS

_NAME = "^[A-Za-z0-9][A-Za-z0-9_.-]*$"
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


KINDS = ("simulated", "own", "rsna", "vindr", "nih", "paediatric")
_OPTIONAL_TEXT = {"type": ["string", "null"]}
_RATIO = {"type": ["number", "null"], "minimum": 0, "maximum": 1}


def _splits(kinds: list[str]) -> dict[str, Any]:
    """Schema of splits to draw."""
    properties = {
        "train_normal": _count("images of T_n", 1),
        "unlabeled": _count("images of T_u", 1),
        "anomaly_ratio": _RATIO
        | {"description": "share of T_u that is abnormal; null: T_u is drawn from the images without label"},
        "test_normal": _count("normal test images", 1),
        "test_abnormal": _count("abnormal test images", 1),
        "seed": _count("seed of the draw"),
        "calibration": _count("normal images kept from training and test, to tell how normal images score (optional)"),
    }
    meaning = "splits to draw, patient-disjoint between training and test; null where the table has a split column"
    required = [name for name in properties if name != "calibration"]
    return _object(meaning, properties, required) | {"type": kinds}


def _dataset(kind: str) -> dict[str, Any]:
    """Schema of a data set: what all kinds share, and what is the kind's own."""
    shared = {
        "kind": {"const": kind, "description": "simulated, own (a table of one's own radiographs), or a published set"},
        "weights": {
            "type": "string",
            "description": "f_0 and g_0: embedded (the small MAE of this package), pretrain (on T_n and T_u, in the "
            "workflow), a name of amae/sources/sources.csv, or the path of a published .pth or a .safetensors file",
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
    }
    folder = _OPTIONAL_TEXT | {"description": "folder of the images; null: fetched, where that is allowed"}
    published = {
        "folder": folder,
        "repartition": _OPTIONAL_TEXT | {"description": "repartition file or folder of lists; null: in the folder"},
        "metadata": _OPTIONAL_TEXT | {"description": "folder of further tables (mapping to NIH, pre-training list)"},
        "anomaly_ratio": _RATIO | {"description": "share of T_u that is abnormal; null: no T_u, protocol N only"},
        "patient_disjoint": {
            "type": "boolean",
            "description": "leave out of T_n and T_u the images of patients who are also in the test set",
        },
    }
    own = {
        "simulated": {
            "images": _count("radiographs to simulate", 1),
            "seed": _count("seed of the simulation; an image is determined by it and by its number"),
            "abnormal": {"type": "number", "minimum": 0, "maximum": 1, "description": "share with a finding"},
            "splits": _splits(["object"]),
        },
        "own": {
            "table": {
                "type": "string",
                "description": "CSV of images: path, and where known label, patient_id, view, split, ...",
            },
            "root": _OPTIONAL_TEXT
            | {"description": "folder that the table's paths start from; null: the table's folder"},
            "boxes": _OPTIONAL_TEXT
            | {"description": "CSV of finding boxes, in pixels of the original; null, or left out: none"},
            "splits": _splits(["object", "null"]),
        },
        "paediatric": {"folder": folder, "splits": _splits(["object"])},
        "nih": published
        | {
            "sexes": {
                "type": "array",
                "items": {"enum": ["M", "F"]},
                "minItems": 1,
                "uniqueItems": True,
                "description": "whose images: M, F; left out: both",
            },
        },
    }.get(kind, published)
    properties = {**shared, **own}
    return _object(
        f"a data set of kind {kind}", properties, [key for key in properties if key not in ("boxes", "sexes")]
    )


def _names(description: str) -> dict[str, Any]:
    """Schema of a list of names."""
    return {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "description": description}


def _experiments() -> dict[str, Any]:
    """Schema of what the experiment targets compute."""
    properties = {
        "table2": _names("data sets of table2"),
        "figure3": _names("data sets of figure3a, figure3b, figure3c, masks_ablation and sensitivity"),
        "audit": _names("data sets of the audit"),
        "localisation": _names("data sets with boxes"),
        "comparators": _names("comparators of the tables: modules of amae.comparators"),
        "anomaly_ratios": {
            "type": "array",
            "items": {"type": "number", "minimum": 0, "maximum": 1},
            "uniqueItems": True,
            "description": "anomaly ratios of the sweep (figure3a); each is a variant, ar0.2 and so on",
        },
        "backbones": _names("variants with other weights, compared at stage 1 (figure3c)"),
        "masks": _names("variants with other numbers of masks (masks_ablation)"),
        "decisions": _names("variants that decide an open question otherwise (sensitivity)"),
    }
    return _object("what the experiment targets compute", properties, list(properties))


def schema() -> dict[str, Any]:
    """JSON schema of config.yaml, every key with its description; it holds no defaults."""
    sections = {name: _section(settings, complete=True) for name, settings in SECTIONS.items()}
    overrides = {name: _section(settings, complete=False) for name, settings in SECTIONS.items()}
    comparators = {
        "comparators": {
            "type": "object",
            "description": "settings of comparators that replace their published recipe, by method",
            "additionalProperties": {"type": "object"},
        }
    }
    variant = {name: overrides[name] for name in ("stage1", "pseudo_labels", "modules", "reconstruction")} | {
        "anomaly_ratio": {"type": "number", "minimum": 0, "maximum": 1, "description": "share of T_u that is abnormal"},
        "weights": {"type": "string", "description": "f_0 and g_0, as in a data set"},
        "normalisation": {"enum": ["chest", "imagenet"], "description": "what a .pth of one's own was trained with"},
    }
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
                        "score": {"enum": list(DESCRIPTIONS), "description": "score that ranks the images shown"},
                        "rows": _count("images of each kind", 1),
                    },
                    ["score", "rows"],
                ),
                "predict": _object(
                    "new radiographs, scored by the target predictions",
                    {
                        "folder": _OPTIONAL_TEXT | {"description": "folder of the radiographs to score"},
                        "score": {
                            "enum": list(DESCRIPTIONS),
                            "description": "score that decides what is called abnormal",
                        },
                        "specificity": {
                            "type": "number",
                            "exclusiveMinimum": 0,
                            "exclusiveMaximum": 1,
                            "description": "share of normal images to call normal",
                        },
                    },
                    ["folder", "score", "specificity"],
                ),
                "overrides": _object("settings that replace those of the preset, by section", overrides, []),
                "variants": {
                    "type": "object",
                    "description": "departures from the main run by name, for comparison with it",
                    "propertyNames": {"pattern": _NAME},
                    "additionalProperties": _object("what a variant changes", variant, []),
                },
                "experiments": _experiments(),
                "datasets": {
                    "type": "object",
                    "description": "data sets by name",
                    "propertyNames": {"pattern": _NAME},
                    "additionalProperties": {
                        "type": "object",
                        "properties": {"kind": {"enum": list(KINDS)}},
                        "required": ["kind"],
                        "allOf": [
                            {"if": {"properties": {"kind": {"const": kind}}}, "then": _dataset(kind)} for kind in KINDS
                        ],
                    },
                },
                "presets": {
                    "type": "object",
                    "description": "complete sets of settings by name",
                    "additionalProperties": _object("a preset", {**sections, **comparators}, list(sections)),
                },
            },
            [
                "results",
                "dataset",
                "preset",
                "seeds",
                "device",
                "gallery",
                "predict",
                "overrides",
                "variants",
                "experiments",
                "datasets",
                "presets",
            ],
        ),
    }


def main() -> None:
    """Print the schema as YAML."""
    import yaml

    sys.stdout.write("# Made by `uv run python -m amae.plan.schema`; a test holds it to amae/settings.py.\n")
    yaml.safe_dump(schema(), sys.stdout, sort_keys=False, width=110)


if __name__ == "__main__":
    main()
