"""Bones as cortical shells with spongy filling, projected point by point: edges and overlaps come by themselves."""

from functools import lru_cache

import numpy as np

from amae.sources.simulated.geometry import Frame, add_ellipsoid, smooth_line, splat, window
from amae.sources.simulated.thorax import Body

RIB_WIDTH = (7.0, 9.5, 11.2, 12.4, 13.2, 13.8, 14.2, 14.4, 14.4, 14.0, 12.6, 10.2)
RIB_DEPTH = (5.0, 6.2, 7.2, 8.0, 8.7, 9.2, 9.5, 9.6, 9.6, 9.5, 9.0, 8.0)
RIB_END = (0.80, 0.82, 0.84, 0.84, 0.83, 0.81, 0.78, 0.72, 0.66, 0.58, 0.44, 0.30)  # of the way from spine to sternum
CLAVICLE = ((1.7, -6.6, 6.5), (5.0, -7.6, 6.6), (9.5, -9.0, 4.0), (13.2, -9.6, 1.0), (16.3, -9.3, -1.0))
HUMERUS = ((17.9, -8.2, 0.0), (18.6, -5.5, 0.0), (20.3, 0.0, 0.0), (22.0, 10.0, 0.0))
Points = list[tuple[np.ndarray, np.ndarray, np.ndarray]]
VERTEBRA = (-8.6, 2.12, 0.020)  # first thoracic level, spacing and its growth, cm


def level(number: np.ndarray | float) -> np.ndarray | float:
    """Height y of thoracic vertebra `number` (1 to 12; other numbers continue the row), cm."""
    step = number - 1
    return VERTEBRA[0] + VERTEBRA[1] * step + VERTEBRA[2] * step * step


def draw_bones(body: Body, frame: Frame) -> np.ndarray:
    """Path through bone mineral in cm of cortical bone, float32 (H, W)."""
    bones = np.zeros((frame.rows, frame.columns), dtype=np.float32)
    points = rib_points(body, frame)
    draw_spine(bones, body, frame)
    points += draw_shoulders(bones, body, frame)
    splat(bones, *points)
    return bones * np.float32(body.bone)


