"""What dig and nslookup ask, beside a program that calls getaddrinfo: from the pod, and through nsenter from the node.

``nsenter -n`` enters the network namespace only: the node's /etc/resolv.conf stays. Held by the tests against the dig
and nslookup of BIND 9.18.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...facts import Evidence
from ...parse.resolv_conf import ResolvConf
from ...render import Report, Shown
from ..names import Libc, Query, askable, search_expansion

__all__ = ["Asker", "Difference", "compare_tools", "dig_queries", "nslookup_queries"]


def dig_queries(name: str, resolv: ResolvConf, kind: str = "A", *, search: bool = False) -> list[Query]:
    """What ``dig NAME`` asks when nothing answers: the name as it is. Only ``+search`` follows the search list."""
    return _bind(name, resolv, kind) if search else [Query(name.rstrip(".") + ".", kind)]


def nslookup_queries(name: str, resolv: ResolvConf) -> list[Query]:
    """What BIND's ``nslookup NAME`` asks when nothing answers: type A along the search list.

    It asks AAAA too, for the name that answered. A name with ndots dots or more is never searched. BusyBox's nslookup
    differs from release to release, and asks A and AAAA together.
    """
    return _bind(name, resolv, "A")


def _bind(name: str, resolv: ResolvConf, kind: str) -> list[Query]:
    given = Query(name.rstrip(".") + ".", kind)
    if name.endswith(".") or name.count(".") >= resolv.ndots:
        return [given]
    full = ((f"{name}.{domain}".rstrip(".") + ".", domain) for domain in resolv.search)
    return [*(Query(text, kind, domain) for text, domain in full if askable(text)), given]


@dataclass(frozen=True, slots=True)
class Asker:
    """One way to ask: what is typed, where, whose resolv.conf counts, which server and which questions.

    ``result`` is what came of it, empty when it was not tried.
    """

    command: str
    place: str
    resolv_of: str
    server: str
    queries: tuple[Query, ...]
    says: str
    result: str = ""


@dataclass(frozen=True, slots=True)
class Difference(Shown):
    """The ways beside each other. ``node_known`` is False when the node's resolv.conf was not recorded.

    ``notes`` say from where the node's file is known; ``evidence`` is that of the results.
    """

    name: str
    ways: tuple[Asker, ...]
    node_known: bool
    notes: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()

    def report(self) -> Report:
        """One row a way, its questions in order."""
        rows = tuple((way.command, way.place, way.server, len(way.queries), way.result or None) for way in self.ways)
        notes = tuple(
            f"{way.command} ({way.place}; resolv.conf of {way.resolv_of}): {way.says}. Asks {_first(way.queries)}"
            for way in self.ways
        )
        notes += self.notes
        if not self.node_known:
            notes += ("The node's resolv.conf is not recorded: which server the node's dig would ask is not known",)
        return Report("", ("COMMAND", "WHERE", "SERVER", "QUESTIONS AT MOST", "RESULT"), rows, notes, self.evidence)


def _first(queries: Sequence[Query]) -> str:
    """The first questions, and how many more there are."""
    told = ", then ".join(str(query) for query in queries[:2])
    return f"{told}, and up to {len(queries) - 2} more" if len(queries) > 2 else told or "nothing"


def compare_tools(
    name: str, pod: ResolvConf, node: ResolvConf | None, *, libc: Libc = "glibc", server: str | None = None
) -> Difference:
    """A program in the pod, nslookup and dig in the pod, and dig from the node through nsenter, for the same name.

    ``node``: the node's resolv.conf, None when it is not known. ``server``: the one after ``@`` on dig's command line.
    """
    first, inside = pod.nameservers[0], "in the pod"
    at = f" @{server}" if server else ""
    ways = [
        Asker(
            f"getaddrinfo({name!r})",
            f"{inside}, {libc}",
            "the pod",
            first,
            _q(search_expansion(name, pod, libc)),
            "what programs do",
        ),
        Asker(
            f"nslookup {name}",
            inside,
            "the pod",
            first,
            _q(nslookup_queries(name, pod)),
            "the pod's search list, one type at a time",
        ),
        Asker(
            f"dig {name}{at}",
            inside,
            "the pod",
            server or first,
            _q(dig_queries(name, pod)),
            "no search list without +search",
        ),
    ]
    theirs = server or (node.nameservers[0] if node else "the node's, not recorded")
    says = "the pod's network, the node's files: neither the pod's server nor its search list"
    if server:
        says = "the pod's network and the server that you name; the search list and ndots are not exercised"
    ways.append(
        Asker(
            f"nsenter -t PID -n dig {name}{at}",
            "on the node",
            "the node",
            theirs,
            _q(dig_queries(name, node or pod)),
            says,
        )
    )
    return Difference(name, tuple(ways), node is not None or server is not None)


def _q(queries: Sequence[Query]) -> tuple[Query, ...]:
    return tuple(queries)
