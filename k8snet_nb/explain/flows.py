"""Flows explained: who talks to which Service, which backend answers, what was translated, and whether that is well.

A conntrack entry holds two tuples. The original one is what the client sent: to a Service's address, if it used one.
The reply tuple is what the answer looks like: its source is the backend that the packet was translated to, its
destination the address that the backend saw as the client's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..errors import Refused
from ..parse.columns import Number, Text, factorize_rows
from ..parse.conntrack_table import ConntrackTable
from ..render import printable

__all__ = ["TIMEOUTS", "FlowDirectory", "explain_flows", "flow_line", "top_talkers"]

Bools = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int64]
Address = tuple[str, int]

TIMEOUTS: dict[str, int] = {
    "nf_conntrack_udp_timeout": 30,
    "nf_conntrack_udp_timeout_stream": 120,
    "nf_conntrack_sctp_timeout_established": 210,
}
"""The kernel's defaults, seconds (nf_conntrack-sysctl.rst): how long an entry lives after its last packet."""

TALKERS = ("client", "backend", "service")
"""The parties of a flow."""

_PROTOCOL_SPAN, _PORT_SPAN = 64, 1 << 16


@dataclass(frozen=True, slots=True)
class FlowDirectory:
    """What a cluster calls addresses. Addresses are canonical text, protocols lower case (``tcp``).

    ``services`` maps every address, port and protocol that leads to a Service port (cluster, external and load
    balancer addresses) to its name ``ns/name:port``; ``node_ports`` the ports that do so on every node's addresses.
    ``endpoints`` are those that a Service port may send new connections to, ``terminating`` those that are ending.
    ``networks`` are the cluster's own (pods and Services): an address in them without a name is ``unknown``, one
    outside them ``outside``. ``node`` is the one whose table it is (empty: not known): only there is a NodePort of its
    own addresses translated.
    """

    pods: Mapping[str, str]
    nodes: Mapping[str, str]
    services: Mapping[tuple[str, int, str], str]
    endpoints: Mapping[str, Iterable[Address]]
    terminating: Mapping[str, Iterable[Address]] = field(default_factory=dict)
    node_ports: Mapping[tuple[int, str], str] = field(default_factory=dict)
    networks: tuple[str, ...] = ()
    service_networks: tuple[str, ...] = ()
    node: str = ""

    def name(self, address: str, networks: tuple[Any, ...]) -> str:
        """``ns/name`` of a pod, ``node NAME``, ``outside``, or ``unknown`` for a nameless address of the cluster."""
        if (pod := self.pods.get(address)) is not None:
            return pod
        if (node := self.nodes.get(address)) is not None:
            return f"node {node}"
        ip = ipaddress.ip_address(address)
        return "unknown" if any(ip in network for network in networks) else "outside"


class _Flows:
    """The columns that the explanation needs, addresses over one common list."""

    def __init__(self, table: ConntrackTable, directory: FlowDirectory) -> None:
        self.table, self.directory = table, directory
        self.known: dict[str, int] = {}
        self.orig_src, self.orig_dst = self.codes("orig_src"), self.codes("orig_dst")
        self.reply_src, self.reply_dst = self.codes("reply_src"), self.codes("reply_dst")
        self.protocols = {name: i for i, name in enumerate(table.text("protocol").values)}
        self.protocol = table.text("protocol").codes.astype(np.int64)
        self.orig_sport, self.orig_dport = self.port("orig_sport"), self.port("orig_dport")
        self.reply_sport, self.reply_dport = self.port("reply_sport"), self.port("reply_dport")
        self.addresses = list(self.known)

    def codes(self, name: str) -> Codes:
        text = self.table.text(name)
        table = [self.known.setdefault(value, len(self.known)) for value in text.values]
        return np.array([*table, -1], dtype=np.int64)[text.codes]

    def port(self, name: str) -> Codes:
        number: Number = self.table.number(name)
        return np.where(number.present, number.values.astype(np.int64), 0)

    def keys(self, address: Codes, port: Codes, protocol: Codes) -> Codes:
        """Address, port and protocol in one number."""
        return (address * _PORT_SPAN + port) * _PROTOCOL_SPAN + protocol

    def key(self, address: str, port: int, protocol: str) -> int | None:
        """The same number for a name of the directory; None where no flow can have it."""
        if address not in self.known or protocol not in self.protocols:
            return None
        return (self.known[address] * _PORT_SPAN + port) * _PROTOCOL_SPAN + self.protocols[protocol]


def _find(keys: Codes, table: Mapping[int, int]) -> Codes:
    """Each key's value, -1 where it has none."""
    if not table:
        return np.full(len(keys), -1, dtype=np.int64)
    known = np.fromiter(sorted(table), dtype=np.int64, count=len(table))
    values = np.array([table[key] for key in known.tolist()], dtype=np.int64)
    at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[at] == keys, values[at], -1)


