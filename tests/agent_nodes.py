"""Two nodes made of namespaces of this kernel, with pods, for tests of the agent."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from kernel_nodes import (
    Machine,
    bridge_node,
    ip,
    need_cgroups,
    pod_cgroup,
    pod_on_bridge,
    pod_point_to_point,
)
from needs import need

from k8snet_nb.sources.agents import Agent, child_command
from k8snet_nb.sources.node import NodeSource

pytestmark = need(root=True, commands=["ip", "bridge", "bash", "ss", "setpriv"], kernel=["veth", "bridge"])

UID = "11111111-2222-3333-4444-55555555555{}"
CID = "{:064x}"
PODS = {  # uid's last digit -> what it is
    "1": ("one", "10.91.0.2", "vetha"),
    "2": ("one", "10.91.0.3", "vethb"),
    "3": ("two", "10.92.0.2", "vetha"),
    "4": ("two", "10.92.0.3", "vethb"),
}


@dataclass
class Nodes:
    machine: Machine
    names: dict[str, str]
    pods: dict[str, str]
    pids: dict[str, int]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    need_cgroups()
    machine = Machine()
    try:
        names = {"one": bridge_node(machine, "one"), "two": machine.namespace("two")}
        pods, pids = {}, {}
        for digit, (node, address, host) in PODS.items():
            make = pod_on_bridge if node == "one" else pod_point_to_point
            pods[digit] = make(machine, names[node], f"p{digit}", host, address)
            path = pod_cgroup(UID.format(digit), CID.format(int(digit)))
            pids[digit] = machine.process(pods[digit], "/pause", path)
            machine.process(pods[digit], "app", path[:-1] + "f")
        pods["5"] = machine.namespace("p5")  # a pod whose interface is a macvlan on the bridge
        ip("link", "add", "link", "cni0", "name", "mv0", "netns", pods["5"], "type", "macvlan", "mode", "bridge",
           namespace=names["one"])  # fmt: skip
        pids["5"] = machine.process(pods["5"], "/pause", pod_cgroup(UID.format("5"), CID.format(5)))
        pods["6"] = names["one"]  # hostNetwork
        pids["6"] = machine.process(names["one"], "/pause", pod_cgroup(UID.format("6"), CID.format(6)))
        subprocess.run(["ip", "netns", "exec", names["one"], "bash", "-c",
                        "exec 3<>/dev/udp/10.91.0.2/9; echo > /dev/udp/10.91.0.2/9; echo > /dev/udp/10.91.0.3/9"],
                       check=False)  # fmt: skip
        time.sleep(2.5)  # duplicate address detection, and the bridge's first listening
        yield Nodes(machine, names, pods, pids)
    finally:
        machine.clear()


def agent_in(node: str) -> Agent:
    return Agent.start(["ip", "netns", "exec", node, *child_command()], name=node)


@pytest.fixture(scope="module")
def sources(nodes: Nodes) -> Iterator[dict[str, NodeSource]]:
    opened = {
        short: NodeSource(agent=agent_in(name), node=short, logs="/nonexistent") for short, name in nodes.names.items()
    }
    yield opened
    for source in opened.values():
        source.close()
