"""Manifest rules, own tables, hidden labels, and drawn splits."""

import gzip
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from amae.commands.freeze_splits import freeze_splits
from amae.data.manifest import (
    build_manifest,
    given_splits,
    list_candidates,
    overlap_warning,
    read_labelled,
    read_manifest,
)
from amae.data.manifest import freeze_splits as freeze
from amae.data.splits import SIZES, draw_splits, patients_of
from amae.runtime.errors import InputError
from amae.settings import SplitSettings
from amae.sources.repartition import unlabeled_counts

HEADER = "image_id,path,split,label,patient_id,view\n"
GOOD = HEADER + "001,a.png,train_normal,normal,p1,PA\nNA,b.png,train_unlabeled,,p2,AP\n3,c.png,test,abnormal,,\n"


def manifest(folder: Path, text: str) -> Path:
    path = folder / "manifest.csv"
    path.write_text(text)
    return path


def test_cells_stay_text(tmp_path: Path) -> None:
    frame = read_manifest(manifest(tmp_path, GOOD), needs=("train_normal", "train_unlabeled", "test"))
    assert list(frame["image_id"]) == ["001", "NA", "3"] and list(frame["label"]) == ["normal", "", "abnormal"]
    longer = "\n".join(
        [HEADER.strip(), *(f"{line},," for line in GOOD.splitlines()[1:])]
    )  # as a spreadsheet may save it
    assert read_manifest(manifest(tmp_path, longer)).equals(frame)
    with pytest.raises(InputError, match=r"manifest\.csv: .*rows have more cells than the header has names"):
        read_manifest(manifest(tmp_path, longer + "left over"))


BAD = {
    "missing column label": GOOD.replace("label", "labels"),
    r"image_id occur more than once: 001 \(rows 2, 3\)": GOOD.replace("NA,b", "001,b"),
    r"path occur more than once: a\.png \(rows 2, 4\)": GOOD.replace("c.png", "a.png"),
    r"row 3: split is 'unlabeled'; expected one of train_normal, train_unlabeled, test": GOOD.replace(
        "train_unlabeled", "unlabeled"
    ),
    "row 4: label is 'sick'; expected normal, abnormal or empty": GOOD.replace(",abnormal", ",sick"),
    "row 3: an image of train_unlabeled has a label": GOOD.replace("unlabeled,,", "unlabeled,normal,"),
    "row 2: an image of train_normal is labelled abnormal": GOOD.replace("l,normal", "l,abnormal"),
    "row 2: image_id is empty": GOOD.replace("001", ""),
    "row 2: path is empty": GOOD.replace("a.png", ""),
    "no images": HEADER,
}


@pytest.mark.parametrize("reason", sorted(BAD))
def test_every_rule_has_a_message_with_file_and_row(tmp_path: Path, reason: str) -> None:
    with pytest.raises(InputError, match=rf"manifest\.csv: .*{reason}"):
        read_manifest(manifest(tmp_path, BAD[reason]))


def test_needed_splits(tmp_path: Path) -> None:
    path = manifest(tmp_path, GOOD.replace("train_unlabeled", "train_normal"))
    with pytest.raises(InputError, match=r"split train_unlabeled is empty.*train_normal 2, train_unlabeled 0, test 1"):
        read_manifest(path, needs=("train_unlabeled",))


def test_patients_on_both_sides_are_counted() -> None:
    rows = [("train_normal", "p1"), ("test", "p1"), ("test", "p1"), ("test", ""), ("train_normal", ""), ("test", "p2")]
    rows.append(("calibration", "p2"))  # no network sees it
    frame = pd.DataFrame(rows, columns=["split", "patient_id"])
    assert overlap_warning(frame) == "warning: 1 patients are in both training and test (2 test images of theirs)"
    assert overlap_warning(frame[frame["patient_id"] != "p1"]) == ""
    more = pd.concat([frame, pd.DataFrame([("calibration", "p1")], columns=frame.columns)])
    found = overlap_warning(more).splitlines()[1]
    assert found == "warning: 1 patients are in both training and calibration (1 calibration images of theirs)"


