"""Studies of a DICOMweb server: scored and stored once, whatever fails; on a real Orthanc where there is one."""

import json
import warnings
from pathlib import Path

import orthanc
import pandas as pd
import pydicom
import pytest
from dicomweb_stub import Stub, serve
from small import write_model

from amae.cli import main
from amae.predict import load_model, score_files
from amae.predict.archive import TOKEN, Archive
from amae.predict.ledger import Ledger
from amae.sources.simulated.files import simulate_dataset

QUERY = ("--query", "StudyDate=20260102")
TIMEOUT = "1.5"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model of random weights, which flags and calls."""
    return write_model(tmp_path_factory.mktemp("model") / "model.safetensors", 64, "voi")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    """Three radiographs of a day, the first two of one study."""
    folder = tmp_path_factory.mktemp("radiographs")
    simulate_dataset(folder, 3, seed=0)
    paths = sorted((folder / "dicom").glob("*.dcm"))
    first = pydicom.dcmread(paths[0])
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.StudyDate = "20260102"
        if path == paths[1]:
            dataset.StudyInstanceUID, dataset.PatientID = first.StudyInstanceUID, first.PatientID
        dataset.save_as(path)
    return paths


@pytest.fixture
def stub(files, monkeypatch):
    """A server with these radiographs, and its address."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("amae.predict.archive.TRIES", 1)
    stub = Stub()
    for path in files:
        stub.add(path)
    with serve(stub) as stub.url:
        yield stub


def uid_of(path: Path) -> str:
    return str(pydicom.dcmread(path).SOPInstanceUID)


def run(url: str, model: Path, output: Path, *options: str) -> int:
    """Run the command; its status."""
    words = ["dicomweb", url, "--model", model, "--output", output, "--device", "cpu", "--specificity", "0.9"]
    options = options or QUERY
    if "--timeout" not in options:
        options = (*options, "--timeout", TIMEOUT)
    return main([str(word) for word in (*words, *options)])


def states(output: Path) -> dict[str, str]:
    """State of each image by its UID."""
    table = pd.read_csv(output / "predictions.csv", dtype=str, keep_default_na=False)
    return dict(zip(table["image"], table["state"], strict=True))


def results(datasets: list[pydicom.Dataset]) -> list[tuple[str, str]]:
    """Modality, and the image it refers to, of each map and report."""
    found = [("OT", each.SourceImageSequence[0]) for each in datasets if each.Modality == "OT"]
    for each in datasets:
        if each.Modality == "SR":
            [study] = each.CurrentRequestedProcedureEvidenceSequence
            found.append(("SR", study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]))
    return sorted((modality, str(item.ReferencedSOPInstanceUID)) for modality, item in found)


def both(*images: str) -> list[tuple[str, str]]:
    """A map and a report of each image."""
    return sorted((modality, image) for modality in ("OT", "SR") for image in images)


def contents(report: pydicom.Dataset) -> dict[str, object]:
    """Code to value of the measurements and the call of a report."""
    found, waiting = {}, [report]
    while waiting:
        item = waiting.pop()
        waiting += item.get("ContentSequence", [])
        if item is report or "ConceptNameCodeSequence" not in item:
            continue
        name = item.ConceptNameCodeSequence[0]
        code = name.get("CodeValue") or name.LongCodeValue
        if item.ValueType == "NUM":
            found[code] = float(item.MeasuredValueSequence[0].NumericValue)
        elif item.ValueType == "CODE":
            found[code] = item.ConceptCodeSequence[0].CodeValue
    return found


