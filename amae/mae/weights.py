"""Weights of masked autoencoders: this project's own files, and published MAE checkpoints; and the choice of network.

A published file has three input channels. A grey image copied to three channels meets nothing but linear layers at both
ends of the network, so the file folds exactly into a model of one channel. A file that does not fill the model exactly
is refused, and the message lists the keys that differ.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from amae.mae.architecture import TIMM, Architecture
from amae.mae.checkpoints import (
    describe_source,
    differing_shapes,
    list_differences,
    read_checkpoint,
    read_safetensors,
    write_safetensors,
)
from amae.mae.densenet import is_densenet
from amae.mae.model import MAE
from amae.mae.timm_encoder import TimmEncoder, convert_timm, load_timm
from amae.runtime.errors import InputError
from amae.runtime.tensors import is_safetensors

Encoder = MAE | TimmEncoder  # frozen, in stage 1

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # the files of MAE
CHEST_MEAN, CHEST_STD = (0.5056, 0.5056, 0.5056), (0.252, 0.252, 0.252)  # those of Medical-MAE, for NIH's images
NORMALISATIONS = {"chest": (CHEST_MEAN, CHEST_STD), "imagenet": (IMAGENET_MEAN, IMAGENET_STD)}

BACKBONE = "mae"

_HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16}  # of ViT-Ti, S, B, L, H by width; shapes do not show it
_DECODER_HEADS = {512: 16}
_FIXED_KEYS = {
    *("cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "norm.weight", "norm.bias"),
    *("mask_token", "decoder_pos_embed", "decoder_embed.weight", "decoder_embed.bias"),
    *("decoder_norm.weight", "decoder_norm.bias", "decoder_pred.weight", "decoder_pred.bias"),
}
_BLOCK_KEY = re.compile(r"(decoder_)?blocks\.\d+\.(norm[12]|attn\.(qkv|proj)|mlp\.fc[12])\.(weight|bias)")


def save_weights(model: MAE, path: str | Path, description: Mapping[str, str]) -> None:
    """Write a model with its architecture, mean and std, and how it was made. Equal models give equal bytes."""
    about = {"architecture": dataclasses.asdict(model.architecture), "description": dict(description)}
    write_safetensors(model, path, {"backbone": BACKBONE, **about})


def load_weights(path: str | Path, device: torch.device | str = "cpu") -> MAE:
    """Read a model that `save_weights` wrote. Raises InputError for any other file, naming the keys that differ."""
    about, state = read_safetensors(path)
    if (found := about.get("backbone", BACKBONE)) != BACKBONE:  # files of the first version lack it
        raise InputError(f"{path}: a {found} encoder, which serves stage 1 alone; this step needs a masked autoencoder")
    try:
        architecture = Architecture(**about["architecture"])
    except (TypeError, KeyError, ZeroDivisionError) as error:
        raise InputError(
            f"{path}: its architecture is not one of this version ({error}); make the file again"
        ) from None
    return filled(architecture, state, path).to(device)


def load_encoder(path: str | Path, device: torch.device | str = "cpu") -> Encoder:
    """Read the frozen encoder of stage 1, whichever network a file of this project contains; InputError otherwise."""
    about, state = read_safetensors(path)
    return load_timm(about, state, path).to(device) if _is_timm(about) else load_weights(path, device)


def _is_timm(about: Mapping[str, Any]) -> bool:
    """True for the description of a network of timm."""
    return about.get("backbone", BACKBONE).startswith(TIMM)


def load_for_size(path: str | Path, size: int, device: torch.device, load: Callable[..., Any] = load_weights) -> Any:
    """A trained autoencoder for images of `size` pixels; with `load_encoder`, whatever can serve stage 1.

    Raises InputError, naming the file, for one that was made for images of another size.
    """
    model = load(path, device)
    if model.architecture.image_size != size:
        raise InputError(
            f"{path}: made for images of {model.architecture.image_size} px, the packed images have {size} px"
        )
    return model


def import_published(
    path: str | Path,
    *,
    mean: Sequence[float] = CHEST_MEAN,
    std: Sequence[float] = CHEST_STD,
    sizes: Mapping[str, int] | None = None,
) -> MAE:
    """Read a published MAE checkpoint as a model of one channel.

    Args:
        path: a torch pickle that contains a state dict, or a dict with one as `model` beside optimizer, epoch and args.
        mean, std: what the file's input was normalised with, per channel, on intensities in [0, 1]. The model's own
            are their averages over channels.
        sizes: sizes that the model must have, by Architecture's names. `heads` and `decoder_heads` are taken from here
            for widths other than those of ViT-Ti, S, B, L and H and the published decoder.

    Raises InputError for anything but a whole masked autoencoder of these sizes, naming what is wrong with it.
    """
    state = _published_state(path)
    found = _infer(state, sizes or {}, path)
    _check_state(found, state, path)
    channels = found.channels
    if not len(mean) == len(std) == channels:
        raise InputError(
            f"{path}: it has {channels} input channels, but mean has {len(mean)} and std {len(std)} values"
        )
    grey = dataclasses.replace(found, channels=1, mean=sum(mean) / channels, std=sum(std) / channels)
    _check_sizes(grey, sizes, path)
    return filled(grey, _fold(state, mean, std, grey), path)


def load_any(
    path: str | Path,
    *,
    mean: Sequence[float] = CHEST_MEAN,
    std: Sequence[float] = CHEST_STD,
    sizes: Mapping[str, int] | None = None,
) -> MAE:
    """Read a weight file of either kind, recognised by content; `mean` and `std` as in `import_published`."""
    if not is_safetensors(path):
        return import_published(path, mean=mean, std=std, sizes=sizes)
    model = load_weights(path)
    _check_sizes(model.architecture, sizes, path)
    return model


def convert_weights(
    source: str | Path,
    target: str | Path,
    *,
    mean: Sequence[float] = CHEST_MEAN,
    std: Sequence[float] = CHEST_STD,
    sizes: Mapping[str, int] | None = None,
    encoder: str | None = None,
) -> Encoder:
    """Bring a weight file of either kind into this project's form, with the source's name and SHA-256 on record.

    `encoder`: timm's name of the network that the file is for, by `convert_timm`; a DenseNet-121 of Medical-MAE is
    recognised by its content. Of these only the image size counts among `sizes`. Other options as in `load_any`.
    """
    if encoder or is_densenet(source) or (is_safetensors(source) and _is_timm(read_safetensors(source)[0])):
        return convert_timm(source, target, encoder, (sizes or {}).get("image_size", 224), mean, std)
    model = load_any(source, mean=mean, std=std, sizes=sizes)
    save_weights(
        model, target, describe_source(source, None if is_safetensors(source) else "folded from a published checkpoint")
    )
    return model


def filled(architecture: Architecture, state: Mapping[str, Tensor], path: str | Path) -> MAE:
    """A model with the tensors of a state dict."""
    _check_state(architecture, state, path)
    with torch.device("meta"):  # no initialisation to be overwritten, no random numbers drawn
        model = MAE(architecture)
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)
    return model


def _check_state(architecture: Architecture, state: Mapping[str, Tensor], path: str | Path) -> None:
    """Raise InputError where keys or shapes are not those of a model of this architecture."""
    with torch.device("meta"):
        expected = MAE(architecture).state_dict()
    _refuse(path, expected.keys() - state.keys(), state.keys() - expected.keys(), differing_shapes(expected, state))


def _check_sizes(architecture: Architecture, sizes: Mapping[str, int] | None, path: str | Path) -> None:
    found = dataclasses.asdict(architecture)
    wrong = [f"{name} {found[name]} instead of {size}" for name, size in (sizes or {}).items() if found[name] != size]
    if wrong:
        raise InputError(f"{path}: a masked autoencoder of other sizes: {', '.join(wrong)}; change the configuration")


def _refuse(path: str | Path, missing: Any, unexpected: Any, shapes: Any = ()) -> None:
    """Raise InputError if any of the three lists of keys is not empty."""
    differences = list_differences(missing, unexpected, shapes)
    if not differences:
        return
    encoder_only = "decoder_embed.weight" in missing
    kind = "an encoder only, without the decoder" if encoder_only else "not the masked autoencoder expected"
    raise InputError(f"{path}: {kind}; {differences}. Use a file of the whole masked autoencoder")


def _published_state(path: str | Path) -> dict[str, Tensor]:
    """The state dict of a published checkpoint, if it is one of a masked autoencoder trained on plain pixels."""
    state, args = read_checkpoint(path)
    if getattr(args, "norm_pix_loss", False):
        raise InputError(
            f"{path}: trained with norm_pix_loss=True, so it predicts normalised patches, not pixels; use a file "
            f"trained with norm_pix_loss=False (MAE's files for visualisation are)"
        )
    blocks = {key for key in state if _BLOCK_KEY.fullmatch(key)}
    firsts = {name for name in ("blocks.0.mlp.fc1.weight", "decoder_blocks.0.mlp.fc1.weight") if name not in blocks}
    _refuse(path, (_FIXED_KEYS - state.keys()) | firsts, state.keys() - _FIXED_KEYS - blocks)
    return state


def _infer(state: Mapping[str, Tensor], sizes: Mapping[str, int], path: str | Path) -> Architecture:
    """The architecture that the shapes of a whole state dict imply."""
    shape = {name: tuple(tensor.shape) for name, tensor in state.items()}
    try:
        width, channels, patch_size, _ = shape["patch_embed.proj.weight"]
        decoder_width, _ = shape["decoder_embed.weight"]
        grid = round((shape["pos_embed"][1] - 1) ** 0.5)
        ratio = shape["blocks.0.mlp.fc1.weight"][0] / width
    except (ValueError, IndexError):
        raise InputError(f"{path}: patch_embed, pos_embed or decoder_embed have shapes of another network") from None
    heads = _HEADS.get(width) or sizes.get("heads")
    decoder_heads = _DECODER_HEADS.get(decoder_width) or sizes.get("decoder_heads")
    if not (heads and decoder_heads):
        missing = f"decoder width {decoder_width}" if heads else f"width {width}"
        raise InputError(
            f"{path}: the number of attention heads is not known for {missing}; state it in the configuration"
        )
    block_numbers = [
        {key.split(".")[1] for key in shape if key.startswith(prefix)} for prefix in ("blocks.", "decoder_blocks.")
    ]
    return Architecture(
        image_size=grid * patch_size,
        patch_size=patch_size,
        width=width,
        depth=len(block_numbers[0]),
        heads=heads,
        decoder_width=decoder_width,
        decoder_depth=len(block_numbers[1]),
        decoder_heads=decoder_heads,
        channels=channels,
        mlp_ratio=ratio,
    )


def _fold(
    state: Mapping[str, Tensor], mean: Sequence[float], std: Sequence[float], grey: Architecture
) -> dict[str, Tensor]:
    """A state dict for grey images, equal to the given one for grey images copied to all channels.

    With x the intensity, channel c of the given network sees (x - mean_c) / std_c and the folded one (x - m) / s, so
    the former is scale_c times the latter plus shift_c.
    """
    scale = grey.std / torch.tensor(std, dtype=torch.float64)
    shift = (grey.mean - torch.tensor(mean, dtype=torch.float64)) / torch.tensor(std, dtype=torch.float64)
    embed = state["patch_embed.proj.weight"].double()  # (width, C, p, p)
    weight = state["decoder_pred.weight"].double().unflatten(0, (-1, len(std)))  # (p * p, C, decoder_width)
    bias = state["decoder_pred.bias"].double().unflatten(0, (-1, len(std)))
    folded = {
        "patch_embed.proj.weight": torch.einsum("dcpq,c->dpq", embed, scale)[:, None],
        "patch_embed.proj.bias": state["patch_embed.proj.bias"] + torch.einsum("dcpq,c->d", embed, shift),
        "decoder_pred.weight": (weight / scale[:, None]).mean(1),
        "decoder_pred.bias": ((bias - shift) / scale).mean(1),
    }
    return {**state, **folded}
