"""Exercises of lesson 11: a packet followed over two nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from ...errors import FactError, NotFound, Refused
from ..answers import Answer, address, names, number
from ..question import NotHere, Question

if TYPE_CHECKING:
    from ...cluster import Cluster
    from ...cluster.api import Api
    from ...explain.journey.values import Journey, Stop

__all__ = ["EXERCISES"]

_MOST = 6
"""So many journeys are tried, each of which reads two nodes."""


def _once(make: Callable[[Cluster], Journey]) -> Callable[[Cluster], Journey]:
    """The same journey for question, answer and reasons; another one once the cluster was read again."""
    known: WeakKeyDictionary[Api, Journey] = WeakKeyDictionary()

    def asked(cluster: Cluster) -> Journey:
        if cluster.api not in known:
            known[cluster.api] = make(cluster)
        return known[cluster.api]

    return asked


def _used(cluster: Cluster) -> Iterator[tuple[str, str, str]]:
    """Pods, the Services that they used, and those Services' ports, where a pod on another node answered."""
    pods = cluster.api.pods
    for name in cluster.source.nodes():
        try:
            flows = cluster.node(name).flows(protocol="tcp")
        except (FactError, NotFound):
            continue
        for row in flows[flows["service"].notna()].itertuples():
            here, there = pods.get(str(row.client)), pods.get(str(row.backend))
            if here and there and here.node == name != there.node and not here.host_network:
                key, _, port = str(row.service).partition(":")
                yield here.key, key, port


def _served(cluster: Cluster) -> Iterator[tuple[str, str, str]]:
    """Pods, Services that have a ready endpoint on another node than theirs, and those Services' first ports."""
    pods = [pod for pod in cluster.api.pods.values() if pod.ips and pod.node and not pod.host_network]
    for pod in sorted(pods, key=lambda pod: pod.key):
        for key, port, nodes in _services(cluster):
            if nodes - {pod.node}:
                yield pod.key, key, port


def _services(cluster: Cluster) -> Iterator[tuple[str, str, set[str]]]:
    for key, service in cluster.api.services.items():
        nodes = {e.node for e in cluster.api.endpoints.get(key, ()) if e.state == "ready" and e.node}
        if nodes and service.cluster_ips and not service.headless and service.internal_policy == "Cluster":
            yield key, str(service.ports[0]), nodes


def _tried(cluster: Cluster, ways: Iterable[tuple[str, str, str]]) -> Iterator[Journey]:
    """Those of the first few ways that lead to another node and back."""
    for src, key, port in islice(dict.fromkeys(ways), _MOST):
        try:
            journey = cluster.journey(src, key, port or None)
        except (FactError, Refused):
            continue
        if journey.far not in (None, journey.near) and journey.stops[-1].direction == "back":
            yield journey


@_once
def _from_pod(cluster: Cluster) -> Journey:
    """From a pod over two nodes: one of a tracked connection, where there is one."""
    journey = next(_tried(cluster, chain(_used(cluster), _served(cluster))), None)
    if journey is None:
        raise NotHere("no pod reaches a Service on another node, as far as its facts tell")
    return journey


@_once
def _from_node(cluster: Cluster) -> Journey:
    """From a node itself to the same Service, where the server sees another source than was sent."""
    first = _from_pod(cluster)
    nodes = [name for name in cluster.source.nodes() if name in cluster.api.nodes]
    for journey in _tried(cluster, ((name, first.service, first.port) for name in nodes)):
        if _stop(journey, "source").changed:
            return journey
    raise NotHere("no node's own packets are masqueraded into another source address")


def _stop(journey: Journey, place: str, node: str | None = None) -> Stop:
    return next(stop for stop in journey.stops if stop.place == place and node in (None, stop.node))


def _server_sees(journey: Journey) -> str:
    return _bare(next(stop for stop in journey.stops if stop.direction == "back").destination)


def _bare(socket: str) -> str:
    """The address without its port."""
    if socket.startswith("["):
        return socket[1:].partition("]")[0]
    return socket.partition(":")[0] if socket.count(":") == 1 else socket


def _called(journey: Journey) -> str:
    return f"`{journey.service}`, port {journey.target.port}"


def _ask_seen(cluster: Cluster) -> str:
    journey = _from_pod(cluster)
    return (
        f"`{journey.client.removeprefix('pod ')}` on `{journey.near}` connects to {_called(journey)}, and a pod on "
        f"`{journey.far}` answers. Which source address does that pod see?"
    )


