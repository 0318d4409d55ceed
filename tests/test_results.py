"""Result tables: means and spreads by hand, tests by scipy, differences to what was printed, and text that renders."""

import json
import re
import shutil
import subprocess
from argparse import Namespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from project import ROOT, call
from scipy.stats import ttest_ind
from sklearn.metrics import average_precision_score, roc_auc_score

from amae.commands import plot_comparison as comparison
from amae.commands import plot_sweep as sweep
from amae.commands.plot_panels import plot_panels
from amae.commands.tabulate_costs import tabulate_costs
from amae.commands.tabulate_results import tabulate_results
from amae.evaluation.audit import audit_table
from amae.evaluation.chance import chance_of_chi_square
from amae.evaluation.localisation import localisation_metrics
from amae.evaluation.metrics import chi_square_distance
from amae.evaluation.results import (
    cost_table,
    escape_latex,
    readable,
    readable_costs,
    replicates_of,
    results_table,
    write_latex,
    write_markdown,
)
from amae.evaluation.statistics import delong_test
from amae.evaluation.tables import CLASSES, diagnose_pseudo_labels, metrics_of_scores, summarise
from amae.figures.sweep import plot_comparison, plot_histogram_panels, plot_sweep
from amae.runtime.errors import InputError

AUCS = {"AMAE stage 1": [0.86, 0.87, 0.88, 0.87], "AMAE stage 2": [0.91, 0.92, 0.90, 0.93], "Own_1 & 2": [0.5]}
PAIRED = {"AMAE stage 2": 0.2, "Own_1 & 2": 0.0004}
PUBLISHED = """source,method,protocol,taxonomy,dataset,metric,anomaly_ratio,value
AMAE Table 2,AMAE stage 1,N,SSL,rsna,auc,,86.8
AMAE Table 2,AMAE stage 1,N,SSL,vindr,auc,,74.2
a figure,AMAE stage 2,Y,Rec.,rsna,auc,0.6,80.0
AMAE Table 2,AMAE stage 2,Y,Rec.,rsna,auc,0.6,91.4
the text,AMAE stage 2,Y,Rec.,rsna,auc,0.8,92
the text,AMAE stage 2,Y,Rec.,rsna,ap,0.6,91.7
"""


@pytest.fixture
def published(tmp_path) -> pd.DataFrame:
    (tmp_path / "published.csv").write_text(PUBLISHED)
    return pd.read_csv(tmp_path / "published.csv", dtype=str, keep_default_na=False)


@pytest.fixture
def replicates() -> pd.DataFrame:
    rows = []
    for (method, values), protocol in zip(AUCS.items(), "NYN", strict=True):
        for seed, value in enumerate(values):
            row = {"method": method, "protocol": protocol, "taxonomy": "Rec." if protocol == "Y" else "SSL"}
            row |= {"seed": seed, "auc": value, "auc_low": 0.85, "auc_high": 0.88, "ap": value + 0.01}
            rows.append(row | {"note": "ours" if method.startswith("Own") else ""})
    return pd.DataFrame(rows)


def test_means_differences_ranks_by_hand(replicates, published):
    table = results_table(replicates, published, "rsna", 0.6).set_index("method")
    assert list(table.index) == list(AUCS) and table["seeds"].tolist() == [4, 4, 1]
    first = table.loc["AMAE stage 1"]
    assert first["auc"] == pytest.approx(87.0)
    assert first["auc_spread"] == pytest.approx(1.96 * np.std([86, 87, 88, 87], ddof=1))
    assert (first["auc_low"], first["auc_high"]) == pytest.approx((85.0, 88.0))
    assert (first["auc_printed"], first["auc_difference"]) == pytest.approx((86.8, 0.2))
    assert table["auc_rank"].tolist() == [2, 1, 3]
    assert np.isnan(table.loc["Own_1 & 2", ["auc_spread", "auc_printed", "auc_difference"]].astype(float)).all()
    assert "ap_low" not in table and "auc_welch_p" not in table


