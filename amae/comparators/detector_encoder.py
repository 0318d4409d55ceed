"""The detector with f_0, fine-tuned, in the place of the small residual network (`amae.method.detector`).

This project's own: the paper has no such row. It suits an f_0 that was pre-trained on many radiographs.
"""

from torch import Tensor

from amae.comparators.detector import fitted, unlabeled_of
from amae.comparators.interface import Fitted, Scores, TestData, TrainingData
from amae.comparators.shared import trained
from amae.data.splits import folds_of
from amae.method.detector import FineTuned, fit_rounds, score_maps
from amae.method.training import Resume
from amae.runtime.tensors import under
from amae.settings import FineTunedSettings


def fit(data: TrainingData, settings: FineTunedSettings, seed: int, resume: Resume) -> Fitted:
    """Fine-tune f_0 without each fold of patients. State as that of the detector."""
    unlabeled = unlabeled_of(data)
    folds = folds_of(unlabeled, list(data.patients), settings.folds)

    def make() -> FineTuned:
        return FineTuned(data.encoder, settings.layer_decay)

    return fitted(unlabeled, *fit_rounds(data.pooled, unlabeled, folds, None, settings, seed, resume, make))


def score(state: dict[str, Tensor], data: TestData, settings: FineTunedSettings) -> Scores:
    """Mean over patches, networks and mirror images of the logit of T_u, float32 `(N,)`."""
    networks = [
        trained(FineTuned(data.encoder, settings.layer_decay), under(state, f"network{number}"), data.images.device)
        for number in range(settings.folds)
    ]
    return {"score": score_maps(networks, data.images).mean((1, 2))}
