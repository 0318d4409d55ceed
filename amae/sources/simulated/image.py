"""One simulated radiograph: facts, anatomy, finding, projection, stored pixel values."""

from dataclasses import dataclass

import numpy as np

from amae.sources.simulated.facts import Facts, draw_facts, stream
from amae.sources.simulated.findings import Scene, apply_finding, changed
from amae.sources.simulated.geometry import Frame, make_frame, smooth_noise
from amae.sources.simulated.overlays import collimator, draw_metal
from amae.sources.simulated.projection import detect, draw_exposure, expose, grey_range, line_integral, process
from amae.sources.simulated.skeleton import draw_bones
from amae.sources.simulated.thorax import Chest, draw_body, draw_chest
from amae.sources.simulated.vessels import draw_vessels

VESSEL_WATER = 0.74  # blood instead of aerated lung, relative to water


@dataclass(frozen=True)
class Box:
    """Bounding box of one instance of a finding, in pixels with edges at integers; contrast: mean |change| of the line
    integral inside its mask."""

    x_min: int
    y_min: int
    x_max: int
    y_max: int
    contrast: float
    finding: str
    severity: float


@dataclass(frozen=True)
class SimulatedImage:
    """Stored values (H, W) uint8 or uint16 as they go into the file, facts, and the truth about the finding."""

    facts: Facts
    pixels: np.ndarray
    mask: np.ndarray  # bool (H, W): where the finding changes the image
    boxes: tuple[Box, ...]
    centre: float  # window of the stored values' darkest to brightest useful grey, before rescale
    width: float

    @property
    def label(self) -> str:
        """normal or abnormal."""
        return self.facts.label

    @property
    def finding(self) -> str:
        """Name of the finding, "" if there is none."""
        return self.facts.finding


def simulate_image(seed: int, index: int, abnormal: float = 0.4) -> SimulatedImage:
    """Simulate image `index` of the data set of `seed`; the same arguments give the same image, always.

    abnormal: probability of a finding.
    """
    return render(draw_facts(seed, index, abnormal))


def render(facts: Facts) -> SimulatedImage:
    """Draw, project and store the image that the facts describe."""
    body = draw_body(facts)
    frame = make_frame(facts, body.size)
    chest = draw_chest(body, frame)
    exposure = draw_exposure(facts)
    vessels = draw_vessels(facts, frame) * np.clip(chest.lung * np.float32(1 / 3), 0, 1)
    water = chest.water + mottle(facts, frame, chest)
    bones, metal = draw_bones(body, frame), draw_metal(facts, frame)
    before = line_integral(water + np.float32(VESSEL_WATER) * vessels, bones, metal)
    line, mask, boxes = before.copy(), np.zeros(before.shape, dtype=bool), []
    rng, kept = finding_stream(facts), np.float32(1)
    for finding, severity in ((facts.finding, facts.severity), *facts.others) if facts.finding else ():
        change = apply_finding(finding, Scene(body, frame, chest), severity, rng)
        parts = [line_integral(part, np.float32(0)).astype(np.float32) for part in change.water]
        found, where = outline(parts, finding, severity)
        boxes, mask = [*boxes, *found], mask | where
        line += sum(parts)
        kept = kept if change.vessels is None else kept * np.maximum(change.vessels, 0)
    line = np.maximum(line + line_integral((kept - 1) * np.float32(VESSEL_WATER) * vessels, np.float32(0)), 0)
    black, white = grey_range(before, chest.tissue > 6, chest.lung > 4, exposure, frame)
    grey = process(detect(expose(line, exposure, frame), exposure, facts), exposure, frame)
    grey = np.clip((grey - np.float32(black)) * np.float32(1 / (white - black)), 0, 1)
    opening = collimator(facts, frame)
    if opening is not None:
        shut = np.ones(grey.shape, dtype=bool)
        shut[opening] = False
        grey[shut] = 0
    pixels, centre, width = store(grey, facts)
    return SimulatedImage(facts, pixels, mask, tuple(boxes), centre, width)


def finding_stream(facts: Facts) -> np.random.Generator:
    """Random generator of the finding's shape and place."""
    return stream(facts.seed, facts.index, "finding")


def mottle(facts: Facts, frame: Frame, chest: Chest) -> np.ndarray:
    """Unevenness of soft tissue and lung, cm of water: fat and muscle in coarse, small vessels in fine grains."""
    rng = stream(facts.seed, facts.index, "texture")
    coarse = smooth_noise(rng, frame, 3.0) * np.float32(0.25) + smooth_noise(rng, frame, 1.0) * np.float32(0.09)
    fine = smooth_noise(rng, frame, 0.35) * np.float32(0.035)
    return coarse * np.clip(chest.tissue / 10, 0, 1) + fine * np.clip(chest.lung / 6, 0.3, 1)


def outline(parts: list[np.ndarray], finding: str, severity: float) -> tuple[list[Box], np.ndarray]:
    """Boxes of the instances of a finding and the union of their masks; one that changes nothing visible has no box."""
    union, boxes = np.zeros(parts[0].shape, dtype=bool), []
    for part in parts:
        mask = changed(part)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if rows.size == 0:
            continue
        contrast = round(float(np.abs(part[mask]).mean()), 4)
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        boxes.append(Box(*box, contrast, finding, severity))
        union |= mask
    return boxes, union


def store(grey: np.ndarray, facts: Facts) -> tuple[np.ndarray, float, float]:
    """Grey 0 to 1 as integers of the file's bits; returns them with the centre and width of the useful range.

    As on real detectors, more than 8 bits leave some of the scale unused at either end.
    """
    rng = stream(facts.seed, facts.index, "facts")
    rng.random(64)
    top = 2**facts.bits_stored - 1
    low, high = (0.0, 1.0) if facts.bits_stored == 8 else (rng.uniform(0, 0.12), rng.uniform(0.8, 1.0))
    shown = 1 - grey if facts.photometric == "MONOCHROME1" else grey
    values = np.rint((low + (high - low) * shown) * top)
    pixels = values.astype(np.uint8 if facts.bits_stored == 8 else np.uint16)
    return pixels, float(round((low + high) / 2 * top)), float(round((high - low) * top))