def test_printed_figures_and_where_they_come_from(replicates, published):
    table = results_table(replicates, published, "rsna", 0.6).set_index("method")
    second = table.loc["AMAE stage 2"]
    assert (second["auc_printed"], second["ap_printed"]) == (91.4, 91.7)  # the main table before other sources
    assert second["notes"] == "AUC in a figure: 80.0; printed AP: the text"
    assert table.loc["AMAE stage 1", "notes"] == "" and table.loc["Own_1 & 2", "notes"] == "ours"
    other = results_table(replicates, published, "rsna", 0.8).set_index("method")
    assert other.loc["AMAE stage 2", "auc_printed"] == 92 and other.loc["AMAE stage 1", "auc_printed"] == 86.8
    assert results_table(replicates, published, "vindr", 0.6)["auc_printed"].notna().tolist() == [True, False, False]


def test_welch_is_that_of_scipy(replicates, published):
    table = results_table(replicates, published, "rsna", 0.6, reference="AMAE stage 2").set_index("method")
    expected = ttest_ind(AUCS["AMAE stage 1"], AUCS["AMAE stage 2"], equal_var=False).pvalue
    assert table.loc["AMAE stage 1", "auc_welch_p"] == pytest.approx(expected)
    assert 0.001 < expected < 0.01 and table.loc["AMAE stage 1", "auc_welch_stars"] == "***"
    assert table.loc[["AMAE stage 2", "Own_1 & 2"], "auc_welch_stars"].tolist() == ["", ""]
    with pytest.raises(InputError, match="'nobody' is not a method of the table"):
        results_table(replicates, published, "rsna", 0.6, reference="nobody")


def test_a_reference_with_two_protocols_is_never_pooled(replicates, published):
    """Each row is tested against the reference under its own protocol, by scipy on these seeds alone."""
    auc = {"N": [0.55, 0.56, 0.57, 0.58], "Y": [0.70, 0.71, 0.74, 0.73]}
    rows = [
        {"method": "CutPaste-e2e", "protocol": p, "taxonomy": "SSL", "seed": seed, "auc": value, "ap": value}
        for p, values in auc.items()
        for seed, value in enumerate(values)
    ]
    both = pd.concat([replicates, pd.DataFrame(rows)]).fillna({"note": ""})
    table = results_table(both, published, "rsna", 0.6, reference="CutPaste-e2e").set_index(["method", "protocol"])
    for method, protocol in (("AMAE stage 1", "N"), ("AMAE stage 2", "Y")):
        expected = ttest_ind(AUCS[method], auc[protocol], equal_var=False).pvalue
        assert table.loc[(method, protocol), "auc_welch_p"] == pytest.approx(expected)
    assert table.loc["CutPaste-e2e", "auc_welch_stars"].tolist() == ["", ""]


def test_chi_square_is_no_percentage(replicates, published):
    row = {"source": "AMAE Fig. 3b", "method": "AMAE stage 2", "protocol": "Y", "taxonomy": "Rec.", "dataset": "rsna"}
    published = pd.concat(
        [published, pd.DataFrame([row | {"metric": "chi2", "anomaly_ratio": "0.6", "value": "58.37"}])]
    )
    table = results_table(replicates.assign(chi2=60.0), published, "rsna", 0.6, metrics=("chi2",)).set_index("method")
    assert table.loc["AMAE stage 2", "chi2_difference"] == pytest.approx(1.63)
    assert readable(table.reset_index(), ("chi2",))["χ² difference"].tolist() == ["", "+1.63", ""]


def scores_of_seed(seed: int, images: int = 120) -> pd.DataFrame:
    """Scores of one training: what all seeds agree on, with noise of its own."""
    labels = np.arange(images) % 2
    shared = np.random.default_rng(9).normal(labels, 1)
    values = shared + np.random.default_rng(seed).normal(0, 1.5, images)
    names = [f"i{i:03}" for i in range(images)]
    return pd.DataFrame({"image_id": names, "label": np.where(labels, "abnormal", "normal"), "inter": values})


