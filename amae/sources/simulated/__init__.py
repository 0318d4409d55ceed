"""Simulated chest radiographs as DICOM files, with labels and boxes: the embedded data set.

The order of the modules is the order of the work: facts (what is decided), geometry, thorax, skeleton, vessels (what
attenuates), findings, overlays, projection (how it is seen), image (one radiograph), files (DICOM and tables).
"""

from amae.sources.simulated.facts import FINDINGS, Facts, draw_facts
from amae.sources.simulated.files import simulate_dataset
from amae.sources.simulated.image import Box, SimulatedImage, simulate_image

__all__ = ["FINDINGS", "Box", "Facts", "SimulatedImage", "draw_facts", "simulate_dataset", "simulate_image"]
