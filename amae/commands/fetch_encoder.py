"""The published weights of a network of timm."""

from pathlib import Path

from amae.commands import parameters as p
from amae.mae.architecture import TIMM
from amae.runtime.errors import InputError
from amae.runtime.files import read_record, write_json


def fetch_encoder(
    *,
    encoder: p.Encoder,
    fetched: p.file("file of weights to write (.safetensors)"),
) -> None:
    """Fetch the weights of a network of timm from the hub, and record their commit and SHA-256.

    The record lies beside the file, with the ending .json. A later download is of the commit that it names, and must
    have its SHA-256.
    """
    from amae.mae.timm_encoder import pretrained_about
    from amae.sources.hub import fetch_from_hub

    about, record = pretrained_about(encoder), Path(f"{str(fetched).removesuffix('.safetensors')}.json")
    own = f"give a file of your own, weights: {TIMM}{encoder}@FILE"
    if not about.hf_hub_id:
        raise InputError(f"weights {TIMM}{encoder}: the hub has no weights for it; {own}")
    known = read_record(record) if record.is_file() else {}
    repository, _, fixed = about.hf_hub_id.partition("@")
    source = about.hf_hub_filename or "model.safetensors"
    try:
        revision, digest = fetch_from_hub(
            repository, source, fetched, known.get("revision") or fixed or None, known.get("sha256")
        )
    except InputError as error:
        raise InputError(f"{error}, {f'recorded in {record}; ' if known else ''}{own}") from None
    found = {"model": encoder, "repository": repository, "file": source, "revision": revision, "sha256": digest}
    write_json(found, record)
