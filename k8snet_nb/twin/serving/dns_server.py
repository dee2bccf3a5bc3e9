"""The twin's CoreDNS: a DNS message in, the answer out, from the recording. Nothing here opens a socket.

For each question, the first of these that applies:

- what a fault put in its place (:meth:`Zone.with_answer`);
- ``id.server.`` of class CHAOS (RFC 4892): which server of the twin this is, and whom it saw asking;
- a name of the cluster: answered as CoreDNS answers from the API, see ``dns_records``;
- any other name: the answer that the recorded cluster's DNS gave then, byte for byte but for the id, the letters'
  case and the RD flag, which are the question's;
- else the failure that the recorded cluster's DNS had for most names outside, SERVFAIL where none was asked: there is
  nobody to hand the question on to. REFUSED where no block of the Corefile is for such names.

Malformed messages get FORMERR, those without a whole header and replies get nothing, and operations other than a query
NOTIMP (RFC 1035 section 4.1.1). Names of the cluster on which the recording is silent get SERVFAIL.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from ...errors import FactError, Refused
from ...explain.dns.policy import LINK_LOCAL
from ...facts import FactRef
from ...parse.api import parse_list
from ...parse.dns import Ask, parse_dns_log
from ...parse.pods import parse_pod
from ...render import printable
from ...sources.base import Source
from .dns_records import Records, Target, Unknown, read_records, reverse_address

__all__ = ["Fault", "Zone", "read_zone"]

_HEADER, _MOST, _CHAIN = 12, 4096, 8
_BROKEN = (dns.exception.DNSException, ValueError, LookupError, TypeError)
"""What dnspython raises for hostile bytes and names."""

_Sections = tuple[list[dns.rrset.RRset], list[dns.rrset.RRset]]


@dataclass(frozen=True, slots=True)
class Fault:
    """An answer put in the place of the right one: ``data`` as in a zone file."""

    rcode: str
    data: tuple[str, ...]
    ttl: int


@dataclass(frozen=True, slots=True)
class Zone:
    """All that the twin's DNS knows. ``recorded``: by name, type and transport. ``notes``: what could not be read."""

    records: Records
    recorded: Mapping[tuple[str, str, str], bytes] = field(default_factory=dict)
    outside: str = "SERVFAIL"
    serial: int = 1
    faults: Mapping[tuple[str, str], Fault] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def with_answer(
        self, name: str, kind: str, data: Sequence[str] = (), *, rcode: str = "NOERROR", ttl: int = 30
    ) -> Zone:
        """The same zone, with this answer for a name and type. Raises Refused for what is no such record."""
        full = name.lower().rstrip(".") + "."
        try:
            if data:
                dns.rrset.from_text(full, ttl, "IN", kind, *data)
            dns.name.from_text(full)
            dns.rcode.from_text(rcode)
            number = dns.rdatatype.from_text(kind)
        except _BROKEN as bad:
            raise Refused(printable(f"no answer to put for {name!r} {kind!r}: {bad}")) from None
        fault = Fault(rcode.upper(), tuple(data), ttl)
        return replace(self, faults={**self.faults, (full, dns.rdatatype.to_text(number)): fault})

    def answer(self, wire: bytes, transport: str = "udp", who: Sequence[str] = ()) -> bytes | None:
        """The reply to a message, None for one that deserves none. ``who``: the texts that ``id.server.`` is told.

        By ``udp`` at most 512 bytes, or what the query's EDNS offers, then with the TC flag; by ``tcp`` up to 65535.
        """
        if len(wire) < _HEADER or wire[2] & 0x80:
            return None
        if (wire[2] >> 3) & 15 != dns.opcode.QUERY:
            return _bare(wire, dns.rcode.NOTIMP)
        try:
            query = dns.message.from_wire(wire)
        except _BROKEN:
            return _bare(wire, dns.rcode.FORMERR)
        if len(query.question) != 1:
            return _bare(wire, dns.rcode.FORMERR)
        limit = min(max(512, query.payload), _MOST) if transport == "udp" else 65535
        try:
            return self._reply(query, wire, transport, limit, who)
        except _BROKEN:
            return _bare(wire, dns.rcode.SERVFAIL)

    def _reply(
        self, query: dns.message.Message, wire: bytes, transport: str, limit: int, who: Sequence[str]
    ) -> bytes | None:
        asked = query.question[0]
        reply = dns.message.make_response(query, our_payload=1232)
        name, kind = asked.name.to_text().lower(), dns.rdatatype.to_text(asked.rdtype)
        fault = self.faults.get((name, kind))
        zone = self.records.zone(name)
        if query.edns > 0:
            reply.set_rcode(dns.rcode.BADVERS)
        elif asked.rdclass == dns.rdataclass.CH:
            _tell(reply, asked, name, kind, who)
        elif asked.rdclass != dns.rdataclass.IN or kind in ("AXFR", "IXFR"):
            reply.set_rcode(dns.rcode.REFUSED)
        elif fault is not None:
            reply.flags |= dns.flags.AA
            reply.set_rcode(dns.rcode.from_text(fault.rcode))
            reply.answer = [dns.rrset.from_text(asked.name, fault.ttl, "IN", kind, *fault.data)] if fault.data else []
        elif zone is None or not self._of_cluster(reply, asked, name, kind, zone):
            recorded = self._recorded(name, kind, transport)
            if recorded is not None:
                return _again(recorded, wire, limit)
            reply.set_rcode(dns.rcode.from_text(self.outside))
        return _wire(reply, limit)

    def _recorded(self, name: str, kind: str, transport: str) -> bytes | None:
        """By UDP also what was recorded by TCP only; by TCP no reply that was truncated."""
        own = self.recorded.get((name, kind, transport))
        other = self.recorded.get((name, kind, "tcp" if transport == "udp" else "udp"))
        usable = own if own is not None else other
        return usable if usable is None or transport == "udp" or not usable[2] & 2 else None

    def _of_cluster(self, reply: dns.message.Message, asked: dns.rrset.RRset, name: str, kind: str, zone: str) -> bool:
        """Answer a name of the cluster; False: it goes on to whoever answers other names."""
        try:
            found = self._sections(asked.name, name, kind, zone, _CHAIN)
        except (Unknown, *_BROKEN):
            reply.set_rcode(dns.rcode.SERVFAIL)
            return True
        passes = any(name == each or name.endswith("." + each) for each in self.records.options.passes_on)
        if found is None and passes:
            return False
        reply.flags |= dns.flags.AA
        if found is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        reply.answer, reply.additional = found or ([], [])
        if not reply.answer:
            reply.authority = [self._soa(zone)]
        return True

    def _sections(self, owner: dns.name.Name, name: str, kind: str, zone: str, depth: int) -> _Sections | None:
        """Answer and additional records; None: no such name."""
        ttl = self.records.options.ttl
        if name == zone and kind == "SOA":
            return [self._soa(zone)], []
        if name == f"dns-version.{zone}" and kind == "TXT":
            return [dns.rrset.from_text(owner, 28800, "IN", "TXT", '"1.1.0"')], []
        address = reverse_address(name)
        if address is not None and kind == "PTR":
            names = self.records.names(address)
            return ([dns.rrset.from_text(owner, ttl, "IN", "PTR", *names)], []) if names else None
        targets = self.records.targets(name, zone)
        if not targets:
            return None if targets is None else ([], [])
        if kind == "SRV":
            return _srv(owner, ttl, targets)
        if kind not in ("A", "AAAA", "CNAME"):
            return [], []
        other = next((target.host for target in targets if target.version is None), None)
        if other is not None:
            return self._alias(owner, other.lower() + ".", kind, depth), []
        family = {"A": 4, "AAAA": 6}.get(kind)
        hosts = dict.fromkeys(target.host for target in targets if target.version == family)
        return [dns.rrset.from_text(owner, ttl, "IN", kind, *hosts)] if hosts else [], []

    def _alias(self, owner: dns.name.Name, other: str, kind: str, depth: int) -> list[dns.rrset.RRset]:
        """The CNAME of an ExternalName Service, and the records of its target as far as they are known.

        A target that is a name of the cluster without such records leaves the answer empty, as in CoreDNS.
        """
        alias = [dns.rrset.from_text(owner, self.records.options.ttl, "IN", "CNAME", other)]
        if kind == "CNAME":
            return alias
        zone = self.records.zone(other)
        if zone is None:
            recorded = self._recorded(other, kind, "tcp")
            return alias + (list(dns.message.from_wire(recorded).answer) if recorded else [])
        more = self._sections(dns.name.from_text(other), other, kind, zone, depth - 1) if depth else None
        return alias + more[0] if more and more[0] else []

    def _soa(self, zone: str) -> dns.rrset.RRset:
        ttl = self.records.options.ttl
        return dns.rrset.from_text(
            zone, ttl, "IN", "SOA", f"ns.dns.{zone} hostmaster.{zone} {self.serial} 7200 1800 86400 {ttl}"
        )


