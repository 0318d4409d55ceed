"""The seven findings. Each changes the physics: it adds or removes attenuating matter, or deforms the anatomy.

A finding maps a scene to changes of the water path (cm), one per instance (each nodule, each lung), and to a factor on
the vessels: lung without aerated surroundings shows no vessels, lung that has fallen away carries none.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from amae.sources.simulated.geometry import Frame, ellipsoid, parabola, smooth_noise, splat
from amae.sources.simulated.thorax import LUNG_AIR, Body, Chest, draw_lungs

TISSUE = 1 - LUNG_AIR


@dataclass(frozen=True)
class Scene:
    """An exposure before the finding."""

    body: Body
    frame: Frame
    chest: Chest

    def lung(self, side: int) -> np.ndarray:
        """Path through the right (-1) or left (+1) lung, cm."""
        return np.where(self.chest.x * side > 0, self.chest.lung, np.float32(0))

    def lungs_of(self, **changes: object) -> np.ndarray:
        """Path through both lungs of the body with some measures changed, cm."""
        return draw_lungs(replace(self.body, **changes), self.frame, self.chest.tissue)


@dataclass(frozen=True)
class Change:
    """Added water path in cm, one (H, W) array per instance, and the factor on the vessels or None."""

    water: list[np.ndarray]
    vessels: np.ndarray | None = None


def apply_finding(name: str, scene: Scene, severity: float, rng: np.random.Generator) -> Change:
    """Draw one finding of the given conspicuity (0 faint to 1 plain)."""
    draw, faint, plain = DRAW[name]
    return draw(scene, faint + (plain - faint) * severity, rng)


def lung_point(scene: Scene, rng: np.random.Generator, side: int, deep: float = 4.0) -> tuple[float, float]:
    """A uniformly drawn point (x, y) of one lung where the path through it is at least `deep` cm."""
    thick = scene.lung(side)[::6, ::6]
    row, column = np.nonzero(thick > min(deep, 0.6 * float(thick.max())))
    pick = int(rng.integers(len(row)))
    return float(scene.chest.x[::6, ::6][row[pick], column[pick]]), float(scene.chest.y[::6, 0][row[pick]])


def any_side(rng: np.random.Generator) -> int:
    """-1 for the right lung, +1 for the left."""
    return int(rng.choice([-1, 1]))


def draw_nodules(scene: Scene, severity: float, rng: np.random.Generator) -> Change:
    """One to three round opacities, 0.9 to 6 cm across, smooth, lobulated or spiculated."""
    count = int(rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1]))
    x, y = scene.chest.x, scene.chest.y
    water = []
    for _ in range(count):
        radius = (0.45 + 0.9 * severity + 1.5 * severity**3) * rng.uniform(0.8, 1.25)
        cx, cy = lung_point(scene, rng, any_side(rng), 5.0)
        dx, dy = x - np.float32(cx), y - np.float32(cy)
        around, outline = np.arctan2(dy, dx), np.float32(1)
        for lobes in (2, 3, 5, 11):
            amount = {2: 0.12, 3: 0.08, 5: 0.05, 11: 0.03}[lobes] * rng.uniform(0, 1.3)
            outline = outline + np.float32(amount) * np.cos(lobes * around + np.float32(rng.uniform(0, 6.28)))
        reach = (dx * dx + dy * dy) / (np.float32(radius) * outline) ** 2
        ball = np.sqrt(np.maximum(1 - reach, 0)) * np.float32(2 * radius)
        halo = np.float32(0.25 * radius) * np.exp(-reach * np.float32(0.9))
        water.append((ball + halo) * np.float32(LUNG_AIR * (0.65 + 0.3 * severity)) * (scene.chest.lung > 0.5))
    return Change(water)


def draw_consolidation(scene: Scene, severity: float, rng: np.random.Generator) -> Change:
    """Air spaces filled with fluid in one or two patches; air bronchograms and, at times, a fissure's straight edge."""
    water, cover = [], np.zeros_like(scene.chest.x)
    for _ in range(1 if rng.random() < 0.7 else 2):
        side = any_side(rng)
        cx, cy = lung_point(scene, rng, side, 7.0)
        size = (2.3 + 4.0 * severity) * rng.uniform(0.8, 1.2)
        dx, dy = scene.chest.x - np.float32(cx), scene.chest.y - np.float32(cy)
        reach = np.sqrt((dx / np.float32(size)) ** 2 + (dy / np.float32(size * rng.uniform(0.7, 1.2))) ** 2)
        rough = 0.26 * smooth_noise(rng, scene.frame, 2.2) + 0.10 * smooth_noise(rng, scene.frame, 0.8)
        patch = np.clip((1.1 - reach + rough) * np.float32(1.6), 0, 1)
        patch *= patch * (3 - 2 * patch)
        if rng.random() < 0.3:
            slope = np.float32(rng.uniform(-0.15, 0.25) * side)
            edge = dy - slope * dx + np.float32(0.35 * size)
            patch *= np.clip(edge * 3 * (1 if rng.random() < 0.5 else -1) + 0.5, 0, 1) * 0.95 + 0.05
        patch *= 1 + 0.10 * smooth_noise(rng, scene.frame, 0.7)
        patch = np.clip(patch, 0, 1.2)
        fill = LUNG_AIR * (0.16 + 0.5 * severity)
        water.append(scene.lung(side) * patch * np.float32(fill))
        cover = np.maximum(cover, patch * (scene.chest.x * side > 0))
    return Change(water, 1 - np.float32(1.1) * np.minimum(cover, 1))


