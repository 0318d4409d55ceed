"""Unpack a published .tar, .tar.gz or .zip: files and folders only, none outside the folder, no more than agreed."""

import errno
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from amae.runtime.errors import InputError
from amae.runtime.files import temporary_beside

MEMBERS = 1_000_000  # no benchmark has a fifth of it
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError)


def unpack(archive: str | Path, folder: str | Path, limit: int) -> None:
    """Unpack `archive` as the new folder `folder`, which appears only when whole.

    `limit` bounds the sum of the members' declared sizes, in bytes. Raises InputError, leaving nothing behind: `folder`
    exists, the archive is damaged, or a member is unsafe: a path that is absolute or leads out, a link, a device or
    pipe, a name twice, an encrypted member, or sizes beyond the limit.
    """
    archive, folder = Path(archive), Path(folder)
    if folder.exists():
        raise InputError(f"{folder}: exists already; remove it to unpack {archive} again")
    temporary = temporary_beside(folder)
    shutil.rmtree(temporary, ignore_errors=True)  # of a killed process
    temporary.mkdir(parents=True)
    try:
        _extract_all(archive, temporary, limit)
        temporary.replace(folder)
    except DAMAGED as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise OSError(error.errno, error.strerror, str(folder)) from None
        raise InputError(
            f"{archive}: cannot be unpacked ({error}); damaged or not an archive: fetch it again"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _extract_all(archive: Path, folder: Path, limit: int) -> None:
    total = count = 0
    for name, size, is_plain, extract in _members(archive):
        parts = name.split("/")  # refused if it could mean another place on any system
        if name.startswith("/") or ".." in parts or "\\" in name or ":" in parts[0] or "\0" in name or not name:
            raise InputError(f"{archive}: member {name!r} leads out of the folder; refused")
        if not is_plain:
            raise InputError(f"{archive}: {name} is neither a file nor a folder; refused")
        if folder.joinpath(name).is_file():
            raise InputError(f"{archive}: {name} occurs twice; refused")
        total, count = total + size, count + 1
        if total > limit or count > MEMBERS:
            found = f"{total} bytes" if total > limit else f"{count} members"
            raise InputError(
                f"{archive}: unpacks to {found} or more, allowed are {limit} bytes in {MEMBERS} members; "
                "not the published archive"
            )
        extract(path=folder)
    if not count:
        raise InputError(f"{archive}: the archive is empty")


def _members(archive: Path) -> Iterator[tuple[str, int, bool, Callable[..., object]]]:
    """Name, declared size in bytes, whether it is a file or folder, and what extracts it, in one pass."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            for member in file.infolist():
                kind = stat.S_IFMT(member.external_attr >> 16)
                is_plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
                yield member.orig_filename, member.file_size, is_plain, partial(file.extract, member)
        return
    with tarfile.open(archive, "r|*") as tar:
        for member in tar:
            is_plain = (member.isfile() or member.isdir()) and not member.issparse() and member.size >= 0
            yield member.name, member.size, is_plain, partial(tar.extract, member, filter="data")
