"""Settings of the comparators. The defaults are the published recipes."""

from dataclasses import dataclass

from amae.mae.architecture import Architecture
from amae.runtime.errors import InputError
from amae.settings import Checked, DetectorSettings, ModuleSettings, ReconstructionSettings, setting


@dataclass(frozen=True)
class AutoencoderSettings(Checked):
    """AE and AE-U: the autoencoder of DDAD and its training (Cai et al. 2022)."""

    image_size: int = setting(64, "side of the network's input in pixels, a multiple of 16", 16, multiple_of=16)
    epochs: int = setting(250, "passes over the images", 1)
    batch_size: int = setting(64, "images in a step", 2)
    lr: float = setting(5e-4, "learning rate of Adam, constant", 0)


@dataclass(frozen=True)
class EnsembleSettings(AutoencoderSettings):
    """DDAD: the autoencoders and their training (Cai et al. 2022)."""

    networks: int = setting(3, "networks of each module, K, which differ in their seeds", 2)


@dataclass(frozen=True)
class RefinedSettings(EnsembleSettings):
    """DDAD-ASR: DDAD's autoencoders, and the training of the network that refines their maps (Cai et al. 2023)."""

    refine_epochs: int = setting(100, "passes of the refining network over T_n", 1)
    refine_batch_size: int = setting(8, "images in a step of the refining network", 1)
    refine_lr: float = setting(1e-4, "learning rate of Adam for the refining network, constant", 0)


@dataclass(frozen=True)
class FAnoGanSettings(Checked):
    """f-AnoGAN: a WGAN-GP, then an encoder (Schlegl et al. 2019)."""

    image_size: int = setting(64, "side of the networks' input in pixels, a power of two", 8)
    dim: int = setting(64, "channels at full size; the smallest maps have up to eight times as many", 1)
    updates: int = setting(100, "steps of an epoch, whatever the number of images: of the generator, of the encoder", 1)
    epochs: int = setting(1000, "epochs of the WGAN", 1)
    encoder_epochs: int = setting(500, "epochs of the encoder", 1)
    critic_steps: int = setting(5, "steps of the critic before each of the generator", 1)
    penalty: float = setting(10.0, "weight of the gradient penalty, lambda", 0)
    batch_size: int = setting(64, "images in a step", 2)
    lr: float = setting(1e-4, "learning rate of Adam for generator and critic, constant", 0)
    encoder_lr: float = setting(5e-5, "learning rate of RMSProp for the encoder, constant", 0)

    def __post_init__(self) -> None:
        """Also refuse sizes that are no power of two."""
        super().__post_init__()
        _check_power_of_two(self.image_size)


@dataclass(frozen=True)
class IgdSettings(Checked):
    """IGD: the interpolated Gaussian descriptor and its training (Chen et al. 2022)."""

    image_size: int = setting(256, "side of the networks' input in pixels, a power of two", 32)
    dim: int = setting(64, "channels of decoder and critic at full size", 1)
    pretrained: bool = setting(True, "a frozen ResNet-18 of ImageNet; false: the same network, trained from scratch")
    backbone: str | None = setting(
        None, "file of its weights, resnet18-f37072fd.pth of torchvision; null: the workflow fetches it"
    )
    epochs: int = setting(256, "passes over the images", 1)
    batch_size: int = setting(16, "images in a step", 2)
    lr: float = setting(1e-4, "learning rate of Adam, with a polynomial of power 0.9 to 0", 0)
    weight_decay: float = setting(1e-6, "L2 penalty", 0)

    def __post_init__(self) -> None:
        """Also refuse sizes that are no power of two, and a file that would not be used."""
        super().__post_init__()
        _check_power_of_two(self.image_size)
        if self.backbone and not self.pretrained:
            raise InputError(f"backbone: found {self.backbone}, which pretrained false contradicts; leave one out")


def _check_power_of_two(size: int) -> None:
    """Raise InputError for a size that halvings do not divide down to 4 px."""
    if size & (size - 1):
        raise InputError(f"image_size: found {size}, expected a power of two")


@dataclass(frozen=True)
class AnatPasteSettings(Checked):
    """AnatPaste: the detector and its training (Sato et al. 2022)."""

    image_size: int = setting(256, "side of the network's input, in pixels", 32)
    epochs: int = setting(256, "epochs, each of `updates` steps whatever the number of images", 1)
    updates: int = setting(256, "steps of an epoch", 1)
    batch_size: int = setting(64, "images in a step; each brings its synthetic twin", 1)
    lr: float = setting(0.03, "learning rate of SGD, with a cosine to 0", 0)
    weight_decay: float = setting(3e-5, "L2 penalty", 0)


