"""Whether one match of a rule holds for the first packet of a connection: iptables-extensions(8).

A test answers True, False, a Fraction (the chance that it holds), :class:`Fork` (it depends on the source address)
or None (it cannot be decided from what is known). Never a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from ipaddress import ip_address

from ...parse.ipset import IpSet
from ...parse.ipset import match as match_set
from ...parse.iptables_rule import Match, Rule
from ..outcome import NodeView, Packet, exact_share
from .state import Source, State, covers, net

__all__ = ["Context", "Fork", "Verdict", "is_local", "rule_chance", "test_match"]

PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132, "icmp": 1, "ipv6-icmp": 58, "icmpv6": 58, "udplite": 136, "dccp": 33}
PROTOCOLS |= {"esp": 50, "ah": 51, "gre": 47, "ipv4": 4, "ipencap": 4, "ipv6": 41, "igmp": 2}
NFACCT_OF_KUBE_PROXY = frozenset(["ct_state_invalid_dropped_pkts", "localhost_nps_accepted_pkts"])


@dataclass(frozen=True, slots=True)
class Fork:
    """It holds for sources in ``prefix`` only (for all others only, when ``negated``)."""

    prefix: str
    negated: bool = False


Verdict = bool | Fraction | Fork | None


@dataclass
class Context:
    """What tests need beside the state. ``hook``: the chain of the kernel that the packet is in now."""

    packet: Packet
    view: NodeView
    source: Source
    ipsets: Mapping[str, IpSet] | None = None
    hook: str = "PREROUTING"
    recent: dict[str, int] = field(default_factory=dict)


Test = Callable[[Context, State, Match], Verdict]


def test_match(context: Context, state: State, match: Match) -> Verdict:
    """The verdict on one match of a rule; None also for modules that are not understood."""
    test = _TESTS.get(match.module)
    return None if test is None else test(context, state, match)


def _all(verdicts: list[Verdict]) -> Verdict:
    """Three-valued AND; at most one fork or chance is expected among them, a second one is undecided."""
    if any(v is False for v in verdicts):
        return False
    rest = [v for v in verdicts if v is not True]
    if not rest:
        return True
    return rest[0] if len(rest) == 1 else None


def _not(verdict: Verdict, negated: bool) -> Verdict:
    if not negated or verdict is None:
        return verdict
    if isinstance(verdict, bool):
        return not verdict
    return Fork(verdict.prefix, not verdict.negated) if isinstance(verdict, Fork) else 1 - verdict


def _each(tests: Mapping[str, Callable[[Context, State, str], Verdict]]) -> Test:
    """A module of which every option is a test of its own."""

    def test(context: Context, state: State, match: Match) -> Verdict:
        verdicts = []
        for option in match.options:
            one = tests.get(option.name)
            verdicts.append(None if one is None else _not(one(context, state, option.value), option.negated))
        return _all(verdicts)

    return test


def _source(context: Context, state: State, value: str) -> Verdict:
    within = context.source.within(value, state)
    return Fork(value) if within is None else within


def _protocol(context: Context, state: State, value: str) -> Verdict:
    wanted = int(value) if value.isdigit() else PROTOCOLS.get(value)
    if value == "all" or wanted == 0:
        return True
    return None if wanted is None else wanted == PROTOCOLS.get(context.packet.protocol)


def _interface(context: Context, value: str, client_hooks: frozenset[str]) -> Verdict:
    """An interface is decided for loopback, and for pods' interfaces where the view knows them."""
    if context.hook not in client_hooks:
        return False
    fits = (lambda name: name.startswith(value[:-1])) if value.endswith("+") else value.__eq__
    pods = context.view.pod_interfaces
    client = context.packet.client
    if client == "pod" and pods:
        hits = {fits(name) for name in pods}
        return hits.pop() if len(hits) == 1 else None
    if fits("lo") and client != "node":
        return False
    if client == "outside" and pods and not value.endswith("+") and value in pods:
        return False
    return None


def _in(context: Context, state: State, value: str) -> Verdict:
    if context.packet.client == "node" and context.hook in ("PREROUTING", "INPUT"):
        return value == "lo" if not value.endswith("+") else "lo".startswith(value[:-1])
    return _interface(context, value, frozenset(["PREROUTING", "INPUT", "FORWARD"]))