def _srv(owner: dns.name.Name, ttl: int, targets: Sequence[Target]) -> _Sections:
    """One SRV record a target and port, the weights shared evenly (RFC 2782), and the targets' addresses.

    Only targets with an address have one: the other name of an ExternalName Service has no port.
    """
    usable = [target for target in targets if target.version is not None and target.port is not None]
    weight = max(100 // len(usable), 1) if usable else 0
    texts = dict.fromkeys(f"0 {weight} {target.port} {target.owner}" for target in usable)
    extra: dict[tuple[str, str], dict[str, None]] = {}
    for target in usable:
        kind = "A" if target.version == 4 else "AAAA"
        extra.setdefault((target.owner, kind), {})[target.host] = None
    additional = [dns.rrset.from_text(name, ttl, "IN", kind, *hosts) for (name, kind), hosts in extra.items()]
    return ([dns.rrset.from_text(owner, ttl, "IN", "SRV", *texts)] if texts else []), additional


def _tell(reply: dns.message.Message, asked: dns.rrset.RRset, name: str, kind: str, who: Sequence[str]) -> None:
    """Say which server this is; CoreDNS without its plugin ``chaos`` refuses that, as we do other names."""
    if name != "id.server." or kind != "TXT" or not who:
        reply.set_rcode(dns.rcode.REFUSED)
        return
    rdata = [b'"' + _quoted(text) + b'"' for text in who]
    texts = b" ".join(rdata).decode("ascii")
    reply.answer = [dns.rrset.from_text(asked.name, 0, "CH", "TXT", texts)]


def _quoted(text: str) -> bytes:
    r"""A TXT string as in a zone file (RFC 1035 section 5.1): bytes that are no plain letters as ``\DDD``."""
    raw = text.encode("utf-8", "replace")[:255]
    return b"".join(bytes([byte]) if chr(byte).isalnum() and byte < 128 else b"\\%03d" % byte for byte in raw)


def _wire(reply: dns.message.Message, limit: int) -> bytes:
    """The reply's bytes; dnspython shuffles the records of one name, as CoreDNS does with its plugin loadbalance.

    Too long: without what is only additional; then with as many answers as fit about, and the TC flag (RFC 2181 section
    9).
    """
    while True:
        try:
            return reply.to_wire(max_size=limit)
        except dns.exception.TooBig:
            if reply.additional:
                reply.additional = []
                continue
            reply.flags |= dns.flags.TC
            if not reply.answer:
                reply.authority = []
                return reply.to_wire()
            last = reply.answer[-1]
            if len(last) < 2:
                reply.answer = reply.answer[:-1]
                continue
            texts = [rdata.to_text() for rdata in last][: len(last) * 3 // 4]
            kind = dns.rdatatype.to_text(last.rdtype)
            reply.answer = [*reply.answer[:-1], dns.rrset.from_text(last.name, last.ttl, "IN", kind, *texts)]


def _bare(wire: bytes, rcode: int) -> bytes:
    """A reply of nothing but a header: id, opcode and RD are the query's."""
    return wire[:2] + bytes([0x80 | (wire[2] & 0x79), rcode & 15]) + bytes(8)


def _again(recorded: bytes, query: bytes, limit: int) -> bytes | None:
    """A recorded reply to a query of today: its id, its letters in the name, its RD flag. Too long: only TC.

    The question has the same length in both: it is one name, never compressed.
    """
    end = _question_end(query)
    if end is None or len(recorded) < end or recorded[4:6] != b"\0\1":
        return _bare(query, dns.rcode.SERVFAIL)
    flags = bytes([(recorded[2] & 0xFE) | (query[2] & 1)])
    whole = query[:2] + flags + recorded[3:_HEADER] + query[_HEADER:end] + recorded[end:]
    if len(whole) <= limit:
        return whole
    return whole[:2] + bytes([whole[2] | 2]) + whole[3:6] + bytes(6) + whole[_HEADER:end]


def _question_end(wire: bytes) -> int | None:
    at = _HEADER
    while at < len(wire) and wire[at]:
        if wire[at] > 63:
            return None
        at += wire[at] + 1
    return at + 5 if at + 5 <= len(wire) else None


def read_zone(source: Source) -> Zone:
    """The twin's DNS from a source: names from the API, other answers from every ``dns.jsonl`` of its pods.

    Of the logs only what the cluster's own DNS said: a pod may ask other servers too. Raises nothing for what is not
    recorded: it stands in ``notes``, and questions that depend on it get SERVFAIL.
    """
    records, notes = read_records(source)
    more: list[str] = []
    asks = [ask for ask in _asks(source, more) if _is_ours(ask.server, records)]
    recorded: dict[tuple[str, str, str], bytes] = {}
    outside: Counter[str] = Counter()
    serial = 1
    for ask in asks:
        if ask.message is None:
            continue
        recorded[ask.name, ask.type, ask.transport] = base64.b64decode(json.loads(ask.raw)["response"])
        if records.zone(ask.name) is None and ask.message.rcode in ("SERVFAIL", "NXDOMAIN", "REFUSED"):
            outside[ask.message.rcode] += 1
        soa = [each.text.split() for each in ask.message.authority if each.type == "SOA"]
        if soa and records.zone(ask.name) is not None:
            serial = int(soa[0][2])
    usual = "REFUSED" if records.options.refuses else "SERVFAIL"
    rcode = outside.most_common(1)[0][0] if outside else usual
    return Zone(records, recorded, rcode, serial, {}, (*notes, *more))


def _asks(source: Source, notes: list[str]) -> Iterable[Ask]:
    try:
        items = parse_list(source.read(FactRef("pods")), "pods")
    except FactError:
        return
    for item in items:
        try:
            pod = parse_pod(item)
            ref = FactRef("dns.jsonl", pod.node, pod.key)
            log = parse_dns_log(source.read(ref)) if pod.node and source.has(ref) else None
        except (FactError, AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
            notes.append(f"dns.jsonl: {error}")
            continue
        if log is not None:
            notes += [f"dns.jsonl of {pod.key}: {problem}" for problem in log.problems]
            yield from log.asks


def _is_ours(server: str, records: Records) -> bool:
    """Whether a server is the cluster's DNS: its Service, a pod behind that, or a node's cache before it."""
    service = records.services.get(records.dns)
    mine = {*(service.cluster_ips if service else ()), *(host.address for host in records.hosts.get(records.dns, ()))}
    return server in mine or server.startswith(LINK_LOCAL) or not mine
