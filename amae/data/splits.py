"""Draw training and test sets from a pool of images by seed, with no patient on both sides."""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from amae.runtime.errors import InputError
from amae.settings import SplitSettings
from amae.sources.repartition import unlabeled_counts

CLASSES = ("normal", "abnormal", "")
Ordering = Callable[[np.ndarray, int], np.ndarray]  # row numbers of a class, and its number: the rows in order
SIZES = ("train_normal", "unlabeled", "test_normal", "test_abnormal", "calibration")


def draw_splits(table: pd.DataFrame, settings: SplitSettings, every_ratio: bool = False) -> pd.Series:
    """Split of each row of a table with columns image_id, label (normal | abnormal | "") and patient_id.

    Returns train_normal, train_unlabeled, test, calibration or "" (unused), aligned with the table. The result depends
    on the set of rows and the settings only, not on the row order, and test and training normals do not depend on the
    anomaly ratio; no other set depends on the size of the calibration set. Test patients are drawn patient by patient,
    so that one with many images is no likelier to be drawn; their other images are left out of training. A row without
    patient_id counts as a patient of its own. With `every_ratio`, train_unlabeled and calibration contain every image
    that they would contain at some anomaly ratio. Where the order is `hash`, a row more or less with a patient of its
    own takes at most one image out of each set, and moves none between test and the other sets. Raises InputError that
    names every size that the pool cannot serve, and sizes that fit.
    """
    split, lacking = _draw(table, settings, every_ratio)
    if lacking:
        raise InputError("; ".join(lacking) + _fitting(table, settings, every_ratio))
    return split


def _draw(table: pd.DataFrame, settings: SplitSettings, every_ratio: bool) -> tuple[pd.Series, list[str]]:
    """Splits as far as the images go, and what they lack."""
    table = table.sort_values("image_id", kind="stable")
    label = table["label"].to_numpy(dtype=str)
    patient = np.array(patients_of(table), dtype=object)
    lacking = list(_test_lacks(label, settings))
    walk, order = (_hashed if settings.order == "hash" else _permuted)(table["image_id"].to_numpy(), patient, settings)
    test = _draw_test(label, walk, settings)
    pool = ~_among(patient, patient[test])
    order = {name: order(np.flatnonzero(pool & (label == name)), stream) for stream, name in enumerate(CLASSES)}
    if not every_ratio:
        lacking += _pool_lacks({name: len(rows) for name, rows in order.items()}, settings)
    split = np.full(len(table), "", dtype=object)
    split[test] = "test"
    split[order["normal"][: settings.train_normal]] = "train_normal"
    counts = unlabeled_counts(settings.unlabeled, settings.anomaly_ratio)
    for name, count in (dict.fromkeys(counts, settings.unlabeled) if every_ratio else counts).items():
        skip = settings.train_normal if name == "normal" else 0
        split[order[name][skip : skip + count]] = "train_unlabeled"
    free = order["normal"][~_among(patient[order["normal"]], patient[split != ""])]
    if not every_ratio and len(free) < settings.calibration:
        lacking.append(
            f"calibration is {settings.calibration}, but {len(free)} normal images are left whose patients are in no "
            "other set"
        )
    # permuted: from the far end, as always; hashed: those at the far end are the nearest to the test set
    normal = order["normal"] if settings.order == "hash" else order["normal"][::-1]
    split[_draw_calibration(split, normal, patient, settings.calibration, every_ratio)] = "calibration"
    return pd.Series(split, index=table.index, name="split"), lacking


def _among(patients: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of these patients are among others, bool; numpy's own compares every pair of objects."""
    return pd.Series(patients, dtype=object).isin(others).to_numpy()


def _fitting(table: pd.DataFrame, settings: SplitSettings, every_ratio: bool) -> str:
    """The largest percentage of all sizes that the table serves, as a line of the configuration; "" for none."""
    low, high, line = 0, 100, ""
    while high - low > 1:
        percent = (low + high) // 2
        sizes = {name: getattr(settings, name) * percent // 100 for name in SIZES}
        if _draw(table, dataclasses.replace(settings, **sizes), every_ratio)[1]:
            high = percent
        else:
            low = percent
            if sizes["test_normal"] and sizes["test_abnormal"]:
                ratio = "null" if settings.anomaly_ratio is None else f"{settings.anomaly_ratio:g}"
                sizes |= {"anomaly_ratio": ratio, "seed": settings.seed}
                sizes |= {} if settings.order == "hash" else {"order": settings.order}
                line = f". This fits: splits: {{{', '.join(f'{name}: {size}' for name, size in sizes.items())}}}"
    return line


def patients_of(table: pd.DataFrame) -> list[str]:
    """Patient of each row of a table; one without patient_id is a patient of its own."""
    # no table can hold the name that begins with \0; a sum with pandas' text would drop it
    return [patient or f"\0{image}" for patient, image in zip(table["patient_id"], table["image_id"], strict=True)]


def _permuted(_: np.ndarray, patient: np.ndarray, settings: SplitSettings) -> tuple[Iterator[np.ndarray], Ordering]:
    """Rows of each patient in the order of the test draw, and the order of a class: permutations of row numbers."""

    def walk() -> Iterator[np.ndarray]:
        rng = np.random.default_rng([settings.seed, 0])
        members = _members(patient)
        for number in rng.permutation(len(members)):
            yield rng.permutation(members[number])

    # one generator each: the order of one class does not depend on the sizes of the others
    return walk(), lambda rows, stream: np.random.default_rng([settings.seed, 1, stream]).permutation(rows)


def _hashed(image: np.ndarray, patient: np.ndarray, settings: SplitSettings) -> tuple[Iterator[np.ndarray], Ordering]:
    """The same by SHA-256 of seed, patient and image, so that no row's place depends on the other patients.

    All sets are cut from one line: the first image of a patient stands where the patient does, the others stand
    anywhere. Test patients come from its beginning, the other sets from its end. So who is pushed out of the test set
    is the last to be wanted elsewhere.
    """
    of_patient = {name: _digest(settings.seed, name) for name in set(patient)}
    place = np.array([_digest(settings.seed, *pair) for pair in zip(patient, image, strict=True)])
    members = [rows[np.argsort(place[rows])] for rows in _members(patient)]
    for rows in members:
        place[rows[0]] = of_patient[patient[rows[0]]]
    members.sort(key=lambda rows: place[rows[0]])
    return iter(members), lambda rows, _: rows[np.argsort(place[rows])][::-1]


def _digest(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()


def _members(patient: np.ndarray) -> list[np.ndarray]:
    """Row numbers of each patient, patients in the order of their names."""
    names, codes = np.unique(patient.astype(str), return_inverse=True)
    return np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes, minlength=len(names)))[:-1])


