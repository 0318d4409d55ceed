"""A folder as a hospital has it: many good radiographs, a few bad files of every kind, through `amae predict`."""

import os
import re
import shutil
from itertools import cycle, islice

import pandas as pd
import pytest
from corpus import ANY, variants
from small import write_model

from amae.cli import main
from amae.sources.simulated import simulate_dataset

FILES = int(os.environ.get("AMAE_FILES", 200))
BAD = [
    "explicit 5.dcm",
    "JPEG lossless 9.dcm",
    "RGB.dcm",
    "frames.dcm",
    "HighBit 15.dcm",
    "MPEG2.dcm",
    "constant.dcm",
    "empty.png",
    "declared.jpg",
    "deflated.dcm",
]


@pytest.mark.long
def test_the_bad_are_listed_and_the_rest_is_scored(tmp_path, capsys):
    folder, bad = tmp_path / "in", max(len(BAD), FILES // 100)
    simulate_dataset(tmp_path, FILES // 20, seed=0)
    originals = sorted((tmp_path / "dicom").iterdir())
    for number, source in enumerate(islice(cycle(originals), FILES - bad)):
        target = folder / f"ward {number % 7}" / f"{number:05d}.dcm"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    refused = [variant for variant in variants() if isinstance(variant.minmax, str) and variant.minmax != ANY]
    kinds = {variant.name: variant for variant in refused if variant.name in BAD}
    reasons = {}
    for number, name in enumerate(islice(cycle(BAD), bad)):
        made = kinds[name].write(folder)
        reasons[f"{number:05d} {name}"] = kinds[name].minmax
        made.rename(folder / f"{number:05d} {name}")

    words = ["predict", folder, "--model", write_model(tmp_path / "m.safetensors", 64, "minmax"), "--device", "cpu"]
    assert main([str(word) for word in [*words, "--output", tmp_path / "out", "--workers", 2]]) == 0
    table = pd.read_csv(tmp_path / "out/predictions.csv", keep_default_na=False).set_index("file")
    assert len(table) == FILES
    listed = table.loc[table["reason"] != "", "reason"]
    assert set(listed.index) == set(reasons)
    assert not {name: listed[name] for name in reasons if not re.search(reasons[name], listed[name])}
    assert (table.loc[table["reason"] == "", ["detector", "stage1"]] != "").all(axis=None)
    assert f"{FILES} files: {FILES - bad} scored" in capsys.readouterr().err
