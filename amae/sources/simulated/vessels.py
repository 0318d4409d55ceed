"""The pulmonary vessels: trees that leave the hila, branch and taper towards the periphery."""

from collections.abc import Iterator

import numpy as np

from amae.sources.simulated.facts import Facts, stream
from amae.sources.simulated.geometry import Frame, parabola, splat

# Trunks of the right lung: start (x outward, y, z), direction, radius. The left hilum lies one centimetre higher.
TRUNKS = (
    ((2.6, 0.2, 0.5), (0.45, -0.85, 0.1), 0.46),
    ((2.9, 0.3, -1.0), (0.75, -0.60, -0.4), 0.38),
    ((3.0, 0.9, 0.5), (0.95, -0.15, 0.5), 0.34),
    ((3.1, 0.8, -0.5), (0.55, 0.85, -0.1), 0.74),
    ((3.3, 1.6, 1.0), (0.80, 0.55, 0.5), 0.40),
    ((2.7, 2.3, -0.5), (0.60, 0.80, -0.5), 0.48),
    ((2.4, 3.4, 0.0), (0.88, 0.40, 0.1), 0.44),
    ((2.6, 1.4, -1.0), (0.92, 0.10, -0.5), 0.36),
    ((2.3, 1.6, 0.8), (0.62, -0.70, 0.3), 0.40),
)
LEVELS = 7


def draw_vessels(facts: Facts, frame: Frame) -> np.ndarray:
    """Path through the vessels of both lungs, cm, float32 (H, W). The trees are the patient's, the pose the image's."""
    vessels = np.zeros((frame.rows, frame.columns), dtype=np.float32)
    tree = grow(stream(facts.seed, facts.patient, "vessels"))
    generations = [next(tree) for _ in range(LEVELS)]
    for some, reach in (generations[:4], 2.4), (generations[4:], 1.0):  # cm; these share a number of points on a branch
        branches = (np.concatenate(parts, axis=-1) for parts in zip(*some, strict=True))
        splat(vessels, *branch_points(frame, *branches, max(int(reach / frame.pixel), 4)))
    return vessels


def grow(rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The generations of branches, gently curved tapering tubes, of the right and the left lung.

    Yields of each the body coordinates of start, middle and end (3, 3, 2, B), length (2, B) and radius (2, B), cm.
    """
    sides = list(draw_numbers(rng)), list(draw_numbers(rng))
    way, radius, *numbers = (np.stack(pair, axis=-2) for pair in zip(*sides, strict=True))
    start = np.stack([np.transpose([trunk[0] for trunk in TRUNKS])] * 2, axis=1)
    start[1, 1] -= 0.9
    way += np.transpose([trunk[1] for trunk in TRUNKS])[:, None]
    radius *= [trunk[2] for trunk in TRUNKS]
    for grade in range(LEVELS):
        length, bend, turn, share, spread = numbers[5 * grade : 5 * grade + 5]
        way = way / np.linalg.norm(way, axis=0)
        middle, end = (start + length * (way * t + bend * t * t) for t in (0.5, 1.0))
        knots = np.stack([start, middle, end], axis=1)
        knots[0, :, 0] *= -1
        yield knots, length, radius
        turn = turn - (turn * way).sum(0) * way
        turn *= spread / np.linalg.norm(turn, axis=0)
        tip = way + 2 * bend
        start = np.concatenate([end, end], axis=-1)
        way = np.concatenate([tip + turn * share, tip - turn * (1 - share)], axis=-1)
        shrink = np.concatenate([1 - 0.42 * share, 0.58 + 0.42 * share], axis=-1)
        radius = np.maximum(np.tile(radius, 2) * np.clip(shrink, 0.5, 0.85), 0.035)


def draw_numbers(rng: np.random.Generator) -> Iterator[np.ndarray]:
    """All that is random in one lung: way and radius of the trunks, then five measures of each generation."""
    yield rng.normal(0, 0.08, (len(TRUNKS), 3)).T
    yield rng.uniform(0.85, 1.1, len(TRUNKS))
    for grade in range(LEVELS):
        count = len(TRUNKS) * 2**grade
        yield rng.uniform(0.75, 1.25, count) * (2.7 * 0.84**grade)  # length
        yield rng.normal(0, 0.16, (count, 3)).T  # bend
        yield rng.normal(0, 1, (count, 3)).T  # direction in which it forks
        yield rng.uniform(0.35, 0.65, count)  # share of the first of its two branches
        yield rng.uniform(0.75, 1.15, count)  # how far these spread


def branch_points(
    frame: Frame, knots: np.ndarray, length: np.ndarray, radius: np.ndarray, steps: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Point masses (row, column, mass) of tubes: across each, a few strands weighted by the chord of a circle."""
    order = np.argsort(radius, axis=None)
    row, column, area = frame.project(*knots.reshape(3, 3, -1)[..., order].astype(np.float32))
    length, radius = (
        part.reshape(-1, 1)[order].astype(np.float32) / np.float32(frame.pixel) for part in (length, radius)
    )
    t = (np.arange(steps, dtype=np.float32) + np.float32(0.5)) / np.float32(steps)
    (row, down), (column, right) = parabola(row, t), parabola(column, t)
    local = radius * (1 - np.float32(0.18) * np.linspace(0, 1, steps, dtype=np.float32))
    mass = local * local * (np.float32(np.pi * frame.pixel / steps) * length * area[1][:, None])
    local /= np.maximum(np.sqrt(down * down + right * right), 1e-6)
    down, right = right * local, -down * local
    quarter = -(-len(order) // 4)
    for part in (slice(low, low + quarter) for low in range(0, len(order), quarter)):  # of like width: as many strands
        strands = int(np.clip(2 * radius[part][-1, 0], 1, 20))
        offset = ((np.arange(strands) + 0.5) / strands * 2 - 1).astype(np.float32)[:, None, None]
        chord = np.sqrt(1 - offset**2)
        yield row[part] + down[part] * offset, column[part] + right[part] * offset, mass[part] * (chord / chord.sum())