def _draw_test(label: np.ndarray, walk: Iterator[np.ndarray], settings: SplitSettings) -> np.ndarray:
    """Row numbers of the test set: patient after patient, each giving what is still wanted of its images."""
    wanted = {"normal": settings.test_normal, "abnormal": settings.test_abnormal}
    chosen: list[int] = []
    for rows in walk:
        for row in rows:
            if wanted.get(label[row], 0):
                wanted[label[row]] -= 1
                chosen.append(int(row))
        if not any(wanted.values()):
            break
    return np.array(sorted(chosen), dtype=np.int64)


def _draw_calibration(
    split: np.ndarray, normal: np.ndarray, patient: np.ndarray, count: int, every_ratio: bool
) -> np.ndarray:
    """The first `count` of the rows `normal` whose patient is in no set; all that may be among them `every_ratio`.

    What T_u may hold already is left out then: it is in the table of candidates anyhow, and its label is hidden.
    """
    free = ~_among(patient[normal], patient[split != ""])
    reached = np.cumsum(free) - free < count
    possible = ~_among(patient[normal], patient[split == "train_normal"]) if every_ratio else free
    return normal[reached & possible & (split[normal] == "")]


def _test_lacks(label: np.ndarray, settings: SplitSettings) -> Iterator[str]:
    for name, needed in (("normal", settings.test_normal), ("abnormal", settings.test_abnormal)):
        found = int((label == name).sum())
        if needed > found:
            yield f"test_{name} is {needed}, but the table has {found} images labelled {name}"


def _pool_lacks(pool: dict[str, int], settings: SplitSettings) -> Iterator[str]:
    """Sizes that the images of non-test patients cannot fill."""
    counts = unlabeled_counts(settings.unlabeled, settings.anomaly_ratio)
    ratio, unlabeled, normal = settings.anomaly_ratio, settings.unlabeled, settings.train_normal
    after = "the pool after the test patients are taken out has"
    if normal > pool["normal"]:
        yield f"train_normal is {normal}, but {after} {pool['normal']} normal images"
    if ratio is None and unlabeled > pool[""]:
        yield (
            f"unlabeled is {unlabeled} with anomaly_ratio null, which takes images without a label, but {after} "
            f"{pool['']}; use fewer, or set anomaly_ratio to compose the set from labelled images"
        )
    if counts.get("abnormal", 0) > pool["abnormal"]:
        most = math.floor(100 * pool["abnormal"] / unlabeled) / 100
        yield (
            f"anomaly_ratio {ratio:g} needs {counts['abnormal']} abnormal images for train_unlabeled, but {after} "
            f"{pool['abnormal']}: at most {most:g} with unlabeled {unlabeled}"
        )
    left = max(0, pool["normal"] - normal)
    if counts.get("normal", 0) > left:
        least = math.ceil(100 * (unlabeled - left) / unlabeled) / 100
        yield (
            f"anomaly_ratio {ratio:g} needs {counts['normal']} normal images for train_unlabeled beside {normal} for "
            f"train_normal, but {after} {pool['normal']}: at least {least:g} with unlabeled {unlabeled}, or fewer"
        )


def folds_of(unlabeled: np.ndarray, patients: list[str], folds: int) -> np.ndarray:
    """Fold of each image, int `(N + M,)`: patients stay together, and T_n and T_u are shared out alike.

    Patients are taken in the order of the SHA-256 of their names. So no seed is needed, the order of the images plays
    no part, and neither does that of the names, which may spell the label.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    hashes = np.array([hashlib.sha256(name.encode()).hexdigest() for name in patients])
    normal_patients, unlabeled_patients = (len(set(hashes[part])) for part in (~unlabeled, unlabeled))
    if min(normal_patients, unlabeled_patients) < folds:
        raise InputError(f"folds: found {folds}, but T_n has {normal_patients} and T_u {unlabeled_patients} patients")
    fold = np.empty(len(hashes), int)
    for number, (_, rows) in enumerate(StratifiedGroupKFold(folds).split(hashes, unlabeled, hashes)):
        fold[rows] = number
    return fold
