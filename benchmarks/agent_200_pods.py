"""The agent against a shell loop of the same commands, on a node with many pod namespaces made for it.

    python benchmarks/agent_200_pods.py [--pods 200] [--rounds 3]

Needs root and iproute2, ss and conntrack. Prints the ratio agent / shell for (1) links and addresses of all pods and
(2) all passive facts of all pods; both are to be at most 1.0. The agent's time includes starting it; each figure is the
best of the rounds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from k8snet_nb.sources.agents import Agent

PREFIX = f"k8sbench{os.getpid()}"
PASSIVE = (
    "addr.json",
    "route.json",
    "route6.json",
    "rule.json",
    "neigh.json",
    "nsid.json",
    "sockets.txt",
    "conntrack.txt",
)
COMMANDS = (
    "ip -d -j -n $n addr", "ip -d -j -n $n route show table all", "ip -d -j -6 -n $n route show table all",
    "ip -j -n $n rule", "ip -j -n $n neigh", "ip -j -n $n netns list-id", "ip netns exec $n ss -tunap",
    "ip netns exec $n conntrack -L -o extended,id",
)  # fmt: skip


def names(pods: int) -> list[str]:
    return [f"{PREFIX}p{number}" for number in range(pods)]


def make(pods: int) -> None:
    """A node's namespace with a bridge, and a pod's namespace a pod, with one veth pair each."""
    node = f"{PREFIX}node"
    subprocess.run(["ip", "netns", "add", node], check=True)
    lines = ["link set lo up", "link add cni0 type bridge", "addr add 10.77.0.1/16 dev cni0", "link set cni0 up"]
    for number, name in enumerate(names(pods)):
        subprocess.run(["ip", "netns", "add", name], check=True)
        veth = f"veth{number}"
        lines += [f"link add {veth} type veth peer name eth0 netns {name}", f"link set {veth} master cni0 up"]
        address = f"10.77.{number // 200 + 1}.{number % 200 + 2}/16"
        inside = f"link set lo up\nlink set eth0 up\naddr add {address} dev eth0\nroute add default via 10.77.0.1\n"
        lines.append(f"#{name}:{inside}")
    plain = "\n".join(line for line in lines if not line.startswith("#"))
    subprocess.run(["ip", "-n", node, "-batch", "-"], input=plain.encode(), check=True)
    for line in lines:
        if line.startswith("#"):
            name, _, inside = line[1:].partition(":")
            subprocess.run(["ip", "-n", name, "-batch", "-"], input=inside.encode(), check=True)


def remove(pods: int) -> None:
    for name in (f"{PREFIX}node", *names(pods)):
        subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL, check=False)


def shell(commands: tuple[str, ...], pods: int) -> None:
    loop = "for n in {}; do {}; done".format(" ".join(names(pods)), "; ".join(commands))
    subprocess.run(["sh", "-c", loop], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def agent(facts: tuple[str, ...], pods: int) -> None:
    with Agent.start() as one:
        targets = [{"key": name, "path": f"/run/netns/{name}", "facts": facts} for name in names(pods)]
        told = one.facts(targets, 120)
        broken = [(key, answer.why) for key, answer in told.items() if answer.data is None]
        if broken:
            raise SystemExit(f"not told: {broken[:3]}")


def best(rounds: int, *works: Callable[[], None]) -> list[float]:
    """The best time of each, measured in turns."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for work, taken in zip(works, times, strict=True):
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
    return [min(taken) for taken in times]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pods", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    pods, worst = options.pods, 0.0
    try:
        make(pods)
        for title, facts, commands in (
            ("links and addresses", ("addr.json",), ("ip -j -n $n addr",)),
            ("all passive facts", PASSIVE, COMMANDS),
        ):
            asked, looped = best(
                options.rounds,
                lambda f=facts: agent(f, pods),
                lambda c=commands: shell(c, pods),  # type: ignore[misc]
            )
            worst = max(worst, asked / looped)
            print(f"{title} of {pods} pods: agent {asked:.2f} s, shell loop {looped:.2f} s, ratio {asked / looped:.2f}")
    finally:
        remove(pods)
    print(f"worst ratio {worst:.2f} (target: at most 1.0)")


if __name__ == "__main__":
    main()