def _services(flows: _Flows, names: dict[str, int]) -> tuple[Codes, Bools]:
    """Which Service port each flow was sent to (code into ``names``), -1 for none; whether others translate it.

    A packet to a NodePort of another node rightly leaves this one as it is: it is translated where it arrives.
    """
    directory = flows.directory
    table: dict[int, int] = {}
    elsewhere: dict[int, int] = {}
    for (address, port, protocol), service in directory.services.items():
        if (key := flows.key(address, port, protocol)) is not None:
            table[key] = names.setdefault(service, len(names))
    for (port, protocol), service in directory.node_ports.items():
        for address, node in directory.nodes.items():
            key = flows.key(address, port, protocol)
            if key is not None and key not in table:
                table[key] = names.setdefault(service, len(names))
                if node != directory.node:
                    elsewhere[key] = 1
    keys = flows.keys(flows.orig_dst, flows.orig_dport, flows.protocol)
    return _find(keys, table), np.asarray(_find(keys, elsewhere) == 1)


def _is_endpoint(flows: _Flows, service: Codes, names: dict[str, int], of: Mapping[str, Iterable[Address]]) -> Bools:
    """Whether the answering address and port is among the endpoints of the flow's Service port."""
    pairs: dict[int, int] = {}
    span = len(names) + 1
    for name, endpoints in of.items():
        code = names.get(name)
        for address, port in endpoints if code is not None else ():
            if address in flows.known:
                pairs[(flows.known[address] * _PORT_SPAN + port) * span + (code or 0)] = 1
    return np.asarray(_find((flows.reply_src * _PORT_SPAN + flows.reply_sport) * span + service, pairs) == 1)


def _nat(flows: _Flows) -> tuple[Text, Bools]:
    """How each flow was translated, and whether its destination was."""
    dnat = (flows.reply_src != flows.orig_dst) | (flows.reply_sport != flows.orig_dport)
    moved = flows.reply_dst != flows.orig_src
    snat = moved | (flows.reply_dport != flows.orig_sport)
    node = np.array([address in flows.directory.nodes for address in flows.addresses] + [False])
    masquerade = moved & node[flows.reply_dst]
    code = np.where(dnat & snat, 4, np.where(dnat, 1, np.where(masquerade, 3, np.where(snat, 2, 0))))
    return Text(code.astype(np.int32), ("none", "dnat", "snat", "masquerade", "both")), dnat


def _refreshed(flows: _Flows, timeouts: Mapping[str, int], earlier: ConntrackTable | None) -> Bools:
    """Whether each entry still sees packets, as far as can be told.

    Every packet sets the timeout back to its full length. With an ``earlier`` table: it rose, or stayed. Without one:
    less than half of it has passed; an entry whose timeout is not told counts as refreshed.
    """
    timeout = flows.table.number("timeout")
    protocol, flags = flows.table.text("protocol"), flows.table.text("flags")
    stream = flags.matches(["ASSURED" in value or "OFFLOAD" in value for value in flags.values])
    udp = np.where(stream, timeouts["nf_conntrack_udp_timeout_stream"], timeouts["nf_conntrack_udp_timeout"])
    full = np.where(protocol.equals("sctp"), timeouts["nf_conntrack_sctp_timeout_established"], udp)
    fresh = ~timeout.present | (2 * timeout.values.astype(np.int64) >= full)
    if earlier is None:
        return np.asarray(fresh)
    now, past = _same_entries(flows.table, earlier)
    before = np.full(int(max(now.max(initial=-1), past.max(initial=-1))) + 1, -1, dtype=np.int64)
    before[past] = earlier.number("timeout").values
    return np.asarray((before[now] < 0) | (timeout.values.astype(np.int64) >= before[now]))


def _same_entries(*tables: ConntrackTable) -> list[npt.NDArray[np.intp]]:
    """A number for each entry of each table, equal for the same connection."""
    numbers = ("protocol_number", "orig_sport", "orig_dport", "zone", "icmp_id")
    words = [np.concatenate([table.number(n).values for table in tables]).astype(np.uint64) for n in numbers]
    for name in ("orig_src", "orig_dst"):
        known: dict[str, int] = {}
        parts = [np.array([known.setdefault(v, len(known)) for v in table.text(name).values], dtype=np.uint64)
                 for table in tables]  # fmt: skip
        words.append(np.concatenate([part[table.text(name).codes] for part, table in zip(parts, tables, strict=True)]))
    codes, _ = factorize_rows(np.stack(words, axis=1))
    return np.split(codes, np.cumsum([len(table) for table in tables])[:-1])


