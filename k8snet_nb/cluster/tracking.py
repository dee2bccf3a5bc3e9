"""Connection tracking from the façade: the table, how full it is, and what happens to it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from ..errors import FactMissing, Refused
from ..explain.usage import ConntrackUsage, conntrack_usage
from ..facts import Evidence, FactRef
from ..parse.conntrack import parse_conntrack
from ..parse.conntrack_attributes import STATES
from ..parse.conntrack_counters import (
    ConntrackStats,
    CountSeries,
    TableFull,
    parse_count_series,
    parse_stats,
    parse_sysctl,
    parse_table_full,
)
from ..parse.conntrack_netlink import decode
from ..parse.conntrack_table import ConntrackTable, Problem, joined
from ..parse.protocols import PROTOCOLS
from ..render import printable

if TYPE_CHECKING:
    from ..sources.agents import Watching
    from .cluster import Cluster

__all__ = ["Kernel", "conntrack_table", "kernel_of", "node_usage"]

T = TypeVar("T")
_QUOTED = 3
_OPTIONS = {
    "source": "-s", "destination": "-d", "protocol": "-p", "port": "--dport", "state": "--state", "reply_source": "-r",
}  # fmt: skip
_SYSCTLS = ("nf_conntrack_count", "nf_conntrack_max", "nf_conntrack_buckets")


@runtime_checkable
class Kernel(Protocol):
    """A source whose nodes' kernels answer now: it can filter in the kernel, and listen to events."""

    def read_filtered(self, ref: FactRef, wanted: Mapping[str, Any]) -> bytes: ...

    def watch(self, ref: FactRef) -> Watching: ...


def kernel_of(cluster: Cluster) -> Kernel | None:
    """The source, when kernels answer through it now; None for a recording."""
    return cluster.source if isinstance(cluster.source, Kernel) else None


def conntrack_table(cluster: Cluster, node: str, pod: str | None = None, **filters: Any) -> ConntrackTable:
    """The table of a node's network namespace, or of a pod's own, and how we know it.

    Netlink where a kernel answers, the recorded text otherwise. Raises FactMissing with the reason (not collected, not
    loaded, not permitted), FactBroken, and Refused for a filter that can match nothing.
    """
    wanted = {name: value for name, value in filters.items() if value is not None}
    _check(wanted)
    ref = FactRef("conntrack.netlink", node, pod)
    kernel = kernel_of(cluster)
    if kernel is not None or cluster.source.has(ref):
        try:
            return _by_netlink(cluster, ref, wanted, kernel)
        except FactMissing as missing:
            try:
                return _by_text(cluster, replace(ref, fact="conntrack.txt"), wanted)
            except FactMissing:
                raise missing from None
    return _by_text(cluster, replace(ref, fact="conntrack.txt"), wanted)


def _by_netlink(cluster: Cluster, ref: FactRef, wanted: dict[str, Any], kernel: Kernel | None) -> ConntrackTable:
    asked = kernel_filter(wanted)
    data = kernel.read_filtered(ref, asked) if kernel is not None and asked else cluster.source.read(ref)
    table = decode(data, fact=ref.fact, where=ref.where)
    found = table.where(**wanted)
    says = f"{_entries(len(found))}, read from the kernel by netlink"
    return found.told_by(Evidence(ref, _command(cluster, ref, wanted), (), says))


def _by_text(cluster: Cluster, ref: FactRef, wanted: dict[str, Any]) -> ConntrackTable:
    texts, notes = _both_families(cluster, ref)
    tables = [_of_one_text(cluster, each, text, wanted) for each, text in texts]
    found = tables[0] if len(tables) == 1 else joined(tables)
    found.problems += notes
    return found


def _of_one_text(cluster: Cluster, ref: FactRef, text: bytes, wanted: dict[str, Any]) -> ConntrackTable:
    """The entries of one file that match, with its name in each problem."""
    table = parse_conntrack(text, fact=ref.fact, where=ref.where)
    found = table.where(**wanted)
    found.problems = tuple(replace(each, why=f"{ref.fact}: {each.why}") for each in found.problems)
    lines = text.split(b"\n")
    rows = () if found.lines is None else found.lines[:_QUOTED].tolist()
    quoted = tuple(lines[row].decode("utf-8", "replace") for row in rows)
    says = f"{_entries(len(found))}{f' of {len(table):,}' if wanted else ''}" + (
        f"; the first {_QUOTED} are quoted" if len(found) > _QUOTED else ""
    )
    return found.told_by(Evidence(ref, _command(cluster, ref, wanted), quoted, says))


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count:,} entries"


