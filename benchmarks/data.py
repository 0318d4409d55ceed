"""Files to measure on: simulated radiographs, enlarged to the sizes and formats of the public data sets."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit

from amae.sources.simulated import simulate_image


def radiographs(count: int, size: int, bits: int = 8) -> list[np.ndarray]:
    """Simulated radiographs (size, size) of so many bits, with the noise that makes a codec work."""
    noise = np.random.default_rng(0)
    top = 2**bits - 1
    images = []
    for number in range(count):
        pixels = simulate_image(0, number, 0.4).pixels.astype(np.float32)
        pixels = (pixels - pixels.min()) / (pixels.max() - pixels.min()) * top
        large = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC))
        large = large + noise.normal(0, top / 255, large.shape)
        images.append(large.clip(0, top).astype(np.uint8 if bits == 8 else np.uint16))
    return images


def write_png(folder: Path, count: int, size: int = 1024) -> list[Path]:
    """PNG files as NIH publishes them."""
    paths = [folder / f"{number}.png" for number in range(count)]
    for path, image in zip(paths, radiographs(count, size), strict=True):
        Image.fromarray(image).save(path)
    return paths


def write_jpeg_dicom(folder: Path, count: int, size: int = 1024) -> list[Path]:
    """DICOM files with a baseline JPEG inside, as RSNA publishes them."""
    paths = [folder / f"baseline{number}.dcm" for number in range(count)]
    for path, image in zip(paths, radiographs(count, size), strict=True):
        jpeg = path.with_suffix(".jpg")
        Image.fromarray(image).save(jpeg, quality=90)
        dataset = _dataset(image, 8, JPEGBaseline8Bit)
        dataset.PixelData = encapsulate([jpeg.read_bytes()])
        dataset.save_as(path, enforce_file_format=True)
        jpeg.unlink()
    return paths


def write_jpeg2000_dicom(folder: Path, count: int, size: int = 2048) -> list[Path]:
    """DICOM files of 12 bits in lossless JPEG 2000, as VinDr publishes many of its own."""
    paths = [folder / f"lossless{number}.dcm" for number in range(count)]
    for path, image in zip(paths, radiographs(count, size, bits=12), strict=True):
        dataset = _dataset(image, 12, ExplicitVRLittleEndian)
        dataset.PixelData = image.tobytes()
        dataset.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
        dataset.save_as(path, enforce_file_format=True)
    return paths


def write_manifest(paths: Sequence[Path], manifest: Path) -> Path:
    """A manifest of training images."""
    rows = [[f"image{number}", path, "train_normal", "", f"p{number}", "PA"] for number, path in enumerate(paths)]
    columns = ["image_id", "path", "split", "label", "patient_id", "view"]
    pd.DataFrame(rows, columns=columns).to_csv(manifest, index=False)
    return manifest


def _dataset(image: np.ndarray, bits: int, syntax: str) -> Dataset:
    """The header of a grey image."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = "2.25.1"
    dataset.Rows, dataset.Columns = image.shape
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * image.itemsize, bits, bits - 1
    dataset.WindowCenter, dataset.WindowWidth = 2 ** (bits - 1), 2**bits
    return dataset
