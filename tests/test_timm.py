"""Networks of timm as frozen encoders: features by hand, exact files, names, the hub, and what the plan leaves out."""

import json
import re
import subprocess
import sys
from hashlib import sha256

import pytest
import timm
import torch
import torch.nn.functional as F
import yaml
from conftest import ROOT
from project import copy_sources
from safetensors.torch import save_file
from torch import nn

from amae.commands.fetch_encoder import fetch_encoder
from amae.mae.architecture import Architecture
from amae.mae.checkpoints import read_description
from amae.mae.model import MAE
from amae.mae.timm_encoder import pooled
from amae.mae.weights import convert_weights, load_encoder, load_weights
from amae.plan import captions, check, compared, datasets, rows, stage2, targets, variants, weights
from amae.runtime.errors import InputError

# ViTs and convolutions, each with images of another size than its own; timm reads dla leniently.
FAMILIES = {"test_vit": 96, "vit_tiny_patch16_224": 64, "test_convnext": 72, "resnet10t": 80, "dla46x_c": 64}


def draw(size: int) -> torch.Tensor:
    """Three grey images, uint8."""
    return torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def random_network(name: str, **options) -> nn.Module:
    """timm's network with random weights, norms and statistics among them, and its classifier."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = timm.create_model(name, pretrained=False, **options)
        for key, value in network.state_dict().items():
            if value.is_floating_point():
                value.uniform_(0.5, 1.5) if key.endswith(("_var", "gamma")) else value.add_(
                    0.1 * torch.randn_like(value)
                )
    return network.eval()


@pytest.mark.parametrize("name", FAMILIES)
def test_features_are_those_of_timm_pooled_by_hand(name, tmp_path):
    network, size = random_network(name), FAMILIES[name]
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "own.pth")
    before = torch.random.get_rng_state()
    convert_weights(tmp_path / "own.pth", tmp_path / "a.safetensors", sizes={"image_size": size}, encoder=name)
    encoder = load_encoder(tmp_path / "a.safetensors")
    assert torch.equal(before, torch.random.get_rng_state())
    about = timm.get_pretrained_cfg(name)
    mean, std = (torch.tensor(values)[:, None, None] for values in (about.mean, about.std))
    seen = (draw(size)[:, None].expand(-1, 3, -1, -1).float() / 255 - mean) / std
    with torch.no_grad():
        if hasattr(network, "set_input_size"):
            network.set_input_size(img_size=size)  # timm's other way to resample positions
        found = network.forward_features(seen)
        expected = found[:, network.num_prefix_tokens :].mean(1) if found.ndim == 3 else found.mean((2, 3))
        given = encoder.features(encoder.normalise(draw(size)))
    assert given.dtype == torch.float32 and given.shape == (3, encoder.architecture.width)
    assert encoder.architecture.image_size == encoder.architecture.input_size == size != about.input_size[1]
    assert expected.std(0).max() > 0.01  # the images differ
    torch.testing.assert_close(given, expected, atol=1e-4, rtol=1e-4)
    assert not any(parameter.requires_grad for parameter in encoder.train().parameters())
    assert not any(module.training for module in encoder.modules())


def test_a_vit_of_timm_has_the_features_of_our_autoencoders_encoder(tmp_path):
    sizes = {"image_size": 64, "patch_size": 16, "width": 192, "depth": 12, "heads": 3}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MAE(
            Architecture(**sizes, decoder_width=16, decoder_depth=1, decoder_heads=1, channels=3, mean=0.5, std=0.5)
        )
    state = {key: value for key, value in model.state_dict().items() if not key.startswith(("decoder_", "mask_token"))}
    torch.save({"model": state}, tmp_path / "encoder.pth")
    encoder = convert_weights(
        tmp_path / "encoder.pth", tmp_path / "a", sizes={"image_size": 64}, encoder="vit_tiny_patch16_224"
    )
    with torch.no_grad():
        expected = model.features(model.normalise(draw(64)).expand(-1, 3, -1, -1))
        found = encoder.features(encoder.normalise(draw(64)))
    assert expected.std(0).max() > 0.01
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_maps_whose_channels_stand_last_are_pooled_over_their_places():
    network = random_network("swin_s3_tiny_224", img_size=64, depths=(1, 1, 1, 1), embed_dim=24, num_heads=(1, 1, 1, 1))
    assert network.output_fmt == "NHWC"
    found = torch.arange(2 * 2 * 2 * 3).reshape(2, 2, 2, 3).float()
    torch.testing.assert_close(pooled(network, found), found.flatten(1, 2).mean(1))


def test_an_image_is_resized_to_whole_patches(tmp_path):
    name = "vit_tiny_patch14_reg4_dinov2" if timm.is_model("vit_tiny_patch14_reg4_dinov2") else "eva02_tiny_patch14_224"
    torch.save(random_network(name).state_dict(), tmp_path / "own.pth")
    encoder = convert_weights(tmp_path / "own.pth", tmp_path / "a", sizes={"image_size": 64}, encoder=name)
    assert (encoder.architecture.image_size, encoder.architecture.input_size) == (64, 70)
    mean, std = encoder.mean, encoder.std
    resized = F.interpolate(draw(64)[:, None].float(), (70, 70), mode="bilinear", antialias=True)
    torch.testing.assert_close(encoder.normalise(draw(64)), (resized / 255 - mean) / std)
    with torch.no_grad():
        features = encoder.features(encoder.normalise(draw(64)))
    assert features.shape == (3, encoder.architecture.width) and features.std(0).max() > 0.01


def test_a_file_of_ours_converts_again_and_safetensors_of_anyone_load(tmp_path, capsys):
    network = random_network("test_resnet")
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    first = convert_weights(
        tmp_path / "model.safetensors", tmp_path / "a", sizes={"image_size": 64}, encoder="test_resnet"
    )
    assert "model.safetensors: left out, as a classifier's: fc.bias, fc.weight" in capsys.readouterr().err
    description = read_description(tmp_path / "a")
    content = (tmp_path / "model.safetensors").read_bytes()
    assert description == {
        "made_by": "the weights of timm's test_resnet",
        "source": "model.safetensors",
        "source_sha256": sha256(content).hexdigest(),
    }
    again = convert_weights(tmp_path / "a", tmp_path / "b", sizes={"image_size": 96})
    assert again.architecture.image_size == 96 and first.architecture.image_size == 64
    assert read_description(tmp_path / "b")["made_by"] == description["made_by"]
    for key, value in network.state_dict().items():
        assert key.startswith("fc.") or torch.equal(again.network.state_dict()[key], value), key
    with pytest.raises(InputError, match=r"a: a timm:test_resnet encoder, which serves stage 1 alone"):
        load_weights(tmp_path / "a")


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "dla46x_c"])
def test_a_file_that_does_not_fill_the_network_is_refused(name, tmp_path, capsys):
    """Also of a family that timm reads leniently (dla)."""
    state = random_network(name, num_classes=0).state_dict()
    missing = next(key for key in reversed(state) if key.endswith(".weight"))

    def refusal(content) -> str:
        torch.save(content, tmp_path / "own.pth")
        with pytest.raises(InputError) as caught:
            convert_weights(tmp_path / "own.pth", tmp_path / "a", sizes={"image_size": 64}, encoder=name)
        assert not (tmp_path / "a").exists() and "\n" not in str(caught.value)
        return str(caught.value)

    message = refusal({key: value for key, value in state.items() if key != missing})
    assert f"own.pth: not for timm's {name}" in message or f"own.pth: not timm's {name}" in message
    assert missing in message
    assert missing in refusal(state | {missing: torch.zeros(7)})
    if name != "dla46x_c":  # there timm leaves it out, and a line reports it
        assert "predictor" in refusal(state | {"predictor": torch.zeros(1)})
    else:
        torch.save(state | {"predictor": torch.zeros(1)}, tmp_path / "own.pth")
        convert_weights(tmp_path / "own.pth", tmp_path / "a", sizes={"image_size": 64}, encoder=name)
        assert "predictor" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("vit_tiny_patch16_244", "vit_tiny_patch16_224"),
        ("vit_base_patch16_224.mea", "vit_base_patch16_224.mae"),
        ("zzz", "timm.list_pretrained()"),
    ],
)
def test_an_unknown_name_brings_names_like_it(name, close, tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "own.pth")
    with pytest.raises(InputError) as caught:
        convert_weights(tmp_path / "own.pth", tmp_path / "a", encoder=name)
    assert f"weights timm:{name}: timm {timm.__version__} knows no such network" in str(caught.value)
    assert close in str(caught.value)


class Hub:
    """The hub's client, with one repository of two commits."""

    def __init__(self, folder) -> None:
        self.folder, self.head, self.asked = folder, "c2", []

    def model_info(self, repository: str) -> "Hub":
        self.sha = self.head
        return self

    def hf_hub_download(self, repository: str, file: str, *, revision: str, local_dir: str) -> str:
        self.asked.append((repository, file, revision))
        if revision == "gone":
            raise RuntimeError("404: no such revision")
        target = f"{local_dir}/{file}"
        with open(target, "wb") as out:
            out.write(f"weights of {revision}".encode())
        return target