def test_the_interval_is_that_of_the_mean_over_seeds():
    """A bootstrap written out, each resample's images taken from every seed; single seeds have wider intervals."""
    tables = [scores_of_seed(seed).sample(frac=1, random_state=seed) for seed in range(4)]
    rows = replicates_of(tables, "inter", "AMAE stage 2", "Y", "Rec.")
    values = np.stack([scores_of_seed(seed)["inter"] for seed in range(4)])
    labels = np.arange(120) % 2
    assert rows["auc"].tolist() == pytest.approx([roc_auc_score(labels, of_seed) for of_seed in values])
    assert rows["ap"].tolist() == pytest.approx([average_precision_score(labels, of_seed) for of_seed in values])
    rng, means = np.random.default_rng(1), []
    for _ in range(400):
        drawn = np.concatenate([rng.choice(np.flatnonzero(labels == label), 60) for label in (0, 1)])
        means.append(np.mean([roc_auc_score(labels[drawn], of_seed[drawn]) for of_seed in values]))
    expected = np.percentile(means, [2.5, 97.5])
    assert rows[["auc_low", "auc_high"]].drop_duplicates().to_numpy()[0] == pytest.approx(expected, abs=0.015)
    empty = pd.DataFrame(columns=PUBLISHED.partition("\n")[0].split(","))
    table = results_table(rows, empty, "x", 0.6, metrics=("auc", "ap", "chi2"))
    assert table.loc[0, ["auc_low", "auc_high"]].tolist() == pytest.approx((100 * expected).tolist(), abs=1.5)
    ends = [metrics_of_scores(scores_of_seed(seed), seed) for seed in range(4)]
    averaged = np.mean([(part["auc_high"] - part["auc_low"]).item() for part in ends])
    assert averaged > 1.2 * (expected[1] - expected[0])
    summary = summarise(tables).iloc[0]
    assert summary["auc_mean"] == pytest.approx(rows["auc"].mean()) and summary["seeds"] == 4
    manifest = tables[0].assign(split="test", patient_id="", view="")
    audited = audit_table(tables, manifest).iloc[0]
    for name in ("auc_low", "auc_high", "ap_low", "ap_high"):  # every table says the same
        assert summary[name] == audited[name] == rows[name].iloc[0]


def test_every_column_is_described(replicates, published):
    """In the line of its table in results/README.md, the metric and what is added to its name apart."""
    lines = (ROOT / "results/README.md").read_text().splitlines()
    compared = results_table(replicates, published, "rsna", 0.6, "AMAE stage 2", paired={})
    scores = scores_of_seed(0)
    labels = pd.DataFrame({"image_id": ["a"], "predicted": "normal", "kept": True, "pseudo_label": "normal"})
    map_, boxes = np.eye(8)[None].repeat(2, 0), {"b": [(0, 0, 4, 4)]}
    tables = {
        "tables/table2.csv": compared,
        "tables/audit.csv": audit_table([scores], scores.assign(split="test", patient_id="", view="")),
        "tables/costs.csv": cost_table({}, {}),
        "pseudo_label_purity.csv": diagnose_pseudo_labels(labels, labels[:0].assign(label="")),
        "localisation.csv": localisation_metrics(map_, ["a", "b"], list(CLASSES), boxes),
    }
    for name, table in tables.items():
        line = [line for line in lines if line.startswith(f"| `{name}`")][-1]  # files come before columns
        for column in table:
            metric, more = re.fullmatch("((?:pixel_)?(?:auc|ap|aupro|pointing))(_.+)|.+", column).groups()
            parts = [column] if metric is None or f"`{column}`" in line else [metric, more]
            assert all(f"`{part}`" in line for part in parts), (name, column)


def test_scores_that_do_not_belong_together_are_refused():
    with pytest.raises(InputError, match="no score 'stage1' in its tables; they contain inter"):
        replicates_of([scores_of_seed(0)], "stage1", "AMAE stage 1", "N", "SSL")
    with pytest.raises(InputError, match="one contains 120 images, another 60"):
        replicates_of([scores_of_seed(0), scores_of_seed(1, 60)], "inter", "AMAE stage 2", "Y", "Rec.")


def test_mixed_up_replicates_are_refused(replicates, published):
    with pytest.raises(InputError, match=r"'AMAE stage 1' .* appears"):
        results_table(pd.concat([replicates, replicates[:1]]), published, "rsna", 0.6)
    with pytest.raises(InputError, match="missing column ap"):
        results_table(replicates.drop(columns="ap"), published, "rsna", 0.6)


