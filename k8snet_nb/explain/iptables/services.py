"""Every Service entry that kube-proxy programmed in iptables, in one pass: what drift is compared against.

Reads kube-proxy's own chains by their names and comments (pkg/proxy/iptables): KUBE-SERVICES and KUBE-NODEPORTS lead
to KUBE-SVC (all endpoints), KUBE-SVL (those on this node), KUBE-EXT (external entry) or KUBE-FW (source ranges); in
the filter table KUBE-SERVICES and KUBE-EXTERNAL-SERVICES hold the entries without usable endpoints.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ...errors import FactBroken
from ...parse.iptables import Ruleset, Table
from ...parse.iptables_rule import is_network

__all__ = ["Endpoint", "ServiceEntry", "services"]

Endpoint = tuple[str, int]
Entry = Literal["cluster_ip", "node_port", "external_ip", "load_balancer"]

_PORTAL = re.compile(r'-A \S+ (?:-d (\S+) )?-p (\w+) (?:.*?--comment (?:"([^"]*)"|(\S+)) ?)?')
_KINDS: tuple[tuple[str, Entry], ...] = (
    (" cluster IP", "cluster_ip"),
    (" external IP", "external_ip"),
    (" loadbalancer IP", "load_balancer"),
)


@dataclass(frozen=True, slots=True)
class ServiceEntry:
    """One programmed entry. ``address`` None: any local address of the node (a NodePort).

    ``service`` is ``namespace/name:port`` as kube-proxy's comment says it; ``cluster`` the endpoints that any client
    may get, ``local`` those for outsiders under traffic policy Local (None: no such policy is programmed). ``kind``
    of an entry without endpoints that is no cluster IP is ``external_ip``: its rule does not say which it is.
    ``problem``: why the entry could not be followed to its end, empty when it was.
    """

    kind: Entry
    service: str
    protocol: str
    address: str | None
    port: int
    action: Literal["dnat", "reject", "drop"]
    chain: str | None
    cluster: tuple[Endpoint, ...]
    local: tuple[Endpoint, ...] | None
    line: int
    problem: str = ""

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All endpoints, for whichever client."""
        return tuple(dict.fromkeys(self.cluster + (self.local or ())))


def services(rules: Ruleset) -> list[ServiceEntry]:
    """The entries of a node, in the save's order. Raises FactBroken when chains jump in a circle or an entry
    has an address or port that is none.
    """
    found: list[ServiceEntry] = []
    nat, filters = rules.tables.get("nat"), rules.tables.get("filter")
    if nat is not None:
        reader = _Chains(rules, nat)
        for name in ("KUBE-SERVICES", "KUBE-NODEPORTS"):
            found += _translated(rules, nat, name, reader)
    if filters is not None:
        for name in ("KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES"):
            found += _refused(rules, filters, name)
    return found


def _tail(line: str) -> str:
    """What follows the last quote: nothing in it is quoted."""
    return line[line.rfind('"') + 1 :]


def _word_after(text: str, option: str) -> str:
    return text.partition(f" {option} ")[2].partition(" ")[0]


def _portal(rules: Ruleset, number: int) -> tuple[str | None, str, str, int] | None:
    """Address, protocol, comment and port of an entry's rule; None when the rule is no entry.

    Raises FactBroken when it is one and cannot be read: it may be any Service's.
    """
    line = rules.line(number)
    found = _PORTAL.search(line)
    port = _word_after(_tail(line), "--dport")
    if found is None or not port:
        return None
    address = found[1].partition("/")[0] if found[1] else None
    if not port.isdigit() or (address is not None and not is_network(address)):
        raise FactBroken(rules.fact, rules.where, f"line {number}: {rules.rule(number).problem or 'no port'}")
    return address, found[2], found[3] or found[4] or "", int(port)


def _kind(comment: str, address: str | None, default: Entry) -> tuple[Entry, str]:
    for ending, kind in _KINDS:
        if comment.endswith(ending):
            return kind, comment[: -len(ending)]
    return ("node_port" if address is None else default), comment.partition(" ")[0]


def _translated(rules: Ruleset, nat: Table, name: str, reader: _Chains) -> list[ServiceEntry]:
    found = []
    chain = nat.get(name)
    for number in chain.numbers if chain else ():
        line = rules.line(number)
        portal = _portal(rules, number)
        target = line.rpartition(" -j ")[2]
        if portal is None or target == "KUBE-MARK-MASQ":
            continue
        address, protocol, comment, port = portal
        if address is not None and address.startswith("127."):
            continue  # the same NodePort again, only counted: "localhost_nps_accepted_pkts"
        kind, service = _kind(comment, address, "external_ip")
        cluster, local, problem = reader.endpoints(target)
        found.append(
            ServiceEntry(kind, service, protocol, address, port, "dnat", target, cluster, local, number, problem)
        )
    return found


