"""The workflow as a person meets it: what a change reruns, what a mistake says, and the form of its rules."""

import ast
import json
import os
import re
import shutil

import pytest
from conftest import ROOT
from PIL import Image
from project import copy_sources, run, snakemake
from test_end_to_end import PER_DATASET

RESULTS = {
    "compute_metrics": 1,
    "summarise_metrics": 1,
    "plot_scores": 1,
    "plot_histograms": 1,
    "plot_gallery": 1,
    "show_table": 2,
    "write_overview": 1,
}
RECONSTRUCTION = {"reconstruct_test": 1, "export_model": 1, **RESULTS, "show_table": 3}
MODULES = {"train_module": 2, "plot_training": 1, **RECONSTRUCTION}
STAGE1 = {
    "train_stage1": 1,
    "score_stage1": 1,
    "export_pseudo_labels": 1,
    "diagnose_pseudo_labels": 1,
    **MODULES,
}
TRAINING = {"pretrain_mae": 1, "import_weights": 1, "run_comparator": 1, **STAGE1}
IMAGES = {"convert_images": 1, "segment_lungs": 1, **TRAINING}
RULES = {
    match[1]: match[2]
    for path in sorted((ROOT / "workflow").rglob("*.smk"))
    if path.name != "targets.smk"  # rules that only gather files
    for match in re.finditer(r"^rule (\w+):\n((?:(?: {4}.*)?\n)+)", path.read_text() + "\n", re.M)
}


def change_code(path, function):
    """Add a statement to a function."""
    source = path.read_text()
    found = [node for node in ast.walk(ast.parse(source)) if getattr(node, "name", "") == function]
    lines = source.splitlines(keepends=True)
    first = found[0].body[1]  # behind the docstring
    lines.insert(first.lineno - 1, f"{' ' * first.col_offset}_ = 'changed'\n")
    path.write_text("".join(lines))


def change_comments(path):
    """Reword every docstring of a module, and add a comment."""
    source = path.read_bytes()
    lines = source.splitlines(keepends=True)  # bytes, as ast counts columns
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, documented) and ast.get_docstring(node)]
    for end in sorted(((n.body[0].end_lineno, n.body[0].end_col_offset) for n in nodes), reverse=True):
        row, column = end[0] - 1, end[1] - 3
        lines[row] = lines[row][:column] + b" Reworded." + lines[row][column:]
    path.write_bytes(b"".join(lines) + b"\n# A comment.\n")


@pytest.mark.parametrize(
    ("file", "function", "expected"),
    [
        ("amae/mae/model.py", "patchify", TRAINING),
        ("amae/method/stage1.py", "train_stage1", STAGE1),
        ("amae/method/modules.py", "training_images", MODULES),
        ("amae/method/reconstruct.py", "reconstruct", RECONSTRUCTION),
        ("amae/figures/gallery.py", "plot_gallery", {"plot_gallery": 1}),
    ],
)
def test_an_edit_reruns_what_it_touches(finished, tmp_path, file, function, expected):
    project = finished.copy(tmp_path / "project")
    change_code(project.folder / file, function)
    assert project.planned() == expected


def test_comments_and_docstrings_rerun_nothing(finished, tmp_path):
    project = finished.copy(tmp_path / "project")
    files = sorted((project.folder / "amae").rglob("*.py"))
    for path in files:
        change_comments(path)
    assert "Reworded" in (project.folder / "amae/method/stage1.py").read_text()
    assert project.planned() == {}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (["datasets={tiny: {square: pad}}"], IMAGES),
        (["overrides={modules: {epochs: 3}}"], MODULES),
        (["gallery={rows: 2}"], {"plot_gallery": 1}),
        (
            ["seeds=[0,1]"],
            # Of the second seed alone, with the summary and the curves of both; every page of a table states the seeds.
            {"run_comparator": 1, **STAGE1, "show_table": 5},
        ),
    ],
)
def test_a_key_reruns_what_depends_on_it(finished, config, expected):
    assert finished.planned(*config) == expected


def test_imagenet_weights_get_the_normalisation_of_imagenet_wherever_they_are_named(tmp_path):
    weights = {
        "": "imagenet",
        "imagenet/": "imagenet",
        "own/": "imagenet",
        "densenet_moco/": "chest",
        "other/": "chest",
    }
    own = "variants={own: {weights: tests/tiny.yaml, normalisation: imagenet}, other: {weights: weights-vit-s-cxr}}"
    files = [f"out/tiny/{variant}mae.safetensors" for variant in weights]
    config = ("preset=paper", "datasets={tiny: {weights: weights-vit-s-imagenet}}", own)
    status, output = copy_sources(tmp_path / "project").run("--dry-run", "--printshellcmds", *files, config=config)
    assert status == 0, output
    imports = re.findall(
        r"amae import-weights .* --weights out/tiny/(\S*)mae.safetensors .* --normalisation (\w+)", output
    )
    assert dict(imports) == weights


