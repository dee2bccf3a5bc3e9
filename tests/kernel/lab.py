"""A small network made of namespaces, for tests that compare what we say with what this kernel does.

::

    with Lab("ipt") as lab:
        node = lab.namespace("node")
        lab.bridge(node, "cni0", "10.244.18.1/24")
        pod = lab.namespace("pod-a")
        lab.plug(pod, "eth0", "10.244.18.3/24", node, "cni0", gateway="10.244.18.1")
        lab.serve(pod, [("tcp", "10.244.18.3", 8080)])
        answers = lab.connect(pod, "10.32.0.1", 80, count=100)

Leaving the ``with`` block, also by an error, ends the servers and deletes the namespaces. Run as a program, this file
is the server and the client that the lab starts inside the namespaces; it needs the standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

SO_TYPES = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


@dataclasses.dataclass(frozen=True)
class Answer:
    """What one connection met. ``end``: ``ok``, ``refused``, ``unreachable`` or ``timeout``.

    With ``ok``: ``server`` is the server's own address, ``port`` its own port, ``peer`` the client address it saw.
    """

    end: str
    server: str = ""
    port: int = 0
    peer: str = ""
    source_port: int = 0


def require(*tools: str) -> None:
    """Skip the running test unless we are root and have these tools; fail it where nothing may be lacking."""
    from needs import lacking, stop  # here: this file is a program too, run without pytest

    stop(lacking(root=True, linux=True, commands=("ip", *tools)))


class Lab:
    """Namespaces, links, servers and clients of one test. ``name`` is short; the process id makes it unique."""

    def __init__(self, name: str) -> None:
        self._prefix = f"lab-{name}-{os.getpid()}-"
        self._namespaces: list[str] = []
        self._servers: list[subprocess.Popen[str]] = []
        self._links = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the servers and delete the namespaces; safe to call twice."""
        for server in self._servers:
            server.kill()
            server.wait()
            if server.stdout is not None:
                server.stdout.close()
        self._servers.clear()
        for namespace in reversed(self._namespaces):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)
        self._namespaces.clear()

    def namespace(self, name: str, *, forward: bool = False) -> str:
        """Make a network namespace, its loopback up; returns its full name. ``forward``: it routes, as a node does."""
        full = self._prefix + name
        subprocess.run(["ip", "netns", "add", full], check=True)
        self._namespaces.append(full)
        self.run(full, ["ip", "link", "set", "lo", "up"])
        if forward:
            self.sysctl(full, "net/ipv4/ip_forward", "1")
            self.sysctl(full, "net/ipv6/conf/all/forwarding", "1")
        return full

    def sysctl(self, namespace: str, key: str, value: str) -> None:
        """Write one sysctl of a namespace; ``key`` with slashes."""
        self.run(namespace, ["sh", "-c", f"echo {value} > /proc/sys/{key}"])

    def run(self, namespace: str, command: Sequence[str], *, text: str | None = None, check: bool = True) -> str:
        """Run a command in a namespace, ``text`` on its standard input; returns its output, raises with its errors."""
        done = subprocess.run(
            ["ip", "netns", "exec", namespace, *command], input=text, capture_output=True, text=True, timeout=60
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def bridge(self, namespace: str, name: str, *addresses: str) -> None:
        """A bridge in a namespace, up, with addresses such as ``10.244.18.1/24``."""
        self.run(namespace, ["ip", "link", "add", name, "type", "bridge"])
        self.run(namespace, ["ip", "link", "set", name, "up"])
        self.address(namespace, name, *addresses)

    def address(self, namespace: str, interface: str, *addresses: str) -> None:
        """Give an interface addresses, without IPv6 duplicate address detection."""
        for address in addresses:
            extra = ["nodad"] if ":" in address else []
            self.run(namespace, ["ip", "addr", "add", address, "dev", interface, *extra])

    def veth(self, namespace: str, interface: str, peer: str, peer_interface: str) -> None:
        """A veth pair between two namespaces, both ends up."""
        self.run(
            namespace,
            ["ip", "link", "add", interface, "type", "veth", "peer", "name", peer_interface, "netns", peer],
        )
        self.run(namespace, ["ip", "link", "set", interface, "up"])
        self.run(peer, ["ip", "link", "set", peer_interface, "up"])

    def plug(
        self, namespace: str, interface: str, address: str, host: str, bridge: str, *, gateway: str | None = None
    ) -> str:
        """Connect a namespace to a bridge in ``host`` (hairpin on, as CNI does); returns the host's interface name."""
        self._links += 1
        other = f"veth{self._links}"
        self.veth(namespace, interface, host, other)
        self.run(host, ["ip", "link", "set", other, "master", bridge])
        self.run(host, ["bridge", "link", "set", "dev", other, "hairpin", "on"])
        self.address(namespace, interface, address)
        if gateway:
            self.route(namespace, "default", gateway)
        return other

    def route(self, namespace: str, prefix: str, via: str) -> None:
        """A route through a gateway; IPv6 when the gateway is."""
        self.run(namespace, ["ip", *(["-6"] if ":" in via else []), "route", "add", prefix, "via", via])

    def nfacct(self, namespace: str, *names: str) -> None:
        """Make the accounting objects that ``-m nfacct`` refers to (the nfacct tool is often not installed)."""
        from k8snet_nb.twin.loading import (
            nfacct,  # here: this file is a program too, run with the standard library alone
        )

        self.run(namespace, [sys.executable, nfacct.__file__, *names])

    def serve(self, namespace: str, listeners: Iterable[tuple[str, str, int]]) -> None:
        """Start a server in a namespace for (``tcp``|``udp``, address, port); it answers with the addresses it sees."""
        command = ["ip", "netns", "exec", namespace, sys.executable, __file__, "serve", json.dumps(list(listeners))]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._servers.append(server)
        assert server.stdout is not None
        if server.stdout.readline().strip() != "ready":
            raise RuntimeError(f"the server in {namespace} did not start")

    def connect(
        self,
        namespace: str,
        address: str,
        port: int,
        *,
        protocol: str = "tcp",
        count: int = 1,
        timeout: float = 2.0,
        source: str | None = None,
    ) -> list[Answer]:
        """``count`` connections one after the other from a namespace; ``source`` binds the client's address."""
        text = self._program(namespace, "connect", [protocol, address, port, count, timeout, source])
        return [Answer(**line) for line in json.loads(text)]

    def _program(self, namespace: str, what: str, arguments: list[object]) -> str:
        return self.run(namespace, [sys.executable, __file__, what, json.dumps(arguments)])


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _describe(local: tuple[object, ...], peer: tuple[object, ...]) -> bytes:
    return json.dumps({"server": local[0], "port": local[1], "peer": peer[0]}).encode()


def _serve(protocol: str, address: str, port: int, ready: threading.Semaphore) -> None:
    with socket.socket(_family(address), SO_TYPES[protocol]) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        if protocol == "udp":
            ready.release()
            while True:
                _, peer = server.recvfrom(100)
                server.sendto(_describe(server.getsockname(), peer), peer)
        server.listen(512)
        ready.release()
        while True:
            connection, peer = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(_describe(server.getsockname(), peer))


def _connect_once(protocol: str, address: str, port: int, timeout: float, source: str | None) -> Answer:
    with socket.socket(_family(address), SO_TYPES[protocol]) as client:
        client.settimeout(timeout)
        try:
            if source:
                client.bind((source, 0))
            client.connect((address, port))
            if protocol == "udp":
                client.send(b"?")
            seen = json.loads(client.recv(1000) or b"{}")
        except TimeoutError:
            return Answer("timeout")
        except ConnectionError:
            return Answer("refused")
        except OSError:
            return Answer("unreachable")
        return Answer("ok", seen["server"], seen["port"], seen["peer"], client.getsockname()[1])


def _main(what: str, arguments: list[object]) -> None:
    if what == "serve":
        ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG: the server dies with the test
        ready = threading.Semaphore(0)
        for listener in arguments:
            protocol, address, port = listener  # type: ignore[misc]
            threading.Thread(target=_serve, args=(protocol, address, port, ready), daemon=True).start()
        for _ in arguments:
            ready.acquire()
        print("ready", flush=True)
        while True:
            time.sleep(3600)
    elif what == "connect":
        protocol, address, port, count, timeout, source = arguments
        answers = [_connect_once(protocol, address, port, timeout, source) for _ in range(count)]  # type: ignore[arg-type,call-overload]
        print(json.dumps([dataclasses.asdict(answer) for answer in answers]))


if __name__ == "__main__":
    _main(sys.argv[1], json.loads(sys.argv[2]))
