"""Look a name up over answers, recorded or live, as a program in the pod does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import Refused
from ..facts import Evidence
from ..parse.dns import Record, is_type
from ..parse.resolv_conf import ResolvConf
from ..render import Report, Shown, printable
from .dns.walk import FAILING, Answers, Reply, Status, Step, Try, Walk
from .names import PAIR, Libc, asked, plan

__all__ = ["Answers", "DnsAnswer", "Joined", "Reply", "Status", "Try", "resolve"]

_EAI: dict[Step, str] = {
    "nxdomain": "EAI_NONAME",
    "nodata": "EAI_NODATA",
    "servfail": "EAI_AGAIN",
    "again": "EAI_AGAIN",
    "unreachable": "EAI_AGAIN",
    "fatal": "EAI_NONAME",
}


@dataclass(frozen=True, slots=True)
class Joined:
    """A record and what it is here: ``what`` is the Service or pod (``namespace/name``), ``says`` it in words."""

    record: Record
    kind: str
    what: str | None
    says: str


@dataclass(frozen=True, slots=True)
class DnsAnswer(Shown):
    """What a program is told, and how it came to that.

    ``rcode`` is the DNS code that decided (``NOERROR`` without ``records``: the name exists, without such a record);
    None when no server's word decided: see ``outcome`` (``found`` ``no such name`` ``no such record`` ``failed``
    ``no answer`` ``half an answer`` ``unreachable`` ``not recorded`` ``truncated, the TCP answer is not recorded``
    ``an address`` ``cannot be asked``). ``half an answer``: one type has no such record, and nothing is known of the
    other, whose code ``rcode`` is. ``eai`` is getaddrinfo's
    error (empty: none, or not known; EAI_NODATA is EAI_NONAME in musl before 1.2.4). ``server`` and ``name`` are those
    of the reply that decided. ``joined``: each record and what it is in the cluster; ``says``: what each name that was
    tried means there, and what else there is by that name (both empty until joined). ``queries``: all that was asked,
    in order; ``evidence``: the recorded or live messages.
    """

    asked: str
    libc: Libc
    outcome: str
    rcode: str | None
    name: str | None
    records: tuple[Record, ...]
    server: str | None
    queries: tuple[Try, ...]
    eai: str
    why: str
    evidence: tuple[Evidence, ...] = ()
    joined: tuple[Joined, ...] = ()
    says: tuple[str, ...] = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses among the records, in the server's order."""
        return tuple(record.text for record in self.records if record.type in PAIR)

    def report(self) -> Report:
        """One row a question, in order; then the records, or why there are none."""
        rows = tuple(
            (str(at.query), at.query.via or "as given", at.server, at.reply.transport, at.result, at.reply.ms)
            for at in self.queries
        )
        notes = [f"{self.asked}: {' '.join(filter(None, (self.outcome, self.rcode, self.eai)))}. {self.why}"]
        known = {each.record: each.says for each in self.joined}
        notes += [f"{record}: {known[record]}" if record in known else str(record) for record in self.records]
        notes += self.says
        notes += dict.fromkeys(note for at in self.queries for note in at.reply.notes)
        headings = ("QUESTION", "SEARCH DOMAIN", "SERVER", "BY", "RESULT", "MS")
        return Report("", headings, rows, tuple(notes), self.evidence)

    @property
    def ms(self) -> float:
        """Milliseconds of all replies together, as far as they are told."""
        return sum(each.reply.ms or 0.0 for each in self.queries)


def resolve(
    name: str, resolv: ResolvConf, answers: Answers, *, libc: Libc = "glibc", types: Sequence[str] = PAIR
) -> DnsAnswer:
    """Look a name up as a program in the pod does, and say each question, each reply and what decided.

    glibc goes on with the next search domain after NXDOMAIN, after an answer without such a record, and after SERVFAIL
    (when every server and attempt failed); a time-out or another code ends the search, and only the name as given is
    still tried. musl goes on after NXDOMAIN only. A question that was not recorded ends in ``not recorded``. Raises
    Refused for a type that there is not.
    """
    for kind in types:
        if not is_type(kind):
            raise Refused(printable(f"{kind!r} is no DNS record type: A, AAAA, SRV, CNAME, PTR, TXT, ..."))
    way = plan(name, resolv, libc)
    walk = Walk(resolv, answers, libc, asked(types, resolv, libc))
    if not way.tries:
        known = way.why.startswith("an address")
        outcome, eai = ("an address", "") if known else ("cannot be asked", "EAI_NONAME")
        return DnsAnswer(name, libc, outcome, None, None, (), None, (), eai, way.why)
    end = walk.run(way)
    return _told(name, walk, end, way.why)


