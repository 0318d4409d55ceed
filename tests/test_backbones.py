"""DenseNet-121 in stage 1: published files load exactly, it stays frozen, and nothing else takes it or its place."""

import argparse
import re
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from test_comparators import SIDE, draw, options_of, write_data_set
from torch import Tensor, nn
from torchvision import models

from amae.cli import main
from amae.commands.compare import compare
from amae.comparators.settings import NeighbourSettings
from amae.mae.architecture import Architecture
from amae.mae.checkpoints import read_description, read_safetensors, write_tensors
from amae.mae.model import MAE
from amae.mae.timm_encoder import TimmEncoder
from amae.mae.weights import CHEST_MEAN, CHEST_STD, IMAGENET_MEAN, IMAGENET_STD, convert_weights, load_encoder
from amae.method.stage1 import score_stage1, train_stage1
from amae.method.training import Resume
from amae.runtime.errors import InputError
from amae.settings import Stage1Settings

VIT_SIZES = {"image_size": 32, "patch_size": 8, "width": 32, "depth": 1, "heads": 2}
VIT = Architecture(SIDE, 16, 32, 1, 2, 16, 1, 2)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A random DenseNet-121 of which every tensor matters, that gives the features before the classifier."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = models.densenet121()
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.2)
                for values in (module.running_var, module.weight):
                    nn.init.uniform_(values, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.2)
    made.classifier = nn.Identity()
    return made.eval()


def unet(state: dict[str, Tensor], prefix: str = "model.") -> dict:
    """What Medical-MAE's training script saves of its U-Net with this encoder."""
    encoder = {f"{prefix}encoder.{key}": value for key, value in state.items()}
    decoder = {
        f"{prefix}decoder.blocks.0.conv1.0.weight": torch.ones(4, 4, 3, 3),
        f"{prefix}decoder.blocks.0.conv1.1.running_mean": torch.ones(4),
        f"{prefix}segmentation_head.0.weight": torch.ones(3, 4, 3, 3),
    }
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    optimizer = torch.optim.AdamW([parameter])
    optimizer.step()
    return {
        "model": encoder | decoder,
        "optimizer": optimizer.state_dict(),
        "scaler": {"scale": 65536.0, "_growth_tracker": 3},
        "epoch": 799,
        "args": argparse.Namespace(model="mae_densenet121", mask_ratio=0.75, norm_pix_loss=False),
    }


def moco(state: dict[str, Tensor], head: str = "classifier") -> dict:
    """What MoCo v2's training script saves, with its projection head, queue and key encoder."""
    query = {f"module.encoder_q.{key}": value for key, value in state.items()}
    projection = {f"module.encoder_q.{head}.{layer}.weight": torch.ones(2, 2) for layer in (0, 2)}
    keys = {key.replace("encoder_q", "encoder_k"): torch.zeros(1) for key in query | projection}
    queue = {"module.queue": torch.ones(2, 8), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}
    return {"epoch": 200, "arch": "densenet121", "state_dict": query | projection | keys | queue}


