"""Which kube-proxy mode works on a node, by what is programmed there: :func:`proxy_mode`.

Not by which tool lists it (iptables-nft rules appear in ``nft list ruleset`` too), nor by what kube-proxy says of
itself (it may be dead, or just restarted in another mode), though both are told beside it.

Who wins when two modes know the same Service follows from the hooks (uapi/linux/netfilter_ipv4.h, ip_vs_core.c). The
nat chains of iptables and those of kube-proxy's nftables mode translate at PREROUTING and OUTPUT, priority -100; IPVS
takes a packet at LOCAL_IN, or at LOCAL_OUT with priority -99: it only gets what nobody translated before. Between two
chains of the same hook and priority, the kernel asks the one that was registered last (nf_hook_entries_grow), and the
first that translates settles it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from ..facts import FACTS, Evidence, FactRef
from ..parse import nft as nft_rules
from ..parse.iptables import Ruleset
from ..parse.ipvs import VirtualServer
from ..parse.nft_text import chain_text, element_text
from ..render import Report, Shown

__all__ = [
    "KubeProxyTable",
    "Mode",
    "ProxyMode",
    "VirtualServers",
    "kube_proxy_tables",
    "proxy_mode",
    "virtual_servers",
]

Mode = Literal["iptables", "nftables", "ipvs"]

_SERVICE_MAPS = ("service-ips", "service-nodeports", "no-endpoint-services", "no-endpoint-nodeports")
_AGENTS = ("cilium-agent", "kube-router", "antrea-agent", "ovnkube", "calico-node")


@dataclass(frozen=True, slots=True)
class KubeProxyTable:
    """Table ``kube-proxy`` of one family as nft lists it: ``entries`` in its service maps, its own ``handle``.

    ``priority`` of its nat-prerouting chain (-100). ``iptables_handle``: that of the table ``nat`` of iptables-nft in
    the same family, None without one; tables are numbered as they are made.
    """

    family: str
    entries: int
    handle: int | None = None
    priority: int = -100
    iptables_handle: int | None = None
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VirtualServers:
    """IPVS as ``ipvsadm -Sn`` lists it: how many virtual servers, and the first lines."""

    count: int
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProxyMode(Shown):
    """``mode``: the one that translates (None: none does, or it cannot be told: ``why``).

    ``found``: every mode that has Services programmed; ``leftovers``: those of them that lose. ``own_word``: what
    kube-proxy says; ``running``: its process was seen (None: nobody looked). ``unseen``: facts that were not there.
    """

    mode: Mode | None
    why: str
    evidence: tuple[Evidence, ...]
    found: tuple[Mode, ...]
    leftovers: tuple[Mode, ...]
    own_word: str | None
    running: bool | None
    unseen: tuple[str, ...] = ()

    def report(self) -> Report:
        """The mode and why, what else was found, and what kube-proxy says of itself."""
        said = self.own_word or "nothing that was collected"
        process = {
            True: "its process was seen",
            False: "no such process was seen",
            None: "nobody looked for its process",
        }
        notes = [f"Why: {self.why}", f"kube-proxy says of itself: {said}; {process[self.running]}"]
        notes += [f"Left behind by another mode: {mode}" for mode in self.leftovers]
        notes += [f"Not collected here: {', '.join(self.unseen)}"] if self.unseen else []
        return Report(
            f"Services are translated by: {self.mode or 'none that is known'}",
            notes=tuple(notes),
            evidence=self.evidence,
        )


def kube_proxy_tables(rules: nft_rules.Ruleset) -> list[KubeProxyTable]:
    """kube-proxy's own tables in a parsed ``nft -j list ruleset``; what iptables-nft put there is none of them."""
    found = []
    for family in ("ip", "ip6"):
        table = rules.table(family, "kube-proxy")
        if table is None:
            continue
        maps = [one for name, one in table.sets.items() if name in _SERVICE_MAPS]
        hook = table.chains.get("nat-prerouting")
        other = rules.table(family, "nat")
        translates = other is not None and any(c.hook == "prerouting" and c.rules for c in other.chains.values())
        lines = [f"{one.name}: {element_text(one, element)}" for one in maps for element in islice(one.elements(), 2)]
        found.append(
            KubeProxyTable(
                family,
                sum(len(one.exact) + len(one.ranged) for one in maps),
                table.raw.get("handle"),
                hook.prio if hook else -100,
                other.raw.get("handle") if other and translates else None,
                tuple([chain_text(hook)] if hook else []) + tuple(lines[:3]),
            )
        )
    return found


