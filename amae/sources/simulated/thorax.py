"""The soft parts of the chest as path lengths: body, lungs, heart, great vessels, airways, stomach gas."""

from dataclasses import dataclass

import numpy as np

from amae.sources.simulated.facts import Facts, stream
from amae.sources.simulated.geometry import Frame, ellipsoid, ellipsoid_part, look_up, places, table, window

LUNG_AIR = 0.74  # share of a lung's path that is air; the rest is blood and tissue of about water's attenuation


@dataclass(frozen=True)
class Body:
    """One person's anatomy on one day. Lengths in standard cm; `fat` 0 is lean, 1 is obese."""

    sex: str
    age: int
    size: tuple[float, float, float]
    fat: float
    muscle: float
    heart: float  # scale of the heart in the frontal plane
    heart_angle: float  # long axis below the horizontal, radians
    knob: float  # radius of the aortic arch
    unfolded: float  # how far the descending aorta swings to the left
    curve: float  # scoliosis, cm at the apex of the curve
    breast: float
    mediastinum: float  # extra width
    rib_slope: float
    rib_phase: float
    bone: float  # mineral, 1 is healthy
    domes: tuple[float, float]  # height of the right and left diaphragm dome
    lift: tuple[float, float] = (0.0, 0.0)  # dome raised by expiration or collapse, right and left
    collapse: tuple[float, float] = (0.0, 0.0)  # gap between lung and chest wall, right and left
    shrug: float = 0.0  # shoulders raised, cm
    gas: float = 1.0  # size of the stomach's gas bubble


def draw_body(facts: Facts) -> Body:
    """Anatomy from the patient's stream (the same on every visit), breath and stomach gas from the image's."""
    rng, today = stream(facts.seed, facts.patient, "patient"), stream(facts.seed, facts.index, "pose")
    rng.random(4)  # sex and age come first from this stream
    female, old = facts.sex == "F", (facts.age - 55) / 20
    tall, fat = rng.normal(0, 0.035), float(np.clip(rng.beta(2, 3) + rng.normal(0, 0.05), 0, 1))
    width = (0.93 if female else 1.02) + tall + 0.04 * (fat - 0.4)
    slender = rng.normal(0, 0.03)
    breath = float(np.clip(rng.normal(0, 0.3) + today.gamma(1.6, 0.55 if facts.view == "PA" else 1.1), -0.5, 4.5))
    right = 9.7 + rng.normal(0, 0.45)
    return Body(
        sex=facts.sex,
        age=facts.age,
        size=(width - slender, width + slender, (0.92 if female else 1.0) + 0.1 * (fat - 0.4) + rng.normal(0, 0.03)),
        fat=fat,
        muscle=float(np.clip(rng.normal(0.4 if female else 0.8, 0.15), 0.1, 1.2)),
        heart=float(np.clip(rng.normal(0.97 + 0.02 * old, 0.035), 0.86, 1.06)) * (1 + 0.012 * breath),
        heart_angle=float(np.radians(np.clip(rng.normal(40 - 8 * fat - 2 * old, 5), 22, 56) - 4 * breath)),
        knob=float(np.clip(rng.normal(1.75 + 0.15 * old, 0.15), 1.4, 2.5)),
        unfolded=float(np.clip(rng.normal(0.35 + 0.35 * old, 0.3), 0, 1.6)),
        curve=float(rng.normal(0, 0.35)),
        breast=float(np.clip(rng.normal(0.65 + 0.5 * fat, 0.25), 0.15, 1.5)) if female else 0.0,
        mediastinum=float(np.clip(rng.normal(0.15 * fat + 0.08 * old, 0.12), -0.15, 0.6)),
        rib_slope=float(rng.normal(0.40, 0.045)) - 0.02 * breath,
        rib_phase=float(rng.normal(0, 0.25)),
        bone=float(np.clip(rng.normal(1.05 - 0.1 * old, 0.1), 0.65, 1.35)),
        domes=(right, right + float(np.clip(rng.normal(1.1, 0.5), -0.3, 2.4))),
        lift=(breath, breath * 0.95),
        gas=float(today.choice([0.0, 0.6, 1.0, 1.4], p=[0.2, 0.25, 0.35, 0.2])),
        shrug=float(np.clip(today.normal(0 if facts.view == "PA" else 0.5, 0.6), -1.2, 1.8)),
    )


