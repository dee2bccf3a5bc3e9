"""Fidelity of a twin: connections really made, for every case, beside what translate and walk say of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..errors import FactError, NotFound, Refused, TwinError
from ..explain.fidelity import Expected, Judged, Seen, expected_of, judge
from ..render import printable
from .fidelity_cases import Case, cases
from .sending import WIRE, Changeable, speaks_dns, twin_listeners, twin_source
from .translating import translate_on
from .walking import walk

if TYPE_CHECKING:
    from .cluster import Cluster

__all__ = ["COLUMNS", "fidelity_frame"]

COLUMNS = (
    "service port protocol entry family address node mode client kind action expected seen count chance "
    "masquerade masquerade_seen affinity affinity_seen verdict why"
).split()

_DOUBTFUL, _AGAIN = 0.01, 8
"""A spread less probable than this is looked at anew, with so many times the connections."""
_FEW, _MOST, _CROWD, _EACH = 4, 480, 24, 2
_TIMEOUT = 3.5
"""Seconds: over IPv6 a refusal may be heard only at the second SYN, see :mod:`k8snet_nb.twin.serving.client`."""
_REQUEST = 4_000
"""Connections in one request."""


@dataclass(frozen=True, slots=True)
class _Asked:
    case: Case
    expected: Expected | None
    speaks: str | None
    count: int
    why: str = ""


def fidelity_frame(
    cluster: Cluster,
    services: Sequence[str] | None = None,
    nodes: Sequence[str] | None = None,
    count: int = 48,
    told: Callable[[str], None] = lambda word: None,
) -> pd.DataFrame:
    """Connections for every Service port, entry, address, node, family and kind of client, against the rules.

    One row a case; columns: :data:`COLUMNS`. ``expected`` and ``seen`` map categories (an endpoint ``address:port``,
    or an end such as ``refused``) to shares and counts. ``verdict``: ``same``; ``differs``, and ``why``; ``explained``:
    it differs, but ``why`` names what the kit does not judge. ``services`` and ``nodes``: only these. ``count``:
    connections of a case with several endpoints; a doubtful spread is asked for again. Raises Refused for any other
    source, NotFound, TwinError.
    """
    source = twin_source(cluster)
    _check(cluster, services, nodes, count)
    listeners = twin_listeners(source)
    rows: list[tuple[_Asked, Judged]] = []
    with ThreadPoolExecutor(max_workers=4) as pool:
        pending: list[tuple[list[_Asked], Future[list[list[Seen]]]]] = []
        for node, several in groupby(cases(cluster, source, services, nodes, _CROWD), lambda case: case.node):
            asked = [_ask(cluster, case, listeners, count) for case in several]
            told(f"{node}: {len(asked)} cases")
            pending.append((asked, pool.submit(_send_all, source, asked)))
        for asked, sending in pending:
            rows += [(one, _judged(one, seen)) for one, seen in zip(asked, sending.result(), strict=True)]
        again = [(at, one) for at, (one, judged) in enumerate(rows) if _doubtful(one, judged)]
        more = [_Asked(o.case, o.expected, o.speaks, min(_MOST, o.count * _AGAIN)) for _, o in again]
        for (at, _), one, seen in zip(again, more, _send_all(source, more), strict=True):
            rows[at] = one, _judged(one, seen)
    frame = pd.DataFrame([_row(cluster, *row) for row in rows], columns=COLUMNS, dtype=object)
    return frame.astype({"count": int})


def _check(cluster: Cluster, services: Sequence[str] | None, nodes: Sequence[str] | None, count: int) -> None:
    for key in services or ():
        if key not in cluster.api.services:
            raise NotFound(printable(f"no Service {key!r}; there are: {', '.join(cluster.api.services)}"))
    for name in nodes or ():
        if name not in cluster.source.nodes():
            raise NotFound(printable(f"no node {name!r} in this twin; there are: {', '.join(cluster.source.nodes())}"))
    if not _FEW <= count <= _MOST:
        raise Refused(f"count {count}: from {_FEW} to {_MOST}")


def _ask(cluster: Cluster, case: Case, listeners: dict[tuple[str, str, int], str], count: int) -> _Asked:
    """A case with what is expected of it, and how it is asked; without an expectation where the rules cannot be had."""
    target, node = case.target, cluster.node(case.node)
    own = case.client.address or next(ip for ip in node.ips if (":" in ip) == (target.family == 6))
    try:
        translation = translate_on(cluster, node, case.service, target, own)
        if translation.affinity is not None and case.client.crowd:  # what it does with a client that it has not met yet
            own = case.client.like
            translation = translate_on(cluster, node, case.service, target, own)
        sender = {"pod": case.client.name, "node": node.name, "outside": own}[case.client.kind]
        way = walk(cluster, sender, target.address, target.protocol, target.port, node.name)
    except (FactError, Refused) as error:
        return _Asked(case, None, None, 0, str(error))
    on_way = dict.fromkeys([node.name, *(hop.node for hop in way.hops)])
    addresses = frozenset(ip for name in on_way if name in cluster.api.nodes for ip in cluster.node(name).view().local)
    expected = expected_of(translation, way, lambda ip, port: (target.protocol, ip, port) in listeners, addresses)
    ends = len(expected.masquerade)
    number = _FEW if not ends else max(_FEW, count // 6) if ends == 1 else min(_MOST, max(count, 8 * ends))
    return _Asked(case, expected, speaks_dns(listeners, target.protocol, way.ends), number)


def _judged(one: _Asked, seen: Sequence[Seen]) -> Judged:
    if one.expected is None:
        return Judged("explained", one.why, {}, None, "", "")
    return judge(one.expected, seen)


def _doubtful(one: _Asked, judged: Judged) -> bool:
    small = judged.chance is not None and judged.chance < _DOUBTFUL
    return small and one.expected is not None and one.expected.affinity is None


def _send_all(source: Changeable, asked: Sequence[_Asked]) -> list[list[Seen]]:
    """What each case met; places one after another, for clients at once would share a scheduler's turns."""
    found: list[list[Seen]] = [[] for _ in asked]
    places: dict[tuple[str, str | None], list[int]] = {}
    for at, one in enumerate(asked):
        if one.expected is not None:
            client = one.case.client
            place = WIRE if client.kind == "outside" else one.case.node
            places.setdefault((place, client.name if client.kind == "pod" else None), []).append(at)
    for (node, pod), numbers in places.items():
        for several in _in_requests(asked, numbers):
            plans = [(at, plan) for at in several for plan in _plans(source, asked[at])]
            for (at, plan), tallies in zip(plans, _tally(source, node, pod, [p for _, p in plans]), strict=True):
                found[at] += _seen(asked[at].case, plan, tallies)
    return found


