"""Journeys from the façade: both ends, both nodes, and a connection of that kind that conntrack held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..errors import FactBroken, FactError, FactMissing, Refused
from ..explain.entry import Target, find_target
from ..explain.journey.parts import own_source
from ..explain.journey.values import Ground, Journey, Party, Tracked, Trip, socket_of
from ..explain.journey.way import journey
from ..explain.outcome import Packet
from ..explain.pod_network import veth_of
from ..explain.socket_text import listening
from ..explain.walk import End
from ..facts import Evidence, FactRef
from ..parse.conntrack_counters import parse_sysctl
from ..parse.conntrack_table import ConntrackTable
from ..parse.pods import PodValue
from ..render import printable
from .inside import node_facts, pod_facts
from .tracking import conntrack_table
from .walking import not_evaluated, walk

if TYPE_CHECKING:
    from .cluster import Cluster
    from .node import Node

__all__ = ["journey_of"]

_STOPPED = ("rejected", "dropped")


def journey_of(
    cluster: Cluster, src: str, service: str, port: str | int | None, backend: str | None, family: int | None
) -> Journey:
    """See :meth:`Cluster.journey`."""
    pod, near = _client(cluster, src)
    value = cluster.service(service).value
    target = find_target(value, port, "cluster_ip", family, near.ips)
    ground = _ground(cluster, near, target.family)
    client = (
        _party(cluster, pod, near, target.family) if pod and not pod.host_network else _host(near, pod, ground, target)
    )
    # an address of the node as the sender: the rules see the one that its route chooses
    sender = pod.key if client.view is not None and pod else client.address
    way = walk(cluster, sender, target.address, target.protocol, target.port, near.name)
    held = _answering(cluster, client.address, target, near) if backend is None else frozenset()
    end = _choose(cluster, way.ends, backend, near.name, held)
    home = cluster.node(end.node) if end.node else None
    same = home is not None and home.name == near.name
    server = _server(cluster, end, home, target)
    entry, answered = _tracked(cluster, client.address, target, end, near, None if same else home)
    ground = replace(ground, mode=way.mode, rules_fact=_rules_fact(near, way.mode, target.family), tracked=entry)
    if way.mode == "ipvs":
        ground = replace(ground, ipvs=_ipvs_memory(cluster, near, target, end, entry))
    far = None if home is None or same else _far(cluster, home, target, end, client, answered, entry)
    again = [hop.node for hop in way.hops if hop.place == "rules" and hop.says.endswith(": dnat")]
    twice = [f"{node} translates some of these packets a second time: see cluster.walk" for node in again]
    doubts = (*way.unknown, *((end.doubt,) if end.doubt else ()), *twice)
    return journey(Trip(
        service=value.key, target=target, client=client, server=server, near=ground, far=far, end=end,
        steps=way.steps, others=tuple(e.address for e in way.ends if e is not end), same_node=same,
        not_evaluated=tuple(dict.fromkeys(not_evaluated(cluster, pod, (end,), near))),
        unknown=tuple(dict.fromkeys(doubts)),
    ))  # fmt: skip


def _client(cluster: Cluster, src: str) -> tuple[PodValue | None, Node]:
    """The pod (None: the node itself) and its node. Raises Refused for a pod on no node, NotFound."""
    if src in cluster.api.nodes:
        return None, cluster.node(src)
    pod = cluster.pod(src).value
    if pod.node is None or not pod.ips:
        raise Refused(
            printable(f"pod {pod.key} has no node or no address yet: no packet leaves it. Choose another pod")
        )
    return pod, cluster.node(pod.node)


def _party(cluster: Cluster, pod: PodValue, node: Node, family: int) -> Party:
    address = next((ip for ip in pod.ips if (6 if ":" in ip else 4) == family), None)
    if address is None:
        raise Refused(printable(f"pod {pod.key} has no IPv{family} address: it cannot reach an IPv{family} Service"))
    view = pod_facts(cluster, pod)
    fact = FactRef("route6.json" if family == 6 else "route.json", pod.node, pod.key)
    if not any(r.network.version == family for r in view.routes or ()) and not cluster.source.has(fact):
        view = replace(view, routes=None)  # those of the other family tell nothing of this one
    return Party(f"pod {pod.key}", address, view=view, pair=veth_of(view, node_facts(cluster, node.name)))


def _host(node: Node, pod: PodValue | None, ground: Ground, target: Target) -> Party:
    """A process in the node's own namespace: its source is the one that the route to the Service chooses."""
    facts = ground.facts
    chosen = own_source(target.address, facts.routes or (), facts.links or ())[0] if facts else None
    source = chosen or next((ip for ip in node.ips if (":" in ip) == (target.family == 6)), None)
    if source is None:
        raise Refused(f"node {node.name} has no IPv{target.family} address that is known")
    return Party(f"pod {pod.key} (on the host network)" if pod else f"node {node.name}", source)


