"""One look-up as the C library does it: which question after which reply, and where the search ends.

What ends a search and what does not is taken from glibc's ``__res_context_search`` and ``send_dg`` and from musl's
``name_from_dns``, and is held against both C libraries by the tests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from ...facts import Evidence
from ...parse.dns import Message, Record, answering
from ...parse.resolv_conf import ResolvConf
from ..names import Libc, Plan, Query

__all__ = ["FAILING", "Answers", "Reply", "Status", "Step", "Try", "Walk", "heeded"]

Status = Literal["answered", "silent", "unreachable", "not recorded", "truncated"]
Step = Literal["found", "nxdomain", "nodata", "servfail", "again", "fatal", "unreachable", "unknown"]
"""How a try ends: ``again`` is a server's failure or silence, ``fatal`` another code, ``unknown`` not recorded."""

FAILING = ("SERVFAIL", "NOTIMP", "REFUSED")
"""Codes that glibc takes for a server's failure: it asks on."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one question to one server.

    ``silent``: nothing within the time limit; ``unreachable``: the network said so; ``not recorded``: nobody asked
    when the recording was made; ``truncated``: asked then, but the answer did not fit and the one by TCP was not
    recorded. ``ms``: milliseconds; ``notes``: what else was seen, such as replies from elsewhere; ``ignored``: records
    of names that the question does not lead to.
    """

    status: Status
    message: Message | None = None
    ms: float | None = None
    transport: str = "udp"
    why: str = ""
    notes: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    ignored: tuple[Record, ...] = ()

    @property
    def result(self) -> str:
        """In a few words: ``NXDOMAIN``, ``NOERROR, 2 records``, ``no answer: ...``, ``not recorded``."""
        if self.message is None:
            return f"{self.silence}: {self.why}" if self.why else self.silence
        count = len(self.message.answers)
        if self.message.rcode != "NOERROR":
            return self.message.rcode
        return f"NOERROR, {count} record" + ("s" if count > 1 else "") if count else "NOERROR, no such record"

    @property
    def silence(self) -> str:
        """What there is instead of a message, without the reason."""
        words = {"silent": "no answer", "truncated": "truncated, the TCP answer is not recorded"}
        return words.get(self.status, self.status)


def heeded(reply: Reply, query: Query) -> Reply:
    """The reply with only those records that its question leads to; the others are told in its notes."""
    if reply.message is None:
        return reply
    kept, ignored = answering(reply.message.answers, query.name)
    if not ignored:
        return reply
    notes = tuple(f"record for another name, ignored: {record}" for record in ignored)
    message = replace(reply.message, answers=kept)
    return replace(reply, message=message, notes=(*reply.notes, *notes), ignored=ignored)


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


@dataclass(slots=True)
class Walk:
    """One look-up in progress."""

    resolv: ResolvConf
    answers: Answers
    libc: Libc
    types: tuple[str, ...]
    tries: list[Try] = field(default_factory=list)
    last: Step = "nxdomain"
    decided: Try | None = None

    def run(self, plan: Plan) -> Step:
        """Follow a plan to its end."""
        return self._search_glibc(plan) if self.libc == "glibc" else self._search_musl(plan)

    def _search_glibc(self, plan: Plan) -> Step:
        seen: list[Step] = []
        saved: Step | None = None
        if plan.first is not None:
            saved = self.step(plan.first)
            if saved in ("found", "unknown") or not plan.searched:
                return saved
        kept = self.decided
        for at in plan.searched:
            end = self.step(at)
            seen.append(end)
            if end in ("found", "unknown", "unreachable"):
                return end
            if end in ("again", "fatal"):
                break
        if plan.last is not None and self.step(plan.last) in ("found", "unknown"):
            return self.last
        if saved is not None:
            self.decided = kept
            return saved
        return "nodata" if "nodata" in seen else "servfail" if "servfail" in seen else self.last

    def _search_musl(self, plan: Plan) -> Step:
        for at in plan.tries:
            if self.step(at) != "nxdomain":
                break
        return self.last

    def step(self, at: Query) -> Step:
        """Ask for one name: all types, servers and attempts as the C library does. Says how it ended."""
        self.last = self._glibc(at) if self.libc == "glibc" else self._musl(at)
        return self.last

    def _pair(self, at: Query, server: str, attempt: int) -> list[Try]:
        """Both questions at once; under ``single-request`` the second only after a usable reply to the first.

        glibc then waits the first one's time limit out, although a failure has come in.
        """
        alone = "single-request" in self.resolv.flags or "single-request-reopen" in self.resolv.flags
        made: list[Try] = []
        for kind in self.types:
            query = replace(at, type=kind)
            made.append(Try(query, server, attempt, heeded(self.answers.ask(server, query), query)))
            if alone and not _usable(made[-1]):
                break
        self.tries += made
        return made

    def _rounds(self) -> range:
        return range(1, (self.resolv.attempts if self.answers.repeats else min(self.resolv.attempts, 1)) + 1)

    def _glibc(self, at: Query) -> Step:
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

    def _unknown_unless_nxdomain(self, usable: list[Try]) -> Step:
        """NXDOMAIN holds for every type of a name (RFC 2308 section 2.1): one half of the pair is enough."""
        gone = [each for each in usable if each.reply.message and each.reply.message.rcode == "NXDOMAIN"]
        return self._decide(gone) if gone else "unknown"

    def _decide(self, usable: list[Try]) -> Step:
        found = _found(usable)
        self.decided = found[0] if found else usable[0]
        if found:
            return "found"
        rcodes = [each.reply.message.rcode for each in usable if each.reply.message]
        rcode = next((code for code in rcodes if code != "NOERROR"), "NOERROR")
        return "nxdomain" if rcode == "NXDOMAIN" else "nodata" if rcode == "NOERROR" else "fatal"

    def _musl(self, at: Query) -> Step:
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
                made = Try(query, server, attempt, heeded(self.answers.ask(server, query), query))
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

    def _musl_end(self, chosen: dict[str, Try]) -> Step:
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
    return [each for each in pair if each.reply.status in ("not recorded", "truncated")]


def _unknown(pair: Sequence[Try]) -> Try | None:
    return next(iter(_unknown_list(pair)), None)


def _usable(each: Try) -> bool:
    """Whether glibc takes a reply for an answer: not a server's failure, not an empty referral to another server."""
    message = each.reply.message
    if message is None or message.rcode in FAILING:
        return False
    empty = not message.answers and not each.reply.ignored and not message.additional
    lame = message.rcode == "NOERROR" and empty
    return not (lame and "aa" not in message.flags and "ra" not in message.flags)


def _found(usable: Sequence[Try]) -> list[Try]:
    """Replies with any record at all: also a CNAME alone ends a search, and one of another name."""
    good = [each for each in usable if each.reply.message and each.reply.message.rcode == "NOERROR"]
    whole = [each for each in good if each.reply.message and each.reply.message.answers]
    return whole or [each for each in good if each.reply.ignored]