def test_a_placeholder_for_unknown_patients_is_named(tmp_path, capsys):
    rows = [f"{number}.png,{number % 2},{'UNKNOWN' if number < 40 else f'p{number}'}" for number in range(200)]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,patient_id", *rows]))
    for number in range(200):
        (tmp_path / f"{number}.png").touch()
    sizes = SplitSettings(train_normal=20, unlabeled=20, anomaly_ratio=0.5, test_normal=5, test_abnormal=5, seed=0)
    build_manifest(tmp_path / "t.csv", None, tmp_path / "m.csv", tmp_path / "h.csv", sizes)
    told = "patient_id is 'UNKNOWN' in 40 of 200 rows, and no patient may be in training and in test or calibration; "
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("path,label\nä.png,0\n".encode("latin-1"), "its bytes are not UTF-8"),
        (gzip.compress(b"path,label\na.png,0\n"), "found NUL bytes"),
        ("path,label\na.png,0\n".encode("utf-16"), "found NUL bytes"),
        (b"path,label\n\0\0a.png,0\n", "found NUL bytes"),
        (b"PK\x03\x04\x14\0\x06\0xl/workbook.xml", "found a ZIP archive, as Excel workbooks are"),
    ],
)
def test_a_table_that_is_not_text_is_named_whatever_it_is_called(tmp_path, content, found):
    (tmp_path / "t.csv.gz").write_bytes(content)
    with pytest.raises(InputError, match=rf"t\.csv\.gz: .*{found}; save it as CSV UTF-8"):
        read_labelled(tmp_path / "t.csv.gz")


def test_a_stray_quotation_mark_is_reported(tmp_path, capsys):
    rows = [f"{number}.png,{number % 2},{chr(34) if number in (5, 9) else ''}2 cm" for number in range(12)]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,note", *rows]) + "\n")
    for number in range(12):
        (tmp_path / f"{number}.png").touch()
    assert len(read_labelled(tmp_path / "t.csv")) == 8
    assert "1 rows contain line breaks, the first begins in line 7;" in capsys.readouterr().err


def own(folder: Path, frame: pd.DataFrame) -> Path:
    """A person's table with an (empty) file for every path."""
    for name in frame["path"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    frame.to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


def build(folder: Path, frame: pd.DataFrame, splits: SplitSettings | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    build_manifest(own(folder, frame), None, folder / "manifest.csv", folder / "hidden.csv", splits)
    hidden = pd.read_csv(folder / "hidden.csv", dtype=str, keep_default_na=False)
    made = read_manifest(folder / "manifest.csv")
    assert all(Path(path).is_file() for path in made["path"])
    return made, hidden


GIVEN = pd.DataFrame(
    {
        "path": ["x/5.png", "x/4.png", "x/3.png", "x/2.png", "x/1.png", "x/0.png", "x/6.png"],
        "label": ["1", "0", "Abnormal", "normal", "", "abnormal", "0"],
        "split": ["test", "train_normal", "train_unlabeled", "train_unlabeled", "train_unlabeled", "", "test"],
        "sex": list("MFMFMFM"),
        "finding": ["mass", "none", "effusion", "none", "none", "mass", "none"],
        "severity": list("3010090"),
    }
)


def test_given_splits_hide_what_could_tell_the_label(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    frame, hidden = build(tmp_path, GIVEN.assign(view=[" pa", "Ap", "PA", "AP", "", "ll", "PA"]))
    assert list(frame["image_id"]) == ["4", "1", "2", "3", "5", "6"]
    assert list(frame["view"]) == ["AP", "", "AP", "PA", "PA", "PA"]
    assert list(frame.columns) == [
        "image_id",
        "path",
        "split",
        "label",
        "patient_id",
        "view",
        "sex",
        "finding",
        "severity",
    ]
    unlabeled = frame[frame["split"] == "train_unlabeled"]
    assert (unlabeled[["label", "finding", "severity"]] == "").all(axis=None) and list(unlabeled["sex"]) == [
        "M",
        "F",
        "M",
    ]
    assert list(frame.loc[frame["split"] == "test", "finding"]) == ["mass", "none"]
    assert hidden.to_dict("list") == {"image_id": ["2", "3"], "label": ["normal", "abnormal"]}
    assert frame["path"].iloc[0] == (tmp_path / "x/4.png").as_posix()
    assert "1 rows without a split are left out" in capsys.readouterr().err


def test_the_manifest_does_not_change_with_the_hidden_labels(tmp_path: Path) -> None:
    build(tmp_path, GIVEN)
    before = (tmp_path / "manifest.csv").read_bytes()
    other = GIVEN.assign(label=["1", "0", "normal", "abnormal", "abnormal", "", "0"], finding=list("abcdefg"))
    other.loc[[0, 1, 6], "finding"] = GIVEN.loc[[0, 1, 6], "finding"]
    build(tmp_path, other.iloc[::-1])
    assert (tmp_path / "manifest.csv").read_bytes() == before


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"label": "2"}, "row 2: label is '2'; expected normal, abnormal, 0, 1 or empty"),
        ({"split": "training"}, "row 2: split is 'training'; expected one of"),
        ({"path": "y/4.png"}, r"files of one name: 4 \(rows 2, 3\); add a column image_id"),
        ({"path": "./x/4.png"}, r"the same path in several rows: .*x/4\.png \(rows 2, 3\); expected one row for each"),
        ({"label": "normal"}, "of 2 test images 2 normal, 0 abnormal, 0 without label; expected some of both classes"),
        ({"path": ""}, "row 2: path is empty"),
        ({"label": "abnormal", "split": "train_normal"}, "row 2: an image of train_normal is labelled abnormal"),
    ],
)
def test_unusable_tables_are_refused_and_nothing_written(tmp_path: Path, change: dict[str, str], reason: str) -> None:
    frame = GIVEN.copy()
    for column, value in change.items():
        frame.loc[0, column] = value
    with pytest.raises(InputError, match=rf"table\.csv: .*{reason}"):
        build(tmp_path, frame)
    assert not (tmp_path / "manifest.csv").exists() and not (tmp_path / "hidden.csv").exists()