def _answering(cluster: Cluster, client: str, target: Target, near: Node) -> frozenset[str]:
    """Who answered this client for this Service, by the node's conntrack table."""
    table = _table(cluster, near, source=client, destination=target.address, port=target.port, protocol=target.protocol)
    return frozenset(table.frame["reply_src"]) if table is not None else frozenset()


def _choose(cluster: Cluster, ends: Sequence[End], backend: str | None, near: str, held: frozenset[str]) -> End:
    """The end asked for; by default the first on another node, one of a connection that was ``held`` before others."""
    if backend is None:
        return min(ends, key=lambda end: (end.node in (None, near), end.address not in held))
    key = backend if "/" in backend else f"default/{backend}"
    wanted = set(cluster.api.pods[key].ips) if key in cluster.api.pods else {backend}
    found = [end for end in ends if end.address in wanted]
    if not found:
        known = ", ".join(f"{end.address} ({end.who})" for end in ends)
        raise Refused(printable(f"{backend!r} is no end of this way; there are: {known}"))
    return found[0]


def _server(cluster: Cluster, end: End, home: Node | None, target: Target) -> Party:
    pods = [pod for pod in cluster.api.pods_by_ip.get(end.address, ()) if not pod.host_network]
    if end.verdict in _STOPPED and end.address == target.address:
        return Party("", end.address, end.port)
    if home is None or not pods:
        line, read = (None, False) if home is None else _listening(cluster, home.name, None, end, target)
        return Party(end.who, end.address, end.port, listening=line, sockets=read)
    pod = pods[0]
    view, node = pod_facts(cluster, pod), node_facts(cluster, home.name)
    line, read = _listening(cluster, home.name, pod.key, end, target)
    return Party(f"pod {pod.key}", end.address, end.port, view, veth_of(view, node), line, read)


def _listening(cluster: Cluster, node: str, pod: str | None, end: End, target: Target) -> tuple[Evidence | None, bool]:
    """The socket that waits there, as ``ss`` prints it; and whether sockets of that protocol were read."""
    ref = FactRef("sockets.txt", node, pod)
    if target.protocol not in ("tcp", "udp"):
        return None, False
    try:
        text = cluster.source.read(ref).decode("utf-8", "replace")
        line = listening(text, target.protocol, end.address, end.port)
    except FactMissing:
        return None, False
    except ValueError as error:
        raise FactBroken(ref.fact, ref.where, str(error), "Record it again, or look at the file.") from error
    says = f"this socket waits for {socket_of(end.address, end.port)}"
    return (Evidence(ref, cluster.source.command(ref), (line,), says) if line else None), True


def _ground(cluster: Cluster, node: Node, family: int) -> Ground:
    forwarding = None
    try:
        value = parse_sysctl(cluster.source.read(FactRef("sysctl.txt", node.name))).get("net.ipv4.ip_forward")
        forwarding = None if value is None else f"net.ipv4.ip_forward = {value}"
    except FactMissing:
        pass  # then whether it forwards is said to be unknown
    facts = node_facts(cluster, node.name)
    if facts is not None and facts.routes is not None:
        facts = replace(facts, routes=node.routes() if family in node.route_families() else None)  # of both families
    return Ground(node.name, node.ips, facts, forwarding=forwarding)


def _rules_fact(node: Node, mode: str | None, family: int) -> str | None:
    """The fact that the rules of that mode were read from: iptables has two, one a flavour."""
    if mode == "iptables":
        return node.rules.iptables(family).fact
    return {"nftables": "nft.json", "ipvs": "ipvs-save.txt"}.get(mode or "")


