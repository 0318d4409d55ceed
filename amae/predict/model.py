"""A trained model as one file: f_0, stage 1 head, modules A and B, detector, and what scoring needs besides.

The file is a safetensors file that describes itself. Nothing in it names an image, a patient or a path.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from amae.mae.architecture import Architecture
from amae.mae.checkpoints import read_safetensors, write_tensors
from amae.mae.model import MAE
from amae.mae.weights import filled
from amae.method.detector import make_network
from amae.method.scores import DESCRIPTIONS
from amae.method.stage1 import make_head
from amae.predict.calibration import CONFIDENCE, SPECIFICITY, operating_point
from amae.predict.domain import DRIFT, MASKS, MEASURES, RARE, distance_limit
from amae.runtime.errors import InputError
from amae.settings import ReconstructionSettings

KIND = "amae model"
FORMAT = 4  # of the file; raised when a file of before can no longer be read, or its statistics mean something else


@dataclass(frozen=True)
class Model:
    """A trained model.

    `about`: its description in words and numbers (see `card_of`). `arrays`, float64: `features.mean (D,)` and
    `features.precision (D, D)` of the training images; `training.<measure> (N,)`, measures as in amae.predict.domain;
    `calibration.<score> (M,)`, none where no normal images were held out.
    """

    about: dict[str, Any]
    encoder: MAE
    head: nn.Sequential
    module_a: MAE
    module_b: MAE
    detector: tuple[nn.Sequential, ...]
    arrays: dict[str, np.ndarray]

    @property
    def settings(self) -> ReconstructionSettings:
        """Settings of the reconstruction of a new image: see `amae.predict.score.quiet`."""
        return ReconstructionSettings(**self.about["masks_of_new_images"])

    @property
    def device(self) -> torch.device:
        """Device of the networks."""
        return next(self.encoder.parameters()).device

    def group(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of a group: features, training or calibration."""
        prefix = f"{name}."
        return {key.removeprefix(prefix): value for key, value in self.arrays.items() if key.startswith(prefix)}


def save_model(model: Model, path: str | Path) -> None:
    """Write a model. Equal models give equal bytes. Raises InputError where its networks differ in size."""
    parts = _parts(model.encoder, model.head, model.module_a, model.module_b, model.detector)
    architectures = {part.architecture for part in parts.values() if isinstance(part, MAE)}
    if len(architectures) != 1:
        raise InputError("f_0 and the modules A and B are of different sizes or normalisations; they do not belong")
    tensors = {f"{part}.{key}": value for part, net in parts.items() for key, value in net.state_dict().items()}
    tensors |= {name: torch.from_numpy(np.array(array, np.float64)) for name, array in model.arrays.items()}
    architecture = dataclasses.asdict(architectures.pop())
    write_tensors(tensors, path, {"kind": KIND, "format": FORMAT, "architecture": architecture, **model.about})