CAVITY_WIDTH = [
    (-13, 3),
    (-9.4, 5.8),
    (-7.6, 7.6),
    (-5, 9.7),
    (-2.5, 11.2),
    (0, 12.2),
    (2.6, 13.0),
    (6, 13.7),
    (17, 14.1),
]
CAVITY_DEPTH = [(-12, 3.6), (-9, 5.5), (-5, 7.6), (0, 9.0), (5, 9.7), (12, 9.8)]
TORSO_WIDTH = [
    (-20, 6.0),
    (-14, 6.2),
    (-12.4, 7.6),
    (-11.2, 11.5),
    (-10, 16.0),
    (-8, 18.0),
    (-4, 18.0),
    (0, 16.9),
    (5, 16.3),
    (12, 16.2),
    (22, 16.8),
]
TORSO_DEPTH = [(-20, 5.8), (-13, 5.6), (-10, 7.0), (-6, 9.3), (0, 10.8), (6, 11.6), (12, 12.2), (22, 12.2)]


@dataclass(frozen=True)
class Chest:
    """Path lengths in cm, float32 (H, W), and the coordinates of the frontal plane: x (H, W), y (H, 1)."""

    x: np.ndarray
    y: np.ndarray
    tissue: np.ndarray  # body without its air spaces
    lung: np.ndarray  # both lungs, tissue and air together
    air: np.ndarray  # trachea, bronchi and stomach gas

    @property
    def water(self) -> np.ndarray:
        """Water-equivalent path length of everything that is not bone."""
        return np.maximum(self.tissue - np.float32(LUNG_AIR) * self.lung - self.air, 0)


def draw_chest(body: Body, frame: Frame) -> Chest:
    """All soft parts of one exposure."""
    x, y = frame.plane(0.0)
    tissue = draw_torso(body, frame, x, y)
    lung = draw_lungs(body, frame, tissue)
    return Chest(x, y, tissue, lung, draw_airways(body, frame) + draw_stomach(body, frame))