def test_weights_are_fetched_with_their_revision_and_hash_and_stay_so(tmp_path, monkeypatch):
    hub = Hub(tmp_path)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", hub.hf_hub_download)
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    file, record = tmp_path / "vit_base_patch16_224.mae.safetensors", tmp_path / "vit_base_patch16_224.mae.json"
    fetch_encoder(encoder="vit_base_patch16_224.mae", fetched=file)
    assert hub.asked == [("timm/vit_base_patch16_224.mae", "model.safetensors", "c2")]
    assert json.loads(record.read_text()) == {
        "model": "vit_base_patch16_224.mae",
        "repository": "timm/vit_base_patch16_224.mae",
        "file": "model.safetensors",
        "revision": "c2",
        "sha256": sha256(b"weights of c2").hexdigest(),
    }
    hub.head = "c3"  # a later commit changes nothing
    file.unlink()
    fetch_encoder(encoder="vit_base_patch16_224.mae", fetched=file)
    assert hub.asked[-1][2] == "c2" and file.read_bytes() == b"weights of c2"
    record.write_text(record.read_text().replace('"c2"', '"c4"'))
    with pytest.raises(InputError, match=r"sha256 is .*, expected .*vit_base_patch16_224\.mae\.json"):
        fetch_encoder(encoder="vit_base_patch16_224.mae", fetched=file)
    record.write_text(record.read_text().replace('"c4"', '"gone"'))
    with pytest.raises(InputError, match=r"404: no such revision.*weights: timm:vit_base_patch16_224\.mae@FILE"):
        fetch_encoder(encoder="vit_base_patch16_224.mae", fetched=file)
    with pytest.raises(InputError, match=r"weights timm:dla46x_cc: .*did you mean dla46x_c"):
        fetch_encoder(encoder="dla46x_cc", fetched=file)
    with pytest.raises(InputError, match=r"timm:vit_base_patch16_18x2_224: the hub has no weights.*18x2_224@FILE"):
        fetch_encoder(encoder="vit_base_patch16_18x2_224", fetched=file)


