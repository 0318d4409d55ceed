"""A DICOMweb server (PS3.18): studies by QIDO-RS, images by WADO-RS, results by STOW-RS.

Needs the optional package dicomweb-client (`dicomweb`). Messages contain UIDs and statuses of HTTP, and nothing that a
server wrote, since that may quote a patient.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from pydicom import dcmread

from amae.data.header import RADIOGRAPHY
from amae.predict.dicom_out import silence
from amae.runtime.errors import InputError

if TYPE_CHECKING:
    from dicomweb_client import DICOMwebClient
    from requests import PreparedRequest, Session

TOKEN = "AMAE_DICOMWEB_TOKEN"  # environment variable: a bearer token
PAGE = 200  # results of a search at a time
TRIES = 3  # of a request that finds no server, or a busy one
BUSY = (408, 429, 502, 503, 504)
STUDY, SERIES, IMAGE, MODALITY = "0020000D", "0020000E", "00080018", "00080060"


class Fault(InputError):
    """A request that failed; `gone` where no server answered it."""

    def __init__(self, message: str, gone: bool = False):
        """Build with what was asked for, and what came of it."""
        super().__init__(message)
        self.gone = gone


class Place(NamedTuple):
    """Where an image is: the UIDs of its study, its series and its own."""

    study: str
    series: str
    image: str


class Archive:
    """A DICOMweb server, and how it is asked. Every method raises Fault."""

    def __init__(self, url: str, timeout: float):
        """Connect to nothing yet. `timeout`: seconds without an answer. Raises InputError for what is no address."""
        if find_spec("dicomweb_client") is None:
            raise InputError("dicomweb: needs the optional package dicomweb-client (pip install dicomweb-client)")
        try:
            parts = urlsplit(url)
            valid = url.startswith(("http://", "https://")) and parts.hostname and parts.port != 0
        except ValueError:  # an address or a port that is none
            valid = False
        if "@" in (parts.netloc if valid else url):
            raise InputError("URL: found a user name in it, expected none: put name and password into ~/.netrc")
        if not valid:
            raise InputError(
                f"URL: found {url!r}, expected the root of a DICOMweb server, as http://host:8042/dicom-web"
            )
        self.url, self.timeout = url.rstrip("/"), timeout
        self._client = _client(self.url, timeout)

    def studies(self, filters: Mapping[str, str]) -> list[str]:
        """UIDs of the studies that match all of these attributes, in the server's order."""
        found = self._all("search for studies", STUDY, self._client.search_for_studies, search_filters=dict(filters))
        return list(found)

    def images(self, study: str) -> list[Place]:
        """The images of a study, of the series whose modality is radiography, or not known."""
        series = self._all(f"study {study}: search for series", SERIES, self._client.search_for_series, study)
        places = []
        for uid, about in series.items():
            if str(_value(about, MODALITY)).strip().upper() in RADIOGRAPHY:
                what = f"study {study}: search for images"
                found = self._all(what, IMAGE, self._client.search_for_instances, study, uid)
                places += [Place(study, uid, image) for image in found]
        return places

    def fetch(self, place: Place, path: Path) -> None:
        """Write an image to a DICOM file, in the transfer syntax in which the server has it."""
        with self._asked("not downloaded"):
            dataset = self._client.retrieve_instance(*place)
            if (dataset.StudyInstanceUID, dataset.SOPInstanceUID) != (place.study, place.image):
                raise Fault("not downloaded: the server sent another image")
            dataset.save_as(path)

    def store(self, study: str, paths: Sequence[Path]) -> None:
        """Store DICOM files of one study. One that the server has already is stored."""
        with self._asked("not read"):
            datasets = [dcmread(path) for path in paths]
            uids = {str(dataset.SOPInstanceUID) for dataset in datasets}
        refusal, stored = Fault("not stored: the server does not confirm it"), set()
        try:
            with self._asked("not stored"):
                answer = self._client.store_instances(datasets, study)
                stored = {str(item.ReferencedSOPInstanceUID) for item in answer.get("ReferencedSOPSequence", [])}
                for item in answer.get("FailedSOPSequence", []):
                    refusal = Fault(f"not stored: the server refuses it, FailureReason {item.FailureReason:04X}h")
        except Fault as fault:  # a duplicate is a conflict (409) for some servers
            refusal = fault
        if not uids <= stored and (refusal.gone or not self._has(study, uids - stored)):
            raise refusal

    def is_gone(self) -> bool:
        """True where the server answers nothing, not even with an error."""
        try:
            with self._asked(""):
                self._client.search_for_studies(limit=1)
        except Fault as fault:
            return fault.gone
        return False

    def _has(self, study: str, uids: set[str]) -> bool:
        search = self._client.search_for_instances
        return all(
            uid in self._all("not stored", IMAGE, search, study, search_filters={"SOPInstanceUID": uid}) for uid in uids
        )

    def _all(self, what: str, tag: str, search: Callable[..., list], *given: str, **options: Any) -> dict[str, dict]:
        """All results of a search by UID, page by page; a server may ignore the offset, or shorten pages."""
        found: dict[str, dict] = {}
        offset = 0
        while True:
            with self._asked(what):
                page = search(*given, limit=PAGE, offset=offset, **options)
                new = {uid: each for each in page if (uid := str(_value(each, tag))) not in found}
            if not new:
                return found
            found |= new
            offset += len(page)

    @contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        """Have whatever goes wrong with a request from within reported as a Fault that begins with `what`."""
        from requests import ConnectionError, HTTPError, RequestException, Timeout

        try:
            with silence():
                yield
        except (Fault, MemoryError):
            raise
        except HTTPError as error:
            raise Fault(f"{what}: {_status(error.response.status_code)}") from None
        except (Timeout, ConnectionError) as error:
            late = isinstance(error, Timeout) or "timed out" in str(error)
            reason = f"no answer within {self.timeout:g} s" if late else "no connection, or a broken one"
            raise Fault(f"{what}: {reason}", gone=True) from None
        except RequestException as error:
            raise Fault(f"{what}: the answer broke off, or cannot be read ({type(error).__name__})") from None
        except Exception as error:  # pydicom raises nearly anything for a damaged answer
            raise Fault(f"{what}: the answer is not as in PS3.18 ({type(error).__name__})") from None


