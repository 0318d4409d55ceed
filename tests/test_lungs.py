"""Lung masks: against the published code's masks, on drawn phantoms, and as files."""

import resource

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from amae.cli import main
from amae.data import lungs, parts
from amae.data.lungs import lung_mask, mask_flag, segment_lungs
from amae.data.packed import load_lung_masks
from amae.figures.lung_outlines import draw_outlines
from amae.predict.prepare import prepare
from amae.runtime.errors import InputError

ROW, COLUMN = np.mgrid[:256, :256]


def ellipse(row, column, height, width):
    """Filled ellipse, bool (256, 256), from its centre and half-axes."""
    return ((ROW - row) / height) ** 2 + ((COLUMN - column) / width) ** 2 <= 1


LUNGS = ellipse(128, 78, 70, 32) | ellipse(128, 178, 70, 32)


def phantom(extra_dark=None):
    """Dark air around a bright body with two dark lungs, and lightly uneven as no radiograph is flat; uint8."""
    image = np.where(ellipse(128, 128, 140, 112), 180.0, 12.0)
    image[LUNGS] = 60
    if extra_dark is not None:
        image[extra_dark] = 60
    return (image + np.random.default_rng(0).normal(0, 3, image.shape)).clip(1, 255).astype(np.uint8)


def test_same_masks_as_the_published_code(shared):
    known = np.load(shared / "data/conformance/lungs.npz")
    agreement = [(lung_mask(image) == mask).mean() for image, mask in zip(known["image"], known["mask"], strict=True)]
    assert min(agreement) >= 0.995
    assert np.mean(agreement) >= 0.9995


def test_lungs_of_a_phantom_are_found_and_the_air_around_it_is_not():
    mask = lung_mask(phantom())
    assert (mask & LUNGS).sum() / (mask | LUNGS).sum() > 0.9
    assert not mask[:, :12].any()


def test_an_inner_dark_region_is_removed_when_it_is_small():
    small = ellipse(210, 128, 8, 8)  # 200 pixels
    large = ellipse(210, 128, 14, 14)  # 600 pixels
    assert not lung_mask(phantom(small))[small].any()
    assert lung_mask(phantom(large))[ellipse(210, 128, 11, 11)].all()


def test_a_small_region_takes_its_bounding_box_along():
    # An L around the lower inner end of the left-hand lung: its own area is small, its bounding box is not.
    upright = (abs(COLUMN - 120) < 2) & (ROW > 165) & (ROW < 206)
    hook = upright | ((abs(ROW - 204) < 2) & (COLUMN > 92) & (COLUMN < 121))
    clipped = ellipse(128, 78, 66, 28) & (COLUMN > 95) & (ROW > 168)
    assert clipped.any()
    assert lung_mask(phantom())[clipped].all()
    assert not lung_mask(phantom(hook))[clipped].any()


def test_a_region_that_touches_the_border_is_removed():
    bridge = (abs(ROW - 128) < 6) & (COLUMN < 78)
    mask = lung_mask(phantom(bridge))
    assert not mask[:, :120].any()
    assert mask[128, 178]


@pytest.mark.parametrize("value", [0, 7, 255])
def test_a_constant_image_has_no_lungs(value):
    assert not lung_mask(np.full((256, 256), value, np.uint8)).any()


def test_wrong_shape_and_dtype_are_refused():
    with pytest.raises(ValueError, match="uint8 image"):
        lung_mask(np.zeros((128, 128), np.uint8))
    with pytest.raises(ValueError, match="float64"):
        lung_mask(np.zeros((256, 256)))


def test_flags():
    assert mask_flag(LUNGS) == ""
    assert mask_flag(np.zeros((256, 256), bool)) == "empty"
    assert mask_flag(LUNGS & (COLUMN < 128)) == "implausible"  # one lung
    assert mask_flag(ellipse(128, 78, 20, 20) | ellipse(128, 178, 20, 20)) == "implausible"  # 4 % of the image
    assert mask_flag(np.ones((256, 256), bool)) == "implausible"


