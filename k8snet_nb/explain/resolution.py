"""Follow the search list over answers: recorded ones or live ones, as glibc or musl would.

What ends a search and what does not is taken from glibc's ``__res_context_search`` and ``send_dg`` and from musl's
``name_from_dns``, and is held against both C libraries by the tests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from ..facts import Evidence
from ..parse.dns import Message, Record
from ..parse.resolv_conf import ResolvConf
from ..render import Report, Shown
from .names import PAIR, Libc, Query, asked, plan

__all__ = ["Answers", "DnsAnswer", "Reply", "Status", "Try", "resolve"]

Status = Literal["answered", "silent", "unreachable", "not recorded"]
_Step = Literal["found", "nxdomain", "nodata", "servfail", "again", "fatal", "unreachable", "unknown"]

_FAILING = ("SERVFAIL", "NOTIMP", "REFUSED")
_EAI: dict[_Step, str] = {
    "nxdomain": "EAI_NONAME",
    "nodata": "EAI_NODATA",
    "servfail": "EAI_AGAIN",
    "again": "EAI_AGAIN",
    "unreachable": "EAI_AGAIN",
    "fatal": "EAI_FAIL",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one question to one server.

    ``silent``: nothing within the time limit; ``unreachable``: the network said so; ``not recorded``: nobody asked
    when the recording was made. ``ms``: milliseconds; ``notes``: what else was seen, such as replies from elsewhere.
    """

    status: Status
    message: Message | None = None
    ms: float | None = None
    transport: str = "udp"
    why: str = ""
    notes: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()

    @property
    def result(self) -> str:
        """In a few words: ``NXDOMAIN``, ``NOERROR, 2 records``, ``no answer: ...``, ``not recorded``."""
        if self.message is None:
            words = "no answer" if self.status == "silent" else self.status
            return f"{words}: {self.why}" if self.why else words
        count = len(self.message.answers)
        if self.message.rcode != "NOERROR":
            return self.message.rcode
        return f"NOERROR, {count} record" + ("s" if count > 1 else "") if count else "NOERROR, no such record"


class Answers(Protocol):
    """Where answers come from. ``repeats`` says whether asking the same server again makes sense."""

    repeats: bool

    def ask(self, server: str, query: Query, transport: str | None = None) -> Reply:
        """What a server says to a question, over ``udp`` or ``tcp`` only where ``transport`` says so."""
        ...


@dataclass(frozen=True, slots=True)
class Try:
    """One question to one server and its reply. ``attempt`` counts from 1."""

    query: Query
    server: str
    attempt: int
    reply: Reply

    @property
    def result(self) -> str:
        """The reply in a few words."""
        return self.reply.result


