"""Process 1 of a guest's PID namespace: starts ``linux.uml`` and carries connections to it. Standard library only.

Run by :mod:`.guest` through unshare(1). Whatever ends this process ends the kernel and all its processes with it; it
ends itself when the socket to whoever started the guest does. Its mounts are private: everything is read-only but a
/run of its own, where the guest's memory lies, so that not even the guest's root can write to this machine's files.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .lines import BadLine, Line

__all__ = ["main"]

_MS_NOSUID, _MS_NODEV = 2, 4
_AT_FDCWD, _AT_RECURSIVE, _RDONLY = -100, 0x8000, 1
_MOUNT_SETATTR = 442  # the same number on every architecture
_LAST_WORDS = 65536
_PATIENCE, _LOOK = 5.0, 100
"""Seconds that a connection waits for a line; milliseconds between two looks."""

_INIT = """#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run TMPDIR=/run LC_ALL=C.UTF-8
export PYTHONDONTWRITEBYTECODE=1
exec {command}
"""


def main() -> None:
    """On standard input: JSON with ``control``, ``words`` (descriptors), ``memory``, ``tap``, ``init``, ``guest``."""
    config = json.load(sys.stdin)
    control = socket.socket(fileno=config["control"])
    _seclude(config["memory"])
    os.environ["TMPDIR"] = "/run"  # where its memory lies
    Path("/run/init").write_text(_INIT.format(command=shlex.join(config["init"])))
    Path("/run/init").chmod(0o700)
    Path("/run/guest.json").write_text(json.dumps(config["guest"]))
    pairs = [socket.socketpair() for _ in range(config["guest"]["lines"])]
    with subprocess.Popen(
        _command(config, [theirs.fileno() for _, theirs in pairs]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=[theirs.fileno() for _, theirs in pairs],
    ) as kernel:
        for _, theirs in pairs:
            theirs.close()
        Relay([Line(ours.fileno()) for ours, _ in pairs], control, kernel, config["words"]).run()
        os._exit(0)  # and with process 1 everything in this namespace


def _seclude(memory: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    size = f"size={memory + 16}m,mode=700".encode()
    if libc.mount(b"tmpfs", b"/run", b"tmpfs", ctypes.c_ulong(_MS_NOSUID | _MS_NODEV), size) != 0:
        raise OSError(ctypes.get_errno(), "a tmpfs on /run")
    attributes = (ctypes.c_uint64 * 4)(_RDONLY, 0, 0, 0)
    writable = (ctypes.c_uint64 * 4)(0, _RDONLY, 0, 0)
    for where, flags, said in ((b"/", _AT_RECURSIVE, attributes), (b"/run", 0, writable)):
        if libc.syscall(_MOUNT_SETATTR, _AT_FDCWD, where, flags, said, ctypes.sizeof(said)) != 0:
            raise OSError(ctypes.get_errno(), "this machine's files cannot be made read-only (needs Linux 5.12)")


def _command(config: dict[str, Any], lines: list[int]) -> list[str]:
    command = ["linux.uml", f"mem={config['memory']}M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro"]
    command += ["quiet", "loglevel=3", "panic=1", "init=/run/init", "uml_dir=/run/uml", "umid=guest"]
    command += ["con=null", "con0=null,fd:1", "ssl=null", *(f"ssl{n}=fd:{fd}" for n, fd in enumerate(lines))]
    if config["tap"]:
        command.append(f"vec0:transport=tap,ifname={config['tap']}")
    return command


class Relay:
    """Carries each connection that comes through ``control`` over a free line, until the kernel or the asker is gone.

    A connection is a descriptor sent along with one byte. It is answered with ``+`` when a line carries it, ``-`` when
    none became free in some seconds: the last one's end takes its time to get through to the guest. ``control`` gets
    one byte when the guest is up.
    """

    def __init__(self, lines: list[Line], control: socket.socket, kernel: subprocess.Popen[bytes], words: int) -> None:
        if kernel.stdout is None:
            raise RuntimeError("the kernel has no console")
        self._lines, self._control, self._console, self._words = lines, control, kernel.stdout.fileno(), words
        # its processes hold its console open, so the end of that does not tell when it was killed
        self._alive = os.pidfd_open(kernel.pid)
        self._waiting: list[tuple[float, socket.socket]] = []
        self._said = b""
        self._up = False

    def run(self) -> None:
        """Until one of the two ends."""
        while self._turn():
            self._serve()

    def _turn(self) -> bool:
        poll = select.poll()
        owner = {}
        for fd in (self._control.fileno(), self._console, self._alive):
            poll.register(fd, select.POLLIN)
        for line in self._lines:
            for fd, events in line.wanted().items():
                poll.register(fd, events)
                owner[fd] = line
        for fd, events in poll.poll(_LOOK if self._waiting else None):
            if fd == self._control.fileno():
                if not self._asked():
                    return False
            elif fd == self._console:
                if not self._heard():
                    return False
            elif fd == self._alive:
                return False
            elif owner[fd].alive:
                try:
                    owner[fd].ready(fd, events)
                except BadLine as error:
                    self._say(f"\n{error}\n".encode())
                    owner[fd].close()
        return True

    def _asked(self) -> bool:
        data, handles, _, _ = socket.recv_fds(self._control, 1, 1)
        self._waiting += [(time.monotonic() + _PATIENCE, socket.socket(fileno=handle)) for handle in handles]
        return bool(data)

    def _heard(self) -> bool:
        data = os.read(self._console, 65536)
        self._say(data)
        return bool(data)

    def _say(self, data: bytes) -> None:
        self._said = (self._said + data)[-_LAST_WORDS:]
        os.ftruncate(self._words, len(self._said))
        os.pwrite(self._words, self._said, 0)

    def _serve(self) -> None:
        if not self._up and all(line.greeted for line in self._lines):
            self._up = True
            self._control.send(b"U")
        if not self._up:
            return
        still = []
        for deadline, connection in self._waiting:
            line = next((line for line in self._lines if line.free), None)
            if line is not None:
                line.begin(connection, b"+")
            elif time.monotonic() < deadline:
                still.append((deadline, connection))
            else:
                connection.send(b"-")
                connection.close()
        self._waiting = still


if __name__ == "__main__":
    main()
