"""The JSON schema of config.yaml, derived from the settings.

`python -m amae.plan.schema > workflow/schemas/config.schema.json` writes it for editors, which complete and explain
keys by it; the check derives it afresh.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from amae.comparators.methods import METHODS, Method
from amae.method.scores import DESCRIPTIONS
from amae.plan.compared import SHARED
from amae.plan.datasets import OWN_DEFAULTS
from amae.settings import SECTIONS, SplitSettings

_NAME = "^[A-Za-z0-9][A-Za-z0-9_.-]*$"
_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}


def _object(description: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """Schema of a mapping that has these keys and no others."""
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _section(settings: type, complete: bool = False) -> dict[str, Any]:
    """Schema of one section of settings; only where it must be `complete` are those without default required."""
    properties, required = {}, []
    for field in dataclasses.fields(settings):
        kinds = getattr(field.type, "__args__", (field.type,))
        limits = {k: field.metadata[k] for k in ("minimum", "maximum") if field.metadata[k] is not None}
        choices = {"enum": list(field.metadata["choices"])} if field.metadata["choices"] else {}
        names = [_TYPES[kind] for kind in kinds]
        about = {"type": names[0] if len(names) == 1 else names, "description": field.metadata["description"]}
        properties[field.name] = {**about, **limits, **choices}
        required += [field.name] if complete and field.default is dataclasses.MISSING else []
    return _object(settings.__doc__.splitlines()[0], properties, required)


def _count(description: str, minimum: int = 0) -> dict[str, Any]:
    """Schema of a whole number."""
    return {"type": "integer", "minimum": minimum, "description": description}


KINDS = ("simulated", "own", "rsna", "vindr", "nih", "paediatric")
_OPTIONAL_TEXT = {"type": ["string", "null"]}
_RATIO = {"type": ["number", "null"], "minimum": 0, "maximum": 1}


def _splits(kinds: list[str]) -> dict[str, Any]:
    """Schema of splits to draw; null where the table has a split column."""
    made = _section(SplitSettings, complete=True)
    for name in ("train_normal", "unlabeled", "test_normal", "test_abnormal"):
        made["properties"][name]["minimum"] = 1
    return made | {"type": kinds}


def _dataset(kind: str) -> dict[str, Any]:
    """Schema of a data set: what all kinds share, and what is the kind's own."""
    shared = {
        "kind": {"const": kind, "description": "simulated, own (a table of one's own radiographs), or a published set"},
        "weights": {
            "type": "string",
            "description": "f_0 and g_0: embedded (the small MAE of this package), pretrain (on T_n and T_u, in the "
            "workflow), a name of amae/sources/sources.csv, the path of a published .pth or a .safetensors file; or an "
            "encoder for stage 1 and features alone: timm:NAME, a network of timm, or timm:NAME@FILE",
        },
        "conversion": {
            "enum": ["minmax", "voi"],
            "description": "grey levels: minmax as in the published benchmarks, voi through the DICOM window; "
            "left out: voi (kind own alone)",
        },
        "square": {
            "enum": ["squash", "pad", "crop"],
            "description": "how an image becomes square: squash as published, pad, or centre crop",
        },
        "normal_noise": {
            "type": "number",
            "minimum": 0,
            "maximum": 0.5,
            "description": "largest share of T_n that may be abnormal, stated by captions and cards; it changes no "
            "training; left out: none",
        },
        "accept_differences": {
            "type": "boolean",
            "description": "warn, and do not refuse, where T_n and T_u differ by far more than disease; left out: "
            "false",
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
    optional = ("boxes", "sexes", "normal_noise", "accept_differences", *(OWN_DEFAULTS if kind == "own" else ()))
    return _object(f"a data set of kind {kind}", properties, [key for key in properties if key not in optional])


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
        "transfer": _names("data sets whose models are tested on each other"),
        "comparators": _names("comparators of the tables: methods of this project and of installed packages"),
        "anomaly_ratios": {
            "type": "array",
            "items": {"type": "number", "minimum": 0, "maximum": 1},
            "uniqueItems": True,
            "description": "anomaly ratios of the sweep (figure3a); each is a variant, ar0.2 and so on",
        },
        "backbones": _names("variants with other weights, compared at stage 1 (figure3c) and by features (backbones)"),
        "masks": _names("variants with other numbers of masks (masks_ablation)"),
        "decisions": _names("variants that decide an open question otherwise (sensitivity)"),
    }
    return _object("what the experiment targets compute", properties, list(properties))


def schema(methods: Mapping[str, Method] = METHODS) -> dict[str, Any]:
    """JSON schema of config.yaml, every key with its description; it contains no defaults.

    `methods`: comparators with settings; by default those of this project, without installed ones.
    """
    sections = {name: {"$ref": f"#/$defs/{name}"} for name in SECTIONS}
    own = {name: each.settings for name, each in methods.items() if name not in SHARED}
    comparators = {name: _section(settings) for name, settings in own.items()}
    comparators = _object("settings of comparators that differ from their published recipe, by method", comparators, [])
    variant = {name: sections[name] for name in ("stage1", "pseudo_labels", "modules", "reconstruction")} | {
        "anomaly_ratio": {"type": "number", "minimum": 0, "maximum": 1, "description": "share of T_u that is abnormal"},
        "weights": {"type": "string", "description": "f_0 and g_0, as in a data set"},
        "normalisation": {"enum": ["chest", "imagenet"], "description": "what a .pth of one's own was trained with"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": {name: _section(settings) for name, settings in SECTIONS.items()},
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
                "jobs_per_card": _count("jobs that may share a GPU; of several GPUs each job takes a free one", 1),
                "shards": _count("jobs that share the conversion and the search for lungs; 1: one job with workers", 1),
                "gallery": _object(
                    "the gallery of reconstructions",
                    {
                        "score": {
                            "enum": ["auto", *DESCRIPTIONS],
                            "description": "score that ranks the images shown; auto: the one of greatest AUCp",
                        },
                        "rows": _count("images of each kind", 1),
                    },
                    ["score", "rows"],
                ),
                "predict": _object(
                    "new radiographs, scored by the target predictions",
                    {
                        "folder": _OPTIONAL_TEXT | {"description": "folder of the radiographs to score"},
                        "score": {
                            "enum": ["auto", *DESCRIPTIONS],
                            "description": "score that decides what is called abnormal; auto: the one of greatest AUCp",
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
                "overrides": _object("settings that replace those of the preset, by section", sections, []),
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
                    "description": "sets of settings by name: those that differ from the paper's",
                    "additionalProperties": _object("a preset", {**sections, "comparators": comparators}, []),
                },
            },
            [
                "results",
                "dataset",
                "preset",
                "seeds",
                "device",
                "jobs_per_card",
                "shards",
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


if __name__ == "__main__":
    print(json.dumps(schema(), indent=1, ensure_ascii=False))
