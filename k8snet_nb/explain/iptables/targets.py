"""What targets do to the packet: iptables-extensions(8). A change answers the new state; None: it cannot be told."""

from __future__ import annotations

import re
from collections.abc import Callable

from ...parse.iptables_rule import Rule
from .match import Context
from .state import State

__all__ = ["CHANGES", "TERMINAL", "UNKNOWN_TARGETS"]

_DESTINATION = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)|([0-9a-fA-F:]*:[0-9a-fA-F:.]+))?(?::(\d+))?")


def _dnat(context: Context, rule: Rule, state: State) -> State | None:
    option = rule.target_option("--to-destination")
    found = _DESTINATION.fullmatch(option.value) if option else None
    if found is None:
        return None  # a range of addresses or ports
    address = found[1] or found[2] or found[3] or state.dst
    port = int(found[4]) if found[4] else state.dport
    return state._replace(dst=address, dport=port, dnat=True, affinity=_affinity(context, rule) or state.affinity)


def _affinity(context: Context, rule: Rule) -> int | None:
    """The seconds for which a client that this rule remembers comes back here: a rule before asked the same list."""
    for match in rule.matches:
        name = match.option("--name")
        if match.module == "recent" and match.option("--set") and name:
            return context.recent.get(name.value)
    return None


def _redirect(context: Context, rule: Rule, state: State) -> State | None:
    option = rule.target_option("--to-ports")
    port = option.value if option else str(state.dport)
    if not port.isdigit():
        return None
    if context.hook == "OUTPUT":
        address = "::1" if context.packet.family == 6 else "127.0.0.1"
    elif state.dst in context.view.local:
        address = state.dst
    else:
        return None  # it becomes the first address of the interface that it came in by
    return state._replace(dst=address, dport=int(port), dnat=True)


def _masquerade(context: Context, rule: Rule, state: State) -> State | None:
    return state._replace(masquerade=True)


def _set_mark(old: int, name: str, value: str) -> int | None:
    wanted, _, mask = value.partition("/")
    bits, limit = int(wanted, 0), int(mask, 0) if mask else 0xFFFFFFFF
    changes = {
        "--set-xmark": (old & ~limit) ^ bits,
        "--set-mark": (old & ~limit) | bits,
        "--or-mark": old | bits,
        "--and-mark": old & bits,
        "--xor-mark": old ^ bits,
    }
    return changes.get(name)


def _mark(context: Context, rule: Rule, state: State) -> State | None:
    mark: int | None = state.mark
    for option in rule.target_options:
        mark = None if mark is None else _set_mark(mark, option.name, option.value)
    return None if mark is None else state._replace(mark=mark)


def _connmark(context: Context, rule: Rule, state: State) -> State | None:
    """--set-xmark, and copies of the whole mark or of masked bits between packet and connection."""
    names = {option.name: option.value for option in rule.target_options}
    nf = int(names.get("--nfmask", names.get("--mask", "0xffffffff")), 0)
    ct = int(names.get("--ctmask", names.get("--mask", "0xffffffff")), 0)
    if "--save-mark" in names:
        return state._replace(connmark=(state.connmark & ~ct) ^ (state.mark & nf))
    if "--restore-mark" in names:
        return state._replace(mark=(state.mark & ~nf) ^ (state.connmark & ct))
    for option in rule.target_options:
        mark = _set_mark(state.connmark, option.name, option.value)
        return None if mark is None else state._replace(connmark=mark)
    return None


def _notrack(context: Context, rule: Rule, state: State) -> State | None:
    if rule.target == "CT" and rule.target_option("--notrack") is None:
        return state
    return state._replace(untracked=True)


CHANGES: dict[str, Callable[[Context, Rule, State], State | None]] = {
    "DNAT": _dnat,
    "REDIRECT": _redirect,
    "MASQUERADE": _masquerade,
    "SNAT": _masquerade,
    "MARK": _mark,
    "CONNMARK": _connmark,
    "NOTRACK": _notrack,
    "CT": _notrack,
}
"""Targets that change the packet or what is known of it."""

TERMINAL = frozenset(["DNAT", "REDIRECT", "MASQUERADE", "SNAT"])
"""Of those: after them no further rule of the table is asked."""

UNKNOWN_TARGETS = frozenset(
    ["NFQUEUE", "QUEUE", "TPROXY", "NETMAP", "SYNPROXY", "CLUSTERIP", "HMARK", "DNPT", "SNPT", "TARPIT"]
)
"""Targets that may end or redirect the packet in ways that rules alone do not tell. The rest only note something."""