def _verdicts(
    flows: _Flows, service: Codes, elsewhere: Bools, dnat: Bools, names: dict[str, int], fresh: Bools
) -> Text:
    directory = flows.directory
    ready = _is_endpoint(flows, service, names, directory.endpoints)
    ending = _is_endpoint(flows, service, names, directory.terminating) & ~ready
    networks = tuple(ipaddress.ip_network(network) for network in directory.service_networks)
    orphan = np.array([_inside(address, networks) for address in flows.addresses] + [False])
    to_service = (service >= 0) | (dnat & orphan[flows.orig_dst])
    gone = to_service & dnat & ~ready & ~ending
    protocol = flows.table.text("protocol")
    datagram = protocol.equals("udp") | protocol.equals("sctp")
    flags = flows.table.text("flags")
    unreplied = flags.matches(["UNREPLIED" in value for value in flags.values])
    untranslated = to_service & ~elsewhere & ~dnat & ~ready
    code = np.select(
        [gone & datagram & fresh, gone & datagram, gone | (ending & dnat), untranslated, unreplied],
        [1, 2, 3, 4, 5],
        0,
    )
    words = ("ok", "stale", "expiring", "draining", "untranslated", "unreplied")
    return Text(code.astype(np.int32), words)


def _inside(address: str, networks: tuple[Any, ...]) -> bool:
    if not networks:
        return False
    ip = ipaddress.ip_address(address)
    return any(ip in network for network in networks)


def explain_flows(
    table: ConntrackTable,
    directory: FlowDirectory,
    *,
    timeouts: Mapping[str, int] | None = None,
    earlier: ConntrackTable | None = None,
) -> pd.DataFrame:
    """The table's columns, and for each flow:

    - ``client``, ``backend``: ``ns/name`` of a pod, ``node NAME``, ``outside``, ``unknown`` (an address of the
      cluster's networks that nobody has any more); the backend is who answers.
    - ``service``: ``ns/name:port`` that the client used, NA for none.
    - ``nat``: ``none``, ``dnat``, ``snat``, ``masquerade`` (to a node's own address), ``both``.
    - ``hairpin``: a pod that reached itself through a Service.
    - ``verdict``: ``ok``; ``unreplied``: nothing came back; ``draining``: TCP to what is no ready endpoint any more,
      or anything to a terminating one (kube-proxy leaves both alone); ``stale``: UDP or SCTP still refreshed towards
      what is no endpoint, so that the client's packets go nowhere; ``expiring``: the same, but no longer refreshed;
      ``untranslated``: sent to a Service's address, or to a NodePort of this node, and not translated.

    ``timeouts`` are the node's own sysctls by name (defaults: :data:`TIMEOUTS`); ``earlier`` is a table read some
    seconds before, with which "still refreshed" is seen rather than inferred.
    """
    flows = _Flows(table, directory)
    names: dict[str, int] = {}
    service, elsewhere = _services(flows, names)
    nat, dnat = _nat(flows)
    fresh = _refreshed(flows, {**TIMEOUTS, **(timeouts or {})}, earlier)
    networks = tuple(ipaddress.ip_network(network) for network in (*directory.networks, *directory.service_networks))
    called = tuple(directory.name(address, networks) for address in flows.addresses)
    verdict = _verdicts(flows, service, elsewhere, dnat, names, fresh)
    frame = table.frame.copy(deep=False)
    frame["client"] = _text(flows.orig_src, called)
    frame["service"] = _text(service, tuple(names))
    frame["backend"] = _text(flows.reply_src, called)
    frame["nat"] = nat.series()
    frame["hairpin"] = dnat & (flows.reply_src == flows.orig_src)
    frame["verdict"] = verdict.series()
    return frame


def _text(codes: Codes, values: tuple[str, ...]) -> pd.Series[Any]:
    return Text(codes.astype(np.int32), values).series()


def top_talkers(flows: pd.DataFrame, by: str = "client", count: int = 10) -> pd.DataFrame:
    """The busiest of ``by`` (``client``, ``backend`` or ``service``): flows, share of all, packets, bytes.

    Raises Refused for another column.
    Packets and bytes are of both directions, NA where the node does not count them (nf_conntrack_acct is off).
    """
    if by not in TALKERS:
        raise Refused(printable(f"{by!r} is no party of a flow: {', '.join(TALKERS)}"))
    named = flows[flows[by].notna()]
    totals = pd.DataFrame(
        {
            by: named[by],
            "flows": 1,
            "packets": named["orig_packets"] + named["reply_packets"],
            "bytes": named["orig_bytes"] + named["reply_bytes"],
        }
    )
    grouped = totals.groupby(by, sort=True)
    out = grouped[["flows"]].sum()
    out["share"] = out["flows"] / max(len(flows), 1)
    out[["packets", "bytes"]] = grouped[["packets", "bytes"]].sum(min_count=1)
    out = out.reset_index().sort_values(["flows", by], ascending=[False, True]).head(count)
    return out.reset_index(drop=True)


def flow_line(flow: Any) -> str:
    """The two tuples of an entry as ``conntrack -L`` prints them."""

    def ports(source: Any, target: Any) -> str:
        return "" if pd.isna(source) else f" sport={source} dport={target}"

    original = f"src={flow.orig_src} dst={flow.orig_dst}{ports(flow.orig_sport, flow.orig_dport)}"
    reply = f"src={flow.reply_src} dst={flow.reply_dst}{ports(flow.reply_sport, flow.reply_dport)}"
    return f"{flow.protocol} {original} {reply}"
