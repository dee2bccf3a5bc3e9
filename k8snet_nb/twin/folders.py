"""The folders of twins on this machine: made, recognised as of nobody any more, removed.

Every process of a twin, and the command that makes it, has the log of its folder open with a lock on it (flock(2)). The
kernel lets the lock go with the last of them, however they end, so it tells for certain whether a twin still is.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import TwinError
from ..sources.twin_control import LOG, NAME, SOCKET, TwinFolder, twin_base, twin_folders

__all__ = ["held", "new_folder", "remove", "sweep"]

_UNFINISHED, _STALE = re.compile(r"\.k8snet-new-[0-9a-f]{16}"), 60.0
_LONGEST_PATH = 107  # unix(7): sun_path has 108 bytes, the last one zero


def new_folder(name: str, named: bool) -> tuple[TwinFolder, BinaryIO]:
    """A folder for a twin of this name, or where it need not be that one of a name like it; and its log, locked."""
    if not NAME.fullmatch(name):
        raise TwinError(f"{name!r} is no name for a twin: letters, digits, dot, dash and underscore, 40 at most")
    base = twin_base()
    if len(os.fsencode(base / f"{name}-99" / SOCKET)) > _LONGEST_PATH:
        raise TwinError(f"{base} is too long a path for a socket; set K8SNET_TWINS to a shorter one")
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    twin_folders()  # refuses a base that is somebody else's before anything waits for its lock
    with _alone(base):
        _sweep(base)
        unfinished = base / f".k8snet-new-{secrets.token_hex(8)}"
        unfinished.mkdir(mode=0o700)
        log = (unfinished / LOG).open("wb")
        fcntl.flock(log, fcntl.LOCK_EX)
        for candidate in [name] if named else [name, *(f"{name}-{number}" for number in range(2, 100))]:
            if not (base / candidate).exists():
                unfinished.rename(base / candidate)
                return TwinFolder(candidate, base / candidate), log
        log.close()
        shutil.rmtree(unfinished)
    raise TwinError(f"there is a twin {name!r} already: `k8snet twin down {name}`, or give another --name")


def held(twin: TwinFolder) -> bool:
    """Whether a process of the twin, or the command that makes it, is alive."""
    return _locked(twin.path / LOG)


def remove(twin: TwinFolder) -> None:
    """Remove the folder of a twin that nobody holds."""
    with _alone(twin.path.parent):
        if not held(twin):
            shutil.rmtree(twin.path, ignore_errors=True)


def sweep() -> list[str]:
    """Remove what ended twins left: their folders. Returns their names."""
    if not twin_folders():  # also refuses a base that is somebody else's
        return []
    base = twin_base()
    with _alone(base):
        return _sweep(base)


def _sweep(base: Path) -> list[str]:
    ended = [twin for twin in twin_folders() if not held(twin)]
    for twin in ended:
        shutil.rmtree(twin.path, ignore_errors=True)
    for folder in (one for one in base.iterdir() if _UNFINISHED.fullmatch(one.name)):
        if time.time() - folder.lstat().st_mtime > _STALE and not _locked(folder / LOG):
            shutil.rmtree(folder, ignore_errors=True)
    return [twin.name for twin in ended]


def _locked(log: Path) -> bool:
    try:
        fd = os.open(log, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: who asks at the same time is not taken for the twin
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


@contextmanager
def _alone(base: Path) -> Iterator[None]:
    """One at a time among the commands that make and remove folders here."""
    fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