def tube_points(
    frame: Frame,
    path: np.ndarray,
    tall: float | np.ndarray,
    thin: float | np.ndarray,
    shell: float | np.ndarray,
    spongy: float,
    axis: int = 1,
    ring: int = 14,
) -> Points:
    """Point masses (rows, columns, masses) of long bones with an elliptical cross-section, for `splat`.

    path (3, B, U) centre lines in body coordinates; tall, thin half-axes in cm, `tall` along body `axis` as far as the
    line allows; shell: cortical thickness in cm (all three (B, U) or broadcast to it); spongy: density of the filling
    relative to cortex; ring: points around the shell.
    """
    path, tall, thin, shell = (np.asarray(part, dtype=np.float32) for part in (path, tall, thin, shell))
    step = np.gradient(path, axis=-1)
    length = np.linalg.norm(step, axis=0)
    tangent = step / length
    up = -tangent * tangent[axis]
    up[axis] += 1
    up /= np.maximum(np.linalg.norm(up, axis=0), 1e-6)
    out = np.cross(tangent, up, axis=0)
    # The projection is linear about the centre line: points of a ring are sums of its middle and two half-axes.
    ends = np.stack([path, path + tall * up, path + thin * out], axis=1)
    row, column, area = frame.project(*ends)
    row[1:] -= row[0]
    column[1:] -= column[0]
    unit = length * area[0] * np.float32(frame.size[0] * frame.size[1] / frame.pixel**2)
    twist = (np.arange(path.shape[-1]) * 0.618034) % 1.0  # golden ratio: rings never line up into a pattern
    points = []
    for count, scale in ((ring, 1.0), (ring // 3, 0.55)):
        angle = (2 * np.pi / count * (np.arange(count)[:, None, None] + twist)).astype(np.float32)  # (ring, 1, U)
        cosine, sine = np.cos(angle), np.sin(angle)
        if scale == 1.0:
            arc = np.sqrt(thin**2 + (tall**2 - thin**2) * sine**2)
            mass = arc * (unit * shell * np.float32(2 * np.pi / count))
        else:
            mass = np.broadcast_to(unit * tall * thin * np.float32(np.pi * spongy / count), (count, *unit.shape))
        cosine, sine = cosine * np.float32(scale), sine * np.float32(scale)
        points.append((*(part[0] + part[1] * cosine + part[2] * sine for part in (row, column)), mass))
    return points


def rib_paths(body: Body, steps: int) -> np.ndarray:
    """Centre lines (3, 12, steps) of the left ribs from spine to cartilage: arcs in planes that fall forwards."""
    number = np.arange(1, 13)[:, None]
    wide, deep = np.array(RIB_WIDTH)[:, None], np.array(RIB_DEPTH)[:, None]
    angle = np.linspace(0.10, np.pi * np.array(RIB_END), steps, axis=-1)
    x = 1.4 + (wide - 1.4) * np.sin(angle) ** 0.92
    z = -deep * np.cos(angle) * 0.95 - 0.6
    slope = body.rib_slope * (0.72 + 0.04 * number)
    fall = slope * (z + deep) + 0.05 * np.maximum(z + 1, 0) ** 2
    y = level(number) - 0.35 + body.rib_phase * 0.4 + fall - 0.55 * np.exp(-((angle - 0.45) ** 2) / 0.08)
    return np.stack([x, y, z])


def rib_points(body: Body, frame: Frame) -> Points:
    """Twelve pairs of ribs."""
    steps = int(30 / frame.pixel)
    u = np.linspace(0, 1, steps)
    tall = np.where(np.arange(12) > 9, 0.48, 0.62)[:, None] * (0.82 + 0.3 * u - 0.05 * np.cos(9 * u))
    shell = 0.085 - 0.04 * u  # thinner towards the cartilage in front
    paths = both_sides(rib_paths(body, steps))
    return tube_points(frame, paths, np.tile(tall, (2, 1)), np.float32(0.34), shell, 0.075, ring=16)


def draw_spine(bones: np.ndarray, body: Body, frame: Frame) -> None:
    """Vertebral bodies with end plates, pedicles, spinous and transverse processes, from neck to lumbar spine."""
    x, y = frame.plane(-5.5)
    near = np.flatnonzero((np.abs(x) < 5).any(axis=0))
    if near.size == 0:
        return
    part = slice(near[0], near[-1] + 1)
    x, y = x[:, part] - np.float32(body.curve) * np.sin(y * np.float32(0.16)), y
    numbers = np.arange(-6, 18)
    middles = level(numbers.astype(float))
    edges = (middles[1:] + middles[:-1]) / 2
    cell = np.searchsorted(edges, y[:, 0])
    gap = (VERTEBRA[1] + 2 * VERTEBRA[2] * (numbers - 1)).astype(np.float32)[cell][:, None]
    half = (1.35 + 0.045 * np.maximum(numbers, -2)).astype(np.float32)[cell][:, None]
    offset = y - middles.astype(np.float32)[cell][:, None]
    weak = np.where(numbers < 1, 0.7, 1.0).astype(np.float32)[cell][:, None]
    bones[:, part] += weak * _vertebra(x, offset, gap, half)


def _vertebra(x: np.ndarray, y: np.ndarray, gap: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Mineral path of the vertebra whose centre is at (0, 0); gap and half: its height with disc and half its width."""
    span = np.abs(x)
    high = 0.5 * gap - np.float32(0.17)
    waist = half * (np.float32(0.90) + np.float32(0.40) * (y / gap) ** 2)
    inside = np.clip((waist - span) * 9, 0, 1) * np.clip((high - np.abs(y)) * 9, 0, 1)
    across = np.sqrt(np.maximum(1 - (span / waist) ** 2, 0))
    plates = np.exp(-(((np.abs(y) - high + np.float32(0.07)) * 11) ** 2)) * np.float32(0.18)
    walls = np.exp(-(((span - waist + np.float32(0.08)) * 10) ** 2)) * np.float32(0.12)
    total = inside * (np.float32(0.04) + np.float32(0.17) * across + plates + walls)
    at = (span - half * np.float32(0.68), y + gap * np.float32(0.10))
    total += np.float32(0.34) * (_dome(*at, 0.36, 0.5) - np.float32(0.6) * _dome(*at, 0.23, 0.36))
    total += np.float32(0.20) * _dome(
        span - half - np.float32(0.75), y + gap * 0.15 + span * np.float32(0.1), 1.1, 0.32
    )
    return total + np.float32(0.40) * _dome(x, y - gap * np.float32(0.24), 0.22, 0.55)


def _dome(x: np.ndarray, y: np.ndarray, wide: float, high: float) -> np.ndarray:
    return np.sqrt(np.maximum(1 - (x * np.float32(1 / wide)) ** 2 - (y * np.float32(1 / high)) ** 2, 0))


@lru_cache(maxsize=64)
def _line(knots: tuple[tuple[float, float, float], ...], steps: int) -> np.ndarray:
    return smooth_line(knots, steps, max(steps // (3 * len(knots)), 1))


def both_sides(path: np.ndarray) -> np.ndarray:
    """The left path(s) (3, U) or (3, B, U) and their mirror images, as (3, B, U)."""
    path = path.reshape(3, -1, path.shape[-1])
    return np.concatenate([path, path * np.array([-1, 1, 1])[:, None, None]], axis=1)


def draw_shoulders(bones: np.ndarray, body: Body, frame: Frame) -> Points:
    """Clavicles, scapulae and upper arms: draws the flat parts, returns the points of the long ones."""
    steps = int(17 / frame.pixel)
    clavicle = _line(CLAVICLE, steps).copy()
    clavicle[1] -= body.shrug * (clavicle[0] - 2) / 14
    thick = 0.55 + 0.18 * np.linspace(-1, 1, steps) ** 2
    points = tube_points(frame, both_sides(clavicle), thick, thick * 0.9, 0.10, 0.10, ring=36)
    radius = np.interp(np.linspace(0, 1, steps), [0, 0.03, 0.08, 0.15, 0.3, 1], [0.2, 1.3, 1.9, 1.9, 1.2, 1.05])
    shaft = _line(HUMERUS, steps) - np.array([[0], [body.shrug], [0]])
    points += tube_points(frame, both_sides(shaft), radius, radius, 0.10, 0.09, axis=0, ring=42)
    x, y = frame.plane(0.0)
    for side in (-1.0, 1.0):
        add_ellipsoid(bones, x, y, (side * 18.0, -6.8 - body.shrug), (2.2, 2.2), 0.35)
    return points + draw_scapulae(bones, body, frame)


def draw_scapulae(bones: np.ndarray, body: Body, frame: Frame) -> Points:
    """Shoulder blades: thin plates with thick borders. Shoulders rolled forward (PA) carry them off the lungs."""
    away = 2.1 if frame.facing > 0 else 0.0
    glenoid, lower, upper = (15.6 + 0.4 * away, -6.2), (11.0 + 1.6 * away, 4.4), (9.2 + 1.3 * away, -7.4)
    borders = [
        ((glenoid, (14.6 + away, -2.0), (12.6 + 1.4 * away, 2.6), lower), 0.42, 0.09),
        ((lower, (9.4 + 1.5 * away, -1.0), upper), 0.16, 0.05),
        ((upper, (12.4 + away, -7.9), (14.4 + 0.6 * away, -7.0)), 0.18, 0.03),
        (((9.4 + 1.3 * away, -5.6), (13.0 + away, -7.4), (16.4 + 0.4 * away, -9.2), (17.6, -8.8)), 0.36, 0.05),
        (((14.6 + 0.4 * away, -7.0), (14.2, -8.2), (15.0, -8.6)), 0.45, 0.08),
    ]
    knots = [tuple((x, y, -7 + 0.25 * abs(x - 9)) for x, y in border) for border, _, _ in borders]
    lines = np.stack([_line(line, 120) for line in knots], axis=1)
    lines[1] -= body.shrug
    radius = np.array([[radius] for _, radius, _ in borders] * 2) * np.linspace(1.1, 0.75, 120)
    shell = np.array([[shell] for _, _, shell in borders] * 2)
    x, y = frame.plane(-6.5)
    y = y + np.float32(body.shrug)
    for side in (-1.0, 1.0):
        add_blade(bones, x, y, side, (glenoid, lower, upper))
        add_ellipsoid(bones, x, y, (side * (glenoid[0] + 0.2), glenoid[1] + 0.4), (0.55, 1.7), 0.35, side * 0.2)
    return tube_points(frame, both_sides(lines), radius, radius * 0.8, shell, 0.12, axis=0)


def add_blade(bones: np.ndarray, x: np.ndarray, y: np.ndarray, side: float, corners: tuple) -> None:
    """Add the thin plate of the scapula: a soft-edged triangle between three corners (|x|, y)."""
    a, b, c = corners
    part = window(x, y, (side * (a[0] + b[0] + c[0]) / 3, (a[1] + b[1] + c[1]) / 3), 8.5)
    x, y = x[part] * np.float32(side), y[part[0]]
    area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    inside = np.full(x.shape, np.inf, dtype=np.float32)
    for p, q in ((a, b), (b, c), (c, a)):
        length = np.hypot(q[0] - p[0], q[1] - p[1]) * np.sign(area)
        distance = (y - np.float32(p[1])) * np.float32((q[0] - p[0]) / length)
        distance = distance - (x - np.float32(p[0])) * np.float32((q[1] - p[1]) / length)
        np.minimum(inside, distance, out=inside)
    bones[part] += np.float32(0.10) * np.clip(inside * 6, 0, 1)
