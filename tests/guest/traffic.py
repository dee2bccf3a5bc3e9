"""Runs in the guest: a node with kube-proxy's IPVS rules, pods behind it, and connections whose ends are written down.

Reads ``plan.json`` beside the script's working folder, prints one JSON object. Standard library and the agent only.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

CLONE_NEWNET = 0x40000000
KEPT_OPEN = 9000
"""Servers on this port do not close their connections."""
PROTOCOLS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def sh(command: str, text: str | None = None) -> str:
    """Runs a command that must not fail."""
    done = subprocess.run(command, shell=True, input=text, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr.strip()}")
    return done.stdout


def enter(namespace: str | None) -> None:
    """Moves this process into a network namespace."""
    if namespace:
        with Path("/run/netns", namespace).open() as handle:
            if ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"setns {namespace}")


def nodad(address: str) -> str:
    """IPv6 addresses are to be usable at once."""
    return f"{address} nodad" if ":" in address else address


def links(namespaces: dict[str, tuple[list[str], list[str]]], vips: list[str]) -> None:
    """The node's own addresses, and namespaces beside it: each has the node's addresses on its link, and its own.

    The node's first address of each family is a namespace's gateway for everything. In batches: a process costs a lot.
    """
    node = ["link set lo up", "link add kube-ipvs0 type dummy"]
    node += [f"addr add {nodad(address)} dev kube-ipvs0" for address in vips]
    inside: dict[str, list[str]] = {}
    for name, (here, there) in namespaces.items():
        sh(f"ip netns add {name}")
        node += [f"link add v-{name} type veth peer name eth0 netns {name}", f"link set v-{name} up"]
        node += [f"addr add {nodad(address)} dev v-{name}" for address in here]
        node += [f"route add {address} dev v-{name}" for address in there if address.endswith(("/32", "/128"))]
        own = inside[name] = ["link set lo up", "link set eth0 up"]
        own += [f"addr add {nodad(address)} dev eth0" for address in there]
        for gateway in {":" in one: one.partition("/")[0] for one in reversed(here)}.values():
            own += [f"route replace {gateway} dev eth0 scope link", f"route add default via {gateway} dev eth0"]
    sh("ip -batch -", "\n".join(node) + "\n")
    for name, own in inside.items():
        sh(f"ip -n {name} -batch -", "\n".join(own) + "\n")


SYSCTLS = {
    "ipv4/ip_forward": 1,
    "ipv6/conf/all/forwarding": 1,
    "ipv4/vs/conntrack": 1,
    "ipv4/conf/all/rp_filter": 0,
    "ipv4/conf/default/rp_filter": 0,
    # the kernel answers a few refused connections a second only, unless told otherwise
    "ipv4/icmp_ratelimit": 0,
    "ipv4/icmp_msgs_per_sec": 100000,
    "ipv4/icmp_msgs_burst": 10000,
}


def build(plan: dict[str, Any]) -> None:
    """Addresses, namespaces, and the rules in the order in which they need each other."""
    for name, value in SYSCTLS.items():
        Path("/proc/sys/net", name).write_text(str(value))
    links(plan["namespaces"], plan["vips"])
    sh("ipset restore", plan["ipset"])
    sh("iptables-legacy-restore", plan["iptables"])
    sh("ipvsadm -R", plan["ipvs"])


def family(address: str) -> int:
    """The socket family of an address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def serve(addresses: list[str], ports: list[tuple[str, int]], ready: int) -> None:
    """On every address and port: answers with its own address and the one it was called from. Never returns.

    Writes to the descriptor ``ready`` when all of them listen.
    """
    kept = []

    def answer(listener: socket.socket, me: str) -> None:
        while True:
            if listener.type == socket.SOCK_STREAM:
                connection, peer = listener.accept()
                connection.sendall(f"{me} {peer[0]}".encode())
                if me.endswith(f" {KEPT_OPEN}"):
                    kept.append(connection)
                else:
                    connection.close()
            else:
                _, peer = listener.recvfrom(100)
                listener.sendto(f"{me} {peer[0]}".encode(), peer)

    for address in addresses:
        for protocol, port in ports:
            listener = socket.socket(family(address), PROTOCOLS[protocol])
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
            if protocol == "tcp":
                listener.listen(128)
            threading.Thread(target=answer, args=(listener, f"{address} {port}"), daemon=True).start()
    os.write(ready, b"1")
    signal.pause()


def connect(probe: dict[str, Any]) -> str:
    """One connection: the server's answer, or the name of what went wrong."""
    with socket.socket(family(probe["dst"]), PROTOCOLS[probe["protocol"]]) as client:
        client.settimeout(probe.get("timeout", 2.0))
        try:
            if probe.get("source"):
                client.bind((probe["source"], 0))
            client.connect((probe["dst"], probe["dport"]))
            if probe["protocol"] == "udp":
                client.send(b"?")
            return client.recv(100).decode() or "empty"
        except OSError as error:
            return type(error).__name__ + f" {error.errno or ''}".rstrip()


def call(probe: dict[str, Any]) -> dict[str, int]:
    """All connections of one probe, from its namespace, in a process of its own."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        enter(probe["namespace"])
        results = Counter(connect(probe) for _ in range(probe["count"]))
        os.write(write_end, json.dumps(results).encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as answers:
        text = answers.read()
    os.waitpid(child, 0)
    return json.loads(text)


def listings() -> dict[str, list[str]]:
    """Of every fact: what ipvsadm says and what the agent reads by netlink."""
    from k8snet_nb.agent import ipvs

    commands = {
        "ipvs-save.txt": "ipvsadm -Sn",
        "ipvs.txt": "ipvsadm -Ln",
        "ipvs-stats.txt": "ipvsadm -Ln --stats --exact",
        "ipvs-connections.txt": "ipvsadm -Lnc",
    }
    return {fact: [sh(command), ipvs.FACTS[fact]()] for fact, command in commands.items()}


def main() -> None:
    plan = json.loads(Path("/run/work/plan.json").read_text())
    sys.path.insert(0, plan["checkout"])
    build(plan)
    for namespace, addresses in plan["servers"].items():
        start_servers(namespace or None, addresses, plan["ports"])
    answers = [call(probe) for probe in plan["probes"]]
    held = [socket.create_connection(tuple(plan["held"]), 10) for _ in range(3)]
    for connection in held:
        connection.recv(100)
    found = listings()
    sh("ipvsadm -C")
    sh("ipvsadm -R", plan["forms"])
    print(json.dumps({"answers": answers, "listings": found, "forms": listings()}))


def start_servers(namespace: str | None, addresses: list[str], ports: list[tuple[str, int]]) -> None:
    """The servers of one namespace, in a process of its own that ends with the guest; returns when they listen."""
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        enter(namespace)
        serve(addresses, ports, write_end)
    os.close(write_end)
    if not os.read(read_end, 1):
        raise RuntimeError(f"the servers in {namespace or 'the node'} did not start")


if __name__ == "__main__":
    main()
