"""The façade that people use: one cluster, from whatever source its facts come."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import pandas as pd

from ..errors import FactError, FactMissing, NotFound
from ..explain.addon import NodeNetwork
from ..explain.dns.replicas import ReplicaComparison
from ..explain.dns.server import CorefileExplained
from ..explain.entry import default_client, find_target
from ..explain.journey.values import Journey
from ..explain.model import Rule
from ..explain.outcome import NodeView
from ..explain.spread import Sent
from ..explain.translation import Translation
from ..explain.walk import Walk
from ..explain.who import Directory, Who, who
from ..facts import FactRef
from ..parse.api import parse_object
from ..parse.links import Link, parse_links
from ..record.over_time import Spans
from ..record.recorder import Recorded, record
from ..record.redact import Redactor
from ..render import Report, Shown, ShownTuple, printable
from ..sources.base import Closable, Source
from ..sources.opening import open_source
from .api import Api, pick
from .diff import diff_frame
from .dns_replicas import replicas_of
from .dns_service import read_corefile
from .fidelity import fidelity_frame
from .finding import findings_frame
from .inside import sandboxes_frame
from .journeying import journey_of
from .modelling import network_model
from .node import Node
from .pod import Pod
from .rules import NodeRules
from .sending import send
from .service import Service
from .settling import settled_drift
from .tables import compare_frame, endpoints_frame, nodes_frame, pods_frame, services_frame
from .translating import compare_service, translate_on
from .walking import walk

if TYPE_CHECKING:
    from .twin import Twin

__all__ = ["Cluster"]


class Cluster(Shown):
    """A cluster. Made by :func:`k8snet_nb.open`.

    Every method raises FactMissing when what it needs was not collected, FactBroken when that is unreadable; both
    name the fact, of what, and why.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.api = Api(source)
        self._rules: dict[str, NodeRules] = {}
        self._views: dict[str, NodeView] = {}

    def close(self) -> None:
        """End what the source runs (a node's agent). Not needed: it also ends when nothing holds the cluster."""
        if isinstance(self.source, Closable):
            self.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def name(self) -> str:
        """The source's name."""
        return self.source.name

    @property
    def twin(self) -> Twin:
        """The running twin that this is read from: things to break, to find and to mend. Raises Refused elsewhere."""
        from .twin import twin_of

        return twin_of(self)

    @property
    def now(self) -> datetime | None:
        """The moment to which ages refer: when the API was read."""
        return self.source.time(FactRef("pods"))

    def refresh(self) -> Cluster:
        """Read a live cluster or node afresh at the next question; a recording stays what it is. Returns itself."""
        forget = getattr(self.source, "refresh", None) or getattr(self.source, "forget", None)
        if forget is not None:
            forget()
        self.api, self._rules, self._views = Api(self.source), {}, {}
        for name in ("version", "_directory"):
            self.__dict__.pop(name, None)
        return self

    @cached_property
    def version(self) -> str:
        """The API server's version, such as ``v1.36.2``."""
        content = self.source.read(FactRef("version"))
        return str(parse_object(content, "version").get("gitVersion", "unknown"))

    def pods(self, namespace: str | None = None) -> pd.DataFrame:
        """One row a pod: namespace name ready status phase restarts age ip ips node host_network.

        ``status`` is kubectl's word, ``ready`` as ``1/1``, ``ips`` a tuple; ``ip`` and ``node`` are None until known.
        """
        keys = (key for key in self.api.pods if namespace in (None, key.partition("/")[0]))
        return pods_frame((self.api.pods[key] for key in keys), self.now)

    def sandboxes(self) -> pd.DataFrame:
        """One row a pod: namespace name node pid netns host_network. None where there is no process or namespace.

        ``pid``: of the sandbox process, on its node; ``netns``: the inode of the network namespace. Raises FactBroken.
        """
        return sandboxes_frame(self)

    def services(self, namespace: str | None = None) -> pd.DataFrame:
        """One row a Service: namespace name type cluster_ip external_ip ports age selector cluster_ips headless.

        ``cluster_ip`` is ``"None"`` (kubectl's word) for a headless Service and None for an ExternalName one.
        """
        keys = (key for key in self.api.services if namespace in (None, key.partition("/")[0]))
        return services_frame((self.api.services[key] for key in keys), self.now)

    def endpoints(self, namespace: str | None = None) -> pd.DataFrame:
        """One row an endpoint and port of every EndpointSlice; ``service`` is None where a slice names none."""
        slices = (s for s in self.api.slices.values() if namespace in (None, s.namespace))
        return endpoints_frame((piece.service, endpoint) for piece in slices for endpoint in piece.endpoints)

    def nodes(self) -> pd.DataFrame:
        """One row a node: name status roles age version internal_ip ips pod_cidrs kernel runtime facts."""
        return nodes_frame(self.api.nodes.values(), self.now, self.source.nodes())

    def pod(self, key: str) -> Pod:
        """The pod ``namespace/name`` (``name`` alone: in ``default``). Raises NotFound with the nearest names."""
        return Pod(self, pick(self.api.pods, key, "pod"))

    def service(self, key: str) -> Service:
        """The Service ``namespace/name`` (``name`` alone: in ``default``). Raises NotFound with the nearest names."""
        return Service(self, pick(self.api.services, key, "Service"))

    def node(self, name: str) -> Node:
        """The node of that name. Raises NotFound with the names that there are."""
        if name not in self.api.nodes:
            raise NotFound(printable(f"no node {name!r}; there are: {', '.join(self.api.nodes)}"))
        return Node(self, self.api.nodes[name])

    def who(self, address: str) -> Who:
        """What an address is: pod, Service, node, endpoint without a pod, or unknown; with evidence."""
        return who(address, self._directory)

    def network_model(self) -> tuple[Rule, ...]:
        """The four rules of the Kubernetes network model, each checked on this cluster as far as its facts go."""
        return ShownTuple(network_model(self))

    def node_networks(self) -> tuple[NodeNetwork, ...]:
        """How each node connects its pods (bridge, point to point ...) and reaches those of others."""
        return ShownTuple(Node(self, node).network() for node in self.api.nodes.values())

    def translate(
        self,
        service: str,
        port: str | int | None = None,
        node: str | None = None,
        entry: str = "cluster_ip",
        family: int | None = None,
        client: str | None = None,
    ) -> Translation:
        """What becomes of a connection to a Service on a node, by the rules that are programmed there.

        ``port``: name or number (may be left out when there is one only); ``node``: by default the first with facts;
        ``entry``: cluster_ip, node_port, external_ip or load_balancer; ``family``: 4 or 6, by default the Service's
        first; ``client``: ``pod``, ``node``, ``outside`` or an address, by default ``pod`` for cluster_ip and
        ``outside`` for the rest. Raises Refused when the Service cannot be called so, FactMissing or FactBroken when
        the node's rules cannot be had.
        """
        where = self.node(node) if node else self.first_readable()
        value = self.service(service).value
        target = find_target(value, port, entry, family, where.ips)
        return translate_on(self, where, value, target, client or default_client(entry))

    def walk(self, src: str, dst: str, protocol: str, port: int, node: str | None = None) -> Walk:
        """A packet's way through a node's rules and routes, to where it ends.

        ``src``: a pod (``namespace/name``), a node's name, an IP address, or ``pod``, ``node``, ``outside`` for any of
        that kind; ``dst``: an IP address, a Service or a pod; ``protocol``: tcp, udp, sctp. ``node``: whose rules are
        met first, by default the sender's node. What could not be decided or was not evaluated is named.
        """
        return walk(self, src, dst, protocol, port, node)

    def journey(
        self,
        src: str,
        service: str,
        port: str | int | None = None,
        backend: str | None = None,
        family: int | None = None,
    ) -> Journey:
        """One connection, place by place: client, Service, server, and the answer's way back, each with its evidence.

        ``src``: a pod (``namespace/name``) or a node's name; ``port`` and ``family`` as in :meth:`translate`;
        ``backend``: a pod or an address, by default one on another node. Ports are those of a connection that
        conntrack held, where there was one. Raises Refused, NotFound, FactMissing, FactBroken.
        """
        return journey_of(self, src, service, port, backend, family)

    def send(
        self,
        service: str,
        port: str | int | None = None,
        client: str | None = None,
        node: str | None = None,
        entry: str = "cluster_ip",
        family: int | None = None,
        count: int = 100,
        timeout: float = 2.0,
        hold: float = 0.0,
        size: int = 0,
    ) -> Sent:
        """Make ``count`` real connections to a Service in a twin, and set who answered beside what the rules say.

        ``client``: a pod (``namespace/name``), ``pod`` (any that runs on ``node``), ``node``, or ``outside`` (through
        ``node``); by default ``pod`` for cluster_ip and ``outside`` for the rest. ``timeout`` in seconds, of one
        connection; ``hold``: seconds that TCP connections stay open once all are answered; ``size``: bytes of HTTP
        answer to ask for, 0: a short one. The rest as for :meth:`translate`. Raises Refused for any other source,
        TwinError.
        """
        return send(self, service, port, client, node, entry, family, count, timeout, hold, size)

    def fidelity(
        self, services: Sequence[str] | None = None, nodes: Sequence[str] | None = None, count: int = 48
    ) -> pd.DataFrame:
        """Connections in a twin by every Service, entry, node, family and kind of client, beside what the rules say.

        One row a case: service port protocol entry family address node mode client kind action expected seen count
        chance masquerade masquerade_seen affinity affinity_seen verdict why. ``verdict``: ``same``; ``differs``; or
        ``explained``: it differs, and ``why`` names what the kit does not judge. ``services``, ``nodes``: only these;
        ``count``: connections of a case with several endpoints. Raises Refused, NotFound, TwinError.
        """
        return fidelity_frame(self, services, nodes, count)

    def compare(self, service: str, port: str | int | None = None, entry: str = "cluster_ip") -> pd.DataFrame:
        """The same Service on every node, side by side and against its EndpointSlices.

        One row a node, port and family: node mode port family action endpoints shares masquerade affinity same says.
        ``shares`` maps ``address:port`` to its probability; ``same`` tells whether these are the endpoints that the
        API asks for on that node (None: could not be told, see ``says``).
        """
        return compare_frame(compare_service(self, self.service(service).value, port, entry))

    def drift(self, node: str | None = None, settle: float = 5.0) -> pd.DataFrame:
        """What nodes have programmed, against the API: one row a difference, none on a healthy cluster.

        Columns: code severity node service entry address port protocol family missing extra says. A node whose rules
        cannot be had is a row NOT_CHECKED. Codes and what they mean: :data:`k8snet_nb.explain.drift.CODES`.

        A live source is read again after ``settle`` seconds when something differs; the column ``state`` then says
        ``confirmed``, or ``settling`` for what is new; ``attrs["skew"]`` is how many seconds its facts lie apart.
        """
        return settled_drift(self, node, settle)

    def findings(self, node: str | None = None, settle: float = 0.0) -> pd.DataFrame:
        """Everything that can be judged here, the worst first: one row a finding, with a stable code.

        Columns: code severity node service port pod subject what means next evidence. ``severity`` is error, warning,
        unknown (it could not be judged: the fact and why) or info; ``evidence`` a tuple of
        :class:`~k8snet_nb.facts.Evidence`. Codes: :data:`k8snet_nb.explain.findings.CODES`. ``node``: only what is
        judged of that node. Raises NotFound for a node that is not there, FactMissing where the API told of no nodes.

        ``settle``: on a live source, read again after so many seconds; ``state`` is ``confirmed``
        when the first reading had such a finding of the same node, Service, port and pod.
        """
        return findings_frame(self, node, settle)

    def diff(self, other: Cluster | str | os.PathLike[str]) -> pd.DataFrame:
        """What is different in ``other`` (a cluster, or a recording's path): one row a change from here to there.

        Columns: what (``pod``, ``service``, ``rules``, ``usage`` ...) change (``added``, ``removed``, ``changed``,
        ``unknown``: could not be compared, and why) name node field before after service. Of a field that holds
        several things (endpoints, ports) only those that are not in both. Times of both readings in ``attrs``.
        """
        return diff_frame(self, other if isinstance(other, Cluster) else Cluster(open_source(other)))

    def record(
        self, path: str | os.PathLike[str], nodes: Sequence[str] | None = None, redact: bool = False, dns: bool = True,
        series: float = 0.0, events: float = 0.0,
    ) -> Recorded:  # fmt: skip
        """Write a recording of format 1 of everything this source can tell: a folder, or a ``.tar.gz`` by its name.

        ``nodes``: only these. ``redact``: names and addresses are mapped, the rest is left out. ``dns``: ask DNS from
        inside the pods too, where the source can. ``series``, ``events``: seconds to watch the connection tables' fill
        and events. Raises SourceError for a path that holds something else, NotFound for a node that cannot be read.
        """
        spans = Spans(series, events)
        return record(self.source, os.fspath(path), nodes, Redactor() if redact else None, spans=spans, dns=dns)

    def dns_replicas(self, name: str | None = None, pod: str | None = None, seconds: float = 30.0) -> ReplicaComparison:
        """Each CoreDNS pod asked directly, and the Service's address by UDP and TCP: agreement, difference, silence.

        ``name``: a full name (type A), by default the one that most of them were asked; ``pod``: from which pod. Raises
        FactMissing when nothing was recorded, NotFound when the cluster's DNS is called otherwise.
        """
        return replicas_of(self, name, pod, seconds)

    def corefile(self, name: str = "coredns") -> CorefileExplained:
        """CoreDNS's configuration in words, from a ConfigMap of kube-system. Raises NotFound, FactBroken (line)."""
        return read_corefile(self, name)

    def node_rules(self, name: str) -> NodeRules:
        """A node's rules, parsed once a cluster."""
        if name not in self._rules:
            self._rules[name] = NodeRules(self.source, name)
        return self._rules[name]

    def node_view(self, name: str, make: Callable[[], NodeView]) -> NodeView:
        """A node's addresses and its pods', put together once a cluster."""
        if name not in self._views:
            self._views[name] = make()
        return self._views[name]

    def about_node(self, node: str) -> dict[str, Any]:
        """node.json of a node: kernel, netns inode, tools. Empty when nothing is known of the node."""
        ref = FactRef("node.json", node)
        try:
            return parse_object(self.source.read(ref), f"nodes/{node}/node")
        except FactMissing:
            return {}

    def first_readable(self) -> Node:
        """The first node whose kernel can be asked. Raises FactMissing when there is none."""
        names = [name for name in self.source.nodes() if name in self.api.nodes]
        if not names:
            raise FactMissing("node.json", "any node", "no node's kernel can be read from this source")
        return self.node(names[0])

    def pod_links(self, pod: str, node: str) -> tuple[Link, ...]:
        """The interfaces inside a pod's network namespace. Raises FactMissing or FactBroken."""
        ref = FactRef("addr.json", node, pod)
        return parse_links(self.source.read(ref), ref)

    @cached_property
    def _directory(self) -> Directory:
        return Directory(
            pods_by_ip=lambda: self.api.pods_by_ip,
            services=lambda: self.api.services.values(),
            endpoints=lambda: self.api.endpoints,
            nodes=lambda: self.api.nodes.values(),
            readable=self.source.nodes,
            links=lambda name: Node(self, self.api.nodes[name]).links() if name in self.api.nodes else (),
            service_ranges=lambda: self.api.service_ranges,
            command=self.source.command,
        )

    def report(self) -> Report:
        """What it is, and how much there is of it."""
        rows: list[tuple[str, object]] = []
        notes: list[str] = []
        for what in ("nodes", "pods", "services"):
            try:
                rows.append((what, len(getattr(self.api, what))))
            except FactError as error:
                rows.append((what, "not known"))
                notes.append(str(error))
        return Report(self.source.describe(), ("WHAT", "HOW MANY"), tuple(rows), tuple(notes))

    def __repr__(self) -> str:
        return f"<Cluster: {self.source.describe()}>"
