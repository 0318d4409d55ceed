"""The detector as an ONNX file: what onnxruntime computes is what `amae predict` computes."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from project import ROOT
from small import write_model

from amae.cli import main
from amae.data.resize import resize
from amae.method.detector import normalise, score_maps
from amae.predict import load_model, score_arrays, score_files
from amae.predict.model import save_model
from amae.sources.simulated.files import simulate_dataset

[EXAMPLE] = [
    code
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(encoding="utf-8"), re.S)
    if "onnxruntime" in code
]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> list[Path]:
    """Two simulated radiographs, DICOM."""
    folder = tmp_path_factory.mktemp("simulated")
    simulate_dataset(folder, 2, seed=3)
    return sorted((folder / "dicom").glob("*.dcm"))


@pytest.fixture(scope="module")
def model(tmp_path_factory, simulated) -> Path:
    """A model whose logits differ between images as those of a trained one do: by units, not by thousandths."""
    path = write_model(tmp_path_factory.mktemp("model") / "model.safetensors", 64, "minmax")
    made = load_model(path)
    noise = np.random.default_rng(0).integers(0, 256, (30, 64, 64), dtype=np.uint8)
    seen = np.concatenate([next(score_files(made, simulated)).images, score_arrays(made, list(noise)).images])
    with torch.no_grad():
        [network] = made.detector
        network.train()
        for _ in range(30):
            network(normalise(resize(torch.from_numpy(seen), 32)))
        network.head.weight *= 30
    save_model(made, path)
    return path


@pytest.fixture(scope="module")
def exported(model) -> Path:
    """Its detector."""
    path = model.with_name("detector.onnx")
    assert main(["export-onnx", str(model), "--network", str(path)]) == 0
    return path


def require_parity(model: Path, exported: Path, files: list[Path]) -> None:
    """Fail where scores or maps differ by 1e-4."""
    loaded = load_model(model)
    [expected] = score_files(loaded, files)
    assert (expected.table["reason"] == "").all()
    session = onnxruntime.InferenceSession(exported)
    score, logits = session.run(None, {"images": expected.images})
    maps = score_maps(loaded.detector, resize(torch.from_numpy(expected.images), 32)).numpy()
    assert np.ptp(maps) > 1
    np.testing.assert_allclose(score, expected.table["detector"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(logits, maps, rtol=0, atol=1e-4)
    one = session.run(None, {"images": expected.images[:1]})
    np.testing.assert_allclose(one[0], score[:1], rtol=0, atol=1e-4)


def test_simulated_images_score_the_same(model, exported, simulated):
    require_parity(model, exported, simulated)


def test_real_files_score_the_same(model, exported, shared):
    dicom = sorted((shared / "data/dicom").rglob("*.dcm"))[:4]
    pictures = sorted((shared / "data").rglob("*.png"))[::400]
    loaded = load_model(model)
    files = [path for path in (*dicom, *pictures) if not next(score_files(loaded, [path])).table["reason"][0]]
    assert len(files) > 8
    require_parity(model, exported, files)


def test_the_example_needs_onnxruntime_alone(model, exported, tmp_path):
    picture = np.random.default_rng(1).integers(0, 256, (90, 70), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "b.png")
    (tmp_path / "detector.onnx").write_bytes(exported.read_bytes())
    code = f"{EXAMPLE}\nimport sys\nassert not {{'torch', 'amae'}} & set(sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    expected = score_arrays(load_model(model), [picture]).table["detector"][0]
    assert float(printed.stdout.split()[0]) == pytest.approx(expected, abs=1e-4)


def test_what_stands_in_the_way_is_one_line(model, exported, tmp_path, capsys, monkeypatch):
    assert main(["export-onnx", str(model), "--network", str(exported)]) == 2
    assert "detector.onnx: exists; choose another name" in capsys.readouterr().err
    monkeypatch.setattr("amae.predict.onnx_out.find_spec", lambda name: None)
    assert main(["export-onnx", str(model), "--network", str(tmp_path / "a.onnx")]) == 2
    assert "needs the optional packages onnx and onnxscript (pip install onnx)" in capsys.readouterr().err