def virtual_servers(servers: Sequence[VirtualServer]) -> VirtualServers:
    """IPVS from a parsed ``ipvsadm -Sn``."""
    return VirtualServers(len(servers), tuple(server.text for server in servers[:3]))


def proxy_mode(
    node: str,
    *,
    iptables: Sequence[Ruleset] | None = None,
    nft: Iterable[KubeProxyTable] | None = None,
    ipvs: VirtualServers | None = None,
    own_word: str | None = None,
    processes: Iterable[str] | None = None,
    reasons: Mapping[str, str] | None = None,
) -> ProxyMode:
    """Decide from what the node holds. None for a fact that was not collected; an empty one says that nothing is there.

    ``iptables``: every save of the node (both families, both flavours); ``processes``: command lines; ``reasons``: why
    a fact was not collected, by its name, where that is known.
    """
    commands = None if processes is None else list(processes)
    running = None if commands is None else any(_is_kube_proxy(command) for command in commands)
    tables = None if nft is None else list(nft)
    evidence: list[Evidence] = []
    found: list[Mode] = []
    proofs: dict[Mode, list[Evidence]] = {
        "iptables": _iptables(node, iptables),
        "nftables": _nftables(node, tables),
        "ipvs": _ipvs(node, ipvs),
    }
    for proven, seen in proofs.items():
        if seen:
            found.append(proven)
            evidence += seen
    unseen = _unseen(iptables, nft is None, ipvs is None)
    told = [f"{name}: {reasons[name]}" if reasons and name in reasons else name for name in unseen]
    mode, why = _winner(found, tables or [], own_word, told)
    if not found:
        evidence += _nothing(node, iptables, tables, ipvs)
        why += _others(commands)
    if running is False and found:
        why += "; kube-proxy itself is not running: these rules no longer follow the Services"
    if own_word and mode and own_word != mode:
        why += f"; kube-proxy says of itself that it is in {own_word} mode"
    leftovers = tuple(other for other in found if mode is not None and other != mode)
    return ProxyMode(mode, why, tuple(evidence), tuple(found), leftovers, own_word, running, tuple(unseen))


def _unseen(saves: Sequence[Ruleset] | None, no_nft: bool, no_ipvs: bool) -> list[str]:
    """The facts that were not collected, each by its name; the saves of the two families are two facts."""
    families = {rules.family for rules in saves or ()}
    names = {4: "iptables-save.txt", 6: "ip6tables-save.txt"}
    found = [name for family, name in names.items() if family not in families and (saves is None or saves)]
    return found + ["nft.json"] * no_nft + ["ipvs-save.txt"] * no_ipvs


def _evidence(node: str, fact: str, lines: Iterable[str], says: str) -> Evidence:
    command = FACTS[fact].command if fact in FACTS else fact
    return Evidence(FactRef(fact, node), command, tuple(lines), says)


def _service_chains(rules: Ruleset) -> list[str]:
    names = rules.tables.get("nat", ())
    return [name for name in names if name.startswith(("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-"))]


def _iptables(node: str, saves: Sequence[Ruleset] | None) -> list[Evidence]:
    found = []
    for rules in saves or ():
        chains = _service_chains(rules)
        if not chains:
            continue
        portals = rules.chain("nat", "KUBE-SERVICES")
        lines = [rules.rule(number).text for number in portals.numbers[:1]] if portals else []
        first = rules.chain("nat", chains[0])
        lines += [rules.rule(number).text for number in first.numbers[:2]] if first else []
        flavour = f" ({rules.flavour} flavour)" if rules.flavour else ""
        says = (
            f"IPv{rules.family}: {len(chains)} chains of Services in table nat{flavour}: iptables mode programmed them"
        )
        found.append(_evidence(node, rules.fact, lines, says))
    return found


