"""Sizes of a masked autoencoder, checked without loading torch."""

from dataclasses import dataclass

from amae.runtime.errors import InputError

TIMM = "timm:"  # before timm's name of a network, where weights are named


@dataclass(frozen=True)
class Architecture:
    """Sizes of a masked autoencoder, and the grey mean and standard deviation its input is normalised with.

    image_size and patch_size in pixels; mean and std on intensities in [0, 1].
    """

    image_size: int
    patch_size: int
    width: int
    depth: int
    heads: int
    decoder_width: int
    decoder_depth: int
    decoder_heads: int
    channels: int = 1
    mlp_ratio: float = 4.0
    mean: float = 0.5
    std: float = 0.25

    def __post_init__(self) -> None:
        """Refuse sizes that contradict each other, naming both."""
        for whole, part in [("image_size", "patch_size"), ("width", "heads"), ("decoder_width", "decoder_heads")]:
            if getattr(self, whole) % getattr(self, part):
                raise InputError(
                    f"mae.{whole} {getattr(self, whole)} is not a multiple of mae.{part} {getattr(self, part)}"
                )
        for name in ("width", "decoder_width"):
            if getattr(self, name) % 4:
                raise InputError(f"mae.{name} {getattr(self, name)} is not a multiple of 4, which its positions need")

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size

    @property
    def patches(self) -> int:
        """Patches of an image, T."""
        return self.grid**2

    @property
    def patch_values(self) -> int:
        """Values of a patch, P."""
        return self.patch_size**2 * self.channels

    def visible(self, mask_ratio: float) -> int:
        """Number of patches the encoder sees at a mask ratio: T * (1 - ratio), rounded down, as published."""
        return visible_patches(self.patches, mask_ratio)


def visible_patches(patches: int, mask_ratio: float) -> int:
    """Number of patches, of all of an image, that a mask of this ratio leaves to see: rounded down, as published."""
    return int(patches * (1 - mask_ratio))
