"""The manifest: one table per data set that drives everything, and the hidden labels kept apart from it.

Columns: image_id, path, split, label, patient_id, view, and any further ones; every cell is text, "" where unknown.
"""

import contextlib
import dataclasses
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from amae.data.columns import find_columns
from amae.data.splits import draw_splits, patients_of
from amae.runtime.errors import InputError, naming
from amae.runtime.files import line_numbers, read_csv, require_columns, without_blank_rows, write_csv
from amae.settings import SplitSettings

SPLITS = ("train_normal", "train_unlabeled", "test", "calibration")
LABELS = ("normal", "abnormal", "")
VIEWS = {"PA": 0.0, "AP": 1.0}  # as a score: AP is the view of patients too ill to stand
COLUMNS = ["image_id", "path", "split", "label", "patient_id", "view"]
KNOWN = [*COLUMNS, "sex", "age", "finding", "severity", "readers", "in_pretraining"]
# what may be known of an unlabeled image; any further column (a finding, a severity) could give its label away
VISIBLE_UNLABELED = ["image_id", "path", "split", "patient_id", "view", "sex", "age"]
TABLE_LABELS = {"normal": "normal", "0": "normal", "abnormal": "abnormal", "1": "abnormal", "": ""}
TABLE_LABELS |= {"0.0": "normal", "1.0": "abnormal"}  # as pandas writes 0 and 1 beside empty cells


def read_manifest(path: str | Path, needs: Sequence[str] = ()) -> pd.DataFrame:
    """Read and validate a manifest; text cells, "" where unknown.

    `needs` names the splits that must not be empty. Raises InputError that names the file, the row (the header is row
    1) and what was expected.
    """
    frame = read_csv(path)
    require_columns(frame, COLUMNS, path)
    _check_values(frame, path)
    for split in needs:
        if not (frame["split"] == split).any():
            counts = ", ".join(f"{name} {int((frame['split'] == name).sum())}" for name in SPLITS)
            raise InputError(f"{path}: split {split} is empty, and it is needed here (images: {counts})")
    return frame


def overlap_warning(manifest: pd.DataFrame) -> str:
    """A line for each of test and calibration that counts the patients with images in it and in training, or ""."""
    training = manifest["split"].isin(["train_normal", "train_unlabeled"])
    known, lines = manifest["patient_id"] != "", []
    for name in ("test", "calibration"):
        here = manifest["split"] == name
        both = set(manifest.loc[here & known, "patient_id"]) & set(manifest.loc[training & known, "patient_id"])
        images = int((here & manifest["patient_id"].isin(both)).sum())
        if both:
            line = f"warning: {len(both)} patients are in both training and {name} ({images} {name} images of theirs)"
            lines.append(line)
    return "\n".join(lines)


def build_manifest(
    table_path: str | Path,
    root: str | Path | None,
    manifest_path: str | Path,
    hidden_path: str | Path,
    splits: SplitSettings | None = None,
) -> None:
    """Write manifest and hidden labels from a person's table of images (CSV).

    Table columns, however they are spelt: path (relative to `root`, by default the table's folder); optional: image_id
    (default: the file's name without suffix), label (normal, abnormal, 0, 1 or empty), patient_id, view, split, any
    others. A split column with any entry is used as given, and rows without an entry are left out; otherwise `splits`
    draws (also where the only entries are calibration: these stay).

    In the rows of train_unlabeled the label moves to the hidden table (columns image_id, label; rows with a known label
    only), and every column but patient_id, view, sex and age is emptied. Rows are sorted by split and image_id, so
    that their order reveals nothing. Ids and paths stay as they are even if they spell a finding: training never reads
    them. Raises InputError for a table that cannot be used, or a test set of one class, before anything is written.
    """
    table, hidden = _hide_labels(_split_table(table_path, root, splits, every_ratio=False))
    _check_values(table, table_path)
    _check_files(table, table_path)
    _check_test(table, table_path)
    if warning := overlap_warning(table):
        print(warning, file=sys.stderr)
    write_csv(hidden, hidden_path)
    write_csv(table, manifest_path)


