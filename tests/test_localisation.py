"""Localisation metrics against exact computations, known answers, and boxes that are the pixels they were."""

from argparse import Namespace

import numpy as np
import pandas as pd
import pytest
from project import call
from scipy.integrate import trapezoid
from sklearn.metrics import average_precision_score, roc_auc_score

from amae.commands.localise import localise
from amae.commands.plot_localisation import plot_localisation
from amae.data.boxes import packed_boxes, read_boxes
from amae.data.images import make_square
from amae.evaluation import localisation
from amae.evaluation.localisation import anomaly_map, box_pixels, localisation_metrics, quantise
from amae.method.scores import discrepancy_map, reconstruction_scores
from amae.runtime.errors import InputError

SIZE = 16


def example(rng: np.random.Generator, images: int = 6) -> tuple[list[str], list[str], dict, dict]:
    """The first half normal; in the others one or two boxes, which may overlap."""
    ids = [f"image-{i}" for i in range(images)]
    labels = ["normal"] * (images // 2) + ["abnormal"] * (images - images // 2)
    boxes, findings = {}, {}
    for image_id in ids[images // 2 :]:
        corners = [rng.integers(0, 9, 2) for _ in range(rng.integers(1, 3))]
        boxes[image_id] = [(float(x), float(y), float(x + 6), float(y + 4)) for x, y in corners]
        findings[image_id] = ["a" if place == 0 else "b" for place in range(len(corners))]
    return ids, labels, boxes, findings


def masks_of(ids: list[str], boxes: dict) -> np.ndarray:
    """Union of the boxes (N, SIZE, SIZE), for boxes with whole-numbered corners."""
    masks = np.zeros((len(ids), SIZE, SIZE), bool)
    for mask, image_id in zip(masks, ids, strict=True):
        for left, top, right, bottom in boxes.get(image_id, ()):
            mask[int(top) : int(bottom), int(left) : int(right)] = True
    return masks


def exact_aupro(maps: np.ndarray, ids: list[str], boxes: dict, limit: float = 0.3) -> float:
    """Straight from the definition: every threshold, every region, trapezoids on a fine grid."""
    outside = ~masks_of(ids, boxes)
    rates, overlaps = [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        called = maps >= threshold
        rates.append(called[outside].mean())
        shares = [
            called[n, int(top) : int(bottom), int(left) : int(right)].mean()
            for n, image_id in enumerate(ids)
            for left, top, right, bottom in boxes.get(image_id, ())
        ]
        overlaps.append(np.mean(shares))
    # np.interp takes the last overlap at a repeated rate; the curve's area does not see the jump itself
    grid = np.linspace(0, limit, 300_001)
    return float(trapezoid(np.interp(grid, rates, overlaps), grid) / limit)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("decimals", [1, 6])  # with many ties, and with hardly any
def test_metrics_are_exact_on_small_maps(seed, decimals):
    rng = np.random.default_rng(seed)
    ids, labels, boxes, _ = example(rng)
    masks = masks_of(ids, boxes)
    maps = np.round(rng.normal(masks * 1.0), decimals).astype(np.float32)
    row = localisation_metrics(maps, ids, labels, boxes).iloc[0]
    assert row["pixel_auc"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-9)
    assert row["pixel_ap"] == pytest.approx(average_precision_score(masks.ravel(), maps.ravel()), abs=1e-9)
    assert row["aupro"] == pytest.approx(exact_aupro(maps, ids, boxes), abs=2e-4)
    assert row["pixel_ap_chance"] == pytest.approx(masks.mean())
    assert list(row[["finding", "normal", "boxed", "boxes"]]) == ["all", 3, 3, sum(map(len, boxes.values()))]
    for name in ("pixel_auc", "pixel_ap", "aupro", "pointing"):
        assert row[f"{name}_low"] <= row[name] + 1e-9 and row[name] <= row[f"{name}_high"] + 1e-9


def test_quantised_metrics_are_close_to_exact(monkeypatch):
    rng = np.random.default_rng(0)
    ids, labels, boxes, _ = example(rng, images=200)  # 51,200 pixels, twelve times as many as levels
    masks = masks_of(ids, boxes)
    maps = np.exp(2 * rng.normal(masks * 1.5)).astype(np.float32)  # a long tail, as squared errors have
    row = localisation_metrics(maps, ids, labels, boxes).iloc[0]
    assert row["pixel_auc"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-4)
    assert row["pixel_ap"] == pytest.approx(average_precision_score(masks.ravel(), maps.ravel()), abs=1e-3)
    monkeypatch.setattr(localisation, "LEVELS", 256)
    coarse = quantise(maps)[0]
    assert exact_aupro(coarse, ids, boxes) == pytest.approx(row["aupro"], abs=2e-3)


def test_ranks_come_from_all_columns(monkeypatch):
    monkeypatch.setattr(localisation, "SAMPLE", 2000)  # a stride of 32 would see every other column only
    maps = np.tile(np.arange(16, dtype=np.float32), (250, 16, 1))
    levels, count = quantise(maps)
    assert count == 17 and len(np.unique(levels)) == 16
    random = np.random.default_rng(0).random((250, 16, 16)).astype(np.float32)
    monkeypatch.setattr(localisation, "LEVELS", 64)
    levels, count = quantise(random)
    shares = np.bincount(levels.ravel(), minlength=count)[1:-1] / random.size
    assert shares == pytest.approx(1 / 64, abs=0.012)
    order = np.argsort(random.ravel())
    assert (np.diff(levels.ravel()[order].astype(int)) >= 0).all()


@pytest.mark.parametrize(("value", "expected"), [("perfect", (1, 1, 1)), ("constant", (0.5, None, 0.15)), ("worst", 0)])
def test_known_answers(value, expected):
    ids, labels, boxes, _ = example(np.random.default_rng(1))
    masks = masks_of(ids, boxes)
    maps = {"perfect": masks, "constant": np.zeros_like(masks), "worst": ~masks}[value].astype(np.float32)
    row = localisation_metrics(maps, ids, labels, boxes).iloc[0]
    if value == "worst":
        assert (row["pixel_auc"], row["aupro"], row["pointing"]) == (0, 0, 0)
        return
    auc, ap, aupro = expected
    assert row["pixel_auc"] == pytest.approx(auc) and row["aupro"] == pytest.approx(aupro)
    assert row["pixel_ap"] == pytest.approx(masks.mean() if ap is None else ap)
    assert row["pointing"] == pytest.approx(row["pointing_chance"] if value == "constant" else 1)


def test_pointing_game_by_hand():
    ids, labels = ["n", "hit", "miss", "tie"], ["normal", "abnormal", "abnormal", "abnormal"]
    boxes = {image_id: [(4.0, 2.0, 8.0, 6.0)] for image_id in ids[1:]}
    maps = np.zeros((4, SIZE, SIZE), np.float32)
    maps[1, 5, 7] = maps[2, 6, 7] = 1  # the last row and column inside; the first row below
    maps[3, 2, 4] = maps[3, 0, 0] = maps[3, 15, 15] = maps[3, 3, 5] = 1  # two of four maxima inside
    maps[2, 3, 5] = np.nan  # never hidden, which is no maximum
    row = localisation_metrics(maps, ids, labels, boxes).iloc[0]
    assert row["pointing"] == pytest.approx((1 + 0 + 0.5) / 3)
    assert row["pointing_chance"] == pytest.approx(16 / 256)


def test_normal_images_count_for_false_positives():
    ids, labels, boxes, _ = example(np.random.default_rng(2))
    masks = masks_of(ids, boxes)
    maps = masks.astype(np.float32)
    maps[:3] = 2  # normal images above every box
    row = localisation_metrics(maps, ids, labels, boxes).iloc[0]
    assert row["aupro"] == 0
    assert row["pixel_auc"] == pytest.approx(1 - 3 * 256 / (~masks).sum())


def test_nan_scores_zero_and_images_without_place_are_left_out():
    rng = np.random.default_rng(3)
    ids, labels, boxes, _ = example(rng)
    maps = rng.normal(size=(6, SIZE, SIZE)).astype(np.float32)
    maps[:, :4] = np.nan
    expected = localisation_metrics(np.nan_to_num(maps), ids, labels, boxes)
    more = np.concatenate([maps, np.full((2, SIZE, SIZE), 9, np.float32)])
    found = localisation_metrics(more, [*ids, "no box", "no label"], [*labels, "abnormal", ""], boxes)
    pd.testing.assert_frame_equal(found, expected)


def test_findings_are_measured_apart():
    rng = np.random.default_rng(4)
    ids, labels, boxes, findings = example(rng, images=60)
    masks = masks_of(ids, boxes)
    only = {
        name: {i: [b for b, f in zip(boxes[i], findings[i], strict=True) if f == name] for i in boxes} for name in "ab"
    }
    positive = masks_of(ids, only["a"])
    maps = rng.normal(positive * 1.0).astype(np.float32)
    table = localisation_metrics(maps, ids, labels, boxes, findings).set_index("finding")
    assert list(table.index) == ["all", "a", "b"]
    assert table.loc["a", "boxed"] == 30 and table.loc["b", "boxes"] == sum(map(len, only["b"].values()))
    counted = positive | ~masks  # pixels of other findings are neither
    expected = roc_auc_score(positive[counted], maps[counted])
    assert table.loc["a", "pixel_auc"] == pytest.approx(expected, abs=2e-4)
    few = {i: ["rare"] if i == ids[-1] and len(boxes[i]) == 1 else f for i, f in findings.items()}
    assert "rare" not in set(localisation_metrics(maps, ids, labels, boxes, few)["finding"])


def test_same_seed_same_interval():
    rng = np.random.default_rng(5)
    ids, labels, boxes, _ = example(rng)
    maps = rng.random((6, SIZE, SIZE), dtype=np.float32)
    first, again, other = (localisation_metrics(maps, ids, labels, boxes, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(other) and first["aupro"].equals(other["aupro"])


def test_mistakes_are_named():
    ids, labels, boxes, _ = example(np.random.default_rng(6))
    maps = np.zeros((6, SIZE, SIZE), np.float32)
    with pytest.raises(InputError, match="none of the 6 test images"):
        localisation_metrics(maps, ids, labels, {"elsewhere": [(0, 0, 4, 4)]})
    with pytest.raises(InputError, match="'image-0' is labelled normal and has a box"):
        localisation_metrics(maps, ids, labels, boxes | {"image-0": [(0, 0, 4, 4)]})


def test_pixels_of_a_box():
    assert box_pixels((2.0, 3.0, 5.0, 4.0), SIZE, SIZE) == (slice(3, 4), slice(2, 5))
    assert box_pixels((2.4, 3.0, 5.6, 4.0), SIZE, SIZE)[1] == slice(2, 6)  # centres 2.5 and 5.5 are inside
    assert box_pixels((2.6, 3.0, 5.4, 4.0), SIZE, SIZE)[1] == slice(3, 5)
    assert box_pixels((2.6, 3.0, 2.7, 9.0), SIZE, SIZE)[1] == slice(2, 3)  # thinner than a pixel
    assert box_pixels((-3.0, 3.0, 2.0, 99.0), SIZE, SIZE) == (slice(3, 16), slice(0, 2))
    rows, columns = box_pixels((20.0, 3.0, 30.0, 9.0), SIZE, SIZE)
    assert np.zeros((SIZE, SIZE))[rows, columns].size == 0


@pytest.mark.parametrize("square", ["squash", "pad", "crop"])
def test_boxes_follow_the_picture(square, tmp_path, capsys):
    image = np.full((96, 64), 10, np.uint8)
    image[32:64, 16:48] = 250  # a bright block, its corners on whole packed pixels in each way of squaring
    packed, geometry = make_square(image, square, 32)
    index = pd.DataFrame([{"image_id": "block", **geometry._asdict()}, {"image_id": "other", **geometry._asdict()}])
    table = pd.DataFrame(
        {"image_id": ["block", "unknown", "other"], "finding": ["opacity", "", ""]}
        | {"x_min": ["16", "0", ""], "y_min": ["32", "0", ""], "x_max": ["48", "9", ""], "y_max": ["64", "9", ""]}
    )
    table.to_csv(tmp_path / "boxes.csv", index=False)
    boxes, findings = packed_boxes(read_boxes(tmp_path / "boxes.csv"), index)
    assert findings == {"block": ["opacity"]} and list(boxes) == ["block"]
    assert "1 of 2 images with boxes are not among the packed images, the first is 'unknown'" in capsys.readouterr().err
    inside = np.zeros((32, 32), bool)
    inside[box_pixels(boxes["block"][0], 32, 32)] = True
    assert packed[inside].min() > 120 and packed[~inside].max() < 120
    left, _, _, bottom = boxes["block"][0]
    back = [(left - geometry.offset_x) / geometry.scale_x, (bottom - geometry.offset_y) / geometry.scale_y]
    assert back == pytest.approx([16, 64])


def test_both_forms_of_a_table_of_boxes_are_the_same(tmp_path):
    (tmp_path / "corners.csv").write_text("image_id,x_min,y_min,x_max,y_max\n007,1,2.5,5,4\nb,,,,\nNA,0,0,9,1\n")
    (tmp_path / "sizes.csv").write_text(
        "x,width,y,height,finding,image_id\n1,4 ,2.5,1.5,nodule, 007\n0,9,0,1,,NA\n,,,,,b\n"
    )
    corners, sizes = (read_boxes(tmp_path / f"{name}.csv") for name in ("corners", "sizes"))
    assert corners.values.tolist() == [["007", "", 1, 2.5, 5, 4], ["NA", "", 0, 0, 9, 1]]
    assert sizes.assign(finding="").values.tolist() == corners.values.tolist()
    assert sizes["finding"].tolist() == ["nodule", ""]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("image_id,x_min,y_min,x_max,y_max\ni,5,1,5,9\n", "the box of image 'i' has x_min '5', y_min '1', x_max '5'"),
        ("image_id,x_min,y_min,x_max,y_max\ni,5,1,7,high\n", "y_max 'high'; expected numbers and an area"),
        ("image_id,x,y,width,height\ni,5,1,7,-2\n", "height '-2'; expected numbers and an area"),
        ("image_id,x_min,y_min,x_max,y_max\ni,,1,7,9\n", "x_min '', y_min '1'"),
        ("image_id,x,y,width\ni,5,1,7\n", "missing column height"),
        ("image_id,x_min,y_min,x_max\ni,5,1,7\n", "missing column y_max"),
        ("name,x,y\ni,5,1\n", "missing column image_id"),
    ],
)
def test_boxes_that_cannot_be_used_are_named(tmp_path, table, message):
    (tmp_path / "boxes.csv").write_text(table)
    with pytest.raises(InputError, match=message) as error:
        read_boxes(tmp_path / "boxes.csv")
    assert str(error.value).startswith(f"{tmp_path / 'boxes.csv'}: ")


def test_maps_agree_with_the_image_scores():
    rng = np.random.default_rng(7)
    images = rng.integers(0, 256, (70, 8, 8)).astype(np.uint8)  # more than one batch
    mu_a, mu_b = rng.random((2, 70, 8, 8)).astype(np.float32)
    mu_a[:, :4, :4] = mu_b[:, :4, :4] = np.nan
    scores = reconstruction_scores(images, mu_a, mu_b, np.zeros(70, np.float32), 4)
    maps = {name: anomaly_map(name, images, mu_a, mu_b, 4) for name in localisation.MAPS}
    assert np.array_equal(maps["inter"], discrepancy_map(mu_a, mu_b))
    assert maps["error_ratio_patch"].mean(axis=(1, 2)) == pytest.approx(scores["error_ratio_patch"], abs=1e-5)
    assert maps["error_ratio_patch"][:, 0, 0] == pytest.approx(scores["error_ratio_patch"], abs=1e-5)
    assert np.array_equal(np.isnan(maps["error_a"]), np.isnan(mu_a))
    target = images[69, 7, 7] / 255
    a, b = (mu_a[69, 7, 7] - target) ** 2, (mu_b[69, 7, 7] - target) ** 2
    assert maps["error_a"][69, 7, 7] == pytest.approx(a, rel=1e-4)
    assert maps["error_ratio"][69, 7, 7] == pytest.approx(np.log(a / b), abs=1e-3)
    with pytest.raises(KeyError):
        anomaly_map("other", images, mu_a, mu_b, 4)


@pytest.fixture
def files(tmp_path) -> Namespace:
    """A reconstructed test set of 24 images as files: the maps of B are off in the box, those of A nowhere."""
    rng = np.random.default_rng(8)
    ids = [f"t{i:02}" for i in range(24)]
    labels = ["normal", "abnormal"] * 12
    images = rng.integers(60, 200, (26, SIZE, SIZE)).astype(np.uint8)
    manifest = pd.DataFrame({"image_id": ["n0", "n1", *ids], "label": ["normal", "normal", *labels]})
    index = pd.DataFrame({"image_id": manifest["image_id"], "rows": 2 * SIZE, "columns": SIZE})
    index = index.assign(scale_x=1.0, scale_y=0.5, offset_x=0.0, offset_y=0.0)
    boxes = pd.DataFrame(
        {"image_id": ids[1::2], "finding": "opacity", "x_min": 4, "x_max": 12, "y_min": 8, "y_max": 16}
    )
    scores = pd.DataFrame({"image_id": ids, "label": labels, "view": "", "inter": rng.random(24)})
    mu_a = (images[2:] / 255 + rng.normal(0, 0.01, (24, SIZE, SIZE))).astype(np.float16)
    mu_b = mu_a.copy()
    mu_b[1::2, 4:8, 4:12] += 0.2
    mu_a[:, :4, :4] = mu_b[:, :4, :4] = np.nan
    hidden = np.ones((24, 4, 4), np.uint8)
    for name, table in {"manifest": manifest, "index": index, "boxes": boxes, "scores": scores}.items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    np.save(tmp_path / "images.npy", images)
    np.savez(tmp_path / "maps.npz", image_id=np.array(ids), mu_a=mu_a, mu_b=mu_b, hidden=hidden, visible=hidden == 0)
    tables = {name: tmp_path / f"{name}.csv" for name in ("manifest", "index", "boxes", "scores", "table")}
    arrays = {"images": tmp_path / "images.npy", "maps": tmp_path / "maps.npz", "figure": tmp_path / "figure.png"}
    return Namespace(**tables, **arrays, seed=3, score="inter", rows=3)


def test_localisation_as_a_command(files):
    call(localise, files)
    table = pd.read_csv(files.table).set_index(["map", "finding"])
    assert list(table.index) == [(name, finding) for name in localisation.MAPS for finding in ("all", "opacity")]
    assert table.loc[("inter", "all"), ["pixel_auc", "aupro", "pointing"]].tolist() == pytest.approx([1, 1, 1])
    assert table.loc[("error_ratio", "all"), "pixel_auc"] < 0.1  # log(e_A / e_B) falls where B is off
    assert (table["seed"] == 3).all() and (table["boxed"] == 12).all()
    call(plot_localisation, files)
    assert files.figure.stat().st_size > 5000


def test_titles_name_image_score_and_rank(files, monkeypatch):
    given = []
    monkeypatch.setattr("amae.figures.localisation.plot_localisation", lambda *words: given.extend(words))
    call(plot_localisation, files)
    scores = pd.read_csv(files.scores).sort_values("inter", ascending=False, ignore_index=True)
    for title in given[3]:  # the figure adds the findings
        (rank,) = scores.index[scores["image_id"] == title.split("\n")[0]]
        about = f"{scores['inter'][rank]:.3g} (rank {rank + 1} of 24)"
        assert title == f"{scores['image_id'][rank]}\nInter-discrepancy:\n{about}"


def test_localisation_mistakes_as_a_command(files):
    np.save(files.images, np.load(files.images)[:, ::2, ::2])
    with pytest.raises(InputError, match="maps of 16 px, the packed images have 8 px"):
        call(localise, files)
    np.save(files.images, np.zeros((26, SIZE, SIZE), np.uint8))
    manifest = pd.read_csv(files.manifest)
    manifest.drop(columns="label").to_csv(files.manifest, index=False)
    with pytest.raises(InputError, match=r"manifest\.csv: missing column label"):
        call(localise, files)
    manifest[:-2].to_csv(files.manifest, index=False)
    with pytest.raises(InputError, match=r"manifest\.csv: no row for 2 of 24 images, the first is 't22'"):
        call(localise, files)
    with np.load(files.maps) as made:
        arrays = dict(made) | {"image_id": np.array([f"other{n}" for n in range(24)])}
    files.score = "other"
    with pytest.raises(InputError, match="no score 'other'; it has inter"):
        call(plot_localisation, files)
    np.savez(files.maps, **arrays)
    for command in (localise, plot_localisation):
        with pytest.raises(InputError, match=r"index\.csv: no row for 24 of 24 images, the first is 'other0'"):
            call(command, files)


@pytest.mark.parametrize("command", [localise, plot_localisation])
def test_a_data_set_without_boxes_is_told_what_to_get(files, command):
    files.boxes.write_text("image_id,finding,x_min,y_min,x_max,y_max\n")
    with pytest.raises(
        InputError, match=r"boxes\.csv: no box of any image here.*vindr: also the original DICOM"
    ) as error:
        call(command, files)
    assert "\n" not in str(error.value)
    files.boxes = None
    with pytest.raises(InputError, match=r"--boxes: missing.*datasets\.NAME\.boxes"):
        call(command, files)


def test_boxes_outside_their_image_are_counted(capsys):
    index = pd.DataFrame({"image_id": ["a"], "rows": [80], "columns": [60], "scale_x": 1.0, "scale_y": 1.0})
    index = index.assign(offset_x=0.0, offset_y=0.0)
    corners = [[0, 0, 10, 10], [60, 0, 70, 10], [0, 80, 10, 90], [-5, 0, 0, 9], [50, 70, 65, 85]]
    boxes = pd.DataFrame(corners, columns=["x_min", "y_min", "x_max", "y_max"], dtype=float)
    packed_boxes(boxes.assign(image_id="a", finding=""), index)
    assert capsys.readouterr().err == (
        "boxes: 3 of 5 lie outside their image, the first at x 60, y 0 of image 'a', of 60 x 80 pixels; expected "
        "pixels of the original radiograph\n"
    )
