"""The Python interface: arrays are scored as files are, and the examples of docs/python.md run."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from corpus import FORMATS
from PIL import Image
from project import ROOT

from amae.predict import load_model, score_arrays, score_files
from amae.runtime.errors import InputError

SCORES = ["detector", "stage1", "inter", "mask_rec", "error_ratio", "error_ratio_patch"]
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(encoding="utf-8"), re.S)


@pytest.fixture(scope="module")
def path(finished) -> Path:
    """The model that the workflow exported."""
    return finished.results / "seed0/model.safetensors"


@pytest.fixture(scope="module")
def model(path):
    """The same, loaded once."""
    return load_model(path)


@pytest.fixture(scope="module")
def arrays() -> list[np.ndarray]:
    """Noise of two sizes: uint8, and 16 bits."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (90, 70), dtype=np.uint8), rng.integers(0, 4000, (64, 64), dtype=np.uint16)]


def test_an_array_is_scored_as_a_file_with_the_same_numbers(model, arrays, tmp_path):
    names = [tmp_path / f"{number}.png" for number in range(2)]
    for name, values in zip(names, arrays, strict=True):
        Image.fromarray(values).save(name)
    [of_files] = score_files(model, names, specificity=0.9, every=True)
    of_arrays = score_arrays(model, arrays, specificity=0.9, every=True)
    columns = [*SCORES, *(f"{name}_percentile" for name in SCORES), "call", "flag", "reason", "intensity", "distance"]
    pd.testing.assert_frame_equal(of_files.table[columns], of_arrays.table[columns])
    assert of_files.table["file"].tolist() == list(map(str, names)) and (of_arrays.table["file"] == "").all()
    assert np.array_equal(of_files.images, of_arrays.images) and np.array_equal(of_files.maps, of_arrays.maps)
    assert of_arrays.maps.shape == of_arrays.images.shape and of_arrays.maps.dtype == np.float32


def test_a_model_on_a_gpu_scores_without_tensorfloat(path, monkeypatch, request):
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *_, **_also: self)  # there may be no GPU
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # torch's default
    request.addfinalizer(partial(torch.set_float32_matmul_precision, "highest"))
    torch.set_float32_matmul_precision("high")
    load_model(path)
    assert torch.backends.cudnn.allow_tf32 and torch.get_float32_matmul_precision() == "high"
    load_model(path, "cuda")
    assert not torch.backends.cudnn.allow_tf32 and torch.get_float32_matmul_precision() == "highest"


def test_arrays_that_cannot_be_scored_have_a_reason(model, arrays):
    wrong = [np.zeros((9, 9), np.uint8), np.ones((9, 9), np.float32), np.zeros((9, 9, 3), np.uint8)]
    table, images, maps = score_arrays(model, [wrong[0], arrays[0], *wrong[1:]], every=True)
    assert (len(images), len(maps)) == (1, 1)
    assert [reason[:15] for reason in table["reason"]] == ["constant image:", "", "an array of flo", "an array of uin"]
    assert table[SCORES].isna().all(axis=1).tolist() == [True, False, True, True]
    none = score_arrays(model, wrong, every=True)
    assert set(table.columns) - {"coverage", "geometry", "radiograph"} <= set(none.table.columns)
    assert none.table[SCORES].isna().all(axis=None) and (none.table["call"] == "").all() and len(none.maps) == 0


def test_batches_of_arrays_are_one_result(model, arrays, monkeypatch):
    whole = score_arrays(model, arrays * 2, every=True)
    monkeypatch.setattr("amae.predict.score.BATCH", 3)
    parts = score_arrays(model, arrays * 2, every=True)
    assert parts.table.index.tolist() == [0, 1, 2, 3] and len(parts.maps) == 4
    np.testing.assert_allclose(parts.table[SCORES], whole.table[SCORES], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score": "magic"}, "score: found 'magic', expected one of detector"),
        ({"specificity": 1}, "specificity: found"),
    ],
)
def test_wrong_arguments_are_refused_at_once(model, arrays, options, message):
    with pytest.raises(InputError, match=message):
        score_files(model, ["a.png"], **options)
    with pytest.raises(InputError, match=message):
        score_arrays(model, arrays, **options)
    with pytest.raises(InputError, match="no arrays"):
        score_arrays(model, [])


def test_the_package_alone_loads_no_torch():
    code = (
        "import sys, amae.predict; assert 'torch' not in sys.modules\n"
        "amae.predict.score_files; sys.exit('torch' not in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(ImportError):
        from amae.predict import nothing  # noqa: F401


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_example_runs_once_though_it_starts_processes(path, arrays, tmp_path, workers):
    """As a script without a guard; a decoder has a process of its own, and so has each worker."""
    (tmp_path / "a.dcm").write_bytes(FORMATS["JPEG lossless"])
    Image.fromarray(arrays[0]).save(tmp_path / "b.png")
    code = EXAMPLES[0].replace("results/simulated/seed0/model.safetensors", str(path))
    code = code.replace("specificity=0.95", f"specificity=0.95, workers={workers}")
    (tmp_path / "script.py").write_text(f"print('begun')\n{code}    assert (table['reason'] == '').all(), table\n")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, tmp_path / "script.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout.count("begun")) == (0, "", 1), done


def test_the_service_answers(path, arrays, model, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "service.py").write_text(EXAMPLES[-1])
    Image.fromarray(arrays[0]).save(tmp_path / "a.png")
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, tmp_path / "service.py", path, str(port)], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(300):
            with socket.socket() as attempt:
                if attempt.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        with urllib.request.urlopen(address, (tmp_path / "a.png").read_bytes(), timeout=60) as answer:
            [found] = json.load(answer)
        expected = score_arrays(model, arrays[:1]).table.iloc[0]
        assert found["detector"] == pytest.approx(expected["detector"], abs=1e-6)
        assert (found["reason"], found["flag"]) == ("", expected["flag"])
        with pytest.raises(urllib.error.HTTPError, match="422") as refused:
            urllib.request.urlopen(address, b"no image", timeout=60)
        with refused.value as answer:
            assert "not a DICOM, PNG" in json.load(answer)[0]["reason"]
    finally:
        process.kill()
        process.wait()
