"""Where twins of this user are, and how one is asked: a folder a twin, with a socket in it.

A request is one JSON line, the answer another, then the connection ends; ``agent`` hands the connection on to an agent
after its line. The folder is readable by its owner only, as is everything that a twin does.
"""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import TwinError

__all__ = ["ABOUT", "LOG", "NAME", "SOCKET", "SocketTransport", "TwinFolder", "find_twin", "twin_base", "twin_folders"]

SOCKET, ABOUT = "control", "about.json"
LOG = "k8snet-twin.log"
"""The first file in a twin's folder. By it a folder is known to be one, so that no other is ever taken for it."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_UP = "Start one: `k8snet twin up`, or `k8snet twin up RECORDING`"


def twin_base() -> Path:
    """The folder of this user's twins: K8SNET_TWINS, else below the user's runtime folder, else a temporary one."""
    chosen = os.environ.get("K8SNET_TWINS")
    if chosen:
        return Path(chosen)
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.access(runtime, os.W_OK):
        return Path(runtime) / "k8snet-twins"
    if os.getuid() == 0:
        return Path("/run/k8snet-twins")
    return Path(tempfile.gettempdir()) / f"k8snet-twins-{os.getuid()}"


@dataclass(frozen=True, slots=True)
class TwinFolder:
    """One twin, running or not: ``about`` is what it said of itself when it was made."""

    name: str
    path: Path

    @property
    def about(self) -> dict[str, Any]:
        """recording, nodes, pid, made, left_out; empty when it is not up yet."""
        try:
            found = json.loads((self.path / ABOUT).read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def alive(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self.ask({"op": "status"}, 5).get("alive"))
        except TwinError:
            return False

    def ask(self, request: dict[str, Any], seconds: float = 30.0) -> dict[str, Any]:
        """One request, one answer. Raises TwinError with the twin's reason."""
        with self._connected(request, seconds) as connection:
            line = _line(connection, self.name)
        return _checked(line, self.name)

    def stream(self, request: dict[str, Any], seconds: float = 30.0) -> socket.socket:
        """A request whose answer is followed by a stream: the connection, after its first line. Raises TwinError."""
        connection = self._connected(request, seconds)
        try:
            _checked(_line(connection, self.name, one_by_one=True), self.name)
        except BaseException:
            connection.close()
            raise
        connection.settimeout(None)
        return connection

    def _connected(self, request: dict[str, Any], seconds: float) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        connection.settimeout(seconds)
        try:
            connection.connect(str(self.path / SOCKET))
            connection.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            connection.close()
            raise TwinError(f"the twin {self.name} does not answer ({error.strerror or error}). {_UP}") from None
        return connection


def _line(connection: socket.socket, name: str, one_by_one: bool = False) -> bytes:
    found = bytearray()
    try:
        while not found.endswith(b"\n"):
            piece = connection.recv(1 if one_by_one else 1 << 16)
            if not piece:
                break
            found += piece
    except OSError as error:
        raise TwinError(
            f"the twin {name} did not answer in time ({error}). Ask again; `k8snet twin list` has those that run"
        ) from None
    return bytes(found)


def _checked(line: bytes, name: str) -> dict[str, Any]:
    try:
        answer = json.loads(line)
    except ValueError:
        raise TwinError(
            f"the twin {name} ended in the middle of an answer. `k8snet twin list` says whether it runs"
        ) from None
    if not isinstance(answer, dict) or "error" in answer:
        raise TwinError(f"the twin {name}: {answer.get('error') if isinstance(answer, dict) else answer}")
    return answer


def twin_folders() -> list[TwinFolder]:
    """All twins of this user that there is a folder of. Raises TwinError when somebody else owns the place."""
    base = twin_base()
    try:
        owner = base.lstat()
    except FileNotFoundError:
        return []
    if not stat.S_ISDIR(owner.st_mode):  # a link may lead to somebody else's
        raise TwinError(f"{base} is no folder; set K8SNET_TWINS to a folder of your own")
    if owner.st_uid != os.getuid():
        raise TwinError(f"{base} belongs to somebody else; set K8SNET_TWINS to a folder of your own")
    names = sorted(entry.name for entry in base.iterdir() if NAME.fullmatch(entry.name) and _is_twin(entry))
    return [TwinFolder(name, base / name) for name in names]


def _is_twin(folder: Path) -> bool:
    """Whether this is a folder of our own that was made for a twin: others may lie beside it, and are none of ours."""
    try:
        own, log = folder.lstat(), (folder / LOG).lstat()
    except OSError:
        return False
    return stat.S_ISDIR(own.st_mode) and stat.S_ISREG(log.st_mode) and own.st_uid == log.st_uid == os.getuid()


def find_twin(name: str | None = None) -> TwinFolder:
    """The running twin of that name, or the only one. Raises TwinError when there is none, or several."""
    running = [twin for twin in twin_folders() if name in (None, twin.name) and twin.alive()]
    if not running:
        raise TwinError(f"no twin {f'{name!r} ' if name else ''}is running. {_UP}")
    if len(running) > 1:
        names = ", ".join(twin.name for twin in running)
        raise TwinError(f'several twins are running: {names}. Name one: kn.open("twin:{running[0].name}")')
    return running[0]


class SocketTransport:
    """An agent at the other end of a socket. Its last words are in its twin's log."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; b"" at the end."""
        try:
            return self._connection.recv(size)
        except OSError:
            return b""

    def write(self, data: bytes) -> None:
        """Send all of it."""
        self._connection.sendall(data)

    def close(self) -> str:
        """End the agent: its input ends."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()
        return "its log is in the twin's folder"