def test_a_table_without_splits_or_files(tmp_path: Path) -> None:
    frame = GIVEN.drop(columns="split")
    with pytest.raises(InputError, match="no column split with entries, and no settings"):
        build(tmp_path, frame)
    frame.to_csv(tmp_path / "elsewhere.csv", index=False)
    with pytest.raises(InputError, match=r"5 of 5 image files do not exist: none/"):
        small = SplitSettings(1, 2, 0.5, 1, 1, seed=0)
        build_manifest(tmp_path / "elsewhere.csv", "none", tmp_path / "m.csv", tmp_path / "h.csv", small)


MEANT = {
    "path": ["Path", " path", "PATH "],
    "image_id": ["Image ID", "imageID", "image-id"],
    "label": [" label ", "LABEL", "La_bel"],
    "split": [" split", "Split", "\ufeffsplit"],
    "patient_id": ["PatientID", " patient_id", "Patient_id", "patient id"],
    "view": ["View", "VIEW", " view"],
    "sex": ["Sex", "SEX "],
    "age": ["AGE", "age "],
}


@pytest.mark.parametrize("spelling", range(4))
def test_columns_are_found_however_they_are_spelt(tmp_path: Path, capsys: pytest.CaptureFixture, spelling: int) -> None:
    table = GIVEN.drop(columns=["finding", "severity"]).assign(image_id=list("abcdefg"), age="40", view="PA")
    table["patient_id"] = [f"p{number}" for number in range(len(table))]
    for folder in ("right", "spelt"):
        (tmp_path / folder).mkdir()
    own(tmp_path, table)
    expected, _ = build(tmp_path / "right", table)
    capsys.readouterr()
    names = {name: spellings[spelling % len(spellings)] for name, spellings in MEANT.items()}
    table.rename(columns=names).to_csv(tmp_path / "right/table.csv", index=False)
    assert given_splits(tmp_path / "right/table.csv") == {"test": 2, "train_normal": 1, "train_unlabeled": 3}
    assert capsys.readouterr().err == ""
    build_manifest(tmp_path / "right/table.csv", None, tmp_path / "m.csv", tmp_path / "h.csv")
    assert read_manifest(tmp_path / "m.csv").equals(expected)
    lines = capsys.readouterr().err.splitlines()
    for name, spelt in names.items():
        assert sum(f"column {spelt!r} is read as {name}" in line for line in lines) == 1


