"""In a guest: fills its connection table on purpose, and writes down what the kernel and the connections say.

A server for :mod:`.init` (``serve``): the first connection gets one line of JSON with everything that was
seen, as text that the kit's parsers read. Two namespaces: this one tracks and serves, the other only connects.
Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...agent.conntrack import stats_text
from ...agent.kernel import enter, open_netns

__all__ = ["serve"]

_SERVER, _CLIENT, _CLIENTS_NETNS = "192.0.2.1", "192.0.2.2", "/run/netns/client"
_PORT, _SILENT = 8080, 9
_SYS = Path("/proc/sys/net/netfilter")
_LOG_READ_ALL, _LOG_SIZE = 3, 1 << 18
_COUNTED = """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
"""
"""One rule that asks for a connection's state is enough to have every packet of this namespace tracked."""


def serve(listener: socket.socket, config: Mapping[str, Any]) -> None:
    """Run the experiment once, and answer the first connection with what it showed."""
    found = json.dumps(Experiment(config).run()).encode() + b"\n"
    connection, _ = listener.accept()
    connection.sendall(found)
    connection.shutdown(socket.SHUT_WR)
    connection.recv(1)


class Experiment:
    """``maximum``, ``connections``, ``unanswered`` (datagrams first), ``raised`` (a maximum at the end, 0: none),
    ``patience`` (seconds that a connection may take).
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._rows: list[dict[str, Any]] = []
        self._open: list[socket.socket] = []

    def run(self) -> dict[str, Any]:
        """Prepare, fill, try what still works, make room."""
        self._prepare()
        before = _facts()
        self._unanswered()
        for _ in range(self._config["connections"]):
            self._connect("fill")
        old = self._old()
        if self._config["raised"]:
            _set("nf_conntrack_max", self._config["raised"])
            for _ in range(5):
                self._connect("raised")
        return {"rows": self._rows, "old": old, "before": before, "after": _facts(), "log": _log()}

    def _prepare(self) -> None:
        _tool(["ip", "netns", "add", "client"])
        _tool(["ip", "-batch", "-"], _links())
        _tool(["ip", "-n", "client", "-batch", "-"], f"link set eth0 up\naddr add {_CLIENT}/24 dev eth0\n")
        self._ours, self._theirs = open_netns("/proc/self/ns/net"), open_netns(_CLIENTS_NETNS)
        _tool(["iptables-legacy-restore"], _COUNTED)
        _set("nf_conntrack_buckets", self._config["buckets"])
        _set("nf_conntrack_max", self._config["maximum"])
        ready = threading.Event()
        threading.Thread(target=_echo, args=(ready,), daemon=True).start()
        ready.wait()
        silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        silent.bind((_SERVER, _SILENT))
        self._silent = silent

    def _client(self, kind: socket.SocketKind) -> socket.socket:
        """A socket of the other namespace; this one is where the table is read."""
        enter(self._theirs)
        try:
            return socket.socket(socket.AF_INET, kind)
        finally:
            enter(self._ours)

    def _unanswered(self) -> None:
        for number in range(self._config["unanswered"]):
            with self._client(socket.SOCK_DGRAM) as client:
                client.bind((_CLIENT, 20000 + number))
                client.sendto(b"?", (_SERVER, _SILENT))
        if self._config["unanswered"]:
            self._note("unanswered", True, 0.0)

    def _connect(self, phase: str) -> None:
        began = time.time()
        client = self._client(socket.SOCK_STREAM)
        client.settimeout(self._config["patience"])
        try:
            client.connect((_SERVER, _PORT))
            answered = _asked(client)
        except OSError:
            answered = False
        if answered:
            self._open.append(client)
        else:
            client.close()
        self._note(phase, answered, time.time() - began)

    def _old(self) -> dict[str, int]:
        """What becomes of connections that were there before the table was full."""
        answered = 0
        for client in self._open:
            with contextlib.suppress(OSError):
                answered += _asked(client)
        return {"asked": len(self._open), "answered": answered}

    def _note(self, phase: str, answered: bool, took: float) -> None:
        self._rows.append(
            {
                "time": time.time(),
                "phase": phase,
                "answered": answered,
                "took": took,
                "count": _get("nf_conntrack_count"),
                "maximum": _get("nf_conntrack_max"),
                "stats": _stats(),
            }
        )


def _links() -> str:
    return (
        f"link add to-client type veth peer name eth0 netns client\nlink set to-client up\n"
        f"addr add {_SERVER}/24 dev to-client\n"
    )


def _tool(argv: list[str], stdin: str = "") -> None:
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{argv[0]}: {done.stderr.strip()}")


def _asked(client: socket.socket) -> bool:
    client.sendall(b"?")
    return client.recv(1) == b"!"


def _echo(ready: threading.Event) -> None:
    """Answers each byte with one, on every connection, for ever."""
    with selectors.DefaultSelector() as waiting, socket.create_server((_SERVER, _PORT), backlog=512) as listener:
        waiting.register(listener, selectors.EVENT_READ)
        ready.set()
        while True:
            for key, _ in waiting.select():
                if key.fileobj is listener:
                    accepted, _ = listener.accept()
                    waiting.register(accepted, selectors.EVENT_READ, accepted)
                    continue
                connection: socket.socket = key.data
                if connection.recv(1):
                    connection.sendall(b"!")
                else:
                    waiting.unregister(connection)
                    connection.close()


def _get(name: str) -> int:
    return int((_SYS / name).read_text())


def _set(name: str, value: int) -> None:
    (_SYS / name).write_text(str(value))


def _facts() -> dict[str, str]:
    names = ("nf_conntrack_count", "nf_conntrack_max", "nf_conntrack_buckets")
    return {
        "sysctl": "".join(f"net.netfilter.{name} = {_get(name)}\n" for name in names),
        "stats": _stats(),
    }


def _stats() -> str:
    return stats_text().decode()


def _log() -> str:
    """The kernel's own log (syslog(2)): a guest has no other programs that read it."""
    buffer = ctypes.create_string_buffer(_LOG_SIZE)
    size = ctypes.CDLL(None, use_errno=True).klogctl(_LOG_READ_ALL, buffer, _LOG_SIZE)
    return os.fsdecode(buffer.raw[: max(size, 0)])
