"""AnatPaste: synthetic anomalies that respect the anatomy, in batches on the device of the images.

A patch from anywhere in the radiograph, slightly changed in brightness and contrast, is pasted with soft edges and some
transparency into the lungs: `Aug(x) = x * (1 - alpha) + patch * alpha`. Source: Sato et al. 2022,
"Anatomy-aware self-supervised learning for anomaly detection in chest radiographs", and the published code; used by
AMAE (Bozorgtabar et al. 2023, Sec. 2.1, Eq. 1). All lengths in pixels are stated at an image size of 256 and scale
with the image height.
"""

import math
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

AREA = (0.02, 0.15)  # of the image
LOG_ASPECT = (math.log(0.3), math.log(1 / 0.3))
JITTER = 0.1  # brightness and contrast factors are uniform in 1 -+ JITTER
MARGIN = 10  # pixels at 256, between the patch's edge and the pasted shape
OPACITY = (150, 254)  # of 255, inclusive
BLUR = 14  # largest radius (= standard deviation), pixels at 256, inclusive
SMALLEST = 3  # pixels; a patch must contain a pixel of shape and a margin around it


@dataclass(frozen=True)
class PasteParameters:
    """Random draws of a batch of pastes. Every field is a tensor (B,); places and sizes are in pixels.

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
    centre_row, centre_column = uniform_pixel(masks, draws[2])
    return PasteParameters(
        source_top=uniform_integer(draws[3], rows - height + 1),
        source_left=uniform_integer(draws[4], columns - width + 1),
        height=height,
        width=width,
        centre_row=centre_row,
        centre_column=centre_column,
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
    return (paste_each if images.device.type == "cpu" else paste_batch)(images, masks, parameters)


def paste_batch(images: Tensor, masks: Tensor, parameters: PasteParameters) -> tuple[Tensor, Tensor]:
    """`paste` with all pixels of all images at once, as a GPU likes it; waits for no value."""
    with torch.autocast(images.device.type, enabled=False):  # half precision would coarsen grey levels and soft edges
        allowed = masks | _empty(masks)[:, None, None]
        alpha = soft_shape(parameters, images.shape[1], images.shape[2]) * allowed
        patch = shifted_patch(images, parameters)
        return images * (1 - alpha) + patch * alpha, alpha


def paste_each(images: Tensor, masks: Tensor, parameters: PasteParameters) -> tuple[Tensor, Tensor]:
    """`paste` image by image with the few pixels of the patch alone, as a CPU likes it."""
    p = parameters
    rows, columns = images.shape[1:]
    down, across = (offsets.numpy() for offsets in _offsets(p, rows, columns))
    longest = max(down.shape[1], across.shape[1])
    kernels = _gaussian(torch.arange(1 - longest, longest), p.blur)
    kernels = (kernels / kernels.sum(1, keepdim=True)).numpy()
    empty = _empty(masks).tolist()
    result = images.clone(), torch.zeros_like(images)
    # Views of the same memory: NumPy takes less time than torch to begin an operation.
    old, allowed, pasted, alpha = (tensor.numpy() for tensor in (images, masks, *result))
    values = [getattr(p, field.name).tolist() for field in fields(p)]
    for i, one in enumerate(zip(*values, strict=True)):
        source_top, source_left, height, width, row, column, ellipse, opacity, _, brightness, contrast = one
        top, left = row - height // 2, column - width // 2
        # What of the patch lies in the image, and where.
        shown = slice(max(-top, 0), rows - top), slice(max(-left, 0), columns - left)
        place = i, slice(max(top, 0), top + height), slice(max(left, 0), left + width)
        y, x = down[i, :height, None], across[i, :width]
        shape = y * y + x * x <= 1 if ellipse else (abs(y) < 1) & (abs(x) < 1)
        down_blur = _window(kernels[i], height)[shown[0]]
        across_blur = _window(kernels[i], width)[:, shown[1]]
        soft = down_blur @ shape.astype(np.float32) @ across_blur * np.float32(opacity)
        if not empty[i]:
            soft *= allowed[place]
        cut = old[i, source_top : source_top + height, source_left : source_left + width]
        bright = np.minimum(cut * np.float32(brightness), 1)
        mean = bright.mean()
        patch = (mean + (bright[shown] - mean) * np.float32(contrast)).clip(0, 1)
        pasted[place] = old[place] * (1 - soft) + patch * soft
        alpha[place] = soft
    return result


def soft_shape(parameters: PasteParameters, rows: int, columns: int) -> Tensor:
    """Opacity of the pasted shape before the lung mask, float32 (B, rows, columns) in [0, 1].

    The ellipse or rectangle fills the patch but for a margin of 10 px at 256 (less where that would leave no pixel),
    and is blurred by a Gaussian over the patch. The margin keeps the patch's outermost pixels empty, so that it does
    not matter how a blur continues the patch beyond its edge; nothing is drawn outside the patch.
    """
    p = parameters
    down, across = _offsets(p, rows, columns)
    down_blur = _blur_matrix(p.centre_row - p.height // 2, p.height, p.blur, rows, down.shape[1])
    across_blur = _blur_matrix(p.centre_column - p.width // 2, p.width, p.blur, columns, across.shape[1])
    down, across = down[:, :, None], across[:, None, :]
    ellipse = down.square() + across.square() <= 1
    rectangle = (down.abs() < 1) & (across.abs() < 1)
    shape = torch.where(p.ellipse[:, None, None], ellipse, rectangle).float()
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


def uniform_pixel(masks: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column (B,) of one pixel, uniform over those of the mask, bool (B, H, W); of all where it is empty."""
    everywhere = _empty(masks)[:, None]
    in_row = masks.view(torch.uint8).sum(2, dtype=torch.int32).masked_fill(everywhere, masks.shape[2])
    until = in_row.cumsum(1, dtype=torch.int32)
    nth = (uniform_integer(draw, until[:, -1]) + 1).int()[:, None]
    row = torch.searchsorted(until, nth)
    nth_in_row = nth - (until - in_row).gather(1, row)
    of_row = masks[torch.arange(len(masks), device=masks.device), row[:, 0]] | everywhere
    return row[:, 0], torch.searchsorted(of_row.cumsum(1, dtype=torch.int32), nth_in_row)[:, 0]


