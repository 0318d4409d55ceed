"""The folder of results, the code behind a job, the cores that it takes, and the jobs that share a step."""

import os
import sys
from pathlib import Path
from typing import Any

import yaml

from amae.plan.captions import caption_of
from amae.plan.paths import results_of
from amae.runtime.errors import InputError
from amae.runtime.files import atomic
from amae.runtime.fingerprint import fingerprint
from amae.runtime.lock import claim, has_nvidia
from amae.runtime.provenance import other_versions

ALL_CORES = 64  # as many as Snakemake was given, up to these
HEADER = "# The configuration of the last run in this folder, as merged from all files and options.\n"
LIMITED = "note: --resources gpu=N is a limit for the whole cluster: N jobs with a GPU at a time; leave it out for more"


def check_results(config: dict[str, Any]) -> None:
    """Raise InputError where a file is in the place of the folder of results, or of one that contains it."""
    for folder in (Path(config["results"]), *Path(config["results"]).parents):
        if folder.exists() and not folder.is_dir():
            raise InputError(f"key results: {config['results']}: cannot be written to (Not a directory: {folder})")


def hold_results(config: dict[str, Any]) -> None:
    """Raise InputError where another run is at work in the folder of results; else keep others out of it.

    Results of other versions of the packages are named, and the configuration is written to `config.yaml` there.
    """
    claim(results_of(config))
    write_configuration(config)
    for line in other_versions(results_of(config)):
        print(f"note: {line}", file=sys.stderr)


def write_configuration(config: dict[str, Any]) -> None:
    """Write the configuration of this run, merged from all files and options, where the last run had another."""
    path = Path(results_of(config), "config.yaml")
    text = HEADER + yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=120)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        with atomic(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def note_report(config: dict[str, Any]) -> None:
    """Print a warning where captions of a report get other settings than the last run in the folder of results had.

    Snakemake takes them from the configuration of the call that makes the report (`--report`).
    """
    if not any(word.partition("=")[0] == "--report" for word in sys.argv):
        return
    path = Path(results_of(config), "config.yaml")
    for dataset in filter(lambda name: path.with_name(name).is_dir(), config["datasets"] if path.is_file() else ()):
        if _caption_of_last(path, dataset) != caption_of(config, dataset):
            print(
                f"warning: captions of {dataset} get the settings of this call, and the last run had others ({path}): "
                "give the options of the run whose results are shown",
                file=sys.stderr,
            )


def _caption_of_last(path: Path, dataset: str) -> str | None:
    """The caption by the configuration of the last run; None where that is of another version, or damaged."""
    try:
        return caption_of(yaml.safe_load(path.read_text(encoding="utf-8")), dataset)
    except (InputError, KeyError, TypeError, AttributeError, ValueError, yaml.YAMLError):
        return None


def code_of(command: str) -> str:
    """Fingerprint of all code behind a command, so that an edit reruns exactly what it touches."""
    return fingerprint(f"amae.commands.{command}")


def cores_of(config: dict[str, Any]) -> int:
    """Cores of a job with a network: all, but two where it has a GPU, so that other jobs run beside it."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") != ""
    return 2 if config["device"] != "cpu" and visible and has_nvidia() else ALL_CORES


def shards_of(config: dict[str, Any]) -> list[int]:
    """Numbers of the jobs that share the conversion, or the search for lungs; none where one job does it."""
    return list(range(1, config["shards"] + 1)) if config["shards"] > 1 else []
