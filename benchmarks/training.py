"""Benchmarks of what computes with a network: adaptation, stage 1, AnatPaste, reconstruction."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms

from amae.data.images import make_square, read_image
from amae.data.lungs import lung_mask
from amae.mae.architecture import Architecture
from amae.mae.model import MAE
from amae.method.adaptation import adaptation_loss
from amae.method.anatpaste import anatpaste
from amae.method.reconstruct import draw_orders, reconstruct
from amae.method.scores import discrepancy_map
from amae.method.stage1 import detection_loss, make_head
from amae.method.training import LossOf, Schedule, make_optimiser
from amae.settings import ModuleSettings, ReconstructionSettings, Stage1Settings
from benchmarks import straightforward
from benchmarks.data import radiographs, write_png
from benchmarks.measure import (
    Result,
    interleaved,
    matrix_product,
    on_device,
    operations,
    product_rate,
    usual_memory,
)

PAPER = Architecture(224, 16, width=384, depth=12, heads=6, decoder_width=512, decoder_depth=2, decoder_heads=16)
DEMO = Architecture(128, 16, width=128, depth=4, heads=4, decoder_width=96, decoder_depth=2, decoder_heads=4)
SIZES = {"": PAPER, "_demo": DEMO}
BATCH = 16
LARGE = 256  # a batch that fills a GPU
RATE = {"cpu": ">= 0.7", "cuda": ">= 0.25"}  # targets of a step against the matrix product
MASKS = 2
RATIO = 0.75


CPU = torch.device("cpu")


def pair(a: Architecture, seed: int = 0, device: torch.device = CPU) -> tuple[MAE, straightforward.MAE]:
    """Our model and the straightforward one, with the same weights."""
    torch.manual_seed(seed)
    ours, plain = MAE(a), straightforward.MAE(a)
    plain.load_state_dict(straightforward.three_channels(ours.state_dict()))
    return ours.to(device), plain.to(device)


def describe(a: Architecture) -> str:
    """The size of a model, in short."""
    return f"width {a.width}, depth {a.depth}, {a.image_size} px"


def our_step(model: torch.nn.Module, loss_of: LossOf, batch: int = BATCH) -> Callable[[], None]:
    """A side that takes one step on a batch, the first images of their data, as `amae.method.training` does."""
    device = next(model.parameters()).device
    optimiser = make_optimiser(model, Schedule(1, 0, batch, 1e-4, 0.05))
    generator, ids = torch.Generator(device).manual_seed(0), torch.arange(batch, device=device)

    def step() -> None:
        loss = loss_of(ids, generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step


def plain_optimiser(model: torch.nn.Module) -> torch.optim.AdamW:
    """AdamW as it comes."""
    return torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.05)


def packed(paths: list[Path], size: int) -> Tensor:
    """Image files as our arrays, which conversion makes once."""
    return torch.from_numpy(np.stack([read_image(path, "minmax", "squash", size)[0] for path in paths]))


def adaptation(device: torch.device) -> Iterator[Result]:
    """The step of a module, without and with reading the data, its operations, and its share of the machine."""
    for name, a in SIZES.items() if device == CPU else [("", PAPER)]:
        ours, plain = pair(a, device=device)
        step = partial(straightforward.adapt, plain, plain_optimiser(plain))
        noises = torch.rand(MASKS, BATCH, a.patches, device=device)
        with tempfile.TemporaryDirectory() as folder:
            paths = write_png(Path(folder), BATCH)
            loader = DataLoader(straightforward.AdaptationData(paths, a), BATCH)
            images = packed(paths, a.image_size).to(device)
            sides = {
                "ours": our_step(ours, adaptation_loss(ours, images, ModuleSettings(), MASKS)),
                "step": usual_memory(partial(step, next(iter(loader)).to(device), noises, RATIO)),
                "data": usual_memory(lambda loader=loader: next(iter(loader))),
                "product": matrix_product(device),
            }
            took = on_device(sides, device)
            count = {side: operations(sides[side]) / 1e9 for side in ("ours", "step")}
        yield Result.share(
            f"adaptation{name}_rate",
            f"adaptation step ({describe(a)}, batch 16, L = 2): operations a second against the matrix product's",
            *(count["ours"] / took["ours"], product_rate(device, took["product"]), "GFLOP/s"),
            "" if name else RATE[device.type],
        )
        yield Result.share(
            f"adaptation{name}_operations",
            "operations of that step against the straightforward one's",
            *(count["ours"], count["step"], "GFLOP"),
        )
        yield Result.faster(
            f"adaptation{name}_step",
            "the same step; ours with augmentation, the straightforward one on prepared tensors",
            *(took["ours"], took["step"], "s", ">= 1.3"),
        )
        yield Result.faster(
            f"adaptation{name}_with_data",
            "the same step from PNG files of 1024 px; ours from the packed array",
            *(took["ours"], took["step"] + took["data"], "s", ">= 3"),
        )


def adaptation_large(device: torch.device) -> Iterator[Result]:
    """The same step with a batch that fills a GPU."""
    ours = pair(PAPER, device=device)[0]
    images = torch.randint(0, 256, (LARGE, 224, 224), dtype=torch.uint8, device=device)
    step = our_step(ours, adaptation_loss(ours, images, ModuleSettings(), MASKS), LARGE)
    took = on_device({"ours": step, "product": matrix_product(device)}, device)
    yield Result.share(
        "adaptation_large_rate",
        f"adaptation step, batch {LARGE}: operations a second against the matrix product's",
        *(operations(step) / took["ours"] / 1e9, product_rate(device, took["product"]), "GFLOP/s", ">= 0.4"),
    )


@contextmanager
def all_threads() -> Iterator[None]:
    """torch on every core, and back."""
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(before)


def adaptation_all_cores() -> Iterator[Result]:
    """The same step on every core."""
    ours, _ = pair(PAPER)
    images = torch.randint(0, 256, (BATCH, 224, 224), dtype=torch.uint8)
    step = our_step(ours, adaptation_loss(ours, images, ModuleSettings(), MASKS))
    with all_threads():
        took = interleaved({"ours": step, "product": matrix_product(CPU)}, clock=time.perf_counter)
    rate = operations(step) / took["ours"] / 1e9
    yield Result.share(
        "adaptation_rate_all_cores",
        f"adaptation step on {os.cpu_count()} cores: operations a second (wall time) against the matrix product's",
        *(rate, product_rate(CPU, took["product"]), "GFLOP/s", RATE["cpu"]),
    )


def stage1(device: torch.device) -> Iterator[Result]:
    """The step of stage 1 at the paper's settings, without and with reading the data."""
    ours, plain = pair(PAPER, device=device)
    torch.manual_seed(0)
    heads = [make_head(PAPER.width).to(device) for _ in range(2)]
    settings = Stage1Settings()
    assert settings.batch_size == BATCH
    with tempfile.TemporaryDirectory() as folder:
        paths = write_png(Path(folder), BATCH)
        images = packed(paths, 224)
        lungs = [lung_mask(read_image(path, "minmax", "squash", 224)[1]) for path in paths]
        lungs = torch.from_numpy(np.stack(lungs))
        lungs = torch.nn.functional.interpolate(lungs[:, None].float(), 224)[:, 0] > 0.5
        loader = DataLoader(straightforward.PasteData(paths, PAPER), BATCH)
        head_step = partial(straightforward.learn_head, plain, heads[1], plain_optimiser(heads[1]))
        sides = {
            "ours": our_step(heads[0], detection_loss(ours, heads[0], images.to(device), lungs.to(device))),
            "step": usual_memory(partial(head_step, [part.to(device) for part in next(iter(loader))])),
            "data": usual_memory(lambda: next(iter(loader))),
        }
        took = on_device(sides, device)
    yield Result.faster(
        "stage1_step",
        "stage 1 step (batch 16 + 16); ours with AnatPaste, the straightforward one on prepared tensors",
        *(took["ours"], took["step"], "s", ">= 1.3"),
    )
    yield Result.faster(
        "stage1_with_data",
        "the same step from PNG files of 1024 px, lungs segmented and patches pasted in the loader",
        *(took["ours"], took["step"] + took["data"], "s", ">= 3"),
    )


