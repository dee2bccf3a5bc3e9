"""What the text of an nft table may consist of: a closed list of words, numbers and addresses, and quoted strings.

The text is made by :mod:`..parse.nft_text` from a stranger's JSON. Before nft reads it, every word outside of quotes
is looked at: nft would follow ``include``, expand ``$``, and ask a name server for a word where an address belongs.
The words are those of nft(8).
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from functools import lru_cache
from ipaddress import ip_network

__all__ = ["NAME", "WORDS", "text_problem"]

WORDS = frozenset(
    """table chain set map element elements rule type typeof hook priority policy device devices flags size timeout
    expires auto-merge gc-interval counter quota limit comment name packets bytes used over until rate burst kbytes
    mbytes second minute hour day week packet byte ip ip6 inet arp bridge netdev nat filter route prerouting input
    forward output postrouting ingress egress dstnat srcnat raw mangle security accept drop continue return jump goto
    notrack constant interval dynamic performance memory ipv4_addr ipv6_addr ether_addr inet_proto inet_service mark
    ifname ifindex iface_index iface_type verdict ct_state ct_status ct_dir icmp_type icmpv6_type icmp_code
    icmpv6_code ether_type pkt_type fib_addrtype uid gid classid realm dscp ecn boolean time string tcp_flag ct_label
    saddr daddr sport dport protocol nexthdr l4proto nfproto length hoplimit ttl id frag-off version ihl hdrlength
    checksum sequence ackseq doff window urgptr flowlabel priority th tcp udp sctp udplite dccp icmp icmpv6 igmp esp
    ah comp gre gretap vxlan geneve vlan ether meta ct rt fib socket numgen jhash symhash random inc mod seed offset
    iif iifname iifgroup iiftype oif oifname oifgroup oiftype iifkind oifkind sdif sdifname ibrname obrname skuid
    skgid cgroup cgroupv2 rtclassid nftrace pkttype cpu secmark ibriport state direction status expiration helper
    label proto-src proto-dst original reply avgpkt zone l3proto src dst new established related untracked invalid
    expected seen-reply assured confirmed snat dnat dying local unicast broadcast anycast multicast blackhole
    unreachable prohibit unspec host other loopback addrtype check exists missing transparent wildcard maxseg sack-perm
    option exthdr hbh dst frag mh srh fin syn rst psh ack urg cwr echo-reply echo-request destination-unreachable
    source-quench redirect router-advertisement router-solicitation time-exceeded parameter-problem
    timestamp-request timestamp-reply info-request info-reply address-mask-request address-mask-reply packet-too-big
    mld-listener-query mld-listener-report mld-listener-done mld-listener-reduction nd-router-solicit
    nd-router-advert nd-neighbor-solicit nd-neighbor-advert nd-redirect router-renumbering mld2-listener-report
    net-unreachable host-unreachable prot-unreachable port-unreachable net-prohibited host-prohibited
    admin-prohibited no-route addr-unreachable policy-fail reject-route with icmpx reset reject log prefix group
    snaplen queue-threshold level emerg alert crit err warn notice info debug audit all sequence options queue bypass
    fanout num to masquerade redirect fully-random persistent map vmap add update delete over count notrack
    ipv6-icmp ipencap ipv6 ospf pim vrrp all even odd lladdr hw operation request link ll nh in and or xor not
    ppp tun tunnel sit ipip destination source type code mtu gateway max-response-time tcpmss
    """.split()
)
"""Every bare word that may stand in the text, beside names of tables, chains and sets."""

NAME = re.compile(r"[A-Za-z_.][A-Za-z0-9_./-]{0,254}", re.ASCII)
"""Names of tables, chains and sets: nft's own grammar, without the backslash."""

_TOKEN = re.compile(r'\s*("[^"]*"|@?[A-Za-z0-9_.:/+-]+|[][{}(),;=<>!&|^*])', re.ASCII)
_INTERFACE = re.compile(r'"(?!-)[A-Za-z0-9._@:-]{1,15}\*?"', re.ASCII)
_OF_INTERFACES = frozenset("iif iifname oif oifname sdif sdifname ibrname obrname ifname device devices".split())
_NAMED_BY = frozenset(("chain", "set", "map", "jump", "goto", "counter", "quota", "limit"))
_NUMBER = re.compile(r"-?\d{1,20}|0x[0-9a-fA-F]{1,128}|(?:\d{1,10}(?:ms|[wdhms])){1,6}", re.ASCII)
_RAW_PAYLOAD = re.compile(r"@(?:ll|nh|th|ih)", re.ASCII)
_UNIT = re.compile(r"(?:[kmg]?bytes|packets)?/(?:second|minute|hour|day|week)", re.ASCII)


def text_problem(text: str, names: AbstractSet[str]) -> str | None:
    """Why a piece of text is not given to nft; None when every word of it is known. ``names``: declared in its table.

    A name is taken where it follows ``chain``, ``set``, ``map``, ``jump``, ``goto`` or ``@`` and is in ``names``. A
    quoted string is taken as a comment or a prefix of a log, and as the name of an interface in a text that has to do
    with interfaces: elsewhere nft would look it up as it does with a word.
    """
    at, before, end = 0, "", len(text.rstrip())
    interfaces = False
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None:
            return f"{text[at : at + 40].strip()!r} is not something that nft's own listing has there"
        token, at = found[1], found.end()
        interfaces = interfaces or token in _OF_INTERFACES
        known = _string_known(token, before, names, interfaces) if token[0] == '"' else _known(token, before, names)
        if not known:
            return f"{token!r} is no word of nft that the twin loads"
        before = token
    return None


def _string_known(token: str, before: str, names: AbstractSet[str], interfaces: bool) -> bool:
    if before in ("comment", "prefix"):
        return token.isprintable()
    if before == "name":
        return token[1:-1] in names
    return interfaces and _INTERFACE.fullmatch(token) is not None


def _known(token: str, before: str, names: AbstractSet[str]) -> bool:
    if token in WORDS or token in ("-", "+", ".", ":") or not (token[0].isalnum() or token[0] in "@_.:/+-"):
        return True
    if token[0] == "@":
        return token[1:] in names or _RAW_PAYLOAD.fullmatch(token) is not None
    return (before in _NAMED_BY and token in names) or _value(token)


@lru_cache(maxsize=65536)
def _value(token: str) -> bool:
    """A number, an address, a prefix or a range of these, or a rate such as 5/second."""
    if _NUMBER.fullmatch(token) or _address(token):
        return True
    number, slash, unit = token.partition("/")
    if slash and (not number or number.isdigit() or number in WORDS) and _UNIT.fullmatch("/" + unit):
        return True
    parts = token.split("-")
    if len(parts) == 2 and all(_NUMBER.fullmatch(part) or _address(part) or part in WORDS for part in parts):
        return True
    host, colon, port = token.rpartition(":")  # the target of dnat
    return bool(colon) and (not host or _address(host)) and all(part.isdigit() for part in port.split("-", 1))


def _address(token: str) -> bool:
    if not token[:1].isalnum() and token[:1] != ":":
        return False
    try:
        ip_network(token, strict=False)
    except ValueError:
        return bool(re.fullmatch(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}", token, re.ASCII))
    return True
