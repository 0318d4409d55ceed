"""DDAD-AE and DDAD-AE-U: where two ensembles of autoencoders, with and without unlabeled images, disagree.

Module B is K networks trained on T_n, module A is K on T_n and T_u. Without T_u there is no module A and no score
inter. Source: Cai et al. 2022, "Dual-distribution discrepancy for anomaly detection in chest X-rays".
"""

import pandas as pd
import torch
from torch import Tensor, nn

from amae.comparators.autoencoder import load_network, train_network
from amae.comparators.interface import Fitted, Scores, TestData, TrainingData
from amae.comparators.settings import EnsembleSettings
from amae.comparators.shared import signed
from amae.data.resize import BATCH, resize
from amae.method.training import Resume, resume_of, seed_of
from amae.runtime.tensors import prefixed, under


def fit(data: TrainingData, settings: EnsembleSettings, seed: int, resume: Resume, uncertain: bool) -> Fitted:
    """Train the K networks of module B on T_n and, where there is a T_u, those of module A on both.

    Seeds are drawn by module and network, so module B is the same with and without T_u.
    """
    normal = resize(data.normal, settings.image_size)
    images = {"B": normal}
    if len(data.unlabeled):
        images["A"] = torch.cat([normal, resize(data.unlabeled, settings.image_size)])
    state, histories = {}, []
    for module, number in [(module, number) for module in images for number in range(settings.networks)]:
        own_seed = seed_of(seed, "BA".index(module), number)
        own_resume = resume_of(resume, f"{module}{number}")
        network, history = train_network(images[module], settings, own_seed, own_resume, uncertain)
        state |= prefixed(network.state_dict(), f"{module}.{number}")
        histories.append(history.assign(network=f"{module}{number}"))
    return state, pd.concat(histories, ignore_index=True)


@torch.no_grad()
def score(state: dict[str, Tensor], data: TestData, settings: EnsembleSettings, uncertain: bool) -> Scores:
    """Means over pixels of rec (x - mu_B)^2, intra (standard deviation over B) and, with an A, inter |mu_A - mu_B|.

    float32 `(N,)` each. Where variances are predicted, intra and inter are divided at each pixel by the root of module
    B's mean variance: that of B for both, so that intra is the same under both protocols.
    """
    modules = load_modules(state, settings, uncertain, data.images.device)
    parts: dict[str, list[Tensor]] = {}
    for batch in resize(data.images, settings.image_size).split(BATCH):
        for name, score_map in score_maps(modules, signed(batch)).items():
            parts.setdefault(name, []).append(score_map.flatten(1).mean(1))
    return {name: torch.cat(each) for name, each in parts.items()}


def load_modules(
    state: dict[str, Tensor], settings: EnsembleSettings, uncertain: bool, device: torch.device
) -> dict[str, list[nn.Sequential]]:
    """The networks of each module of a trained DDAD, ready to reconstruct."""
    return {
        module: [
            load_network(under(state, f"{module}.{number}"), settings, uncertain, device)
            for number in range(settings.networks)
        ]
        for module in sorted({name[0] for name in state} & set("AB"))
    }


def score_maps(modules: dict[str, list[nn.Sequential]], target: Tensor) -> dict[str, Tensor]:
    """Score maps `(B, 1, S, S)` by name (see `score`) of images `(B, 1, S, S)` in [-1, 1]."""
    outputs = {module: torch.stack([network(target) for network in each]) for module, each in modules.items()}
    return _maps(target, outputs)


def _maps(target: Tensor, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Score maps `(B, 1, S, S)` from the outputs `(K, B, 1 or 2, S, S)` of each module."""
    means = {module: output[:, :, :1] for module, output in outputs.items()}
    mu = {module: mean.mean(0) for module, mean in means.items()}
    log_variance = outputs["B"][:, :, 1:]
    sigma = log_variance.exp().mean(0).sqrt() if log_variance.shape[2] else 1.0
    maps = {"rec": (target - mu["B"]).square(), "intra": means["B"].std(0, correction=0) / sigma}
    if "A" in mu:
        maps["inter"] = (mu["A"] - mu["B"]).abs() / sigma
    return maps
