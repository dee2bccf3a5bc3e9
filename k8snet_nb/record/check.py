"""Is a recording whole? Every fact is read and parsed; what cannot be, or only in part, is a finding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FactBroken, FactMissing, SourceError
from ..facts import API_RESOURCES, FACTS, FactRef
from ..parse import conntrack, conntrack_counters, conntrack_events, dns, ipset, iptables, ipvs, ipvs_listing, nft
from ..parse.api import parse_list, parse_object
from ..parse.links import parse_links, parse_routes
from ..parse.namespaces import parse_lsns, parse_nsid, parse_pod_processes, parse_processes
from ..parse.nodes import parse_node
from ..parse.pods import parse_pod
from ..parse.resolv_conf import parse_resolv_conf
from ..parse.routing import parse_fdb, parse_neigh, parse_rules
from ..parse.services import parse_service, parse_slice
from ..render import printable
from ..sources.recorded import RecordedSource, open_recording

__all__ = ["Checked", "Finding", "check_recording"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know: ``level`` is ``error`` (a fact cannot be used), ``warning`` (in part) or ``note``."""

    level: str
    where: str
    says: str

    def __str__(self) -> str:
        return printable(f"{self.level}: {self.where}: {self.says}")


@dataclass(frozen=True, slots=True)
class Checked:
    """The verdict on a recording: how many facts were parsed, and what was found."""

    about: str
    facts: int
    findings: tuple[Finding, ...]

    @property
    def good(self) -> bool:
        """Whether every fact that is there can be used."""
        return not any(finding.level == "error" for finding in self.findings)

    def __str__(self) -> str:
        verdict = "good" if self.good else "not good"
        counted = f"{self.facts} facts parsed, {len(self.findings)} findings: {verdict}"
        return "\n".join([printable(self.about), *map(str, self.findings), counted])


def _with_ref(parse: Callable[[bytes, FactRef], Any]) -> Callable[[bytes, FactRef], Any]:
    return parse


def _with_where(parse: Callable[..., Any]) -> Callable[[bytes, FactRef], Any]:
    return lambda content, ref: parse(content, fact=ref.fact, where=ref.where)


def _plain(parse: Callable[[bytes], Any]) -> Callable[[bytes, FactRef], Any]:
    return lambda content, _ref: parse(content)


def _text(content: bytes, ref: FactRef) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise FactBroken(ref.fact, ref.where, f"is no text: {error}") from None


_SAVES = ("iptables-save.txt", "ip6tables-save.txt", "iptables-legacy-save.txt", "ip6tables-legacy-save.txt")
PARSERS: dict[str, Callable[[bytes, FactRef], Any]] = {
    "addr.json": _with_ref(parse_links),
    "route.json": _with_ref(parse_routes),
    "route6.json": _with_ref(parse_routes),
    "rule.json": _with_ref(parse_rules),
    "neigh.json": _with_ref(parse_neigh),
    "nsid.json": _with_ref(parse_nsid),
    "lsns.json": _with_ref(parse_lsns),
    "fdb.json": _with_ref(parse_fdb),
    "processes.json": _with_ref(parse_processes),
    "pod.json": _with_ref(parse_pod_processes),
    **dict.fromkeys(_SAVES, _with_where(iptables.parse_iptables_save)),
    "nft.json": lambda content, ref: nft.parse_nft(content, ref.where),
    "ipset.txt": lambda content, ref: ipset.parse_ipset(content, ref.where),
    "ipvs-save.txt": lambda content, ref: ipvs.parse_rules(content, ref.where),
    "ipvs.txt": lambda content, ref: ipvs_listing.parse_table(content, ref.where),
    "ipvs-stats.txt": lambda content, ref: ipvs_listing.parse_stats(content, ref.where),
    "ipvs-connections.txt": lambda content, ref: ipvs_listing.parse_connections(content, ref.where),
    "conntrack.txt": _with_where(conntrack.parse_conntrack),
    "conntrack6.txt": _with_where(conntrack.parse_conntrack),
    "conntrack-stats.txt": _with_where(conntrack_counters.parse_stats),
    "conntrack-events.txt": _with_where(conntrack_events.parse_events),
    "conntrack-count.csv": _with_where(conntrack_counters.parse_count_series),
    "sysctl.txt": _plain(conntrack_counters.parse_sysctl),
    "kernel-log.txt": _plain(conntrack_counters.parse_table_full),
    "sockets.txt": _text,
    "resolv.conf": _plain(parse_resolv_conf),
    "dns.jsonl": _plain(dns.parse_dns_log),
}
_OBJECTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "nodes": parse_node,
    "pods": parse_pod,
    "services": parse_service,
    "endpointslices": parse_slice,
}


def check_recording(path: str | Path) -> Checked:
    """Read and parse every fact of a recording. Raises NotARecording, UnknownFormat or UnsafeRecording."""
    source = open_recording(path)
    refs = [FactRef(resource) for resource in API_RESOURCES]
    refs += [FactRef("node.json", node) for node in source.nodes()] + source.refs()
    findings: list[Finding] = list(_about(source))
    parsed = 0
    for ref in refs:
        if not source.has(ref):
            why = source.trouble(ref) or "not recorded"
            findings.append(Finding("note", _place(ref), why))
            continue
        if ref.node is not None and ref.fact not in PARSERS and ref.fact != "node.json":
            if ref.fact not in FACTS:
                findings.append(Finding("note", _place(ref), "is no fact of this format; readers ignore it"))
            continue
        found = list(_fact(source, ref))
        findings += found
        parsed += not any(finding.level == "error" for finding in found)
    return Checked(source.describe(), parsed, tuple(findings))


def _about(source: RecordedSource) -> Iterator[Finding]:
    about = source.about
    if about.get("complete") is False:
        yield Finding("warning", "recording.json", "the recording was not finished; record into the same folder again")
    for node in about.get("nodes") or ():
        if node not in source.nodes():
            yield Finding("error", f"nodes/{node}", "is named in recording.json, but holds no node.json")


def _fact(source: RecordedSource, ref: FactRef) -> Iterator[Finding]:
    try:
        content = source.read(ref)
        value = _parsed(content, ref)
    except (FactBroken, FactMissing, SourceError) as error:
        yield Finding("error", _place(ref), str(error))
        return
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        yield Finding("error", _place(ref), f"cannot be parsed: {type(error).__name__}: {error}")
        return
    for problem in list(getattr(value, "problems", ()) or ())[:20]:
        yield Finding("warning", _place(ref), str(problem))
    trouble = source.trouble(ref)
    if trouble is not None:
        yield Finding("note", _place(ref), f"only partial: {trouble}")


def _parsed(content: bytes, ref: FactRef) -> Any:
    if ref.fact == "node.json" and ref.node is not None:
        return parse_object(content, f"nodes/{ref.node}/node")
    if ref.node is not None:
        return PARSERS[ref.fact](content, ref)
    if ref.fact == "version":
        return parse_object(content, "version")
    items = parse_list(content, ref.fact)
    make = _OBJECTS.get(ref.fact)
    return [make(item) for item in items] if make is not None else items


def _place(ref: FactRef) -> str:
    if ref.node is None:
        return f"api/{ref.fact}"
    return f"nodes/{ref.node}/" + (f"pods/{ref.pod}/" if ref.pod else "") + ref.fact