def read_labelled(table_path: str | Path, root: str | Path | None = None) -> pd.DataFrame:
    """Images of known label from a person's table, in its order, to evaluate a model on.

    Columns as in `build_manifest`; out: image_id, path, label, patient_id, view and, where the table has it, finding.
    Where a column split has entries, only rows of the split test count. A line to stderr counts the rows left out.
    Raises InputError, naming the row where there is one, for a table that cannot be used.
    """
    known = [*COLUMNS, "finding"]
    table = find_columns(read_csv(table_path), known, table_path)
    require_columns(table, ["path", "label"], table_path)
    table = _normalise(table, table_path, Path(table_path).parent if root is None else Path(root))
    elsewhere = (table["split"] != "test") & (table["split"] != "").any()
    if len(table) and elsewhere.all():
        raise InputError(f"{table_path}: no row has the split test; without the column split all rows are measured")
    unknown = ~elsewhere & (table["label"] == "")
    for rows, what in [(elsewhere, "of another split than test"), (unknown, "without a label")]:
        if rows.any():
            print(f"{table_path}: {int(rows.sum())} rows {what} are left out", file=sys.stderr)
    table = table[~elsewhere & ~unknown]
    counts = {name: int((table["label"] == name).sum()) for name in ("normal", "abnormal")}
    if not all(counts.values()):
        raise InputError(
            f"{table_path}: of {len(table)} labelled images {counts['normal']} normal, {counts['abnormal']} abnormal; "
            "expected some of both classes"
        )
    _check_files(table, table_path)
    return table[[name for name in known if name in table and name != "split"]]


def given_splits(table_path: str | Path) -> dict[str, int]:
    """Patients in each split that a person's table of images names; none where they are to be drawn.

    Raises InputError as `read_csv`, and for a test set of one class.
    """
    table = find_columns(read_csv(table_path), KNOWN, table_path, report=False)
    require_columns(table, ["path"], table_path)
    if "split" not in table:
        return {}
    table = table.assign(patient_id=table.get("patient_id", ""), image_id=table["path"])
    table = table.apply(lambda column: column.str.strip())
    _check_test(table, table_path)
    patients = pd.Series(patients_of(table), table.index)
    return patients[table["split"] != ""].groupby(table["split"]).nunique().to_dict()


def check_draw(table_path: str | Path, root: str | Path | None, splits: SplitSettings) -> None:
    """Raise the InputError that `build_manifest` would for splits which the table cannot give; print nothing."""
    with contextlib.redirect_stderr(io.StringIO()):
        _split_table(table_path, root, splits, every_ratio=False)


def list_candidates(
    table_path: str | Path, root: str | Path | None, candidates_path: str | Path, splits: SplitSettings | None = None
) -> None:
    """Write a manifest whose train_unlabeled contains every image that T_u has at any anomaly ratio.

    Its images are converted once for all ratios. Arguments and errors as for `build_manifest`.
    """
    candidates, _ = _hide_labels(_split_table(table_path, root, splits, every_ratio=True))
    _check_values(candidates, table_path)
    _check_files(candidates, table_path)
    _check_test(candidates, table_path)
    write_csv(candidates, candidates_path)


def freeze_splits(table_path: str | Path, manifest_path: str | Path, frozen_path: str | Path) -> None:
    """Write a person's table again, its column split filled with the splits of a manifest that was made from it.

    Rows and other cells stay; rows that the manifest lacks have no split, so that they stay out of every set. Raises
    InputError for an image of the manifest that the table lacks, before anything is written.
    """
    table, manifest = read_csv(table_path), read_manifest(manifest_path)
    known = find_columns(table, KNOWN, table_path, report=False)
    ids = _normalise(known, table_path, Path())["image_id"]
    split = manifest.set_index("image_id")["split"]
    if len(lost := split.index.difference(ids)):
        raise InputError(f"{manifest_path}: {len(lost)} images are not in {table_path}, the first {lost[0]!r}")
    column = next((own for own, name in zip(table, known, strict=True) if name == "split"), "split")
    write_csv(table.assign(**{column: ids.map(split).fillna("")}), frozen_path)
    if Path(frozen_path).resolve().parent != Path(table_path).resolve().parent:
        print(f"{frozen_path}: its paths start where those of {table_path} do; set root", file=sys.stderr)