def pasting(device: torch.device) -> Iterator[Result]:
    """AnatPaste on this device against the per-sample path on one core."""
    large = radiographs(64, 512)
    images = [make_square(image, "squash", 224)[0] for image in large]
    pictures = [Image.fromarray(image) for image in images]
    masks = [lung_mask(make_square(image, "squash", 256)[0]) for image in large]
    masks = np.stack([np.asarray(Image.fromarray(mask).resize((224, 224))) > 0 for mask in masks])
    batch, lungs = torch.from_numpy(np.stack(images)).to(device).float() / 255, torch.from_numpy(masks).to(device)
    generator = torch.Generator(device).manual_seed(0)
    sides = {
        "ours": lambda: [
            anatpaste(*part, generator) for part in zip(batch.split(BATCH), lungs.split(BATCH), strict=True)
        ],
        "whole": lambda: [straightforward.anatpaste(picture) for picture in pictures],
        "paste": lambda: [straightforward.paste(*each) for each in zip(pictures, masks, strict=True)],
    }
    took = {name: seconds / len(images) * 1e3 for name, seconds in on_device(sides, device, 7).items()}
    yield Result.faster(
        "anatpaste",
        "a synthetic anomaly at 224 px, in batches of 16, against segmentation and paste per sample on the CPU",
        *(took["ours"], took["whole"], "ms", ">= 50"),
    )
    yield Result.faster(
        "anatpaste_paste_only",
        "the same against the paste alone, with PIL",
        *(took["ours"], took["paste"], "ms"),
    )