def old(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The keys as torchvision once spelled them, and a classifier."""
    spelled = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key): value for key, value in state.items()}
    assert "features.denseblock4.denselayer16.norm.2.running_var" in spelled
    return spelled | {"classifier.weight": torch.ones(14, 1024), "classifier.bias": torch.ones(14)}


FORMS = {
    "U-Net": unet,
    "U-Net itself": lambda state: unet(state, "")["model"],
    "MoCo": moco,
    "MoCo with fc": lambda state: moco(state, "fc"),
    "bare": dict,
    "bare, old spelling": old,
    "bare, nested": lambda state: {"state_dict": state},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("mean", "std"), [(CHEST_MEAN, CHEST_STD), (IMAGENET_MEAN, IMAGENET_STD)])
def test_published_files_give_the_features_of_the_network(form, mean, std, network, tmp_path):
    torch.save(FORMS[form](network.state_dict()), tmp_path / "published.pth")
    before = torch.random.get_rng_state()
    sizes = VIT_SIZES | {"image_size": 64}  # the ViT's sizes do not concern it
    convert_weights(tmp_path / "published.pth", tmp_path / "a.safetensors", mean=mean, std=std, sizes=sizes)
    encoder = load_encoder(tmp_path / "a.safetensors")
    assert torch.equal(before, torch.random.get_rng_state())
    assert isinstance(encoder, TimmEncoder)
    assert (encoder.architecture.image_size, encoder.architecture.width) == (64, 1024)
    description = read_description(tmp_path / "a.safetensors")
    assert description["source"] == "published.pth" and len(description["source_sha256"]) == 64
    grey = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    channel_mean, channel_std = (torch.tensor(values)[:, None, None] for values in (mean, std))
    with torch.no_grad():
        expected = network((grey[:, None].expand(-1, 3, -1, -1) / 255 - channel_mean) / channel_std)
        found = encoder.features(encoder.normalise(grey))
    assert found.shape == (3, 1024) and found.dtype == torch.float32
    assert expected.std(0).max() > 0.01  # the images differ
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_converted_file_converts_again_for_images_of_another_size(network, tmp_path):
    half = {key: value.half() if value.is_floating_point() else value for key, value in network.state_dict().items()}
    torch.save(half, tmp_path / "half.pth")
    first = convert_weights(tmp_path / "half.pth", tmp_path / "a", mean=IMAGENET_MEAN, std=IMAGENET_STD)
    assert first.architecture.image_size == 224
    again = convert_weights(tmp_path / "a", tmp_path / "b", sizes={"image_size": 96})
    assert again.architecture.image_size == 96 and load_encoder(tmp_path / "b").architecture == again.architecture
    assert again.architecture.mean == IMAGENET_MEAN
    assert again.network.features.conv0.weight.dtype == torch.float32
    assert read_description(tmp_path / "b")["made_by"] == read_description(tmp_path / "a")["made_by"]
    with pytest.raises(InputError, match="not for timm's densenet121 with images of 16 px"):
        convert_weights(tmp_path / "a", tmp_path / "c", sizes={"image_size": 16})
    convert_weights(tmp_path / "half.pth", tmp_path / "d", mean=IMAGENET_MEAN, std=IMAGENET_STD)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "d").read_bytes()


def test_stage1_trains_its_head_and_leaves_the_network_as_it_is(network, tmp_path):
    torch.save(moco(network.state_dict()), tmp_path / "moco.pth")
    encoder = convert_weights(tmp_path / "moco.pth", tmp_path / "a.safetensors", sizes={"image_size": 32})
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    images = torch.randint(0, 256, (6, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    settings = Stage1Settings(epochs=3, warmup_epochs=1, batch_size=3, lr=1e-3)
    lungs = torch.ones(6, 32, 32, dtype=torch.bool)
    head, history = train_stage1(encoder, images, lungs, settings, 0, Resume(tmp_path / "state.pt", "x"))
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    for key, value in network.state_dict().items():
        assert torch.equal(encoder.network.state_dict()[key], value), key
    p = score_stage1(encoder, head, images)
    assert p.shape == (6, 2)
    torch.testing.assert_close(p[2:4], score_stage1(encoder, head, images[2:4]))  # whatever else is in the batch


def blank(name: str, **changes) -> dict[str, Tensor]:
    """Keys and shapes of one of torchvision's networks, in a file of a few kilobytes."""
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in getattr(models, name)(**changes).state_dict().items()}
    return {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}


def without(state: dict[str, Tensor], *starts: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.startswith(starts)}