@dataclass(frozen=True, slots=True)
class DnsAnswer(Shown):
    """What a program is told, and how it came to that.

    ``rcode`` is the DNS code that decided (``NOERROR`` without ``records``: the name exists, without such a record);
    None when no server's word decided: see ``outcome`` (``found`` ``no such name`` ``no such record`` ``failed``
    ``no answer`` ``unreachable`` ``not recorded`` ``an address`` ``cannot be asked``). ``eai`` is getaddrinfo's
    error (empty: none, or not known; EAI_NODATA is EAI_NONAME in musl before 1.2.4). ``server`` and ``name`` are those of the reply that decided.
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
        notes += [str(record) for record in self.records]
        notes += dict.fromkeys(note for at in self.queries for note in at.reply.notes)
        headings = ("QUESTION", "SEARCH DOMAIN", "SERVER", "BY", "RESULT", "MS")
        return Report("", headings, rows, tuple(notes), self.evidence)

    @property
    def ms(self) -> float:
        """Milliseconds of all replies together, as far as they are told."""
        return sum(each.reply.ms or 0.0 for each in self.queries)


@dataclass(slots=True)
class _Walk:
    """One look-up in progress."""

    resolv: ResolvConf
    answers: Answers
    libc: Libc
    types: tuple[str, ...]
    tries: list[Try] = field(default_factory=list)
    last: _Step = "nxdomain"
    decided: Try | None = None

    def step(self, at: Query) -> _Step:
        """Ask for one name: all types, servers and attempts as the C library does. Says how it ended."""
        self.last = self._glibc(at) if self.libc == "glibc" else self._musl(at)
        return self.last

    def _pair(self, at: Query, server: str, attempt: int) -> list[Try]:
        made = [
            Try(query, server, attempt, self.answers.ask(server, query))
            for query in (replace(at, type=kind) for kind in self.types)
        ]
        self.tries += made
        return made

    def _rounds(self) -> range:
        return range(1, (self.resolv.attempts if self.answers.repeats else min(self.resolv.attempts, 1)) + 1)

    def _glibc(self, at: Query) -> _Step:
        buffer, heard = "NOERROR", False
        for attempt in self._rounds():
            for server in self.resolv.nameservers:
                pair = self._pair(at, server, attempt)
                usable = [each for each in pair if _usable(each)]
                if usable and (_found(usable) or len(usable) == len(pair) or not _unknown(pair)):
                    return self._decide(usable)
                if _unknown(pair):
                    self.decided = _unknown(pair)
                    return self._unknown_unless_nxdomain(usable)
                heard = heard or any(each.reply.status != "unreachable" for each in pair)
                told = [each for each in pair if each.reply.message]
                if told:
                    buffer = told[0].reply.message.rcode if told[0].reply.message else buffer
                self.decided = told[0] if told else pair[-1]
        if not heard and self.tries:
            return "unreachable"
        return "servfail" if buffer == "SERVFAIL" else "again"

    def _unknown_unless_nxdomain(self, usable: list[Try]) -> _Step:
        """NXDOMAIN holds for every type of a name (RFC 2308 section 2.1): one half of the pair is enough."""
        gone = [each for each in usable if each.reply.message and each.reply.message.rcode == "NXDOMAIN"]
        return self._decide(gone) if gone else "unknown"

    def _decide(self, usable: list[Try]) -> _Step:
        found = _found(usable)
        self.decided = found[0] if found else usable[0]
        if found:
            return "found"
        rcodes = [each.reply.message.rcode for each in usable if each.reply.message]
        rcode = next((code for code in rcodes if code != "NOERROR"), "NOERROR")
        return "nxdomain" if rcode == "NXDOMAIN" else "nodata" if rcode == "NOERROR" else "fatal"

    def _musl(self, at: Query) -> _Step:
        """Musl asks all servers at once and takes the first NOERROR or NXDOMAIN for each type.

        A SERVFAIL is asked again at once, four times a round for a pair; other codes are waited out like silence.
        """
        chosen: dict[str, Try] = {}
        for attempt in self._rounds():
            again = 2 * len(self.types) if self.answers.repeats else 0
            waiting = deque((kind, at_) for kind in self.types if kind not in chosen for at_ in self.resolv.nameservers)
            while waiting:
                kind, server = waiting.popleft()
                query = replace(at, type=kind)
                made = Try(query, server, attempt, self.answers.ask(server, query))
                self.tries.append(made)
                rcode = made.reply.message.rcode if made.reply.message else ""
                if rcode in ("NOERROR", "NXDOMAIN"):
                    chosen.setdefault(kind, made)
                elif rcode == "SERVFAIL" and again and kind not in chosen:
                    again -= 1
                    waiting.append((kind, server))
            if len(chosen) == len(self.types):
                break
        return self._musl_end(chosen)

    def _musl_end(self, chosen: dict[str, Try]) -> _Step:
        mine = [each for each in self.tries if each.query.name == self.tries[-1].query.name]
        for kind in self.types:
            if kind in chosen:
                message = chosen[kind].reply.message
                self.decided = chosen[kind]
                if message and message.rcode == "NXDOMAIN":
                    return "nxdomain"
                continue
            others = [each for each in mine if each.query.type == kind]
            failed = [each for each in others if each.reply.message and each.reply.message.rcode == "SERVFAIL"]
            self.decided = (failed or _unknown_list(others) or others)[0]
            return "servfail" if failed else "unknown" if _unknown_list(others) else "again"
        usable = list(chosen.values())
        found = _found(usable)
        self.decided = found[0] if found else usable[0]
        return "found" if found else "nodata"


def _unknown_list(pair: Sequence[Try]) -> list[Try]:
    return [each for each in pair if each.reply.status == "not recorded"]


def _unknown(pair: Sequence[Try]) -> Try | None:
    return next(iter(_unknown_list(pair)), None)


def _usable(each: Try) -> bool:
    """Whether glibc takes a reply for an answer: not a server's failure, not an empty referral to another server."""
    message = each.reply.message
    if message is None or message.rcode in _FAILING:
        return False
    lame = message.rcode == "NOERROR" and not message.answers and not message.additional
    return not (lame and "aa" not in message.flags and "ra" not in message.flags)