def test_keywords_of_dicom_stand_for_columns_that_have_no_other(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    table = GIVEN.drop(columns=["view", "sex"], errors="ignore").assign(
        ViewPosition="AP", PatientSex="F", PatientAge="9"
    )
    manifest, _ = build(tmp_path, table)
    assert (manifest[["view", "sex", "age"]] == ["AP", "F", "9"]).all(axis=None)
    assert "column 'PatientSex' is read as sex" in capsys.readouterr().err
    manifest, _ = build(tmp_path, table.assign(sex="M"))
    assert (manifest["sex"] == "M").all() and "PatientSex" in capsys.readouterr().err
    manifest, _ = build(tmp_path, table.assign(**{"Patient Sex": "M"}))  # which of the two?
    assert "sex" not in manifest and (manifest["age"] == "9").all()


def test_rows_of_a_spreadsheet_without_entries_are_left_out_and_others_keep_their_numbers(tmp_path, capsys) -> None:
    expected, _ = build(tmp_path, GIVEN)
    text = (tmp_path / "table.csv").read_text().splitlines()
    blank = "," * text[0].count(",")
    (tmp_path / "table.csv").write_text("\n".join([text[0], blank, *text[1:], blank, " " + blank]) + "\n")
    capsys.readouterr()
    build_manifest(tmp_path / "table.csv", None, tmp_path / "manifest.csv", tmp_path / "hidden.csv")
    assert read_manifest(tmp_path / "manifest.csv").equals(expected)
    assert "table.csv: 3 rows without any entry are left out" in capsys.readouterr().err
    (tmp_path / "table.csv").write_text("\n".join([text[0], blank, *text[1:], "x.png" + blank, "x.png" + blank]) + "\n")
    with pytest.raises(InputError, match=rf"rows {len(text) + 2}, {len(text) + 3}"):
        build_manifest(tmp_path / "table.csv", None, tmp_path / "manifest.csv", tmp_path / "hidden.csv")


def test_one_patient_in_every_row_is_no_shortage_of_images(tmp_path: Path) -> None:
    told = (
        r"table\.csv: patient_id is 'ANON' in every row, and no patient may be in training and in test or calibration; "
    )
    with pytest.raises(InputError, match=f"{told}leave the column out"):
        build(tmp_path, GIVEN.drop(columns="split").assign(patient_id="ANON"), SplitSettings(1, 2, 0.5, 1, 1, seed=0))
    marked = GIVEN.assign(patient_id="ANON", split=["", "calibration", *[""] * 5])
    with pytest.raises(InputError, match=r"table\.csv: patient_id is 'ANON' in every row"):
        build(tmp_path, marked, SplitSettings(1, 2, 0.5, 1, 1, seed=0))


def test_a_near_miss_is_named_and_others_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    build(tmp_path, GIVEN.rename(columns={"sex": "sexx"}).assign(patient="p", height="1"))
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[2] for line in lines] == [
        "column 'sexx' is not read as sex; rename it if that is meant",
        "column 'patient' is not read as patient_id; rename it if that is meant",
        "further columns, which no step needs: sexx, patient, height",
        "1 rows without a split are left out",
    ]
    GIVEN.rename(columns={"path": "paths"}).to_csv(tmp_path / "table.csv", index=False)
    with pytest.raises(InputError, match=r"missing column path \(found: paths"):
        build_manifest(tmp_path / "table.csv", None, tmp_path / "m.csv", tmp_path / "h.csv")
    assert "column 'paths' is not read as path" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("header", "columns"),
    [("path,label, Label,split", "'label' and ' Label'"), ("path,split,split", "'split' and 'split'")],
)
def test_two_columns_of_one_name_are_refused(tmp_path: Path, header: str, columns: str) -> None:
    name = columns.split("'")[1]
    (tmp_path / "table.csv").write_text(f"{header}\n{'a,' * header.count(',')}a\n")
    for use in (given_splits, lambda path: build_manifest(path, None, tmp_path / "m.csv", tmp_path / "h.csv")):
        with pytest.raises(InputError, match=f"the columns {columns} are both {name}; expected one of that name"):
            use(tmp_path / "table.csv")


def test_rows_are_counted_as_an_editor_does(tmp_path: Path) -> None:
    lines = [
        "",
        "path,label,split,report",
        f'a.png,0,test,"{"two" * 99999}',
        'lines"',
        "",
        "   ",
        "b.png,1,test,",
        "b.png,1,test,",
    ]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"b\.png \(rows 7, 8\)"):
        build_manifest(tmp_path / "table.csv", None, tmp_path / "m.csv", tmp_path / "h.csv")
    (tmp_path / "table.csv").write_text("\n".join([*lines[:-1], "c.png,sick,test,"]))
    with pytest.raises(InputError, match="row 8: label is 'sick'"):
        build_manifest(tmp_path / "table.csv", None, tmp_path / "m.csv", tmp_path / "h.csv")


