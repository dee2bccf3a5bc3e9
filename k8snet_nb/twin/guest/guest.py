"""A kernel of one's own: User-Mode Linux, an ordinary process that is a Linux kernel with processes of its own.

For what this machine's kernel lacks (IPVS) or must not be made to do (a full connection table). The guest sees this
machine's files, read-only, so programs and Python are the machine's own. It has no network but the tap device that it
is given. Works as root and as any user whom the kernel allows a user namespace. Nothing outlives the process that
started it: the guest is a PID namespace whose first process ends with that process.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from ...errors import GuestError
from ...sources.transport import boot_command
from .modules import MODULES, modules_in_order
from .requests import read_line

__all__ = ["Guest", "GuestRan", "unavailable"]

_TAP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")
_MOST_LINES = 60
_SHOWN = 2000


def unavailable() -> str | None:
    """Why no guest can be started here, and what to do; None when nothing speaks against it."""
    if sys.platform != "linux":
        return "User-Mode Linux runs on Linux only"
    if shutil.which("linux.uml") is None:
        return "no linux.uml on PATH. Install User-Mode Linux (Debian and Ubuntu: apt install user-mode-linux)"
    if not list(MODULES.glob("*/modules.dep")):
        return f"no modules of User-Mode Linux under {MODULES}. Install Debian's package user-mode-linux again"
    if shutil.which("unshare") is None:
        return "no unshare on PATH. Install util-linux"
    return None


@dataclass(frozen=True, slots=True)
class GuestRan:
    """How a command in a guest ended: its exit status and what it wrote."""

    argv: tuple[str, ...]
    status: int
    out: str
    err: str


class Guest:
    """A guest that is up. Close it, or use ``with``.

    ``memory`` in MiB is all that it can ever use. ``tap``: a tap device in the caller's network namespace, which it
    makes if there is none; in the guest it is ``vec0``, or the other port of the bridge named ``bridge``. ``server``:
    ``module:function`` of this package, see :mod:`.init`; ``config`` (JSON) is handed to it. ``lines``:
    connections at a time. Raises GuestError, with the guest's own words, when it is not up in ``timeout`` seconds.
    """

    def __init__(
        self,
        modules: Iterable[str] = (),
        *,
        memory: int = 256,
        tap: str | None = None,
        bridge: str | None = None,
        server: str = "twin.guest.requests:serve",
        config: Mapping[str, Any] | None = None,
        lines: int = 8,
        timeout: float = 60.0,
    ) -> None:
        why = unavailable()
        if why is not None:
            raise GuestError(f"no guest can be started here: {why}")
        for name in (tap, bridge):
            if name is not None and not _TAP.fullmatch(name):
                raise GuestError(f"{name!r} is no name of a network device. Use 1 to 15 letters, digits, . _ -")
        if not 1 <= lines <= _MOST_LINES:
            raise GuestError(f"{lines} lines cannot be had. Ask for 1 to {_MOST_LINES}")
        guest = {
            "modules": modules_in_order(modules),
            "lines": lines,
            "bridge": bridge,
            "server": server,
            "config": dict(config or {}),
        }
        init = boot_command("k8snet_nb.twin.guest.init", site=True)
        self._lock = threading.Lock()
        self._words = os.memfd_create("k8snet-guest")
        self._control, theirs = socket.socketpair()
        said = {"control": theirs.fileno(), "words": self._words, "memory": memory, "tap": tap}
        self._process = self._spawn(json.dumps({**said, "init": init, "guest": guest}), theirs)
        try:
            self._wait_until_up(timeout)
        except BaseException:
            self.close()
            raise

    def _spawn(self, config: str, theirs: socket.socket) -> subprocess.Popen[bytes]:
        apart = ["unshare", "--pid", "--fork", "--kill-child", "--mount"]
        if os.geteuid() != 0:
            apart += ["--user", "--map-root-user"]
        # not an argument: those are bounded (execve(2), 128 kB each), and everybody on the machine can read them
        with theirs, os.fdopen(os.memfd_create("k8snet-guest-config"), "w+b") as held:
            held.write(config.encode())
            held.flush()
            held.seek(0)
            return subprocess.Popen(
                [*apart, "--", *boot_command("k8snet_nb.twin.guest.host")],
                stdin=held,
                stdout=self._words,
                stderr=self._words,
                pass_fds=[theirs.fileno(), self._words],
                cwd="/",
            )

    def _wait_until_up(self, timeout: float) -> None:
        ready, _, _ = select.select([self._control], [], [], timeout)
        if not ready:
            raise GuestError(f"the guest is not up after {timeout:g} s{self._last_words()}")
        if not self._control.recv(1):
            raise GuestError(f"the guest did not start{self._last_words()}")

    def _last_words(self) -> str:
        said = self.console()[-_SHOWN:].strip()
        return f". Its console says:\n{said}" if said else ", and its console says nothing"

    def console(self) -> str:
        """The end of what the guest's kernel and programs have printed so far."""
        if self._words < 0:
            return ""
        return os.pread(self._words, 1 << 20, 0).decode("utf-8", "replace")

    @property
    def pid(self) -> int:
        """Of the process on this machine whose end is the guest's."""
        return self._process.pid

    def fileno(self) -> int:
        """For select(2): readable when the guest has ended."""
        return self._control.fileno()

    def connect(self) -> socket.socket:
        """A new connection to the server in the guest: a stream socket. Raises GuestError where there can be none."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._control, [b"c"], [theirs.fileno()])
            except OSError:
                ours.close()
                raise GuestError(f"the guest has ended{self._last_words()}") from None
        answer = ours.recv(1)
        if answer != b"+":
            ours.close()
            busy = "all its lines are in use: close a connection first, or start it with more `lines`"
            raise GuestError(busy if answer else f"the guest has ended{self._last_words()}")
        return ours

    def request(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """One line of JSON there, one back. Raises GuestError with the guest's reason when it could not do it."""
        with self.connect() as connection:
            connection.sendall(json.dumps(dict(request)).encode() + b"\n")
            line = read_line(connection)
        if not line.endswith(b"\n"):
            raise GuestError(f"the guest did not answer{self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise GuestError(f"the guest could not {request.get('op')}: {answer['error']}")
        return answer

    def run(self, argv: Sequence[str], stdin: str = "", seconds: float = 30.0) -> GuestRan:
        """Run a command in the guest. Raises GuestError when there is no such program, or when it takes too long."""
        answer = self.request({"op": "run", "argv": list(argv), "stdin": stdin, "seconds": seconds})
        return GuestRan(tuple(argv), answer["status"], answer["out"], answer["err"])

    def start(self, argv: Sequence[str]) -> int:
        """Start a command in the guest that goes on until it ends by itself or the guest does; its process id there."""
        return int(self.request({"op": "start", "argv": list(argv)})["pid"])

    def write(self, files: Mapping[str, str]) -> None:
        """Write into files of the guest, such as sysctls."""
        self.request({"op": "write", "files": dict(files)})

    def stream(self, argv: Sequence[str]) -> socket.socket:
        """A connection whose other end is the standard input and output of a command in the guest."""
        connection = self.connect()
        connection.sendall(json.dumps({"op": "stream", "argv": list(argv)}).encode() + b"\n")
        return connection

    def agent(self) -> socket.socket:
        """A connection whose other end is an agent in the guest, which ends with it."""
        return self.stream(boot_command("k8snet_nb.agent"))

    def close(self) -> None:
        """End the guest with everything in it, and wait until it is gone."""
        with self._lock:
            self._control.close()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(2)
            self._process.kill()
            self._process.wait()
            if self._words >= 0:
                os.close(self._words)
                self._words = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