def test_lists_of_one_sex_are_asked_for(tmp_path):
    files, config = ["out/nih/candidates.csv", "out/nih/manifest.csv"], ("datasets={nih: {sexes: [F]}}",)
    status, output = copy_sources(tmp_path / "project").run("--dry-run", "--printshellcmds", *files, config=config)
    assert status == 0, output
    for command in ("list-images", "index"):
        assert re.search(
            f"amae {command} .* --source.dataset nih --source.folder out/sources/nih .*--source.sexes F 2>", output
        )


@pytest.mark.parametrize("source", ["probe", "detector"])
def test_pseudo_labels_of_ours_share_all_but_stage_2(finished, source):
    words = ("--dry-run", "--printshellcmds", "sensitivity")
    status, output = finished.run(*words, config=(f"experiments={{decisions: [{source}_pseudo_labels]}}",))
    assert status == 0, output
    commands = re.findall(r"^(?:Shell command:| +) *amae (\S+) (.*)$", output, re.M)
    jobs = sorted(name for name, _ in commands)
    made = [f"score-{source}", "export-pseudo-labels", "train-module", "train-module", "reconstruct"]
    assert jobs == sorted([*made, "tabulate-results", "show-table"])
    words = dict(commands)
    assert f"--unlabeled-scores out/tiny/seed0/{source}/scores.csv" in words["export-pseudo-labels"]
    assert f"--pseudo-labels.source {source}" in words["export-pseudo-labels"]
    assert "hidden" not in words[f"score-{source}"]
    rows = re.search(r"--methods '(.*?)'", words["tabulate-results"])[1]
    whose = {row["method"]: row["taxonomy"] for row in json.loads(rows)}
    ours = ("mask_rec", "error_ratio", "error_ratio_patch")
    assert whose == {
        "AMAE stage 2": "Rec.",  # so that its printed value is found
        **{f"main: {score}": "ours" for score in ours},
        **{f"{source}_pseudo_labels: {score}": "ours" for score in ("inter", *ours)},
    }
    assert "--reference 'AMAE stage 2'" in words["tabulate-results"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (["overrides={modules: {warmup_epochs: 3}}"], "key modules.warmup_epochs 3 is more than epochs 2"),
        (["datasets={tiny: {weights: nowhere.pth}}"], "key datasets.tiny.weights: nowhere.pth: no such file"),
        (["datasets={rsna: {metadata: nowhere}}", "dataset=rsna"], "key datasets.rsna.metadata: nowhere: no such file"),
    ],
)
def test_a_mistake_in_the_configuration_stops_the_run_before_it_begins(finished, config, message):
    status, output = finished.run(config=config)
    assert status != 0
    assert message in output
    assert "Traceback" not in output
    assert (finished.results / "summary.csv").is_file()


OWN = """
dataset: mine
datasets:
  mine:
    {kind: own, table: mine/table.csv, root: null, weights: pretrain, conversion: minmax, square: squash,
     allowed_failures: 0, splits: null}
"""


@pytest.mark.parametrize("done", [True, False])
def test_weights_of_other_sizes_are_refused_before_anything_is_computed(finished, tmp_path, done):
    project = finished if done else copy_sources(tmp_path)
    status, output = project.run(config=("datasets={tiny: {weights: embedded}}",))
    assert status != 0 and "Job stats" not in output
    assert "data set tiny: weights embedded: they have mae.image_size 128 (configured: 32)" in output


@pytest.mark.long
def test_a_file_that_cannot_be_read_stops_the_run_and_keeps_what_is_computed(finished, tmp_path):
    project = finished.copy(tmp_path / "project")
    (project.folder / "mine").mkdir()
    for name in "abc":
        (project.folder / f"mine/{name}.dcm").write_text("not an image")
    tiny = project.folder / "tests/tiny.yaml"
    tiny.write_text(tiny.read_text().replace("dataset: tiny\n", "").replace("datasets:\n", OWN.lstrip(), 1))
    before = {name: (project.results / name).read_bytes() for name in PER_DATASET}

    status, output = project.run()
    assert status != 0
    assert "key datasets.mine.table: mine/table.csv: no such file" in output
    assert "Traceback" not in output

    rows = "a.dcm,test,normal", "b.dcm,test,abnormal", "c.dcm,train_normal,"
    (project.folder / "mine/table.csv").write_text("\n".join(["path,split,label", *rows]))
    status, output = project.run()
    assert status != 0
    lines = [line for line in output.splitlines() if line.startswith("amae convert: error: ")]
    assert len(lines) == 1
    assert re.search(r"3 of 3 images .*allowed_failures is 0: mine/c\.dcm: not a DICOM.*mine/rejected\.csv", lines[0])
    assert "Traceback" not in output
    assert (project.folder / "out/mine/candidates.csv").is_file()
    assert not (project.folder / "out/mine/images.npy").exists()
    assert {name: (project.results / name).read_bytes() for name in PER_DATASET} == before


