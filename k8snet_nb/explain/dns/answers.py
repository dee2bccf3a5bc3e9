"""Where answers to DNS questions come from: a recording's ``dns.jsonl``, or a server asked now through an agent."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from ...errors import FactBroken, Refused
from ...facts import Evidence, FactRef
from ...parse.dns import Ask, BadMessage, DnsLog, Message, compose, parse_message, unfit
from ...parse.resolv_conf import MAX_TIMEOUT, ResolvConf
from ...render import printable
from ..names import Query
from ..resolution import Reply, Status

__all__ = ["Exchanged", "LiveAnswers", "RecordedAnswers", "Send", "dig_command", "send_through", "server_timeout"]


class Exchanged(Protocol):
    """What an exchange gives back: see ``agent.dns_exchange.Exchange``. Milliseconds from sending to the end."""

    @property
    def kind(self) -> str: ...
    @property
    def reply(self) -> bytes | None: ...
    @property
    def error(self) -> str | None: ...
    @property
    def ms(self) -> float: ...
    @property
    def ignored(self) -> Iterable[tuple[str, int, bytes, str]]: ...


Send = Callable[[str, int, bytes, str, float], Exchanged]
"""Sends (server, port, query, ``udp`` or ``tcp``, seconds) from inside the pod's network namespace."""


class _Told(NamedTuple):
    kind: str
    reply: bytes | None
    error: str | None
    ms: float
    ignored: tuple[tuple[str, int, bytes, str], ...]


def send_through(call: Callable[[dict[str, Any]], dict[str, Any]]) -> Send:
    """A Send over something that carries JSON to ``agent.dns_exchange.answer`` and back, as an agent on a node does."""

    def send(server: str, port: int, wire: bytes, transport: str, timeout: float) -> Exchanged:
        packed = base64.b64encode(wire).decode()
        request = {"server": server, "port": port, "wire": packed, "transport": transport, "timeout": timeout}
        told = call(request)
        reply = told["reply"]
        ignored = tuple((str(who), int(at), base64.b64decode(what), str(why)) for who, at, what, why in told["ignored"])
        unpacked = None if reply is None else base64.b64decode(reply)
        return _Told(str(told["kind"]), unpacked, told["error"], float(told["ms"]), ignored)

    return send


def dig_command(query: Query, server: str, transport: str = "udp", port: int = 53) -> str:
    """What a person would type, in the pod's network namespace, to ask the same."""
    name = "" if query.name == "." else query.name
    at = "" if port == 53 else f" -p {port}"
    return f"nsenter -t {{pid}} -n dig {'+tcp ' if transport == 'tcp' else ''}{query.type} {name or '.'} @{server}{at}"


def _says(message: Message | None, error: str | None) -> str:
    if message is None:
        return error or ""
    told = "; ".join(str(record) for record in message.answers)
    return f"{message.rcode}: {told}" if told else message.rcode


class RecordedAnswers:
    """The answers of one pod's ``dns.jsonl``. A question that nobody asked then is ``not recorded``."""

    repeats = False

    def __init__(self, log: DnsLog, ref: FactRef, absent: str = "") -> None:
        """``absent``: why there is no log at all, where that is so."""
        self.log, self.ref, self._absent = log, ref, absent
        self._asks: dict[tuple[str, str, str], list[Ask]] = {}
        for ask in log.asks:
            self._asks.setdefault((ask.name, ask.type, ask.server), []).append(ask)

    def ask(self, server: str, query: Query, transport: str | None = None) -> Reply:
        """The latest recorded reply of ``server``; by ``transport`` only, or by UDP unless that was truncated.

        A truncated one is an answer only where ``transport`` asks for it; else the TCP answer to the same question is.

        Raises FactBroken where the reply is recorded but unusable, or may stand on a line that cannot be read.
        """
        asks = self._asks.get((query.name.lower(), query.type, server), [])
        found = self._pick(asks, transport)
        if found is None:
            if self.log.problems:
                first = self.log.problems[0]
                why = f"{first}; the answer to {query} at {server} may be the one"
                raise FactBroken("dns.jsonl", self.ref.where, why, "Record the pod again")
            return Reply("not recorded", transport=transport or "udp", why=self._absent)
        if found.problem:
            raise FactBroken("dns.jsonl", self.ref.where, f"line {found.line}: {found.problem}", "Record the pod again")
        if transport is None and found.message and found.message.truncated and found.transport == "udp":
            says = "truncated (TC): the answer by TCP counts"
            asked = Evidence(self.ref, dig_command(query, server), (found.raw,), says)
            return Reply("truncated", None, found.ms, "udp", evidence=(asked,))
        command = dig_command(query, server, found.transport)
        evidence = Evidence(self.ref, command, (found.raw,), _says(found.message, found.error))
        if found.message is None:
            timed_out = any(word in (found.error or "").lower() for word in ("timed out", "timeout", "no answer"))
            status: Status = "silent" if timed_out else "unreachable"
            return Reply(status, None, found.ms, found.transport, found.error or "", (), (evidence,))
        return Reply("answered", found.message, found.ms, found.transport, "", (), (evidence,))

    @staticmethod
    def _pick(asks: list[Ask], transport: str | None) -> Ask | None:
        if transport:
            asks = [ask for ask in asks if ask.transport == transport]
        whole = [ask for ask in asks if ask.transport == "udp" and not (ask.message and ask.message.truncated)]
        usable = whole or [ask for ask in asks if ask.transport == "tcp"] or asks
        return usable[-1] if usable else None

    def servers(self) -> tuple[str, ...]:
        """All servers that were asked, in the order of their first question."""
        return tuple(dict.fromkeys(ask.server for ask in self.log.asks))

    def most_compared(self, servers: Iterable[str]) -> Query | None:
        """The question that most of ``servers`` were asked: the one to compare them by; None: no question at all."""
        wanted = set(servers)
        by: dict[tuple[str, str], set[str]] = {}
        for ask in self.log.asks:
            by.setdefault((ask.name, ask.type), set()).update({ask.server} & wanted)
        best = max(by, key=lambda key: len(by[key]), default=None)
        return Query(*best) if best and by[best] else None