def test_readable_cells(replicates, published):
    text = readable(results_table(replicates, published, "rsna", 0.6, reference="AMAE stage 2"))
    assert text["AUC, %"].tolist()[0] == "87.0 ± 1.6 [85.0, 88.0]"
    assert text["AP, %"].tolist()[2] == "51.0"  # one seed, no interval
    assert text["AUC difference"].tolist() == ["+0.2", "+0.1", ""]
    assert text["AUC Welch"].tolist() == ["***", "", ""]
    single = results_table(replicates[replicates["seed"] == 0], published, "rsna", 0.6, reference="AMAE stage 2")
    assert "AUC Welch" not in readable(single)  # nothing to test with one seed
    low = replicates.assign(auc=replicates["auc"] - 0.0021)
    assert readable(results_table(low, published, "rsna", 0.6))["AUC difference"].tolist()[:2] == [
        "0.0",
        "\N{MINUS SIGN}0.1",
    ]


def test_markdown_renders(replicates, published, tmp_path):
    text = readable(results_table(replicates, published, "rsna", 0.6, reference="AMAE stage 2"))
    text.loc[0, "Notes"] = "a | b\nc"
    write_markdown(text, tmp_path / "table.md", "RSNA, AR 0.6")
    lines = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "RSNA, AR 0.6" and len(lines) == 7
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines[2:]}) == 1  # the same cells in each row
    assert r"\*\*\*" in lines[4] and r"a \| b c" in lines[4] and r"Own\_1 & 2" in lines[6]
    assert lines[3].split("|")[1:6] == [" --- ", " --- ", " --- ", " ---: ", " ---: "]


def test_latex_escapes():
    assert escape_latex(r"50 % of A_1 & B#2, {x}~^\$") == (
        r"50 \% of A\_1 \& B\#2, \{x\}\textasciitilde{}\textasciicircum{}\textbackslash{}\$"
    )
    assert escape_latex("86.8 ± 0.4, χ² \N{MINUS SIGN}1, px²") == r"86.8 $\pm$ 0.4, $\chi^2$ $-$1, px$^2$"


def test_latex_table(replicates, published, tmp_path):
    text = readable(results_table(replicates, published, "rsna", 0.6))
    path = tmp_path / "table.tex"
    write_latex(text, path, "RSNA & AR 0.6, %", "tab:rsna")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines.count(r"\toprule") == lines.count(r"\bottomrule") == 1
    assert lines.count(r"\midrule") == 3  # under the head, and where the protocol changes: N, Y, N
    rows = [line for line in lines if line.endswith(r"\\")]
    assert len(rows) == 4 and {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(text.columns) - 1}
    assert r"\caption{RSNA \& AR 0.6, \%}" in lines and r"Own\_1 \& 2" in rows[-1]
    assert r"\begin{tabular}{lllrrrrrrrrrl}"[:22] in lines[5]
    assert path.read_text(encoding="utf-8").isascii()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
def test_latex_compiles(replicates, published, tmp_path):
    write_latex(readable(results_table(replicates, published, "rsna", 0.6)), tmp_path / "t.tex", "A_b % c", "tab:x")
    (tmp_path / "main.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\\input{t}\\end{document}"
    )
    subprocess.run(
        ["pdflatex", "-halt-on-error", "main.tex"], cwd=tmp_path, check=True, capture_output=True, timeout=60
    )