def _refused(rules: Ruleset, filters: Table, name: str) -> list[ServiceEntry]:
    found = []
    chain = filters.get(name)
    for number in chain.numbers if chain else ():
        line = rules.line(number)
        portal = _portal(rules, number)
        target = _word_after(_tail(line), "-j")
        if portal is None or target not in ("REJECT", "DROP"):
            continue
        address, protocol, comment, port = portal
        default: Entry = "cluster_ip" if name == "KUBE-SERVICES" else "external_ip"
        kind, service = _kind(comment, address, default)
        action: Literal["reject", "drop"] = "reject" if target == "REJECT" else "drop"
        found.append(ServiceEntry(kind, service, protocol, address, port, action, None, (), None, number))
    return found


_Found = tuple[tuple[Endpoint, ...], tuple[Endpoint, ...] | None, str]


class _Chains:
    """Follows entry chains to their endpoints; each chain once."""

    def __init__(self, rules: Ruleset, nat: Table) -> None:
        self._rules, self._nat = rules, nat
        self._choices: dict[str, tuple[tuple[Endpoint, ...], str]] = {}
        self._entries: dict[str, _Found] = {}

    def endpoints(self, chain: str, path: tuple[str, ...] = ()) -> _Found:
        """Endpoints for everyone, those for outsiders only, and what stopped us."""
        if chain.startswith("KUBE-SVC-"):
            cluster, problem = self._choice(chain)
            return cluster, None, problem
        if chain.startswith("KUBE-SVL-"):
            local, problem = self._choice(chain)
            return (), local, problem
        if chain not in self._entries:
            self._entries[chain] = self._follow(chain, path)
        return self._entries[chain]

    def _follow(self, chain: str, path: tuple[str, ...]) -> _Found:
        numbers = self._nat.rules_of(chain)
        if numbers is None:
            return (), None, f"there is no chain {chain}"
        cluster: tuple[Endpoint, ...] = ()
        local: tuple[Endpoint, ...] | None = None
        problem = ""
        for number in numbers:
            target = _word_after(_tail(self._rules.line(number)), "-j")
            if not target.startswith(("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-")):
                continue
            if target in path or target == chain:
                why = f"line {number}: chains jump in a circle ({' -> '.join((*path, chain, target))})"
                raise FactBroken(self._rules.fact, self._rules.where, why)
            more, outsiders, why = self.endpoints(target, (*path, chain))
            cluster, problem = cluster or more, problem or why
            local = outsiders if local is None else local
        if chain.startswith("KUBE-EXT-") and local is None and cluster and not self._ends_for_all(numbers):
            local = ()  # outsiders reach no chain at all: traffic policy Local and nothing on this node
        return cluster, local, problem

    def _ends_for_all(self, numbers: list[int]) -> bool:
        """The last rule sends on whoever is left, without asking for a source."""
        line = self._rules.line(numbers[-1])
        return " -s " not in line and "--src-type" not in _tail(line)

    def _choice(self, chain: str) -> tuple[tuple[Endpoint, ...], str]:
        if chain not in self._choices:
            self._choices[chain] = self._read_choice(chain)
        return self._choices[chain]

    def _read_choice(self, chain: str) -> tuple[tuple[Endpoint, ...], str]:
        found: dict[Endpoint, None] = {}
        problem = ""
        line_of = self._rules.line
        numbers = self._nat.rules_of(chain)
        if numbers is None:
            return (), f"there is no chain {chain}"
        for number in numbers:
            _, jump, target = line_of(number).rpartition(" -j ")
            if target == "KUBE-MARK-MASQ":
                continue
            rules = self._nat.rules_of(target) or ()
            endpoint = _endpoint(line_of(rules[-1])) if rules else None
            if endpoint is None:
                problem = problem or f"line {number}: {target if jump else 'the rule'} leads to no endpoint"
            else:
                found[endpoint] = None
        return tuple(found), problem


def _endpoint(line: str) -> Endpoint | None:
    _, found, target = _tail(line).partition(" --to-destination ")
    address, _, port = target.partition(" ")[0].rpartition(":")
    return (address.strip("[]"), int(port)) if found and port.isdigit() else None
