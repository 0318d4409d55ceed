"""Fetch one published file over HTTP: resumed, verified, and in place only when whole."""

import hashlib
import shutil
import sys
import time
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

from amae.runtime.errors import InputError

CHUNK = 1 << 20  # bytes
ATTEMPTS = 5
TIMEOUT = 60.0  # seconds without a byte
RETRIED = (408, 429, 500, 502, 503, 504)  # HTTP statuses that pass
# published sizes are rounded: what exceeds them by more than this is another file
SIZE_TOLERANCE = 0.1


class _Broken(Exception):
    """The transfer stopped early; what has arrived is kept, and asking again may help."""


def download(
    url: str,
    path: str | Path,
    *,
    md5: str | None = None,
    sha256: str | None = None,
    size: int | None = None,
    pause: float = 2.0,
) -> str:
    """Fetch `url` to `path`, and return the file's SHA-256 (64 hexadecimal digits).

    A file already at `path`, put there by hand or by an earlier run, is verified and nothing is fetched. What arrives
    is kept as `path`.part, from which this and later calls resume (HTTP Range, RFC 9110 section 14; a server that
    ignores it sends the whole file again), and becomes `path` once its checksum is right. `size` in bytes may be
    rounded: it serves the check of free space and bounds what is accepted. `pause` in seconds doubles between the
    attempts. Raises InputError: another checksum, no space, an address that does not serve the file.
    """
    path = Path(path)
    if path.is_file():
        return _verify(path, url, md5, sha256, "remove it, or put the right file there")
    if urlsplit(url).scheme not in ("http", "https"):
        raise InputError(f"{url}: not an http or https address")
    part = path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    _check_space(part, size)
    by_hand = f"Get it by hand from {url} and put it at {path}"
    for attempt in range(ATTEMPTS):
        try:
            _fetch(url, part, size, by_hand)
            break
        except _Broken as error:
            if attempt == ATTEMPTS - 1:
                raise InputError(
                    f"{url}: {error}, after {ATTEMPTS} attempts; run it again to go on from there. {by_hand}"
                ) from None
            print(f"download: {error}; going on in {pause:g} s", file=sys.stderr, flush=True)
            time.sleep(pause)
            pause *= 2
    try:
        digest = _verify(part, url, md5, sha256, f"run it again. {by_hand}")
    except InputError:
        part.unlink()  # going on from wrong bytes would never end well
        raise
    part.replace(path)
    return digest


def _fetch(url: str, part: Path, size: int | None, by_hand: str) -> None:
    """Add what is missing to `part`. Raises _Broken where asking again may help, InputError where it does not."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "Mozilla/5.0 (compatible; amae)", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            _judge_refusal(error, url, part, have, by_hand)
        return
    except (OSError, HTTPException) as error:
        raise _Broken(f"no connection ({getattr(error, 'reason', None) or error})") from None
    with response:
        if response.headers.get_content_type() == "text/html":
            raise InputError(f"{url}: sent a web page (a log-in, or a notice), not the file. {by_hand}")
        try:
            _copy(response, part, _start_of(response, part, have), size, by_hand)
        except OSError as error:  # of the file: those of the connection are _Broken by now
            raise InputError(f"{part}: cannot be written ({error.strerror or error})") from None


def _judge_refusal(error: urllib.error.HTTPError, url: str, part: Path, have: int, by_hand: str) -> None:
    """Return when a refusal means that `part` is whole already; raise otherwise."""
    if error.code == 416 and have:  # no bytes after `have`: the part is whole, or it is not of this file
        if error.headers.get("Content-Range", "") == f"bytes */{have}":
            return
        part.unlink()
        raise _Broken("what had arrived is not of this file") from None
    if error.code in RETRIED:
        raise _Broken(f"the server answered {error.code} {error.reason}") from None
    raise InputError(f"{url}: the server answered {error.code} {error.reason}. {by_hand}") from None


def _start_of(response: HTTPResponse, part: Path, have: int) -> int:
    """Byte of the file that the answer starts at: `have`, or 0 from a server that ignores Range."""
    if response.status != 206:
        return 0
    if not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        part.unlink(missing_ok=True)
        raise _Broken("the server sent another range than asked for")
    return have


def _copy(response: HTTPResponse, part: Path, start: int, size: int | None, by_hand: str) -> None:
    """Write the body of an answer to `part` from byte `start` on."""
    length = response.headers.get("Content-Length")
    total = start + int(length) if length else None
    bound = None if size is None else round(size * (1 + SIZE_TOLERANCE)) + CHUNK
    if total is not None and bound is not None and total > bound:
        raise InputError(f"{response.url}: {total} bytes, expected about {size}; not the file. {by_hand}")
    done = start
    with part.open("r+b" if start else "wb") as file:
        file.seek(start)
        while chunk := _read(response):
            file.write(chunk)
            _report(part, done, done + len(chunk), total)
            done += len(chunk)
            if bound is not None and done > bound:
                part.unlink()
                raise InputError(f"{response.url}: more than {bound} bytes, expected about {size}. {by_hand}")
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
        print(f"download: {part.name.removesuffix('.part')}: {done / 1e6:.1f}{of} MB", file=sys.stderr, flush=True)


def _check_space(part: Path, size: int | None) -> None:
    have = part.stat().st_size if part.exists() else 0
    free = shutil.disk_usage(part.parent).free
    if size is not None and size - have > free:
        raise InputError(
            f"{part.parent}: {free / 1e6:.0f} MB free, and {(size - have) / 1e6:.0f} MB more are needed; "
            "free some space, or choose another folder"
        )


def _verify(path: Path, url: str, md5: str | None, sha256: str | None, next_step: str) -> str:
    """SHA-256 of a file, after its checksums were found right."""
    wanted = {"md5": md5, "sha256": sha256}
    sums = {"sha256": hashlib.sha256(), "md5": hashlib.md5(usedforsecurity=False)}
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            for digest in sums.values():
                digest.update(chunk)
    for name, expected in wanted.items():
        found = sums[name].hexdigest()
        if expected and found != expected:
            raise InputError(
                f"{path} ({path.stat().st_size} bytes): {name} is {found}, expected {expected} for {url}; {next_step}"
            )
    return sums["sha256"].hexdigest()
