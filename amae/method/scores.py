"""Image scores from the mean maps of modules A and B (AMAE, Eq. 4, and three of this project's own).

All arrays are float32, maps `(N, H, W)` on the scale of intensities in [0, 1], nan where a patch was never hidden;
higher scores are more abnormal.
"""

import numpy as np
import pandas as pd

DESCRIPTIONS = {
    "detector": "logit of unlabeled against normal images (detector, this project's own)",
    "stage1": "probability of a synthetic anomaly (stage 1, Sec. 2.1)",
    "inter": "inter-discrepancy, mean of |mu_A - mu_B| (AMAE's score, Eq. 4)",
    "mask_rec": "masked reconstruction error of module A (this project's own)",
    "error_ratio": "log(e_A / e_B) over hidden pixels (this project's own)",
    "error_ratio_patch": "mean over patches of log(e_A / e_B) (this project's own)",
}
MODULE_SCORES = ("inter", "mask_rec", "error_ratio", "error_ratio_patch")  # those of modules A and B
TINY = 1e-8  # squared intensity, far below one grey level (1.5e-5), so that no quotient or logarithm fails


def discrepancy_map(mu_a: np.ndarray, mu_b: np.ndarray) -> np.ndarray:
    """|mu_A - mu_B| `(N, H, W)`; 0 where a patch was never hidden (Eq. 4)."""
    return np.nan_to_num(np.abs(mu_a - mu_b), nan=0.0)


def patch_means(maps: np.ndarray, patch: int) -> np.ndarray:
    """Mean of each patch: `(N, H, W)` to `(N, H / patch, W / patch)`."""
    n, height, width = maps.shape
    return maps.reshape(n, height // patch, patch, width // patch, patch).mean((2, 4))


def reconstruction_scores(
    images: np.ndarray, mu_a: np.ndarray, mu_b: np.ndarray, masked_error_a: np.ndarray, patch: int
) -> pd.DataFrame:
    """One row per image and one column per score: inter, mask_rec, error_ratio, error_ratio_patch.

    `images` uint8 `(N, H, W)`; `masked_error_a (N,)` as `reconstruct` gives it; `patch` in pixels.
    """
    target = images.astype(np.float32) / 255
    error_a, error_b = (patch_means((mu - target) ** 2, patch).reshape(len(mu), -1) for mu in (mu_a, mu_b))
    ratio = np.log((error_a + TINY) / (error_b + TINY))  # (N, T), nan where never hidden
    return pd.DataFrame(
        {
            "inter": discrepancy_map(mu_a, mu_b).mean((1, 2), dtype=np.float64),
            "mask_rec": masked_error_a.astype(np.float64),
            "error_ratio": np.log((np.nanmean(error_a, 1) + TINY) / (np.nanmean(error_b, 1) + TINY)),
            "error_ratio_patch": np.nanmean(ratio, 1),
        }
    )