def test_costs_by_hand():
    gpu = {"device": {"type": "cuda", "name": "A GPU"}, "wall_seconds": 1800, "peak_memory_mib": 1024}
    cpu = {"device": {"type": "cpu", "name": "A CPU", "threads": 1}, "wall_seconds": 360, "peak_memory_mib": 512}
    records = {"AE": [cpu, cpu], "AMAE": [gpu | {"peak_cuda_mib": 2048}, gpu | {"wall_seconds": 3600}, cpu], "none": []}
    table = cost_table(records, {"AMAE": 3_000_000_000})
    assert table["method"].tolist() == ["AE", "AMAE", "AMAE"] and table["jobs"].tolist() == [2, 1, 2]
    assert table["device"].tolist() == ["A CPU, 1 thread", "A CPU, 1 thread", "A GPU"]
    assert table["wall_hours"].tolist() == pytest.approx([0.2, 0.1, 1.5])
    assert table["memory_gib"].tolist() == [0.5, 0.5, 1] and table["cuda_gib"].tolist()[2] == 2
    assert table["gigabytes"].tolist()[:2] == [0, 3]
    text = readable_costs(table)
    assert text.iloc[2].tolist() == ["AMAE", "A GPU", "2", "1.500", "1.00", "2.00", ""]
    unknown = cost_table({"AE": [{"device": {"name": "A CPU"}}]}, {})
    assert np.isnan(unknown.loc[0, "wall_hours"]) and unknown.loc[0, "device"] == "A CPU"


def test_figures_are_the_same_bytes_twice(replicates, published, tmp_path):
    sweep = pd.concat([replicates.assign(anomaly_ratio=ratio) for ratio in ("0", "0.6")])
    scores = pd.DataFrame(
        {"image_id": ["a", "b", "c", "d"], "label": ["normal", "abnormal"] * 2, "inter": [1, 2, 3, 4]}
    )
    panels = {"with": [scores, scores[::-1]], "constant": [scores.assign(inter=0.5)] * 2}
    for name in ("one", "two"):
        plot_sweep(sweep, tmp_path / f"{name}_sweep.png", published)
        plot_sweep(sweep[sweep["seed"] == 0], tmp_path / f"{name}_single.png", published[:0])
        plot_comparison(replicates, tmp_path / f"{name}_comparison.png", "AMAE stage 1", PAIRED)
        plot_histogram_panels(panels, "inter", tmp_path / f"{name}_panels.png", {"with": 58.37})
    for path in tmp_path.glob("one_*.png"):
        assert path.stat().st_size > 5000
        assert path.read_bytes() == path.with_name(path.name.replace("one", "two")).read_bytes()
    with pytest.raises(InputError, match="'x' is not among the methods AMAE stage 1"):
        plot_comparison(replicates, tmp_path / "x.png", "x", PAIRED)
    with pytest.raises(InputError, match="with: no score 'stage1'; the table has inter"):
        plot_histogram_panels(panels, "stage1", tmp_path / "x.png", {})


def test_a_bracket_has_the_test_over_seeds_and_that_over_images(replicates, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Axes, "text", lambda axes, x, y, text, **look: drawn.append((x, text)))
    plot_comparison(replicates, tmp_path / "c.png", "AMAE stage 1", PAIRED)
    p = ttest_ind(AUCS["AMAE stage 1"], AUCS["AMAE stage 2"], equal_var=False).pvalue
    assert 0.001 < p <= 0.01
    assert drawn == [(0.5, "*** / ns"), (1, "p = 4.0e-04")]  # one seed: over images alone


def test_a_sweep_shows_what_was_printed_without_unlabeled_images(replicates, published, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Axes, "axhline", lambda axes, value, **look: drawn.append(round(value, 3)))
    one_class = replicates[replicates["protocol"] == "N"]
    frame = pd.concat([replicates.assign(anomaly_ratio=ratio) for ratio in (0, 0.6)])
    printed = published[(published["dataset"] == "rsna") & (published["metric"] == "auc")]
    without_ratio = printed[printed["anomaly_ratio"] == ""]
    plot_sweep(frame, tmp_path / "sweep.png", printed)
    known = without_ratio[(without_ratio["protocol"] == "N") & without_ratio["method"].isin(one_class["method"])]
    assert len(drawn) == len(known) > 0
    assert sorted(drawn) == sorted(round(float(value) / 100, 3) for value in known["value"])


