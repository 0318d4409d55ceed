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
        x = (u / np.float32(zoom) - np.float32(depth * math.sin(self.turn))) * np.float32(
            1 / (math.cos(self.turn) * self.size[0])
        )
        y = (v / np.float32(zoom) - np.float32(depth * math.tan(self.tilt))) * np.float32(1 / self.size[1])
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
    grid = np.arange(-TABLE_RANGE, TABLE_RANGE, 1 / TABLE_STEPS)
    return ndimage.gaussian_filter1d(np.interp(grid, at, values), softness * TABLE_STEPS).astype(np.float32)


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
    part = window(x, y, centre, max(axes))
    dx, dy = x[part] - np.float32(centre[0]), y[part[0]] - np.float32(centre[1])
    if angle:
        cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        dx, dy = cosine * dx + sine * dy, cosine * dy - sine * dx
    inside = 1 - (dx * np.float32(1 / axes[0])) ** 2 - (dy * np.float32(1 / axes[1])) ** 2
    path[part] += np.float32(depth) * np.sqrt(np.maximum(inside, 0, out=inside), out=inside)


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


def enlarge(coarse: np.ndarray, shape: tuple[int, int], step: float) -> np.ndarray:
    """Linear interpolation of a coarse grid with `step` pixels between its points, first along rows, then columns."""
    low, part = _taps(shape[0], coarse.shape[0], step)
    tall = coarse.take(low, axis=0)
    tall += part[:, None] * (coarse.take(low + 1, axis=0) - tall)
    low, part = _taps(shape[1], coarse.shape[1], step)
    fine = tall.take(low, axis=1)
    slope = (tall[:, 1:] - tall[:, :-1]).take(low, axis=1)
    slope *= part
    fine += slope
    return fine


def _taps(fine: int, coarse: int, step: float) -> tuple[np.ndarray, np.ndarray]:
    at = np.minimum((np.arange(fine) + 0.5) / step, coarse - 1.001)
    low = at.astype(int)
    return low, (at - low).astype(np.float32)
