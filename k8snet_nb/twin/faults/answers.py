"""Faults of those who answer: a server that is gone, a DNS server that lies."""

from __future__ import annotations

from random import Random

from .scene import Change, Fault, Scene, choose

__all__ = ["dns_wrong", "server_dead"]


def server_dead(scene: Scene, rng: Random, node: str | None) -> Fault:
    """The servers of one pod are dead; its network, and what the API says of it, are as before."""
    pods = {pod.key: pod for pod in scene.pods()}
    pairs = [
        (target, pods[one.pod])
        for target in scene.targets()
        for one in target.endpoints
        if one.pod in pods and node in (None, pods[one.pod].node)
    ]
    target, pod = choose(rng, pairs, "no pod behind a Service with two endpoints or more")
    where = str(pod.node)
    stop, start = ({"op": "servers", "pod": pod.key, "action": action} for action in ("stop", "start"))
    sockets = tuple(f"{e.address}:{e.port}" for t in scene.targets() for e in t.endpoints if e.pod == pod.key)
    return Fault(
        f"From wherever one calls {target.text}, about one in {len(target.endpoints)} connections is refused at once.",
        f"the servers of {pod.key} are dead: its address is there, nobody listens",
        (pod.key, pod.name, *pod.ips, *sockets),
        (Change(where, stop, start),),
    )


def dns_wrong(scene: Scene, rng: Random, node: str | None) -> Fault:
    """One CoreDNS pod, or each of them, gives another Service's address for a name."""
    servers = list(scene.dns_servers())
    here = [pod for pod in servers if node in (None, pod.node)]
    one = choose(rng, here, "no DNS server that is a pod")
    pairs = [(a, b) for a in scene.names() for b in scene.names() if not a.behind & b.behind]
    asked, other = choose(rng, pairs, "no two Services with others behind them")
    name, wrong = asked.name, other.address
    everywhere = node is None and len({pod.node for pod in servers}) > 1 and rng.random() < 0.3
    nodes = sorted({str(pod.node) for pod in (servers if everywhere else [one])})
    liars = [pod for pod in servers if pod.node in nodes]
    often = "always" if everywhere or len(liars) == len(servers) else "now and then"
    lie = {"op": "answer", "name": f"{name}.", "type": "A", "data": [wrong]}
    where = [spelling for pod in liars for spelling in (pod.key, pod.name, *pod.ips)]
    return Fault(
        f"Clients that connect to {name} by its name {often} end up at something else. By the Service's address all "
        "is well.",
        f"{', '.join(pod.key for pod in liars)} answers {wrong} for {name}",
        (*where, *(("kube-system/kube-dns", "kube-dns") if len(liars) == len(servers) else ())),
        tuple(Change(each, lie, {"op": "answer"}) for each in nodes),
    )