def _out(context: Context, state: State, value: str) -> Verdict:
    if context.hook in ("PREROUTING", "INPUT"):
        return False
    local = is_local(context, state.dst)
    if local is None or local or value == "lo":
        return local if value in ("lo", "lo+") else (None if local is None else False)
    return None


def _ports(value: str, port: int, separator: str = ":") -> bool:
    low, found, high = value.partition(separator)
    return int(low or 0) <= port <= int((high or 65535) if found else low)


def _dport(context: Context, state: State, value: str) -> Verdict:
    return _ports(value, state.dport)


def _sport(context: Context, state: State, value: str) -> Verdict:
    return True if value in ("0:65535", ":") else None


def _syn(context: Context, state: State, value: str) -> Verdict:
    return context.packet.protocol == "tcp"


def _tcp(context: Context, state: State, match: Match) -> Verdict:
    flags = match.option("--tcp-flags")
    rest = Match("tcp", tuple(o for o in match.options if o is not flags))
    verdict = _PORTS(context, state, rest)
    if flags is None or len(flags.values) != 2:
        return verdict
    mask, wanted = (set() if v == "NONE" else set(v.split(",")) for v in flags.values)
    first = {"SYN"} if "ALL" in mask else mask & {"SYN"}
    return _all([verdict, _not(first == wanted, flags.negated)])


def _multiport(context: Context, state: State, match: Match) -> Verdict:
    verdicts: list[Verdict] = []
    for option in match.options:
        hit = any(_ports(part, state.dport) for part in option.value.split(","))
        if option.name == "--dports":
            verdicts.append(_not(hit, option.negated))
        else:
            verdicts.append(_not(True if option.name == "--ports" and hit else None, option.negated))
    return _all(verdicts)


def is_local(context: Context, address: str) -> bool | None:
    if ip_address(address).is_loopback or address in context.view.local:
        return True
    return False if context.view.local else None


def _address_type(context: Context, state: State, match: Match) -> Verdict:
    verdicts: list[Verdict] = []
    for option in match.options:
        kinds = set(option.value.split(","))
        if option.name == "--dst-type":
            verdict = _kind_of(is_local(context, state.dst), kinds, state.dst)
        elif option.name == "--src-type":
            verdict = _kind_of(_source_is_local(context, state), kinds, context.packet.src)
        else:
            verdict = None  # --limit-iface-in, --limit-iface-out
        verdicts.append(_not(verdict, option.negated))
    return _all(verdicts)


def _kind_of(local: bool | None, kinds: set[str], address: str | None) -> bool | None:
    if local is None:
        return None
    if local:
        return "LOCAL" in kinds
    if address is not None and ip_address(address).is_multicast:
        return "MULTICAST" in kinds
    return False if kinds == {"LOCAL"} else None


def _source_is_local(context: Context, state: State) -> bool | None:
    packet = context.packet
    if packet.client == "node":
        return True
    if packet.src is not None:
        return is_local(context, packet.src)
    if state.inside is not None and any(covers(net(state.inside), net(a)) for a in context.view.local):
        return None
    return False


def _mask(value: str) -> tuple[int, int]:
    wanted, _, mask = value.partition("/")
    return int(wanted, 0), int(mask, 0) if mask else 0xFFFFFFFF


def _mark(context: Context, state: State, value: str) -> Verdict:
    wanted, mask = _mask(value)
    return state.mark & mask == wanted


def _connmark(context: Context, state: State, value: str) -> Verdict:
    wanted, mask = _mask(value)
    return state.connmark & mask == wanted


def _state(context: Context, state: State, value: str) -> Verdict:
    now = {"UNTRACKED"} if state.untracked else {"NEW"}
    if state.dnat:
        now.add("DNAT")
    if state.masquerade:
        now.add("SNAT")
    return bool(now & set(value.split(",")))


def _original_destination(context: Context, state: State, value: str) -> Verdict:
    return not state.untracked and covers(net(value), net(context.packet.dst))


def _original_port(context: Context, state: State, value: str) -> Verdict:
    return not state.untracked and _ports(value, context.packet.dport)


def _direction(context: Context, state: State, value: str) -> Verdict:
    return value.upper() == "ORIGINAL"


def _statistic(context: Context, state: State, match: Match) -> Verdict:
    return _share(match)


