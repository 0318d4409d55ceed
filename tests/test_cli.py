"""The command line: help, exit status, and one clear line for every mistake, with nothing lost."""

import dataclasses
import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from small import write_model

from amae.cli import COMMANDS, main
from amae.comparators.methods import METHODS
from amae.runtime.errors import InputError

SPLITS = {"train-normal": 2, "unlabeled": 2, "anomaly-ratio": 0.5, "test-normal": 1, "test-abnormal": 1, "seed": 0}


@pytest.fixture
def refused(capsys):
    """Run a command line that must fail; returns its one line of error."""

    def run(words, status=2):
        assert main([str(word) for word in words]) == status
        out, err = capsys.readouterr()
        lines = [line for line in err.splitlines() if line.startswith("amae ")]
        assert len(lines) == 1, err
        assert "Traceback" not in out + err
        return lines[0]

    return run


@pytest.fixture
def project(finished, tmp_path, monkeypatch):
    """The finished project, to be changed, as the working directory."""
    copy = finished.copy(tmp_path / "project")
    monkeypatch.chdir(copy.folder)
    return copy


def changed(words, section="", **options):
    """A command line with some options replaced, of a section of settings where one is given."""
    words = list(words)
    for name, value in options.items():
        words[words.index(f"--{section}{name.replace('_', '-')}") + 1] = str(value)
    return words


def splits(**changes):
    """Splits as options."""
    values = SPLITS | {name.replace("_", "-"): value for name, value in changes.items()}
    return [word for name, value in values.items() for word in (f"--splits.{name}", str(value))]


