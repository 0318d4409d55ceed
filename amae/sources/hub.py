"""One file of a model on the Hugging Face hub, at a known commit."""

import tempfile
from pathlib import Path

from amae.runtime.errors import InputError
from amae.runtime.files import sha256


def fetch_from_hub(
    repository: str, file: str, path: Path, revision: str | None = None, expected: str | None = None
) -> tuple[str, str]:
    """Fetch a file to `path`, and return the commit that it is of and its SHA-256.

    `revision`: the commit; None: the newest. `expected`: SHA-256 that the file must have. Raises InputError for another
    one, and where the hub does not serve the file.
    """
    from huggingface_hub import HfApi, hf_hub_download

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".hub") as folder:
        try:
            revision = revision or HfApi().model_info(repository).sha
            arrived = hf_hub_download(repository, file, revision=revision, local_dir=folder)
        except Exception as error:  # of the connection, the hub or the disk: no common class
            raise InputError(f"{file} of {repository}: cannot be fetched ({' '.join(str(error).split())})") from None
        if expected and (found := sha256(arrived)) != expected:
            raise InputError(f"{file} of {repository} at {revision}: sha256 is {found}, expected {expected}")
        Path(arrived).replace(path)
    return revision, sha256(path)
