"""DNS messages and the recorded queries of ``dns.jsonl`` as values.

Source: RFC 1035 (messages), RFC 2782 (SRV), RFC 6891 (EDNS); the wire format is read by dnspython.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.rrset

from .resolv_conf import Problem

__all__ = [
    "Ask",
    "BadMessage",
    "DnsLog",
    "Message",
    "Record",
    "answering",
    "compose",
    "is_type",
    "parse_dns_log",
    "parse_message",
    "unfit",
]


class BadMessage(ValueError):
    """Bytes that are no DNS message; the text says why."""


@dataclass(frozen=True, slots=True)
class Record:
    """One resource record. ``name`` ends with a dot, ``ttl`` is in seconds, ``text`` is the data as in a zone file."""

    name: str
    type: str
    ttl: int
    text: str

    def __str__(self) -> str:
        return f"{self.name} {self.ttl} IN {self.type} {self.text}"


@dataclass(frozen=True, slots=True)
class Message:
    """A DNS message. ``rcode`` is text (``NXDOMAIN``), ``flags`` as dig prints them (``qr aa rd ra``)."""

    id: int
    rcode: str
    flags: tuple[str, ...]
    question: tuple[str, str] | None
    answers: tuple[Record, ...]
    authority: tuple[Record, ...]
    additional: tuple[Record, ...]
    size: int

    @property
    def truncated(self) -> bool:
        """Whether the server had more to say than fitted: ask again by TCP."""
        return "tc" in self.flags

    @property
    def is_reply(self) -> bool:
        """Whether it answers (a query does not)."""
        return "qr" in self.flags


def _records(sections: list[dns.rrset.RRset]) -> tuple[Record, ...]:
    return tuple(
        Record(rrset.name.to_text(), dns.rdatatype.to_text(rrset.rdtype), rrset.ttl, rdata.to_text())
        for rrset in sections
        for rdata in rrset
    )


def answering(records: tuple[Record, ...], name: str) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
    """Records that a question for ``name`` leads to, along CNAMEs (RFC 1034 section 3.6.2), and the others.

    A DNAME above a name of that way belongs to it (RFC 6672).
    """
    names = {name.lower()}
    while more := {r.text.lower() for r in records if r.type == "CNAME" and r.name.lower() in names} - names:
        names |= more

    def reached(record: Record) -> bool:
        owner = record.name.lower()
        return owner in names or (record.type == "DNAME" and any(each.endswith(f".{owner}") for each in names))

    return tuple(filter(reached, records)), tuple(record for record in records if not reached(record))


def is_type(kind: str) -> bool:
    """Whether a record type can be asked for: ``A``, ``SRV``, ``TYPE64`` ..."""
    try:
        dns.rdatatype.from_text(kind)
    except (dns.exception.DNSException, ValueError):
        return False
    return True


def parse_message(wire: bytes) -> Message:
    """Read a DNS message from the wire. Raises BadMessage for anything else; bytes after its end are an error too.

    A message that is cut off is broken unless it carries the TC flag: then what is whole of it is read.
    """
    truncated = len(wire) > 2 and bool(wire[2] & 2)
    try:
        message = dns.message.from_wire(wire, continue_on_error=truncated)
    except (dns.exception.DNSException, ValueError, IndexError) as broken:
        why = str(broken) or type(broken).__name__
        raise BadMessage(f"not a DNS message ({len(wire)} bytes): {why}") from broken
    question = message.question[0] if message.question else None
    return Message(
        id=message.id,
        rcode=dns.rcode.to_text(message.rcode()),
        flags=tuple(dns.flags.to_text(message.flags).lower().split()),
        question=(question.name.to_text(), dns.rdatatype.to_text(question.rdtype)) if question is not None else None,
        answers=_records(message.answer),
        authority=_records(message.authority),
        additional=_records(message.additional),
        size=len(wire),
    )


def compose(name: str, kind: str, ident: int, *, edns: bool = False, trust_ad: bool = False) -> bytes:
    """The query that a stub resolver sends: one question, recursion desired. ``ident`` is its 16-bit id.

    Raises ValueError when ``name`` cannot be asked for (a label over 63 bytes, a name over 255) or ``kind`` is no type.
    """
    try:
        message = dns.message.make_query(name, kind, use_edns=0 if edns else False, payload=1200, id=ident)
        if trust_ad:
            message.flags |= dns.flags.AD
        return message.to_wire()
    except dns.exception.DNSException as cannot:
        raise ValueError(f"no query for {name!r} {kind}: {cannot}") from cannot


def unfit(query: Message, reply: Message) -> str | None:
    """Why a message is no reply to a query; None when it is one. A resolver drops an unfit reply and goes on waiting.

    FORMERR, NOTIMP and REFUSED may come without the question (RFC 1035 section 4.1.1 leaves it open).
    """
    if not reply.is_reply:
        return "a query, not a reply"
    if reply.id != query.id:
        return f"wrong id: {reply.id} instead of {query.id}"
    if reply.question is None:
        return None if reply.rcode in ("FORMERR", "NOTIMP", "REFUSED") else "no question in it"
    asked, told = query.question, reply.question
    if asked is None or (told[0].lower(), told[1]) != (asked[0].lower(), asked[1]):
        return f"wrong question: {told[0]} {told[1]} instead of {' '.join(asked or ('nothing',))}"
    return None


@dataclass(frozen=True, slots=True)
class Ask:
    """One recorded query and what came of it: exactly one of ``message``, ``error`` and ``problem`` is there.

    ``name`` ends with a dot and is lower case, ``ms`` is the time it took in milliseconds (None: not told), ``line``
    the number of its line, ``raw`` that line.
    """

    name: str
    type: str
    server: str
    transport: str
    ms: float | None
    message: Message | None
    error: str | None
    problem: str | None
    line: int
    raw: str


@dataclass(frozen=True, slots=True)
class DnsLog:
    """All queries of one ``dns.jsonl`` in their order, and the lines that hold none."""

    asks: tuple[Ask, ...]
    problems: tuple[Problem, ...]


def _text(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise ValueError(f"no {key}")
    return value


def _ask(row: dict[str, Any], line: int, raw: str) -> Ask:
    name, kind = _text(row, "name").lower().rstrip(".") + ".", _text(row, "type").upper()
    transport, ms, error = row.get("transport", "udp"), row.get("ms"), row.get("error")
    if transport not in ("udp", "tcp"):
        raise ValueError(f"transport {transport!r} is neither udp nor tcp")
    message, problem = None, None
    if error is not None:
        error = str(error)
    else:
        try:
            message = parse_message(base64.b64decode(_text(row, "response"), validate=True))
            problem = None if message.is_reply else "the recorded response is a query, not a reply"
            asked = message.question
            if asked and (asked[0].lower(), asked[1]) != (name, kind):
                problem = f"the recorded response is to another question: {asked[0]} {asked[1]}"
        except BadMessage as bad:
            problem = str(bad)
        except binascii.Error as bad:
            problem = f"response is not base64: {bad}"
        except ValueError:
            problem = "neither a response nor an error"
        message = None if problem else message
    took = float(ms) if isinstance(ms, (int, float)) and not isinstance(ms, bool) else None
    return Ask(name, kind, _text(row, "server"), transport, took, message, error, problem, line, raw)


def parse_dns_log(data: bytes | str) -> DnsLog:
    """Read ``dns.jsonl``: one JSON object a line with name, type, server, transport, ms, and response or error.

    A line that is no such object becomes a problem with its number; an object whose response is no DNS message, or
    answers another question, stays an Ask with that ``problem``: its answer is unknown, not absent.
    """
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    asks: list[Ask] = []
    problems: list[Problem] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("not an object")
            asks.append(_ask(row, number, line))
        except (ValueError, RecursionError) as bad:
            problems.append(Problem(number, line[:200], f"not a recorded query: {bad}"))
    return DnsLog(tuple(asks), tuple(problems))