@pytest.mark.skipif(bool(orthanc.why_not()), reason=orthanc.why_not())
def test_a_real_server_gets_each_result_once(model, files, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server, output = orthanc.Orthanc(tmp_path / "orthanc"), tmp_path / "out"
    options = (*QUERY, "--timeout", "20")
    server.start()
    try:
        server.add(files[::2])
        assert run(server.url, model, output, *options, "--no-store") == 0
        assert len(server.instances()) == 2 and set(states(output).values()) == {"kept"}
        server.stop()
        assert run(server.url, model, output, *options) == 2
        error = capsys.readouterr().err
        assert error.splitlines()[-1].endswith(": search for studies: no connection, or a broken one")
        assert "Traceback" not in error
        assert set(states(output).values()) == {"kept"}
        server.start()
        server.add(files[1:2])  # one image more, of a study that was scored
        assert run(server.url, model, output, *options) == 0
        assert states(output) == {uid_of(path): "stored" for path in files} and not list((output / "kept").iterdir())
        ids = server.ask("/instances")
        assert len(ids) == 9
        assert run(server.url, model, output, *options) == 0
        assert run(server.url, model, tmp_path / "again", *options) == 0  # without the ledger: the same UIDs
        assert sorted(server.ask("/instances")) == sorted(ids)

        archive, found = Archive(server.url, 20), []
        for study in archive.studies({"StudyDate": "20260102"}):
            for series in archive._client.search_for_series(study):
                for each in archive._client.search_for_instances(study, series["0020000E"]["Value"][0]):
                    uids = (each[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018"))
                    found.append(archive._client.retrieve_instance(*uids))
    finally:
        server.stop()
    assert results(found) == both(*map(uid_of, files))
    [expected] = score_files(load_model(model), files, specificity=0.9)
    sources = {uid_of(path): (path, row) for path, row in zip(files, expected.table.itertuples(), strict=True)}
    for each in found:
        if each.Modality in ("OT", "SR"):
            path, row = sources[results([each])[0][1]]
            source = pydicom.dcmread(path)
            for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "StudyDate"):
                assert each[keyword].value == source[keyword].value
        if each.Modality == "SR":
            told = contents(each)
            assert told["detector"] == pytest.approx(row.detector, abs=1e-5)
            assert told["percentile"] == pytest.approx(row.detector_percentile) and told["call"] == row.call


@pytest.mark.skipif(bool(orthanc.why_not()), reason=orthanc.why_not())
def test_a_real_server_that_goes_midway(model, files, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server, output = orthanc.Orthanc(tmp_path / "orthanc"), tmp_path / "out"
    original = Archive.store

    def store_and_stop(*given: object) -> None:
        original(*given)
        server.stop()

    server.start()
    try:
        server.add(files[::2])
        monkeypatch.setattr(Archive, "store", store_and_stop)
        assert run(server.url, model, output, *QUERY, "--timeout", "20") == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        assert error.splitlines()[-1].endswith(
            "does not answer any more; 1 of 2 studies are done; run the same command again"
        )
        assert list(states(output).values()) == ["stored"]
        monkeypatch.setattr(Archive, "store", original)
        server.start()
        assert run(server.url, model, output, *QUERY, "--timeout", "20") == 0
        assert list(states(output).values()) == ["stored", "stored"] and len(server.instances()) == 6
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (404, "HTTP 404 Not Found"),
        (503, "HTTP 503 Service Unavailable"),
        (401, "HTTP 401 Unauthorized; give name and password in ~/.netrc, or a token in AMAE_DICOMWEB_TOKEN"),
        ("hang", "no answer within 1.5 s"),
        ("cut", "the answer broke off"),
        ("other", "the server sent another image"),
        ("text", "the answer is not as in PS3.18"),
    ],
)
def test_half_a_study_is_scored_and_the_rest_reported(model, files, stub, tmp_path, capsys, fault, reason):
    first, second, third = map(uid_of, files)
    stub.faults = {f"GET .*instances/{second}": fault}
    assert run(stub.url, model, tmp_path / "out") == 2
    error = capsys.readouterr().err
    study = pydicom.dcmread(files[1]).StudyInstanceUID
    [line] = [line for line in error.splitlines() if line.startswith("fault")]
    assert line.startswith(f"fault: study {study}: image {second}: not downloaded: {reason}")
    assert "Traceback" not in error and "SYNTHETIC" not in error
    assert error.splitlines()[-1].endswith("1 faults, see above; run the same command again, it does what is left")
    assert states(tmp_path / "out") == {first: "stored", second: "missing", third: "stored"}
    assert results(stub.datasets()) == both(first, third)
    stub.faults, stub.asked, stub.stored = {}, [], []
    assert run(stub.url, model, tmp_path / "out") == 0
    assert [each for each in stub.asked if "/instances/" in each] == [
        each for each in stub.asked if each.endswith(second)
    ]
    assert len(stub.stored) == 2 and results(stub.datasets()) == both(first, second, third)
    assert len(stub.datasets()) == 9 and not (tmp_path / "out/incoming").exists()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (507, "HTTP 507 Insufficient Storage"),
        (403, "HTTP 403 Forbidden"),
        ("refuse", "the server refuses it, FailureReason A700h"),
        ("silent", "the server does not confirm it"),
        ("hang", "no answer within 1.5 s"),
    ],
)
def test_a_refused_result_is_kept_and_stored_by_the_next_run(model, files, stub, tmp_path, capsys, fault, reason):
    stub.faults = {"POST": fault}
    assert run(stub.url, model, tmp_path / "out") == 2
    error = capsys.readouterr().err
    told = [line for line in error.splitlines() if line.startswith("fault")]
    assert len(told) == 3 and all(f"not stored: {reason}" in line and "kept in" in line for line in told)
    assert "Traceback" not in error and "SYNTHETIC" not in error
    assert set(states(tmp_path / "out").values()) == {"kept"}
    assert len(list((tmp_path / "out/kept").iterdir())) == 6
    stub.released.set()
    stub.faults, stub.asked = {}, []
    assert run(stub.url, model, tmp_path / "out") == 0
    assert set(states(tmp_path / "out").values()) == {"stored"} and not list((tmp_path / "out/kept").iterdir())
    assert not [each for each in stub.asked if "GET" in each and "/instances/" in each]  # nothing downloaded again
    assert results(stub.datasets()) == both(*map(uid_of, files)) and len(stub.datasets()) == 9


