"""Random crops, rotations and flips with one draw per image, in batches on the device of the images.

torchvision's transforms draw one box for a whole batch; a loop over images would keep the processor busy and a GPU
waiting.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

SCALE, RATIO = (0.5, 1.0), (3 / 4, 4 / 3)  # of a box: its share of the image's area, its width by its height
TRIES = 10  # candidate boxes per image before the fallback, as in torchvision


def random_resized_crop_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Crop a random box out of each image, resize it to the image's size (bicubic), and flip half of them left to
    right.

    `images`: float32 (B, C, H, W), any value range; the result has the same shape. Values may overshoot the image's
    range a little at sharp edges, as bicubic does. Numbers are drawn on the generator's device. Source: Medical-MAE
    (Xiao et al. 2023), whose SCALE is 0.5 to 1; MAE (He et al. 2022, appendix A.1) trains with 0.2 to 1.
    """
    batch, _, height, width = images.shape
    boxes = draw_boxes(batch, height, width, generator, SCALE, RATIO).to(images.device)
    flips = torch.rand(batch, generator=generator, device=generator.device).to(images.device) < 0.5
    return crop_resize_flip(images, boxes, flips)


def draw_boxes(
    batch: int,
    height: int,
    width: int,
    generator: torch.Generator,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> Tensor:
    """Draw boxes (top, left, height, width) in pixels, int64 (B, 4), distributed as torchvision's RandomResizedCrop.

    Area uniform, aspect log-uniform, place uniform; the first of ten candidates that fits, else the largest centred
    box of an allowed aspect.
    """
    draws = torch.rand(4, batch, TRIES, generator=generator, device=generator.device)
    area = height * width * (scale[0] + (scale[1] - scale[0]) * draws[0])
    aspect = torch.exp(math.log(ratio[0]) + (math.log(ratio[1]) - math.log(ratio[0])) * draws[1])
    widths = (area * aspect).sqrt().round()
    heights = (area / aspect).sqrt().round()
    valid = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    tops = (draws[2] * (height - heights + 1)).floor().minimum(height - heights)
    lefts = (draws[3] * (width - widths + 1)).floor().minimum(width - widths)
    # The fallback is one candidate more, always valid.
    centred = _centred_box(height, width, ratio)
    columns = [
        pad(column, (0, 1), value=value) for column, value in zip((tops, lefts, heights, widths), centred, strict=True)
    ]
    first = pad(valid.int(), (0, 1), value=1).argmax(dim=1)  # argmax gives the first of equals
    return torch.stack(columns, dim=-1)[torch.arange(batch, device=first.device), first].long()


def crop_resize_flip(images: Tensor, boxes: Tensor, flips: Tensor) -> Tensor:
    """Resize each image's box (B, 4) (top, left, height, width) to the image's size; flip where `flips`, bool (B,).

    Bicubic as in Pillow and torchvision (a = -0.5), which see nothing outside the box. The box is never larger than the
    image, so there is nothing to antialias. It is written as one matrix product along each axis: exact, and quick
    everywhere.
    """
    _, _, height, width = images.shape
    down = _resize_matrix(boxes[:, 0], boxes[:, 2], height)  # (B, H, H)
    across = _resize_matrix(boxes[:, 1], boxes[:, 3], width)  # (B, W, W)
    across = torch.where(flips[:, None, None], across.flip(1), across)
    with torch.autocast(images.device.type, enabled=False):  # half precision would coarsen the grey levels
        return down[:, None] @ images.float() @ across.transpose(1, 2)[:, None]


def _resize_matrix(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Bicubic weights (B, size, size): row i, column j is the weight of the image's pixel j in the result's pixel i."""
    pixels = torch.arange(size, device=start.device)
    scale = length / size
    centre = (pixels + 0.5) * scale[:, None] - 0.5 + start[:, None]  # where the result's pixels lie in the image
    weights = _cubic((centre[:, :, None] - pixels).abs())
    end = (start + length)[:, None]
    inside = (pixels >= start[:, None]) & (pixels < end)
    weights = weights * inside[:, None, :]
    return weights / weights.sum(dim=2, keepdim=True)


def _cubic(x: Tensor) -> Tensor:
    """Keys' cubic kernel with a = -0.5 at distance x >= 0."""
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _centred_box(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int, int, int]:
    """Largest centred box with an allowed aspect: (top, left, height, width)."""
    box_height, box_width = height, width
    if width / height < ratio[0]:
        box_height = round(width / ratio[0])
    elif width / height > ratio[1]:
        box_width = round(height * ratio[1])
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def random_affine_flip(
    images: Tensor,
    generator: torch.Generator,
    outside: float,
    scale: float = 0.15,
    degrees: float = 10.0,
    shift: float = 0.04,
    contrast: float = 0.2,
) -> Tensor:
    """Zoom, rotate, shift and flip each image, and change its brightness and contrast, by independent uniform draws.

    `images`: float32 (B, 1, H, W), normalised; the result has the same shape. `outside`: the value beyond the image's
    edge. `scale`: largest relative change of size; `degrees`: largest rotation; `shift`: largest shift, as a share of
    the side; `contrast`: largest relative change of contrast around the image's mean, and largest change of brightness.
    Bilinear. Numbers are drawn on the generator's device.
    """
    batch = len(images)
    draws = torch.rand(7, batch, generator=generator, device=generator.device).to(images.device) * 2 - 1
    angle, zoom = draws[0] * math.radians(degrees), 1 + scale * draws[1]
    flip = torch.where(draws[2] > 0, 1.0, -1.0)
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    across = torch.stack([cos * flip, -sin, 2 * shift * draws[3]], 1)
    down = torch.stack([sin * flip, cos, 2 * shift * draws[4]], 1)
    grid = affine_grid(torch.stack([across, down], 1), list(images.shape), align_corners=False)
    moved = grid_sample(images - outside, grid, align_corners=False) + outside
    mean = moved.mean((1, 2, 3), keepdim=True)
    draws = draws[:, :, None, None, None]
    return (moved - mean) * (1 + contrast * draws[5]) + mean + contrast * draws[6]
