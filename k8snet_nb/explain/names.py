"""Which questions a C library asks for a name, and in which order: the search list, ndots, the trailing dot.

The order is that of glibc's ``__res_context_search`` and musl's ``name_from_dns_search``, as getaddrinfo calls them
for any address family. It is what is asked when no try has an answer; :mod:`resolution` follows it and stops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Literal

from ..parse.resolv_conf import ResolvConf, ipv4_address

__all__ = [
    "PAIR",
    "Cost",
    "Libc",
    "Plan",
    "Query",
    "askable",
    "cost",
    "is_address",
    "libc_differences",
    "plan",
    "search_expansion",
]

Libc = Literal["glibc", "musl"]
PAIR = ("A", "AAAA")
"""What getaddrinfo asks for when any address family will do."""


@dataclass(frozen=True, slots=True)
class Query:
    """One question. ``name`` ends with a dot; ``type`` is A, AAAA or another; ``via`` the search domain that made it.

    An empty ``via``: the name as it was given.
    """

    name: str
    type: str
    via: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.type}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The names to try, each with the search domain that made it, and why in that order.

    ``first`` is the name as given where it comes first, ``last`` where it comes last; ``searched`` are those between.
    """

    first: Query | None
    searched: tuple[Query, ...]
    last: Query | None
    why: str

    @property
    def tries(self) -> tuple[Query, ...]:
        """All names in their order (type A stands for the pair)."""
        return (*filter(None, (self.first,)), *self.searched, *filter(None, (self.last,)))


@dataclass(frozen=True, slots=True)
class Cost:
    """What a look-up takes: names tried, queries sent, and times that it waits for a server's answer."""

    tries: int
    queries: int
    round_trips: int


def is_address(name: str) -> bool:
    """Whether getaddrinfo takes a name for an address: then nothing is asked at all (``10.1`` is 10.0.0.1)."""
    if ipv4_address(name) is not None:
        return True
    try:
        IPv6Address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def askable(name: str) -> bool:
    """Whether a name fits into a question: labels of 1 to 63 bytes, 255 bytes in all with their lengths (RFC 1035)."""
    if name == ".":
        return True
    labels = name.removesuffix(".").encode("utf-8", "surrogateescape").split(b".")
    return all(0 < len(label) < 64 for label in labels) and sum(len(label) + 1 for label in labels) + 1 <= 255


def plan(name: str, resolv: ResolvConf, libc: Libc = "glibc") -> Plan:
    """The names to try for ``name``, in order, when no try has an answer.

    glibc tries the name as given first when it has ndots dots or more and goes on with the search list when that
    fails; with fewer dots it searches first. musl never searches for a name with ndots dots or more.
    """
    given = Query(name.rstrip(".") + ".", "A")
    dots, enough = name.count("."), name.count(".") >= resolv.ndots
    count = f"{dots} dot" + ("" if dots == 1 else "s")
    if is_address(name) or not name:
        return Plan(None, (), None, "an address: nothing is asked" if name else "no name: nothing is asked")
    if name.endswith("."):
        single = given if askable(name) and (name != "." or libc == "glibc") else None
        return Plan(single, (), None, "ends with a dot: asked as it is and never searched")
    searched, root = _searched(name, resolv.search, libc)
    asis = given if askable(name) else None
    if enough and libc == "musl":
        return Plan(asis, (), None, f"{count}, ndots is {resolv.ndots}: musl asks as it is and never searches")
    if enough:
        return Plan(asis, searched, None, f"{count}, ndots is {resolv.ndots}: as it is first, then the search list")
    why = f"{count}, fewer than ndots ({resolv.ndots}): the search list first, then as it is"
    unasked = root or (libc == "glibc" and not dots and "no-tld-query" in resolv.flags and bool(resolv.search))
    return Plan(None, searched, None if unasked else asis, why)


def _searched(name: str, search: Sequence[str], libc: Libc) -> tuple[tuple[Query, ...], bool]:
    """The names that the search list makes, and whether the root is on it.

    At a name that cannot be asked glibc gives the search up; musl passes over it (so over the root, which 1.2.3 and
    older turn into a malformed question).
    """
    found: list[Query] = []
    root = False
    for domain in search:
        bare = domain.removeprefix(".") if libc == "glibc" else domain
        root = root or (libc == "glibc" and not bare)
        full = f"{name}.{bare}".removesuffix(".") + "."
        if askable(full):
            found.append(Query(full, "A", via=domain))
        elif libc == "glibc":
            break
    return tuple(found), root


def search_expansion(name: str, resolv: ResolvConf, libc: Libc = "glibc", types: Sequence[str] = PAIR) -> list[Query]:
    """Every question that is sent, in order, when no try has an answer.

    Each try is asked for each of ``types``. glibc 2.36 and newer leave AAAA out under ``options no-aaaa``; programs
    that ask for configured families only (AI_ADDRCONFIG) leave it out in a pod without an IPv6 address.
    """
    return [
        Query(at.name, kind, at.via) for at in plan(name, resolv, libc).tries for kind in asked(types, resolv, libc)
    ]


def asked(types: Sequence[str], resolv: ResolvConf, libc: Libc) -> tuple[str, ...]:
    """The record types that are really asked for."""
    left_out = "AAAA" if libc == "glibc" and "no-aaaa" in resolv.flags and len(types) > 1 else None
    return tuple(kind for kind in types if kind != left_out)


def cost(
    name: str, resolv: ResolvConf, libc: Libc = "glibc", types: Sequence[str] = PAIR, found_at: str | None = None
) -> Cost:
    """What it takes until the try ``found_at`` answers; None: until all have failed. Servers are assumed to answer.

    A and AAAA travel together, as one round trip; glibc under ``single-request`` waits between them.
    """
    tries = [try_.name for try_ in plan(name, resolv, libc).tries]
    if found_at is not None:
        tries = tries[: tries.index(found_at) + 1] if found_at in tries else tries
    kinds = len(asked(types, resolv, libc))
    alone = libc == "glibc" and any(flag in resolv.flags for flag in ("single-request", "single-request-reopen"))
    return Cost(len(tries), len(tries) * kinds, len(tries) * (kinds if alone else 1))


def libc_differences(name: str, resolv: ResolvConf) -> tuple[str, ...]:
    """What glibc (Debian, Ubuntu, distroless) and musl (Alpine) do differently with this name and this resolv.conf."""
    mine, theirs = search_expansion(name, resolv), search_expansion(name, resolv, "musl")
    found = []
    if [str(query) for query in mine] != [str(query) for query in theirs]:
        found.append(f"glibc asks up to {len(mine)} questions, musl {len(theirs)}: {plan(name, resolv, 'musl').why}")
    if len(plan(name, resolv, "musl").tries) > 1:
        found.append(
            "musl goes on only after NXDOMAIN; glibc also after an answer without such a record and after SERVFAIL"
        )
    if len(resolv.nameservers) > 1:
        found.append("glibc asks the servers one after the other; musl all at once, and the first answer counts")
    ignored = [flag for flag in resolv.flags if flag in ("rotate", "single-request", "single-request-reopen", "use-vc")]
    ignored += [flag for flag in resolv.flags if flag in ("no-aaaa", "no-tld-query", "edns0", "trust-ad")]
    if ignored:
        found.append(f"musl does not know {', '.join(ignored)}")
    return tuple(found)
