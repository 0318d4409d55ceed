"""The pulmonary vessels: trees that leave the hila, branch and taper towards the periphery."""

import numpy as np

from amae.sources.simulated.facts import Facts, stream
from amae.sources.simulated.geometry import Frame, splat

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
    rng = stream(facts.seed, facts.patient, "vessels")
    vessels, points = np.zeros((frame.rows, frame.columns), dtype=np.float32), []
    for side in (-1.0, 1.0):
        start = np.array([trunk[0] for trunk in TRUNKS])
        start[:, 1] -= 0.9 * (side > 0)
        way = np.array([trunk[1] for trunk in TRUNKS]) + rng.normal(0, 0.08, (len(TRUNKS), 3))
        radius = np.array([trunk[2] for trunk in TRUNKS]) * rng.uniform(0.85, 1.1, len(TRUNKS))
        for grade in range(LEVELS):
            start, way, radius = grow(rng, start, way, radius, grade, side, points, frame)
    splat(vessels, *points)
    return vessels


def grow(
    rng: np.random.Generator,
    start: np.ndarray,
    way: np.ndarray,
    radius: np.ndarray,
    grade: int,
    side: float,
    points: list,
    frame: Frame,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Add one generation of branches, gently curved tapering tubes, to `points`; return the next one's starts."""
    way = way / np.linalg.norm(way, axis=1, keepdims=True)
    length = rng.uniform(0.75, 1.25, len(start)) * (2.7 * 0.84**grade)
    bend = rng.normal(0, 0.16, (len(start), 3))
    steps = max(int(2.6 * 0.84**grade / (1.1 * frame.pixel)), 4)
    t = (np.arange(steps) + 0.5)[None, :, None] / steps
    path = start[:, None] + length[:, None, None] * (way[:, None] * t + bend[:, None] * t * t)
    end, tip = start + length[:, None] * (way + bend), way + 2 * bend
    path, step = path * (side, 1, 1), length / steps
    order = np.argsort(radius)
    for part in np.array_split(order, 2):  # branches of like width share a number of strands
        points.append(branch_points(frame, path[part], step[part], radius[part]))
    turn = rng.normal(0, 1, (len(start), 3))
    turn -= (turn * way).sum(1, keepdims=True) * way
    turn /= np.linalg.norm(turn, axis=1, keepdims=True)
    share = rng.uniform(0.35, 0.65, len(start))[:, None]
    spread = rng.uniform(0.75, 1.15, len(start))[:, None]
    first, second = tip + turn * spread * share, tip - turn * spread * (1 - share)
    shrink = np.stack([1 - 0.42 * share[:, 0], 0.58 + 0.42 * share[:, 0]])
    thinner = np.concatenate([radius * np.clip(shrink[0], 0.5, 0.85), radius * np.clip(shrink[1], 0.5, 0.85)])
    return np.concatenate([end, end]), np.concatenate([first, second]), np.maximum(thinner, 0.035)


def branch_points(
    frame: Frame, path: np.ndarray, step: np.ndarray, radius: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Point masses of tubes (B, U, 3): across each, a few strands weighted by the chord of a circle."""
    path, step, radius = (part.astype(np.float32) for part in (path, step, radius))
    row, column, area = frame.project(path[..., 0], path[..., 1], path[..., 2])
    along_row, along_column = np.gradient(row, axis=1), np.gradient(column, axis=1)
    norm = np.maximum(np.hypot(along_row, along_column), 1e-6)
    strands = int(np.clip(2.0 * radius.max() / frame.pixel, 1, 20))
    offset = ((np.arange(strands) + 0.5) / strands * 2 - 1).astype(np.float32)
    chord = np.sqrt(1 - offset**2)
    chord /= chord.sum()
    u = np.linspace(0, 1, path.shape[1], dtype=np.float32)
    local = radius[:, None] * (1 - 0.18 * u)
    shift = local / frame.pixel
    mass = (np.pi * local**2 * step[:, None] * area / frame.pixel**2)[..., None] * chord
    rows = row[..., None] + (along_column / norm * shift)[..., None] * offset
    columns = column[..., None] - (along_row / norm * shift)[..., None] * offset
    return rows, columns, mass
