"""What connections met in a twin's kernel, judged against what was worked out from its rules.

One *case* is one way to call a Service port: an address, a node whose rules are met first, a client. Each connection
falls into a category: the endpoint that answered (``address:port``), or how it ended: ``refused``, ``timeout``,
``unreachable``, ``reset``; :data:`SILENT` where nobody listens, so that any of the first three is right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from ..text import socket_text
from .outcome import Action
from .spread import DOUBT, chance, chi_square
from .translation import Translation
from .walk import End, Walk

__all__ = ["SILENT", "Expected", "Judged", "Seen", "expected_of", "judge"]

SILENT = "no answer"
_ENDS = {"rejected": "refused", "dropped": "timeout", "unanswered": "timeout"}
_NOBODY = frozenset(("refused", "timeout", "unreachable"))
_FEW = 8
"""So many clients with session affinity, or fewer, tell nothing of shares."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the rules say of a case. ``shares``: by category, None where no fixed share is given.

    ``masquerade``: by endpoint, whether it sees another client than the one that called (None: undecided); ``nodes``:
    the addresses that it may see instead. ``affinity`` in seconds. ``limits``: what could make the kernel do otherwise
    although nothing is wrong; ``stops``: what could stop a connection, and was not judged. ``at_odds``: where translate
    and walk do not say the same.
    """

    action: Action
    shares: Mapping[str, Fraction | None]
    masquerade: Mapping[str, bool | str | None]
    nodes: Collection[str]
    affinity: int | None
    limits: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()
    at_odds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """So many connections that met the same. ``end`` as in the twin's client; ``peer`` is what the server saw."""

    client: str
    count: int
    end: str
    server: str = ""
    port: int = 0
    peer: str = ""
    local: str = ""
    says: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """``verdict``: same, differs or explained, and ``why``. ``seen``: count by category; ``chance``: how probable so
    uneven a spread is (None: shares were not judged); ``masquerade``, ``affinity``: what was seen, in words.
    """

    verdict: str
    why: str
    seen: Mapping[str, int]
    chance: float | None
    masquerade: str
    affinity: str


def expected_of(
    translation: Translation, walk: Walk, listens: Callable[[str, int], bool], nodes: Collection[str]
) -> Expected:
    """What a case must show. ``listens``: whether a server of the twin is at an address and port."""
    shares: dict[str, Fraction | None] = {}
    masquerade: dict[str, bool | str | None] = {}
    limits = list(walk.unknown)
    for end in walk.ends:
        category = _category(end, listens)
        shares[category] = _sum(shares[category], end.chance) if category in shares else end.chance
        if end.verdict == "unknown":
            limits.append(end.why or f"where {end.address} is, is not known")
        if category == socket_text(end.address, end.port):
            masquerade[category] = end.masquerade
    return Expected(
        translation.action, shares, masquerade, nodes, translation.affinity,
        tuple(dict.fromkeys(limits)), walk.not_evaluated, tuple(_at_odds(translation, walk.ends)),
    )  # fmt: skip


def _category(end: End, listens: Callable[[str, int], bool]) -> str:
    if end.verdict in _ENDS:
        return _ENDS[end.verdict]
    if end.verdict != "no route" and listens(end.address, end.port):
        return socket_text(end.address, end.port)
    return SILENT


def _sum(one: Fraction | None, other: Fraction | None) -> Fraction | None:
    return None if one is None or other is None else one + other


def _at_odds(translation: Translation, ends: Sequence[End]) -> Iterable[str]:
    """Where the two answers differ, but for what another node's rules do with an endpoint afterwards."""
    stopped = {end.verdict for end in ends} & {"rejected", "dropped"}
    if translation.action in ("reject", "drop"):
        if {end.verdict for end in ends} != {{"reject": "rejected", "drop": "dropped"}[translation.action]}:
            yield f"translate says {translation.action}, walk says {', '.join(end.verdict for end in ends)}"
        return
    by_end = {(end.address, end.port): end for end in ends}
    backends = {(b.address, b.port): b for b in translation.backends}
    for key, backend in backends.items():
        name = socket_text(*key)
        end = by_end.get(key)
        if end is None:
            if backend.node in (None, translation.node):
                yield f"translate may choose {name}, walk never comes there"
        elif (end.chance, end.masquerade) != (backend.probability, backend.masquerade) and not stopped:
            yield (
                f"{name}: translate says share {backend.probability}, masquerade {backend.masquerade}; "
                f"walk says {end.chance}, {end.masquerade}"
            )
    if backends and set(by_end) - set(backends) and set(backends) <= set(by_end):
        further = ", ".join(socket_text(*key) for key in sorted(set(by_end) - set(backends)))
        yield f"walk may come to {further}, translate never chooses that"