@pytest.mark.long
def test_a_touched_file_of_a_person_makes_nothing_again_and_a_changed_one_does(tmp_path):
    copy_sources(tmp_path)
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in "abcdef":
        Image.new("L", (16, 16)).save(folder / f"{name}.png")
    size = 2 * 1024**2  # Snakemake compares the content of files up to 1 MB by itself
    rows = [f"{name}.png,{'normal' if name < 'd' else 'abnormal'},{'x' * size}" for name in "abcdef"]
    (folder / "table.csv").write_text("\n".join(["path,label,comment", *rows]) + "\n")
    shutil.copy(ROOT / "amae/mae/embedded.safetensors", folder / "mae.safetensors")
    drawn = "splits: {train_normal: 1, unlabeled: 2, anomaly_ratio: 0.5, test_normal: 1, test_abnormal: 1, seed: 0}"
    text = OWN.replace("splits: null", drawn).replace("pretrain", "mine/mae.safetensors")
    (tmp_path / "mine.yaml").write_text(text)
    words = [*snakemake(), *(f"results/mine/{name}" for name in ("candidates.csv", "manifest.csv", "mae.safetensors"))]
    words += ["--cores", "1", "--configfile", "mine.yaml"]
    status, output = run(words, tmp_path)
    assert status == 0, output

    for name in ("table.csv", "mae.safetensors"):
        os.utime(folder / name)
        assert "Nothing to be done" in run([*words, "--dry-run"], tmp_path)[1]
    for name, rules in [("table.csv", {"list_images", "index_images"}), ("mae.safetensors", {"import_weights"})]:
        path = folder / name
        before, about = path.read_bytes(), path.stat()
        path.write_bytes(before[:-9] + b"y" + before[-8:])
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
        output = run([*words, "--dry-run"], tmp_path)[1]
        assert set(re.findall(r"^rule (\w+):", output, re.M)) == rules, output
        path.write_bytes(before)


@pytest.mark.long
@pytest.mark.parametrize(("given", "expected"), [("", 0), (", boxes: null", 0), (", boxes: mine/boxes.csv", 3)])
def test_boxes_of_own_data_are_drawn_and_measured(tmp_path, given, expected):
    project = copy_sources(tmp_path)
    (tmp_path / "mine").mkdir()
    rows = "a.png,train_normal,", "b.png,train_unlabeled,", "c.png,test,0", "d.png,test,1"
    rows += "e.png,train_normal,", "f.png,train_unlabeled,"
    (tmp_path / "mine/table.csv").write_text("\n".join(["path,split,label", *rows]))
    tiny = tmp_path / "tests/tiny.yaml"
    own = OWN.lstrip().replace("splits: null", f"splits: null{given}")
    tiny.write_text(tiny.read_text().replace("dataset: tiny\n", "").replace("datasets:\n", own, 1))
    words = ("--dry-run", "--printshellcmds", "all", "localisation")
    if expected:
        assert "key datasets.mine.boxes: mine/boxes.csv: no such file" in project.run(*words)[1]
        (tmp_path / "mine/boxes.csv").write_text("image_id\n")
    status, output = project.run(*words, config=("experiments={localisation: [mine]}",))
    assert status == 0, output
    commands = re.findall(r"amae (?:plot-gallery|localise|plot-localisation) .*", output)
    assert len(commands) == 3 and sum("--boxes mine/boxes.csv" in command for command in commands) == expected
    assert sum("--boxes" in command for command in commands) == expected


