"""The detector of a trained model as an ONNX file."""

from amae.commands import parameters as p
from amae.predict.calibration import SPECIFICITY
from amae.predict.card import describe, origin
from amae.runtime.errors import InputError
from amae.runtime.files import require_new, sha256


def export_onnx(model: p.Model, /, *, network: p.file("ONNX file to write (.onnx)")) -> None:
    """Write the detector of a model as ONNX: uint8 image to score and map, for programs without torch.

    The other scores are not exported: their masks are seeded by a hash of the image, which ONNX cannot compute.
    """
    about = describe(model)
    if "members" in about:
        raise InputError(f"{model}: a combined model ({origin(about)}); expected one of a single seed")
    require_new(network, ".onnx")
    from amae.predict.model import load_model
    from amae.predict.onnx_out import require_onnx, write_onnx
    from amae.predict.score import operating_point_of

    require_onnx()
    trained = load_model(model)
    point = operating_point_of(trained, "detector", SPECIFICITY)
    facts = {"size": about["architecture"]["image_size"], "square": about["square"], "conversion": about["conversion"]}
    facts |= {"model": sha256(model), "specificity": SPECIFICITY, "threshold": point.threshold if point else ""}
    write_onnx(trained, {key: str(value) for key, value in facts.items()}, network)
