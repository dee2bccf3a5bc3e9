"""What a recorded iptables rule may consist of: a closed list of matches, targets and options, and their values.

Everything that iptables-restore would take beyond it (``--modprobe``, a library by its path, a file to read) is not in
the list, so a rule with it is not loaded. Names and spelling are those that iptables-save prints
(iptables-extensions(8)).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from ipaddress import ip_address, ip_network

from ...parse.iptables_rule import Match, Option, Rule, split_words

__all__ = ["TABLES", "chain_problem", "is_prefix", "is_range", "rule_problem"]

TABLES: Mapping[str, frozenset[str]] = {
    "filter": frozenset(("INPUT", "FORWARD", "OUTPUT")),
    "nat": frozenset(("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING")),
    "mangle": frozenset(("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")),
    "raw": frozenset(("PREROUTING", "OUTPUT")),
    "security": frozenset(("INPUT", "FORWARD", "OUTPUT")),
}
"""Tables with their built-in chains, the same in both families and flavours."""

_PROTOCOLS = frozenset(
    "tcp udp udplite sctp dccp icmp ipv6-icmp icmpv6 igmp ipencap ipv6 gre esp ah ospf pim vrrp mobility-header all"
    " ipip hopopt ipv6-route ipv6-frag ipv6-nonxt ipv6-opts l2tp mptcp".split()
)


def _like(pattern: str) -> Callable[[str], object]:
    return re.compile(pattern, re.ASCII).fullmatch


@lru_cache(maxsize=65536)
def is_prefix(text: str) -> bool:
    """An address or a prefix, without a zone."""
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return "%" not in text


def is_range(text: str) -> bool:
    """One address or two with a dash between them."""
    ends = text.split("-")
    try:
        return len(ends) <= 2 and "%" not in text and all(map(ip_address, ends))
    except ValueError:
        return False


_NAT_PORT = re.compile(r"\d{1,5}(?:-\d{1,5}(?:/\d{1,5})?)?", re.ASCII)


@lru_cache(maxsize=65536)
def _nat_to(text: str) -> bool:
    """ADDRESS[-ADDRESS][:PORT[-PORT[/BASE]]], an IPv6 address in brackets where a port follows."""
    if text.startswith("["):
        addresses, closed, port = text[1:].partition("]")
        colon, port = port[:1], port[1:]
        if not closed or colon not in ("", ":") or not addresses:
            return False
    else:
        addresses, colon, port = (text, "", "") if text.count(":") > 1 else text.partition(":")
    return (not addresses or is_range(addresses)) and bool(_NAT_PORT.fullmatch(port) if colon else addresses)


_VALUES: Mapping[str, Callable[[str], object]] = {
    "TEXT": lambda text: len(text.encode(errors="replace")) <= 255,
    "LABEL": lambda text: len(text.encode(errors="replace")) <= 63,
    "NAME": _like(r"[A-Za-z0-9_][A-Za-z0-9_.:+@-]{0,30}"),
    "NUM": _like(r"\d{1,20}"),
    "REAL": _like(r"\d{1,3}\.\d{1,20}|\d{1,3}"),
    "NUMS": _like(r"\d{1,20}(?:[:/-]\d{1,20})?"),
    "LIST": _like(r"\d{1,10}(?:[:-]\d{1,10})?(?:,\d{1,10}(?:[:-]\d{1,10})?)*"),
    "MARK": _like(r"(?:0x[0-9a-fA-F]{1,8}|\d{1,10})(?:/(?:0x[0-9a-fA-F]{1,8}|\d{1,10}))?"),
    "CLASS": _like(r"[0-9a-fA-F]{1,4}:[0-9a-fA-F]{1,4}"),
    "WORD": _like(r"[a-z][a-z0-9-]{0,40}"),
    "STATES": _like(r"[A-Z_]{2,20}(?:,[A-Z_]{2,20}){0,20}"),
    "DIRS": _like(r"(?:src|dst)(?:,(?:src|dst)){0,5}"),
    "MODES": _like(r"(?:src|dst)(?:ip|port)(?:,(?:src|dst)(?:ip|port)){0,3}"),
    "PORT": _like(r"\d{1,5}|\d{0,5}:\d{0,5}"),
    "PORTS": _like(r"\d{1,5}(?::\d{1,5})?(?:,\d{1,5}(?::\d{1,5})?){0,14}"),
    "TOPORTS": _like(r"\d{1,5}(?:-\d{1,5})?(?:/\d{1,5})?"),
    "NET": is_prefix,
    "RANGE": is_range,
    "NATTO": _nat_to,
    "IFACE": _like(r"(?![-+])[A-Za-z0-9._@:-]{1,15}|(?!-)[A-Za-z0-9._@:-]{0,14}\+"),
    "PROTO": lambda text: text in _PROTOCOLS or (text.isascii() and text.isdigit() and int(text) < 256),
    "RATE": _like(r"\d{1,10}(?:kb|mb|b)?/(?:s|sec|second|m|min|minute|h|hour|d|day)"),
    "MAC": _like(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}"),
    "ICMP": _like(r"\d{1,3}(?:/\d{1,3})?|any|[a-z][a-z-]{2,30}"),
    "MASKED": _like(r"(?:0x[0-9a-fA-F]{1,2}|\d{1,3})(?:/(?:0x[0-9a-fA-F]{1,2}|\d{1,3}))?"),
}

Options = Mapping[str, tuple[str, ...]]


def _spec(text: str) -> Mapping[str, Options]:
    """By module: option -> the kinds of its values; a line a module, continued where it begins with a blank."""
    specs: dict[str, dict[str, tuple[str, ...]]] = {}
    options: dict[str, tuple[str, ...]] = {}
    for line in text.strip("\n").splitlines():
        words = line.split()
        if not line.startswith(" "):
            options = specs.setdefault(words.pop(0), {})
        option = ""
        for word in words:
            if word.startswith("-"):
                option = word
                options[option] = ()
            else:
                options[option] += (word,)
    return specs


_IP: Options = _spec("ip -s NET -d NET -p PROTO -i IFACE -o IFACE -f")["ip"]

_MATCHES = _spec("""
addrtype --src-type STATES --dst-type STATES --limit-iface-in --limit-iface-out
comment --comment TEXT
connbytes --connbytes NUMS --connbytes-dir WORD --connbytes-mode WORD
connlimit --connlimit-upto NUM --connlimit-above NUM --connlimit-mask NUM --connlimit-saddr --connlimit-daddr
connmark --mark MARK
conntrack --ctstate STATES --ctstatus STATES --ctproto PROTO --ctorigsrc NET --ctorigdst NET --ctreplsrc NET
  --ctrepldst NET --ctorigsrcport PORT --ctorigdstport PORT --ctreplsrcport PORT --ctrepldstport PORT
  --ctdir STATES --ctexpire NUMS