@pytest.mark.parametrize("name", METHODS)
def test_every_comparator_has_help(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")  # no option is broken into two lines
    assert main(["compare", name, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: amae compare {name} ")
    for field in dataclasses.fields(METHODS[name].settings):
        option = f"--{name}." if not dataclasses.is_dataclass(field.type) else "--"
        assert f"{option}{field.name}".replace("_", "-") in text


def test_help_of_a_setting_names_meaning_range_and_default(capsys):
    assert main(["train-module", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--modules.mask-ratio FLOAT share of hidden patches [0.05 to 0.95] [default: 0.75]" in text
    assert "--modules.epochs INT passes over the module's images [at least 1] [default: 150]" in text


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "", "--model", "m", "--output", "o"],
        ["predict", "d", "--model", "", "--output", "o"],
        ["recalibrate", "m", "", "--recalibrated-model", "o"],
    ],
)
def test_an_empty_word_is_not_the_present_folder(words, capsys):
    assert main(words) == 2  # as by "$FOLDER" where it is not set
    assert 'unable to convert ""' in (error := capsys.readouterr().err) or "found '', expected a path" in error


def test_a_file_is_not_written_over_another_argument(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_bytes(b"")
    Path("table.csv").write_text("path,split\na.png,test\n")
    assert main(["list-images", "--image-table", "table.csv", "--candidates", str(tmp_path / "table.csv")]) == 2
    assert "table.csv: given for image-table and candidates; expected two files" in capsys.readouterr().err
    assert main(["summarise-metrics", "--scores-of-seeds", "a.png", "table.csv", "--table", "table.csv"]) == 2
    assert "table.csv: given for scores-of-seeds and table; expected two files" in capsys.readouterr().err
    assert Path("table.csv").read_text() == "path,split\na.png,test\n"


def test_a_missing_model_is_named_before_torch_is_loaded():
    code = "import sys; from amae.cli import main; assert main(['inspect', 'a']) == 2; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "amae inspect: error: a: no such file\n")


def test_a_card_is_printed_and_arguments_are_checked_without_torch(finished, tmp_path):
    model, files = finished.results / "seed0/model.safetensors", finished.results / "raw/dicom"
    predict = ["predict", str(files), "--model", str(model), "--output", str(tmp_path / "out")]
    other = [
        "predict",
        str(files),
        "--model",
        str(finished.results / "mae.safetensors"),
        "--output",
        str(tmp_path / "o"),
    ]
    lines = {
        "--score: found 'magic', expected one of auto, detector": [*predict, "--score", "magic"],
        "--specificity: found 1.0, expected more than 0": [*predict, "--specificity", "1"],
        "not a model made by `amae export`, but a trained autoencoder": other,
    }
    code = "import sys; from amae.cli import main; s = main(sys.argv[1:]); print('torch' in sys.modules); sys.exit(s)"
    for words, status, message in [(["inspect", str(model)], 0, ""), *((lines[key], 2, key) for key in lines)]:
        done = subprocess.run([sys.executable, "-c", code, *words], check=False, capture_output=True, text=True)
        assert done.returncode == status and message in done.stderr, done.stderr
        assert done.stdout.endswith("False\n")
    assert not (tmp_path / "out").exists()


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    model, (reads, writes) = write_model(tmp_path / "model.safetensors", 32, "voi"), os.pipe()
    os.close(reads)
    command = [sys.executable, "-m", "amae", "inspect", str(model)]
    done = subprocess.run(command, check=False, stdout=writes, stderr=subprocess.PIPE, text=True)
    os.close(writes)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_code(name, capsys):
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: amae {name} ")
    function = getattr(importlib.import_module(f"amae.commands.{COMMANDS[name]}"), COMMANDS[name])
    assert " ".join(function.__doc__.splitlines()[0].split()) in " ".join(text.split())


def test_options_of_one_name_mean_the_same(capsys):
    """Each option has one line of help, whatever the command."""
    meanings = {}
    for name in COMMANDS:
        module = importlib.import_module(f"amae.commands.{COMMANDS[name]}")
        commands = getattr(module, "SUBCOMMANDS", {"": getattr(module, COMMANDS[name])})
        for command in commands.values():
            for option, parameter in inspect.signature(command).parameters.items():
                about = [each.help for each in getattr(parameter.annotation, "__metadata__", ())]
                meanings.setdefault(f"--{option.replace('_', '-')}", {})[tuple(about)] = name
    assert len(meanings) > 60
    assert {option: found for option, found in meanings.items() if len(found) > 1} == {}


def test_the_overview_names_every_command_and_loads_no_torch():
    code = (
        "import sys, amae.cli; amae.cli.main(['--help']); sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["convert"], "--manifest requires an argument"),
        (["convert", "--image-size", "big"], "found 'big', expected a whole number of at least 1"),
        (["convert", "--image-size", "0"], "found '0', expected a whole number of at least 1"),
        (["pretrain", "--seed", "-1"], "found '-1', expected a whole number of at least 0"),
        (["pretrain", "--pretrain.epochs", "2.5"], "found '2.5', expected a whole number of at least 1"),
        (["index", "--splits.train-normal", "250.5"], "found '250.5', expected a whole number of at least 0"),
        (["index", "--x", "1"], "Unknown option: --x"),
        (["train-stage1", "--stage1.epohs", "1"], "Unknown option: --stage1.epohs. Did you mean --stage1.epochs?"),
        (["train-module", "--module", "C"], "--module"),
        (["compare", "aé"], 'Unknown command "aé"'),
        (["compare", "ae", "--ae.networks", "1"], "Unknown option: --ae.networks"),
        (["export-pseudo-labels", "--pseudo-labels.percentile", "much"], "--pseudo-labels.percentile"),
    ],
)
def test_a_wrong_command_line_is_refused(words, message, refused):
    required = {"--manifest", "--images", "--index", "--weights", "--history", "--record", "--lung-images", "--lungs"}
    required |= {
        "--rejected",
        "--sheet",
        "--head",
        "--image-table",
        "--hidden-labels",
        "--labels",
        "--trained-module",
        "--state",
    }
    required |= {"--scores", "--unlabeled-scores"}
    module = COMMANDS.get(words[0])
    if len(words) > 1 and module:
        function = getattr(importlib.import_module(f"amae.commands.{module}"), module)
        wanted = [f"--{name.replace('_', '-')}" for name in inspect.signature(function).parameters]
        words = [*words, *(word for option in wanted if option in required - {*words} for word in (option, "x"))]
        words += ["--protocol", "N"] * (module == "compare") + ["--module", "A"] * (
            module == "train_module" and "--module" not in words
        )
    assert message in refused(words)


@pytest.mark.parametrize(
    ("name", "hint"), [("xyz", "amae --help lists the commands"), ("exprot", "did you mean export?")]
)
def test_a_wrong_command_is_named(capsys, name, hint):
    assert main([name]) == 2
    assert capsys.readouterr().err == f"amae: error: found {name!r}, expected a command; {hint}\n"


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("a.csv: empty"), 2, "error: a.csv: empty"),
        (OSError(28, "No space left on device", "b.npy"), 2, "error: b.npy: No space left on device"),
        (BrokenPipeError(32, "Broken pipe", "pipe of a worker"), 2, "error: pipe of a worker: Broken pipe"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_exit_status(monkeypatch, refused, error, status, line):
    def fails(scores):
        raise error

    monkeypatch.setattr("amae.evaluation.tables.summarise", fails)
    monkeypatch.setattr("amae.evaluation.tables.labelled_scores", lambda path: None)
    words = ["summarise-metrics", "--scores-of-seeds", "a", "--table", "b"]
    assert refused(words, status) == f"amae summarise-metrics: {line}"


def test_every_input_of_every_command_may_be_missing_or_something_else(project, refused, tmp_path):
    """Whatever file is given in the place of an input: one line that names it, and no output."""
    wrong = {"missing": None, "table.csv": b"a,b\n1,2\n", "empty": b"", "noise": bytes(range(128, 256)) * 40}
    for name, content in wrong.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
    tried = 0
    for command in {words[0]: words for words in project.commands()}.values():
        files = [i for i, word in enumerate(command) if command[i - 1].startswith("--") and "/" in word]
        inputs = [i for i in files if command[i - 1] not in outputs_of(command[0])]
        for place in inputs:
            for name in wrong:
                if (command[0], name) == ("show-table", "table.csv"):
                    continue  # any table can be shown
                words = list(command)
                words[place] = str(tmp_path / name)
                for other in files:
                    if other not in inputs:
                        words[other] = str(tmp_path / "made" / command[other - 1])
                assert str(tmp_path / name) in refused(words), words
                tried += 1
        assert not (tmp_path / "made").exists() or not list((tmp_path / "made").iterdir())
    assert tried > 100


def outputs_of(command):
    """Options of a command that name files it writes."""
    written = {
        "convert": ("images", "lung-images", "index", "rejected", "sheet"),
        "segment-lungs": ("lungs", "lungs-table", "sheet"),
        "import-weights": ("weights",),
        "pretrain": ("weights", "history", "record"),
        "train-stage1": ("head", "history", "record"),
        "score-stage1": ("stage1-scores",),
        "score-probe": ("probe-scores",),
        "score-detector": ("detector-ranking",),
        "export-pseudo-labels": ("labels",),
        "train-module": ("trained-module", "history", "record"),
        "reconstruct": ("reconstruction-scores", "maps", "record"),
        "compute-metrics": ("scores", "metrics"),
        "index": ("manifest", "hidden-labels"),
        "list-images": ("candidates",),
        "export": ("model", "card", "separation"),
        "plot-scores": ("roc", "precision-recall"),
        "plot-gallery": ("figure", "pages"),
        "plot-histograms": ("figure", "sensitivity"),
        "compare": ("state", "history", "record", "scores"),
    }
    return {f"--{name}" for name in written.get(command, ("table", "figure", "folder", "page"))}


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (None, [], r"table\.csv: no such file"),
        ("path,label\na.png,normal\nb.png,abnormal\n", [], "no column split"),
        ("path,split\na.png,test\nb.png,test\n", [], r"table\.csv: 2 of 2 image files do not exist: .*a\.png"),
        ("path,lable,split\na.png,1,test\nb.png,,test\n", [], "2 of 2 image files do not exist"),
        ("path,split\na.png,tset\n", [], r"row 2: split is 'tset'; expected one of train_normal"),
        ("path,label\na.png,sick\n", [], "row 2: label is 'sick'; expected normal, abnormal"),
        ("path\n", [], "no rows"),
        ("path\na.png\nb.png\n", splits(), r"table\.csv: no image has a label \(column label\); to draw splits"),
        ("path;label\na.png;normal\n", [], "its cells are separated by ';', expected ','"),
        ("path;label;age\na.png;normal;5,5\n", [], "its cells are separated by ';', expected ','"),
        (
            9,
            splits(anomaly_ratio=1, unlabeled=6),
            "anomaly_ratio 1 needs 6 abnormal",
        ),
        (9, splits(test_normal=50), "test_normal is 50, but the table has 5 images"),
        (9, ["--splits.train-normal", "1"], "--splits.unlabeled requires an argument"),
        (9, splits(anomaly_ratio=1.5), r"--splits\.anomaly_ratio: found 1.5, expected at most 1"),
    ],
)
def test_a_table_that_cannot_be_used(tmp_path, refused, table, options, message):
    path = tmp_path / "table.csv"
    if isinstance(table, int):
        table = "path,label\n" + "".join(f"{i}.png,{('normal', 'abnormal')[i % 2]}\n" for i in range(table))
    if table:
        path.write_text(table)
    words = [
        "index",
        "--image-table",
        path,
        "--manifest",
        tmp_path / "m.csv",
        "--hidden-labels",
        tmp_path / "h.csv",
        *options,
    ]
    line = refused(words)
    assert re.search(message, line), line
    assert not (tmp_path / "m.csv").exists()
    assert not (tmp_path / "h.csv").exists()