def server_timeout(resolv: ResolvConf, server: str) -> float:
    """Seconds that glibc waits for a server: the time limit for the first; doubled, then shared, for later ones."""
    at = resolv.nameservers.index(server) if server in resolv.nameservers else 0
    return float(max((resolv.timeout << at) // (len(resolv.nameservers) if at else 1), 1))


class LiveAnswers:
    """Asks servers now, through ``send``. UDP first and TCP where the reply was truncated or ``use-vc`` is set.

    ``limit`` is how many seconds all questions together may take: after it nothing more is sent, and the rest counts as
    silence that says so. ``ports`` holds those of servers that listen elsewhere than at 53. ``log`` keeps each exchange
    as a line of ``dns.jsonl``: append it to record what was asked.
    """

    repeats = True

    def __init__(
        self,
        send: Send,
        resolv: ResolvConf,
        ref: FactRef,
        *,
        ports: Mapping[str, int] | None = None,
        limit: float = 30.0,
        ident: Callable[[], int] = lambda: secrets.randbelow(65536),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send, self._resolv, self._ref, self._ports = send, resolv, ref, dict(ports or {})
        self._ident, self._clock = ident, clock
        self._end = clock() + limit
        self.log: list[str] = []

    def ask(self, server: str, query: Query, transport: str | None = None) -> Reply:
        """Ask one server one question and wait as long as resolv.conf says. Raises Refused for what cannot be asked."""
        flags = self._resolv.flags
        try:
            wire = compose(query.name, query.type, self._ident(), edns="edns0" in flags, trust_ad="trust-ad" in flags)
        except ValueError as cannot:
            raise Refused(printable(cannot)) from None
        first = self._once(server, query, wire, transport or ("tcp" if "use-vc" in flags else "udp"))
        if transport or first.transport == "tcp" or not (first.message and first.message.truncated):
            return first
        second = self._once(server, query, wire, "tcp")
        note = f"truncated over UDP ({first.message.size} bytes): asked again by TCP"
        notes, evidence = (*first.notes, note, *second.notes), (*first.evidence, *second.evidence)
        return replace(second, ms=(first.ms or 0) + (second.ms or 0), notes=notes, evidence=evidence)

    def _once(self, server: str, query: Query, wire: bytes, transport: str) -> Reply:
        seconds = min(server_timeout(self._resolv, server), MAX_TIMEOUT, self._end - self._clock())
        if seconds <= 0:
            return Reply("silent", transport=transport, why="not sent: the time for this look-up is used up")
        port = self._ports.get(server, 53)
        told = self._send(server, port, wire, transport, seconds)
        self._keep(server, query, transport, told)
        notes = tuple(f"ignored a message {why} ({source} port {at})" for source, at, _, why in told.ignored)
        message, why = self._read(wire, told)
        evidence = Evidence(self._ref, dig_command(query, server, transport, port), (), _says(message, why))
        if message is not None:
            return Reply("answered", message, told.ms, transport, "", notes, (evidence,))
        status: Status = "unreachable" if told.kind == "unreachable" else "silent"
        return Reply(status, None, told.ms, transport, "; ".join([why, *notes]), notes, (evidence,))

    @staticmethod
    def _read(wire: bytes, told: Exchanged) -> tuple[Message | None, str]:
        if told.reply is None:
            return None, told.error or told.kind
        try:
            message = parse_message(told.reply)
        except BadMessage as bad:
            return None, str(bad)
        wrong = unfit(parse_message(wire), message)
        return (None, wrong) if wrong else (message, "")

    def _keep(self, server: str, query: Query, transport: str, told: Exchanged) -> None:
        response = base64.b64encode(told.reply).decode() if told.reply is not None else None
        line = {"name": query.name, "type": query.type, "server": server, "transport": transport, "ms": told.ms}
        self.log.append(json.dumps({**line, "response": response, "error": told.error}))
