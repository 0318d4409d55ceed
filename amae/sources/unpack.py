"""Unpack a published .tar, .tar.gz or .zip: files and folders only, none outside the folder, no more than agreed."""

import errno
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from amae.runtime.errors import InputError
from amae.runtime.files import delete_leftovers, temporary_beside

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
    delete_leftovers(folder.parent)
    temporary.mkdir(parents=True)
    try:
        members = _zip_members if zipfile.is_zipfile(archive) else _tar_members
        total = count = 0
        for name, size, content in members(archive):
            total, count = total + size, count + 1
            if total > limit or count > MEMBERS:
                found = f"{total} bytes" if total > limit else f"{count} members"
                raise InputError(
                    f"{archive}: unpacks to {found} or more, allowed are {limit} bytes in {MEMBERS} members; "
                    "not the published archive"
                )
            _write(archive, temporary, name, content)
        if not count:
            raise InputError(f"{archive}: the archive is empty")
        temporary.replace(folder)
    except InputError:
        raise
    except DAMAGED as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise OSError(error.errno, error.strerror, str(folder)) from None
        raise InputError(
            f"{archive}: cannot be unpacked ({error}); damaged or not an archive: fetch it again"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _tar_members(archive: Path) -> Iterator[tuple[str, int, IO[bytes] | None]]:
    """Name, declared size and content (None for a folder) of each member, in one pass over the stream."""
    with tarfile.open(archive, "r|*") as tar:
        for member in tar:
            _check_name(archive, member.name)
            if not (member.isfile() or member.isdir()) or member.issparse() or member.size < 0:
                kind = "a link" if member.issym() or member.islnk() else "neither a file nor a folder"
                raise InputError(f"{archive}: {member.name} is {kind}; refused")
            if hasattr(tarfile, "data_filter"):  # Python's own rules, as a second opinion
                tarfile.data_filter(member, str(archive.parent))
            yield member.name, member.size, None if member.isdir() else tar.extractfile(member)


def _zip_members(archive: Path) -> Iterator[tuple[str, int, IO[bytes] | None]]:
    """As _tar_members. A zip's reader stops at the declared size and compares the CRC."""
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            _check_name(archive, member.orig_filename)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                what = "a link" if kind == stat.S_IFLNK else "neither a file nor a folder"
                raise InputError(f"{archive}: {member.filename} is {what}; refused")
            if member.flag_bits & 1:
                raise InputError(f"{archive}: {member.filename} is encrypted; refused")
            if member.is_dir():
                yield member.filename, 0, None
            else:
                with file.open(member) as content:
                    yield member.filename, member.file_size, content


def _check_name(archive: Path, name: str) -> None:
    """Refuse a name that could mean another place on any system."""
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "\\" in name or ":" in parts[0] or "\0" in name or not name:
        raise InputError(f"{archive}: member {name!r} leads out of the folder; refused")


def _write(archive: Path, folder: Path, name: str, content: IO[bytes] | None) -> None:
    """Write one member below `folder`."""
    target = folder.joinpath(*name.split("/"))
    if content is None:
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("xb") as file:
            shutil.copyfileobj(content, file, 1 << 20)
    except FileExistsError:
        raise InputError(f"{archive}: {name} occurs twice; refused") from None