def judge(expected: Expected, seen: Sequence[Seen]) -> Judged:
    """What was seen against what must be. Nothing seen is no proof of anything: it differs."""
    found = Counter[str]()
    for one in seen:
        found[_seen_category(one, expected.shares)] += one.count
    problems = [*expected.at_odds, *_ends_amiss(expected, seen, found)]
    chosen = _by_client(seen)
    likely = None if problems else _likely(expected, found, chosen)
    if likely is not None and likely < DOUBT:
        problems.append(f"so uneven a spread comes about by chance with probability {likely:.1g}")
    problems += [*_masquerade_amiss(expected, seen), *_affinity_amiss(expected, chosen)]
    stopped = set(found) - set(expected.shares) <= _NOBODY and len(problems) == len(set(found) - set(expected.shares))
    limits = "; ".join((*expected.limits, *(expected.stops if stopped else ())))
    unsent = not seen or any(not one.end for one in seen)
    explained = limits and not unsent and not expected.at_odds
    verdict = "same" if not problems else ("explained" if explained else "differs")
    why = "; ".join(dict.fromkeys(problems)) + (f". Limit: {limits}" if problems and limits else "")
    return Judged(verdict, why, dict(found), likely, _masquerade_words(expected, seen), _affinity_words(chosen))


def _seen_category(one: Seen, shares: Mapping[str, Fraction | None]) -> str:
    if one.end == "ok":
        return socket_text(one.server, one.port)
    return SILENT if one.end not in shares and one.end in _NOBODY and SILENT in shares else one.end or "not sent"


def _ends_amiss(expected: Expected, seen: Sequence[Seen], found: Mapping[str, int]) -> Iterable[str]:
    if not seen:
        yield "nothing was sent"
    for category, count in found.items():
        if category not in expected.shares:
            says = next((s.says for s in seen if _seen_category(s, expected.shares) == category and s.says), "")
            yield f"{count} times {category}{f' ({says})' if says else ''}, which the rules do not name"


def _by_client(seen: Sequence[Seen]) -> dict[str, Counter[str]]:
    """The endpoints that answered each client, and how often."""
    chosen: dict[str, Counter[str]] = {}
    for one in seen:
        if one.end == "ok":
            chosen.setdefault(one.client, Counter())[socket_text(one.server, one.port)] += one.count
    return chosen


def _likely(expected: Expected, found: Mapping[str, int], chosen: Mapping[str, Mapping[str, int]]) -> float | None:
    """How probable so uneven a spread is. With affinity it is the clients, not their connections, that are spread."""
    shares = {name: share for name, share in expected.shares.items() if share is not None}
    if len(shares) < len(expected.shares) or not found:
        return None
    if expected.affinity is None:
        return chance(chi_square(shares, found), len(shares) - 1)
    first = Counter(name for names in chosen.values() for name in names)
    if len(chosen) <= _FEW or set(first) - set(shares):
        return None
    return chance(chi_square(shares, first), len(shares) - 1)


def _seen_masquerade(one: Seen, wanted: bool | str | None, nodes: Collection[str]) -> bool | None:
    """Whether the server saw another client; None where the address cannot tell: the node's own became the node's."""
    if one.peer != one.local:
        return True
    return None if wanted is True and one.local in nodes else False


def _wanted(expected: Expected, one: Seen) -> bool | None:
    said = expected.masquerade.get(socket_text(one.server, one.port))
    return one.server == one.local if said == "hairpin" else (said if isinstance(said, bool) else None)


def _masquerade_amiss(expected: Expected, seen: Sequence[Seen]) -> Iterable[str]:
    for one in seen:
        wanted = _wanted(expected, one)
        if one.end != "ok" or wanted is None:
            continue
        was = _seen_masquerade(one, wanted, expected.nodes)
        name = socket_text(one.server, one.port)
        if was is not None and was != wanted:
            yield f"{name} saw {one.peer}, called by {one.local}: masquerade should be {_WORDS[wanted]}"
        elif was and one.peer not in expected.nodes:
            yield f"{name} saw {one.peer}, which is no address of a node on the way"


_WORDS = {True: "yes", False: "no", None: "the address cannot tell"}


def _masquerade_words(expected: Expected, seen: Sequence[Seen]) -> str:
    words = {_WORDS[_seen_masquerade(s, _wanted(expected, s), expected.nodes)] for s in seen if s.end == "ok"}
    return ", ".join(sorted(words))


def _affinity_amiss(expected: Expected, chosen: Mapping[str, Mapping[str, int]]) -> Iterable[str]:
    if expected.affinity is None:
        return
    for client, names in chosen.items():
        if len(names) > 1:
            yield f"session affinity: {client} was answered by {len(names)} endpoints"


def _affinity_words(chosen: Mapping[str, Mapping[str, int]]) -> str:
    if not chosen:
        return ""
    most, ends = max(len(names) for names in chosen.values()), {name for names in chosen.values() for name in names}
    who = "the client" if len(chosen) == 1 else f"each of {len(chosen)} clients"
    return f"{who} by {most} at most, {len(ends)} in all"
