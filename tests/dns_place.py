"""A pod on a node of this kernel that can be asked about names, with real servers behind it, and taken away again."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kernel_nodes import PREFIX, Machine, bridge_node, need_cgroups, pod_cgroup, pod_on_bridge

from k8snet_nb.cluster import Cluster
from k8snet_nb.sources.agents import Agent, child_command
from k8snet_nb.sources.node import NodeSource

UID = "71111111-2222-3333-4444-555555555551"
SERVER, SILENT, LIAR = "10.91.0.1", "10.91.0.77", "10.91.0.66"
WITHIN = "127.0.0.53"
"""In the pod's own namespace alone."""
ANSWERING = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], 53))
while True:
    query, client = sock.recvfrom(4096)
    sock.sendto(bytes([query[0] ^ int(sys.argv[2])]) + query[1:2] + b"\\x81\\x85" + query[4:], client)
"""
"""Refuses every question; the second word is 1 for one that gets the id wrong."""
HOSTS = ("10.9.0.1 hello.default.svc.test", *(f"10.9.1.{n} many.default.svc.test" for n in range(1, 61)))


@dataclass
class Place:
    cluster: Cluster
    source: NodeSource
    file: Path

    def write(self, *servers: str, search: str = "default.svc.test svc.test test") -> None:
        lines = "".join(f"nameserver {server}\n" for server in servers)
        self.file.write_text(f"search {search}\n{lines}options ndots:5 timeout:1 attempts:1\n")


def _container(machine: Machine, pod: str, file: Path) -> None:
    """The pod's pause process and one with a /etc/resolv.conf of its own, as a container has."""
    path = pod_cgroup(UID, "a" * 64)
    machine.process(pod, "/pause", path)
    folder = machine._folder(pod_cgroup(UID, "b" * 64))
    mounted = f"echo $$ > {folder}/cgroup.procs && mount --bind {file} /etc/resolv.conf && exec -a app sleep 1000"
    command = ["nsenter", f"--net=/run/netns/{pod}", "unshare", "--mount", "bash", "-c", mounted]
    child = subprocess.Popen(command)
    machine.processes.append(child)
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child.pid}/cmdline").read_text()[:3] != "app" and time.monotonic() < deadline:
        time.sleep(0.01)


def _server(machine: Machine, node: str, folder: Path, hosts: tuple[str, ...], domain: str) -> None:
    (folder / "hosts").write_text("\n".join(hosts) + "\n")
    command = ["ip", "netns", "exec", node, "dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts"]
    command += [
        f"--addn-hosts={folder / 'hosts'}",
        f"--local=/{domain}/",
        "--bind-interfaces",
        f"--listen-address={SERVER}",
    ]
    command += ["--user=root", "--conf-file=/dev/null", f"--pid-file={folder / 'pid'}", "--log-facility=/dev/null"]
    machine.processes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
    _answering(machine, node, LIAR, wrong=1)


def _answering(machine: Machine, namespace: str, address: str, *, wrong: int) -> None:
    command = ["ip", "netns", "exec", namespace, sys.executable, "-I", "-S", "-c", ANSWERING, address, str(wrong)]
    machine.processes.append(subprocess.Popen(command))


@contextmanager
def dns_place(
    folder: Path, hosts: tuple[str, ...] = (), domain: str = "test", api: Callable[[str], bytes] | None = None
) -> Iterator[Place]:
    """The pod ``default/asker``, a dnsmasq that knows ``hosts`` of ``domain``, one that lies and one that is silent."""
    need_cgroups()
    machine = Machine()
    try:
        node = bridge_node(machine, "dnsn")
        for address in (LIAR, SILENT):
            subprocess.run(["ip", "-n", node, "addr", "add", f"{address}/24", "dev", "cni0"], check=True)
        sink = "import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
        sink += f"s.bind(('{SILENT}', 53)); time.sleep(1000)"
        pod = pod_on_bridge(machine, node, "dnsp", "vetha", "10.91.0.2")
        file = folder / "resolv.conf"
        file.write_text("")
        _container(machine, pod, file)
        _server(machine, node, folder, hosts or HOSTS, domain)
        _answering(machine, pod, WITHIN, wrong=0)
        silent = ["ip", "netns", "exec", node, sys.executable, "-I", "-S", "-c", sink]
        machine.processes.append(subprocess.Popen(silent))
        logs = folder / "logs" / f"default_asker_{UID}"
        logs.mkdir(parents=True)
        agent = Agent.start(["ip", "netns", "exec", node, *child_command()], name=node)
        with NodeSource(api=api, agent=agent, node=PREFIX, logs=str(logs.parent)) as source:
            found = Place(Cluster(source), source, file)
            found.write(SERVER)
            _wait(source, (hosts or HOSTS)[0].split()[1])
            yield found
    finally:
        machine.clear()


def _wait(source: NodeSource, name: str) -> None:
    """Until both servers answer: the bridge needs its time too."""
    pod = Cluster(source).pod("default/asker")
    for _ in range(60):
        if pod.resolve(f"{name}.", types="A", seconds=1).outcome == "found":
            return
        time.sleep(0.1)
    raise AssertionError("dnsmasq does not answer")
