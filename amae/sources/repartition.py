"""Published repartition files: which image is in which set, and the unlabeled set T_u for an anomaly ratio."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from amae.runtime.errors import InputError
from amae.settings import SplitSettings


@dataclass(frozen=True)
class Published:
    """Images of each list as published; `unlabeled` is the size of T_u, drawn from the pool."""

    train_normal: int
    pool_normal: int
    pool_abnormal: int
    unlabeled: int
    test_normal: int
    test_abnormal: int


def unlabeled_counts(unlabeled: int, anomaly_ratio: float | None) -> dict[str, int]:
    """Images of T_u by label: round(unlabeled * anomaly_ratio) are abnormal; without a ratio no label is known."""
    if anomaly_ratio is None:
        return {"": unlabeled}
    abnormal = round(unlabeled * anomaly_ratio)
    return {"normal": unlabeled - abnormal, "abnormal": abnormal}


PLACES = {
    "train_normal": ("train", "0"),
    "pool_normal": ("train", "unlabeled", "0"),
    "pool_abnormal": ("train", "unlabeled", "1"),
    "test_normal": ("test", "0"),
    "test_abnormal": ("test", "1"),
}


def read_repartition(path: str | Path, published: Published, pool: bool) -> dict[str, list[str]]:
    """Image names without suffix, in published order, by list name (the fields of Published but `unlabeled`).

    The form is DDAD's: {"train": {"0": [...], "unlabeled": {"0": [...], "1": [...]}}, "test": {"0": [...], "1": [...]}}
    with file names. The pool of T_u is read when `pool`. Raises InputError: not of this form, other counts than
    published, a name twice.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected a file in DDAD's form") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from None
    lists = {}
    for name, keys in PLACES.items():
        if not pool and name.startswith("pool"):
            continue
        lists[name] = [Path(image).stem for image in _names_at(content, keys, path)]
        found, expected = len(lists[name]), getattr(published, name)
        if found != expected:
            raise InputError(
                f"{path}: {' > '.join(keys)} has {found} images, published are {expected} ({name}); "
                "use the published repartition file"
            )
    check_distinct(lists, path)
    return lists


def without_test_patients(
    lists: Mapping[str, list[str]], patients: Mapping[str, str], source: str | Path
) -> dict[str, list[str]]:
    """The lists without the training images of patients who are also in the test set, in the same order.

    The test set stays as published, so that results on it can be compared. `patients` maps an image to its patient; an
    image whose patient is unknown stays. Reports on stderr how many of each list were left out.
    """
    test = {patients.get(image, "") for name in lists if name.startswith("test") for image in lists[name]} - {""}
    kept = {
        name: images if name.startswith("test") else [image for image in images if patients.get(image) not in test]
        for name, images in lists.items()
    }
    told = ", ".join(f"{len(lists[name]) - len(kept[name])} of {len(lists[name])} of {name}" for name in kept)
    unknown = sum(not patients.get(image) for images in lists.values() for image in images)
    if unknown == sum(map(len, lists.values())):
        raise InputError(f"{source}: patient_disjoint needs the patients of the images, and none of them is known")
    print(f"{source}: patients of the test set left out: {told}; {unknown} images of unknown patients", file=sys.stderr)
    return kept


def compose(
    lists: Mapping[str, list[str]],
    published: Published,
    anomaly_ratio: float | None,
    source: str | Path,
    every_ratio: bool = False,
) -> pd.DataFrame:
    """Columns image_id, split, label of T_n, T_u and the test set.

    T_u is the first round(unlabeled * anomaly_ratio) images of the abnormal pool and the first of the normal pool that
    fill it up (method, section 1), so a greater ratio keeps every abnormal image of a smaller one. None leaves T_u
    empty. With `every_ratio` T_u contains every image that it would contain at a ratio that the pool serves. Raises
    InputError for a ratio beyond 0 to 1 or beyond the pool.
    """
    parts = [("train_normal", "normal", lists["train_normal"])]
    if anomaly_ratio is not None:
        p = published
        SplitSettings(p.train_normal, p.unlabeled, anomaly_ratio, p.test_normal, p.test_abnormal, seed=0)  # checks all
        for label, count in unlabeled_counts(p.unlabeled, anomaly_ratio).items():
            pool = lists[f"pool_{label}"]
            if count > len(pool):
                raise InputError(_beyond(anomaly_ratio, label, count, len(pool), published, source))
            parts.append(("train_unlabeled", label, pool[: published.unlabeled if every_ratio else count]))
    parts += [("test", "normal", lists["test_normal"]), ("test", "abnormal", lists["test_abnormal"])]
    rows = [(image, split, label) for split, label, images in parts for image in images]
    return pd.DataFrame(rows, columns=["image_id", "split", "label"])


def check_distinct(lists: dict[str, list[str]], source: str | Path) -> None:
    """Raise InputError when an image is in two lists, or twice in one."""
    seen: dict[str, str] = {}
    for name, images in lists.items():
        for image in images:
            if image in seen:
                raise InputError(f"{source}: {image} is in {name} and in {seen[image]}; expected once")
            seen[image] = name


def _names_at(content: object, keys: tuple[str, ...], path: str | Path) -> list[str]:
    """The list of file names under a chain of keys."""
    for depth, key in enumerate(keys):
        if not isinstance(content, dict) or key not in content:
            hint = "; it may serve protocol N only: set anomaly_ratio to null, or use DDAD's file" * (
                "unlabeled" in keys
            )
            raise InputError(f"{path}: no key {' > '.join(keys[: depth + 1])}{hint}")
        content = content[key]
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise InputError(f"{path}: {' > '.join(keys)} is not a list of file names")
    return content


def _beyond(ratio: float, label: str, count: int, have: int, published: Published, source: str | Path) -> str:
    limit = have / published.unlabeled if label == "abnormal" else 1 - have / published.unlabeled
    return (
        f"{source}: anomaly_ratio {ratio:g} needs {count} {label} images for the {published.unlabeled} of "
        f"train_unlabeled, but the pool has {have}: at {'most' if label == 'abnormal' else 'least'} {limit:.4g}"
    )