def draw_torso(body: Body, frame: Frame, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Neck, shoulders and trunk with arms, breasts and pectoral muscles, cm."""
    index = places(y)
    layer = 1 + 0.10 * (body.fat - 0.3)
    across = np.abs(x) / (look_up(table(TORSO_WIDTH, 0.9), index) * np.float32(layer))
    profile = np.maximum(1 - across * across * across, 0)
    thick = np.float32(2 * layer * frame.size[2]) * look_up(table(TORSO_DEPTH, 0.9), index) * np.sqrt(profile)
    for side in (-1, 1):
        axes = (4.2 + body.fat, 14.0)
        part, arm = ellipsoid_part(x, y, (side * 19.6, 2.0), axes, 9 + 2 * body.fat, side * 0.13)
        thick[part] = np.sqrt(thick[part] ** 2 + arm * arm)
        part, muscle = ellipsoid_part(x, y, (side * 9.5, -3.0), (7.0, 5.2), 1.0, -side * 0.5)
        thick[part] += muscle * muscle * np.float32(1.6 * body.muscle)
        if body.breast:
            x_front, y_front = frame.plane(11.0)
            sag = 7.5 + 2.0 * body.breast
            middle, axes = (side * (7.6 + body.breast), sag - 2.5), (5.6 + body.breast, 5.4 + body.breast)
            part, breast = ellipsoid_part(x_front, y_front, middle, axes, 1.0)
            fold = np.clip((sag + 3.2 + body.breast - y_front[part[0]]) * 0.9, 0, 1)
            thick[part] += breast * breast * (np.float32(4.2 * body.breast) * fold)
    return thick


def dome_table(body: Body, side: int) -> np.ndarray:
    """Height y of the diaphragm against |x|, cm: a dome, shallow towards the heart, steep towards the ribs."""
    which = 0 if side < 0 else 1
    top = body.domes[which] - body.lift[which]
    at = np.arange(0, 20.01, 0.25)
    outward = np.clip((at - 5.6) / 8.7, 0, 0.999)
    inward = np.clip((5.6 - at) / 5.6, 0, 1)
    depth = 5.4 + 0.35 * body.lift[which]
    return table(list(zip(at, top + depth * (1 - np.sqrt(1 - outward**2)) + 1.1 * inward**2, strict=True)), 0.15)


def draw_lungs(body: Body, frame: Frame, tissue: np.ndarray) -> np.ndarray:
    """Path through both lungs: the chest cavity less what fills its middle and what domes up from below, cm.

    tissue: path through the body; at least 2 cm of it are wall.
    """
    x, y = frame.plane(0.0)
    index, span = places(y), np.abs(x)
    right = x < 0
    gap = body.collapse[0] * right + body.collapse[1] * ~right if any(body.collapse) else None
    width = look_up(table(CAVITY_WIDTH, 1.2), index)
    if gap is not None:  # free air is widest at the apex and tapers to nothing above the diaphragm
        width = width - gap.astype(np.float32) * np.clip((np.float32(10) - y) / 16, 0, 1)
    profile = np.maximum(1 - (span / np.maximum(width, 0.1)) ** 2, 0)
    depth = look_up(table(CAVITY_DEPTH, 1.2), index) * np.float32(2 * frame.size[2])
    cavity = depth * np.sqrt(profile)
    beside = span - np.float32(4.4)
    apex = np.float32(-9.9) + np.where(beside > 0, np.float32(0.13), np.float32(0.30)) * beside * beside
    if gap is not None:
        apex = apex + gap.astype(np.float32) * np.float32(0.9)
    rise = np.clip((y - apex) * np.float32(1 / 5), 0, 1)
    cavity *= np.sqrt(rise * (2 - rise))
    cavity = np.maximum(cavity - draw_mediastinum(body, frame, depth), 0)
    return np.minimum(cavity * _above_diaphragm(body, x, y), np.maximum(tissue - 2, 0))


def _above_diaphragm(body: Body, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Share of the cavity's depth that is above the diaphragm: 1 above the dome, falling steeply just below it."""
    share = np.ones_like(x)
    right, left = dome_table(body, -1), dome_table(body, 1)
    low = int(np.searchsorted(y[:, 0], min(right.min(), left.min())))  # rows above both domes stay 1
    x, y = x[low:], y[low:]
    column = places(np.abs(x))
    dome = np.where(x < 0, look_up(right, column), look_up(left, column))
    share[low:] -= np.sqrt(np.sqrt(np.clip((y - dome) * np.float32(1 / 6.5), 0, 1)))
    return share


def draw_mediastinum(body: Body, frame: Frame, depth: np.ndarray) -> np.ndarray:
    """Path through what lies between and in front of the lungs: heart, great vessels, spine, fat. cm."""
    x, y = frame.plane(-1.0)
    x_back, y_back = frame.plane(-5.0)
    near = np.flatnonzero((np.abs(x) < 7).any(axis=0))
    part = slice(near[0], near[-1] + 1) if near.size else slice(0, 0)
    x, x_back, index = x[:, part], x_back[:, part], places(y)
    extra = body.mediastinum
    right = table([(-14, 1.7), (-9, 1.2), (-6, 1.0 + 1.5 * extra), (-2, 0.8), (2, 0.4), (8, 0.4), (14, 1.2)])
    left = table([(-14, 1.8), (-9, 1.4), (-6.5, 0.9 + extra), (-4, 0.6), (0, 0.6), (6, 0.7), (14, 1.3)])
    edge = np.maximum(np.maximum(-x - look_up(right, index), x - look_up(left, index)), 0)
    fade = np.maximum(1 - edge * np.float32(1 / 2.2), 0)
    middle = np.float32(0.85) * depth * fade * (2 - fade) * np.sqrt(fade)
    thick = np.float32(frame.size[2])
    swing = table([(-8, 1.6), (-3, 2.0), (2, 1.9 + body.unfolded), (7, 1.4 + 0.7 * body.unfolded), (13, 0.6)])
    off = (x_back - look_up(swing, places(y_back))) / np.float32(0.72 * body.knob)
    aorta = np.float32(2 * 0.72 * body.knob) * np.sqrt(np.maximum(1 - off * off, 0))
    aorta *= np.clip((y_back + 4.4) / 2.4, 0, 1)
    knob = ellipsoid(x, y, (1.75 + 0.3 * body.unfolded, -3.1), (body.knob, body.knob * 1.15), 5.5)
    cava = np.float32(4.5) * np.sqrt(np.maximum(1 - ((x + np.float32(1.75 + 0.5 * extra)) / np.float32(1.15)) ** 2, 0))
    cava *= np.clip((y + 9.5) / 2, 0, 1) * np.clip((4 - y) / 2, 0, 1)
    path = thick * draw_heart(body, frame)
    path[:, part] += middle + thick * (aorta + knob + cava)
    return path


HEART_RIGHT = [(-3, 1.2), (-0.5, 2.0), (2, 2.9), (5, 3.8), (8, 4.1), (10.5, 3.8), (14, 3.2)]
HEART_LEFT = [(-3, 1.5), (-1, 2.8), (0.8, 3.5), (2.4, 4.1), (5, 6.2), (7.4, 8.1), (9.4, 9.1), (11, 9.0), (13.5, 7.6)]
HEART_DEPTH = [(-4, 0.0), (-2, 3.5), (1, 9.0), (5, 13.5), (9, 14.0), (13, 11.0)]


def draw_heart(body: Body, frame: Frame) -> np.ndarray:
    """Path through the heart and pulmonary trunk between their right and left borders, cm."""
    x, y = frame.plane(3.5)
    size = body.heart
    # A raised diaphragm pushes the heart up and makes it broad; a low one lets it hang.
    squeeze = np.float32(1 + 0.055 * min(body.lift))
    level = (y - 11) * squeeze + 11 + np.float32(0.75 * min(body.lift)) * squeeze
    low = int(np.searchsorted(level[:, 0], -7.5))  # rows above the heart stay 0
    index, path = places(level[low:]), np.zeros_like(x)
    grow = table([(-6, 1.0), (0, 1.0), (5, size), (20, size)])
    stance = table([(-6, 1.0), (2, 1.0), (8, 1 + 0.6 * (np.radians(40) - body.heart_angle)), (20, 1.0)])
    right = look_up(table(HEART_RIGHT) * (0.4 + 0.6 * grow), index)
    left = look_up(table(HEART_LEFT) * grow * stance, index)
    depth = look_up(table(HEART_DEPTH) * grow, index)
    off = (x[low:] - (left - right) / 2) * (2 / (left + right))
    path[low:] = depth * np.sqrt(np.maximum(1 - off * off, 0))
    return path


def draw_airways(body: Body, frame: Frame) -> np.ndarray:
    """Air in the trachea and the two main bronchi, cm."""
    x, y = frame.plane(-1.5)
    caliber = 0.95 if body.sex == "M" else 0.82
    air, part = np.zeros_like(x), window(x, y, (0.0, -8.7), 9.3)
    px, py = x[part], y[part[0]]
    lean = np.float32(0.22 + 0.3 * max(body.knob - 1.8, 0)) * np.clip((py + 9) / 6, 0, 1)
    off = (px + lean) * np.float32(1 / caliber)
    ends = np.clip((0.6 - py) / 1.2, 0, 1) * np.clip((py + 18) / 3, 0, 1)
    air[part] = np.sqrt(np.maximum(1 - off * off, 0)) * (np.float32(2 * caliber) * ends)
    for end, radius in (((-3.0, 2.6), 0.62), ((3.9, 2.4), 0.55)):
        start = (-0.25, 0.0)
        part = window(x, y, ((start[0] + end[0]) / 2, end[1] / 2), 3.2)
        px, py = x[part] - np.float32(start[0]), y[part[0]]
        ex, ey = np.float32(end[0] - start[0]), np.float32(end[1])
        along = np.clip((px * ex + py * ey) / (ex * ex + ey * ey), 0, 1)
        away = (px - along * ex) ** 2 + (py - along * ey) ** 2
        air[part] = np.maximum(air[part], 2 * np.sqrt(np.maximum(np.float32(radius**2) - away, 0)))
    return air


def draw_stomach(body: Body, frame: Frame) -> np.ndarray:
    """Gas under the left dome; with an upright patient (PA) its lower side is a level. cm."""
    if not body.gas:
        return np.zeros((frame.rows, frame.columns), dtype=np.float32)
    x, y = frame.plane(2.0)
    top = body.domes[1] - body.lift[1]
    middle = (6.3, top + 0.9 + 1.7 * body.gas)
    gas = ellipsoid(x, y, middle, (2.7 * body.gas, 1.9 * body.gas), 4.5 * body.gas, -0.1)
    if frame.facing > 0:
        gas *= np.clip((middle[1] + 0.5 - y) * 8, 0, 1)
    return gas
