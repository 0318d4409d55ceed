"""Losses of several comparators: structural similarity of images, and the focal loss.

Sources: Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity"; Wang, Simoncelli
and Bovik 2003, "Multi-scale structural similarity for image quality assessment"; Lin et al. 2017, "Focal loss for dense
object detection".
"""

import torch
import torch.nn.functional as F
from torch import Tensor

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, finest first
WINDOW, DEVIATION = 11, 1.5  # of the Gaussian window, in pixels
K1, K2 = 0.01, 0.03
FOCUS = 2  # exponent of the focal loss
TINY = 1e-6  # least factor: a negative one has no power, and at 0 the slope of a power is infinite


def ssim(x: Tensor, y: Tensor, span: float) -> Tensor:
    """Mean structural similarity of images `(B, C, S, S)` over all places of the window; `span` as below."""
    return _parts(x, y, span)[0].mean()


def multi_scale_ssim(x: Tensor, y: Tensor, span: float) -> Tensor:
    """MS-SSIM of images `(B, C, S, S)`, in [0, 1], mean over channels: `(B,)`. `span`: width of the intensities' range.

    Images too small for five scales, 176 px, have as many as leave room for a window, with weights scaled to sum to 1.
    """
    scales = min(len(WEIGHTS), (x.shape[-1] // WINDOW).bit_length())
    weights = torch.tensor(WEIGHTS[:scales], device=x.device)
    factors = []
    for scale in range(scales):
        luminance, structure = (each.mean((2, 3)) for each in _parts(x, y, span))
        factors.append(luminance if scale == scales - 1 else structure)
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    powers = torch.stack(factors).clamp(min=TINY) ** (weights / weights.sum())[:, None, None]
    return powers.prod(0).mean(1)


def _parts(x: Tensor, y: Tensor, span: float) -> tuple[Tensor, Tensor]:
    """SSIM, and its factor of contrast and structure, around each pixel that has a whole window."""
    place = torch.arange(WINDOW, device=x.device) - WINDOW // 2
    line = torch.softmax(-(place**2) / (2 * DEVIATION**2), 0)
    window = (line[:, None] * line)[None, None].expand(x.shape[1], 1, -1, -1)

    def local(image: Tensor) -> Tensor:
        return F.conv2d(image, window, groups=x.shape[1])

    mean_x, mean_y = local(x), local(y)
    var_x, var_y, covariance = local(x * x) - mean_x**2, local(y * y) - mean_y**2, local(x * y) - mean_x * mean_y
    c1, c2 = (K1 * span) ** 2, (K2 * span) ** 2
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return structure * (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1), structure


def focal_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Mean over pixels of -(1 - p)^2 log p, p the probability of a pixel's own class, of logits `(B, 2, S, S)`.

    `mask`: class 1, bool `(B, S, S)`. Classes have no weights.
    """
    log_p = -F.cross_entropy(logits, mask.long(), reduction="none")
    return ((1 - log_p.exp()) ** FOCUS * -log_p).mean()
