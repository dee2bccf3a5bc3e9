"""Reading and asking the rules of a large node, as ratios to a floor measured in the same run.

    python benchmarks/rules.py

Prints one line a number: what, the measured value, the bound that it must keep, ok or TOO SLOW; exits 1 when one is.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from generate_cluster import GeneratedSource, ipvs_surroundings
from generate_rules import NODE, GeneratedService, generated_services, iptables_save, ipvs_save, nft_json

from k8snet_nb.cluster import Cluster
from k8snet_nb.explain.iptables.path import evaluate
from k8snet_nb.explain.iptables.services import services
from k8snet_nb.explain.ipvs.path import evaluate as evaluate_ipvs
from k8snet_nb.explain.ipvs.path import services as ipvs_services
from k8snet_nb.explain.nft.path import evaluate as evaluate_nft
from k8snet_nb.explain.nft.services import services as nft_services
from k8snet_nb.explain.outcome import NodeView, Packet
from k8snet_nb.parse.ipset import parse_ipset
from k8snet_nb.parse.iptables import parse_iptables_save
from k8snet_nb.parse.ipvs import parse_rules
from k8snet_nb.parse.nft import parse_nft

__all__ = ["Line", "pair", "seconds"]


@dataclass(frozen=True)
class Line:
    """One result: a ratio (or milliseconds) and the bound that it must keep."""

    what: str
    value: float
    bound: float
    unit: str = "times"

    def __str__(self) -> str:
        verdict = "ok" if self.value <= self.bound else "TOO SLOW"
        return f"{self.what:<64} {self.value:8.2f} {self.unit:<5} (at most {self.bound:g}) {verdict}"


def seconds(work: Callable[[], object]) -> float:
    """Processor time of one call, the collector off: it does not depend on what else the machine does."""
    gc.collect()
    gc.disable()
    try:
        start = time.process_time()
        work()
        return time.process_time() - start
    finally:
        gc.enable()


def pair(work: Callable[[], object], floor: Callable[[], object], rounds: int = 5) -> float:
    """The median ratio of two pieces of work that take turns."""
    return statistics.median(seconds(work) / seconds(floor) for _ in range(rounds))


def held(make: Callable[[], object]) -> int:
    """Bytes that a value keeps alive."""
    gc.collect()
    tracemalloc.start()
    kept = make()
    gc.collect()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del kept
    return size


def iptables() -> list[Line]:
    """The ``iptables-save`` of 5,000 Services and 20,000 endpoints."""
    generated = generated_services()
    text = iptables_save(generated, counters=True)
    view = NodeView("node", frozenset({NODE}), frozenset({NODE}), frozenset({"10.128.0.9"}), ("10.128.0.0/24",))
    rules = parse_iptables_save(text)
    packets = [Packet(4, "tcp", s.address, s.port) for s in generated[3::251]]
    packets += [Packet(4, "tcp", NODE, s.node_port, client="outside") for s in generated[::500] if s.node_port]
    first = [seconds(lambda packet=packet: evaluate(rules, packet, view)) for packet in packets]  # type: ignore[misc]
    return [
        Line(
            f"iptables: parse {text.count(chr(10)):,} lines / split them",
            pair(lambda: parse_iptables_save(text), lambda: [line.split() for line in text.splitlines()]),
            3,
        ),
        Line("iptables: one evaluation, median of first calls", statistics.median(first) * 1000, 5, "ms"),
        Line(
            "iptables: inventory of the node / parse",
            pair(lambda: services(rules), lambda: parse_iptables_save(text)),
            5,
        ),
        Line("iptables: memory of the parsed rules / text", held(lambda: parse_iptables_save(text)) / len(text), 12),
    ]


def nft() -> list[Line]:
    """The ``nft -j list ruleset`` of the same Services."""
    generated = generated_services()
    text = nft_json(generated)
    view = NodeView("node", frozenset({NODE}), frozenset({NODE}), frozenset({"10.128.0.9"}), ("10.128.0.0/24",))
    rules = parse_nft(text)
    packets = [Packet(4, "tcp", s.address, s.port) for s in generated[3::251]]
    packets += [Packet(4, "tcp", NODE, s.node_port, client="outside") for s in generated[::500] if s.node_port]
    first = [seconds(lambda packet=packet: evaluate_nft(rules, packet, view)) for packet in packets]  # type: ignore[misc]
    return [
        Line(
            f"nft: parse {len(text) / 1e6:.1f} MB / json.loads",
            pair(lambda: parse_nft(text), lambda: json.loads(text)),
            3,
        ),
        Line("nft: one evaluation, median of first calls", statistics.median(first) * 1000, 5, "ms"),
        Line("nft: inventory of the node / parse", pair(lambda: nft_services(rules), lambda: parse_nft(text)), 5),
        Line("nft: memory of the parsed rules / text", held(lambda: parse_nft(text)) / len(text), 12),
    ]


def ipvs() -> list[Line]:
    """The ``ipvsadm -Sn`` of the same Services, with the few iptables rules that the recorded node has beside it."""
    generated = generated_services()
    text = ipvs_save(generated)
    node = Path(__file__).parent.parent / "k8snet_nb/data/hello-cluster/nodes/node-three"
    rules = parse_iptables_save((node / "iptables-save.txt").read_bytes())
    sets = parse_ipset((node / "ipset.txt").read_bytes())
    local = frozenset({NODE, *(service.address for service in generated)})
    view = NodeView("node", local, frozenset({NODE}), frozenset({"10.128.0.9"}), ("10.128.0.0/24",))
    servers = parse_rules(text)
    packets = [Packet(4, "tcp", s.address, s.port) for s in generated[3::251]]
    first = [seconds(lambda packet=packet: evaluate_ipvs(servers, packet, view, rules, sets)) for packet in packets]  # type: ignore[misc]
    return [
        Line(
            f"ipvs: parse {text.count(chr(10)):,} lines / split them",
            pair(lambda: parse_rules(text), lambda: [line.split() for line in text.splitlines()]),
            9,
        ),
        Line("ipvs: one evaluation, median of first calls", statistics.median(first) * 1000, 5, "ms"),
        Line("ipvs: inventory of the node / parse", pair(lambda: ipvs_services(servers), lambda: parse_rules(text)), 5),
        Line("ipvs: memory of the parsed rules / text", held(lambda: parse_rules(text)) / len(text), 12),
    ]


def facade() -> list[Line]:
    """The same from the façade: ``cluster.translate`` and ``cluster.drift`` of one node, the API being parsed."""
    generated = generated_services()
    forms: list[tuple[str, dict[str, bytes], Callable[[], object]]] = []
    text, document, servers = iptables_save(generated, counters=True), nft_json(generated), ipvs_save(generated)
    forms.append(("iptables", {"iptables-save.txt": text.encode()}, lambda: parse_iptables_save(text)))
    forms.append(("nft", {"nft.json": document.encode()}, lambda: parse_nft(document)))
    forms.append(("ipvs", {"ipvs-save.txt": servers.encode(), **ipvs_surroundings()}, lambda: parse_rules(servers)))
    return [line for name, facts, parse in forms for line in _facade(name, generated, facts, parse)]


def _facade(
    name: str, generated: list[GeneratedService], facts: dict[str, bytes], parse: Callable[[], object]
) -> list[Line]:
    cluster = Cluster(GeneratedSource(generated, facts))
    warm = cluster.translate(generated[0].name.partition(":")[0], node="node")
    if warm.action != "dnat" or len(cluster.drift("node")):
        raise AssertionError(f"{name}: the generated cluster is not translated as its API says")
    keys = [service.name.partition(":")[0] for service in generated[3::251]]
    first = [seconds(lambda key=key: cluster.translate(key, node="node")) for key in keys]  # type: ignore[misc]
    return [
        Line(f"{name}: cluster.translate, median of first calls", statistics.median(first) * 1000, 5, "ms"),
        Line(f"{name}: cluster.drift of the node / parse", pair(lambda: cluster.drift("node"), parse), 5),
    ]


PARTS: list[Callable[[], list[Line]]] = [iptables, nft, ipvs, facade]

if __name__ == "__main__":
    results = [line for part in PARTS for line in part()]
    print(*results, sep="\n")
    sys.exit(any(line.value > line.bound for line in results))