def truncated(dataset, path):
    dataset.save_as(path)
    path.write_bytes(path.read_bytes()[:-2000])


def text(dataset, path):
    path.write_text("a letter")


def colour(dataset, path):
    dataset.PhotometricInterpretation, dataset.SamplesPerPixel, dataset.PlanarConfiguration = "RGB", 3, 0
    dataset.PixelData = np.tile(np.uint16([0, 9, 5]), (dataset.Rows, dataset.Columns, 1)).tobytes()
    dataset.save_as(path)


def multi_frame(dataset, path):
    dataset.NumberOfFrames, dataset.PixelData = 2, 2 * dataset.PixelData
    dataset.save_as(path)


def constant(dataset, path):
    dataset.PixelData = np.full((dataset.Rows, dataset.Columns), 7, np.uint16).tobytes()
    dataset.save_as(path)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (truncated, "truncated"),
        (text, "not a DICOM, PNG, JPEG, TIFF or BMP file"),
        (colour, "colour image: red, green and blue differ by up to 9 levels"),
        (multi_frame, "multi-frame image: NumberOfFrames 2, expected 1"),
        (constant, "constant image"),
    ],
)
def test_an_image_that_cannot_be_used(tmp_path, refused, spoil, reason):
    dataset = pydicom.dcmread(pydicom.data.get_testdata_file("CT_small.dcm"))
    dataset.save_as(tmp_path / "good.dcm")
    spoil(dataset, tmp_path / "bad.dcm")
    rows = [{"image_id": name, "path": tmp_path / f"{name}.dcm", "split": "test"} for name in ("good", "bad")]
    pd.DataFrame(rows).assign(label="", patient_id="", view="").to_csv(tmp_path / "manifest.csv", index=False)
    files = {
        "manifest": "csv",
        "images": "npy",
        "lung-images": "npy",
        "index": "csv",
        "rejected": "csv",
        "sheet": "png",
    }
    words = ["convert", *(word for name, kind in files.items() for word in (f"--{name}", tmp_path / f"{name}.{kind}"))]
    words += ["--image-size", "32"]
    (tmp_path / "images.npy").write_text("computed before")
    assert re.search(rf"1 of 2 images .*{tmp_path}/bad\.dcm: .*{reason}.*rejected\.csv", refused(words))
    assert (tmp_path / "images.npy").read_text() == "computed before"
    rejected = pd.read_csv(tmp_path / "rejected.csv")
    assert rejected["image_id"].tolist() == ["bad"]
    assert reason in rejected["reason"][0]
    assert main([*map(str, words), "--allowed-failures", "1"]) == 0
    assert np.load(tmp_path / "images.npy").shape == (1, 32, 32)


