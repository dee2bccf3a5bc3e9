"""Process 1 in a guest: prepares its kernel, starts a server, and carries connections from the serial lines to it.

The server is a function ``serve(listener, config)`` that runs in a process of its own: ``listener`` is a listening Unix
socket, and each connection that the host makes (:meth:`.guest.Guest.connect`) is accepted there, as if server and host
shared a kernel. When the server ends, the guest does.
"""

from __future__ import annotations

import ctypes
import gzip
import importlib
import json
import lzma
import os
import select
import socket
import subprocess
import sys
import tty
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from .lines import Line

__all__ = ["main"]

SOCKET = "/run/k8snet.sock"
_INIT_MODULE = {"x86_64": 175, "aarch64": 105, "i686": 128, "i386": 128}
_EEXIST = 17
_POWER_OFF = 0x4321FEDC
_MOUNTS = (
    ("proc", "/proc", ""),
    ("sysfs", "/sys", ""),
    ("tmpfs", "/run", "mode=755"),
)
_OPTIONS = {"dummy": b"numdummies=0"}
"""No interface that nobody asked for."""
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Never returns; whatever goes wrong is said on the console, and then the guest ends."""
    try:
        config = json.loads(Path("/run/guest.json").read_text())
        _prepare(config)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(SOCKET)
        listener.listen(config["lines"])
        server = os.fork()
        if server == 0:
            _server(config, listener)
        listener.close()
        lines = [Line(_serial(number), _connection) for number in range(config["lines"])]
        for line in lines:
            line.greet()
        _carry(lines, server)
    except BaseException as error:  # noqa: BLE001 - the first process must never end: the kernel would panic
        _say(f"guest: {type(error).__name__}: {error}")
    finally:
        sys.stdout.flush()
        _libc.reboot(_POWER_OFF)


def _say(text: str) -> None:
    print(text, flush=True)


def _prepare(config: dict[str, Any]) -> None:
    for kind, where, options in _MOUNTS:
        if _libc.mount(kind.encode(), where.encode(), kind.encode(), ctypes.c_ulong(0), options.encode()) != 0:
            raise OSError(ctypes.get_errno(), f"mounting {where}: {os.strerror(ctypes.get_errno())}")
    with suppress(OSError):  # without it /proc/PID/cgroup would be empty
        Path("/sys/fs/cgroup").stat()
        _libc.mount(b"cgroup2", b"/sys/fs/cgroup", b"cgroup2", ctypes.c_ulong(0), b"")
    for path in config["modules"]:
        _load(path)
    # what is loaded is what was asked for: no packet and no rule makes this kernel look for more
    with suppress(OSError):
        Path("/proc/sys/kernel/modprobe").write_text("\n")
    _batch(["link set lo up"])
    if config["bridge"]:
        _plug(config["bridge"])


def _load(path: str) -> None:
    """Loads one module file, compressed or not; a kernel may have it already."""
    image = Path(path).read_bytes()
    if path.endswith(".xz"):
        image = lzma.decompress(image)
    elif path.endswith(".gz"):
        image = gzip.decompress(image)
    number = _INIT_MODULE[os.uname().machine]
    options = _OPTIONS.get(Path(path).name.partition(".")[0], b"")
    if _libc.syscall(number, image, ctypes.c_ulong(len(image)), options) != 0 and ctypes.get_errno() != _EEXIST:
        raise OSError(ctypes.get_errno(), f"module {path}: {os.strerror(ctypes.get_errno())}")


def _plug(bridge: str) -> None:
    """A bridge of that name whose other port is the outside: what stands here is on the wire."""
    Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
    Path("/proc/sys/net/ipv6/conf/vec0/disable_ipv6").write_text("1")
    _batch([f"link add {bridge} type bridge", f"link set vec0 master {bridge} up", f"link set {bridge} up"])
    Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("0")


def _batch(lines: list[str]) -> None:
    done = subprocess.run(
        ["ip", "-batch", "-"], input="\n".join(lines) + "\n", capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"ip: {done.stderr.strip()}")


def _server(config: dict[str, Any], listener: socket.socket) -> NoReturn:
    try:
        module, _, function = config["server"].partition(":")
        getattr(importlib.import_module(f"k8snet_nb.{module}"), function)(listener, config["config"])
    except BaseException as error:  # noqa: BLE001 - said on the console, the only place there is
        _say(f"guest: {config['server']}: {type(error).__name__}: {error}")
    finally:
        os._exit(0)


def _serial(number: int) -> int:
    fd = os.open(f"/dev/ttyS{number}", os.O_RDWR | os.O_NOCTTY)
    tty.setraw(fd)
    return fd


def _connection() -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(SOCKET)
    return connection


def _carry(lines: list[Line], server: int) -> None:
    """Until the server ends. Orphans are this process's to bury."""
    while True:
        poll = select.poll()
        owner = {}
        for line in lines:
            for fd, events in line.wanted().items():
                poll.register(fd, events)
                owner[fd] = line
        for fd, events in poll.poll(200):
            if owner[fd].alive:
                owner[fd].ready(fd, events)
        with suppress(ChildProcessError):
            while (gone := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                if gone == server:
                    return


if __name__ == "__main__":
    main()
