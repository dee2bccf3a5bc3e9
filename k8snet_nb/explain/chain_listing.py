"""One chain as ``iptables -L CHAIN -n -v`` lists it, from the lines of ``iptables-save``.

Follows iptables' own columns (iptables/xshared.c, print_rule_details) and the words of the extensions that Kubernetes
uses (extensions/libxt_*.c). Of a match that is not known here, the words of ``iptables-save`` stand in the listing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..parse.iptables import Chain, Ruleset
from ..parse.iptables_rule import Match, Option, Rule, quote

__all__ = ["Jump", "jumps", "listing", "references"]

_COLUMNS = " pkts bytes target     prot opt in     out     source               destination         "
_ANY = {4: "0.0.0.0/0", 6: "::/0"}
_HOST = {4: "/32", 6: "/128"}


@dataclass(frozen=True, slots=True)
class Jump:
    """Where a rule leads: a chain of the same table; ``comment`` of the rule."""

    chain: str
    comment: str


def listing(rules: Ruleset, table: str, chain: Chain, holding: str = "", most: int = 200) -> str:
    """The listing. ``holding``: only rules whose line holds that text; ``most``: at most so many of them."""
    found = [rule for rule in chain.rules() if holding in rule.line]
    lines = [_head(rules, table, chain), _COLUMNS, *(_row(rule, rules.family) for rule in found[:most])]
    if holding:
        lines.append(f"({len(found)} of {len(chain)} rules hold {holding!r})")
    if len(found) > most:
        lines.append(f"(and {len(found) - most} more rules)")
    return "\n".join(line.rstrip() for line in lines)


def references(rules: Ruleset, table: str) -> dict[str, int]:
    """How many rules of a table lead to each of its chains."""
    chains = rules.tables[table]
    found = dict.fromkeys(chains, 0)
    for name in chains:
        for number in chains.rules_of(name) or ():
            # the target is the last word but for its options; kube-proxy's chains have none
            words = rules.line(number).rpartition('"')[2].split()
            target = next((words[i + 1] for i, word in enumerate(words[:-1]) if word in ("-j", "-g")), "")
            if target in found:
                found[target] += 1
    return found


def jumps(rules: Ruleset, table: str, chain: Chain, holding: str = "") -> tuple[Jump, ...]:
    """The chains that a chain's rules lead to, in their order, each once."""
    known = rules.tables[table]
    held = (rule for rule in chain.rules() if holding in rule.line)
    found = {rule.target: Jump(rule.target, rule.comment) for rule in held if rule.target and rule.target in known}
    return tuple(found.values())


def _head(rules: Ruleset, table: str, chain: Chain) -> str:
    if chain.builtin:
        packets, octets = (_short(number) for number in chain.counters or (0, 0))
        return f"Chain {chain.name} (policy {chain.policy} {packets} packets, {octets} bytes)"
    return f"Chain {chain.name} ({references(rules, table)[chain.name]} references)"


def _short(number: int) -> str:
    """As iptables shortens counters: five digits, then thousands (K), millions (M) and so on, rounded."""
    if number <= 99999:
        return str(number)
    for letter in "KMG":
        number = (number + 500) // 1000
        if number <= 9999:
            return f"{number}{letter}"
    return f"{(number + 500) // 1000}T"


def _row(rule: Rule, family: int) -> str:
    if rule.problem:
        return f"{'?':>5} {'?':>5} (this line cannot be read: {rule.problem})"
    own = next((match for match in rule.matches if match.module == "ip"), Match("ip"))
    counters = rule.counters or (0, 0)

    def column(name: str, default: str, width: int, before: str = " ") -> str:
        option = own.option(name)
        value = option.value.removesuffix(_HOST[family]) if option else default
        return f"{'!' if option and option.negated else before}{value:<{width}} "

    goto = " [goto]" if rule.goto else ""
    details = "".join(f" {word}" for word in [*map(_match, rule.matches), _target(rule)] if word)
    return (
        f"{_short(counters[0]):>5} {_short(counters[1]):>5} {rule.target or '':<9} {column('-p', 'all', 4)}-- "
        f"{column('-i', '*', 6)}{column('-o', '*', 6, before='')}"
        f"{column('-s', _ANY[family], 19)}{column('-d', _ANY[family], 19)}{goto}{details}"
    )