def draw_effusion(scene: Scene, severity: float, rng: np.random.Generator) -> Change:
    """Free fluid that fills the angle beside the diaphragm, with a meniscus that climbs the chest wall."""
    sides = (-1, 1) if rng.random() < 0.25 else (any_side(rng),)
    water, keep = [], np.ones_like(scene.chest.x)
    for side in sides:
        share = severity * rng.uniform(0.75, 1.1)
        span = np.abs(scene.chest.x)
        lateral = np.clip((span - 3.0) / 10.5, 0, 1)
        which = 0 if side < 0 else 1
        floor = scene.body.domes[which] - scene.body.lift[which] + 5.0
        height = 1.8 + 11.0 * share
        climb = np.float32(0.62 * height) + lateral**4 * np.float32(0.38 * height + 1.0) + (1 - lateral) ** 6 * 0.8
        surface = np.float32(floor) - climb
        under = np.clip((scene.chest.y - surface) / np.float32(1.1 + 1.2 * share), 0, 1)
        under = under * under * (3 - 2 * under)
        lung = scene.lung(side)
        rise = np.clip((scene.chest.y - surface) * 0.9, 0, 4 * share + 0.5) * (lung > 0.05)
        water.append(lung * under * np.float32(LUNG_AIR * 0.97) + rise * under * np.float32(0.4))
        keep *= 1 - under * (lung > 0)
    return Change(water, keep)


def draw_pneumothorax(scene: Scene, severity: float, rng: np.random.Generator) -> Change:
    """Air between lung and chest wall: a dark rim without vessels, bounded by the thin line of the visceral pleura."""
    side = any_side(rng)
    gap = (0.7 + 3.8 * severity) * rng.uniform(0.85, 1.15)
    gaps = (gap, 0.0) if side < 0 else (0.0, gap)
    shrunk = scene.lungs_of(collapse=gaps)
    bare = np.clip(1 - shrunk / 1.2, 0, 1) * (scene.chest.lung > 0.6) * (scene.chest.x * side > 0)
    bare = ndimage.gaussian_filter(bare.astype(np.float32), 0.6)
    free = scene.chest.lung * bare
    inner, outer = ndimage.binary_erosion(shrunk > 0.4, iterations=1), shrunk > 0.4
    line = (outer & ~inner) & (scene.chest.lung > 2.0) & (scene.chest.x * side > 0)
    pleura = ndimage.gaussian_filter(line.astype(np.float32), 0.55) * np.float32(0.55)
    denser = shrunk * np.float32(0.004 + 0.03 * severity**2) * (scene.chest.x * side > 0)
    water = -np.float32(TISSUE) * free * np.float32(0.9) + pleura + denser
    return Change([water], 1 - bare)


