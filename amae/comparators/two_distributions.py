"""Two-distribution error ratio: AMAE's two modules without pseudo-labels, scored by the ratio of their errors.

This project's own. Module A is adapted to T_n, module B to all of T_u by as many steps (a variant of Fig. 3b). Both
reconstruct a test image under many complementary masks, and the score is log(e_A / e_B): it is high where B explains
the hidden patches better. The unsigned difference of the two maps (AMAE, Eq. 4) is reported beside it.
"""

import copy
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor

from amae.comparators.interface import Fitted, Scores, TestData, TrainingData
from amae.comparators.settings import RATIO_MASKS, TwoDistributionSettings, check_ratio_masks
from amae.comparators.shared import trained
from amae.mae.model import MAE
from amae.method.adaptation import train_autoencoder
from amae.method.modules import equal_epochs, module_lr
from amae.method.reconstruct import draw_orders, reconstruct
from amae.method.scores import reconstruction_scores
from amae.method.training import Resume, resume_of
from amae.runtime.tensors import prefixed, under

PART = 256  # test images at a time: maps take memory
NAMES = {"error_ratio": "score", "error_ratio_patch": "patch", "inter": "inter"}


def fit(data: TrainingData, settings: TwoDistributionSettings, seed: int, resume: Resume) -> Fitted:
    """Adapt f_0 and g_0 to T_n and, by as many steps, to T_u.

    Raises InputError before that where the masks of the score do not share out the patches of an image.
    """
    check_ratio_masks(data.encoder.architecture)
    state, histories = {}, []
    for module, images in (("A", data.normal), ("B", data.unlabeled)):
        epochs, warmup = equal_epochs(settings.modules, len(images), len(data.normal))
        of = replace(settings.modules, epochs=epochs, warmup_epochs=warmup)
        model = copy.deepcopy(data.encoder)
        how = {"masks": of.masks, "loss_on": of.loss_on}
        history = train_autoencoder(model, images, of, module_lr(of), seed, resume_of(resume, module), **how)
        state |= prefixed(model.state_dict(), module)
        histories.append(history.assign(network=module))
    return state, pd.concat(histories, ignore_index=True)


def score(state: dict[str, Tensor], data: TestData, settings: TwoDistributionSettings) -> Scores:
    """log(e_A / e_B) over hidden pixels, its mean over patches, and mean |mu_A - mu_B|: `(N,)` each.

    Masks are seeded by (seed, image_id), the same for both modules.
    """
    architecture = data.encoder.architecture
    orders = draw_orders(list(data.ids), data.seed, architecture.patches, RATIO_MASKS)
    models = [trained(MAE(architecture), under(state, module), data.images.device) for module in "AB"]
    found = []
    for images, order in zip(data.images.split(PART), orders.split(PART), strict=True):
        (mu_a, error_a), (mu_b, _) = (reconstruct(model, images, order, RATIO_MASKS) for model in models)
        arrays = (each.cpu().numpy() for each in (images, mu_a, mu_b, error_a))
        found.append(reconstruction_scores(*arrays, architecture.patch_size))
    table = pd.concat(found, ignore_index=True)
    return {name: torch.from_numpy(table[column].to_numpy(copy=True)) for column, name in NAMES.items()}