def _told(name: str, walk: Walk, end: Step, why: str) -> DnsAnswer:
    decided = walk.decided
    if end in ("nxdomain", "nodata", "servfail") and not (decided and _says(decided) == end):
        decided = next((each for each in reversed(walk.tries) if _says(each) == end), decided)
    records = _records(walk, decided) if end == "found" else ()
    if end == "found" and not records:
        end = "nodata"  # the library stops at records of another name, and takes none of them
    lost = _lost(walk, decided) if decided and end in ("found", "nodata") else ()
    half = lost[0] if lost and end == "nodata" else None
    told = half or decided
    reply = told.reply if told else None
    message = reply.message if reply else None
    outcome = (
        "half an answer"
        if half
        else {
            "found": "found",
            "nxdomain": "no such name",
            "nodata": "no such record",
            "servfail": "failed",
            "fatal": "failed",
            "unreachable": "unreachable",
            "unknown": reply.silence if reply else "not recorded",
            "again": "failed" if message else (reply.status if reply else "silent").replace("silent", "no answer"),
        }[end]
    )
    eai = _EAI.get(end, "")
    if end == "found" and set(walk.types) <= set(PAIR) and not any(record.type in PAIR for record in records):
        eai = "EAI_NONAME" if walk.libc == "glibc" else "EAI_NODATA"
    return DnsAnswer(
        asked=name,
        libc=walk.libc,
        outcome=outcome,
        rcode=message.rcode if message and end != "unknown" else None,
        name=decided.query.name if decided else None,
        records=records,
        server=told.server if told and message else None,
        queries=tuple(walk.tries),
        eai=eai,
        why=_reason(end, decided, lost, why),
        evidence=tuple(dict.fromkeys(item for each in walk.tries for item in each.reply.evidence)),
    )


def _records(walk: Walk, decided: Try | None) -> tuple[Record, ...]:
    """All records of the name that decided, of every type that was asked for."""
    same = [each.reply.message for each in walk.tries if decided and each.query.name == decided.query.name]
    return tuple(dict.fromkeys(record for message in same if message for record in message.answers))


def _lost(walk: Walk, decided: Try) -> tuple[Try, ...]:
    """The last try of each type of the same name that no server answered, or only with a failure."""
    same = [each for each in walk.tries if each.query.name == decided.query.name]
    answered = {e.query.type for e in same if e.reply.message and e.reply.message.rcode not in FAILING}
    return tuple({each.query.type: each for each in same if each.query.type not in answered}.values())


def _says(each: Try) -> Step | None:
    message = each.reply.message
    if message is None:
        return None
    known: dict[str, Step] = {"NXDOMAIN": "nxdomain", "SERVFAIL": "servfail"}
    return known.get(message.rcode, "nodata" if message.rcode == "NOERROR" and not message.answers else None)


def _reason(end: Step, decided: Try | None, lost: Sequence[Try], order: str) -> str:
    if decided is None:
        return order
    halves = [f"{each.query.type}: {_in_words(each.reply)}" for each in lost]
    if halves and end == "nodata":
        halves.append(f"{decided.query.type}: {decided.result}")
    if halves:
        return f"{', '.join(halves)}, for {decided.query.name} at {decided.server}. {order}"
    if end == "unknown":
        return f"{decided.query} at {decided.server}: {decided.result}: what comes after it cannot be known. {order}"
    return f"{decided.query} at {decided.server}: {decided.result}. {order}"


def _in_words(reply: Reply) -> str:
    """A reply that is none, with its reason in brackets: ``no answer (timed out)``."""
    if reply.message is not None:
        return reply.result
    return f"{reply.silence} ({reply.why})" if reply.why else reply.silence