@pytest.fixture
def packed(tmp_path):
    """Folder with 18 packed images of 256 px, two of which have no lungs to find, and their index."""
    rng = np.random.default_rng(1)
    images = (phantom().astype(int) + rng.integers(-8, 9, (18, 256, 256))).clip(0, 255).astype(np.uint8)
    images[3] = 100
    images[16] = 0
    np.save(tmp_path / "lung_images.npy", images)
    index = {"image_id": [f"{i:03d}" for i in range(18)], "rows": 256, "columns": 256}
    geometry = {"scale_x": 1.0, "scale_y": 1.0, "offset_x": 0.0, "offset_y": 0.0}
    pd.DataFrame(index | geometry).to_csv(tmp_path / "images.csv", index=False)
    return tmp_path


def run(folder, name, workers):
    """Segment the images of a folder; paths of masks, table and sheet."""
    paths = [folder / f"{name}.npy", folder / f"{name}.csv", folder / f"{name}.png"]
    images = folder / "lung_images.npy", folder / "images.csv"
    segment_lungs(*images, *paths[:2], workers=workers)
    draw_outlines(*images, *paths)
    return paths


def test_files_are_the_same_for_any_number_of_workers(packed, capsys):
    one, two = run(packed, "one", 1), run(packed, "two", 2)
    assert [a.read_bytes() == b.read_bytes() for a, b in zip(one, two, strict=True)] == [True, True, True]
    assert "18 images, 2 empty, 0 implausible" in capsys.readouterr().err


