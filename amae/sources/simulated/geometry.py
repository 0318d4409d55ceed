"""Body coordinates, their projection onto the detector, and the two ways to draw attenuating matter.

Body coordinates are centimetres in a standard adult: x to the patient's left (the right of the image), y towards the
feet from the carina, z to the front from the middle of the chest. A body scales them, a pose turns, tilts and shifts
them, and the point source magnifies each depth by its distance from the detector.
"""

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy import ndimage

from amae.sources.simulated.facts import Facts, stream

TABLE_RANGE, TABLE_STEPS = 32.0, 32  # look-up tables span -32 to 32 cm with 32 entries a centimetre
BLOCK = 16384  # points handled at once, so that temporary arrays stay in the cache


@dataclass(frozen=True)
class Frame:
    """One exposure: detector matrix, pixel size (cm), source distance (cm), and how the body stands before it."""

    rows: int
    columns: int
    pixel: float
    source_distance: float
    facing: float  # +1: chest towards the detector (PA), -1: back towards the detector (AP)
    size: tuple[float, float, float]  # scale of the standard adult along x, y, z
    turn: float  # about the long axis, radians
    tilt: float  # forward or backward lean, radians
    lean: float  # sideways, radians: a shear that leaves the horizontal horizontal
    centre: tuple[float, float]  # where the carina falls, rows and columns

    def magnification(self, z: np.ndarray | float) -> np.ndarray | float:
        """Source distance over source-to-part distance, for depth `z` in standard cm."""
        behind = 13.0 * self.size[2] + 2.0 - self.facing * z * self.size[2]
        return self.source_distance / (self.source_distance - behind)

    def project(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Body points to (row, column, area magnification)."""
        zoom = self.magnification(z)
        u = zoom * (x * self.size[0] * math.cos(self.turn) + z * self.size[2] * math.sin(self.turn))
        v = zoom * (y * self.size[1] + z * self.size[2] * math.tan(self.tilt))
        column = self.centre[1] + (u - math.tan(self.lean) * v) / self.pixel
        return self.centre[0] + v / self.pixel, column, zoom * zoom

    @cached_property
    def detector(self) -> tuple[np.ndarray, np.ndarray]:
        """Detector coordinates of every pixel centre relative to the carina, cm: u (H, W) and v (H, 1), float32."""
        row = (np.arange(self.rows, dtype=np.float32) - self.centre[0])[:, None] * self.pixel
        column = (np.arange(self.columns, dtype=np.float32) - self.centre[1])[None, :] * self.pixel
        return column + np.float32(math.tan(self.lean)) * row, row

    @cached_property
    def _planes(self) -> dict[float, tuple[np.ndarray, np.ndarray]]:
        return {}

    def plane(self, z: float) -> tuple[np.ndarray, np.ndarray]:
        """Body coordinates of every pixel in the frontal plane at depth `z`: x (H, W), y (H, 1), float32, read only."""
        if z not in self._planes:
            self._planes[z] = self._plane(z)
        return self._planes[z]

    def _plane(self, z: float) -> tuple[np.ndarray, np.ndarray]:
        u, v = self.detector
        zoom = self.magnification(z)
        depth = z * self.size[2]
        wide, high = math.cos(self.turn) * self.size[0], self.size[1]
        x = u * np.float32(1 / (zoom * wide))
        x -= np.float32(depth * math.sin(self.turn) / wide)
        y = v * np.float32(1 / (zoom * high)) - np.float32(depth * math.tan(self.tilt) / high)
        return x, y


def make_frame(facts: Facts, size: tuple[float, float, float]) -> Frame:
    """Draw the pose of one exposure. AP exposures (bedside) are less well centred and straight than PA ones."""
    rng = stream(facts.seed, facts.index, "pose")
    loose = 1.0 if facts.view == "PA" else 1.8
    pixel = facts.spacing / 10
    shift = rng.normal(0, 0.012 * loose, 2) * (facts.rows, facts.columns)
    return Frame(
        rows=facts.rows,
        columns=facts.columns,
        pixel=pixel,
        source_distance=facts.source_distance,
        facing=1.0 if facts.view == "PA" else -1.0,
        size=size,
        turn=float(np.clip(rng.normal(0, np.radians(1.8) * loose), -0.16, 0.16)),
        tilt=float(np.radians(rng.normal(0 if facts.view == "PA" else 5, 2.5))),
        lean=float(np.radians(rng.normal(0, 1.2 * loose))),
        centre=(0.45 * facts.rows + float(shift[0]), 0.5 * facts.columns + float(shift[1])),
    )


def table(knots: list[tuple[float, float]], softness: float = 0.8) -> np.ndarray:
    """Smooth look-up table through `(coordinate, value)` knots; read it with `look_up`."""
    return _table(tuple(map(tuple, knots)), softness)


@lru_cache(maxsize=256)
def _table(knots: tuple[tuple[float, float], ...], softness: float) -> np.ndarray:
    at, values = np.array(knots, dtype=np.float64).T
    sigma = softness * TABLE_STEPS
    half, reach = int(TABLE_RANGE * TABLE_STEPS), int(4 * sigma + 0.5)
    bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    line = np.interp(np.arange(-half - reach, half + reach) / TABLE_STEPS, at, values)
    return np.convolve(line, bell / bell.sum(), mode="valid").astype(np.float32)


def places(coordinate: np.ndarray) -> np.ndarray:
    """Index of each coordinate (cm) into a table."""
    index = ((coordinate + np.float32(TABLE_RANGE)) * np.float32(TABLE_STEPS)).astype(np.int32)
    return np.clip(index, 0, int(2 * TABLE_RANGE * TABLE_STEPS) - 1, out=index)


def look_up(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Table values at indices from `places`."""
    return values.take(index)


def window(x: np.ndarray, y: np.ndarray, centre: tuple[float, float], reach: float) -> tuple[slice, slice]:
    """Rows and columns of a coordinate grid, x (H, W) and y (H, 1); they cover the disc of radius `reach` at centre."""
    across, shear, down = (float(v) for v in (x[0, 1] - x[0, 0], x[1, 0] - x[0, 0], y[1, 0] - y[0, 0]))
    row = (centre[1] - float(y[0, 0])) / down
    column = (centre[0] - float(x[0, 0]) - shear * row) / across
    high, wide = reach / down + 2, reach / across * (1 + abs(shear) / down) + 2
    low, left = max(int(row - high), 0), max(int(column - wide), 0)
    return slice(low, max(int(row + high) + 1, low)), slice(left, max(int(column + wide) + 1, left))


def ellipsoid(
    x: np.ndarray, y: np.ndarray, centre: tuple[float, float], axes: tuple[float, float], depth: float, angle: float = 0
) -> np.ndarray:
    """Path length through an ellipsoid: `depth` on its axis, elliptical outline `axes` turned by `angle` radians."""
    path = np.zeros(x.shape, dtype=np.float32)
    add_ellipsoid(path, x, y, centre, axes, depth, angle)
    return path


def add_ellipsoid(
    path: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    centre: tuple[float, float],
    axes: tuple[float, float],
    depth: float,
    angle: float = 0,
) -> None:
    """Add an ellipsoid's path length to `path` in place, touching only the pixels about it."""
    part, length = ellipsoid_part(x, y, centre, axes, depth, angle)
    path[part] += length


def ellipsoid_part(
    x: np.ndarray, y: np.ndarray, centre: tuple[float, float], axes: tuple[float, float], depth: float, angle: float = 0
) -> tuple[tuple[slice, slice], np.ndarray]:
    """The rows and columns about an ellipsoid, and the path length there in the unit of `depth`, float32."""
    part = window(x, y, centre, max(axes))
    dx, dy = x[part] - np.float32(centre[0]), y[part[0]] - np.float32(centre[1])
    if angle:
        cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        dx, dy = cosine * dx + sine * dy, cosine * dy - sine * dx
    inside = 1 - (dx * np.float32(1 / axes[0])) ** 2 - (dy * np.float32(1 / axes[1])) ** 2
    return part, np.float32(depth) * np.sqrt(np.maximum(inside, 0, out=inside), out=inside)


def parabola(knots: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values (B, T) and derivatives at `t`, 0 to 1, of the parabolas through starts, middles and ends (3, B).

    A short curve is one on the detector, too; so three projected points are enough for all of its others.
    """
    start, middle, end = knots[..., None]
    slope, bend = 4 * middle - 3 * start - end, 2 * (start + end) - 4 * middle
    return start + (slope + bend * t) * t, slope + bend * (2 * t)


def smooth_line(knots: np.ndarray | tuple[tuple[float, ...], ...], steps: int, width: int) -> np.ndarray:
    """Path (3, steps) along straight lines between (K, 3) points, its corners rounded over `width` steps each way."""
    knots, kernel = np.array(knots, dtype=float), np.hanning(2 * width + 1)[1:-1]
    knots = np.stack([2 * knots[0] - knots[1], *knots, 2 * knots[-1] - knots[-2]], axis=1)  # straight on at both ends
    along = 1 + np.arange(1 - width, steps + width - 1) * (knots.shape[1] - 3) / (steps - 1)
    lines = (np.interp(along, np.arange(knots.shape[1]), line) for line in knots)
    return np.stack([np.convolve(line, kernel / kernel.sum(), mode="valid") for line in lines])


def splat(image: np.ndarray, *parts: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Add point masses, given as (row, column, mass) arrays, to `image`; four pixels share each of them bilinearly.

    Mass is path length times area in pixels: the sum of the image grows by the sum of the masses that fall inside.
    """
    for part in parts:
        row, column, mass = (values.astype(np.float32, copy=False).ravel() for values in part)
        for start in range(0, row.size, BLOCK):
            block = slice(start, start + BLOCK)
            _splat_block(image, row[block], column[block], mass[block])


def _splat_block(image: np.ndarray, row: np.ndarray, column: np.ndarray, mass: np.ndarray) -> None:
    rows, columns = image.shape
    inside = (row >= 0) & (row < rows - 1) & (column >= 0) & (column < columns - 1)
    if not inside.all():
        row, column, mass = row[inside], column[inside], mass[inside]
    top, left = np.floor(row), np.floor(column)
    down, right = row - top, column - left
    first = top.astype(np.int64) * columns + left.astype(np.int64)  # add.at is fast with these types alone
    lower = mass * down
    upper = mass - lower
    upper_right, lower_right = upper * right, lower * right
    flat = image.reshape(-1)
    np.add.at(flat, first, upper - upper_right)
    np.add.at(flat[1:], first, upper_right)
    np.add.at(flat[columns:], first, lower - lower_right)
    np.add.at(flat[columns + 1 :], first, lower_right)


def smooth_noise(rng: np.random.Generator, frame: Frame, scale: float) -> np.ndarray:
    """Unit-variance random field with features of about `scale` cm, float32 (H, W)."""
    step = max(scale * 0.6 / frame.pixel, 1.0)
    coarse = rng.standard_normal((int(frame.rows / step) + 4, int(frame.columns / step) + 4), dtype=np.float32)
    coarse = ndimage.gaussian_filter(coarse, 0.8, mode="wrap")
    return enlarge(coarse / max(float(coarse.std()), 1e-6), (frame.rows, frame.columns), step)


def blur_widely(image: np.ndarray, sigma: float, mode: str) -> np.ndarray:
    """Gaussian blur of `sigma` pixels of an image (H, W), float32, on the means of 8 x 8 pixels.

    mode: what lies beyond the border, as in `ndimage.gaussian_filter`.
    """
    starts = [np.arange(0, size, 8) for size in image.shape]
    means = np.add.reduceat(np.add.reduceat(image, starts[0], axis=0), starts[1], axis=1)
    means /= np.outer(*(np.diff(np.append(start, size)) for start, size in zip(starts, image.shape, strict=True)))
    return enlarge(ndimage.gaussian_filter(means, sigma / 8, mode=mode), image.shape, 8, 0.5)


def enlarge(coarse: np.ndarray, shape: tuple[int, int], step: float, first: float = 0.0) -> np.ndarray:
    """Linear interpolation of a coarse grid whose points are `step` pixels apart, the first `first` steps inside.

    Columns come first: they are few before the rows are made. Matrix products would use the threads of BLAS in every
    worker.
    """
    low, part = _taps(shape[1], coarse.shape[1], step, first)
    wide = coarse.take(low, axis=1)
    wide += part * (coarse.take(low + 1, axis=1) - wide)
    low, part = _taps(shape[0], coarse.shape[0], step, first)
    fine = wide.take(low, axis=0)
    rise = np.diff(wide, axis=0).take(low, axis=0)
    rise *= part[:, None]
    fine += rise
    return fine


def _taps(fine: int, coarse: int, step: float, first: float) -> tuple[np.ndarray, np.ndarray]:
    at = np.clip((np.arange(fine) + 0.5) / step - first, 0, coarse - 1.001)
    low = at.astype(int)
    return low, (at - low).astype(np.float32)
