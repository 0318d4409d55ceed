"""Fetch one published file over HTTP: resumed, verified, and in place only when whole.

Of a gigabyte on a slow line nothing is fetched twice, and a web page in the place of the file is refused even where no
checksum is published; pooch does neither.
"""

import hashlib
import sys
import time
import urllib.error
import urllib.request
from functools import partial
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

from amae.runtime.errors import InputError

CHUNK = 1 << 20  # bytes
ATTEMPTS = 5
TIMEOUT = 60.0  # seconds without a byte
RETRIED = (408, 429, 500, 502, 503, 504)  # HTTP statuses that pass


class _Broken(Exception):
    """The transfer stopped early; what has arrived is kept, and asking again may help."""


def download(
    url: str, path: str | Path, *, md5: str | None = None, sha256: str | None = None, pause: float = 2.0
) -> str:
    """Fetch `url` to `path`, and return the file's SHA-256 (64 hexadecimal digits).

    A file already at `path`, put there by hand or by an earlier run, is verified and nothing is fetched. What arrives
    is kept as `path`.part, from which this and later calls resume (HTTP Range, RFC 9110 section 14; a server that
    ignores it sends the whole file again), and becomes `path` once its checksum is right. `pause` in seconds doubles
    between the attempts. Raises InputError: another checksum, no space, an address that does not serve the file.
    """
    path = Path(path)
    if path.is_file():
        return _verify(path, url, md5, sha256, "remove it, or put the right file there")
    if urlsplit(url).scheme not in ("http", "https"):
        raise InputError(f"{url}: not an http or https address")
    part, by_hand = path.with_name(f"{path.name}.part"), f"Get it by hand from {url} and put it at {path}"
    part.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _fetch(url, part)
            break
        except _Broken as error:
            if attempt == ATTEMPTS:
                again = f"{error}, after {ATTEMPTS} attempts; run it again to go on from there"
                raise InputError(f"{url}: {again}. {by_hand}") from None
            print(f"download: {error}; going on in {pause:g} s", file=sys.stderr, flush=True)
            time.sleep(pause)
            pause *= 2
        except InputError as error:
            raise InputError(f"{url}: {error}. {by_hand}") from None
        except OSError as error:  # of the file: those of the connection are _Broken
            raise InputError(f"{part}: cannot be written ({error.strerror or error})") from None
    try:
        digest = _verify(part, url, md5, sha256, f"run it again. {by_hand}")
    except InputError:
        part.unlink()  # going on from wrong bytes would never end well
        raise
    part.replace(path)
    return digest


def _fetch(url: str, part: Path) -> None:
    """Add what is missing to `part`. Raises _Broken where asking again may help, InputError where it does not."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "Mozilla/5.0 (compatible; amae)", "Accept-Encoding": "identity"}
    headers |= {"Range": f"bytes={have}-"} if have else {}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{have}":
                return  # no bytes behind those that are here: the part is whole
            if error.code == 416:
                part.unlink()  # of another file
            elif error.code not in RETRIED:
                raise InputError(f"the server answered {error.code} {error.reason}") from None
            raise _Broken(f"the server answered {error.code} {error.reason}") from None
    except (OSError, HTTPException) as error:
        raise _Broken(f"no connection ({getattr(error, 'reason', None) or error})") from None
    with response:
        _copy(response, part, have)


def _copy(response: HTTPResponse, part: Path, have: int) -> None:
    """Write the body of an answer to `part`, behind the bytes there or, from a server that ignores Range, afresh."""
    if response.headers.get_content_type() == "text/html":
        raise InputError("sent a web page (a log-in, or a notice), not the file")
    start = have if response.status == 206 else 0
    if start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        part.unlink()
        raise _Broken("the server sent another range than asked for")
    length = response.headers.get("Content-Length")
    total, done = start + int(length) if length else None, start
    with part.open("ab" if start else "wb") as file:
        while chunk := _read(response):
            file.write(chunk)
            _report(part, done, done + len(chunk), total)
            done += len(chunk)
    if total is not None and done < total:
        raise _Broken(f"the connection broke at {done} of {total} bytes")


def _read(response: HTTPResponse) -> bytes:
    """The next bytes of an answer."""
    try:
        return response.read(CHUNK)
    except (OSError, HTTPException) as error:
        raise _Broken(f"the connection broke ({error})") from None


def _report(part: Path, before: int, done: int, total: int | None) -> None:
    """A line to stderr at about every tenth of the way, or every 100 MB where the way is unknown."""
    step = max(total // 10, 1) if total else 100_000_000
    if before // step != done // step or done == total:
        of = f" of {total / 1e6:.1f}" if total else ""
        print(f"download: {part.stem}: {done / 1e6:.1f}{of} MB", file=sys.stderr, flush=True)


def _verify(path: Path, url: str, md5: str | None, sha256: str | None, next_step: str) -> str:
    """SHA-256 of a file, after its checksums were found right."""
    sums = {}
    for name, expected in (("sha256", sha256), ("md5", md5)):
        if expected or name == "sha256":
            with path.open("rb") as file:
                sums[name] = hashlib.file_digest(file, partial(hashlib.new, name, usedforsecurity=False)).hexdigest()
        if expected and sums[name] != expected:
            raise InputError(
                f"{path} ({path.stat().st_size} bytes): {name} is {sums[name]}, expected {expected} for {url}; "
                f"{next_step}"
            )
    return sums["sha256"]