def _slips_seen(cluster: Cluster) -> tuple[tuple[Answer, str], ...]:
    journey = _from_pod(cluster)
    nodes = tuple(
        (address(ip), "That is the node's. It would take a rule that masquerades.") for ip in _ips(cluster, journey)
    )
    return ((address(journey.target.address), "That is what the client called: it never was a source."), *nodes)


def _ips(cluster: Cluster, journey: Journey) -> tuple[str, ...]:
    return cluster.node(journey.near).ips


def _why_seen(cluster: Cluster) -> str:
    source = _stop(_from_pod(cluster), "source")
    return f"On the client's node {source.says}. Only the destination is a Service's business, as a rule."


def _ask_back(cluster: Cluster) -> str:
    journey = _from_pod(cluster)
    return (
        f"On the way back of that connection (`{journey.client.removeprefix('pod ')}` to {_called(journey)}): on which "
        "node does the answer get the Service's address as its source?"
    )


def _slips_back(cluster: Cluster) -> tuple[tuple[Answer, str], ...]:
    far = str(_from_pod(cluster).far)
    return ((names([far]), "That node knows nothing of the Service: there the answer leaves as the pod's own."),)


def _ask_node(cluster: Cluster) -> str:
    journey = _from_node(cluster)
    return (
        f"Now a process of `{journey.near}` itself connects to {_called(journey)}. "
        "Which source address does the server see?"
    )


def _slips_node(cluster: Cluster) -> tuple[tuple[Answer, str], ...]:
    first = _bare(_from_node(cluster).stops[0].source)
    return ((address(first), "So it is sent, but it does not leave the node like that: look at the next stops."),)


def _why_node(cluster: Cluster) -> str:
    source = _stop(_from_node(cluster), "source")
    return f"{source.says[:1].upper()}{source.says[1:]}. The answer must come back to this node, which remembers."


def _forwarding(cluster: Cluster) -> int:
    """The number of the first stop on the server's node that needs forwarding."""
    journey = _from_pod(cluster)
    for at, stop in enumerate(journey.stops, 1):
        if stop.place == "forwarding" and stop.node == journey.far and stop.direction == "out":
            return at
    raise NotHere("the server is a process of its node: nothing is forwarded to it")


def _ask_off(cluster: Cluster) -> str:
    journey = _from_pod(cluster)
    return (
        f"In the journey of the first exercise, suppose that somebody sets `net.ipv4.ip_forward = 0` on "
        f"`{journey.far}` alone. At which stop (its number) would the packet end?"
    )


def _slips_off(cluster: Cluster) -> tuple[tuple[Answer, str], ...]:
    journey = _from_pod(cluster)
    near = next(at for at, stop in enumerate(journey.stops, 1) if stop.place == "forwarding")
    arrives = next((at for at, stop in enumerate(journey.stops, 1) if stop.place == "arriving"), 0)
    return (
        (number(near), f"That is on `{journey.near}`, which still forwards."),
        (number(arrives), "It does come in: what is for others is thrown away after that."),
    )


EXERCISES = (
    Question(
        number="11-1",
        ask=_ask_seen,
        answer=lambda cluster: address(_server_sees(_from_pod(cluster))),
        why=_why_seen,
        hints=("It answers to what it sees: look at the first stop of the way back.",),
        slips=_slips_seen,
    ),
    Question(
        number="11-2",
        ask=_ask_back,
        answer=lambda cluster: names([_from_pod(cluster).near], "name of the node"),
        why=(
            "Where the translation is remembered: on the client's own node. This is why the answer must come back the "
            "way that the packet went, and why the two nodes may translate in different modes."
        ),
        hints=("Which stop of the way back is drawn thick?",),
        slips=_slips_back,
    ),
    Question(
        number="11-3",
        ask=_ask_node,
        answer=lambda cluster: address(_server_sees(_from_node(cluster))),
        why=_why_node,
        hints=("`cluster.journey` takes a node's name as well.", "The stop called `source` tells."),
        slips=_slips_node,
    ),
    Question(
        number="11-4",
        ask=_ask_off,
        answer=lambda cluster: number(_forwarding(cluster)),
        why=(
            "A pod has an address of its own, so for its node the packet is one for somebody else. A node that does "
            "not forward drops it there, without a word to anybody."
        ),
        hints=("Which stops quote that setting?",),
        slips=_slips_off,
    ),
)