def _client(url: str, timeout: float) -> "DICOMwebClient":
    from dicomweb_client import DICOMwebClient
    from requests import Session
    from requests.adapters import HTTPAdapter
    from urllib3 import Retry

    session = Session()
    # Not by the client: its own retries send the body of a large request once only, and swallow an interruption.
    retry = Retry(
        TRIES - 1,
        status_forcelist=BUSY,
        allowed_methods=None,  # results too: their UIDs are the same each time
        backoff_factor=0.5,
        raise_on_status=False,
        respect_retry_after_header=False,
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    _sign(session)
    client = DICOMwebClient(url, session, timeout=timeout, chunk_size=2**31)  # one body, with its length
    client.set_http_retry_params(retry=False)
    return client


def _sign(session: "Session") -> None:
    """Add the bearer token of the environment to each request; without one, requests looks into ~/.netrc."""
    if token := os.environ.get(TOKEN):

        def sign(request: "PreparedRequest") -> "PreparedRequest":
            request.headers["Authorization"] = f"Bearer {token}"
            return request

        session.auth = sign


def _status(code: int) -> str:
    words = HTTPStatus(code).phrase if code in HTTPStatus._value2member_map_ else "unknown status"
    hint = f"; give name and password in ~/.netrc, or a token in {TOKEN}" if code in (401, 403) else ""
    return f"HTTP {code} {words}{hint}"


def _value(about: Mapping[str, Any], tag: str) -> Any:
    """First value of an attribute in DICOM JSON (PS3.18 F.2); "" for none."""
    values = about.get(tag, {}).get("Value") or [""]
    return values[0]