# The plan and the rules


@pytest.mark.long
def test_the_rules_fetch_and_import_a_network_and_report_what_is_left_out(tmp_path):
    project, named = copy_sources(tmp_path / "project"), "datasets={tiny: {weights: 'timm:resnet10t.c3_in1k'}}"
    status, output = project.run("--dry-run", "--printshellcmds", "out/tiny/mae.safetensors", config=(named,))
    assert status == 0, output
    file = "out/sources/weights/timm/resnet10t.c3_in1k.safetensors"
    assert f"amae fetch-encoder --encoder resnet10t.c3_in1k --fetched {file} 2>" in output
    assert re.search(f"amae import-weights --file {file} .* --encoder resnet10t.c3_in1k 2>", output)
    assert "note: data set tiny: weights timm:resnet10t.c3_in1k are an encoder without decoder" in output
    status, output = project.run("--dry-run", "model", config=(named,))
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert status == 1 and len(errors) == 1 and errors[0].endswith("cannot be made; ask for other targets"), output


VIT, LOCAL = "timm:vit_base_patch16_224.mae", "timm:resnet10t@{file}"


@pytest.fixture
def config() -> dict:
    """The configuration as it comes, with the simulated data set on a network of timm."""
    made = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    made["datasets"]["simulated"]["weights"] = VIT
    made["experiments"]["figure3"] = made["experiments"]["localisation"] = ["simulated"]
    return made


def test_a_data_set_on_an_encoder_has_no_stage_2_and_a_line_reports_it(config, capsys):
    check.check(config)
    assert datasets.has_unlabeled(config, "simulated") and not datasets.has_stage2(config, "simulated")
    made = targets.everything(config)
    assert "results/simulated/seed0/comparison.html" in made
    assert not [file for file in made if file.endswith(("model.safetensors", "gallery", "pseudo_labels.png"))]
    assert targets.localisation(config) == targets.of_experiment(config, "figure3", ["a"], stage2=True) == []
    assert stage2.files(config, "simulated", "", "0", ["scores.csv"]) == []
    assert stage2.detector_scores(config, "simulated", "", "0") == [
        "results/simulated/seed0/comparators/detector_Y/scores.csv"
    ]
    shown = [row["method"] for row in rows.rows_of(config, "simulated", "table2")]
    assert "AMAE stage 1" in shown and "Positive-unlabeled probe" in shown
    assert not {"AMAE stage 2", "AMAE Mask Rec.", "MAE multi-reconstruction", "Error ratio"} & set(shown)
    assert "Two-distribution error ratio" not in shown
    assert rows.reference(config, "simulated", "table2") == "AMAE stage 1"
    assert not [file for file in compared.compared_scores(config, "simulated", "", "0") if "mask_rec" in file]
    assert not [file for file in compared.audited_scores(config, "simulated") if "reconstruction" in file]
    capsys.readouterr()
    stage2.note_encoders(config)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"note: data set simulated: weights {VIT} are an encoder without decoder, so stage 2")
    assert f"weights {VIT}" in captions.caption_of(config, "simulated")