def _far(
    cluster: Cluster, home: Node, target: Target, end: End, client: Party, answered: Tracked | None,
    entry: Tracked | None,
) -> Ground:  # fmt: skip
    """The server's node: what its rules do with what arrives, and its own entry of the connection."""
    ground = replace(_ground(cluster, home, target.family), tracked=answered)
    source = entry.answered_to if entry else (client.address if end.masquerade in (False, "hairpin") else None)
    packet = Packet(target.family, target.protocol, end.address, end.port, source, "outside")
    try:
        mode = home.rules.mode.mode
        outcome = home.rules.evaluate(packet, home.view())
    except FactError as error:
        return replace(ground, rules_trouble=str(error))
    return replace(ground, mode=mode, outcome=outcome, rules_fact=_rules_fact(home, mode, target.family))


def _tracked(
    cluster: Cluster, client: str, target: Target, end: End, near: Node, far: Node | None
) -> tuple[Tracked | None, Tracked | None]:
    """The same connection in the tables of both nodes, where there is one; else one of the near node's."""
    if end.verdict in _STOPPED:
        return None, None
    here = _table(cluster, near, source=client, destination=target.address, port=target.port,
                  protocol=target.protocol, reply_source=end.address)  # fmt: skip
    if here is None or not len(here):
        return None, None
    mine = here.frame
    there = None if far is None else _table(cluster, far, destination=end.address, port=end.port,
                                            protocol=target.protocol)  # fmt: skip
    if there is not None:
        theirs = {
            (row.orig_src, row.orig_sport): at for at, row in enumerate(there.frame.itertuples())
        }  # the same connection, as the server's node sees its client
        for at, row in enumerate(mine.itertuples()):
            other = theirs.get((row.reply_dst, row.reply_dport))
            if other is not None:
                return _entry(cluster, near, here, at), _entry(cluster, far, there, other) if far else None
    return _entry(cluster, near, here, 0), None


def _table(cluster: Cluster, node: Node, **wanted: Any) -> ConntrackTable | None:
    try:
        return conntrack_table(cluster, node.name, **wanted)
    except FactMissing:
        return None


def _entry(cluster: Cluster, node: Node, table: ConntrackTable, at: int) -> Tracked:
    """One entry, quoted as the tool printed it where the fact is text."""
    row, ref = table.frame.iloc[at], table.evidence[0].ref
    lines: tuple[str, ...] = ()
    if table.lines is not None and ref.fact.endswith(".txt"):
        text = cluster.source.read(ref).split(b"\n")
        lines = (text[int(table.lines[at])].decode("utf-8", "replace").strip(),)

    def number(value: Any) -> int | None:
        return None if pd.isna(value) else int(value)

    sent = f"{socket_of(row.orig_src, number(row.orig_sport))} to {socket_of(row.orig_dst, number(row.orig_dport))}"
    back = f"{socket_of(row.reply_src, number(row.reply_sport))} to {socket_of(row.reply_dst, number(row.reply_dport))}"
    says = f"{node.name} remembers: sent from {sent}, answers come from {back}"
    proof = Evidence(ref, cluster.source.command(ref), lines, says)
    replied = "UNREPLIED" not in str(row["flags"])
    return Tracked(proof, number(row.orig_sport), row.reply_dst, number(row.reply_dport), replied)


def _ipvs_memory(cluster: Cluster, node: Node, target: Target, end: End, entry: Tracked | None) -> Evidence | None:
    """The line of this connection in IPVS's own table."""
    ref = FactRef("ipvs-connections.txt", node.name)
    if entry is None or not cluster.source.has(ref):
        return None
    wanted = (socket_of(target.address, target.port), socket_of(end.address, end.port))
    for line in cluster.source.read(ref).decode("utf-8", "replace").splitlines():
        words = line.split()
        if tuple(words[-2:]) == wanted and words[-3].endswith(f":{entry.client_port}"):
            return Evidence(ref, cluster.source.command(ref), (line.strip(),), "IPVS has a table of its own")
    return None
