"""How fast half a million tracked connections become columns, beside conntrack-tools and pyroute2 on the same tables.

Needs root, conntrack-tools and a kernel with ctnetlink. Entries are made in network namespaces of its own, as many as
the kernel's maximum (which holds for each namespace, and is not touched) asks for; they end with this process.
Every task runs in a process of its own, which reports its time and how far its memory rose.

    python benchmarks/conntrack.py [ENTRIES] [--pyroute2 ENTRIES]
"""

from __future__ import annotations

import argparse
import ctypes
import ipaddress
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from k8snet_nb.agent import conntrack as agent
from k8snet_nb.explain.flows import FlowDirectory, explain_flows
from k8snet_nb.parse.conntrack import ConntrackTable, parse_conntrack
from k8snet_nb.parse.conntrack_netlink import decode

_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)
_BATCH = 256


def new_namespace() -> int:
    """Enter a new network namespace; its file descriptor keeps it."""
    if _LIBC.unshare(_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


def enter(namespace: int) -> None:
    if _LIBC.setns(namespace, _NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def attribute(kind: int, payload: bytes) -> bytes:
    size = 4 + len(payload)
    return struct.pack("=HH", size, kind) + payload + b"\0" * (-size % 4)


def nest(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | 0x8000, b"".join(parts))


def template(protocol: int, marks: dict[str, bytes]) -> bytes:
    """One IPCTNL_MSG_CT_NEW request with recognisable bytes where values go."""

    def side(kind: int, src: bytes, dst: bytes, sport: bytes, dport: bytes) -> bytes:
        ports = attribute(1, bytes([protocol])) + attribute(2, sport) + attribute(3, dport)
        return nest(kind, nest(1, attribute(1, src), attribute(2, dst)), nest(2, ports))

    body = side(1, marks["client"], marks["vip"], marks["cport"], marks["vport"])
    body += side(2, marks["backend"], marks["client"], marks["bport"], marks["cport"])
    body += attribute(3, struct.pack(">I", 0b1110)) + attribute(7, struct.pack(">I", 20_000))
    if protocol == 6:
        body += nest(4, nest(1, attribute(1, marks["state"])))
    head = struct.pack("=IHHII", 20 + len(body), 0x100, 0x1 | 0x400 | 0x200, 0, 0)
    return head + struct.pack("=BBH", socket.AF_INET, 0, 0) + body


MARKS = {"client": b"CLNT", "vip": b"VIPS", "backend": b"BKND", "cport": b"cp", "vport": b"vp", "bport": b"bp",
         "state": b"\xee"}  # fmt: skip


def requests(protocol: int, first: int, count: int) -> np.ndarray[Any, Any]:
    """Requests for ``count`` connections (rows of bytes): 4,096 pods, 200 Services, 1,000 endpoints."""
    n = np.arange(first, first + count, dtype=np.int64)
    values = {
        "client": (0x0AF40000 + n % 4096, ">u4"),
        "vip": (0x0A200000 + n % 200, ">u4"),
        "backend": (0x0AF50000 + n % 1000, ">u4"),
        "cport": (1024 + n // 4096, ">u2"),
        "vport": (np.full(count, 80 if protocol == 6 else 53), ">u2"),
        "bport": (np.full(count, 8080 if protocol == 6 else 5353), ">u2"),
        "state": (np.array([3, 3, 7, 1])[n % 4], "u1"),
    }
    one = template(protocol, MARKS)
    rows = np.tile(np.frombuffer(one, dtype=np.uint8), (count, 1))
    for name, (numbers, dtype) in values.items():
        size = len(MARKS[name])
        at = one.find(MARKS[name])
        while at >= 0 and not (name == "state" and protocol != 6):
            rows[:, at : at + size] = numbers.astype(dtype).view(np.uint8).reshape(count, size)
            at = one.find(MARKS[name], at + size)
    return rows


def fill(first: int, count: int) -> None:
    """Half of the connections UDP, half TCP, in this namespace."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
    for protocol, half in ((17, count // 2), (6, count - count // 2)):
        rows = requests(protocol, first, half)
        for at in range(0, half, _BATCH):
            sock.send(rows[at : at + _BATCH].tobytes())
    sock.close()


def measured(task: Callable[[], Any]) -> dict[str, float]:
    """Seconds, result and MB of memory above start, in a process of its own."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            before = memory("VmRSS")
            begin = time.perf_counter()
            result = task()
            seconds = time.perf_counter() - begin
            report = {"seconds": seconds, "result": result, "megabytes": memory("VmHWM") - before}
            os.write(write, json.dumps(report).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return dict(json.loads(answer))


def memory(line: str) -> float:
    text = Path("/proc/self/status").read_text()
    return int(text.split(line + ":")[1].split()[0]) / 1024


def best(name: str, task: Callable[[], Any], times: int = 3) -> dict[str, float]:
    """The fastest of some runs."""
    found = min((measured(task) for _ in range(times)), key=lambda run: run["seconds"])
    print(f"{name:44} {found['seconds']:8.2f} s   {found['megabytes']:6.0f} MB   {found['result']}", flush=True)
    return found


class Tables:
    """The namespaces with their entries."""

    def __init__(self, entries: int) -> None:
        room = int(Path("/proc/sys/net/netfilter/nf_conntrack_max").read_text()) * 95 // 100
        self.spaces: list[int] = []
        for first in range(0, entries, room):
            self.spaces.append(new_namespace())
            fill(first, min(room, entries - first))

    def each(self) -> Iterator[int]:
        for space in self.spaces:
            enter(space)
            yield space

    def listed(self) -> int:
        with Path(os.devnull).open("wb") as sink:
            for _ in self.each():
                subprocess.run(["conntrack", "-L", "-o", "extended,id"], stdout=sink, stderr=sink, check=True)
        return 0

    def text(self) -> bytes:
        command = ["conntrack", "-L", "-o", "extended,id"]
        return b"".join(subprocess.run(command, capture_output=True, check=True).stdout for _ in self.each())

    def received(self) -> int:
        return sum(len(piece) for _ in self.each() for piece in agent.dump())

    def columns(self) -> int:
        return len(self.table())

    def table(self) -> ConntrackTable:
        return decode(piece for _ in self.each() for piece in agent.dump())

    def frame(self) -> int:
        return len(self.table().frame)


def directory() -> FlowDirectory:
    """Names for all that the made-up connections speak of."""

    def text(number: int) -> str:
        return str(ipaddress.ip_address(number))

    vips = [text(0x0A200000 + i) for i in range(200)]
    backends = [text(0x0AF50000 + i) for i in range(1000)]
    return FlowDirectory(
        pods={text(0x0AF40000 + i): f"default/client-{i}" for i in range(4096)}
        | {address: f"default/web-{i}" for i, address in enumerate(backends)},
        nodes={"192.168.0.1": "node-one"},
        services={(vip, port, proto): f"default/svc-{i}:{proto}" for i, vip in enumerate(vips)
                  for port, proto in ((80, "tcp"), (53, "udp"))},
        endpoints={f"default/svc-{i}:{proto}": [(address, port) for address in backends[i::200]] for i in range(200)
                   for proto, port in (("tcp", 8080), ("udp", 5353))},
        networks=("10.244.0.0/15",),
        service_networks=("10.32.0.0/16",),
    )  # fmt: skip


def pyroute2_dump(entries: int) -> int:
    """Pyroute2's own way, on a smaller table of its own (it is too slow for the whole)."""
    from pyroute2 import Conntrack

    new_namespace()
    fill(0, entries)
    begin = time.perf_counter()
    with Conntrack() as conntrack:
        count = sum(1 for _ in conntrack.dump_entries())
    print(f"{'pyroute2 Conntrack.dump_entries':44} {time.perf_counter() - begin:8.2f} s for {count:,}", flush=True)
    return int((time.perf_counter() - begin) / count * 1e9)


def main() -> None:
    parser = argparse.ArgumentParser(description="Conntrack tables to columns, against conntrack-tools and pyroute2.")
    parser.add_argument("entries", nargs="?", type=int, default=500_000)
    parser.add_argument("--pyroute2", type=int, default=20_000, metavar="ENTRIES")
    options = parser.parse_args()
    begin = time.perf_counter()
    tables = Tables(options.entries)
    spaces = len(tables.spaces)
    print(
        f"{options.entries:,} entries in {spaces} namespaces, made in {time.perf_counter() - begin:.1f} s", flush=True
    )
    listed = best("conntrack -L > /dev/null", tables.listed)
    best("bare receive of the dump", tables.received)
    netlink = best("netlink to columns", tables.columns)
    best("netlink to columns and DataFrame", tables.frame)
    table, names = tables.table(), directory()
    best("flows explained", lambda: len(explain_flows(table, names)))
    text = tables.text()
    parsed = best(f"text ({len(text) >> 20} MB) to columns", lambda: len(parse_conntrack(text)))
    slow = measured(lambda: pyroute2_dump(options.pyroute2))
    ratio = slow["result"] / (netlink["seconds"] / netlink["result"] * 1e9)
    print(f"netlink to columns / conntrack -L            {netlink['seconds'] / listed['seconds']:.2f} (at most 1)")
    print(f"text to columns / conntrack -L               {parsed['seconds'] / listed['seconds']:.2f} (at most 4)")
    print(f"pyroute2 / netlink to columns, per entry     {ratio:.0f} (at least 50)")


if __name__ == "__main__":
    main()