def test_what_needs_a_decoder_is_refused_in_the_plan(config):
    refusal = f"data set simulated: weights {VIT} are an encoder without decoder, so stage 2 .*cannot be made"
    with pytest.raises(InputError, match=refusal):
        stage2.ranking(config, "simulated", "", "0")
    for method in ("mae_multi", "mask_rec", "two_distributions", "detector_ratio"):
        with pytest.raises(InputError, match=f"without decoder, which {method} needs"):
            compared.needed_weights(config, "simulated", "", method)
    assert compared.needed_weights(config, "simulated", "", "knn") == "results/simulated/mae.safetensors"
    config["datasets"]["simulated"]["weights"] = "embedded"
    assert datasets.has_stage2(config, "simulated")
    for variant in ("densenet_mae", "vit"):
        config["variants"]["vit"] = {"weights": VIT}
        assert datasets.has_stage2(config, "simulated") and not datasets.has_stage2(config, "simulated", variant)
        with pytest.raises(InputError, match=f"variant {variant}: weights .* without decoder"):
            stage2.ranking(config, "simulated", variant, "0")


def test_the_file_behind_a_network_is_the_hubs_or_ones_own(config, tmp_path):
    own = tmp_path / "own.pth"
    own.touch()
    config["variants"]["own"] = {"weights": LOCAL.format(file=own)}
    config["variants"]["hub"] = {"weights": "timm:resnet10t"}
    files = {variant: weights.weights_file(config, "simulated", variant) for variant in ("", "own", "hub")}
    folder = "results/sources/weights/timm"
    assert files == {
        "": f"{folder}/vit_base_patch16_224.mae.safetensors",
        "own": str(own),
        "hub": f"{folder}/resnet10t.safetensors",
    }
    assert weights.fetched_encoders(config) == ["resnet10t", "vit_base_patch16_224.mae"]
    assert weights.origin_option(config, "simulated", "own") == "--encoder resnet10t"
    assert weights.origin_option(config, "rsna", "imagenet") == "--normalisation imagenet"
    assert variants.owner(config, "own", "weights") == "own"
    datasets.check_dataset(config, "simulated")
    config["datasets"]["simulated"]["weights"] = "timm:resnet10t@/missing.pth"
    with pytest.raises(InputError, match=r"datasets\.simulated\.weights: /missing\.pth: no such file"):
        datasets.check_dataset(config, "simulated")
    config["variants"]["own"]["normalisation"] = "imagenet"
    with pytest.raises(InputError, match="variant own: normalisation imagenet contradicts weights timm:resnet10t@"):
        weights.normalisation(config, "simulated", "own")


@pytest.mark.parametrize("named", ["timm:", "timm:resnet10t@", "timm:a/b", "timm:a b", "timm:a.b.c", "timm:@file"])
def test_another_form_of_the_name_is_refused_at_once(config, named):
    config["variants"]["odd"] = {"weights": named}
    with pytest.raises(InputError, match=f"weights {named}: expected timm:NAME or timm:NAME@FILE"):
        check.check(config)


def test_the_table_of_backbones_has_every_encoder_by_every_use_of_its_features(config):
    config["variants"]["resnet"] = {"weights": "timm:resnet10t"}
    config["experiments"]["backbones"] = ["densenet_mae", "resnet"]
    found = rows.rows_of(config, "simulated", "backbones")
    assert len(found) == 3 * 4 and len({row["method"] for row in found}) == 12
    assert {row["scores"][0] for row in found if row["method"].startswith("resnet")} == {
        f"results/simulated/resnet/seed0/{part}/scores.csv"
        for part in ("stage1", "comparators/knn_N", "comparators/mahalanobis_N", "comparators/pu_probe_Y")
    }
    assert rows.reference(config, "simulated", "backbones") == f"{VIT}: stage 1"
    assert rows.reference(config, "simulated", "figure3c") == VIT
    config["datasets"]["simulated"]["weights"] = "embedded"
    assert rows.reference(config, "simulated", "figure3c") == "ViT-S MAE"
    assert "pu_probe" not in str(rows.rows_of(config, "nih", "backbones"))  # no T_u


@pytest.mark.long
def test_jobs_without_a_network_of_timm_do_not_load_it():
    code = """
import importlib, pkgutil, sys
from pathlib import Path
import amae.plan, amae.commands
from amae.mae import weights
for module in pkgutil.iter_modules([*amae.plan.__path__]):
    importlib.import_module(f"amae.plan.{module.name}")
for module in pkgutil.iter_modules([*amae.commands.__path__]):
    importlib.import_module(f"amae.commands.{module.name}")
weights.load_encoder(Path(weights.__file__).with_name("embedded.safetensors"))
sys.exit("timm" in sys.modules or "huggingface_hub" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
