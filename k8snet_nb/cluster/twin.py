"""A twin's faults, from the façade: made, told by their symptom alone, judged, mended."""

from __future__ import annotations

from random import Random, SystemRandom
from typing import TYPE_CHECKING

import pandas as pd

from ..errors import NotFound, Refused
from ..explain.pod_network import VethPair
from ..parse import iptables, nft
from ..parse.ipvs import VirtualServer
from ..parse.links import Link, Route
from ..parse.pods import PodValue
from ..parse.services import Endpoint, ServiceValue
from ..render import Report, Shown, printable
from ..sources.twin import TwinSource
from ..twin.faults import FAULTS, Broken, Journal, Kind, Name, Target, Verdict
from .dns_service import cluster_domain, dns_service

if TYPE_CHECKING:
    from .cluster import Cluster

__all__ = ["Twin", "twin_of"]


class Twin(Shown):
    """The twin that a cluster is read from: break it, find out what is broken, mend it. Made by ``cluster.twin``.

    One thing is broken at a time. What it is stands in the twin's folder, so that another process (a trainer's) can
    break, judge and mend as well.
    """

    def __init__(self, cluster: Cluster, source: TwinSource) -> None:
        self._cluster = cluster
        self._journal = Journal(source.twin.path, source.ask)

    @staticmethod
    def faults() -> pd.DataFrame:
        """The faults that there are, one row each: code title place (what to name as its place)."""
        rows = [(kind.code, kind.title, kind.place) for kind in FAULTS.values()]
        return pd.DataFrame(rows, columns=["code", "title", "place"])

    def break_(self, code: str | None = None, seed: int | None = None, node: str | None = None) -> str:
        """Break one thing in the running twin and say its symptom. Readings made before are forgotten.

        ``code``: which fault (:meth:`faults`); None: a secret one. ``seed``: the same place, and the same secret, each
        time; None: by chance. ``node``: on that node. Raises NotFound for a code that there is not, Refused when
        something is broken already or this twin has no place for it, TwinError.
        """
        if self._journal.read() is not None:
            raise Refused("something is broken already: find it, or mend it first")
        rng = SystemRandom() if seed is None else Random(seed)  # noqa: S311 - a seed is asked for
        kinds = [_kind(code)] if code else rng.sample(list(FAULTS.values()), len(FAULTS))
        self._cluster.refresh()
        try:
            return self._first(kinds, rng, node).symptom
        finally:
            self._cluster.refresh()

    def _first(self, kinds: list[Kind], rng: Random, node: str | None) -> Broken:
        """The first of these for which there is a place. Raises Refused with the last one's reason."""
        if node is not None:
            self._cluster.node(node)
        for left, kind in enumerate(kinds, 1 - len(kinds)):
            try:
                fault = kind.make(_Scene(self._cluster), rng, node)
            except Refused:
                if left:
                    continue
                raise
            return self._journal.break_(kind.code, fault)
        raise AssertionError("no kind of fault")

    @property
    def symptom(self) -> str | None:
        """What somebody notices of what is broken; None: nothing is."""
        broken = self._journal.read()
        return None if broken is None else broken.symptom

    def check(self, code: str, where: str) -> Verdict:
        """Whether that is broken, there. True when both are right; ``.code`` and ``.where`` tell each.

        ``where``: a pod (``namespace/name``) or a node, as :meth:`faults` says. Raises Refused: nothing is broken.
        """
        return self._journal.judge(code, where)

    def hint(self, number: int = 1) -> str:
        """The hint of that number, from 1 (the broadest) to 3. Raises Refused: nothing is broken."""
        hints = FAULTS[self._there().code].hints
        return hints[max(0, min(number, len(hints)) - 1)]

    def solution(self) -> Solved:
        """What is broken, and the calls that show it. Raises Refused: nothing is broken."""
        broken = self._there()
        return Solved(broken.code, broken.where[0], broken.what, FAULTS[broken.code].hints)

    def mend(self) -> str | None:
        """Mend it, exactly as it was, and say what it was; None: nothing was broken. Raises TwinError."""
        try:
            broken = self._journal.mend()
        finally:
            self._cluster.refresh()
        return None if broken is None else broken.what

    def _there(self) -> Broken:
        broken = self._journal.read()
        if broken is None:
            raise Refused("nothing is broken in this twin: cluster.twin.break_()")
        return broken

    def report(self) -> Report:
        """The symptom, and the faults that it may be."""
        rows = tuple((kind.code, kind.title, kind.place) for kind in FAULTS.values())
        state = self.symptom or "Nothing is broken. cluster.twin.break_() breaks something and says only the symptom"
        return Report(printable(state), ("CODE", "WHAT MAY BE BROKEN", "WHERE"), rows)