def our_scores(modules: list[MAE], images: Tensor, orders: Tensor) -> np.ndarray:
    """`inter` as `amae reconstruct` computes it."""
    maps = [reconstruct(model, images, orders, ReconstructionSettings())[0].numpy() for model in modules]
    return discrepancy_map(*maps).mean((1, 2))


def read_test_image(path: Path, a: Architecture) -> Tensor:
    """A test image from its file, normalised, `(1, 3, H, W)`."""
    picture = Image.open(path).convert("RGB").resize((a.image_size, a.image_size))
    return transforms.functional.normalize(transforms.functional.to_tensor(picture), [a.mean] * 3, [a.std] * 3)[None]


def reconstruction(device: torch.device) -> Iterator[Result]:
    """Scores of test images by both modules under four masks."""
    for name, a in SIZES.items() if device == CPU else [("", PAPER)]:
        count = 16 if a is PAPER else 64
        pairs = [pair(a, seed, device) for seed in (0, 1)]
        orders = draw_orders([str(n) for n in range(count)], 0, a.patches, ReconstructionSettings())
        few = count // 8
        noises = orders[:few].argsort(-1).float().to(device)
        plain = [each[1].eval() for each in pairs]
        with tempfile.TemporaryDirectory() as folder:
            paths = write_png(Path(folder), few)
            images = packed(paths, a.image_size).repeat(count // few, 1, 1).to(device)
            tensors = torch.cat([read_test_image(path, a) for path in paths]).to(device)
            sides = {
                "ours": partial(our_scores, [each[0] for each in pairs], images, orders),
                "loop": usual_memory(partial(straightforward.inter_discrepancy, plain, tensors, noises, RATIO)),
                "data": lambda paths=paths, a=a: [read_test_image(path, a) for path in paths],
            }
            took = on_device(sides, device)
        what = f"score of a test image ({describe(a)}, L = 4, both modules); loop with batch size 1"
        yield Result.faster(f"reconstruction{name}", what, took["ours"] / count, took["loop"] / few, "s", ">= 5")
        what = "the same from PNG files of 1024 px; ours from the packed array"
        whole = (took["loop"] + took["data"]) / few
        yield Result.faster(f"reconstruction{name}_with_data", what, took["ours"] / count, whole, "s", ">= 5")
        what = "operations of that score against those of the loop"
        counts = [operations(sides["ours"]) / count / 1e9, operations(sides["loop"]) / few / 1e9]
        yield Result.share(f"reconstruction{name}_operations", what, *counts, "GFLOP")