@pytest.mark.parametrize(
    ("command", "split"),
    [
        ("pretrain", "train_normal"),
        ("train-stage1", "train_normal"),
        ("score-stage1", "test"),
        ("train-module", "train_normal"),
        ("reconstruct", "test"),
        ("compute-metrics", "test"),
    ],
)
def test_an_empty_split(project, tmp_path, refused, command, split):
    manifest = pd.read_csv("out/tiny/manifest.csv", dtype=str, keep_default_na=False)
    kept = manifest["split"] != split
    manifest[kept].to_csv(tmp_path / "manifest.csv", index=False)
    assert f"split {split} is empty" in refused(
        changed(project.commands(command)[0], manifest=tmp_path / "manifest.csv")
    )


def test_weights_without_a_decoder_or_of_other_sizes(project, tmp_path, refused):
    words = project.commands("import-weights")[0]
    before = (project.results / "mae.safetensors").read_bytes()
    state = load_file(project.results / "mae.safetensors")
    encoder = {name: tensor for name, tensor in state.items() if "decoder" not in name and name != "mask_token"}
    torch.save({"model": encoder}, tmp_path / "encoder.pth")
    line = refused(changed(words, file=tmp_path / "encoder.pth"))
    assert re.search(r"encoder\.pth: .*without the decoder; keys missing: decoder_blocks\.0", line)
    assert "width 16 instead of 24" in refused(changed(words, "mae.", width=24))
    assert "image_size 32 instead of 64" in refused(changed(words, "mae.", image_size=64))
    assert (project.results / "mae.safetensors").read_bytes() == before