@pytest.fixture
def options(published, tmp_path) -> Namespace:
    """Scores of every seed as files where the workflow puts them, and the methods that they belong to."""
    methods = []
    for place, (method, protocol) in enumerate(zip(AUCS, "NYN", strict=True)):
        files = [tmp_path / f"seed{seed}/part{place}/scores.csv" for seed in range(len(AUCS[method]))]
        for seed, path in enumerate(files):
            path.parent.mkdir(parents=True)
            scores_of_seed(10 * place + seed).drop(columns="label").to_csv(path, index=False)
        entry = {"method": method, "protocol": protocol, "taxonomy": "SSL", "score": f"part{place}/inter"}
        methods.append(entry | {"scores": [str(path) for path in files]})
    images = scores_of_seed(0)[["image_id", "label"]].assign(split="test")
    unlabelled = pd.DataFrame({"image_id": ["x", "y"], "label": "", "split": ["test", "train_unlabeled"]})
    unread = pd.DataFrame({"image_id": ["unread"], "label": "normal", "split": "test"})
    manifest = pd.concat([images, unlabelled, unread]).assign(patient_id="", view="")
    manifest.assign(path=manifest["image_id"] + ".dcm").to_csv(tmp_path / "manifest.csv", index=False)
    pd.concat([images, unlabelled]).to_csv(tmp_path / "index.csv", index=False)
    (tmp_path / "rejected.csv").write_text("image_id,path,reason\nunread,unread.dcm,truncated\n")
    outputs = {"table": "t.csv", "markdown": "t.md", "latex": "t.tex", "figure": "t.png", "published": "published.csv"}
    paths = {name: tmp_path / file for name, file in outputs.items()}
    paths |= {name: tmp_path / f"{name}.csv" for name in ("manifest", "index")}
    return Namespace(
        **paths,
        methods=json.dumps(methods),
        dataset="mine",
        kind="rsna",
        anomaly_ratio=0.6,
        reference="AMAE stage 2",
        score="inter",
        every_printed=False,
        caveats="Not the paper's settings: preset demo.",
    )


def test_a_single_image_of_a_class_leaves_the_delong_test_out(options, capsys):
    manifest = pd.read_csv(options.manifest, keep_default_na=False)
    abnormal = manifest.index[manifest["label"] == "abnormal"]
    manifest.drop(index=abnormal[1:]).to_csv(options.manifest, index=False)
    call(tabulate_results, options)
    told = "the DeLong test needs at least two test images of each class, found 60 normal and 1 abnormal: left out"
    assert told in capsys.readouterr().err
    table = pd.read_csv(options.table)
    assert table["auc"].notna().all() and table["auc_delong_p"].isna().all()
    assert "AUC Welch" in options.markdown.read_text() and "DeLong" not in options.markdown.read_text()
    call(comparison.plot_comparison, options)
    methods = [about | {"scores": about["scores"][:1]} for about in json.loads(options.methods)]
    options.methods = json.dumps(methods)
    call(comparison.plot_comparison, options)  # no test is left
    assert options.figure.stat().st_size > 5000


def test_results_as_commands(options):
    call(tabulate_results, options)
    table = pd.read_csv(options.table).set_index("method")
    aucs = [roc_auc_score(np.arange(120) % 2, scores_of_seed(seed)["inter"]) for seed in range(4)]
    assert table.loc["AMAE stage 1", "auc"] == pytest.approx(100 * np.mean(aucs))
    assert table.loc["AMAE stage 1", "auc_difference"] == pytest.approx(100 * np.mean(aucs) - 86.8)
    assert "interval of that mean over test images" in options.markdown.read_text()
    assert "Tests against AMAE stage 2, two-sided: Welch test over seeds; DeLong test" in options.markdown.read_text()
    for path in (options.markdown, options.latex):
        assert "Not the paper's settings: preset demo." in path.read_text()
    assert options.latex.read_text().count("midrule") == 3
    call(comparison.plot_comparison, options)
    options.methods = options.methods.replace('"score"', '"anomaly_ratio": 0.6, "score"')
    call(sweep.plot_sweep, options)
    assert options.figure.stat().st_size > 5000


