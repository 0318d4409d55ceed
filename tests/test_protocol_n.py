"""Data sets without unlabeled images: what is planned for them, and that stage 1 alone goes all the way to figures."""

import pytest
from PIL import Image
from project import Project, copy_sources
from safetensors import safe_open

from amae.cli import main
from amae.runtime.files import read_csv, write_csv

COMMANDS = (
    "pretrain",
    "import-weights",
    "train-stage1",
    "score-stage1",
    "compute-metrics",
    "summarise-metrics",
    "plot-training",
    "plot-scores",
    "plot-histograms",
)
STAGE2 = {"export_pseudo_labels", "train_module", "reconstruct_test", "diagnose_pseudo_labels"}


@pytest.mark.parametrize("name", ["nih", "rsna", "vindr"])
def test_what_is_planned_needs_no_unlabeled_image(tmp_path, name):
    project = copy_sources(tmp_path)
    config = [f"dataset={name}", f"datasets={{{name}: {{anomaly_ratio: null, weights: pretrain}}}}"]
    jobs = project.planned(*config)
    assert jobs.keys() >= {"pretrain_mae", "compute_metrics", "plot_scores", "plot_training", "plot_histograms"}
    assert jobs["measure_comparison"] == 1 and jobs["run_comparator"] == 4  # of five, the probe needs T_u
    assert not jobs.keys() & {*STAGE2, "plot_gallery"}


def test_targets_of_the_paper_leave_stage_2_out(tmp_path):
    names = "{table2: [nih], figure3: [nih], audit: [nih], localisation: [nih]}"
    project = copy_sources(tmp_path)
    words = ("paper", "--dry-run", "--printshellcmds")
    config = ("dataset=nih", f"experiments={names}", "preset=paper", "seeds=[0,1,2,3]")
    status, output = project.run(*words, config=config)
    assert status == 0, output
    commands = Project(project.folder, output).commands("tabulate-results", "audit", "tabulate-costs")
    for command in commands:  # the paper's own settings leave nothing for the caption to say
        assert "--caveats=" in command
        assert ("--exposure" in command) == (command[0] == "audit")
    assert len(commands) == 3
    for made in ("tables/table2.md", "tables/audit.md", "figures/figure3c.png"):
        assert f"out/nih/{made}" in output
    assert "--reference 'AMAE stage 1'" in output
    assert not [rule for rule in (*STAGE2, "measure_localisation", "plot_sweep") if f"rule {rule}:" in output]


@pytest.mark.usefixtures("one_thread")
def test_stage_1_alone_goes_from_images_to_figures(finished, tmp_path, monkeypatch):
    project = finished.copy(tmp_path / "project")
    manifest = read_csv(project.results / "manifest.csv")
    write_csv(manifest[manifest["split"] != "train_unlabeled"], project.results / "manifest.csv")
    seed = project.results / "seed0"
    made = [seed / name for name in ("scores.csv", "metrics.csv", "training.png", "histograms.png")]
    made += [project.results / name for name in ("pretraining/mae.safetensors", "summary.csv", "roc.png")]
    for path in made:
        path.unlink()
    monkeypatch.chdir(project.folder)
    for words in finished.commands(*COMMANDS):
        if words[0] == "compute-metrics":
            for option in ("--reconstruction-scores", "--detector-scores"):
                place = words.index(option)
                words = words[:place] + words[place + 2 :]
        of_stage2 = ("module_A/history.csv", "module_B/history.csv")
        assert main([word for word in words if not word.endswith(of_stage2)]) == 0, words
    assert list(read_csv(seed / "scores.csv")) == ["image_id", "label", "view", "stage1"]
    assert set(read_csv(project.results / "summary.csv")["score"]) == {"stage1"}
    assert set(read_csv(seed / "stage1/scores.csv")["split"]) == {"test"}
    with safe_open(project.results / "pretraining/mae.safetensors", "pt") as file:
        assert any("pre-trained by amae pretrain on 10 images" in value for value in file.metadata().values())
    for path in made:
        assert path.is_file()
        if path.suffix == ".png":
            with Image.open(path) as picture:
                picture.load()
