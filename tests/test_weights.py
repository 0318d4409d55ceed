"""Weight files: a round trip, the exact fold of published files, and the refusal of everything else."""

import argparse
import dataclasses
import os
import pickle
import subprocess
import sys
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from amae.mae import checkpoints
from amae.mae import weights as w
from amae.mae.architecture import Architecture
from amae.mae.checkpoints import read_description
from amae.mae.model import MAE
from amae.runtime.errors import InputError
from amae.runtime.files import temporary_beside
from amae.settings import WEIGHTS_SIZES

TINY = Architecture(
    image_size=32, patch_size=8, width=32, depth=2, heads=2, decoder_width=24, decoder_depth=1, decoder_heads=2
)
SIZES = {"image_size": 32, "heads": 2, "decoder_heads": 2}


def make_model(seed: int = 0, **changes: Any) -> MAE:
    """A tiny model whose biases and norms are random too, so that every tensor matters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MAE(Architecture(**{**TINY.__dict__, **changes}))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def published(path: Path, model: MAE | None = None, drop: str = "", add: Any = None, **arguments: Any) -> Path:
    """Write a checkpoint as MAE's training script does."""
    model = model or make_model(channels=3)
    state = {name: tensor for name, tensor in model.state_dict().items() if not (drop and name.startswith(drop))}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(
        torch.zeros(1, model.architecture.patches, model.architecture.patch_values), torch.arange(16)[None], 4
    ).sum().backward()
    optimizer.step()
    arguments = {"model": "mae_vit_tiny", "norm_pix_loss": False, "lr": 1e-3, "distributed": False} | arguments
    content = {
        "model": state | (add or {}),
        "optimizer": optimizer.state_dict(),
        "epoch": 799,
        "scaler": {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 3},
        "args": argparse.Namespace(**arguments),
    }
    torch.save(content, path)
    return path


def test_round_trip(tmp_path: Path) -> None:
    model = make_model(mean=0.51, std=0.24)
    w.save_weights(model, tmp_path / "a.safetensors", {"made_by": "test", "epochs": "3"})
    before = torch.random.get_rng_state()
    loaded = w.load_any(tmp_path / "a.safetensors", sizes={"width": 32, "depth": 2})
    assert torch.equal(before, torch.random.get_rng_state())
    assert loaded.architecture == model.architecture
    assert read_description(tmp_path / "a.safetensors") == {"made_by": "test", "epochs": "3"}
    for (name, a), (other, b) in zip(model.state_dict().items(), loaded.state_dict().items(), strict=True):
        assert name == other and torch.equal(a, b) and b.device.type == "cpu"
    trainable = [name for name, parameter in loaded.named_parameters() if parameter.requires_grad]
    assert trainable == [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def test_equal_models_give_equal_bytes(tmp_path: Path) -> None:
    for name, description in [("a", {"x": "1", "y": "2"}), ("b", {"y": "2", "x": "1"})]:
        w.save_weights(make_model(), tmp_path / name, description)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_others_may_read_a_weight_file_as_they_may_a_table(tmp_path):
    before = os.umask(0o027)
    try:
        temporary_beside(tmp_path / "x.safetensors").touch(0o600)  # left by a killed process
        checkpoints.write_tensors({"x": torch.zeros(2)}, tmp_path / "x.safetensors", {})
        (tmp_path / "x.csv").write_text("a")
    finally:
        os.umask(before)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("x.safetensors", "x.csv")]
    assert modes == [0o640, 0o640]


def test_reading_a_file_does_not_import_torchs_compiler(tmp_path):
    """It would take a job that only applies a model longer than its work."""
    w.save_weights(make_model(), tmp_path / "a.safetensors", {})
    load = "from amae.mae.weights import load_weights; load_weights(sys.argv[1])"
    code = f"import sys; {load}; print('torch._dynamo' in sys.modules)"
    command = [sys.executable, "-c", code, tmp_path / "a.safetensors"]
    assert subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(("mean", "std"), [(w.IMAGENET_MEAN, w.IMAGENET_STD), (w.CHEST_MEAN, w.CHEST_STD)])