def _both_families(cluster: Cluster, ref: FactRef) -> tuple[tuple[tuple[FactRef, bytes], ...], tuple[Problem, ...]]:
    """The texts that hold the entries: a second fact has those of IPv6 where the first does not list that family."""
    six = replace(ref, fact="conntrack6.txt")
    try:
        text = cluster.source.read(ref)
    except FactMissing as missing:
        try:
            more = cluster.source.read(six)
        except FactMissing:
            raise missing from None
        if not more.strip():
            raise  # no IPv6 entries, and nothing known of IPv4: not an empty table
        return ((six, more),), (Problem(None, f"{ref.fact} is missing ({missing.why}): IPv4 entries are not known"),)
    if re.search(rb"^ipv6 ", text, re.MULTILINE):
        return ((ref, text),), ()
    try:
        more = cluster.source.read(six)
        return ((ref, text), *(((six, more),) if more.strip() else ())), ()
    except FactMissing:
        return ((ref, text),), ()  # conntrack.txt lists both families, unless an old tool wrote it


def _command(cluster: Cluster, ref: FactRef, wanted: Mapping[str, Any]) -> str:
    words = [cluster.source.command(ref)]
    for name, option in _OPTIONS.items():
        if name in wanted:
            words.append(f"{option} {wanted[name]}")
    return " ".join(words)