@pytest.mark.parametrize(
    ("labels", "found"), [(("", ""), "0 normal, 0 abnormal, 2"), (("0", ""), "1 normal, 0 abnormal, 1")]
)
def test_a_test_set_that_nothing_can_be_measured_on_is_refused(tmp_path: Path, labels: tuple, found: str) -> None:
    table = GIVEN.copy()
    table.loc[table["split"] == "test", "label"] = labels
    path = own(tmp_path, table)
    with pytest.raises(InputError, match=f"of 2 test images {found} without label"):
        given_splits(path)
    for make in (
        lambda: build_manifest(path, None, tmp_path / "m.csv", tmp_path / "h.csv"),
        lambda: list_candidates(path, None, tmp_path / "m.csv"),
    ):
        with pytest.raises(InputError, match=f"of 2 test images {found} without label"):
            make()
    assert not (tmp_path / "m.csv").exists()
    one_class = SplitSettings(2, 2, 0.5, 3, 0, seed=0)
    drawn = pool(20, 20, 0, 40).assign(path=lambda table: table["image_id"] + ".png")
    with pytest.raises(InputError, match="of 3 test images 3 normal, 0 abnormal"):
        list_candidates(own(tmp_path, drawn), None, tmp_path / "m.csv", one_class)


def pool(normal: int, abnormal: int, unknown: int, patients: int, seed: int = 0) -> pd.DataFrame:
    """A table whose patients have one to many images of mixed labels; every fifth image has no patient_id."""
    label = ["normal"] * normal + ["abnormal"] * abnormal + [""] * unknown
    patient = np.random.default_rng(seed).integers(0, patients, len(label))
    names = ["" if number % 5 == 0 else f"p{who}" for number, who in enumerate(patient)]
    ids = [f"i{number:05d}" for number in range(len(label))]
    return pd.DataFrame({"image_id": ids, "label": label, "patient_id": names})


ORDERS = ("hash", "permutation")


def counts(table: pd.DataFrame, split: pd.Series) -> dict[tuple[str, str], int]:
    return table.groupby([split, "label"]).size().to_dict()


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    ratio=st.sampled_from([None, 0.0, 0.25, 0.6, 1.0]),
    sizes=st.tuples(*[st.integers(0, 20)] * 4),
    order=st.sampled_from(ORDERS),
)
def test_drawn_splits_have_exact_sizes_and_disjoint_patients(
    seed: int, ratio: float | None, sizes: tuple, order: str
) -> None:
    table = pool(200, 150, 100, patients=250, seed=seed)
    plan = SplitSettings(sizes[0], sizes[1], ratio, sizes[2], sizes[3], seed, order=order)
    split = draw_splits(table, plan)
    expected = {("test", "normal"): sizes[2], ("test", "abnormal"): sizes[3], ("train_normal", "normal"): sizes[0]}
    expected |= {
        ("train_unlabeled", label): count
        for label, count in unlabeled_counts(plan.unlabeled, plan.anomaly_ratio).items()
    }
    found = {key: count for key, count in counts(table, split).items() if key[0]}
    assert found == {key: count for key, count in expected.items() if count}
    known = table["patient_id"] != ""
    test, train = (split == "test"), split.str.startswith("train")
    assert not set(table.loc[test & known, "patient_id"]) & set(table.loc[train & known, "patient_id"])
    shuffled = table.sample(frac=1, random_state=seed % 1000)
    assert draw_splits(shuffled, plan).sort_index().equals(split.sort_index())


def test_an_image_without_a_patient_is_of_no_patient_whose_name_it_has() -> None:
    table = pd.DataFrame({"image_id": ["a", "b", "c", "d"], "patient_id": ["", "a", "a", ""]})
    first, *named, last = patients_of(table)
    assert named == ["a", "a"] and len({first, "a", last}) == 3


@pytest.mark.parametrize("order", ORDERS)
def test_the_ratio_moves_only_the_unlabeled_set_and_seeds_differ(order: str) -> None:
    table = pool(300, 300, 0, patients=900)
    plan = SplitSettings(80, 60, None, 30, 30, seed=3, order=order)
    drawn = {ratio: draw_splits(table, replace(plan, anomaly_ratio=ratio)) for ratio in (0.2, 0.8)}
    for name in ("test", "train_normal"):
        assert (drawn[0.2] == name).equals(drawn[0.8] == name)
    few, many = (set(table.index[(drawn[r] == "train_unlabeled") & (table["label"] == "abnormal")]) for r in (0.2, 0.8))
    assert few < many  # nested, so that a sweep over the ratio changes no more than it must
    assert not draw_splits(table, replace(plan, anomaly_ratio=0.2, seed=4)).equals(drawn[0.2])