class Solved(Shown):
    """What was broken: ``code``, ``where``, ``what`` in words, and the hints that lead to it."""

    def __init__(self, code: str, where: str, what: str, hints: tuple[str, ...]) -> None:
        self.code, self.where, self.what, self.hints = code, where, what, hints

    def report(self) -> Report:
        """Code and place, the truth, and how one comes to it."""
        return Report(printable(f"{self.code} at {self.where}: {self.what}"), notes=self.hints)


def twin_of(cluster: Cluster) -> Twin:
    """See :attr:`.cluster.Cluster.twin`."""
    if not isinstance(cluster.source, TwinSource):
        raise Refused(
            f"{cluster.source.describe()} is only read; things are broken in a twin: `k8snet twin up`, "
            'then kn.open("twin")'
        )
    return Twin(cluster, cluster.source)


def _kind(code: str) -> Kind:
    if code.upper() not in FAULTS:
        raise NotFound(printable(f"no fault {code!r}: there are {', '.join(FAULTS)}"))
    return FAULTS[code.upper()]


class _Scene:
    """See :class:`k8snet_nb.twin.faults.Scene`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def nodes(self) -> tuple[str, ...]:
        return tuple(sorted(name for name in self._cluster.source.nodes() if name in self._cluster.api.nodes))

    def node_ips(self, node: str) -> tuple[str, ...]:
        return self._cluster.node(node).ips

    def mode(self, node: str) -> str | None:
        return self._cluster.node(node).proxy_mode

    def iptables(self, node: str) -> iptables.Ruleset:
        return self._cluster.node_rules(node).iptables(4)

    def nft(self, node: str) -> nft.Ruleset:
        return self._cluster.node_rules(node).nft

    def servers(self, node: str) -> tuple[VirtualServer, ...]:
        return self._cluster.node_rules(node).servers

    def links(self, node: str) -> tuple[Link, ...]:
        return self._cluster.node(node).links()

    def routes(self, node: str) -> tuple[Route, ...]:
        return self._cluster.node(node).routes()

    def pods(self) -> list[PodValue]:
        alive = self.nodes()
        pods = self._cluster.api.pods.values()
        return [p for p in pods if p.node in alive and p.phase == "Running" and p.host_network is False and p.ips]

    def cable(self, pod: str) -> VethPair | None:
        pair = self._cluster.pod(pod).veth()
        return pair if isinstance(pair, VethPair) else None

    def targets(self) -> list[Target]:
        return [target for service in self._cluster.api.services.values() for target in self._of(service)]

    def _of(self, service: ServiceValue) -> list[Target]:
        address = _four(service)
        if address is None or service.affinity_seconds or service.internal_policy == "Local":
            return []
        found = []
        for port in service.ports:
            ends = self._ready(service.key, port.name)
            if port.protocol.lower() == "tcp" and len(ends) > 1 and not self._is_dns(service.key):
                found.append(Target(service.key, port.port, "tcp", address, ends))
        return found

    def _ready(self, service: str, port: str) -> tuple[Endpoint, ...]:
        """Its ready endpoints of that port; empty when not all of them are pods that are alive here."""
        alive = {pod.key for pod in self.pods()}
        ends = [e for e in self._cluster.api.endpoints.get(service, ()) if e.port_name == port and ":" not in e.address]
        ready = tuple(e for e in ends if e.ready)
        return ready if all(e.pod in alive for e in ready) else ()

    def _is_dns(self, service: str) -> bool:
        return service == dns_service(self._cluster).key

    def names(self) -> list[Name]:
        domain, _ = cluster_domain(self._cluster)
        found = []
        for service in self._cluster.api.services.values():
            address = _four(service)
            behind = frozenset(e.address for e in self._cluster.api.endpoints.get(service.key, ()) if e.ready)
            if address and behind and not self._is_dns(service.key):
                found.append(Name(f"{service.name}.{service.namespace}.svc.{domain}", address, behind))
        return found

    def dns_servers(self) -> list[PodValue]:
        behind = {e.pod for e in self._cluster.api.endpoints.get(dns_service(self._cluster).key, ()) if e.ready}
        return [pod for pod in self.pods() if pod.key in behind]

    def taken(self) -> frozenset[str]:
        api = self._cluster.api
        found = {ip for pod in api.pods.values() for ip in pod.ips}
        found |= {ip for node in api.nodes.values() for ip in node.ips()}
        found |= {ip for s in api.services.values() for ip in (*s.cluster_ips, *s.external_ips, *s.load_balancer)}
        found |= {e.address for several in api.endpoints.values() for e in several}
        for node in self.nodes():
            found |= {a.address for link in self.links(node) for a in link.addresses}
            found |= {via for route in self.routes(node) for via, _ in route.hops if via}
        return frozenset(found)


def _four(service: ServiceValue) -> str | None:
    return next((ip for ip in service.cluster_ips if ":" not in ip), None) if not service.headless else None