dscp --dscp MASKED
hashlimit --hashlimit-upto RATE --hashlimit-above RATE --hashlimit-burst NUM --hashlimit-mode MODES
  --hashlimit-name NAME --hashlimit-htable-size NUM --hashlimit-htable-max NUM --hashlimit-htable-expire NUM
  --hashlimit-htable-gcinterval NUM --hashlimit-srcmask NUM --hashlimit-dstmask NUM
hl --hl-eq NUM --hl-lt NUM --hl-gt NUM
icmp --icmp-type ICMP
icmp6 --icmpv6-type ICMP
iprange --src-range RANGE --dst-range RANGE
length --length NUMS
limit --limit RATE --limit-burst NUM
mac --mac-source MAC
mark --mark MARK
multiport --sports PORTS --dports PORTS --ports PORTS
nfacct --nfacct-name NAME
owner --uid-owner NUMS --gid-owner NUMS --socket-exists
physdev --physdev-in IFACE --physdev-out IFACE --physdev-is-in --physdev-is-out --physdev-is-bridged
pkttype --pkt-type WORD
policy --dir WORD --pol WORD --strict --reqid NUM --proto PROTO --mode WORD
recent --name NAME --set --rcheck --update --remove --seconds NUM --reap --hitcount NUM --rttl --mask RANGE
  --rsource --rdest
rpfilter --loose --validmark --accept-local --invert
sctp --sport PORT --dport PORT
set --match-set NAME DIRS --return-nomatch --update-counters --update-subcounters
socket --transparent --nowildcard --restore-skmark
state --state STATES
statistic --mode WORD --probability REAL --every NUM --packet NUM
tcp --sport PORT --dport PORT --tcp-flags STATES STATES --tcp-option NUM --syn
tcpmss --mss NUMS
tos --tos MASKED
ttl --ttl-eq NUM --ttl-lt NUM --ttl-gt NUM
udp --sport PORT --dport PORT
udplite --sport PORT --dport PORT
""")

_TARGETS = _spec("""
ACCEPT
DROP
RETURN
CHECKSUM --checksum-fill
CLASSIFY --set-class CLASS
CONNMARK --set-xmark MARK --set-mark MARK --save-mark --restore-mark --nfmask MARK --ctmask MARK --mask MARK
CT --notrack --zone NUM --zone-orig NUM --zone-reply NUM
DNAT --to-destination NATTO --random --persistent
DSCP --set-dscp MASKED
HL --hl-set NUM --hl-dec NUM --hl-inc NUM
LOG --log-level NUM --log-prefix LABEL --log-tcp-sequence --log-tcp-options --log-ip-options --log-uid --log-macdecode
MARK --set-xmark MARK --set-mark MARK
MASQUERADE --to-ports TOPORTS --random --random-fully
NETMAP --to NET
NFLOG --nflog-group NUM --nflog-prefix LABEL --nflog-range NUM --nflog-size NUM --nflog-threshold NUM
NFQUEUE --queue-num NUM --queue-balance NUMS --queue-bypass --queue-cpu-fanout
NOTRACK
REDIRECT --to-ports TOPORTS --random
REJECT --reject-with WORD
SET --add-set NAME DIRS --del-set NAME DIRS --map-set NAME DIRS --exist --timeout NUM
SNAT --to-source NATTO --random --random-fully --persistent
TCPMSS --set-mss NUM --clamp-mss-to-pmtu
TOS --set-tos MASKED
TRACE
TTL --ttl-set NUM --ttl-dec NUM --ttl-inc NUM
""")

_NO_LISTENER = {
    "QUEUE": "it hands packets to a program that the twin does not run, so they would be lost",
    "NFQUEUE": "it hands packets to a program that the twin does not run, so they would be lost (no --queue-bypass)",
    "TPROXY": "it hands packets to a proxy that the twin does not run, so they would be lost",
}

_SEPARATE = re.compile(
    r"""(?:\[\d{1,20}:\d{1,20}\][ ])?WORD(?:[ ]{1,3}WORD)*[ ]?""".replace(
        "WORD", r"""(?:[!#-&(-\[\]-~]+|"(?:[^"\\]|\\["'\\])*")"""
    )
)
"""Words with blanks between them, whole words in quotes: here iptables-restore and this kit cut a line alike."""
_LONGEST_LINE = 2000  # iptables-restore cuts lines at 10,239 bytes, and words at 1,023
_CHAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:+@-]{0,27}", re.ASCII)
_HEAD = re.compile(r":\S+ \S+(?: \[\d{1,20}:\d{1,20}\])?", re.ASCII)