def test_a_result_that_the_server_has_already_is_stored(model, files, stub, tmp_path):
    stub.faults = {"POST": "lose"}  # as where it refuses a duplicate
    assert run(stub.url, model, tmp_path / "out") == 0
    assert set(states(tmp_path / "out").values()) == {"stored"} and len(stub.datasets()) == 9


@pytest.mark.parametrize("state", ["kept", "stored"])
def test_an_interrupted_run_goes_on(model, files, stub, tmp_path, monkeypatch, state):
    add = Ledger.add

    def interrupted(ledger: Ledger, row: dict) -> None:
        if row["state"] == state:
            raise KeyboardInterrupt
        add(ledger, row)

    monkeypatch.setattr(Ledger, "add", interrupted)
    assert run(stub.url, model, tmp_path / "out") == 130
    monkeypatch.setattr(Ledger, "add", add)
    with open(tmp_path / "out/ledger.jsonl", "ab") as file:
        file.write(b'{"study": "1.2", "ima')  # as of a process that was killed while it wrote
    assert run(stub.url, model, tmp_path / "out") == 0
    assert results(stub.datasets()) == both(*map(uid_of, files)) and len(stub.datasets()) == 9
    assert states(tmp_path / "out") == {uid_of(path): "stored" for path in files}
    assert not list((tmp_path / "out/kept").iterdir())
    assert all(json.loads(line) for line in (tmp_path / "out/ledger.jsonl").read_text().splitlines())


def test_what_is_no_frontal_radiograph_gets_a_row_and_no_result(model, files, stub, tmp_path):
    changes = {
        files[0]: {"ViewPosition": "LL"},
        files[1]: {"StudyTime": "half past"},
        files[2]: {"Modality": "MR"},
    }
    for path, change in changes.items():
        dataset = pydicom.dcmread(path)
        for keyword, value in change.items():
            dataset.add_new(keyword, pydicom.datadict.dictionary_VR(keyword), "")
            dataset[keyword]._value = value
        dataset.save_as(tmp_path / "changed.dcm")
        stub.add(tmp_path / "changed.dcm")
    broken = pydicom.dcmread(files[0])
    broken.SOPInstanceUID = broken.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    broken.Rows = 7
    broken.save_as(tmp_path / "changed.dcm")
    stub.add(tmp_path / "changed.dcm")
    assert run(stub.url, model, tmp_path / "out") == 0
    table = pd.read_csv(tmp_path / "out/predictions.csv", keep_default_na=False).set_index("image")
    assert set(table.index) == {uid_of(files[0]), uid_of(files[1]), "1.2.3.4"}  # not the MR image
    assert (table["state"] == "withheld").all() and (table["call"] == "").tolist().count(True) >= 2
    assert table.loc[uid_of(files[0]), "flag"] == "header: the view is not frontal"
    assert "StudyTime missing or not as in PS3.3" in table.loc[uid_of(files[1]), "reason"]
    assert table.loc["1.2.3.4", "reason"] and table.loc["1.2.3.4", "detector"] == ""
    assert not stub.stored
    stub.asked = []
    assert run(stub.url, model, tmp_path / "out") == 0
    assert not [each for each in stub.asked if "/instances/" in each]