def _empty(masks: Tensor) -> Tensor:
    """True where no pixel is set, bool (B,), of masks bool (B, H, W)."""
    return masks.view(torch.uint8).amax((1, 2)) == 0


def _offsets(p: PasteParameters, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Distance of the patch's pixel centres from its middle in units of half the inset shape's side, down and across.

    Float32 (B, longest patch along the axis), in patch coordinates, as a patch may reach beyond the image.
    """
    margin = max(1, round(MARGIN * rows / 256))
    longest = math.ceil(math.sqrt(AREA[1] * rows * columns * math.exp(LOG_ASPECT[1])))

    def offset(length: Tensor, side: int) -> Tensor:
        positions = torch.arange(min(side, max(SMALLEST, longest)), device=length.device)
        half_side = length / 2 - ((length - 1) // 2).clamp(max=margin)
        return (positions + 0.5 - length[:, None] / 2) / half_side[:, None]

    return offset(p.height, rows), offset(p.width, columns)


def _inside(positions: Tensor, start: Tensor, length: Tensor) -> Tensor:
    """True where a position is one of `length` pixels from `start`, bool (B, positions)."""
    offset = positions - start[:, None]
    return (offset >= 0) & (offset < length[:, None])


def _gaussian(distance: Tensor, blur: Tensor) -> Tensor:
    """exp(-distance^2 / (2 blur^2)), float32 (B, N), at distances (N,) or (B, N) for each blur (B,), all in pixels."""
    spread = 2 * blur.clamp(min=1e-3).square()  # 1e-3 pixels is no blur in float32
    return (distance.square() / -spread[:, None]).exp()


def _window(kernel: np.ndarray, length: int) -> np.ndarray:
    """Matrix (length, length) that blurs so many pixels: i, j is the weight of pixel j in pixel i.

    `kernel`: weights at the distances 1 - K to K - 1, symmetric, K at least `length`.
    """
    weights = kernel[len(kernel) // 2 + 1 - length :]
    return np.ndarray((length, length), np.float32, weights, strides=2 * weights.strides).copy()  # row i begins at i


def _blur_matrix(start: Tensor, length: Tensor, blur: Tensor, side: int, longest: int) -> Tensor:
    """Gaussian from patch pixels to the image's pixels, (B, side, longest), 0 outside the patch.

    Row i, column j: weight of the patch's pixel j in the image's pixel i, when the patch begins at pixel `start`.
    """
    # A weight depends on i - j alone: each is computed once, and the matrix is a window that moves over them.
    between = torch.arange(1 - longest, side, device=start.device) - start[:, None]  # (B, longest + side - 1)
    total = _gaussian(torch.arange(-2 * side, 2 * side + 1, device=start.device), blur).sum(1, keepdim=True)
    weights = (_gaussian(between, blur) / total).unfold(1, longest, 1).flip(2)
    return weights * _inside(torch.arange(side, device=start.device), start, length)[:, :, None]