def _split_table(
    table_path: str | Path, root: str | Path | None, splits: SplitSettings | None, every_ratio: bool
) -> pd.DataFrame:
    """The table in a manifest's form, with the splits that it gives or that are drawn.

    A table that marks its calibration images alone has the other sets drawn from the rows of other patients.
    """
    table = find_columns(read_csv(table_path), KNOWN, table_path)
    table = _normalise(table, table_path, Path(table_path).parent if root is None else Path(root))
    given = table["split"] != ""
    draws = splits and not given.all() and set(table.loc[given, "split"]) <= {"calibration"}
    if draws and len(table) > 1 and table["patient_id"].nunique() == 1 and (one := table["patient_id"].iloc[0]):
        raise InputError(
            f"{table_path}: patient_id is {one!r} in every row, and no patient may be in training and in test "
            "or calibration; leave the column out if patients are not known"
        )
    if draws:
        _warn_of_placeholders(table["patient_id"], table_path)
    if splits and set(table.loc[given, "split"]) == {"calibration"}:
        theirs = table["patient_id"].isin(set(table.loc[given, "patient_id"]) - {""})
        if shared := int((theirs & ~given).sum()):
            print(f"{table_path}: {shared} images of patients with calibration images are left out", file=sys.stderr)
        with naming(table_path):
            drawn = draw_splits(table[~given & ~theirs], dataclasses.replace(splits, calibration=0), every_ratio)
        return table.assign(split=drawn.reindex(table.index, fill_value="").mask(given, "calibration"))
    if given.any():
        if not given.all():
            print(f"{table_path}: {int((~given).sum())} rows without a split are left out", file=sys.stderr)
        return table
    if splits is None:
        raise InputError(f"{table_path}: no column split with entries, and no settings to draw splits with")
    if (table["label"] == "").all():
        raise InputError(
            f"{table_path}: no image has a label (column label); to draw splits, normal and abnormal ones must be known"
        )
    with naming(table_path):
        return table.assign(split=draw_splits(table, splits, every_ratio))