def test_studies_of_a_list_and_of_a_query(model, files, stub, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(TOKEN, "secret")
    listed = tmp_path / "studies.txt"
    study = pydicom.dcmread(files[2]).StudyInstanceUID
    listed.write_text(f"{study}\n\n1.2.3\n{study}\n")
    assert run(stub.url, model, tmp_path / "out", "--studies", listed, "--query", "StudyDate=20260102") == 0
    assert states(tmp_path / "out") == {uid_of(files[2]): "stored"}
    said = capsys.readouterr().err
    assert set(stub.signed) == {"Bearer secret"} and "secret" not in said
    assert "study 1.2.3: left out, the server has none that matches --query" in said
    assert run(stub.url, model, tmp_path / "none", "--query", "StudyDate=19000101") == 0
    assert "0 studies (0 without" in capsys.readouterr().err and states(tmp_path / "none") == {}
    assert run(stub.url, model, tmp_path / "out", *QUERY) == 0  # another query goes on with the same ledger
    assert len(states(tmp_path / "out")) == 3 and len(stub.stored) == 6


def test_a_folder_belongs_to_one_model_and_one_run(model, files, stub, tmp_path, capsys):
    assert run(stub.url, model, tmp_path / "out") == 0
    ledger = tmp_path / "out/ledger.jsonl"
    before = ledger.read_bytes()
    assert run(stub.url, model, tmp_path / "out", *QUERY, "--score", "inter") == 2
    assert "of another run: score is 'detector' there, found 'inter'" in capsys.readouterr().err
    lines = before.splitlines(keepends=True)
    ledger.write_bytes(b"".join([lines[0], b"{}\n", *lines[1:]]))
    assert run(stub.url, model, tmp_path / "out") == 2
    assert "ledger.jsonl, line 2: damaged (KeyError)" in capsys.readouterr().err
    ledger.write_bytes(before)
    held = Ledger(ledger, json.loads(lines[0]))
    assert run(stub.url, model, tmp_path / "out") == 2
    assert "another run is at work in this folder" in capsys.readouterr().err
    held.close()
    assert ledger.read_bytes() == before and len(stub.stored) == 6


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        (None, ("--query", "StudyDat=1"), "--query: found 'StudyDat', expected an attribute's keyword (StudyDate?)"),
        (None, ("--query", "StudyDate"), "--query: found 'StudyDate', expected StudyDate=VALUE"),
        (None, ("--score", "inter"), "--query: found none, and no --studies"),
        (None, ("--studies", "none.txt"), "none.txt: no such file"),
        ("ftp://a/b", QUERY, "URL: found 'ftp://a/b', expected the root of a DICOMweb server"),
        ("http://127.0.0.1:port/b", QUERY, "URL: found 'http://127.0.0.1:port/b', expected the root of a DICOMweb"),
        ("http://[::1/b", QUERY, "URL: found 'http://[::1/b', expected the root of a DICOMweb server"),
        ("HTTP://127.0.0.1/b", QUERY, "URL: found 'HTTP://127.0.0.1/b', expected the root of a DICOMweb server"),
        ("http://me:secret@127.0.0.1/b", QUERY, "URL: found a user name in it, expected none"),
        ("http://me:secret@127.0.0.1:80a/b", QUERY, "URL: found a user name in it, expected none"),
        ("http://me:se/secret@127.0.0.1/b", QUERY, "URL: found a user name in it, expected none"),
        ("http://127.0.0.1:9/b", QUERY, "http://127.0.0.1:9/b: search for studies: no connection, or a broken one"),
        (None, (*QUERY, "--timeout", "0"), "--timeout: found 0, expected more than 0 seconds"),
    ],
)
def test_a_mistake_is_one_line(model, stub, tmp_path, capsys, monkeypatch, url, options, message):
    monkeypatch.chdir(tmp_path)
    assert run(url or stub.url, model, tmp_path / "out", *options) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1 and "secret" not in error


def test_a_folder_with_other_files_is_refused_and_a_mistyped_address_binds_nothing(model, stub, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    table = tmp_path / "out/predictions.csv"
    table.write_text("of amae predict\n")
    assert run(stub.url, model, tmp_path / "out") == 2
    assert "out: contains predictions.csv, but no ledger of this command" in capsys.readouterr().err
    assert table.read_text() == "of amae predict\n"
    assert run("http://127.0.0.1:9/b", model, tmp_path / "new") == 2
    assert run(stub.url, model, tmp_path / "new") == 0
    assert json.loads((tmp_path / "new/ledger.jsonl").read_text().splitlines()[0])["url"] == stub.url


def test_a_list_that_is_no_text_is_one_line(model, files, stub, tmp_path, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(stub.url, model, tmp_path / "out", "--studies", files[0]) == 2
    assert ", line 1: found " in capsys.readouterr().err


def test_a_server_without_dicomweb_is_one_line(model, stub, tmp_path, capsys):
    stub.faults = {"GET": "text"}
    assert run(stub.url, model, tmp_path / "out") == 2
    assert "search for studies: the answer broke off, or cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["dicomweb_client", "highdicom"])
def test_the_packages_are_optional(model, stub, tmp_path, capsys, monkeypatch, package):
    for module in ("archive", "dicom_out"):
        monkeypatch.setattr(f"amae.predict.{module}.find_spec", lambda name: None if name == package else name)
    assert run(stub.url, model, tmp_path / "out") == 2
    assert f"dicomweb: needs the optional package {package.replace('_', '-')}" in capsys.readouterr().err
