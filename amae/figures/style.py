"""One look for every figure: sizes, fonts, colours, names of scores, and how a page becomes a PNG file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from amae.runtime.files import atomic

COLUMN = 3.5  # inches, one column of a journal page
PAGE = 7.0  # inches, both columns
RESOLUTION = 220  # dots per inch

# Okabe and Ito (2008): distinct to readers with any colour vision.
NORMAL, ABNORMAL, UNKNOWN = "#0072B2", "#E06C00", "#BDBDBD"
CLASS_COLOURS = {"normal": NORMAL, "abnormal": ABNORMAL}
# Tol's "muted" scheme, without its blue and its rose: blue and orange always mean normal and abnormal.
LINES = ("#332288", "#117733", "#AA4499", "#44AA99", "#999933", "#882255")
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1, 1, 1)), (0, (8, 2)), (0, (3, 1, 1, 1, 1, 1)))

# Name in a legend and what the axis measures; a column not listed here appears under its own name.
SCORES = {
    "detector": ("Detector (ours)", "logit of $T_u$ against $T_n$"),
    "stage1": ("Stage 1", "probability of abnormal"),
    "inter": ("Inter-discrepancy", "mean $|\\mu_A-\\mu_B|$, intensity 0 to 1"),
    "mask_rec": ("Masked reconstruction error (ours)", "masked squared error of A, intensity²"),
    "error_ratio": ("Error ratio (ours)", "$\\log(e_A / e_B)$"),
    "error_ratio_patch": ("Error ratio per patch (ours)", "mean over patches of $\\log(e_A / e_B)$"),
}

SETTINGS = {
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "figure.constrained_layout.h_pad": 0.04,
    "figure.constrained_layout.w_pad": 0.04,
}


def score_name(column: str) -> str:
    """Name of a score in a legend or a title."""
    return SCORES[column][0] if column in SCORES else column


def score_axis(column: str) -> str:
    """Label, with units, of an axis that shows a score."""
    return SCORES[column][1] if column in SCORES else f"{column} (higher = more abnormal)"


@contextmanager
def page(path: str | Path, width: float, height: float, layout: str | None = "constrained") -> Iterator[Figure]:
    """An empty figure of width x height inches, written to `path` as PNG when the block ends without an error.

    The reader's own matplotlib settings play no part, and no date or version goes into the file.
    """
    with style.context(["default", SETTINGS]):
        figure = Figure(figsize=(width, height), layout=layout)
        FigureCanvasAgg(figure)
        yield figure
        with atomic(path) as temporary:
            figure.savefig(temporary, format="png", dpi=RESOLUTION, metadata={"Software": None})