def test_delong_stands_beside_welch_and_needs_no_second_seed(options):
    """Mean AUC over all seeds against the reference, on the same images; the reference has no test."""
    call(tabulate_results, options)
    table = pd.read_csv(options.table).set_index("method")
    labels = np.arange(120) % 2
    scores = {
        about["method"]: np.stack([pd.read_csv(path)["inter"] for path in about["scores"]])
        for about in json.loads(options.methods)
    }
    for method in ("AMAE stage 1", "Own_1 & 2"):
        expected = delong_test(labels, scores[method], scores["AMAE stage 2"])[1]
        assert table.loc[method, "auc_delong_p"] == pytest.approx(expected)
    assert np.isnan(table.loc["AMAE stage 2", "auc_delong_p"])
    header = next(line for line in options.markdown.read_text().splitlines() if line.startswith("| Method"))
    assert header.index("AUC Welch") < header.index("AUC DeLong") < header.index("AUC rank")
    methods = [about | {"scores": about["scores"][:1]} for about in json.loads(options.methods)]
    options.methods = json.dumps(methods)
    call(tabulate_results, options)
    text = options.markdown.read_text()
    assert "AUC DeLong" in text and "Welch" not in text and "two-sided: DeLong test" in text


def test_a_row_is_tested_against_the_reference_that_it_names(options):
    methods = json.loads(options.methods)
    methods[0]["reference"] = methods[2]["reference"] = "Own_1 & 2"
    options.methods = json.dumps(methods)
    call(tabulate_results, options)
    table = pd.read_csv(options.table).set_index("method")
    scores = [np.stack([pd.read_csv(path)["inter"] for path in about["scores"]]) for about in methods]
    expected = delong_test(np.arange(120) % 2, scores[0], scores[2])[1]
    assert table.loc["AMAE stage 1", "auc_delong_p"] == pytest.approx(expected)
    assert table["auc_delong_p"].notna().tolist() == [True, False, False]
    assert table["reference"].fillna("").tolist() == ["Own_1 & 2", "", ""]
    text = options.markdown.read_text()
    assert "Tests against Own\\_1 & 2, two-sided" in text and "Tested against" not in text
    del methods[2]["reference"]  # so that it is tested against that of the option
    options.methods = json.dumps(methods)
    call(tabulate_results, options)
    text = options.markdown.read_text()
    assert "Tests against the method that each row names, two-sided" in text
    names = [line.split(" | ")[-2] for line in text.splitlines() if line.startswith("| ")]
    assert names == ["Tested against", "---", "Own\\_1 & 2", "", "AMAE stage 2"]
    methods[0]["reference"] = "nobody"
    options.methods = json.dumps(methods)
    with pytest.raises(InputError, match="'nobody' is not a method of the table"):
        call(tabulate_results, options)


def test_welch_is_against_the_reference_that_a_row_names(replicates, published):
    more = replicates[replicates["method"] == "AMAE stage 2"].assign(method="main: other", auc=[0.6, 0.7, 0.8, 0.7])
    both = pd.concat([replicates, more]).assign(reference="")
    both.loc[both["method"] == "AMAE stage 1", "reference"] = "main: other"
    table = results_table(both, published, "rsna", 0.6, reference="AMAE stage 2").set_index("method")
    aucs = AUCS | {"main: other": more["auc"]}
    for method, beside in (("AMAE stage 1", "main: other"), ("main: other", "AMAE stage 2")):
        expected = ttest_ind(aucs[method], aucs[beside], equal_var=False).pvalue
        assert table.loc[method, "auc_welch_p"] == pytest.approx(expected)


def test_what_was_only_printed_has_a_row_of_its_own(options):
    with options.published.open("a") as file:
        file.write("AMAE Table 2,FPI,N,SSL,rsna,auc,,47.6\nAMAE Table 2,FPI,Y,SSL,rsna,auc,0.6,46.6\n")
        file.write("AMAE Table 2,PII,N,SSL,nih,auc,,92.2\nAMAE Table 2,NSA,Y,SSL,rsna,auc,0.8,1\n")
    call(tabulate_results, options)
    built = pd.read_csv(options.table)
    assert list(built["method"]) == list(AUCS)
    options.every_printed = True
    call(tabulate_results, options)
    table = pd.read_csv(options.table)
    pd.testing.assert_frame_equal(table[:3], built, check_dtype=False)
    added = table[3:]
    assert added[["method", "protocol", "auc_printed"]].to_numpy().tolist() == [["FPI", "N", 47.6], ["FPI", "Y", 46.6]]
    assert added[["seeds", "auc", "auc_low", "auc_rank", "ap", "ap_printed"]].isna().all(axis=None)
    assert set(added["notes"]) == {"printed only, not measured here"}
    row = next(line for line in options.markdown.read_text().splitlines() if line.startswith("| FPI | N"))
    assert "47.6" in row and "nan" not in row.lower() and "<na>" not in row.lower()
    options.kind = "own"  # whatever the name of the data set
    call(tabulate_results, options)
    assert pd.read_csv(options.table)["auc_printed"].isna().all() and len(pd.read_csv(options.table)) == 3
    for path in (options.markdown, options.latex):
        text = path.read_text()
        assert "over test images" in text and "printed" not in text and "difference" not in text


