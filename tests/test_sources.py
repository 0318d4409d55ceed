"""Benchmark data sets: fetching, unpacking, the published lists, and miniature copies of every on-disk form."""

import gzip
import hashlib
import io
import json
import os
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from PIL import Image

from amae.commands import fetch_source as commands
from amae.commands.index import index
from amae.commands.list_images import list_images
from amae.data.manifest import read_manifest
from amae.runtime.errors import InputError
from amae.runtime.files import read_csv, write_json
from amae.settings import PublishedSet, SplitSettings
from amae.sources import catalogue, metadata, nih, paediatric, rsna, vindr
from amae.sources.download import download
from amae.sources.layout import find_images
from amae.sources.metadata import corner_boxes, in_pretraining, join, plausible_age
from amae.sources.repartition import Published, compose, read_repartition
from amae.sources.unpack import unpack

BODY = np.random.default_rng(0).bytes(3_000_000)
MD5 = hashlib.md5(BODY).hexdigest()
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


# ---- download


@contextmanager
def served(body: bytes = BODY, ranges: bool = True, breaks: int = 0, status: int = 200, kind: str = "application/gzip"):
    """A loopback server of one file. `breaks`: that many answers stop half-way. Yields its address and the requests."""
    asked: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers["Range"])
            start = int(self.headers["Range"][6:-1]) if ranges and self.headers["Range"] else 0
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.end_headers()
                return
            self.send_response(status if status != 200 else 206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.send_header("Content-Length", str(len(body) - start))
            self.send_header("Content-Type", kind)
            self.end_headers()
            half = (len(body) - start) // 2
            self.wfile.write(body[start : start + half] if len(asked) <= breaks else body[start:])

        def log_message(self, *arguments: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/RSNA.tar.gz", asked
    finally:
        server.shutdown()
        server.server_close()


def test_download_is_verified_and_not_repeated(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with served() as (url, asked):
        for _ in range(2):
            assert download(url, tmp_path / "a" / "x", md5=MD5, sha256=SHA256) == SHA256
    assert (tmp_path / "a" / "x").read_bytes() == BODY and asked == [None] and len(os.listdir(tmp_path / "a")) == 1
    assert "x: 3.0 of 3.0 MB" in capsys.readouterr().err


def test_broken_connections_are_resumed_where_they_broke(tmp_path: Path) -> None:
    with served(breaks=2) as (url, asked):
        download(url, tmp_path / "x", md5=MD5, pause=0.01)
    assert (tmp_path / "x").read_bytes() == BODY
    assert asked == [None, "bytes=1500000-", "bytes=2250000-"]


def test_a_server_without_range_starts_again(tmp_path: Path) -> None:
    with served(breaks=1, ranges=False) as (url, asked):
        download(url, tmp_path / "x", sha256=SHA256, pause=0.01)
    assert (tmp_path / "x").read_bytes() == BODY and asked == [None, "bytes=1500000-"]


def test_a_later_run_goes_on_and_a_whole_part_is_taken(tmp_path: Path) -> None:
    with (
        served(breaks=9) as (url, _),
        pytest.raises(InputError, match=r"broke at .* after 5 attempts.*by hand from http"),
    ):
        download(url, tmp_path / "x", md5=MD5, pause=0.001)
    assert not (tmp_path / "x").exists()
    have = (tmp_path / "x.part").stat().st_size
    with served() as (url, asked):
        download(url, tmp_path / "x", md5=MD5)
    assert asked == [f"bytes={have}-"] and (tmp_path / "x").read_bytes() == BODY
    (tmp_path / "x").rename(tmp_path / "x.part")
    with served() as (url, asked):
        download(url, tmp_path / "x", md5=MD5)
    assert asked == ["bytes=3000000-"]
    (tmp_path / "x.part").write_bytes(BODY + b"longer than the file")
    with served() as (url, asked):
        download(url, tmp_path / "y", md5=MD5, pause=0.001)
        (tmp_path / "y").rename(tmp_path / "y.part")
        (tmp_path / "y.part").write_bytes(BODY + b"longer")
        download(url, tmp_path / "y", md5=MD5, pause=0.001)
    assert asked == [None, "bytes=3000006-", None]


def test_wrong_content_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    with served() as (url, _), pytest.raises(InputError, match=rf"md5 is {MD5}, expected 0+ .*put it at .*x"):
        download(url, tmp_path / "x", md5="0" * 32)
    with served(kind="text/html") as (url, _), pytest.raises(InputError, match="sent a web page"):
        download(url, tmp_path / "x")
    with served(status=404) as (url, _), pytest.raises(InputError, match=r"answered 404 .*put it at"):
        download(url, tmp_path / "x")
    assert os.listdir(tmp_path) == []
    with pytest.raises(InputError, match=r"no connection .*after 5 attempts"):
        download(url, tmp_path / "x", pause=0.001)
    with pytest.raises(InputError, match="not an http"):
        download("file:///etc/passwd", tmp_path / "x")
    (tmp_path / "x").write_bytes(b"by hand, but another file")
    with pytest.raises(InputError, match=r"expected .*remove it, or put the right file there"):
        download(url, tmp_path / "x", md5=MD5)


# ---- unpack


def tar_of(path: Path, *members: tuple[str, bytes, bytes], mode: str = "w:gz") -> Path:
    """A tar of (name, type, content or link target)."""
    with tarfile.open(path, mode) as tar:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                info.linkname = content.decode()
            info.size = len(content) if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(content))
    return path


def test_unpack_tar_and_zip(tmp_path: Path) -> None:
    tar_of(tmp_path / "a.tar.gz", ("RSNA", tarfile.DIRTYPE, b""), ("./RSNA/images/1.png", tarfile.REGTYPE, b"one"))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("RSNA/images/1.png", b"one")
    for archive in ("a.tar.gz", "a.zip"):
        target = tmp_path / f"out of {archive}"
        unpack(tmp_path / archive, target, limit=3)
        assert (target / "RSNA" / "images" / "1.png").read_bytes() == b"one"
        with pytest.raises(InputError, match="exists already"):
            unpack(tmp_path / archive, target, limit=3)
        with pytest.raises(InputError, match=r"unpacks to 3 bytes or more, allowed are 2 bytes"):
            unpack(tmp_path / archive, tmp_path / "other", limit=2)
        assert not (tmp_path / "other").exists()


UNSAFE = {
    "parent": ("a/../../evil", tarfile.REGTYPE, b"x"),
    "absolute": ("/tmp/evil", tarfile.REGTYPE, b"x"),
    "backslash": ("..\\evil", tarfile.REGTYPE, b"x"),
    "drive": ("C:/evil", tarfile.REGTYPE, b"x"),
    "symbolic link": ("a/b", tarfile.SYMTYPE, b"/etc"),
    "symbolic link inside": ("a/b", tarfile.SYMTYPE, b"ok"),
    "hard link": ("a/b", tarfile.LNKTYPE, b"ok"),
    "character device": ("a/null", tarfile.CHRTYPE, b""),
    "block device": ("a/disk", tarfile.BLKTYPE, b""),
    "pipe": ("a/pipe", tarfile.FIFOTYPE, b""),
    "twice": ("ok", tarfile.REGTYPE, b"x"),
    "below a file": ("ok/evil", tarfile.REGTYPE, b"x"),
}


@pytest.mark.parametrize("reason", UNSAFE)
def test_unsafe_tars_leave_nothing(tmp_path: Path, reason: str) -> None:
    archive = tar_of(tmp_path / "a.tar.gz", ("ok", tarfile.REGTYPE, b"fine"), UNSAFE[reason])
    with pytest.raises(InputError, match=r"a\.tar\.gz: .*(refused|cannot be unpacked)"):
        unpack(archive, tmp_path / "x" / "out", limit=1000)
    assert sorted(os.listdir(tmp_path)) == ["a.tar.gz", "x"]
    assert os.listdir(tmp_path / "x") == []


def test_unsafe_zips_and_damaged_archives_leave_nothing(tmp_path: Path) -> None:
    def zip_of(name: str, mode: int = 0) -> Path:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            file.writestr(info, b"target")
        return tmp_path / "a.zip"

    for name, mode in (("../evil", 0), ("/evil", 0), ("link", 0o120777), ("device", 0o060644)):
        with pytest.raises(InputError, match="refused"):
            unpack(zip_of(name, mode), tmp_path / "out", limit=1000)
    whole = tar_of(tmp_path / "b.tar.gz", ("a", tarfile.REGTYPE, BODY)).read_bytes()
    for damaged in (whole[: len(whole) // 2], b"no archive at all", b""):
        (tmp_path / "b.tar.gz").write_bytes(damaged)
        with pytest.raises(InputError, match="cannot be unpacked"):
            unpack(tmp_path / "b.tar.gz", tmp_path / "out", limit=10**7)
    broken = bytearray(zip_of("a").read_bytes())
    broken[broken.index(b"target")] ^= 1  # the CRC is wrong now
    (tmp_path / "a.zip").write_bytes(broken)
    with pytest.raises(InputError, match="cannot be unpacked"):
        unpack(tmp_path / "a.zip", tmp_path / "out", limit=1000)
    assert sorted(os.listdir(tmp_path)) == ["a.zip", "b.tar.gz"]


def test_a_bomb_stops_at_the_limit(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "a.tar.gz", *((f"{i}", tarfile.REGTYPE, bytes(10**6)) for i in range(20)))
    assert archive.stat().st_size < 10**5
    with pytest.raises(InputError, match=r"unpacks to 6000000 bytes or more, allowed are 5000000"):
        unpack(archive, tmp_path / "out", limit=5 * 10**6)


# ---- the published lists


RATIOS = [i / 10 for i in range(11)]


@pytest.fixture(scope="module")
def lists(shared: Path) -> Path:
    return shared / "data" / "repartition"


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize(("module", "file"), [(rsna, "rsna_data.json"), (vindr, "vin_data.json")])
def test_unlabeled_set_for_every_anomaly_ratio(lists: Path, module, file: str, ratio: float) -> None:
    raw, size = json.loads((lists / file).read_text()), module.PUBLISHED
    content = read_repartition(lists / file, size, pool=True)
    if module is vindr and ratio > 0.8485:
        with pytest.raises(InputError, match=r"vin_data.json: anomaly_ratio .* pool has 3394: at most 0\.8485"):
            compose(content, size, ratio, file)
        return
    table = compose(content, size, ratio, file)
    sets = dict(iter(table.groupby("split")))
    unlabeled = sets["train_unlabeled"]
    abnormal = set(unlabeled.loc[unlabeled["label"] == "abnormal", "image_id"])
    assert len(unlabeled) == 4000 and len(abnormal) == round(4000 * ratio)
    assert table["image_id"].is_unique and (sets["train_normal"]["label"] == "normal").all()
    assert len(sets["train_normal"]) == len(raw["train"]["0"]) == {rsna: 3851, vindr: 4000}[module]
    assert sets["test"]["label"].value_counts().to_dict() == {"normal": 1000, "abnormal": 1000}
    # a second way: nested in the next ratio, and the published lists hold them in this order
    assert [f"{name}.png" for name in unlabeled["image_id"]] == (
        raw["train"]["unlabeled"]["0"][: 4000 - len(abnormal)] + raw["train"]["unlabeled"]["1"][: len(abnormal)]
    )
    if ratio >= 0.1:
        smaller = compose(content, size, ratio - 0.1, file)
        smaller = smaller[(smaller["split"] == "train_unlabeled") & (smaller["label"] == "abnormal")]
        assert set(smaller["image_id"]) < abnormal


def test_the_limit_of_vindr_and_ratios_that_are_none(lists: Path) -> None:
    content = read_repartition(lists / "vin_data.json", vindr.PUBLISHED, pool=True)
    table = compose(content, vindr.PUBLISHED, 0.8485, "x")
    assert ((table["split"] == "train_unlabeled") & (table["label"] == "abnormal")).sum() == 3394
    assert set(compose(content, vindr.PUBLISHED, None, "x")["split"]) == {"train_normal", "test"}
    for ratio in (-0.1, 1.1):
        with pytest.raises(InputError, match="anomaly_ratio: found"):
            compose(content, vindr.PUBLISHED, ratio, "x")


def test_nih_lists(lists: Path, tmp_path: Path) -> None:
    table = nih.read_lists(lists)
    counts = table.groupby(["split", "label", "sex"]).size().to_dict()
    assert counts == {
        ("train_normal", "normal", "M"): 1973,
        ("train_normal", "normal", "F"): 1641,
        ("test", "normal", "M"): 299,
        ("test", "normal", "F"): 244,
        ("test", "abnormal", "M"): 139,
        ("test", "abnormal", "F"): 123,
    }
    for sex in "MF":
        alone = nih.read_lists(lists, sexes=[sex])
        assert alone.equals(table[table["sex"] == sex].reset_index(drop=True))
    with pytest.raises(InputError, match="1641 images, published are 2"):
        nih.read_lists(lists, nih.PublishedNih((1, 2), (1, 1), (1, 1)), ["F"])
    patients = table.groupby("split")["patient_id"].agg(set)
    assert not patients["test"] & patients["train_normal"] and table["image_id"].is_unique
    with pytest.raises(InputError, match=r"norm_MaleAdultPA_train_curated_list.txt: no such file; `amae fetch-source"):
        nih.read_lists(tmp_path)
    with pytest.raises(InputError, match="1973 images, published are 2"):
        nih.read_lists(lists, nih.PublishedNih((2, 1), (1, 1), (1, 1)))


def test_lists_of_another_form_are_refused(tmp_path: Path) -> None:
    size, path = Published(1, 1, 1, 1, 1, 1), tmp_path / "data.json"

    def refused(content: object, reason: str, pool: bool = True) -> None:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        with pytest.raises(InputError, match=rf"data\.json: .*{reason}"):
            read_repartition(path, size, pool)

    good = {"train": {"0": ["a.png"], "unlabeled": {"0": ["b.png"], "1": ["c.png"]}}, "test": {"0": ["d"], "1": ["e"]}}
    refused("{", "not JSON")
    refused([], "no key train")
    refused({**good, "train": {"0": ["a.png"]}}, "no key train > unlabeled; it may serve protocol N only")
    refused({**good, "test": {"0": ["d.png"]}}, "no key test > 1")
    refused({**good, "test": {"0": ["d.png", "f.png"], "1": []}}, r"test > 0 has 2 images, published are 1 \(test_norm")
    refused({**good, "test": {"0": ["c.png"], "1": ["e"]}}, "c is in test_normal and in pool_abnormal")
    refused({**good, "test": {"0": "d.png", "1": ["e"]}}, "test > 0 is not a list")
    path.write_text(json.dumps({**good, "train": {"0": ["a.png"]}}))
    assert read_repartition(path, size, pool=False) == {
        "train_normal": ["a"],
        "test_normal": ["d"],
        "test_abnormal": ["e"],
    }
    with pytest.raises(InputError, match="No such file or directory; expected a file in DDAD's form"):
        read_repartition(tmp_path / "other.json", size, pool=True)


# ---- miniature copies of the on-disk forms


SMALL = Published(train_normal=4, pool_normal=6, pool_abnormal=5, unlabeled=5, test_normal=3, test_abnormal=3)


def picture(size: int = 32) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(size * size, dtype=np.uint8).reshape(size, size)).save(file, "PNG")
    return file.getvalue()


def small_lists(prefix: str) -> dict:
    names = iter(f"{prefix}{i:02d}.png" for i in range(99))
    take = lambda count: [next(names) for _ in range(count)]  # noqa: E731
    train = {"0": take(4), "unlabeled": {"0": take(6), "1": take(5)}}
    return {"train": train, "test": {"0": take(3), "1": take(3)}}


def names_of(lists: dict) -> list[str]:
    parts = [lists["train"]["0"], *lists["train"]["unlabeled"].values(), *lists["test"].values()]
    return [Path(name).stem for part in parts for name in part]


def write(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def tables_in(folder: Path, lists: dict) -> None:
    """Metadata tables in the form of torchxrayvision, for the miniature lists."""
    names, boxed = names_of(lists), {Path(n).stem for n in [*lists["test"]["1"], *lists["train"]["unlabeled"]["1"]]}
    headers = ["PatientID,ViewPosition,PatientSex,PatientAge"]
    headers += [f"{name},{'AP' if i % 2 else 'PA'},F,{155 if i == 0 else 30 + i}" for i, name in enumerate(names)]
    write(folder / "kaggle_stage_2_train_images_dicom_headers.csv.gz", gzip.compress("\n".join(headers).encode()))
    boxes = ["patientId,x,y,width,height,Target"]
    boxes += [f"{name},256.0,512.0,64.0,128.0,1" if name in boxed else f"{name},,,,,0" for name in names]
    with zipfile.ZipFile(folder / "kaggle_stage_2_train_labels.csv.zip", "w") as file:
        file.writestr("stage_2_train_labels.csv", "\n".join(boxes))
    marks = ["image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"]
    for name in names:
        marks += [
            f"{name},Nodule/Mass,8,R{r},10,20,{30 + r},40" if name in boxed else f"{name},No finding,14,R{r},,,,"
            for r in (9, 8, 10)
        ]
    write(folder / "vinbigdata-train.csv.gz", gzip.compress("\n".join(marks).encode()))


def indexed(
    folder: Path, dataset: str, source: Path, **given: object
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Manifest, hidden labels and boxes that the command writes."""
    files = {name: folder / f"{name}.csv" for name in ("image_table", "manifest", "hidden_labels", "boxes")}
    splits = given.pop("splits", None)
    index(**files, source=PublishedSet(dataset, source, **given), splits=splits)
    manifest = read_manifest(files["manifest"])
    assert all(Path(path).is_file() for path in manifest["path"])
    return manifest, read_csv(files["hidden_labels"]), read_csv(files["boxes"])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Published counts of the miniature copies, and no installed metadata."""
    for module in (rsna, vindr):
        monkeypatch.setattr(module.index, "__defaults__", (SMALL,))
    monkeypatch.setattr(nih.index, "__defaults__", (nih.PublishedNih((3, 2), (1, 1), (1, 1)),))
    monkeypatch.setattr(paediatric.index, "__defaults__", (((8, 9),),))
    monkeypatch.setattr(metadata.importlib.util, "find_spec", lambda name: None)


@pytest.mark.usefixtures("small")
def test_rsna_original_files(tmp_path: Path) -> None:
    lists, source = small_lists("r"), tmp_path / "kaggle"
    for name in [*names_of(lists), "unused"]:
        write(source / "rsna" / "stage_2_train_images" / f"{name}.dcm", "a DICOM file")
    write(source / "rsna_data.json", json.dumps(lists))
    tables_in(source, lists)
    mapping = [{"subset_img_id": name, "img_id": f"{i // 2:08d}_{i:03d}.png"} for i, name in enumerate(names_of(lists))]
    write(source / "pneumonia-challenge-dataset-mappings_2018.json", json.dumps(mapping))
    write(source / "train_official.txt", "00000007_015.png 0 0 1\n")
    manifest, hidden, boxes = indexed(tmp_path, "rsna", source, anomaly_ratio=0.6)
    assert manifest["split"].value_counts().to_dict() == {"train_normal": 4, "train_unlabeled": 5, "test": 6}
    unlabeled = manifest[manifest["split"] == "train_unlabeled"]
    assert list(unlabeled["image_id"]) == ["r04", "r05", "r10", "r11", "r12"] and set(unlabeled["label"]) == {""}
    assert hidden["label"].value_counts().to_dict() == {"abnormal": 3, "normal": 2}
    rows = manifest.set_index("image_id")
    assert rows.loc["r15", ["label", "view", "sex", "age", "patient_id", "in_pretraining"]].tolist() == [
        "normal", "AP", "F", "45", "00000007", "yes"
    ]  # fmt: skip
    assert rows.loc["r00", "age"] == "" and rows.loc["r00", "in_pretraining"] == "no"
    assert set(unlabeled["nih_image"]) == {""} and (unlabeled["view"] != "").all()
    assert list(boxes["image_id"]) == ["r18", "r19", "r20"]  # none of T_u
    assert boxes.iloc[0, 1:].tolist() == ["Lung Opacity", "256.0", "512.0", "320.0", "640.0"]
    (source / "kaggle_stage_2_train_labels.csv.zip").unlink()
    write(source / "stage_2_train_labels.csv", "patientId,x,y,width,height\nr15,,,,\nr18,1,2,?,4\n")
    with pytest.raises(InputError, match=r"stage_2_train_labels\.csv: row 3: found 1, 2, \?, 4; expected numbers"):
        indexed(tmp_path, "rsna", source, anomaly_ratio=0.6)


def rsna_files(folder: Path, same_patient: dict[str, str] | None = None) -> None:
    """Miniature original files with their lists; the patient of an image, where told, is also another image's."""
    lists = small_lists("r")
    for name in names_of(lists):
        write(folder / "stage_2_train_images" / f"{name}.dcm", "a DICOM file")
    write(folder / "rsna_data.json", json.dumps(lists))
    if same_patient is not None:
        numbers = {name: i for i, name in enumerate(names_of(lists))}
        mapping = [
            {"subset_img_id": name, "img_id": f"{numbers[same_patient.get(name, name)]:08d}_{i:03d}.png"}
            for name, i in numbers.items()
        ]
        write(folder / "pneumonia-challenge-dataset-mappings_2018.json", json.dumps(mapping))


SHARED = {"r00": "r15", "r05": "r19", "r10": "r18", "r11": "r12"}  # r11 and r12 are both of the pool


@pytest.mark.usefixtures("small")
def test_training_without_patients_of_the_test_set(tmp_path: Path, capsys) -> None:
    rsna_files(tmp_path, SHARED)
    published, _, _ = indexed(tmp_path, "rsna", tmp_path, anomaly_ratio=0.6)
    assert "warning: 3 patients are in both training and test (3 test images" in capsys.readouterr().err
    manifest, hidden, boxes = indexed(tmp_path, "rsna", tmp_path, anomaly_ratio=0.6, patient_disjoint=True)
    told = capsys.readouterr().err
    assert "1 of 4 of train_normal, 1 of 6 of pool_normal, 1 of 5 of pool_abnormal, 0 of 3 of test_normal" in told
    assert "; 0 images of unknown patients" in told and "patients are in both" not in told
    assert "rsna_data.json: not the published list" in told
    sets = manifest.groupby("split")["image_id"].agg(list)
    assert sets["train_normal"] == ["r01", "r02", "r03"]
    assert sets["train_unlabeled"] == ["r04", "r06", "r11", "r12", "r13"]  # the next of each list takes the place
    test = published["split"] == "test"
    pd.testing.assert_frame_equal(manifest[manifest["split"] == "test"].reset_index(drop=True),
                                  published[test].reset_index(drop=True))  # fmt: skip
    assert hidden["label"].value_counts().to_dict() == {"abnormal": 3, "normal": 2} and boxes.empty
    with pytest.raises(InputError, match=r"anomaly_ratio 1 needs 5 abnormal .* the pool has 4: at most 0\.8"):
        indexed(tmp_path, "rsna", tmp_path, anomaly_ratio=1.0, patient_disjoint=True)


@pytest.mark.usefixtures("small")
def test_patients_that_are_not_known_cannot_be_kept_apart(tmp_path: Path) -> None:
    rsna_files(tmp_path)
    with pytest.raises(InputError, match=r"patient_disjoint needs pneumonia-challenge-dataset-mappings_2018\.json"):
        indexed(tmp_path, "rsna", tmp_path, anomaly_ratio=0.6, patient_disjoint=True)
    swapped = [{"subset_img_id": "00000001_000.png", "img_id": "r00"}]  # the two columns exchanged
    write(tmp_path / "pneumonia-challenge-dataset-mappings_2018.json", json.dumps(swapped))
    with pytest.raises(
        InputError, match="patient_disjoint needs the patients of the images, and none of them is known"
    ):
        indexed(tmp_path, "rsna", tmp_path, anomaly_ratio=0.6, patient_disjoint=True)
    write(tmp_path / "vin_data.json", json.dumps(small_lists("v")))
    with pytest.raises(InputError, match="vindr: patient_disjoint is true, but VinDr-CXR does not list its patients"):
        indexed(tmp_path, "vindr", tmp_path, anomaly_ratio=0.6, patient_disjoint=True)


@pytest.mark.parametrize(("disjoint", "ratios"), [(False, [0, 0.2, 0.4, 0.6, 0.8, 1]), (True, [0, 0.2, 0.4, 0.6, 0.8])])
@pytest.mark.usefixtures("small")
def test_candidates_are_the_images_of_every_ratio(tmp_path: Path, disjoint: bool, ratios) -> None:
    rsna_files(tmp_path, SHARED)
    every = set()
    for ratio in ratios:
        manifest = indexed(tmp_path, "rsna", tmp_path, anomaly_ratio=ratio, patient_disjoint=disjoint)[0]
        every |= set(manifest["image_id"])
    files = {name: tmp_path / f"{name}.csv" for name in ("image_table", "candidates")}
    list_images(**files, source=PublishedSet("rsna", tmp_path, anomaly_ratio=0.6, patient_disjoint=disjoint))
    candidates = read_manifest(files["candidates"])
    assert set(candidates["image_id"]) == every
    assert set(candidates.loc[candidates["split"] == "train_unlabeled", "label"]) == {""}
    list_images(**files, source=PublishedSet("rsna", tmp_path))
    assert set(read_manifest(files["candidates"])["split"]) == {"train_normal", "test"}


def archive_of(lists: dict, names: list[str], folder: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in [("data.json", json.dumps(lists).encode())] + [
            (f"images/{n}.png", picture()) for n in names
        ]:
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """Replace the rows of the catalogue."""

    def replace(*replaced: catalogue.Source) -> None:
        monkeypatch.setattr(catalogue, "catalogue", lambda: replaced)

    yield replace


def row(**given: object) -> catalogue.Source:
    whole = {"version": "1", "licence": "none", "note": "images: few", "md5": None, "sha256": None, "size": None}
    return catalogue.Source(**whole | {"access": "open"} | given)


@pytest.mark.usefixtures("small")
def test_rsna_archive_is_fetched_unpacked_and_indexed(tmp_path: Path, rows, capsys, monkeypatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    lists, source = small_lists("r"), tmp_path / "raw"
    body = archive_of(lists, names_of(lists), "RSNA")
    with served(body, breaks=1) as (url, asked):
        rows(
            row(name="rsna-archive", dataset="rsna", file="RSNA.tar.gz", url=url, md5=hashlib.md5(body).hexdigest()),
            row(
                name="rsna-kaggle", dataset="rsna", file="d", url="https://kaggle", access="log in", size=4_000_000_000
            ),
        )
        for _ in range(2):
            commands.fetch_source(name="rsna", folder=source)
    assert len(asked) == 2
    assert json.loads((source / "checksums.json").read_text()) == {"RSNA.tar.gz": hashlib.sha256(body).hexdigest()}
    assert "rsna-kaggle: https://kaggle, 4.0 GB, log in; terms: none; goes to" in capsys.readouterr().err
    tables_in(tmp_path / "tables", lists)
    manifest, _, boxes = indexed(tmp_path, "rsna", source, anomaly_ratio=0.6, metadata=tmp_path / "tables")
    assert len(manifest) == 15 and set(manifest["patient_id"]) == {""}
    # a file of 32 px instead of the original 1024
    assert boxes.iloc[0, 2:].astype(float).tolist() == [8.0, 16.0, 10.0, 20.0]


def test_checksums_of_weights_fetched_side_by_side_are_all_kept(tmp_path: Path, rows, monkeypatch) -> None:
    names = [f"w{number}" for number in range(4)]
    rows(*(row(name=name, dataset="weights", file=f"{name}.pth", url="") for name in names))
    all_have_read = threading.Barrier(4, timeout=30)

    def fetch(source: catalogue.Source, *_: object) -> str:
        all_have_read.wait()
        return f"sum of {source.name}"

    monkeypatch.setattr(commands, "_fetch", fetch)
    monkeypatch.setattr(commands, "write_json", lambda *given: time.sleep(0.05) or write_json(*given))
    (tmp_path / "checksums.json").write_text('{"before.pth": "kept"}')
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: commands.fetch_source(name=name, folder=tmp_path), names))
    expected = {f"{name}.pth": f"sum of {name}" for name in names} | {"before.pth": "kept"}
    assert json.loads((tmp_path / "checksums.json").read_text()) == expected
    (tmp_path / "checksums.json").write_text('{"before.pth"')
    with pytest.raises(InputError, match=r"checksums\.json: not a readable record \("):
        commands.fetch_source(name="weights", folder=tmp_path)


@pytest.mark.usefixtures("small")
def test_an_archive_without_unlabeled_images_serves_protocol_n(tmp_path: Path, capsys) -> None:
    lists = small_lists("v")
    part = [Path(n).stem for n in [*lists["train"]["0"], *lists["test"]["0"], *lists["test"]["1"]]]
    for name in part:
        write(tmp_path / "VinCXR" / "images" / f"{name}.png", picture())
    write(tmp_path / "VinCXR" / "data.json", json.dumps({"train": {"0": lists["train"]["0"]}, "test": lists["test"]}))
    manifest, hidden, boxes = indexed(tmp_path, "vindr", tmp_path)
    assert manifest["split"].value_counts().to_dict() == {"test": 6, "train_normal": 4} and hidden.empty and boxes.empty
    assert "no vinbigdata-train.csv.gz or train.csv; its columns stay empty" in capsys.readouterr().err
    with pytest.raises(InputError, match="no key train > unlabeled"):
        indexed(tmp_path, "vindr", tmp_path, anomaly_ratio=0.6)
    write(tmp_path / "all.json", json.dumps(lists))
    with pytest.raises(
        InputError, match=r"5 of 15 images are missing \(train_unlabeled 5\): v04, .*one-class training"
    ):
        indexed(tmp_path, "vindr", tmp_path, anomaly_ratio=0.6, repartition=tmp_path / "all.json")


@pytest.mark.usefixtures("small")
def test_vindr_original_files(tmp_path: Path) -> None:
    lists = small_lists("v")
    for name in names_of(lists):
        write(tmp_path / "train" / f"{name}.dicom", "a DICOM file")
    write(tmp_path / "vin_data.json", json.dumps(lists))
    tables_in(tmp_path, lists)
    manifest, _, boxes = indexed(tmp_path, "vindr", tmp_path, anomaly_ratio=1.0)
    known = manifest.set_index("image_id")
    assert known.loc["v18", "finding"] == "Nodule/Mass" and known.loc["v18", "readers"] == "R10|R8|R9"
    assert set(known.loc[known["split"] == "train_unlabeled", "finding"]) == {""}
    assert len(boxes) == 9 and boxes.iloc[0, 1:].tolist() == ["Nodule/Mass", "10.0", "20.0", "39.0", "40.0"]
    with pytest.raises(InputError, match=r"no repartition file \(rsna_data\.json or .*Get it: rsna-repartition: https"):
        indexed(tmp_path, "rsna", tmp_path / "train", anomaly_ratio=1.0)
    with pytest.raises(InputError, match=r"anomaly_ratio: found 1\.5"):
        indexed(tmp_path, "vindr", tmp_path, anomaly_ratio=1.5)


@pytest.mark.parametrize("place", ["images_{n:03d}/images", "images"])
@pytest.mark.usefixtures("small")
def test_nih_folders(tmp_path: Path, place: str) -> None:
    number = iter(range(1, 99))
    entries, wanted = ["Image Index,Finding Labels,Patient Age"], []
    for name, count in {"norm_Male_train": 3, "norm_Female_train": 2, "norm_Male_test": 1, "norm_Female_test": 1,
                        "anomaly_Male_test": 1, "anomaly_Female_test": 1}.items():  # fmt: skip
        kind, sex, part = name.split("_")
        images = [f"{next(number):08d}_000.png" for _ in range(count)]
        wanted += images
        write(tmp_path / f"{kind}_{sex}AdultPA_{part}_curated_list.txt", "\n".join(images))
    for n, image in enumerate(wanted, 1):
        write(tmp_path / place.format(n=n % 3 + 1) / image, picture(64))
        entries.append(f"{image},{'No Finding' if n < 8 else 'Mass|Nodule'},{40 + n}")
    write(tmp_path / "Data_Entry_2017_v2020.csv", "\n".join(entries))
    write(
        tmp_path / "BBox_List_2017.csv",
        f"Image Index,Finding Label,Bbox [x,y,w,h],,,\n{wanted[-1]},Mass,512,256,128,64,,,\n",
    )
    manifest, hidden, boxes = indexed(tmp_path, "nih", tmp_path)
    assert manifest["split"].value_counts().to_dict() == {"train_normal": 5, "test": 4} and hidden.empty
    assert set(manifest["view"]) == {"PA"} and manifest["sex"].value_counts().to_dict() == {"M": 5, "F": 4}
    last = manifest.set_index("image_id").loc["00000009_000"]
    assert last[["label", "patient_id", "age", "finding"]].tolist() == ["abnormal", "00000009", "49", "Mass|Nodule"]
    assert boxes.iloc[0].tolist() == ["00000009_000", "Mass", "32.0", "16.0", "40.0", "20.0"]
    assert indexed(tmp_path, "nih", tmp_path, patient_disjoint=True)[0].equals(manifest)  # they share no patient
    women, _, marked = indexed(tmp_path, "nih", tmp_path, sexes=["F"])
    assert women.equals(manifest[manifest["sex"] == "F"].reset_index(drop=True)) and marked.equals(boxes)
    assert indexed(tmp_path, "nih", tmp_path, sexes=["M"])[2].empty
    with pytest.raises(InputError, match="sexes: vindr has no lists by sex; only nih has"):
        indexed(tmp_path, "vindr", tmp_path, sexes=["M"], repartition=tmp_path / "list")
    again = wanted[-1].replace("_000", "_001")  # a woman of the test set, now in training too
    write(tmp_path / place.format(n=1) / again, picture(64))
    write(tmp_path / "norm_FemaleAdultPA_train_curated_list.txt", f"{wanted[3]}\n{again}\n")
    assert "00000009_001" in set(indexed(tmp_path, "nih", tmp_path)[0]["image_id"])
    kept = indexed(tmp_path, "nih", tmp_path, patient_disjoint=True)[0]
    assert kept["split"].value_counts().to_dict() == {"test": 4, "train_normal": 4}
    assert "00000009_001" not in set(kept["image_id"])
    with pytest.raises(InputError, match=r"nih has no unlabeled set: anomaly_ratio is 0\.6, expected none"):
        indexed(tmp_path, "nih", tmp_path, anomaly_ratio=0.6)


SPLITS = SplitSettings(
    **{"train_normal": 2, "unlabeled": 3, "anomaly_ratio": 0.6, "test_normal": 2, "test_abnormal": 2, "seed": 0}
)


def paediatric_files(folder: Path) -> list[Path]:
    normal = [f"IM-{n:04d}-0001" for n in range(4)] + [f"NORMAL2-IM-{n:04d}-0001-000{n}" for n in range(4)]
    sick = [f"person{n}_{kind}_{n + 7}" for n, kind in enumerate(["bacteria"] * 5 + ["virus"] * 3)] + [
        "person1_virus_99"
    ]
    part = ["train", "test", "val"]
    paths = [folder / part[i % 3] / "NORMAL" / f"{name}.jpeg" for i, name in enumerate(normal)]
    paths += [folder / part[i % 3] / "PNEUMONIA" / f"{name}.jpeg" for i, name in enumerate(sick)]
    for path in paths:
        write(path, "a JPEG file")
        write(path.with_name(f"._{path.name}"), "macOS")
    return paths


@pytest.mark.usefixtures("small")
def test_paediatric_zip_is_fetched_and_split_by_patient(tmp_path: Path, rows) -> None:
    outer, file = tmp_path / "made" / "chest_xray", io.BytesIO()
    paths = paediatric_files(outer) + paediatric_files(outer / "chest_xray")  # twice, as in Kaggle's
    with zipfile.ZipFile(file, "w") as archive:
        for path in paths:
            archive.write(path, path.relative_to(tmp_path / "made"))
    with served(file.getvalue(), kind="application/zip") as (url, _):
        rows(row(name="zip", dataset="paediatric", file="ChestXRay2017.zip", url=url))
        commands.fetch_source(name="paediatric", folder=tmp_path / "raw")
    manifest, hidden, _ = indexed(tmp_path, "paediatric", tmp_path / "raw", splits=SPLITS)
    assert manifest["split"].value_counts().to_dict() == {"train_normal": 2, "train_unlabeled": 3, "test": 4}
    test = set(manifest.loc[manifest["split"] == "test", "patient_id"])
    assert not test & set(manifest.loc[manifest["split"] != "test", "patient_id"])
    assert hidden["label"].value_counts().to_dict() == {"abnormal": 2, "normal": 1}
    table = read_csv(tmp_path / "image_table.csv").set_index("image_id")
    assert table.loc["NORMAL2-IM-0002-0001-0002", ["patient_id", "finding"]].tolist() == ["NORMAL2-IM-0002", "normal"]
    assert table.loc["person6_virus_13", ["patient_id", "finding"]].tolist() == ["person6", "virus pneumonia"]
    assert (table["patient_id"] == "person1").sum() == 2 and "split" not in table
    with pytest.raises(InputError, match="--splits: those of paediatric are missing"):
        indexed(tmp_path, "paediatric", tmp_path / "raw")
    with served(b"another file", kind="application/zip") as (url, _):
        (tmp_path / "raw" / "ChestXRay2017.zip").unlink()
        rows(row(name="zip", dataset="paediatric", file="ChestXRay2017.zip", url=url))
        with pytest.raises(InputError, match=r"sha256 is .*, expected"):  # of the first use
            commands.fetch_source(name="paediatric", folder=tmp_path / "raw")


def test_the_record_of_first_uses_is_no_output_of_a_rule() -> None:
    """Snakemake deletes outputs before a job; a new download would then be held against nothing."""
    assert commands.RECORD not in "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))


def test_paediatric_folder_with_a_table(shared: Path) -> None:
    table = paediatric.index(shared / "data" / "paediatric")
    assert table["label"].value_counts().to_dict() == {"abnormal": 4265, "normal": 1575}
    given = read_csv(shared / "data" / "paediatric" / "labels.csv")
    assert list(table["finding"]) == list(given["finding"]) and table["image_id"].is_unique
    # never finer than the patients that another reader of the names made out
    assert given.groupby("patient_id").size().size == 3344 and table["patient_id"].nunique() == 3103
    assert (table["patient_id"].groupby(given["patient_id"]).nunique() == 1).all()


def test_missing_sources_say_what_to_get(tmp_path: Path) -> None:
    write(tmp_path / "rsna_data.json", "{}")
    with pytest.raises(InputError) as error:
        find_images("rsna", tmp_path, rsna.FORMS)
    told = str(error.value)
    assert "stage_2_train_images/*.dcm or images/*.png" in told and f"goes to {tmp_path / 'RSNA.tar.gz'}" in told
    assert "568.0 MB" in told and "terms: " in told and "Kaggle account" in told and "amae fetch-source" in told
    with pytest.raises(InputError, match="no images of paediatric"):
        paediatric.index(tmp_path)
    with pytest.raises(InputError, match="imagenet: no such source; known are rsna, vindr, nih, paediatric"):
        commands.fetch_source(name="imagenet", folder=tmp_path)


def test_the_catalogue_is_whole(lists: Path) -> None:
    every = catalogue.catalogue()
    assert len({source.name for source in every}) == len(every)
    assert {source.dataset for source in every} == {"rsna", "vindr", "nih", "paediatric", "metadata", "weights"}
    assert all(source.url.startswith("https://") and source.licence for source in every)
    (resnet,) = (source for source in every if source.sha256 and source.dataset == "weights")
    assert resnet.file == f"resnet18-{resnet.sha256[:8]}.pth"  # torchvision names its files so
    pinned = [source for source in every if source.sha256 and source is not resnet]
    assert len(pinned) == 8
    for source in pinned:
        content = (lists / source.file if source.dataset != "nih" else lists / f"nsa_{source.file}").read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (source.sha256, source.size)


# ---- metadata, against the real tables where they are


@pytest.fixture(scope="module")
def xrv() -> list[Path]:
    """Folders of the real tables: AMAE_XRV, or the installed torchxrayvision."""
    folders = metadata.table_folders(os.environ.get("AMAE_XRV"))
    if metadata.find_file(folders, metadata.TABLES["rsna_headers"]) is None:
        pytest.skip("tables of torchxrayvision not found; install it, or set AMAE_XRV to its data folder")
    return folders


def without_images(monkeypatch: pytest.MonkeyPatch, module, suffix: str) -> None:
    """Index from lists and tables alone."""
    monkeypatch.setattr(module, "find_images", lambda *_: (suffix, {}))
    monkeypatch.setattr(module, "add_paths", lambda table, *_: table.assign(path=table["image_id"] + suffix))


def test_real_rsna_tables(lists: Path, xrv: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    without_images(monkeypatch, rsna, ".dcm")
    table, boxes = rsna.index(Path(), lists / "rsna_data.json", 0.6, xrv)
    test = table[table["split"] == "test"]
    assert test.groupby(["label", "view"]).size().to_dict() == {
        ("normal", "PA"): 817,
        ("normal", "AP"): 183,
        ("abnormal", "PA"): 239,
        ("abnormal", "AP"): 761,
    }
    assert set(test["sex"]) == {"M", "F"} and table["age"].replace("", "0").astype(int).max() <= metadata.OLDEST
    assert set(boxes["image_id"]) == set(test.loc[test["label"] == "abnormal", "image_id"])
    assert (boxes["x_min"] >= 0).all() and (boxes["y_max"] <= 1024).all() and (boxes["x_max"] > boxes["x_min"]).all()


def test_real_vindr_tables(lists: Path, xrv: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    without_images(monkeypatch, vindr, ".dicom")
    table, boxes = vindr.index(Path(), lists / "vin_data.json", 0.6, xrv)
    abnormal = table["label"] == "abnormal"
    assert (table.loc[abnormal, "finding"] != "No finding").all()
    assert (table.loc[~abnormal, "finding"] == "No finding").all()
    assert (table["readers"].str.count(r"\|") == 2).all()
    assert set(boxes["image_id"]) == set(table.loc[abnormal & (table["split"] == "test"), "image_id"])


def test_real_nih_tables(lists: Path, xrv: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    without_images(monkeypatch, nih, ".png")
    monkeypatch.setattr(metadata, "_size", lambda path, side: (side, side))
    table, boxes = nih.index(Path(), lists, None, xrv)
    entries = metadata.read_table("nih", xrv, ["Image Index"]).set_index("Image Index").loc[table["image_id"] + ".png"]
    assert (entries["View Position"].to_numpy() == table["view"].to_numpy()).all()
    assert (entries["Patient Gender"].to_numpy() == table["sex"].to_numpy()).all()
    assert (entries["Patient ID"].astype(int).to_numpy() == table["patient_id"].astype(int).to_numpy()).all()
    normal = table["label"] == "normal"
    assert (table.loc[normal, "finding"] == "No Finding").all() and len(boxes) == 18
    assert table.loc[table["age"].astype(int) < 18, "image_id"].tolist() == ["00020120_000"]


# ---- printed figures


def test_published_figures(shared: Path) -> None:
    table = pd.read_csv(ROOT / "amae/evaluation/published.csv", dtype={"anomaly_ratio": float, "value": float})
    keys = ["method", "protocol", "dataset", "metric", "anomaly_ratio"]
    assert (table.groupby(keys, dropna=False)["value"].nunique() == 1).all()  # no two papers contradict each other here
    assert set(table.loc[table["note"].notna(), "dataset"]) == {"nih"}
    assert table.drop(columns="note").equals(
        pd.read_csv(shared / "published.csv", dtype={"anomaly_ratio": float, "value": float})
    )


def test_metadata_of_other_images_or_forms_is_told(tmp_path: Path, capsys) -> None:
    table = pd.DataFrame({"image_id": ["a"]})
    facts = pd.DataFrame({"image": ["a.dcm"], "sex": ["F"]})
    assert join(table, facts, "image", {"sex": "sex"})["sex"].tolist() == [""]
    assert "no image of the table is an image of the data set (its first is 'a.dcm', expected such as 'a'); sex" in (
        capsys.readouterr().err
    )
    assert plausible_age(pd.Series(["058Y", "7", "130", "", "058M"])).tolist() == ["58", "7", "", "", ""]
    boxes = pd.DataFrame([("a", "x", "1", "2", "3", "4"), ("b", "x", "9", "9", "5", "-6")])
    boxes.columns = ["image_id", "finding", "x", "y", "width", "height"]
    small = pd.DataFrame({"image_id": ["a"], "split": "test", "path": [str(tmp_path / "a.PNG")]})
    Image.new("L", (256, 256)).save(tmp_path / "a.PNG")
    box = pd.DataFrame([("a", "x", 512.0, 0.0, 1024.0, 256.0)], columns=metadata.BOX_COLUMNS)
    assert metadata.boxes_in_files(box, small, 1024).iloc[0, 2:].tolist() == [128, 0, 256, 64]
    assert corner_boxes(boxes, ["x", "y", "width", "height"]).to_numpy().tolist() == [["a", "x", 1, 2, 4, 6]]
    assert "1 boxes without an area are left out" in capsys.readouterr().err
    assert in_pretraining(pd.Series(["a.png"]), [tmp_path]).tolist() == [""]
    assert "no train_official.txt; in_pretraining stays empty" in capsys.readouterr().err
    (tmp_path / "train_official.txt").write_text("a.png 0 1\n", encoding="utf-16")
    with pytest.raises(InputError, match=r"train_official\.txt: not a list in UTF-8"):
        in_pretraining(pd.Series(["a.png"]), [tmp_path])