DENSE = without(blank("densenet121"), "classifier")
GREY = DENSE | {"features.conv0.weight": torch.zeros(64, 1, 7, 7)}
KEY, ODD = "features.norm5.bias", {"module.predictor.0.weight": torch.zeros(1)}
WRONG = {
    "a part of the encoder": (unet(without(DENSE, KEY)), f"keys missing: {KEY}"),
    "no last block": (moco(without(DENSE, "features.denseblock4")), "missing: features.denseblock4.denselayer1.conv1"),
    "one channel": (GREY, "of other shape: features.conv0.weight (64, 1, 7, 7) instead of (64, 3, 7, 7)"),
    "deeper": (moco(blank("densenet169")), "unexpected: features.denseblock3.denselayer25.conv1.weight"),
    "wider": (unet(without(blank("densenet161"), "classifier")), "features.conv0.weight (96, 3, 7, 7) instead of"),
    "ResNet MoCo": (moco(blank("resnet50"), "fc"), "unexpected: module.encoder_q.bn1.bias"),
    "ResNet U-Net": (unet(without(blank("resnet18"), "fc")), "unexpected: model.encoder.bn1.bias"),
    "VGG": (blank("vgg11"), "unexpected: features.0.bias"),
    "something beside it": (moco(DENSE)["state_dict"] | ODD, "keys unexpected: module.predictor.0.weight"),
    "two encoders": (unet(DENSE)["model"] | DENSE, "keys unexpected: features.conv0.weight"),
    "key encoder alone": (without(moco(DENSE)["state_dict"], "module.encoder_q.features"), "keys missing: features."),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_forms_are_refused_by_name(case, tmp_path):
    content, part = WRONG[case]
    torch.save(content, tmp_path / "wrong.pth")
    with pytest.raises(InputError) as caught:
        convert_weights(tmp_path / "wrong.pth", tmp_path / "a.safetensors", sizes=VIT_SIZES)
    message = str(caught.value)
    assert "wrong.pth: not timm's densenet121" in message and part in message and "\n" not in message
    assert not (tmp_path / "a.safetensors").exists()


def test_other_files_are_no_encoder(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "moco.pth")
    with pytest.raises(
        InputError, match=r"moco\.pth: not a safetensors file; a published checkpoint must be converted"
    ):
        load_encoder(tmp_path / "moco.pth")
    convert_weights(tmp_path / "moco.pth", tmp_path / "a.safetensors")
    about, state = read_safetensors(tmp_path / "a.safetensors")
    other = {name.replace("norm5.bias", "norm6.bias"): tensor for name, tensor in state.items()}
    write_tensors(other, tmp_path / "a.safetensors", about)
    with pytest.raises(InputError, match=r"missing: features\.norm5\.bias; keys unexpected: features\.norm6\.bias"):
        load_encoder(tmp_path / "a.safetensors")
    write_tensors(state, tmp_path / "a.safetensors", {**about, "architecture": {"image_sise": SIDE}})
    with pytest.raises(InputError, match=r"a\.safetensors: not an encoder of this version \('mean'\)"):
        load_encoder(tmp_path / "a.safetensors")


def test_the_commands_take_it_for_stage_1_alone(network, tmp_path, capsys):
    folder = tmp_path / "data"
    few = SimpleNamespace(normal=draw(8, 0, False), unlabeled=draw(8, 1, True), encoder=MAE(VIT))
    write_data_set(folder, few, ["normal"] * 4 + ["abnormal"] * 4)
    torch.save(unet(network.state_dict()), tmp_path / "mae.pth")

    def run(command: str, *words, **files) -> tuple[int, str]:
        named = [word for name, file in files.items() for word in (f"--{name}", folder / file)]
        status = main([command, *map(str, [*named, *words])])
        return status, capsys.readouterr().err

    packed = {"manifest": "manifest.csv", "images": "images.npy", "index": "images.csv", "weights": "mae.safetensors"}
    made = {"history": "history.csv", "record": "run.json"}
    status, errors = run("import-weights", "--file", tmp_path / "mae.pth", weights="mae.safetensors")
    assert status == 0 and re.fullmatch(
        r".*mae\.pth: left out, as not of the encoder: model\.decoder\..*, model\.segmentation_head\.0\.weight\n",
        errors,
    )
    stage1 = ("--stage1.epochs", 1, "--stage1.warmup-epochs", 0, "--stage1.batch-size", 4)
    head = "head.safetensors"
    status, errors = run("train-stage1", *stage1, lungs="lungs.npy", head=head, **packed, **made)
    assert status == 2 and f"made for images of 224 px, the packed images have {SIDE} px" in errors
    run("import-weights", "--file", tmp_path / "mae.pth", "--mae.image-size", SIDE, weights="mae.safetensors")
    assert run("train-stage1", *stage1, lungs="lungs.npy", head=head, **packed, **made)[0] == 0
    assert run("score-stage1", head=head, **packed, **{"stage1-scores": "stage1.csv"})[0] == 0
    assert pd.read_csv(folder / "stage1.csv")["p_abnormal"].between(0, 1).sum() == 16
    compare(settings=NeighbourSettings(), **options_of(folder, "knn", "N"))
    assert (pd.read_csv(folder / "scores.csv")["knn"] > 0).all()
    (folder / "labels.csv").write_text("image_id,pseudo_label\n")
    status, errors = run(
        "train-module",
        "--module",
        "A",
        labels="labels.csv",
        **packed,
        **made,
        **{"trained-module": "module.safetensors"},
    )
    assert status == 2
    assert "mae.safetensors: a timm:densenet121 encoder, which serves stage 1 alone; this step needs a masked" in errors
    assert not (folder / "module.safetensors").exists()