def test_an_unknown_anomaly_ratio_has_nothing_printed_beside_it(options):
    options.anomaly_ratio = None
    call(tabulate_results, options)
    table = pd.read_csv(options.table).set_index("protocol")
    assert table.loc[["Y"], "auc_printed"].isna().all() and table.loc[["N"], "auc_printed"].notna().any()
    assert "unlabeled images." in options.markdown.read_text()


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ("[", "not JSON"),
        ("[]", "no method given"),
        ('[{"method": "a"}]', "expected the keys"),
        ("[3]", "expected the keys"),
        ('[{"method": "a", "protocol": "N", "taxonomy": "b", "score": "c", "scores": 1}]', "found 1, expected a list"),
        ("{}", "expected JSON of a list"),
    ],
)
def test_mistakes_in_methods_are_named(methods, message, options):
    options.methods = methods
    with pytest.raises(InputError, match=message):
        call(tabulate_results, options)


def test_costs_as_a_command(options, tmp_path):
    folder = tmp_path / "stage1"
    folder.mkdir()
    record = {"device": {"name": "A CPU"}, "wall_seconds": 3600}
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "head.bin").write_bytes(bytes(10**6))
    options.records = json.dumps({"AMAE": [str(folder / "run.json")]})
    call(tabulate_costs, options)
    assert options.caveats in options.markdown.read_text()
    row = pd.read_csv(options.table).iloc[0]
    assert (row["jobs"], row["wall_hours"]) == (1, 1) and row["gigabytes"] == pytest.approx(0.001, rel=0.01)
    (folder / "run.json").write_text("{")
    with pytest.raises(InputError, match="not a readable record"):
        call(tabulate_costs, options)
    for records, message in (
        ("[]", r"found \[\], expected JSON of an object"),
        ('{"a": 1}', "found 1, expected a list"),
    ):
        options.records = records
        with pytest.raises(InputError, match=message):
            call(tabulate_costs, options)


def test_histogram_panels_show_every_seed_beside_the_printed_distance(options, monkeypatch):
    with options.published.open("a") as file:
        file.write("AMAE Fig. 3b,AMAE stage 2,Y,Rec.,rsna,chi2,0.6,58.37\n")
    titles = []
    monkeypatch.setattr("matplotlib.axes.Axes.set_title", lambda axes, text, **more: titles.append(text))
    call(plot_panels, options)
    assert options.figure.stat().st_size > 5000
    frames = [scores_of_seed(seed) for seed in range(10, 14)]  # of AMAE stage 2, the second method
    chi2 = [
        chi_square_distance(*(frame.loc[frame["label"] == label, "inter"].to_numpy() for label in CLASSES))
        for frame in frames
    ]
    aucs = [roc_auc_score(frame["label"] == "abnormal", frame["inter"]) for frame in frames]
    chance = [
        chance_of_chi_square(*(frame.loc[frame["label"] == label, "inter"].to_numpy() for label in CLASSES))
        for frame in frames
    ]
    expected = f"χ² {np.mean(chi2):.1f} ± {1.96 * np.std(chi2, ddof=1):.1f}"
    expected += f" (chance {np.mean(chance):.1f}) (printed 58.37)"
    expected += f", AUC {np.mean(aucs):.3f} ± {1.96 * np.std(aucs, ddof=1):.3f}"
    assert titles[1] == f"AMAE stage 2\n{expected}"
    assert "printed" not in titles[0] and "±" not in titles[2]