def rule_chance(rule: Rule) -> Fraction | None:
    """The share of packets that a rule with ``-m statistic`` takes of those that come to it; None without one."""
    return next((_share(match) for match in rule.matches if match.module == "statistic"), None)


def _share(match: Match) -> Fraction | None:
    """random: its exact chance. nth: every rule counts the packets that it meets, so in the long run 1 of n holds."""
    mode = match.option("--mode")
    chance, every = match.option("--probability"), match.option("--every")
    try:
        if mode and mode.value == "random" and chance:
            share = exact_share(chance.value)
            return 1 - share if chance.negated else share
        if mode and mode.value == "nth" and every:
            share = Fraction(1, int(every.value))
            return 1 - share if every.negated else share
    except (ValueError, ZeroDivisionError):
        pass
    return None


def _recent(context: Context, state: State, match: Match) -> Verdict:
    """A client that comes for the first time is in no list yet; ``--set`` always holds and puts it there."""
    name = match.option("--name")
    for option in match.options:
        if option.name in ("--rcheck", "--update", "--remove"):
            seconds = match.option("--seconds")
            if seconds and name and option.name != "--remove":
                context.recent[name.value] = int(seconds.value)
            return option.negated
        if option.name == "--set":
            return not option.negated
    return None


def _set(context: Context, state: State, match: Match) -> Verdict:
    verdicts: list[Verdict] = []
    for option in match.options:
        if option.name != "--match-set" or context.ipsets is None or option.value not in context.ipsets:
            verdicts.append(None)
            continue
        packet = context.packet
        fields = {"src": packet.src or _single(state.inside), "dst": state.dst, "protocol": packet.protocol}
        fields = {**fields, "dport": state.dport, "sport": None, "mark": state.mark}  # type: ignore[dict-item]
        verdict = match_set(context.ipsets[option.value], option.values[1].split(","), fields)
        verdicts.append(_not(verdict, option.negated))
    return _all(verdicts)


def _single(prefix: str | None) -> str | None:
    address, _, length = (prefix or "").partition("/")
    return address if length in ("32", "128") and address else None


def _physdev(context: Context, state: State, match: Match) -> Verdict:
    if context.packet.client == "node" and [o.name for o in match.options] == ["--physdev-is-in"]:
        return match.options[0].negated  # what this node sends itself came in by no bridge port
    return None


def _nfacct(context: Context, state: State, match: Match) -> Verdict:
    """It counts and always holds, unless its object has a quota: kube-proxy's own have none."""
    return True if all(o.value.strip() in NFACCT_OF_KUBE_PROXY for o in match.options) else None


def _destination_range(context: Context, state: State, value: str) -> Verdict:
    low, _, high = value.partition("-")
    return ip_address(low) <= ip_address(state.dst) <= ip_address(high or low)  # type: ignore[operator]


def _destination(context: Context, state: State, value: str) -> Verdict:
    return covers(net(value), net(state.dst))


def _always(context: Context, state: State, match: Match) -> Verdict:
    return True


def _fragment(context: Context, state: State, value: str) -> Verdict:
    return False


_IP = _each({"-s": _source, "-d": _destination, "-p": _protocol, "-i": _in, "-o": _out, "-f": _fragment})
_PORTS = _each({"--dport": _dport, "--sport": _sport, "--syn": _syn})
_CONNTRACK = _each(
    {
        "--ctstate": _state,
        "--ctproto": _protocol,
        "--ctorigdst": _original_destination,
        "--ctorigdstport": _original_port,
        "--ctorigsrc": _source,
        "--ctdir": _direction,
    }
)
_TESTS: dict[str, Test] = {
    "ip": _IP,
    "tcp": _tcp,
    "udp": _PORTS,
    "sctp": _PORTS,
    "multiport": _multiport,
    "comment": _always,
    "addrtype": _address_type,
    "mark": _each({"--mark": _mark}),
    "connmark": _each({"--mark": _connmark}),
    "conntrack": _CONNTRACK,
    "state": _each({"--state": _state}),
    "statistic": _statistic,
    "recent": _recent,
    "set": _set,
    "physdev": _physdev,
    "nfacct": _nfacct,
    "iprange": _each({"--dst-range": _destination_range}),
}