def _match(match: Match) -> str:
    """What a match says, in the words of its extension."""
    if match.module == "ip":
        return ""
    if match.module in _WHOLE:
        return _WHOLE[match.module](match)
    words = _KNOWN.get(match.module)
    return _as_saved(match) if words is None else " ".join(words(option) for option in match.options)


def _as_saved(match: Match) -> str:
    parts = [f"-m {match.module}"]
    for option in match.options:
        parts += [*(["!"] if option.negated else []), option.name, *map(quote, option.values)]
    return " ".join(parts)


def _ports(match: Match) -> str:
    words = [match.module]
    for option in match.options:
        short = {"--dport": "dpt", "--sport": "spt"}.get(option.name)
        if short is None:
            return _as_saved(match)
        several = "s" if ":" in option.value else ""
        words.append(f"{short}{several}:{'!' if option.negated else ''}{option.value}")
    return " ".join(words)


def _plain(words: str) -> Callable[[Option], str]:
    """``words`` and the option's values, with ``!`` before them where it is negated."""
    return lambda option: ("! " if option.negated else "") + f"{words}{','.join(option.values)}"


def _recent(option: Option) -> str:
    words = {
        "--set": "recent: SET",
        "--rcheck": "recent: CHECK",
        "--update": "recent: UPDATE",
        "--remove": "recent: REMOVE",
        "--rsource": "side: source",
        "--rdest": "side: dest",
        "--reap": "reap",
    }
    if option.name == "--mask":
        return f"mask: {option.value}"
    told = words.get(option.name) or f"{option.name[2:]}: {option.value}"
    return f"! {told}" if option.negated else told


def _recent_match(match: Match) -> str:
    """The tool prints the side before the mask, where iptables-save writes it after."""
    order = {"--mask": 1}
    return " ".join(_recent(o) for o in sorted(match.options, key=lambda option: order.get(option.name, 0)))


def _address_type(match: Match) -> str:
    kinds = (f"{o.name[2:]} {'!' if o.negated else ''}{o.value}" for o in match.options)
    return "ADDRTYPE match " + " ".join(kinds)


def _statistic(match: Match) -> str:
    words = []
    for option in match.options:
        name = option.name[2:]
        words.append(
            f"{name} {'! ' if option.negated else ''}{option.value}" if name != "mode" else f"mode {option.value}"
        )
    return "statistic " + " ".join(words)


_KNOWN: dict[str, Callable[[Option], str]] = {
    "comment": lambda option: f"/* {option.value} */",
    "mark": lambda option: f"mark match {'! ' if option.negated else ''}{option.value}",
    "conntrack": lambda option: _plain(f"{option.name[2:]} ")(option),
    "set": lambda option: ("! " if option.negated else "") + f"match-set {' '.join(option.values)}",
    "nfacct": _plain("nfacct-name  "),
    "physdev": lambda option: "PHYSDEV match" + (" !" if option.negated else "") + f" {option.name}",
}
_WHOLE: dict[str, Callable[[Match], str]] = {
    "tcp": _ports,
    "udp": _ports,
    "sctp": _ports,
    "recent": _recent_match,
    "addrtype": _address_type,
    "statistic": _statistic,
}


def _target(rule: Rule) -> str:
    options = {option.name: option.value for option in rule.target_options}
    if rule.target == "MARK" and "--set-xmark" in options:
        return _mark(options["--set-xmark"])
    if rule.target in ("DNAT", "SNAT"):
        where = options.get("--to-destination") or options.get("--to-source") or ""
        return " ".join([f"to:{where}", *(name[2:] for name in ("--random", "--persistent") if name in options)])
    if rule.target == "REJECT":
        return f"reject-with {options.get('--reject-with', 'icmp-port-unreachable')}"
    if rule.target == "MASQUERADE":
        return " ".join(name[2:] for name in options)
    return " ".join(f"{name} {value}".strip() for name, value in options.items())


def _mark(said: str) -> str:
    """``0x4000/0x4000`` sets bits (or), ``0x4000/0x0`` flips them (xor)."""
    value, _, mask = said.partition("/")
    if mask and int(mask, 0) == 0:
        return f"MARK xor {value}"
    if value == mask:
        return f"MARK or {value}"
    return f"MARK and {~int(mask or '0xffffffff', 0) & 0xFFFFFFFF:#x}" if int(value, 0) == 0 else f"MARK xset {said}"