def _in_requests(asked: Sequence[_Asked], numbers: Sequence[int]) -> Iterator[list[int]]:
    """Cases of one place, so many at once that a request stays bounded."""
    part: list[int] = []
    size = 0
    for at in numbers:
        if part and size + asked[at].count > _REQUEST:
            yield part
            part, size = [], 0
        part.append(at)
        size += asked[at].count
    if part:
        yield part


def _plans(source: Changeable, one: _Asked) -> Iterator[dict[str, Any]]:
    target, client = one.case.target, one.case.client
    plan: dict[str, Any] = {
        "protocol": target.protocol, "address": target.address, "port": target.port, "count": one.count,
        "timeout": _TIMEOUT, "speaks": one.speaks, "concurrency": 16,
    }  # fmt: skip
    if client.kind != "outside":
        yield plan
        return
    plan["mark"] = source.marks[one.case.node]
    crowd = client.crowd if one.expected and one.expected.affinity is not None else ()
    yield from (plan | {"source": ip, "count": _EACH} for ip in crowd)
    if not crowd:
        yield plan | {"source": client.address}


def _tally(source: Changeable, node: str, pod: str | None, plans: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    request: dict[str, Any] = {"op": "tally", "plans": plans} | ({"pod": pod} if pod else {})
    try:
        told: list[list[dict[str, Any]]] = source.ask(node, request, seconds=300)["tallies"]
    except TwinError as error:
        return [[{"count": plan["count"], "end": "", "says": str(error)}] for plan in plans]
    return told


def _seen(case: Case, plan: dict[str, Any], tallies: Sequence[dict[str, Any]]) -> Iterator[Seen]:
    for one in tallies:
        yield Seen(
            str(plan.get("source") or case.client.name), int(one["count"]), str(one["end"]), str(one.get("server", "")),
            int(one.get("port") or 0), str(one.get("peer", "")), str(one.get("local", "")), str(one.get("says", "")),
        )  # fmt: skip


def _row(cluster: Cluster, asked: _Asked, judged: Judged) -> tuple[Any, ...]:
    case, expected = asked.case, asked.expected
    target, port = case.target, case.target.service_port
    said = sorted({_MASQUERADE[m] for m in expected.masquerade.values()}) if expected else []
    return (
        case.service.key, port.name or str(port.port), target.protocol, target.entry, target.family, target.address,
        case.node, cluster.node(case.node).rules.mode.mode if expected else None, case.client.name, case.client.kind,
        expected.action if expected else None, dict(expected.shares) if expected else {}, dict(judged.seen),
        sum(judged.seen.values()), judged.chance, ", ".join(said), judged.masquerade,
        expected.affinity if expected else None, judged.affinity, judged.verdict, printable(judged.why),
    )  # fmt: skip


_MASQUERADE = {True: "yes", False: "no", "hairpin": "only by itself", None: "not decided"}
