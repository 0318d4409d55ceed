"""Objects on or in the patient, or on the cassette, that are no finding: side marker, leads, lines, collimator."""

from functools import lru_cache

import numpy as np
from scipy import ndimage

from amae.sources.simulated.facts import Facts, stream
from amae.sources.simulated.geometry import Frame, smooth_line, splat, window

GLYPHS = {
    "L": ("1100000", "1100000", "1100000", "1100000", "1100000", "1100000", "1100000", "1100000", "1111111", "1111111"),
    "R": ("1111110", "1111111", "1100011", "1100011", "1111110", "1111100", "1101100", "1100110", "1100110", "1100011"),
}


def draw_metal(facts: Facts, frame: Frame) -> np.ndarray:
    """Path through metal in cm, float32 (H, W): a marker, and more often at the bedside (AP) leads and catheters."""
    rng = stream(facts.seed, facts.index, "overlay")
    rng.random(12)
    metal = np.zeros((frame.rows, frame.columns), dtype=np.float32)
    draw_marker(metal, frame, rng)
    bedside = facts.view == "AP"
    if rng.random() < (0.35 if bedside else 0.06):
        draw_leads(metal, frame, rng)
    if rng.random() < (0.2 if bedside else 0.03):
        draw_catheter(metal, frame, rng)
    return metal


def draw_marker(metal: np.ndarray, frame: Frame, rng: np.random.Generator) -> None:
    """A lead letter beside one shoulder: L on the patient's left (right of the image), R on the other side."""
    letter = "L" if rng.random() < 0.6 else "R"
    scale = max(rng.uniform(0.13, 0.22) / frame.pixel, 1.5)
    stamp = np.clip(3 * ndimage.zoom(_glyph(letter), scale, order=1) - 1, 0, 1)
    high, wide = stamp.shape
    row = int(rng.uniform(0.03, 0.14) * frame.rows)
    inset = int(rng.uniform(0.02, 0.10) * frame.columns)
    column = frame.columns - inset - wide if letter == "L" else inset
    metal[row : row + high, column : column + wide] += stamp * np.float32(rng.uniform(0.3, 0.7))


@lru_cache
def _glyph(letter: str) -> np.ndarray:
    glyph = np.array([[int(c) for c in row] for row in GLYPHS[letter]], dtype=np.float32)
    return ndimage.gaussian_filter(np.pad(glyph, 1), 0.5)


def draw_wire(metal: np.ndarray, frame: Frame, points: np.ndarray, radius: float, density: float) -> None:
    """A wire through (K, 3) body points, rounded at its corners; radius in cm, density relative to solid metal."""
    row, column, _ = frame.project(*smooth_line(points, 900, 450 // len(points)))
    length = np.hypot(np.gradient(row), np.gradient(column))
    splat(metal, (row, column, np.pi * radius**2 / frame.pixel * length * density))


def draw_leads(metal: np.ndarray, frame: Frame, rng: np.random.Generator) -> None:
    """Three to five electrodes on the chest with their wires."""
    spots = np.array([(-9, -6), (9, -6), (-10, 9), (10, 9), (3, 3)], dtype=float)[: int(rng.integers(3, 6))]
    spots += rng.normal(0, 1.2, spots.shape)
    gather = np.array([rng.uniform(-6, 6), 24.0])
    for spot in spots:
        middle = (spot + gather) / 2 + rng.normal(0, 2.5, 2)
        points = np.array(
            [(*spot, 11.0), (*((2 * spot + middle) / 3 + rng.normal(0, 1, 2)), 11), (*middle, 11), (*gather, 11)]
        )
        draw_wire(metal, frame, points, 0.05, 0.6)
        x, y = frame.plane(11.0)
        part = window(x, y, spot, 1.1)
        away = np.hypot(x[part] - np.float32(spot[0]), y[part[0]] - np.float32(spot[1]))
        metal[part] += np.float32(0.06) * (away < 0.45) + np.float32(0.012) * (away < 1.1)


def draw_catheter(metal: np.ndarray, frame: Frame, rng: np.random.Generator) -> None:
    """A central venous line from the right neck or the left shoulder to the superior vena cava, or a feeding tube."""
    kind = rng.integers(3)
    if kind == 0:
        points = [(-5.5, -16, 3), (-4.2, -11, 3), (-2.6, -7, 2), (-2.4, -3, 1.5), (-2.1, 1.5, 1.5)]
    elif kind == 1:
        points = [(14, -6, 5), (9, -8.4, 5), (4.5, -8.2, 4), (0.5, -6.2, 3), (-2.2, -4, 2), (-2.3, 1, 1.5)]
    else:
        points = [(0.3, -19, -2), (0.2, -8, -3), (0.4, 0, -3.5), (1.0, 8, -2.5), (3.5, 13, 0), (5.5, 14.5, 2)]
    path = np.array(points, dtype=float) + rng.normal(0, 0.3, (len(points), 3))
    draw_wire(metal, frame, path, 0.11, 0.16)


def collimator(facts: Facts, frame: Frame) -> tuple[slice, slice] | None:
    """The opening of a visible collimator in one exposure of eight, as row and column slices, or None."""
    rng = stream(facts.seed, facts.index, "overlay")
    rng.random(40)
    if rng.random() > 0.125:
        return None
    top, bottom, left, right = (int(v) for v in rng.uniform(0.0, 0.03, 4) * frame.rows)
    return slice(top, frame.rows - bottom), slice(left, frame.columns - right)