def load_model(path: str | Path, device: torch.device | str = "cpu") -> Model:
    """Read a model. Raises InputError, naming the file and what it is, for any other file or one of another format."""
    about, tensors = read_safetensors(path)
    if about.get("kind") != KIND:
        known = "a trained autoencoder" if "architecture" in about else about.get("kind", "something else")
        raise InputError(f"{path}: not a model made by `amae export`, but {known}")
    if about.get("format") != FORMAT:
        made = about.get("versions", {}).get("amae", "another version")
        raise InputError(
            f"{path}: a model of format {about.get('format')}, by amae {made}; this version reads format {FORMAT}; "
            "export it again"
        )
    try:
        architecture = Architecture(**about["architecture"])
        nets = {part: filled(architecture, _of(tensors, part), path) for part in ("f0", "A", "B")}
        head = make_head(architecture.width)
        head.load_state_dict(_of(tensors, "head"))
        detector = tuple(make_network() for _ in range(about["detector"]["folds"]))
        for fold, network in enumerate(detector):
            network.load_state_dict(_of(tensors, f"detector{fold}"))
        arrays = {key: value.numpy() for key, value in tensors.items() if value.dtype == torch.float64}
        model = Model(about, nets["f0"], head.eval(), nets["A"], nets["B"], detector, arrays)
        _check_arrays(model)
        card_of(model)  # needs all there is to know
    except (KeyError, TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: a damaged model ({type(error).__name__}: {reason}); export it again") from None
    for net in (model.encoder, model.head, model.module_a, model.module_b, *model.detector):
        net.to(device).eval()
    return model


def _check_arrays(model: Model) -> None:
    """Raise KeyError or ValueError where the arrays are not those of a model."""
    width, features, calibration = model.encoder.architecture.width, model.group("features"), model.group("calibration")
    if features["mean"].shape != (width,) or features["precision"].shape != (width, width):
        raise ValueError("statistics of other features")
    if set(model.group("training")) != set(MEASURES) or set(calibration) not in (set(), set(DESCRIPTIONS)):
        raise ValueError("statistics or calibration incomplete")


def _parts(
    encoder: MAE, head: nn.Sequential, module_a: MAE, module_b: MAE, detector: Sequence[nn.Sequential]
) -> dict[str, nn.Module]:
    folds = {f"detector{fold}": network for fold, network in enumerate(detector)}
    return {"f0": encoder, "head": head, "A": module_a, "B": module_b, **folds}


def _of(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    prefix = f"{part}."
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def card_of(model: Model) -> str:
    """The model card, in Markdown."""
    about, a = model.about, model.encoder.architecture
    images = about["images"]
    lines = [
        f"# AMAE model: {about['dataset']}, seed {about['seed']}",
        "",
        "Scores frontal chest radiographs by how abnormal they look (Bozorgtabar, Mahapatra and Thiran, MICCAI 2023).",
        "**Research software, not a medical device.**",
        "",
        "## How good it is",
        "",
        *_quality(about),
        "",
        "## Input",
        "",
        f"DICOM, PNG, JPEG, TIFF or BMP; grey levels `{about['conversion']}`, made square by `{about['square']}`, "
        f"{a.image_size} x {a.image_size} pixels.",
        "The scores of an image depend on its converted pixels alone, not on its name: its masks are drawn from them.",
        "",
        "## Training",
        "",
        f"{images['train_normal']} normal images (T_n), {images['train_unlabeled']} without label (T_u); "
        f"{images['calibration']} further normal images for calibration.",
        "",
        *_table(["file", "SHA-256"], list(about["files"].items())),
        "",
        "## Operating points",
        "",
        *_operating_points(model.group("calibration"), about["no_calls"]),
        "",
        "## What is unlike the training images",
        "",
        *_domain(model),
        "",
        "## Settings and versions",
        "",
        *_table(["setting", "value"], list({**about["architecture"], **about["masks_of_new_images"]}.items())),
        "",
        *_table(["package", "version"], [*about["versions"].items(), ("commit", about["commit"])]),
    ]
    return "\n".join(lines) + "\n"


def _quality(about: dict[str, Any]) -> list[str]:
    """AUC of each score on the run's test images and AUCp, which needs no label; and the noise of the masks."""
    rows = []
    for score, meaning in DESCRIPTIONS.items():
        tested, auc_p = about["test"].get(score), about["auc_p"].get(score)
        known = f"{tested[0]:.2f} ({tested[1]:.2f} to {tested[2]:.2f})" if tested else "not known"
        implied = about["implied_auc"].get(score)
        cells = ("not known" if value is None else f"{value:.2f}" for value in (auc_p, implied))
        rows.append((f"`{score}`: {meaning}", known, *cells))
    masks, run = about["masks_of_new_images"]["masks"], about["reconstruction"]
    noise = ", ".join(f"`{name}` {share:.0%}" for name, share in about["mask_noise_of_run"].items())
    return [
        *_table(["score", "AUC on test images, 95 % interval", "AUCp", "AUC implied by it"], rows),
        "",
        "AUC: abnormal against normal test images of the run that made the model. AUCp: images without label",
        "(T_u) against normal ones; it needs no label, and orders scores as their AUC does. For `detector` it is out",
        "of fold; for the scores of modules A and B, which were trained on T_u, it flatters.",
        "",
        "The AUC of the scores of modules A and B was measured with the masks of the run's test images, AUCp with",
        f"those of new images: {masks} an image. The noise of these masks is",
        f"{about['mask_noise']:.0%} of the spread of normal images (the worse of `inter` and `error_ratio`). With the",
        f"run's own {run['masks']} {run['mask_scheme']} masks it is: {noise}.",
    ]


def _operating_points(calibration: dict[str, np.ndarray], no_calls: dict[str, str]) -> list[str]:
    """Thresholds of every score, or why there are none; `no_calls`: scores that call no image, with the reason."""
    if not calibration:
        lacking = "None: no normal images were held out for calibration (`splits.calibration`)."
        return [lacking, "Scores have no percentile, and no image is called normal or abnormal."]
    rows = []
    for score, values in calibration.items():
        point = operating_point(values)
        found = (f"{point.threshold:.5g}", f"{point.low:.3f} to {point.high:.3f}") if point else ("too few images", "")
        found = (f"no calls: {no_calls[score]}", "") if score in no_calls else found
        rows.append((f"`{score}`", *found))
    header = [
        "score",
        f"abnormal above (specificity {SPECIFICITY:g})",
        f"specificity reached, {CONFIDENCE:.0%} interval",
    ]
    return _table(header, rows)


def _domain(model: Model) -> list[str]:
    """Statistics of the training images, and which checks they allow."""
    training, shares = model.group("training"), model.about["mask_shares"]
    rows = [
        (MEASURES[name], *(f"{value:.4g}" for value in np.percentile(training[name], [5, 50, 95]))) for name in MEASURES
    ]
    masks = [
        f"{MASKS[name]}: {share:.1%} of the training images, so such an image is "
        f"{'' if share <= RARE else 'not '}flagged"
        for name, share in shares.items()
    ]
    return [
        *_table(["measure", "5 %", "median", "95 %"], rows),
        "",
        f"An image is flagged beyond a distance of {distance_limit(training['distance']):.4g}. {'; '.join(masks)}.",
        f"A folder is warned of where a measure's distribution differs at p < {DRIFT:g} over all of them.",
    ]


def _table(header: list[str], rows: list[tuple[Any, ...]]) -> list[str]:
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in [header, ["---"] * len(header), *rows]]
    return [f"| {' | '.join(row)} |" for row in cells]