@pytest.mark.parametrize("order", ORDERS)
def test_patients_with_many_images_are_no_likelier_to_be_tested(order: str) -> None:
    big = [("normal", f"big{number // 10}") for number in range(500)]
    small = [("normal", f"small{number}") for number in range(50)]
    table = pd.DataFrame(big + small, columns=["label", "patient_id"])
    table["image_id"] = [f"i{number:04d}" for number in range(len(table))]
    share = []
    for seed in range(40):
        chosen = table[draw_splits(table, SplitSettings(0, 0, None, 60, 0, seed, order=order)) == "test"]
        share.append(np.mean([name.startswith("big") for name in chosen["patient_id"].unique()]))
    assert abs(np.mean(share) - 0.5) < 0.08  # half of the patients are big ones; 0.9 of the images are theirs


def single(normal: int, abnormal: int, unknown: int = 0) -> pd.DataFrame:
    return pool(normal, abnormal, unknown, patients=1).assign(patient_id="")


@pytest.mark.parametrize(
    "plan, reason",
    [
        ((50, 300, 0.9, 10, 100), r"anomaly_ratio 0\.9 needs 270 abnormal.*has 200: at most 0\.66 with unlabeled 300"),
        ((250, 300, 0.1, 10, 10), r"anomaly_ratio 0\.1 needs 270 normal.*beside 250.*has 390: at least 0\.54"),
        ((391, 0, 0.5, 10, 10), "train_normal is 391, but the pool after the test patients.* 390 normal"),
        ((50, 9, 0.5, 10, 301), "test_abnormal is 301, but the table has 300"),
        ((50, 9, 0.5, 401, 10), "test_normal is 401, but the table has 400"),
        ((50, 21, None, 10, 10), "unlabeled is 21 with anomaly_ratio null.*has 20; use fewer"),
    ],
)
def test_what_the_pool_cannot_serve_is_said(plan: tuple, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        draw_splits(single(400, 300, 20), SplitSettings(*plan, seed=0))


@pytest.mark.parametrize("plan", [(50, 300, 0.9, 10, 100), (250, 300, 0.1, 10, 10)])
def test_the_ratio_that_the_message_offers_works(plan: tuple) -> None:
    table, settings = single(400, 300), SplitSettings(*plan, seed=0)
    with pytest.raises(InputError) as error:
        draw_splits(table, settings)
    offered = float(re.search(r"at (?:most|least) ([\d.]+)", str(error.value))[1])
    draw_splits(table, replace(settings, anomaly_ratio=offered))


@pytest.mark.parametrize("table", [single(100, 60, 9), pool(100, 60, 9, patients=50), pool(300, 20, 0, patients=120)])
@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0, None])
def test_every_shortage_is_named_and_the_line_that_is_offered_fits(table: pd.DataFrame, ratio: float | None) -> None:
    plan = SplitSettings(400, 300, ratio, 500, 80, seed=3, calibration=40)
    with pytest.raises(InputError) as error:
        draw_splits(table, plan)
    message = str(error.value)
    reasons = ["test_normal is 500", "test_abnormal is 80", "train_normal is 400", "calibration is 40"]
    reasons.append("unlabeled is 300" if ratio is None else f"anomaly_ratio {ratio:g} needs")
    assert all(reason in message for reason in reasons)
    line = message.partition("This fits: ")[2]
    if ratio is None and (table["label"] != "").all():
        assert not line
        return
    offered = yaml.safe_load(line)["splits"]
    split = draw_splits(table, SplitSettings(**offered))
    assert offered["anomaly_ratio"] == ratio and offered["seed"] == 3
    sizes = {name: int((split == name).sum()) for name in ("train_normal", "calibration")}
    assert sizes == {name: offered[name] for name in sizes}
    assert (split == "test").sum() == offered["test_normal"] + offered["test_abnormal"]
    with pytest.raises(InputError):  # one percent more of each does not fit
        more = {name: getattr(plan, name) * (round(100 * offered["test_normal"] / 500) + 1) // 100 for name in SIZES}
        draw_splits(table, replace(plan, **more))


@pytest.mark.parametrize("changes", [{"anomaly_ratio": 1.2}, {"unlabeled": -1}])
def test_impossible_settings_are_refused(changes: dict) -> None:
    plan = {"train_normal": 1, "unlabeled": 1, "anomaly_ratio": 0.5, "test_normal": 1, "test_abnormal": 1, "seed": 0}
    with pytest.raises(InputError, match=next(iter(changes))):
        SplitSettings(**plan | changes)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("ratio", [None, 0.0, 0.3, 0.6, 1.0])
def test_calibration_images_are_normal_of_other_patients_and_move_no_other_set(ratio: float | None, order: str) -> None:
    table = pool(300, 200, 150, patients=600)
    plan = SplitSettings(60, 80, ratio, 30, 30, seed=5, order=order)
    before, after = draw_splits(table, plan), draw_splits(table, replace(plan, calibration=25))
    kept = after == "calibration"
    assert kept.sum() == 25 and (table.loc[kept, "label"] == "normal").all()
    assert after[~kept].equals(before[~kept]) and (before[kept] == "").all()
    others = set(table.loc[(after != "") & ~kept, "patient_id"]) - {""}
    assert not set(table.loc[kept, "patient_id"]) & others
    every = draw_splits(table, replace(plan, calibration=25), every_ratio=True)
    assert (every[kept] != "").all()  # converted, as calibration or as what T_u may hold at another ratio
    assert every[every != "calibration"].equals(draw_splits(table, plan, every_ratio=True)[every != "calibration"])


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.6, 1.0])
def test_the_calibration_images_of_every_ratio_are_candidates(ratio: float) -> None:
    table = pool(300, 200, 0, patients=400)
    plan = SplitSettings(60, 80, ratio, 30, 30, seed=5, calibration=25)
    found, every = draw_splits(table, plan), draw_splits(table, plan, every_ratio=True)
    assert (found == "calibration").sum() == 25 and (every[found == "calibration"] != "").all()


