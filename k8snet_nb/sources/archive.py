"""Recordings inside archives, read without writing anything to disk and without trusting a name or a size.

A recording may come from a stranger: members named with ``..`` or absolutely, links and devices are refused, and
what an archive unpacks to is bounded before it is kept.
"""

from __future__ import annotations

import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ..errors import NotARecording, UnsafeRecording
from ..render import printable

__all__ = ["MAX_BYTES", "MAX_MEMBERS", "SUFFIXES", "read_archive", "safe_parts"]

SUFFIXES = (".tar.gz", ".tgz", ".tar.xz", ".txz", ".zip")
MAX_BYTES = 1 << 30
"""The most that one recording may unpack to, and that one fact may hold, in bytes."""
MAX_MEMBERS = 200_000
_OVERHEAD = 1 << 24  # headers and padding of a tar
_ODD = (RuntimeError, ValueError, NotImplementedError)  # zipfile's words for encrypted, misnamed and unknown members


def safe_parts(name: str) -> tuple[str, ...]:
    """The parts of a relative path inside a recording. Raises UnsafeRecording for anything that leads elsewhere."""
    path = PurePosixPath(name)
    drive = len(name) > 1 and name[1] == ":" and name[0].isalpha()
    if path.is_absolute() or drive or "\\" in name or "\x00" in name or ".." in path.parts:
        raise UnsafeRecording(
            f"the recording names {printable(name)!r}, a path outside of itself; do not trust this file"
        )
    return tuple(part for part in path.parts if part != ".")


def read_archive(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, bytes]:
    """All files of a ``.tar.gz``, ``.tar.xz`` or ``.zip`` recording: relative name -> content.

    The folder that holds ``recording.json`` becomes the root. Raises NotARecording for an archive that cannot be
    read, UnsafeRecording for members or sizes that no recording has.
    """
    reader = _zip_members if path.name.lower().endswith(".zip") else _tar_members
    try:
        files = reader(path, max_bytes)
    except (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError, *_ODD) as error:
        raise NotARecording(f"{path}: cannot be read as an archive ({error}); is it complete?") from error
    return _from_root(files, path)


def _from_root(files: dict[str, bytes], path: Path) -> dict[str, bytes]:
    roots = sorted((name for name in files if PurePosixPath(name).name == "recording.json"), key=lambda n: n.count("/"))
    if not roots:
        raise NotARecording(f"{path}: no recording.json in this archive; pack the recording's folder itself")
    root = roots[0].removesuffix("recording.json")
    return {name.removeprefix(root): content for name, content in files.items() if name.startswith(root)}


class _Bounded(io.RawIOBase):
    """A decompressed stream that ends in an error when it grows beyond all use: long names are members too."""

    def __init__(self, stream: Any, path: Path, max_bytes: int) -> None:
        super().__init__()
        self._stream, self._path, self._most = stream, path, max_bytes
        self._left = max_bytes + _OVERHEAD
        self.length = self.last_byte = 0  # of the stream, and up to its last byte that is not zero

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(size)
        self._left -= len(data)
        if held := len(data.rstrip(b"\0")):
            self.last_byte = self.length + held
        self.length += len(data)
        if self._left < 0:
            raise UnsafeRecording(
                f"{self._path}: unpacks to more than {self._most:,} bytes; unpack it yourself if you trust it"
            )
        return data


def _tar_members(path: Path, max_bytes: int) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    left = max_bytes
    opener = lzma.open if path.name.lower().endswith("xz") else gzip.open
    end = 0
    with opener(path) as stream:
        bounded = _Bounded(stream, path, max_bytes)
        with tarfile.open(fileobj=bounded, mode="r|") as tar:
            for count, member in enumerate(tar, start=1):
                _bound(count, path)
                name = "/".join(safe_parts(member.name))
                end = member.offset_data + -(-member.size // 512) * 512
                if member.isdir():
                    continue
                if not member.isreg():
                    what = f"{printable(member.name)!r} is a link or a device"
                    raise UnsafeRecording(f"{path}: {what}; a recording has only files")
                content = tar.extractfile(member)
                if content is None:  # cannot be for a regular file; tarfile's type says it may
                    continue
                files[name] = _take(content, left, path, max_bytes)
                left -= len(files[name])
        while bounded.read(1 << 16):  # to the end: only there does gzip check what it gave
            pass
    # tarfile takes a header that it cannot read for the end; a whole archive ends in two empty blocks and nothing else
    if bounded.last_byte > end or bounded.length < end + 1024:
        raise NotARecording(f"{path}: damaged or cut off after {end:,} bytes; get it again")
    return files


def _zip_members(path: Path, max_bytes: int) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    left = max_bytes
    with zipfile.ZipFile(path) as archive:
        for count, info in enumerate(archive.infolist(), start=1):
            _bound(count, path)
            name = "/".join(safe_parts(info.filename))
            if info.is_dir():
                continue
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                raise UnsafeRecording(
                    f"{path}: {printable(info.filename)!r} is a link or a device; a recording has only files"
                )
            with archive.open(info) as content:
                files[name] = _take(content, left, path, max_bytes)
            left -= len(files[name])
    return files


def _bound(count: int, path: Path) -> None:
    if count > MAX_MEMBERS:
        raise UnsafeRecording(f"{path}: more than {MAX_MEMBERS:,} members; not read further")


def _take(content: IO[bytes], left: int, path: Path, max_bytes: int) -> bytes:
    data = content.read(left + 1)  # what a header claims is not believed: reading stops at the bound
    if len(data) > left:
        raise UnsafeRecording(f"{path}: unpacks to more than {max_bytes:,} bytes; unpack it yourself if you trust it")
    return data
