"""Parts of several comparators: input in [-1, 1], and trained networks."""

import pandas as pd
import torch
from torch import Tensor, nn


def signed(images: Tensor) -> Tensor:
    """Grey levels 0 to 255, `(B, H, W)`, as network input in [-1, 1]: float32 `(B, 1, H, W)`."""
    return images[:, None].float() / 127.5 - 1


def trained(network: nn.Module, state: dict[str, Tensor], device: torch.device) -> nn.Module:
    """The network with a trained state, on a device and ready to score."""
    network.load_state_dict(state)
    return network.to(device).eval()


def no_history() -> pd.DataFrame:
    """History of a method that is not trained in epochs."""
    return pd.DataFrame(columns=["epoch", "step", "lr", "loss"])
