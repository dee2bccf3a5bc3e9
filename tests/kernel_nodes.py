"""Nodes and pods made of this kernel's namespaces and cgroups, and taken away again, whatever happened."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from needs import stop

PREFIX = f"k8sn{os.getpid() % 100_000}x"
_numbers = itertools.count(1)


def ip(*words: str, namespace: str | None = None) -> str:
    """``ip [-n namespace] words``."""
    inside = ["-n", namespace] if namespace else []
    return subprocess.run(["ip", *inside, *words], check=True, capture_output=True, text=True).stdout


def cgroup_root() -> Path | None:
    """A cgroup tree in which processes can be put somewhere without any controller's limits."""
    for name in ("unified", "pids", "systemd", "."):
        root = Path("/sys/fs/cgroup") / name
        probe = root / f"{PREFIX}probe"
        try:
            probe.mkdir()
            probe.rmdir()
        except OSError:
            continue
        return root
    return None


def need_cgroups() -> None:
    """Go on only where a process can be put into a cgroup of its own."""
    stop([] if cgroup_root() else ["a cgroup tree in which groups can be made"])


class Machine:
    """Namespaces, processes and cgroups of one test module; :meth:`clear` takes all away."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self.folders: list[Path] = []
        root = cgroup_root()
        self.cgroups = root / f"{PREFIX}{next(_numbers)}" if root else None

    def namespace(self, name: str) -> str:
        """A new network namespace with loopback up."""
        full = f"{PREFIX}{name}"
        ip("netns", "add", full)
        self.names.append(full)
        ip("link", "set", "lo", "up", namespace=full)
        return full

    def process(self, namespace: str, title: str, cgroup: str) -> int:
        """A sleeping process in a namespace and a cgroup, with a title of its own; its pid."""
        folder = self._folder(cgroup)
        # Not `ip netns exec`: it hides /sys, and the cgroups with it.
        before = f"echo $$ > {folder}/cgroup.procs && exec -a '{title}' sleep 1000"
        child = subprocess.Popen(["nsenter", f"--net=/run/netns/{namespace}", "bash", "-c", before])
        self.processes.append(child)
        deadline = time.monotonic() + 5
        while not Path(f"/proc/{child.pid}/cmdline").read_text().startswith(title) and time.monotonic() < deadline:
            time.sleep(0.01)
        return child.pid

    def _folder(self, cgroup: str) -> Path:
        assert self.cgroups is not None
        folder = self.cgroups
        for part in ("", *cgroup.strip("/").split("/")):
            folder = folder / part
            if not folder.exists():
                folder.mkdir()
                self.folders.append(folder)
        return folder

    def kill(self, pid: int) -> None:
        """End one process and wait for it."""
        for child in self.processes:
            if child.pid == pid:
                child.kill()
                child.wait()

    def clear(self) -> None:
        """Take everything away."""
        for child in self.processes:
            if child.poll() is None:
                os.kill(child.pid, signal.SIGKILL)
            child.wait()
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)
        for folder in reversed(self.folders):
            try:
                folder.rmdir()
            except OSError as error:
                print(f"left behind: {folder}: {error}", file=sys.stderr)


def pod_cgroup(uid: str, container: str) -> str:
    """The path that the kubelet's cgroupfs driver makes."""
    return f"kubepods/besteffort/pod{uid}/{container}"


def bridge_node(machine: Machine, name: str) -> str:
    """A node with a bridge for its pods, 10.91.0.1/24 on it."""
    node = machine.namespace(name)
    ip("link", "add", "cni0", "address", "02:00:00:00:00:91", "type", "bridge", namespace=node)
    ip("addr", "add", "10.91.0.1/24", "dev", "cni0", namespace=node)
    ip("link", "set", "cni0", "up", namespace=node)
    return node


def pod_on_bridge(machine: Machine, node: str, name: str, host_name: str, address: str) -> str:
    """A pod's namespace with eth0 (index 2), whose peer is a port of cni0."""
    pod = machine.namespace(name)
    ip("link", "add", "eth0", "index", "2", "netns", pod, "type", "veth", "peer", "name", host_name, "netns", node)
    ip("link", "set", host_name, "master", "cni0", "up", namespace=node)
    ip("addr", "add", f"{address}/24", "dev", "eth0", namespace=pod)
    ip("link", "set", "eth0", "up", namespace=pod)
    ip("route", "add", "default", "via", "10.91.0.1", namespace=pod)
    return pod


def pod_point_to_point(machine: Machine, node: str, name: str, host_name: str, address: str) -> str:
    """A pod's namespace with eth0 (index 2), to which the node has a /32 route."""
    pod = machine.namespace(name)
    ip("link", "add", "eth0", "index", "2", "netns", pod, "type", "veth", "peer", "name", host_name, "netns", node)
    ip("link", "set", host_name, "up", namespace=node)
    ip("route", "add", address, "dev", host_name, "scope", "host", namespace=node)
    ip("addr", "add", f"{address}/32", "dev", "eth0", namespace=pod)
    ip("link", "set", "eth0", "up", namespace=pod)
    ip("route", "add", "169.254.1.1", "dev", "eth0", namespace=pod)
    ip("route", "add", "default", "via", "169.254.1.1", "dev", "eth0", namespace=pod)
    return pod