def cases(count: int, known: bool) -> pd.DataFrame:
    """A table of images, every third abnormal, each of another patient, whose identity is known or not."""
    ids = [f"i{number:03}" for number in range(count)]
    label = ["abnormal" if number % 3 == 0 else "normal" for number in range(count)]
    patients = [f"p{7 * number % 997}" if known else "" for number in range(count)]
    return pd.DataFrame({"image_id": ids, "label": label, "patient_id": patients})


def moved(before: pd.Series, after: pd.Series) -> list[tuple[str, str]]:
    """Old and new set of each image of a set that is not in it any more."""
    kept = after[before.index]
    return [(old, new) for old, new in zip(before, kept, strict=True) if old != new and old]


@pytest.mark.parametrize("known", [True, False])
def test_a_61st_row_takes_at_most_one_image_out_of_a_set_and_none_from_training_to_test(known: bool) -> None:
    table, none = cases(160, known), 0
    plan = SplitSettings(10, 15, 0.4, 8, 8, seed=0, calibration=5)
    for first in range(100):
        before = draw_splits(table[first : first + 60], plan)
        after = draw_splits(table[first : first + 61], plan)
        changes = moved(before, after)
        left = [old for old, _ in changes]
        assert len(set(left)) == len(left)
        training = [("train_normal", "train_unlabeled"), ("train_unlabeled", "calibration")]
        assert all(new == "" or (old, new) in training for old, new in changes)
        none += not changes
    assert none > 10  # where the new image is in no set


@pytest.mark.parametrize("given", [{}, {"Split": ""}])
def test_frozen_splits_stay_as_they_are_when_rows_are_added(tmp_path: Path, given: dict, capsys) -> None:
    table = cases(80, True).assign(path=lambda table: table["image_id"] + ".png", note=" a", **given)
    first, more = table[:60].drop(columns="image_id"), table[60:]
    plan = SplitSettings(10, 15, 0.4, 8, 8, seed=0, calibration=5)
    drawn, hidden = build(tmp_path, first, plan)
    freeze_splits(
        image_table=tmp_path / "table.csv", manifest=tmp_path / "manifest.csv", frozen_table=tmp_path / "frozen.csv"
    )
    with pytest.raises(InputError, match=r"table\.csv: exists; choose another name"):
        freeze_splits(
            image_table=tmp_path / "table.csv",
            manifest=tmp_path / "manifest.csv",
            frozen_table=tmp_path / "table.csv",
        )
    frozen = pd.read_csv(tmp_path / "frozen.csv", dtype=str, keep_default_na=False)
    own_cells = [name for name in first if name != "Split"]
    assert frozen[own_cells].equals(first[own_cells]) and len(frozen.columns) == len(own_cells) + 1
    assert (frozen[frozen.columns[-1]] == "").sum() == 60 - len(drawn)
    again, hidden_again = build(tmp_path, pd.concat([frozen, more[frozen.columns.intersection(more.columns)]]))
    assert again.equals(drawn) and hidden_again.equals(hidden)
    capsys.readouterr()
    (tmp_path / "elsewhere").mkdir()
    of_more = own(tmp_path / "elsewhere", more)
    with pytest.raises(InputError, match=r"manifest\.csv: 46 images are not in .*table\.csv, the first 'i0"):
        freeze(of_more, tmp_path / "manifest.csv", tmp_path / "other.csv")
    freeze(tmp_path / "table.csv", tmp_path / "manifest.csv", tmp_path / "elsewhere/frozen.csv")
    assert "set root" in capsys.readouterr().err


