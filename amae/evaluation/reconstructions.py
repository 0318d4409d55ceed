"""The mean maps of a run beside its images and boxes, to measure and to show where the findings are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from amae.data.boxes import packed_boxes, read_boxes
from amae.data.packed import open_images
from amae.evaluation.localisation import anomaly_map
from amae.runtime.errors import InputError
from amae.runtime.files import load_arrays, rows_of


@dataclass(frozen=True)
class Reconstructions:
    """Mean maps of modules A and B, float `(N, H, W)`, with their images, uint8 `(N, H, W)`; `patch` in pixels."""

    ids: list[str]
    images: np.ndarray
    mu_a: np.ndarray
    mu_b: np.ndarray
    patch: int
    index: pd.DataFrame

    @classmethod
    def read(cls, images: Path, index: Path, maps: Path) -> "Reconstructions":
        """Read the files of a run; InputError where they do not belong together."""
        packed, table = open_images(images, index)
        arrays = load_arrays(maps, ("image_id", "mu_a", "mu_b", "hidden"))
        ids, mu_a = arrays["image_id"].tolist(), arrays["mu_a"]
        if mu_a.shape[1:] != packed.shape[1:]:
            raise InputError(f"{maps}: maps of {mu_a.shape[1]} px, the packed images have {packed.shape[1]} px")
        rows = rows_of(table.reset_index(names="row"), ids, index)["row"]  # refuses maps of another data set
        patch = mu_a.shape[1] // arrays["hidden"].shape[1]
        return cls(ids, packed[rows.to_numpy()], mu_a, arrays["mu_b"], patch, table)

    def part(self, ids: Sequence[str]) -> "Reconstructions":
        """Those of some images, in the order of `ids`."""
        at = [self.ids.index(image_id) for image_id in ids]
        return Reconstructions(list(ids), self.images[at], self.mu_a[at], self.mu_b[at], self.patch, self.index)

    def map(self, name: str) -> np.ndarray:
        """One of the maps of `evaluation.localisation.MAPS`, float `(N, H, W)`."""
        return anomaly_map(name, self.images, self.mu_a, self.mu_b, self.patch)


def boxes_of(path: Path | None, index: pd.DataFrame) -> tuple[dict[str, list], dict[str, list[str]]]:
    """Boxes in packed pixels and their findings, by image. Raises InputError where there is none, with the remedy."""
    if path is None:
        raise InputError("--boxes: missing; expected a table of boxes (for data of kind own: datasets.NAME.boxes)")
    boxes, findings = packed_boxes(read_boxes(path), index)
    if not boxes:
        raise InputError(
            f"{path}: no box of any image here, and localisation needs some. rsna, vindr, nih: `uv pip install "
            "--no-deps torchxrayvision` brings the boxes; vindr: also the original DICOM files, as the PNG copies do "
            "not state the size that boxes refer to; paediatric: none are published; own: the image_id are the table's"
        )
    return boxes, findings