def test_a_gpu_that_is_not_there(project, refused, monkeypatch):
    words = project.commands("train-module")[0]
    assert "key device: cuda demands a CUDA GPU, but the workflow grants none" in refused(changed(words, device="cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "none is available to torch" in refused(changed(words, device="cuda", gpus=1))


@pytest.mark.parametrize("command", ["pretrain", "train-stage1", "train-module"])
def test_a_loss_that_is_no_number_keeps_what_was_computed(project, refused, command):
    words = project.commands(command)[0]
    output = words[
        words.index({"pretrain": "--weights", "train-stage1": "--head"}.get(command, "--trained-module")) + 1
    ]
    before = (project.folder / output).read_bytes()
    section = {"pretrain": "pretrain.", "train-stage1": "stage1."}.get(command, "modules.")
    line = refused(changed(words, section, lr=1e38, epochs=20, warmup_epochs=0))
    assert re.search(r"epoch \d+: the loss is (nan|inf).* choose a lower lr", line)
    assert (project.folder / output).read_bytes() == before


def test_settings_that_contradict_each_other(project, refused):
    stage1, reconstruct = project.commands("train-stage1")[0], project.commands("reconstruct")[0]
    assert "warmup_epochs 3 is more than epochs 2" in refused(changed(stage1, "stage1.", warmup_epochs=3))
    assert "masks: found '0', expected a whole number of at least 1" in refused(
        changed(reconstruct, "reconstruction.", masks=0)
    )
    assert "contradicts masks 3" in refused(
        changed(reconstruct, "reconstruction.", mask_scheme="complementary", masks=3)
    )


def test_a_score_that_is_not_there(project, refused):
    line = refused(changed(project.commands("plot-gallery")[0], score="magic"))
    assert "no score 'magic' in the table; it has stage1, inter" in line


def test_the_gallery_takes_the_score_of_greatest_auc_p(project, refused, tmp_path, capsys):
    words = changed(project.commands("plot-gallery")[0], score="auto")
    assert "--score auto: needs the AUCp of the scores, which --model contains" in refused(words)
    model = project.folder / "out/tiny/seed0/model.safetensors"
    found = pd.read_csv(model.with_name("separation.csv")).set_index("score")["auc_p"]
    given = changed(words, figure=tmp_path / "g.png", pages=tmp_path / "pages")
    assert main([*given, "--model", str(model)]) == 0
    assert f"score {found.idxmax()}: its AUCp, {found.max():.3f}, is the greatest" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "file", "message"),
    [
        ("plot-gallery", "scores", r"images\.csv: no row for \d+ of \d+ images, the first is 'other-"),
        ("train-module", "labels", r"manifest\.csv: no row for \d+ of \d+ images, the first is 'other-"),
        ("compute-metrics", "stage1_scores", r"other\.csv: no row for 20 of 20 images, the first is "),
    ],
)
def test_a_table_of_another_data_set(project, tmp_path, refused, command, file, message):
    words = project.commands(command)[0]
    table = pd.read_csv(words[words.index(f"--{file.replace('_', '-')}") + 1], dtype=str, keep_default_na=False)
    table.assign(image_id="other-" + table["image_id"]).to_csv(tmp_path / "other.csv", index=False)
    assert re.search(message, refused(changed(words, **{file: tmp_path / "other.csv"})))


def test_module_weights_made_for_other_images(project, tmp_path, refused):
    images = np.load("out/tiny/images.npy").repeat(2, 1).repeat(2, 2)
    np.save(tmp_path / "images.npy", images)
    line = refused(changed(project.commands("reconstruct")[0], images=tmp_path / "images.npy"))
    assert "made for images of 32 px, the packed images have 64 px" in line


@pytest.mark.parametrize("given", ["60", "-0.1", "nan", "0,6"])
def test_a_share_is_a_number_from_0_to_1(given, capsys):
    files = [f"--{name}=x" for name in ("trained-detector", "manifest", "images", "index", "table")]
    assert main(["check-setting", *files, f"--anomaly-ratio={given}"]) == 2
    assert f"found '{given}', expected a number from 0 to 1" in capsys.readouterr().err


def test_trainings_in_folders_of_one_name_are_all_drawn(tmp_path):
    histories = [tmp_path / f"seed{seed}/stage1/history.csv" for seed in (0, 1)]
    for path in histories:
        path.parent.mkdir(parents=True)
        path.write_text("epoch,step,lr,loss\n1,1,0.1,3\n2,2,0.1,2\n")
    sizes = []
    for count in (1, 2):
        figure = tmp_path / f"{count}.png"
        assert main(["plot-training", "--histories", *map(str, histories[:count]), "--figure", str(figure)]) == 0
        with Image.open(figure) as picture:
            sizes.append(picture.size)
    assert sizes[0] != sizes[1]