def test_a_full_disk_stops_the_work_at_the_first_part_that_does_not_fit(packed, monkeypatch):
    """A limit on the size of files stands for the disk: a part of one mask takes more than 256 * 32 bytes."""
    segmented, segment = [], lungs.lung_mask
    monkeypatch.setattr(parts, "PART", 1)
    monkeypatch.setattr(lungs, "lung_mask", lambda image: segmented.append(1) or segment(image))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 32, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            run(packed, "one", 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(segmented) == 1
    assert [path.suffix for path in packed.glob("*one*")] == [".unfinished"]  # the next run continues


@pytest.fixture
def segmented(monkeypatch) -> list[int]:
    """The first row of each part that is segmented; parts are small, and -1 in the list ends the work at the third."""
    begun, segment = [], lungs._segment_part
    monkeypatch.setattr(parts, "PART", 3)

    def counted(path, part):
        begun.append(part[1].start)
        if begun[0] == -1 and len(begun) == 4:
            raise KeyboardInterrupt
        return segment(path, part)

    monkeypatch.setattr(lungs, "_segment_part", counted)
    return begun


def test_a_run_that_ended_continues_after_its_last_part(packed, segmented, capsys):
    whole = run(packed, "whole", 1)
    segmented[:] = [-1]
    with pytest.raises(KeyboardInterrupt):
        run(packed, "one", 1)
    segmented[:] = [0]
    one = run(packed, "one", 1)
    assert segmented[1:] == [6, 9, 12, 15]
    assert "continuing after 6 images" in capsys.readouterr().err
    assert [a.read_bytes() == b.read_bytes() for a, b in zip(one, whole, strict=True)] == [True, True, True]
    assert not list(packed.glob(".*"))


def test_shards_make_what_one_run_makes(packed, segmented):
    whole = run(packed, "whole", 1)
    names = [packed / name for name in ("lung_images.npy", "images.csv", "one.npy", "one.csv")]
    segmented.clear()
    for number in (3, 1):
        segment_lungs(*names, shard=(number, 4))
    assert segmented == [6, 0, 12] and not (packed / "one.npy").exists()
    one = run(packed, "one", 1)
    assert segmented[3:] == [3, 9, 15]
    assert [a.read_bytes() == b.read_bytes() for a, b in zip(one, whole, strict=True)] == [True, True, True]
    assert not list(packed.glob(".*"))


def test_table_and_masks_agree_with_the_images(packed):
    lungs_path, table_path, _ = run(packed, "lungs", 1)
    images = np.load(packed / "lung_images.npy")
    masks = load_lung_masks(lungs_path, np.arange(18), 256)
    assert np.load(lungs_path).shape == (18, 256, 32)
    assert np.array_equal(masks[[5, 17]], [lung_mask(images[row]) for row in (5, 17)])
    table = pd.read_csv(table_path, dtype={"image_id": str}, keep_default_na=False)
    assert table.columns.tolist() == ["image_id", "coverage", "flag"]
    assert table.image_id.tolist() == [f"{i:03d}" for i in range(18)]
    np.testing.assert_allclose(table.coverage, masks.mean(axis=(1, 2)), atol=1e-6)
    assert table.index[table.flag == "empty"].tolist() == [3, 16]


TO_256 = {  # by the library alone
    "squash": lambda picture: picture.resize((256, 256), Image.Resampling.BILINEAR),
    "pad": lambda picture: ImageOps.pad(picture, (256, 256), Image.Resampling.BILINEAR),
    "crop": lambda picture: ImageOps.fit(picture, (256, 256), Image.Resampling.BILINEAR),
}


@pytest.mark.parametrize("square", TO_256)
@pytest.mark.parametrize("size", [64, 128])
def test_lungs_are_found_in_the_radiograph_and_not_in_the_image_of_the_model(tmp_path, size, square):
    notch = (abs(COLUMN - 100) < 30) & (abs(ROW - 128) < 2)  # of 3 px at 256 px, which fewer pixels do not show
    picture = np.where(notch & LUNGS, 180, phantom()).astype(np.uint8)
    picture = Image.fromarray(picture).resize((600, 450), Image.Resampling.BICUBIC)
    picture.save(tmp_path / "a.png")
    row = {"image_id": "a", "path": tmp_path / "a.png", "split": "test", "label": "normal"}
    pd.DataFrame([row]).assign(patient_id="", view="").to_csv(tmp_path / "manifest.csv", index=False)
    kinds = {"images": "npy", "lung-images": "npy", "index": "csv", "rejected": "csv", "sheet": "png"}
    kinds |= {"manifest": "csv", "lungs": "npy", "lungs-table": "csv"}

    def words(command, *names):
        return [command, *(word for name in names for word in (f"--{name}", str(tmp_path / f"{name}.{kinds[name]}")))]

    convert = words("convert", "manifest", "images", "lung-images", "index", "rejected", "sheet")
    assert main([*convert, "--square", square, "--image-size", str(size)]) == 0
    assert main(words("segment-lungs", "lung-images", "index", "lungs", "lungs-table", "sheet")) == 0
    mask = load_lung_masks(tmp_path / "lungs.npy", np.array([0]), 256)[0]
    assert np.array_equal(mask, lung_mask(np.asarray(TO_256[square](picture))))
    image, about = prepare(str(tmp_path / "a.png"), "minmax", square, size)  # as `amae predict` does
    assert np.array_equal(image, np.load(tmp_path / "images.npy")[0]) and image.shape == (size, size)
    assert about["coverage"] == mask.mean() > 0.1
    enlarged = np.asarray(Image.fromarray(image).resize((256, 256), Image.Resampling.BILINEAR))
    assert not np.array_equal(mask, lung_mask(enlarged))


@pytest.mark.parametrize(("size", "repeat", "block"), [(256, 1, 1), (224, 7, 8), (128, 1, 2), (64, 1, 4)])
def test_masks_at_the_size_of_a_model(tmp_path, size, repeat, block):
    masks = np.stack([LUNGS, np.random.default_rng(2).random((256, 256)) < 0.5, ~LUNGS])
    np.save(tmp_path / "lungs.npy", np.packbits(masks, axis=-1))
    loaded = load_lung_masks(tmp_path / "lungs.npy", np.array([2, 1]), size)
    fine = masks[[2, 1]].repeat(repeat, axis=1).repeat(repeat, axis=2)
    share = fine.reshape(2, size, block, size, block).mean(axis=(2, 4))
    assert loaded.dtype == bool
    assert np.array_equal(loaded, share >= 0.5)


def test_missing_images_and_those_of_another_size_leave_nothing_behind(packed, tmp_path):
    outputs = [tmp_path / "l.npy", tmp_path / "l.csv"]
    with pytest.raises(InputError, match=r"none\.npy: no such file"):
        segment_lungs(tmp_path / "none.npy", packed / "images.csv", *outputs)
    np.save(tmp_path / "small.npy", np.zeros((18, 128, 128), np.uint8))
    with pytest.raises(InputError, match=r"small\.npy: images of 128 px; lungs are found in those of 256 px"):
        segment_lungs(tmp_path / "small.npy", packed / "images.csv", *outputs)
    assert not any(path.exists() for path in outputs)