def kernel_filter(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What of the filters the kernel is asked to apply: single addresses, and ports of a protocol."""
    asked = {
        name: str(ipaddress.ip_address(wanted[name]))
        for name in ("source", "destination", "reply_source")
        if name in wanted and "/" not in str(wanted[name])
    }
    if len({":" in address for address in asked.values()}) != 1:
        return {}  # the kernel compares nothing without an address of one family
    protocol = str(wanted.get("protocol", "")).lower()
    if protocol in PROTOCOLS.values():
        asked["protocol"] = protocol
        if protocol in ("tcp", "udp", "sctp", "udplite", "dccp") and "port" in wanted:
            return {**asked, "port": int(wanted["port"])}
    return asked


def _check(wanted: Mapping[str, Any]) -> None:
    """A slip in a filter would otherwise look like an empty table."""
    for name in ("source", "destination", "reply_source"):
        if name in wanted:
            try:
                ipaddress.ip_network(wanted[name], strict=False)
            except ValueError:
                raise Refused(
                    printable(f"{name}={wanted[name]!r} is neither an IP address nor a network such as 10.32.0.0/24")
                ) from None
    states = sorted({state for several in STATES.values() for state in several})
    _known("protocol", wanted, str.lower, [*PROTOCOLS.values(), "unknown"])
    _known("state", wanted, str.upper, states)
    port = wanted.get("port")
    if port is not None and not (isinstance(port, int) and 0 <= port <= 65535):
        raise Refused(printable(f"port={port!r} is no port number (0 to 65535)"))


def _known(name: str, wanted: Mapping[str, Any], spell: Callable[[str], str], words: list[str]) -> None:
    if name in wanted and spell(str(wanted[name])) not in words:
        raise Refused(printable(f"{name}={wanted[name]!r} is none of conntrack's: {', '.join(words)}"))


class _Reader:
    """Reads the facts of one node for one answer: keeps the evidence, and the reason of each that is missing."""

    def __init__(self, cluster: Cluster, node: str) -> None:
        self.cluster, self.node = cluster, node
        self.evidence: list[Evidence] = []
        self.missing: list[str] = []

    def read(self, fact: str, parse: Callable[[bytes, FactRef], T]) -> T | None:
        """The value of a fact; None when it is missing. One that is broken raises."""
        ref = FactRef(fact, self.node)
        try:
            return parse(self.cluster.source.read(ref), ref)
        except FactMissing as error:
            self.missing.append(f"{fact} ({error.why})")
            return None

    def told(self, fact: str, lines: tuple[str, ...], says: str) -> None:
        """These lines of a fact decided something."""
        ref = FactRef(fact, self.node)
        self.evidence.append(Evidence(ref, self.cluster.source.command(ref), lines, says))


def node_usage(cluster: Cluster, node: str) -> ConntrackUsage:
    """How full a node's table is, out of the facts that there are. Raises FactMissing when none tells a count."""
    reader = _Reader(cluster, node)
    sysctl = reader.read("sysctl.txt", lambda data, _: parse_sysctl(data)) or {}
    series = reader.read("conntrack-count.csv", lambda data, ref: parse_count_series(data, where=ref.where))
    stats = reader.read("conntrack-stats.txt", lambda data, ref: parse_stats(data, where=ref.where))
    table = None
    try:
        table = conntrack_table(cluster, node)
        reader.evidence += table.evidence
    except FactMissing as error:
        reader.missing.append(f"{error.fact} ({error.why})")
    cores = _cores(cluster, node, reader)
    full, whose = _full_lines(cluster, node, reader)
    _quote(reader, sysctl, series, stats)
    try:
        usage = conntrack_usage(sysctl, table=table, stats=stats, series=series, full=full, cores=cores)
    except LookupError as error:
        raise FactMissing("sysctl.txt", f"node {node}", f"{error}: {'; '.join(reader.missing)}") from None
    notes = (f"Not known here: {'; '.join(reader.missing)}.",) if reader.missing else ()
    return replace(usage, evidence=tuple(reader.evidence), notes=usage.notes + whose + notes)


def _full_lines(cluster: Cluster, node: str, reader: _Reader) -> tuple[tuple[TableFull, ...], tuple[str, ...]]:
    """The log lines of a full table that are about this node's namespace, or do not say about which; and a note.

    Where the node's namespace is not known, lines that name one are nobody's: the note tells of them.
    """
    netns = cluster.about_node(node).get("netns")
    known = netns if isinstance(netns, int) else None
    found = reader.read("kernel-log.txt", lambda data, _: parse_table_full(data, known)) or ()
    full = tuple(line for line in found if known is not None or line.netns is None)
    others = tuple(line for line in found if line not in full)
    if full:
        about = f"about network namespace {known}" if known is not None else "that name no network namespace"
        reader.told("kernel-log.txt", _ends(full), f"{len(full)} lines {about}")
    if not others:
        return full, ()
    spaces = ", ".join(str(netns) for netns in dict.fromkeys(line.netns for line in others))
    which = "which of these namespaces is this node's is not known"
    reader.told("kernel-log.txt", _ends(others), f"{len(others)} lines about network namespaces {spaces}: {which}")
    note = f"The kernel's log has {len(others)} lines of a full table in network namespaces {spaces}: {which}."
    return full, (note,)


def _ends(full: tuple[TableFull, ...]) -> tuple[str, ...]:
    """The first line and the last one."""
    return tuple(dict.fromkeys((full[0].text, full[-1].text)))


def _quote(
    reader: _Reader, sysctl: Mapping[str, str], series: CountSeries | None, stats: ConntrackStats | None
) -> None:
    """The deciding lines of the facts, as they are in them."""
    keys = [key for name in _SYSCTLS for key in (f"net.netfilter.{name}", f"net.{name}") if key in sysctl]
    if keys:
        reader.told("sysctl.txt", tuple(f"{key} = {sysctl[key]}" for key in keys), "count, maximum and buckets")
    if series is not None and len(series):
        ends = {0, len(series) - 1, int(series.counts.argmax())}
        lines = tuple(f"{series.times[i]:.1f},{series.counts[i]},{series.maxima[i]}" for i in sorted(ends))
        reader.told("conntrack-count.csv", lines, f"{len(series)} samples; the first, the highest and the last")
    if stats is not None:
        reader.told("conntrack-stats.txt", stats.lines, f"drop {stats.total('drop')} over all CPUs")


def _cores(cluster: Cluster, node: str, reader: _Reader) -> int | None:
    """The node's CPUs, from its capacity in the API: what kube-proxy multiplies with."""
    try:
        said = ((cluster.node(node).value.raw.get("status") or {}).get("capacity") or {}).get("cpu")
    except FactMissing as error:
        reader.missing.append(f"CPUs ({error.why})")
        return None
    found = re.fullmatch(r"(\d{1,6})(m?)", str(said))
    if not found:
        return None
    command = f"kubectl get node {node} -o jsonpath={{.status.capacity.cpu}}"
    cores = max(1, int(found[1]) // 1000) if found[2] else int(found[1])
    reader.evidence.append(Evidence(FactRef("nodes"), command, (str(said),), f"{cores} CPUs"))
    return cores