def test_more_calibration_images_than_are_left_are_refused() -> None:
    with pytest.raises(InputError, match=r"calibration is 300, but 2\d\d normal images are left whose patients"):
        draw_splits(single(400, 300), SplitSettings(50, 100, 0.5, 20, 20, seed=0, calibration=300))


def test_calibration_images_that_a_table_marks_stay_and_the_rest_is_drawn(tmp_path: Path, capsys) -> None:
    table = pool(60, 40, 0, patients=90)
    table["path"] = table["image_id"] + ".png"
    table["split"] = ""
    marked = table.index[table["label"] == "normal"][:7]
    table.loc[marked, "split"] = "calibration"
    plan = SplitSettings(12, 10, 0.6, 5, 5, seed=1, calibration=3)
    theirs = table["patient_id"].isin(set(table.loc[marked, "patient_id"]) - {""})
    others = int((theirs & ~table.index.isin(marked)).sum())
    assert others > 0
    frame, _ = build(tmp_path, table, plan)
    assert f"{others} images of patients with calibration images are left out" in capsys.readouterr().err
    assert set(frame.loc[frame["split"] == "calibration", "image_id"]) == set(table.loc[marked, "image_id"])
    (tmp_path / "rest").mkdir()
    rest, _ = build(tmp_path / "rest", table[~theirs].drop(index=marked, errors="ignore"), replace(plan, calibration=0))
    columns = ["image_id", "split", "label"]
    assert frame.loc[frame["split"] != "calibration", columns].equals(rest[columns])
    table.loc[marked[0], "label"] = "abnormal"
    with pytest.raises(InputError, match="an image of calibration is labelled abnormal"):
        build(tmp_path, table, plan)


def test_own_table_without_splits_end_to_end(tmp_path: Path) -> None:
    table = pool(40, 40, 0, patients=60).assign(finding="x")
    table["path"] = table["image_id"] + ".png"
    frame, hidden = build(tmp_path, table, SplitSettings(12, 10, 0.6, 5, 5, seed=1))
    assert frame["split"].value_counts().to_dict() == {"train_normal": 12, "train_unlabeled": 10, "test": 10}
    assert hidden["label"].value_counts().to_dict() == {"abnormal": 6, "normal": 4}
    assert set(hidden["image_id"]) == set(frame.loc[frame["split"] == "train_unlabeled", "image_id"])
    assert overlap_warning(frame) == ""


@pytest.mark.parametrize("order", ORDERS)
def test_candidates_hold_the_images_of_every_ratio(tmp_path: Path, order: str) -> None:
    table = pool(60, 50, 0, 40)
    table["path"] = table["image_id"] + ".png"
    table.to_csv(tmp_path / "table.csv", index=False)
    for path in table["path"]:
        (tmp_path / path).touch()
    candidates, members = None, set()
    for ratio in (0, 0.3, 1):
        settings = SplitSettings(10, 10, ratio, 5, 5, seed=1, order=order)
        build_manifest(tmp_path / "table.csv", None, tmp_path / "m.csv", tmp_path / "h.csv", settings)
        list_candidates(tmp_path / "table.csv", None, tmp_path / "c.csv", settings)
        manifest, found = read_manifest(tmp_path / "m.csv"), read_manifest(tmp_path / "c.csv")
        assert candidates is None or found.equals(candidates)
        candidates = found
        rows = set(manifest[["image_id", "split"]].itertuples(index=False, name=None))
        assert rows <= set(found[["image_id", "split"]].itertuples(index=False, name=None))
        members |= rows
    assert len(members) == len(candidates) == 10 + 10 + 20
    assert (candidates.loc[candidates["split"] == "train_unlabeled", "label"] == "").all()
