"""All facts of 20 nodes at once against those of one: agents in namespaces, over exec and websockets.

    python benchmarks/agents_20.py [--nodes 20] [--rounds 5]

Needs root. Each node is a network namespace of this kernel with its own agent process, all of them on this machine's
cores; on a real cluster every node has its own. Prints the ratio of the best rounds; it is to be at most 3.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from api_server import FakeCluster, serving  # noqa: E402  (its folder is put on the path above)

import k8snet_nb as kn  # noqa: E402
from k8snet_nb.facts import FactRef  # noqa: E402
from k8snet_nb.record.wanted import node_refs  # noqa: E402
from k8snet_nb.sources.live import LiveSource  # noqa: E402

PREFIX = f"k8sb{os.getpid() % 100_000}n"


def prepare(server: FakeCluster, names: list[str]) -> None:
    """Ready nodes of these names, each a namespace."""
    ready = {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"operatingSystem": "linux"}}
    server.lists["nodes"] = {"items": [{"metadata": {"name": name}, "status": ready} for name in names]}
    server.nodes = {name: name for name in names}


def measure(source: LiveSource, nodes: list[str], rounds: int) -> float:
    """Seconds for all facts of these nodes; the best of the rounds."""
    refs = [ref for node in nodes for ref in node_refs(source, node)]
    best = float("inf")
    for _ in range(rounds):
        source.refresh()
        begun = time.perf_counter()
        told = source.read_many(refs)
        best = min(best, time.perf_counter() - begun)
        assert all(told[FactRef("addr.json", node)].data for node in nodes)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    names = [f"{PREFIX}{number}" for number in range(options.nodes)]
    try:
        for name in names:
            subprocess.run(["ip", "netns", "add", name], check=True)
        with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as server:
            prepare(server, names)
            run(server, Path(folder), names, options.rounds)
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)


def run(server: FakeCluster, folder: Path, names: list[str], rounds: int) -> None:
    import kubernetes.config.kube_config as location

    location.KUBE_CONFIG_DEFAULT_LOCATION = str(server.kubeconfig(folder / "kubeconfig"))
    settings: dict[str, Any] = {"at_once": len(names)}
    whole = {}
    for several in (names[:1], names):
        begun = time.perf_counter()
        source = kn.open("live", agents=several, **settings).source
        assert isinstance(source, LiveSource)
        assert len(source.nodes()) == len(several), json.dumps(source._without)
        measure(source, several, 1)
        whole[len(several)] = time.perf_counter() - begun
        if len(several) == 1:
            source.close()
    with source:
        one, all_of_them = measure(source, names[:1], rounds), measure(source, names, rounds)
    cores = os.cpu_count() or 1
    print(f"{len(names)} nodes on {cores} cores: at best {max(1.0, len(names) / cores):.1f} where one fills a core")
    print(f"all facts, agents running:  one {one * 1000:6.0f} ms, all {all_of_them * 1000:6.0f} ms, "
          f"ratio {all_of_them / one:5.1f}   (to be at most 3)")  # fmt: skip
    first, last = whole[1], whole[len(names)]
    print(
        f"the same with their start:  one {first * 1000:6.0f} ms, all {last * 1000:6.0f} ms, ratio {last / first:5.1f}"
    )


if __name__ == "__main__":
    main()