def _nftables(node: str, tables: list[KubeProxyTable] | None) -> list[Evidence]:
    return [
        _evidence(
            node, "nft.json", table.lines, f"table {table.family} kube-proxy has {table.entries} entries of Services"
        )
        for table in tables or ()
        if table.entries
    ]


def _ipvs(node: str, ipvs: VirtualServers | None) -> list[Evidence]:
    if ipvs is None or not ipvs.count:
        return []
    return [
        _evidence(node, "ipvs-save.txt", ipvs.lines[:4], f"{ipvs.count} virtual servers: ipvs mode programmed them")
    ]


def _nothing(
    node: str, saves: Sequence[Ruleset] | None, tables: list[KubeProxyTable] | None, ipvs: VirtualServers | None
) -> list[Evidence]:
    """What was looked at and holds no Service."""
    found = [
        _evidence(node, rules.fact, (), "no KUBE-SVC, KUBE-SVL or KUBE-EXT chain in table nat") for rules in saves or ()
    ]
    if tables is not None:
        says = "table kube-proxy is there, its service maps are empty" if tables else "no table kube-proxy"
        found.append(_evidence(node, "nft.json", (), says))
    if ipvs is not None:
        found.append(_evidence(node, "ipvs-save.txt", (), "no virtual servers"))
    return found


def _winner(
    found: list[Mode], tables: list[KubeProxyTable], own_word: str | None, unseen: list[str]
) -> tuple[Mode | None, str]:
    if not found:
        if unseen:
            return None, f"no Service is programmed in what was collected (not collected: {'; '.join(unseen)})"
        return None, "no Service is programmed in any of the three modes"
    if len(found) == 1:
        return found[0], f"only {found[0]} has Services programmed"
    early = [mode for mode in found if mode != "ipvs"]
    rest = ", so ipvs gets only what they leave" if len(early) == 2 and "ipvs" in found else ""
    if len(early) == 1:
        return early[0], (
            f"{early[0]} and ipvs both know Services: {early[0]} translates at PREROUTING and OUTPUT (priority -100), "
            "before ipvs sees the packet at LOCAL_IN or LOCAL_OUT (-99)"
        )
    mode, why = _between_iptables_and_nftables(tables, own_word)
    return mode, why + rest


def _between_iptables_and_nftables(tables: list[KubeProxyTable], own_word: str | None) -> tuple[Mode | None, str]:
    table = next((table for table in tables if table.entries), None)
    both = "iptables and nftables both have Services programmed"
    if table is not None and table.priority != -100:
        mode: Mode = "nftables" if table.priority < -100 else "iptables"
        return (
            mode,
            f"{both}; kube-proxy's nat-prerouting has priority {table.priority}, iptables' -100: the lower comes first",
        )
    same = f"{both}, at the same hooks and priority (-100), where the one that was registered last is asked first"
    if table is not None and table.handle is not None and table.iptables_handle is not None:
        mode = "nftables" if table.handle > table.iptables_handle else "iptables"
        return (
            mode,
            f"{same}: table kube-proxy has handle {table.handle}, table nat {table.iptables_handle}, so {mode} wins",
        )
    if own_word in ("iptables", "nftables"):
        return (
            own_word,
            f"{same}; the order is not recorded, kube-proxy says {own_word}, so it probably registered last",
        )  # type: ignore[return-value]
    return None, f"{same}; the order is not recorded, so which one wins is unknown"


def _is_kube_proxy(command: str) -> bool:
    words = command.split()
    return any(word.rpartition("/")[2] in ("kube-proxy", "hyperkube") for word in words[:2])


def _others(commands: list[str] | None) -> str:
    seen = [name for name in _AGENTS if any(name in command for command in commands or ())]
    if seen:
        return f"; {', '.join(seen)} runs here and may translate in eBPF or by its own rules, which is not evaluated"
    return "; an eBPF data plane may translate, which none of these facts shows" if commands else ""
