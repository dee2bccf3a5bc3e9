"""Answers of exercises and how leniently they compare: spelling never decides, only what is meant."""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from fractions import Fraction

from ..render import printable

__all__ = ["Answer", "address", "command", "names", "number", "text", "words_of"]


@dataclass(frozen=True, slots=True)
class Answer:
    """``shown`` is the answer for people; ``judge`` gives None for a right one, else what is not right yet."""

    shown: str
    judge: Callable[[object], str | None]

    def accepts(self, given: object) -> bool:
        """Whether what was given means this answer."""
        return self.judge(given) is None


def text(*spellings: str) -> Answer:
    """One of several words or phrases, whatever the case, the spaces and the quotes."""
    wanted = {_plain(spelling) for spelling in spellings}
    return Answer(spellings[0], lambda given: None if _plain(given) in wanted else "That is not it.")


def number(value: int | Fraction) -> Answer:
    """A count or a share: 4, "4", Fraction(1, 4), "1/4", 0.25, "0.25", "25 %" (or rounded to two digits or more)."""

    def judge(given: object) -> str | None:
        read = _number(given)
        if read is None:
            return "This asks for a number."
        got, slack = read
        return None if abs(got - value) <= slack else "That is not the number."

    return Answer(str(value), judge)


def address(value: str) -> Answer:
    """An IP address in any spelling."""
    wanted = ipaddress.ip_address(value)

    def judge(given: object) -> str | None:
        got = _ip(given)
        if got is None:
            return "This asks for an IP address."
        return None if got == _ip(wanted) else "That is another address."

    return Answer(value, judge)


def names(wanted: Collection[str], kind: str = "name") -> Answer:
    """One or more names in any order; the namespace may be left out where that leaves no doubt. Or "none"."""
    full = sorted(wanted)
    short = [name.rpartition("/")[2] for name in full]
    known = {_plain(name): name for name in full}
    known |= {_plain(s): name for s, name in zip(short, full, strict=True) if short.count(s) == 1}

    def judge(given: object) -> str | None:
        parts = _parts(given)
        if not parts:
            return f"This asks for the {kind}."
        wrong = [part for part in parts if part not in known]
        found = {known[part] for part in parts if part in known}
        if wrong and not (not full and wrong == ["none"]):
            return f"{printable(wrong[0])} does not belong."
        return None if len(found) == len(full) else f"Right so far, but not complete: {len(found)} of {len(full)}."

    return Answer(", ".join(full) or "none", judge)


def command(shown: str, words: Iterable[Collection[str]], flags: Iterable[Collection[str]]) -> Answer:
    """A command line: ``words`` in this order (each with its synonyms), ``flags`` in any, nothing else."""
    order, wanted = [frozenset(w) for w in words], [frozenset(f) for f in flags]

    def judge(given: object) -> str | None:
        typed = words_of(given)
        if isinstance(typed, str):
            return typed
        tokens = _options(typed)
        plain = [token for token in tokens if not token.startswith("-")]
        if len(plain) != len(order) or any(token not in may for token, may in zip(plain, order, strict=True)):
            return f"Begin with {' '.join(sorted(may)[0] for may in order)}."
        given_flags = [token for token in tokens if token.startswith("-")]
        extra = [flag for flag in given_flags if not any(flag in may for may in wanted)]
        if extra:
            return f"{printable(extra[0])} is not the option for this."
        missing = [may for may in wanted if not any(flag in may for flag in given_flags)]
        return f"{len(missing)} option is missing." if missing else None

    return Answer(shown, judge)


def words_of(given: object) -> list[str] | str:
    """The words of a command line, without prompt and sudo; or as one text why they cannot be told."""
    line = str(given).strip().removeprefix("$ ").removeprefix("# ").removeprefix("sudo ")
    dashes = [char for char in line if char in "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"]
    if dashes:
        return f"It holds a typographic dash (U+{ord(dashes[0]):04X}): no program takes that for a hyphen."
    try:
        return shlex.split(line)
    except ValueError:
        return "A quote is not closed."


def _options(tokens: list[str]) -> list[str]:
    """``-o wide`` and ``--output wide`` as one token each, as ``-o=wide``."""
    joined: list[str] = []
    for token in tokens:
        if joined and joined[-1] in ("-o", "--output") and not token.startswith("-"):
            joined[-1] += f"={token}"
        else:
            joined.append(re.sub(r"^-o(?=[^=])", "-o=", token))
    return joined


def _plain(given: object) -> str:
    return " ".join(re.sub("[`\"']", " ", str(given)).casefold().split()).rstrip(" .?!")


def _parts(given: object) -> list[str]:
    """A list, or a text with commas, semicolons, spaces or "and" between the names."""
    if isinstance(given, (list, tuple, set, frozenset)):
        return [_plain(part) for part in given]
    return [part for part in re.split(r"[,;\s]+|\band\b", _plain(given)) if part]


def _ip(given: object) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        got = ipaddress.ip_interface(str(given).strip().strip("[]`\"'")).ip
    except ValueError:
        return None
    return (got.ipv4_mapped or got) if isinstance(got, ipaddress.IPv6Address) else got


def _number(given: object) -> tuple[Fraction, Fraction] | None:
    """The number and how far off it may be: half of its last digit, when it has two or more after the point."""
    if isinstance(given, bool):
        return None
    if isinstance(given, (int, Fraction)):
        return Fraction(given), Fraction(0)
    spelled = _plain(given).replace(" ", "").replace(",", ".")
    scale = 100 if spelled.endswith("%") else 1
    found = re.fullmatch(r"(-?\d+)(?:/(\d+)|\.(\d+))?%?", spelled)
    if found is None or (found[2] and int(found[2]) == 0):
        return None
    digits = len(found[3] or "") + (2 if scale == 100 else 0)
    slack = Fraction(1, 2 * 10**digits) if digits >= 2 and not found[2] else Fraction(0)
    return Fraction(spelled.rstrip("%")) / scale, slack
