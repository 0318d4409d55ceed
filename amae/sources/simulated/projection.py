"""From path lengths to stored grey values: Beer-Lambert, scatter, blur, noise, logarithmic detector, processing."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from amae.sources.simulated.facts import Facts, stream
from amae.sources.simulated.geometry import Frame, blur_widely

WATER = 0.195  # attenuation of water at about 65 keV, 1/cm
BONE = 0.46  # what cortical bone attenuates beyond the water it replaces, 1/cm
METAL = 4.0  # lead letters, wires, 1/cm


@dataclass(frozen=True)
class Exposure:
    """Technique of one exposure: photons a pixel without a patient, scatter, blur (pixels), image processing."""

    photons: float
    scatter: float
    scatter_width: float  # cm
    blur: float
    electronic: float  # photons
    latitude: float  # share of the slow part of the image that the processing takes away
    sharpen: float
    low: float  # how far the darkest and brightest ends of the image are cut
    high: float


def draw_exposure(facts: Facts) -> Exposure:
    """Draw the technique: bedside exposures (AP) have no grid, so more scatter, and fewer photons."""
    rng = stream(facts.seed, facts.index, "overlay")
    grid = facts.view == "PA"
    return Exposure(
        photons=float(np.exp(rng.normal(np.log(6e4 if grid else 4e4), 0.45))) * (facts.spacing / 0.75) ** 2,
        scatter=float(rng.uniform(0.08, 0.16) if grid else rng.uniform(0.14, 0.28)),
        scatter_width=float(rng.uniform(3.5, 6.0)),
        blur=float(rng.uniform(0.45, 0.8)),
        electronic=float(rng.uniform(4, 12)),
        latitude=float(rng.uniform(0.05, 0.4)),
        sharpen=float(rng.uniform(0.1, 0.7)),
        low=float(rng.uniform(0.0, 0.10)),
        high=float(rng.uniform(0.02, 0.12)),
    )


def line_integral(water: np.ndarray, bone: np.ndarray, metal: np.ndarray | None = None) -> np.ndarray:
    """Sum of attenuation times path length (cm), without unit: -log(primary / incident) by Beer-Lambert."""
    total = np.float32(WATER) * water + np.float32(BONE) * bone
    return total if metal is None else total + np.float32(METAL) * metal


def expose(line: np.ndarray, exposure: Exposure, frame: Frame) -> np.ndarray:
    """Mean detector signal relative to the unattenuated beam, float32 (H, W): primary and scatter, blurred."""
    primary = np.exp(-line)
    scatter = blur_widely(line * primary, exposure.scatter_width / frame.pixel, "nearest")
    signal = primary + np.float32(exposure.scatter) * scatter
    return ndimage.gaussian_filter(signal, exposure.blur, truncate=2.5)


def detect(signal: np.ndarray, exposure: Exposure, facts: Facts) -> np.ndarray:
    """Optical density -log(signal) with quantum noise (Gaussian limit of Poisson) and read-out noise."""
    rng = stream(facts.seed, facts.index, "noise")
    grain = rng.standard_normal(signal.shape, dtype=np.float32)
    grain += np.float32(0.35) * (np.roll(grain, 1, 0) + np.roll(grain, 1, 1))
    grain *= np.float32(1 / np.sqrt(1 + 2 * 0.35**2))
    counts = signal * np.float32(exposure.photons)
    counts += grain * np.sqrt(counts + np.float32(exposure.electronic**2))
    return -np.log(np.maximum(counts, 1) * np.float32(1 / exposure.photons))


def process(density: np.ndarray, exposure: Exposure, frame: Frame) -> np.ndarray:
    """Process as a console does: compress the slow part, sharpen the fast part. Same unit as `density`."""
    slow = blur_widely(density, 2.0 / frame.pixel, "reflect")
    processed = density - np.float32(exposure.latitude) * slow
    if exposure.sharpen:
        processed += np.float32(exposure.sharpen) * (density - ndimage.gaussian_filter(density, 2.0, truncate=2.5))
    return processed


def grey_range(
    line: np.ndarray, chest: np.ndarray, lung: np.ndarray, exposure: Exposure, frame: Frame
) -> tuple[float, float]:
    """The densities that become black and white, from the exposure without its finding, so that they carry no label.

    line: line integral without the finding; chest, lung: bool masks of the trunk and the lungs. A quarter of the
    resolution is enough for percentiles. Returns (black, white) on the scale of `process`.
    """
    every = slice(None, None, 4), slice(None, None, 4)
    rows, columns = line[every].shape
    small = replace(frame, rows=rows, columns=columns, pixel=4 * frame.pixel)
    density = process(-np.log(expose(line[every], exposure, small)), replace(exposure, sharpen=0), small)
    low, high = np.percentile(density[lung[every]], 2.0), np.percentile(density[chest[every]], 99.5)
    span = high - low
    return float(low - (0.06 + exposure.low) * span), float(high + exposure.high * span)
