"""AnatPaste: synthetic anomalies that respect the anatomy, in batches on the device of the images.

A patch of the radiograph, slightly changed in brightness and contrast, is pasted with soft edges and some
transparency at another place inside the lungs: `Aug(x) = x * (1 - alpha) + patch * alpha`. Source: Sato et al. 2022,
"Anatomy-aware self-supervised learning for anomaly detection in chest radiographs", and the published code; used by
AMAE (Bozorgtabar et al. 2023, Sec. 2.1, Eq. 1). All lengths in pixels are stated at an image size of 256 and scale
with the image height.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

AREA = (0.02, 0.15)  # of the image
LOG_ASPECT = (math.log(0.3), math.log(1 / 0.3))
JITTER = 0.1  # brightness and contrast factors are uniform in 1 -+ JITTER
MARGIN = 10  # pixels at 256, between the patch's edge and the pasted shape
OPACITY = (150, 254)  # of 255, inclusive
BLUR = 14  # largest radius (= standard deviation), pixels at 256, inclusive
SMALLEST = 3  # pixels; a patch must hold a pixel of shape and a margin around it


@dataclass(frozen=True)
class PasteParameters:
    """What is random about a batch of pastes. Every field is a tensor (B,); places and sizes are in pixels.

    `source_top`, `source_left`, `height`, `width`: where the patch is cut. `centre_row`, `centre_column`: the pixel on
    which its pixel (height // 2, width // 2) is pasted. `ellipse`: bool, else a rectangle. `opacity`: 150/255 to
    254/255. `blur`: standard deviation in pixels of the images. `brightness`, `contrast`: factors, 0.9 to 1.1.
    """

    source_top: Tensor
    source_left: Tensor
    height: Tensor
    width: Tensor
    centre_row: Tensor
    centre_column: Tensor
    ellipse: Tensor
    opacity: Tensor
    blur: Tensor
    brightness: Tensor
    contrast: Tensor


def anatpaste(images: Tensor, masks: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw parameters and paste: `paste(images, masks, draw_parameters(masks, generator))`."""
    return paste(images, masks, draw_parameters(masks, generator))


def draw_parameters(masks: Tensor, generator: torch.Generator) -> PasteParameters:
    """Draw the parameters of one paste for each lung mask, bool (B, H, W).

    Area U(0.02, 0.15) of the image, aspect (width/height) log-uniform in [0.3, 1/0.3], source uniform over the places
    where the patch fits, centre uniform over the pixels of the mask (over the image where the mask is empty), ellipse
    or rectangle with equal chance, opacity U{150..254}/255, blur U{0..14} px at 256, brightness and contrast U(0.9,
    1.1). Numbers are drawn on the generator's device, so a CPU generator gives the same anomalies on every device.
    Source: Sato et al. 2022 and the published code.
    """
    batch, rows, columns = masks.shape
    draws = torch.rand(10, batch, generator=generator, device=generator.device).to(masks.device)
    area = uniform(draws[0], *AREA) * (rows * columns)
    aspect = uniform(draws[1], *LOG_ASPECT).exp()
    height = (area / aspect).sqrt().round().long().clamp(min(SMALLEST, rows), rows)
    width = (area * aspect).sqrt().round().long().clamp(min(SMALLEST, columns), columns)
    centre = uniform_pixel(_allowed(masks), draws[2])
    return PasteParameters(
        source_top=uniform_integer(draws[3], rows - height + 1),
        source_left=uniform_integer(draws[4], columns - width + 1),
        height=height,
        width=width,
        centre_row=centre // columns,
        centre_column=centre % columns,
        ellipse=draws[5] < 0.5,
        opacity=(OPACITY[0] + uniform_integer(draws[6], OPACITY[1] - OPACITY[0] + 1)) / 255,
        blur=uniform_integer(draws[7], BLUR + 1) * (rows / 256),
        brightness=uniform(draws[8], 1 - JITTER, 1 + JITTER),
        contrast=uniform(draws[9], 1 - JITTER, 1 + JITTER),
    )


def paste(images: Tensor, masks: Tensor, parameters: PasteParameters) -> tuple[Tensor, Tensor]:
    """Paste one patch into each image: `images * (1 - alpha) + patch * alpha`.

    `images`: float32 (B, H, W) in [0, 1]. `masks`: lung masks, bool (B, H, W); an empty one allows every place. Returns
    the pasted images and alpha, both float32 (B, H, W) in [0, 1]. Alpha is the blurred shape times the opacity, cut
    to the patch's rectangle, the image and the lung mask; where it is 0 the image is unchanged, bit for bit. Source:
    Sato et al. 2022; AMAE Eq. 1.
    """
    with torch.autocast(images.device.type, enabled=False):  # half precision would coarsen grey levels and soft edges
        alpha = soft_shape(parameters, images.shape[1], images.shape[2]) * _allowed(masks)
        patch = shifted_patch(images, parameters)
        return images * (1 - alpha) + patch * alpha, alpha


def soft_shape(parameters: PasteParameters, rows: int, columns: int) -> Tensor:
    """Opacity of the pasted shape before the lung mask, float32 (B, rows, columns) in [0, 1].

    The ellipse or rectangle fills the patch but for a margin of 10 px at 256 (less where that would leave no pixel),
    and is blurred by a Gaussian over the patch. The margin keeps the patch's outermost pixels empty, so that it does
    not matter how a blur continues the patch beyond its edge; nothing is drawn outside the patch.
    """
    p = parameters
    device = p.height.device
    # No patch is longer than this; the shape lives in patch coordinates, as a patch may reach beyond the image.
    longest_row = _longest(rows, columns, rows)
    longest_column = _longest(rows, columns, columns)
    margin = max(1, round(MARGIN * rows / 256))
    down = _offset(torch.arange(longest_row, device=device), p.height, margin)[:, :, None]
    across = _offset(torch.arange(longest_column, device=device), p.width, margin)[:, None, :]
    ellipse = down.square() + across.square() <= 1
    rectangle = (down.abs() < 1) & (across.abs() < 1)
    shape = torch.where(p.ellipse[:, None, None], ellipse, rectangle).float()
    down_blur = _blur_matrix(p.centre_row - p.height // 2, p.height, p.blur, rows, longest_row)
    across_blur = _blur_matrix(p.centre_column - p.width // 2, p.width, p.blur, columns, longest_column)
    soft = down_blur @ shape @ across_blur.transpose(1, 2)
    return soft * p.opacity[:, None, None]


def shifted_patch(images: Tensor, parameters: PasteParameters) -> Tensor:
    """Jittered patch at its new place, float32 (B, H, W) in [0, 1]; values outside its rectangle mean nothing.

    Brightness multiplies, then contrast scales around the patch's mean, each clipped to [0, 1], as torchvision's
    ColorJitter does. Its order is random, here it is fixed: without clipping the two orders give the same.
    """
    p = parameters
    batch, rows, columns = images.shape
    bright = (images * p.brightness[:, None, None]).clamp(0, 1)
    down = torch.arange(rows, device=images.device)
    across = torch.arange(columns, device=images.device)
    in_rows = _inside(down, p.source_top, p.height).float()
    in_columns = _inside(across, p.source_left, p.width).float()
    total = torch.einsum("bh,bhw,bw->b", in_rows, bright, in_columns)
    mean = (total / (p.height * p.width))[:, None, None]
    jittered = (mean + (bright - mean) * p.contrast[:, None, None]).clamp(0, 1)
    source_row = down + (p.source_top - p.centre_row + p.height // 2)[:, None]
    source_column = across + (p.source_left - p.centre_column + p.width // 2)[:, None]
    return jittered[
        torch.arange(batch, device=images.device)[:, None, None],
        source_row.clamp(0, rows - 1)[:, :, None],
        source_column.clamp(0, columns - 1)[:, None, :],
    ]


def uniform(draw: Tensor, low: float, high: float) -> Tensor:
    """Map uniform numbers in [0, 1) to [low, high)."""
    return low + (high - low) * draw


def uniform_integer(draw: Tensor, count: Tensor | int) -> Tensor:
    """Map uniform numbers in [0, 1) to integers, int64, uniform over 0 .. count - 1."""
    return (draw * count).long().clamp(max=count - 1)  # the product can round up to count


def uniform_pixel(allowed: Tensor, draw: Tensor) -> Tensor:
    """Flat index (B,) of one pixel, uniform over those allowed, bool (B, H, W), each image with at least one."""
    counts = allowed.flatten(1).cumsum(1, dtype=torch.int32)
    nth = (uniform_integer(draw, counts[:, -1]) + 1).int()
    return torch.searchsorted(counts, nth[:, None])[:, 0]


def _allowed(masks: Tensor) -> Tensor:
    """The mask, or everywhere where it is empty, bool (B, H, W)."""
    return masks | ~masks.flatten(1).any(dim=1)[:, None, None]


def _longest(rows: int, columns: int, side: int) -> int:
    """Longest patch along an axis of the given length."""
    longest = math.sqrt(AREA[1] * rows * columns * math.exp(LOG_ASPECT[1]))
    return min(side, max(SMALLEST, math.ceil(longest)))


def _inside(positions: Tensor, start: Tensor, length: Tensor) -> Tensor:
    """Whether each position is one of `length` pixels from `start`, bool (B, positions)."""
    offset = positions - start[:, None]
    return (offset >= 0) & (offset < length[:, None])


def _offset(positions: Tensor, length: Tensor, margin: int) -> Tensor:
    """Distance of pixel centres from the patch's middle in units of half the inset shape's side, (B, positions)."""
    half_side = length / 2 - ((length - 1) // 2).clamp(max=margin)
    return (positions + 0.5 - length[:, None] / 2) / half_side[:, None]


def _blur_matrix(start: Tensor, length: Tensor, blur: Tensor, side: int, longest: int) -> Tensor:
    """Gaussian from patch pixels to the image's pixels, (B, side, longest), 0 outside the patch.

    Row i, column j: weight of the patch's pixel j in the image's pixel i, when the patch begins at pixel `start`.
    """
    spread = 2 * blur.clamp(min=1e-3).square()  # 1e-3 pixels is no blur in float32
    # A weight depends on i - j alone: each is computed once, and the matrix is a window that moves over them.
    between = torch.arange(1 - longest, side, device=start.device) - start[:, None]  # (B, longest + side - 1)
    weights = (between.square() / -spread[:, None]).exp()
    kernel = torch.arange(-2 * side, 2 * side + 1, device=start.device).square() / -spread[:, None]
    weights = (weights / kernel.exp().sum(1, keepdim=True)).unfold(1, longest, 1).flip(2)
    return weights * _inside(torch.arange(side, device=start.device), start, length)[:, :, None]
