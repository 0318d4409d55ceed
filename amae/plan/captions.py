"""Sentences of a caption: departures of a run from the paper, and the limits of its figures."""

import json
from pathlib import Path
from typing import Any

import yaml

from amae.comparators.methods import method_of
from amae.plan.compared import own_settings
from amae.plan.datasets import BENCHMARKS, OWN_DEFAULTS, has_unlabeled, printed_kind
from amae.plan.paths import PACKAGE
from amae.plan.splits import published_set
from amae.plan.variants import resolve
from amae.plan.weights import RESNET18, title_of
from amae.settings import SECTIONS, from_mapping
from amae.sources.published import unpublished_lists

# What the paper does with a data set, where a key allows something else.
PAPER = {"weights": "weights-vit-s-cxr", "conversion": "minmax", "square": "squash", "patient_disjoint": False}
PAPER_WEIGHTS = ("weights-vit-s-cxr", "vit-s_CXR_0.3M_mae.pth")  # by name, or as a file of one's own
SHIPPED = {"demo": PACKAGE / "plan/demo.yaml"}  # presets whose name stands for their values
RATIOS = {"rsna": 0.6, "vindr": 0.6, "nih": None}  # anomaly ratio of T_u in Table 2; NIH has no T_u
SEEDS = 4
NOT_DISEASE = {
    "paediatric": "No figure on this set shows how well disease is seen: it has a strong shortcut.",
    "simulated": "No figure on simulated radiographs shows how well disease is seen.",
}


def departures(config: dict[str, Any], dataset: str) -> list[str]:
    """Each setting of the main run on a data set that is not the paper's: "preset demo", "weights pretrain".

    The name of a shipped preset stands for its values as shipped, that of an own one for those of the configuration;
    any other value is named.
    """
    about = OWN_DEFAULTS | config["datasets"][dataset]
    kind = about["kind"]
    found = [] if kind in BENCHMARKS else [f"data set of kind {kind}"]
    name = config["preset"]
    own = "" if name in SHIPPED else f" (own: presets.{name} of config.yaml in the folder of results)"
    found += [] if name == "paper" else [f"preset {name}{own}"]
    found += _settings(config)
    for key, value in PAPER.items():
        if about.get(key, value) != value and not (key == "weights" and Path(about[key]).name in PAPER_WEIGHTS):
            found.append(f"{key} {title_of(about[key]) if key == 'weights' else str(about[key]).lower()}")
    if kind in BENCHMARKS:
        found += [f"repartition {path.name}" for path in unpublished_lists(published_set(config, dataset, None))]
    found += [f"sexes {sex}" for sex in about.get("sexes", []) if len(about["sexes"]) == 1]
    if kind in RATIOS and (ratio := about["anomaly_ratio"]) != RATIOS[kind]:
        found.append("no unlabeled images" if ratio is None else f"anomaly ratio {ratio:g}")
    count = len(config["seeds"])
    return found if count == SEEDS else [*found, f"{count} seed{'s' if count > 1 else ''} instead of {SEEDS}"]


def _settings(config: dict[str, Any]) -> list[str]:
    """Settings, of comparators too, that are neither the paper's nor those that the preset's name stands for."""
    preset = config["preset"]
    known = {} if preset == "paper" else config["presets"][preset]
    if path := SHIPPED.get(preset):
        known = yaml.safe_load(path.read_text("utf-8"))
    recipes = known.get("comparators", {})
    pairs = [(name, of, SECTIONS[name](**known.get(name, {}))) for name, of in resolve(config, {}).items()]
    for name in config["presets"][preset].get("comparators", {}) | recipes:
        base = from_mapping(method_of(name).settings, recipes.get(name, {}))
        pairs.append((f"comparators.{name}", own_settings(config, name), base))
    changed = [(f"{name}.{key}", v) for name, of, base in pairs for key, v in vars(of).items() if v != vars(base)[key]]
    shown = [(key, title_of(value) if isinstance(value, str) else json.dumps(value)) for key, value in changed]
    return [f"{key} {value}" for key, value in shown if value != RESNET18]  # a copy of one's own of the usual file


def caveats(config: dict[str, Any], dataset: str, unlabeled: bool) -> str:
    """Sentences for the caption of every table on a data set, "" for the paper's run; unlabeled: has it T_u?"""
    about, sentences = config["datasets"][dataset], []
    if about["weights"] == "pretrain":
        seen = "Under protocol N too, f_0 was pre-trained on T_n and T_u" if unlabeled else "f_0 was pre-trained on T_n"
        once = "without labels, and once for all seeds and anomaly ratios: ± leaves its variance out."
        sentences.append(f"{seen}, {once}")
    if noise := about.get("normal_noise", 0):
        sentences.append(f"Up to {noise:.3g} of T_n may be abnormal, as stated for this data set.")
    if about.get("accept_differences"):
        sentences.append("Differences between T_n and T_u beyond disease were accepted for this data set.")
    if found := departures(config, dataset):
        sentences.append(f"Not the paper's settings: {', '.join(found)}.")
        if printed_kind(config, dataset) in BENCHMARKS:
            sentences.append("Printed values are for orientation.")
    return " ".join([*sentences, *([NOT_DISEASE[about["kind"]]] if about["kind"] in NOT_DISEASE else [])])


def caption_of(config: dict[str, Any], dataset: str) -> str:
    """`caveats` of a data set as the configuration has it."""
    return caveats(config, dataset, has_unlabeled(config, dataset))


def settings_shown(config: dict[str, Any], dataset: str) -> str:
    """Settings that the first page of the report lists, as a JSON object of texts."""
    about = config["datasets"][dataset]
    differs = ", ".join(departures(config, dataset)) or "nothing"
    return json.dumps(
        {
            "preset": config["preset"],
            "seeds": ", ".join(map(str, config["seeds"])),
            "kind of data": about["kind"],
            "weights": title_of(about["weights"]),
            "differs from the paper in": differs,
            "all settings": f"{config['results'].rstrip('/')}/config.yaml",
        }
    )