def chain_problem(table: str, name: str, policy: str | None, head: str) -> str | None:
    """Why a chain cannot be made; None when it can."""
    if not _HEAD.fullmatch(head):
        return "it is not declared as iptables-save does"
    if (name in TABLES[table]) != (policy is not None):
        return "only a built-in chain has a policy"
    if policy is not None:
        return None if policy in ("ACCEPT", "DROP") else f"{policy} is no policy"
    if name in _TARGETS or name in _NO_LISTENER:
        return "it has the name of a target"
    return None if _CHAIN.fullmatch(name) else "its name is none that iptables takes, or that this kit trusts"


def rule_problem(rule: Rule, chains: frozenset[str], family: int) -> str | None:
    """Why a rule is not loaded; None when every word of it is known. ``chains``: the user's own that are made."""
    if rule.problem:
        return rule.problem
    if len(rule.line) > _LONGEST_LINE or not rule.line.isprintable() or not _SEPARATE.fullmatch(rule.line):
        return "iptables-restore might read it in another way than this kit does"
    if [word for word, _ in split_words(rule.text)] != _spelt(rule):
        return "it is not spelt as iptables-save spells it"
    for match in rule.matches:
        known = _IP if match is rule.matches[0] and match.module == "ip" else _MATCHES.get(match.module)
        if known is None:
            return f"match {match.module} is not one that the twin loads"
        if why := _options_problem(f"match {match.module}", match.options, known, family):
            return why
    return _target_problem(rule, chains, family)


def _target_problem(rule: Rule, chains: frozenset[str], family: int) -> str | None:
    name, options = rule.target, rule.target_options
    if name is None or name in chains:
        return f"chain {name} takes no options" if options else None
    bypass = any(option.name == "--queue-bypass" for option in options)
    if name in _NO_LISTENER and not bypass:
        return _NO_LISTENER[name]
    if rule.goto or name not in _TARGETS:
        return f"it goes to {name}, which is not a chain here, nor a target that the twin loads"
    return _options_problem(f"target {name}", options, _TARGETS[name], family)


def _options_problem(of: str, options: tuple[Option, ...], known: Options, family: int) -> str | None:
    for option in options:
        kinds = known.get(option.name)
        if kinds is None:
            return f"{option.name} of {of} is not an option that the twin loads"
        if len(kinds) != len(option.values):
            return f"{option.name} of {of} has not {len(kinds)} values"
        for kind, value in zip(kinds, option.values, strict=True):
            if not _VALUES[kind](value):
                return f"{value!r} is no value for {option.name} of {of}"
            if kind == "NET" and (":" in value) != (family == 6):
                return f"{value!r} is not of this family"
    return None


def _spelt(rule: Rule) -> list[str]:
    """The words of a rule, in the order in which iptables-save prints them."""
    spelt = ["-A", rule.chain]
    for number, match in enumerate(rule.matches):
        spelt += [] if number == 0 and match.module == "ip" else ["-m", match.module]
        spelt += _option_words(match)
    if rule.target is not None:
        spelt += ["-g" if rule.goto else "-j", rule.target]
        spelt += _option_words(Match("", rule.target_options))
    return spelt


def _option_words(match: Match) -> list[str]:
    return [word for o in match.options for word in (*(("!",) if o.negated else ()), o.name, *o.values)]
