"""One-class image models of anomalib (https://github.com/open-edge-platform/anomalib), trained by its own Engine.

The optional extra `anomalib` installs it. An image scores by the model's own image score, or by the maximum of its map
where it has none; anomalib's normalisation to 0 to 1 and its threshold, which need labelled images, are left out.
"""

import inspect
import logging
import warnings
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from amae.comparators.interface import Fitted, Scores, TestData, TrainingData
from amae.comparators.settings import AnomalibSettings
from amae.method.training import Resume
from amae.runtime.errors import InputError

if TYPE_CHECKING:
    from anomalib.models import AnomalibModule


def fit(data: TrainingData, settings: AnomalibSettings, seed: int, resume: Resume, model: str) -> Fitted:
    """Train the model of this name on T_n: its whole state, and its mean loss by epoch, where it reports one.

    An interrupted training starts again. Raises InputError for a model that is not one-class or lacks something.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of anomalib, Lightning and what they import
        from anomalib.data import ImageBatch
        from anomalib.engine import Engine
        from lightning.pytorch import Callback, seed_everything

        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        seed_everything(seed, verbose=False)
        network = _make(model, settings, settings.pre_trained)
        rows: list[dict[str, float]] = []

        class History(Callback):
            """Keep the loss of every epoch."""

            def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
                found = {name: float(value) for name, value in trainer.callback_metrics.items()}
                loss = next((found[name] for name in ("train_loss", "train_loss_epoch", "loss") if name in found), None)
                rows.append({"epoch": trainer.current_epoch + 1, "step": trainer.global_step, "loss": loss})

        batches = DataLoader(
            data.normal,
            settings.batch_size,
            shuffle=True,
            collate_fn=lambda images: ImageBatch(image=_inputs(torch.stack(images))),
            generator=torch.Generator().manual_seed(seed),
        )
        where = data.normal.device
        engine = Engine(
            callbacks=[History()],
            default_root_dir=resume.path.parent,
            max_epochs=settings.epochs,
            accelerator="cpu" if where.type == "cpu" else "gpu",
            devices=1 if where.type == "cpu" else [where.index or 0],
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            num_sanity_val_steps=0,
        )
        try:
            engine.fit(network, train_dataloaders=batches)
        except (AttributeError, NotImplementedError, ValueError, TypeError) as error:  # wants what T_n does not have
            raise InputError(f"anomalib:{model} cannot be trained on T_n alone ({_reason(error)})") from None
    history = pd.DataFrame(rows, columns=["epoch", "step", "lr", "loss"])
    return {name: value.to(where) for name, value in network.state_dict().items()}, history


def score(state: dict[str, Tensor], data: TestData, settings: AnomalibSettings, model: str) -> Scores:
    """The model's image score, `(N,)`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = _make(model, settings, pre_trained=False)
        network.load_state_dict(state)
    network = network.to(data.images.device).eval()
    found = []
    with torch.no_grad():
        for images in data.images.split(settings.batch_size):
            predicted = network(_inputs(images))
            image_score, maps = predicted.pred_score, predicted.anomaly_map
            found.append((maps.amax((-2, -1)) if image_score is None else image_score).reshape(len(images)))
    return {"score": torch.cat(found)}


def _inputs(images: Tensor) -> Tensor:
    """Uint8 `(B, H, W)` as anomalib reads pictures: float32 in [0, 1], three equal channels."""
    return (images.float() / 255)[:, None].expand(-1, 3, -1, -1)


def _make(name: str, settings: AnomalibSettings, pre_trained: bool) -> "AnomalibModule":
    """The untrained model; InputError where anomalib cannot make it so."""
    from anomalib import LearningType
    from anomalib.models import image

    kind = getattr(image, name)
    given: dict[str, Any] = {"post_processor": False, "evaluator": False, "visualizer": False}
    if settings.image_size is not None:
        side = settings.image_size
        given["pre_processor"] = kind.configure_pre_processor(image_size=(side, side))
    known = inspect.signature(kind).parameters
    if "pre_trained" in known:
        given["pre_trained"] = pre_trained
    elif not settings.pre_trained:
        raise InputError(f"pre_trained: found false, but anomalib:{name} has no such choice; leave it true")
    try:
        network = kind(**given)
    except Exception as error:  # whatever a download, or a size that the model refuses, raises
        raise InputError(f"anomalib:{name} cannot be made with these settings ({_reason(error)})") from None
    if network.learning_type != LearningType.ONE_CLASS:
        raise InputError(f"anomalib:{name} is {network.learning_type.value}, expected a one-class model")
    return network


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
