"""The methods that a table or figure shows, as the workflow names them: which score of which tables."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from amae.evaluation.results import replicates_of
from amae.evaluation.tables import join_scores, tested_images
from amae.runtime.errors import InputError, naming

KEYS = {"method", "protocol", "taxonomy", "score", "scores"}
OPTIONAL = ("note", "anomaly_ratio", "reference")
Row = tuple[dict[str, Any], list[pd.DataFrame]]  # what is said of a method, and its scores of every seed


def replicates_of_rows(rows: Sequence[Row]) -> pd.DataFrame:
    """A line for each method and seed, with its metrics and the anomaly ratio and reference that it names."""
    found = []
    for about, tables in rows:
        known = {key: value for key, value in about.items() if key not in OPTIONAL[1:]}
        with naming("--methods"):
            more = {key: about.get(key, "") for key in OPTIONAL[1:]}
            found.append(replicates_of(tables, **known).assign(**more))
    return pd.concat(found, ignore_index=True)


def scores_of_rows(methods: str, manifest: Path, index: Path) -> list[Row]:
    """Methods with their scores of every seed: image_id, label (the manifest's) and the scores of the method's table.

    `methods` is a JSON list of {method, protocol, taxonomy, score, scores [, note, anomaly_ratio, reference]}, where
    `scores` is the table of each seed, `score` is named folder/column, as in ddad_Y/ddad_inter, and `reference` is the
    method that this one is tested against, if not that of the whole table.
    """
    images = tested_images(manifest, index).drop(columns="view")
    images = images[images["label"] != ""]
    found = []
    for about in parse_json(methods, "--methods", list):
        if not isinstance(about, dict) or not KEYS <= set(about) <= KEYS | set(OPTIONAL):
            raise InputError(
                f"--methods: {about}; expected the keys method, protocol, taxonomy, score and scores (a list of "
                f"files), and at most {', '.join(OPTIONAL)}"
            )
        found.append((about, [join_scores(images, [path]) for path in paths_of(about.pop("scores"), "--methods")]))
    if not found:
        raise InputError("--methods: no method given")
    return found


def paths_of(files: Any, option: str) -> list[Path]:
    """Paths among the JSON of an option; InputError, naming the option, for anything but a list of text."""
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise InputError(f"{option}: found {files!r}, expected a list of files")
    return [Path(file) for file in files]


def parse_json(text: str, option: str, kind: type) -> Any:
    """The value of an option that takes JSON; InputError, naming the option, for anything but a list or an object."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputError(f"{option} {text[:80]}: not JSON ({error})") from None
    if not isinstance(value, kind):
        raise InputError(f"{option}: found {text[:80]}, expected JSON of {'an object' if kind is dict else 'a list'}")
    return value