@dataclass(frozen=True)
class SegmentationSettings(Checked):
    """CutPaste-e2e, FPI and PII: NSA's network and its training (Schlüter et al. 2022)."""

    image_size: int = setting(
        224,
        "side of the network's input in pixels, a multiple of 32; it is cut from an image 8/7 as large",
        64,
        multiple_of=32,
    )
    epochs: int = setting(240, "passes over the images", 1)
    batch_size: int = setting(64, "images in a step", 1)
    lr: float = setting(1e-3, "peak learning rate of Adam, with a cosine to 1e-6", 0)


@dataclass(frozen=True)
class NsaSettings(SegmentationSettings):
    """NSA: its network, training and labels (Schlüter et al. 2022)."""

    label: str = setting(
        "logistic",
        "of the pixels that a patch changes: binary (1) or logistic, which grows with the change in grey levels",
        choices=("logistic", "binary"),
    )


@dataclass(frozen=True)
class DraemSettings(Checked):
    """DRAEM: its two networks and their training (Zavrtanik et al. 2021)."""

    image_size: int = setting(256, "side of the network's input in pixels, a multiple of 32", 64, multiple_of=32)
    width: int = setting(
        128, "channels of the first layers of the reconstructive network; the discriminative one has half as many", 2
    )
    epochs: int = setting(700, "passes over the images", 1)
    batch_size: int = setting(8, "images in a step", 1)
    lr: float = setting(1e-4, "learning rate of Adam; a fifth after 80 % and again after 90 % of the epochs", 0)
    textures: str | None = setting(None, "folder of pictures to take textures from; null: pieces of T_n")


@dataclass(frozen=True)
class NeighbourSettings(Checked):
    """Nearest neighbours in the frozen features of f_0."""

    neighbours: int = setting(5, "nearest images of T_n whose distances are averaged", 1)


@dataclass(frozen=True)
class ProbeSettings(Checked):
    """The positive-unlabeled probe of T_n against T_u (Elkan and Noto 2008)."""

    c: float = setting(1.0, "inverse strength of the L2 penalty, scikit-learn's C", 1e-9)
    iterations: int = setting(1000, "most iterations of L-BFGS", 1)
    folds: int = setting(5, "folds of the out-of-fold probabilities of T_u", 2)


@dataclass(frozen=True)
class AnomalibSettings(Checked):
    """A one-class image model of anomalib; all that is not here is as anomalib has it."""

    image_size: int | None = setting(None, "side of the model's input in pixels; null: anomalib's own for the model", 8)
    epochs: int = setting(100, "passes over T_n; a model that only collects features takes anomalib's own number", 1)
    batch_size: int = setting(32, "images in a step", 1)
    pre_trained: bool = setting(True, "start from the weights that anomalib downloads; false: from random ones")


@dataclass(frozen=True)
class NoSettings(Checked):
    """A method in which there is nothing to set."""


@dataclass(frozen=True)
class MaskRecSettings:
    """Mask Rec. and MAE multi-reconstruction: trained as a module is, scored under the masks of the reconstructions."""

    modules: ModuleSettings = ModuleSettings()
    reconstruction: ReconstructionSettings = ReconstructionSettings()


@dataclass(frozen=True)
class TwoDistributionSettings:
    """The two-distribution error ratio: two modules, each trained as one of stage 2."""

    modules: ModuleSettings = ModuleSettings()


# Masks of a test image for this ratio: so many that their noise is small beside the spread of normal images.
RATIO_MASKS = ReconstructionSettings(masks=16, mask_scheme="complementary")


def check_ratio_masks(sizes: Architecture) -> None:
    """Raise InputError, naming the keys, where these masks do not share out the patches of an image evenly."""
    try:
        RATIO_MASKS.check_patches(sizes.patches, sizes.visible(RATIO_MASKS.mask_ratio))
    except InputError as error:
        raise InputError(
            f"key mae.image_size {sizes.image_size} with mae.patch_size {sizes.patch_size}: {error}; "
            "two_distributions and detector_ratio need such masks: choose other sizes, or leave both out of "
            "experiments.comparators"
        ) from None


@dataclass(frozen=True)
class BalancedSettings(DetectorSettings):
    """The detector (ours), trained under weights that make a column of the table independent of the set."""

    column: str = setting(
        "view",
        "column that is as frequent in T_u as in T_n under the weights; ages count by decade",
        choices=("view", "sex", "age"),
    )


@dataclass(frozen=True)
class PlainSettings(DetectorSettings):
    """The detector (ours) in one round: trained on all of T_u."""

    rounds: int = setting(1, "trainings: always 1; the section detector has more", 1, 1)


@dataclass(frozen=True)
class SumSettings:
    """The sum of the detector and the two-distribution error ratio: those of both rows."""

    detector: DetectorSettings = DetectorSettings()
    modules: ModuleSettings = ModuleSettings()