def _hide_labels(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows with a split, in an order and with columns that reveal nothing of T_u; and the known labels of T_u."""
    table = table[table["split"] != ""]
    table = table.iloc[np.lexsort((table["image_id"], table["split"].map(SPLITS.index)))]
    unlabeled = table["split"] == "train_unlabeled"
    hidden = table.loc[unlabeled & (table["label"] != ""), ["image_id", "label"]]
    table.loc[unlabeled, [column for column in table if column not in VISIBLE_UNLABELED]] = ""
    return table, hidden


def _normalise(table: pd.DataFrame, path: str | Path, root: Path) -> pd.DataFrame:
    """All columns of a manifest, contract order first; labels and paths in their final form, splits not yet drawn."""
    require_columns(table, ["path"], path)
    table = without_blank_rows(table.apply(lambda column: column.str.strip()), path)
    if table.empty:
        raise InputError(f"{path}: the table has no rows")
    if (table["path"] == "").any():
        raise InputError(f"{path}: row {_row(table['path'] == '', path)}: path is empty")
    table["path"] = [(root / name).as_posix() for name in table["path"]]
    if twice := _repeated(table, "path", path):
        raise InputError(f"{path}: the same path in several rows: {twice}; expected one row for each image")
    if "image_id" not in table:
        table["image_id"] = [Path(name).stem for name in table["path"]]
        if twice := _repeated(table, "image_id", path):
            raise InputError(
                f"{path}: files of one name: {twice}; add a column image_id with a unique name for each row"
            )
    for column in ("split", "label", "patient_id", "view"):
        if column not in table:
            table[column] = ""
    label = _labels(table)
    if label.isna().any():
        found = table.loc[label.isna(), "label"].iloc[0]
        raise InputError(
            f"{path}: row {_row(label.isna(), path)}: label is {found!r}; expected normal, abnormal, 0, 1 or empty"
        )
    table["label"] = label
    table["view"] = table["view"].str.upper()
    _check_ids(table, path)
    _check_splits(table[table["split"] != ""], path)
    return table[COLUMNS + [column for column in table if column not in COLUMNS]]


def _check_values(frame: pd.DataFrame, path: str | Path) -> None:
    """Every rule that a manifest keeps."""
    if frame.empty:
        raise InputError(f"{path}: no images")
    if (frame["path"] == "").any():
        raise InputError(f"{path}: row {_row(frame['path'] == '', path)}: path is empty")
    _check_ids(frame, path)
    _check_splits(frame, path)
    wrong = ~frame["label"].isin(LABELS)
    if wrong.any():
        found = frame.loc[wrong, "label"].iloc[0]
        raise InputError(f"{path}: row {_row(wrong, path)}: label is {found!r}; expected normal, abnormal or empty")
    wrong = (frame["split"] == "train_unlabeled") & (frame["label"] != "")
    if wrong.any():
        raise InputError(
            f"{path}: row {_row(wrong, path)}: an image of train_unlabeled has a label ({int(wrong.sum())} such rows); "
            "labels of that split belong in the hidden table"
        )
    for split in ("train_normal", "calibration"):
        wrong = (frame["split"] == split) & (frame["label"] == "abnormal")
        if wrong.any():
            raise InputError(f"{path}: row {_row(wrong, path)}: an image of {split} is labelled abnormal")


def _check_ids(frame: pd.DataFrame, path: str | Path) -> None:
    if (frame["image_id"] == "").any():
        raise InputError(f"{path}: row {_row(frame['image_id'] == '', path)}: image_id is empty")
    for column in ("image_id", "path"):
        if twice := _repeated(frame, column, path):
            raise InputError(f"{path}: values of {column} occur more than once: {twice}")


def _repeated(frame: pd.DataFrame, column: str, path: str | Path) -> str:
    """The first values that a column contains more than once, with their rows as an editor counts; "" for none."""
    twice = frame[frame[column].duplicated(keep=False)]
    if twice.empty:
        return ""
    lines = line_numbers(path)
    groups = twice.groupby(column, sort=False).groups
    listed = [f"{name} (rows {', '.join(str(lines[i]) for i in rows)})" for name, rows in groups.items()]
    return "; ".join(listed[:3]) + (f"; and {len(groups) - 3} more" if len(groups) > 3 else "")


def _warn_of_placeholders(patients: pd.Series, path: str | Path) -> None:
    """A line for a patient with a tenth of the images or more, at least 20: training and test cannot share them."""
    counts = patients[patients != ""].value_counts()
    for patient, count in counts[counts >= max(20, len(patients) / 10)].items():
        print(
            f"warning: {path}: patient_id is {patient!r} in {count} of {len(patients)} rows, and no patient "
            "may be in training and in test or calibration; where it stands for unknown patients, empty these cells",
            file=sys.stderr,
        )


def _labels(table: pd.DataFrame) -> pd.Series:
    """Labels in the form of a manifest; nan for one that is none."""
    return table["label"].str.strip().str.lower().map(TABLE_LABELS)


def _check_test(table: pd.DataFrame, path: str | Path) -> None:
    """Refuse test images that are all of one class, or without label: no score could be measured on them."""
    tested = table[table["split"] == "test"]
    labels = _labels(tested) if "label" in table else pd.Series("", tested.index)
    found = {name: int((labels == name).sum()) for name in ("normal", "abnormal")}
    if len(tested) and not all(found.values()):
        counts = ", ".join(f"{count} {name}" for name, count in found.items())
        raise InputError(
            f"{path}: of {len(tested)} test images {counts}, {len(tested) - sum(found.values())} without label; "
            "expected some of both classes: fill the column label, or change the splits"
        )


def _check_splits(frame: pd.DataFrame, path: str | Path) -> None:
    wrong = ~frame["split"].isin(SPLITS)
    if wrong.any():
        found = frame.loc[wrong, "split"].iloc[0]
        raise InputError(f"{path}: row {_row(wrong, path)}: split is {found!r}; expected one of {', '.join(SPLITS)}")


def _check_files(frame: pd.DataFrame, path: str | Path) -> None:
    missing = frame["path"][[not Path(name).is_file() for name in frame["path"]]]
    if len(missing):
        lines = line_numbers(path)
        listed = ", ".join(f"{name} (row {lines[i]})" for i, name in missing.head(3).items())
        listed += ", ..." if len(missing) > 3 else ""
        raise InputError(f"{path}: {len(missing)} of {len(frame)} image files do not exist: {listed}")


def _row(wrong: pd.Series, path: str | Path) -> int:
    """Number of the first marked row as an editor shows it (the header is row 1)."""
    return line_numbers(path)[wrong.index[np.argmax(wrong)]]