def draw_atelectasis(scene: Scene, severity: float, rng: np.random.Generator) -> Change:
    """Collapse with loss of volume: plate-like bands above a raised dome; at worst a wedge of lower lobe."""
    side = any_side(rng)
    which = 0 if side < 0 else 1
    lift = list(scene.body.lift)
    lift[which] += 0.4 + 2.2 * severity * rng.uniform(0.6, 1.2)
    lung = np.where(scene.chest.x * side > 0, scene.lungs_of(lift=tuple(lift)), 0)
    water = np.float32(LUNG_AIR) * (scene.lung(side) - lung)
    top = scene.body.domes[which] - lift[which]
    x, y = scene.chest.x, scene.chest.y
    for _ in range(int(rng.integers(1, 3 + round(2 * severity)))):
        cx, cy = side * rng.uniform(5.0, 10.0), top - rng.uniform(0.6, 4.5)
        length, thick = rng.uniform(2.2, 4.6), 0.16 + 0.34 * severity * rng.uniform(0.6, 1.2)
        band = ellipsoid(x, y, (cx, cy), (length, thick), 1.0, rng.normal(0.12 * side, 0.22))
        water += band * np.float32((1.2 + 3.2 * severity) * LUNG_AIR) * (lung > 1.0)
    if severity > 0.6:
        height, base = 9.0, 6.5 * severity
        down = np.clip((y - np.float32(top - height + 4.0)) / height, 0, 1.3)
        wedge = np.clip((2.2 + np.float32(base) * down - x * side) * 3, 0, 1) * np.clip(down * 6, 0, 1)
        water += lung * wedge * np.float32(LUNG_AIR * 0.55 * severity)
    return Change([water], None)


def draw_interstitial(scene: Scene, severity: float, rng: np.random.Generator) -> Change:
    """A network of fine lines and dots in both lungs, denser at the bases and the chest wall, and a faint veil."""
    x, y, frame = scene.chest.x, scene.chest.y, scene.frame
    net = np.zeros_like(x)
    count = int(2200 + 3800 * severity)
    at = np.stack([rng.uniform(-14, 14, count), rng.uniform(-9, 13, count), rng.uniform(-6, 6, count)])
    angle = np.where(rng.random(count) < 0.3, rng.normal(0, 0.15, count), rng.uniform(0, np.pi, count))
    reach = rng.gamma(4, 0.085, count)
    bow = rng.normal(0, 0.25, count) * reach**2
    sine, cosine = np.sin(angle), np.cos(angle)
    along, bent = np.stack([cosine, sine]) * reach, np.stack([-sine, cosine]) * bow
    knots = np.stack([[*(at[:2] + t * along + t * t * bent), at[2]] for t in (-1, 0, 1)], axis=1)
    row, column, _ = frame.project(*knots.astype(np.float32))
    mass = np.pi / frame.pixel**2 * rng.uniform(0.05, 0.10, count) ** 2 * reach * (2 / 21)
    t = np.linspace(0, 1, 22, dtype=np.float32)
    splat(net, (parabola(row, t)[0], parabola(column, t)[0], np.repeat(mass, 22)))
    nodes = ndimage.gaussian_filter(net, 0.6)
    basal = np.clip(0.45 + 0.06 * (y + 2), 0.15, 1.1) * np.clip(0.35 + 0.07 * np.abs(x), 0, 1.2)
    patchy = np.clip(1 + 0.35 * smooth_noise(rng, frame, 4.0), 0.2, 2)
    weight = basal * patchy * np.clip(scene.chest.lung / 6, 0, 1)
    veil = np.float32(0.05 + 0.10 * severity) * scene.chest.lung * np.float32(LUNG_AIR) * basal * patchy
    grains = 0.12 * np.maximum(smooth_noise(rng, frame, 0.28), 0)
    water = (nodes * np.float32(1.2 + 3.2 * severity) + grains * (0.5 + 3 * severity)) * weight + veil
    return Change([np.where(x < 0, water, 0), np.where(x >= 0, water, 0)])


def draw_cardiomegaly(scene: Scene, severity: float, rng: np.random.Generator) -> Change:
    """A heart 10 to 40 per cent wider than it should be."""
    after = scene.lungs_of(heart=scene.body.heart * (1.12 + 0.24 * severity * rng.uniform(0.85, 1.1)))
    return Change([np.float32(LUNG_AIR) * (scene.chest.lung - after)])


DRAW = {  # what draws a finding, and its severity where it is faint and where it is plain
    "nodule_or_mass": (draw_nodules, 0.4, 1.15),
    "consolidation": (draw_consolidation, 0.4, 1.5),
    "effusion": (draw_effusion, 0.4, 1.5),
    "pneumothorax": (draw_pneumothorax, 0.4, 1.5),
    "atelectasis": (draw_atelectasis, 0.4, 1.5),
    "interstitial": (draw_interstitial, 0.3, 1.3),
    "cardiomegaly": (draw_cardiomegaly, 0.4, 1.5),
}


def changed(line: np.ndarray) -> np.ndarray:
    """True where a change of the integral counts: at least 0.015, and a quarter of its largest value. bool (H, W)."""
    size = np.abs(line)
    return size > max(0.015, 0.25 * float(size.max()))