@pytest.mark.long
def test_what_own_data_without_splits_to_draw_cannot_give_is_refused_when_it_is_planned(tmp_path):
    project = copy_sources(tmp_path)
    (tmp_path / "mine").mkdir()
    tiny = tmp_path / "tests/tiny.yaml"
    text = tiny.read_text().replace("dataset: tiny\n", "").replace("figure3: [tiny]", "figure3: [mine]")
    tiny.write_text(text.replace("datasets:\n", OWN.lstrip(), 1))

    (tmp_path / "mine/table.csv").write_text(
        table := "path,split,label\na.png,train_normal,\nb.png,test,0\nd.png,test,1\n"
    )
    planned = project.planned().keys()  # protocol N alone
    assert {"train_stage1", "measure_comparison"} < planned and not {"export_pseudo_labels", "train_module"} & planned

    (tmp_path / "mine/table.csv").write_text(table + "c.png,train_unlabeled,\n")
    status, output = project.run("--dry-run", "figure3a")
    refusal = "contradicts datasets.mine, whose unlabeled images are not drawn by label"
    assert status != 0 and f"{refusal} (its table names" in output and "Job stats" not in output
    assert "Traceback" not in output

    drawn = "{train_normal: 2, unlabeled: 2, anomaly_ratio: null, test_normal: 1, test_abnormal: 1, seed: 0}"
    status, output = project.run("--dry-run", config=(f"datasets={{mine: {{splits: {drawn}}}}}",))
    assert status != 0 and "key datasets.mine.splits: mine/table.csv names the splits itself" in output
    assert "Traceback" not in output

    (tmp_path / "mine/table.csv").write_text("path,label\na.png,normal\nb.png,abnormal\nc.png,\n")
    status, output = project.run("--dry-run", config=(f"datasets={{mine: {{splits: {drawn}}}}}",))
    assert status != 0 and "train_normal is 2, but" in output and "Traceback" not in output
    (tmp_path / "mine/table.csv").write_text("path,label\na.png,0\nb.png,1\nc.png,\nd.png,0\ne.png,0\nf.png,\n")
    tiny.write_text(tiny.read_text().replace("splits: null", f"splits: {drawn}", 1))
    assert {"export_pseudo_labels", "train_module"} <= project.planned().keys()
    status, output = project.run("--dry-run", "figure3a")
    assert status != 0 and f"{refusal} (its splits" in output and "Job stats" not in output
    assert "Traceback" not in output


def test_every_rule_says_what_it_does_and_logs_and_measures_itself():
    assert len(RULES) >= 17
    order = [
        "input",
        "output",
        "log",
        "benchmark",
        "wildcard_constraints",
        "priority",
        "conda",
        "threads",
        "resources",
        "params",
        "shell",
    ]
    for name, body in RULES.items():
        assert re.fullmatch(r"[a-z]+_[a-z0-9_]+", name), name
        assert body.lstrip().startswith('"""'), name
        sections = re.findall(r"^ {4}(\w+):", body, re.M)
        assert {"output", "log", "benchmark", "params", "shell"} <= set(sections), name
        assert sections == [section for section in order if section in sections], name
        assert len(re.findall(r"\bamae [a-z-]+", body[body.index("shell:") :])) == 1, name
        assert re.search(r"\bcode=(code\(|plan\(compared\.method_code)", body), name
        jobs = re.findall(r'(log|benchmark)_of\("(?:\{variant\})?([a-z0-9_]+?)(?:_?\{\w+\})*"', body)
        shortened = "fetch" if name.startswith("fetch_") else "tabulate" if name == "tabulate_results" else name
        assert jobs == [("log", shortened), ("benchmark", shortened)], name


def test_every_wildcard_is_constrained():
    text = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    blocks = re.findall(r"wildcard_constraints:\n((?: {4,8}\w+=.*\n)+)", text)
    constrained = re.findall(r"(\w+)=", "".join(blocks))
    wildcards = set(re.findall(r"\{\{(\w+)\}\}", "".join(RULES.values())))
    helpers = {"part", "name", "suffix"}  # filled in by expand
    assert wildcards - helpers <= set(constrained)


@pytest.mark.parametrize(
    ("driver", "visible", "config", "threads"),
    [
        ("/dev/null", "0", "device=auto", "2"),
        ("/dev/null", "", "device=auto", "8"),
        ("/dev/null", "0", "device=cpu", "8"),
        ("/dev/missing", "0", "device=auto", "8"),
    ],
)
def test_a_job_on_a_gpu_leaves_cores_to_others(tmp_path, monkeypatch, driver, visible, config, threads):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    project = copy_sources(tmp_path)
    project.edit("amae/runtime/lock.py", "/dev/nvidiactl", driver)
    words = [*project.command("--dry-run", config=(config,)), "--cores", "8", "--resources", "gpu=1"]
    status, output = run(words, project.folder)
    assert status == 0, output
    jobs = {part.partition(":")[0]: re.findall(r"^    threads: (.*)$", part, re.M) for part in output.split("\nrule ")}
    assert jobs["train_module"] == jobs["reconstruct_test"] == [threads]
    assert jobs["convert_images"] == ["8"]


@pytest.mark.long
def test_jobs_that_share_the_conversion_make_the_same_files(finished, tmp_path):
    project = finished.copy(tmp_path / "project")
    names = ("images.npy", "images.csv", "lung_images.npy", "lungs.npy", "lungs.csv")
    for name in names:
        (project.results / name).unlink()
    status, output = project.run("out/tiny/lungs.npy", config=("shards=2",))
    assert status == 0, output
    assert [len(re.findall(f"^localrule {step}_shard:", output, re.M)) for step in ("convert", "segment")] == [2, 2]
    for name in names:
        assert (project.results / name).read_bytes() == (finished.results / name).read_bytes(), name
    assert not list(project.results.glob("*shard*")) and not list(project.results.glob(".*.unfinished"))