def test_fold_is_exact(tmp_path: Path, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    original = make_model(channels=3)
    folded = w.import_published(published(tmp_path / "mae.pth", original), mean=mean, std=std, sizes=SIZES)
    a = folded.architecture
    assert (a.channels, a.width, a.depth, a.decoder_depth, a.image_size) == (1, 32, 2, 1, 32)
    assert (a.mean, a.std) == (pytest.approx(sum(mean) / 3), pytest.approx(sum(std) / 3))
    grey = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    channel_mean, channel_std = (torch.tensor(values)[:, None, None] for values in (mean, std))
    colour = (grey[:, None].expand(-1, 3, -1, -1) / 255 - channel_mean) / channel_std
    order = torch.rand(3, 16, generator=torch.Generator().manual_seed(2)).argsort(1)
    with torch.no_grad():
        seen = folded.encode(folded.embed(folded.patchify(folded.normalise(grey))))
        projection = original.patch_embed["proj"]
        tokens = (
            F.conv2d(colour, projection.weight, projection.bias, stride=8).flatten(2).mT + original.pos_embed[:, 1:]
        )
        assert (seen - original.encode(tokens)).abs().max() < 1e-5
        expected = original(original.patchify(colour), order, 4).unflatten(-1, (8, 8, 3)) * torch.tensor(
            std
        ) + torch.tensor(mean)
        expected = ((expected.mean(-1) - a.mean) / a.std).flatten(-2)
        assert (folded(folded.patchify(folded.normalise(grey)), order, 4) - expected).abs().max() < 1e-5


def test_fold_agrees_with_the_reference_outputs(shared: Path, tmp_path: Path) -> None:
    with np.load(shared / "data/conformance/mae_tiny_parity.npz") as file:
        known = {name: torch.from_numpy(file[name]) for name in file}
    state = {name.removeprefix("weight/"): tensor for name, tensor in known.items() if name.startswith("weight/")}
    torch.save({"model": state}, tmp_path / "mae.pth")
    sizes = {"heads": 4, "decoder_heads": 4}
    model = w.import_published(tmp_path / "mae.pth", mean=(0, 0, 0), std=(1, 1, 1), sizes=sizes)
    order = known["noise"].argsort(1)
    with torch.no_grad():
        patches = model.patchify(known["image"])
        visible = order[:, :16, None].expand(-1, -1, model.architecture.width)
        latent = model.encode(model.embed(patches).gather(1, visible))
        decoded = model.decoder_pred(model.decode(latent, order, order.shape[1]))
    assert (latent - known["latent"]).abs().max() < 1e-5
    expected = known["pred"].unflatten(-1, (64, 3)).mean(-1).gather(1, order[..., None].expand(-1, -1, 64))
    assert (decoded - expected).abs().max() < 1e-5


def test_heads_follow_from_the_width_of_published_sizes(tmp_path: Path) -> None:
    model = make_model(channels=3, width=192, heads=3, depth=1, decoder_width=512, decoder_heads=16)
    torch.save(model.state_dict(), tmp_path / "bare.pth")  # a bare state dict
    architecture = w.load_any(tmp_path / "bare.pth").architecture
    assert (architecture.heads, architecture.decoder_heads) == (3, 16)


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    state = {name: tensor.half() for name, tensor in make_model(channels=3).state_dict().items()}
    torch.save({"model": state}, tmp_path / "mae.pth")
    assert {t.dtype for t in w.load_any(tmp_path / "mae.pth", sizes=SIZES).state_dict().values()} == {torch.float32}


def test_conversion_records_the_source(tmp_path: Path) -> None:
    source = published(tmp_path / "mae.pth")
    model = w.convert_weights(source, tmp_path / "a.safetensors", sizes=SIZES)
    first = read_description(tmp_path / "a.safetensors")
    assert first["source"] == "mae.pth" and first["source_sha256"] == sha256(source.read_bytes()).hexdigest()
    again = w.convert_weights(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert torch.equal(again.decoder_pred.weight, model.decoder_pred.weight)
    assert read_description(tmp_path / "b.safetensors")["made_by"] == first["made_by"]


def refused(path: Path, *parts: str, **options: Any) -> None:
    """Loading raises one InputError that names the file and each of the parts."""
    with pytest.raises(InputError) as caught:
        w.load_any(path, **({"sizes": SIZES} | options))
    message = str(caught.value)
    assert "\n" not in message
    for part in (path.name, *parts):
        assert part in message, message


@pytest.mark.parametrize("drop", ["decoder_", "mask_token", "blocks.0.", "norm.", "decoder_blocks.0.attn"])
def test_missing_keys_are_named(tmp_path: Path, drop: str) -> None:
    refused(published(tmp_path / "mae.pth", drop=drop), "keys missing: ", drop)


def test_an_encoder_alone_is_called_so(tmp_path: Path) -> None:
    state = {
        name: t for name, t in make_model(channels=3).state_dict().items() if not name.startswith(("decoder_", "mask"))
    }
    torch.save({"model": state | {"head.weight": torch.zeros(2, 32)}}, tmp_path / "vit.pth")
    refused(tmp_path / "vit.pth", "an encoder only", "decoder_embed.weight", "mask_token", "unexpected: head.weight")


def test_other_contents_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mae.pth"
    refused(published(path, add={"head.weight": torch.zeros(2, 32)}), "keys unexpected: head.weight")
    refused(published(path, add={"norm.weight": torch.zeros(9)}), "norm.weight (9,) instead of (32,)")
    refused(published(path, add={"pos_embed": torch.zeros(1, 12, 32)}), "pos_embed (1, 12, 32)")
    refused(published(path, add={"decoder_embed.weight": torch.zeros(3)}), "decoder_embed")
    refused(published(path, add={"patch_embed.proj.weight": torch.zeros(3)}), "patch_embed")
    refused(published(path, norm_pix_loss=True), "norm_pix_loss")
    refused(published(path), "image_size 32 instead of 64", sizes={**SIZES, "image_size": 64})
    refused(published(path), "attention heads", "width 32", sizes={})
    refused(published(path), "3 input channels", mean=(0.5,), std=(0.2,))
    for content, found in [
        ([1, 2], "list"),
        ({"epoch": 1}, "epoch"),
        ({"model": {"a": 1}}, "model"),
        ({}, "no state dict"),
    ]:
        torch.save(content, path)
        refused(path, "no state dict", found)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mae.pth"
    refused(path, "No such file")
    refused(tmp_path, "directory")
    whole = published(path).read_bytes()
    for content in (b"", b"hello, world, this is text", b"\x80\x04", whole[: len(whole) // 2], b"PK\x03\x04"):
        path.write_bytes(content)
        refused(path, "not a torch checkpoint")


class Malicious:
    """Unpickled by the usual means, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


def test_a_malicious_pickle_is_not_executed(tmp_path: Path) -> None:
    path, folder = tmp_path / "mae.pth", tmp_path / "made"
    torch.save({"model": make_model(channels=3).state_dict(), "args": Malicious(folder)}, path)
    refused(path, f"{os.mkdir.__module__}.mkdir", "refused, nothing of it executed")
    torch.save({"args": Fraction(1, 2)}, path)
    refused(path, "fractions.Fraction", "refused, nothing of it executed")
    for protocol in range(2, 6):
        path.write_bytes(pickle.dumps({"model": Malicious(folder)}, protocol))
        refused(path, "refused" if protocol < 4 else "UnpicklingError")
    assert not folder.exists()
    pickle.loads(path.read_bytes())
    assert folder.exists()  # the file would have done it


def test_foreign_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    state = make_model().state_dict()
    save_file(state, path)
    refused(path, "without a description", "blocks.0.attn.proj.bias")
    w.save_weights(make_model(), path, {})
    refused(path, "depth 2 instead of 3", sizes={"depth": 3})
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    refused(path, "not a readable safetensors file")
    path.write_bytes(whole.replace(b"mlp_ratio", b"mlp_rati0"))
    refused(path, "damaged")
    state = load_file(_rewritten(path, whole))
    metadata = {"amae": '{"architecture": ' + str(TINY.__dict__).replace("'", '"') + "}"}
    save_file(state, path, {"amae": metadata["amae"].replace("mlp_ratio", "mlp_rati0")})
    refused(path, "mlp_rati0")
    save_file(
        {name: t for name, t in state.items() if name != "decoder_norm.bias"} | {"extra": torch.zeros(1)},
        path,
        metadata,
    )
    refused(path, "missing: decoder_norm.bias", "unexpected: extra")
    save_file(state | {"cls_token": torch.zeros(1, 1, 5)}, path, metadata)
    refused(path, "cls_token (1, 1, 5) instead of (1, 1, 32)")


def _rewritten(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_load_weights_asks_for_conversion_of_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="converted"):
        w.load_weights(published(tmp_path / "mae.pth"))


def test_the_sizes_of_the_embedded_weights_are_known():
    found = w.load_weights(Path(w.__file__).with_name("embedded.safetensors")).architecture
    assert dataclasses.asdict(WEIGHTS_SIZES["embedded"]).items() <= dataclasses.asdict(found).items()