def _found(usable: Sequence[Try]) -> list[Try]:
    """Replies with any record at all: also a CNAME alone ends a search."""
    return [
        each
        for each in usable
        if each.reply.message and each.reply.message.rcode == "NOERROR" and each.reply.message.answers
    ]


def resolve(
    name: str, resolv: ResolvConf, answers: Answers, *, libc: Libc = "glibc", types: Sequence[str] = PAIR
) -> DnsAnswer:
    """Look a name up as a program in the pod does, and say each question, each reply and what decided.

    glibc goes on with the next search domain after NXDOMAIN, after an answer without such a record, and after SERVFAIL
    (when every server and attempt failed); a time-out or another code ends the search, and only the name as given is
    still tried. musl goes on after NXDOMAIN only. A question that was not recorded ends in ``not recorded``.
    """
    way = plan(name, resolv, libc)
    walk = _Walk(resolv, answers, libc, asked(types, resolv, libc))
    if not way.tries:
        known = way.why.startswith("an address")
        outcome, eai = ("an address", "") if known else ("cannot be asked", "EAI_NONAME")
        return DnsAnswer(name, libc, outcome, None, None, (), None, (), eai, way.why)
    end = _walk_glibc(walk, way.first, way.searched, way.last) if libc == "glibc" else _walk_musl(walk, way.tries)
    return _told(name, walk, end, way.why)


def _walk_glibc(walk: _Walk, first: Query | None, searched: Sequence[Query], last: Query | None) -> _Step:
    seen: list[_Step] = []
    saved: _Step | None = None
    if first is not None:
        saved = walk.step(first)
        if saved in ("found", "unknown") or not searched:
            return saved
    kept = walk.decided
    for at in searched:
        end = walk.step(at)
        seen.append(end)
        if end in ("found", "unknown", "unreachable"):
            return end
        if end in ("again", "fatal"):
            break
    if last is not None:
        end = walk.step(last)
        if end in ("found", "unknown"):
            return end
    if saved is not None:
        walk.decided = kept
        return saved
    return "nodata" if "nodata" in seen else "servfail" if "servfail" in seen else walk.last


def _walk_musl(walk: _Walk, tries: Sequence[Query]) -> _Step:
    for at in tries:
        end = walk.step(at)
        if end != "nxdomain":
            return end
    return walk.last


def _told(name: str, walk: _Walk, end: _Step, why: str) -> DnsAnswer:
    decided = walk.decided
    if end in ("nxdomain", "nodata", "servfail") and not (decided and _says(decided) == end):
        decided = next((each for each in reversed(walk.tries) if _says(each) == end), decided)
    reply = decided.reply if decided else None
    message = reply.message if reply else None
    outcome = {
        "found": "found",
        "nxdomain": "no such name",
        "nodata": "no such record",
        "servfail": "failed",
        "fatal": "failed",
        "unreachable": "unreachable",
        "unknown": "not recorded",
        "again": "failed" if message else (reply.status if reply else "silent").replace("silent", "no answer"),
    }[end]
    records: tuple[Record, ...] = ()
    if end == "found" and decided:
        same = [each for each in walk.tries if each.query.name == decided.query.name and each.reply.message]
        records = tuple(
            dict.fromkeys(record for each in same if each.reply.message for record in each.reply.message.answers)
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
        server=decided.server if decided and message else None,
        queries=tuple(walk.tries),
        eai=eai,
        why=_reason(end, decided, why),
        evidence=tuple(dict.fromkeys(item for each in walk.tries for item in each.reply.evidence)),
    )


def _says(each: Try) -> _Step | None:
    message = each.reply.message
    if message is None:
        return None
    known: dict[str, _Step] = {"NXDOMAIN": "nxdomain", "SERVFAIL": "servfail"}
    return known.get(message.rcode, "nodata" if message.rcode == "NOERROR" and not message.answers else None)


def _reason(end: _Step, decided: Try | None, order: str) -> str:
    if decided is None:
        return order
    if end == "unknown":
        return f"{decided.query} at {decided.server}: {decided.result}: what comes after it cannot be known. {order}"
    return f"{decided.query} at {decided.server}: {decided.result}. {order}"
