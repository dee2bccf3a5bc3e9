"""A recording as one file: written as a folder beside it, which can go on when it was interrupted, then packed."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import SourceError
from ..sources.archive import MAX_BYTES, SUFFIXES
from .folder import RecordingFolder

__all__ = ["is_archive", "pack", "unfinished"]


def is_archive(out: Path) -> bool:
    """Whether the name says an archive (``.tar.gz`` and what else :mod:`..sources.archive` reads).

    Raises SourceError for one that is there already.
    """
    if not out.name.lower().endswith(SUFFIXES) or out.is_dir():
        return False
    if out.exists():
        raise SourceError(f"{out}: is there already; name another file, or remove this one")
    return True


def unfinished(out: Path) -> Path:
    """The folder in which an archive's recording grows."""
    return out.with_name(f"{out.name}.unfinished")


def pack(folder: RecordingFolder, out: Path, before: Callable[[], None]) -> None:
    """Write the archive as a whole; ``before`` is called right before it gets its name. Raises SourceError, OSError.

    Whoever packs it is not in it: no user, no group, no time but the recording's own.
    """
    size = sum(path.stat().st_size for path in folder.path.rglob("*") if path.is_file())
    if size > MAX_BYTES:
        raise SourceError(
            f"{out}: {size:,} bytes are more than an archive is read with ({MAX_BYTES:,}); the recording is in "
            f"{folder.path}, and can be finished as a folder: record into that one"
        )
    part = out.with_name(f".{out.name}.part")
    try:
        _zip(part, _files(folder, _root(out))) if out.name.lower().endswith(".zip") else _tar(part, folder, out)
        before()
        part.replace(out)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _root(out: Path) -> str:
    suffix = next(one for one in SUFFIXES if out.name.lower().endswith(one))
    return out.name[: -len(suffix)].strip(".") or "recording"


def _files(folder: RecordingFolder, root: str) -> Iterator[tuple[str, bytes]]:
    yield f"{root}/recording.json", folder.finished()
    for path in sorted(folder.path.rglob("*")):
        name = path.relative_to(folder.path).as_posix()
        if path.is_file() and name != "recording.json" and not path.name.startswith("."):
            yield f"{root}/{name}", path.read_bytes()


def _tar(part: Path, folder: RecordingFolder, out: Path) -> None:
    opener = lzma.open if out.name.lower().endswith("xz") else gzip.open
    with opener(part, "wb") as stream, tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in _files(folder, _root(out)):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))


def _zip(part: Path, files: Iterator[tuple[str, bytes]]) -> None:
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
