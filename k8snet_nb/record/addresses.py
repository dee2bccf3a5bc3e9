"""New addresses for old: one keyed bijection a family, such that whoever shared a prefix before shares one after.

Each bit is flipped or not by a keyed hash of the bits before it (Xu, Fan, Ammar, Moon: Prefix-Preserving IP Address
Anonymization, ICNP 2002). Blocks that say what kind of address it is stay where they are (RFC 1918, 6598, 2544, 4193),
so a bit on whose both sides are such blocks is never flipped: a private address stays private, pod, Service and node
prefixes stay apart and inside of each other as they were, and of a public one the first bits stay. What has a meaning
of its own (loopback, multicast, link-local IPv4, unspecified) stays what it is.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from functools import lru_cache

__all__ = ["ADDRESS", "RANGE", "AddressMap", "Network"]

_V4 = r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?:/\d{1,2})?(?![\w]|\.\d)"
_V6 = r"(?<![\w:.])(?=[0-9a-fA-F:]*:[0-9a-fA-F:]*:)[0-9a-fA-F:]{2,}(?:(?:\d{1,3}\.){3}\d{1,3})?(?:/\d{1,3})?(?![\w])"
_MAC = r"(?<![\w:])[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}(?![\w:])"
ADDRESS = re.compile(f"(?P<mac>{_MAC})|(?P<v4>{_V4})|(?P<v6>{_V6})")
"""A MAC, an IPv4 or an IPv6 address in a text, with its prefix length where it has one."""
_ONE6 = r"[0-9a-fA-F:]*:[0-9a-fA-F:]*:[0-9a-fA-F:]*"
RANGE = re.compile(
    rf"(?<![\w.:])(?P<first>(?:\d{{1,3}}\.){{3}}\d{{1,3}}|{_ONE6})-(?P<last>(?:\d{{1,3}}\.){{3}}\d{{1,3}}|{_ONE6})(?![\w.])"
)
"""Two addresses with a hyphen between them, as iptables and ipset write a range."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Block = tuple[int, int]
"""The leading bits of a block, and how many they are."""


def _block(text: str) -> Block:
    network = ipaddress.ip_network(text)
    return int(network.network_address) >> (network.max_prefixlen - network.prefixlen), network.prefixlen


_KEPT = {
    32: [_block(text) for text in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")],
    128: [_block(text) for text in ("::/127", "ff00::/8", "fe80::/10")],
}
_KINDS = {
    32: [_block(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15")],
    128: [_block(text) for text in ("fd00::/8", "fc00::/8", "2000::/3", "64:ff9b::/96", "::ffff:0:0/96")],
}
_GROUPS = ipaddress.ip_network("ff02::1:ff00:0/104")
"""Solicited-node multicast (RFC 4291, 2.7.1): its last 24 bits are a host's."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_BROADCAST_MAC, _NO_MAC = "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"
_EUI = 0xFFFE << 24
_ROUNDS = 8


class AddressMap:
    """The mapping of one recording. The key is made for it and is not in it."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.address = lru_cache(maxsize=None)(self._address)
        self._flips = lru_cache(maxsize=1 << 16)(self._flips_after)
        self._fixed = {size: _ancestors([*_KEPT[size], *_KINDS[size]]) for size in (32, 128)}

    def _bits(self, salt: str, size: int) -> int:
        digest = hashlib.blake2b(salt.encode(), digest_size=32, key=self._key).digest()
        return int.from_bytes(digest, "big") >> (256 - size)

    def text(self, text: str) -> str:
        """A text with every address in it mapped. A prefix stays a prefix: its host bits stay zero."""
        return ADDRESS.sub(self._one, text)

    def strict(self, text: str) -> str:
        """The same for a text in which ranges count. Raises ValueError for one that cannot stay a range."""
        pieces, at = [], 0
        for found in RANGE.finditer(text):
            pieces += [self.text(text[at : found.start()]), self.span(found["first"], found["last"])]
            at = found.end()
        return "".join([*pieces, self.text(text[at:])])

    def span(self, first: str, last: str) -> str:
        """``first-last`` of a range that is a network. Raises ValueError for any other: its image is no range."""
        found = self.networks(first, last)
        if len(found) != 1:
            raise ValueError("a range of addresses that is no network has no image that is a range")
        return f"{found[0][0]}-{found[0][-1]}"

    def _one(self, found: re.Match[str]) -> str:
        said = found.group()
        if found["mac"]:
            return self.mac(said)
        return self.prefix(said) if "/" in said else self.address(said)

    def prefix(self, said: str) -> str:
        """``address/length``: of a network the network, of a host in a network that host."""
        address, _, length = said.partition("/")
        try:
            network = ipaddress.ip_network(said)
        except ValueError:  # host bits are set, or it is none
            return f"{self.address(address)}/{length}"
        return f"{self._network(network).network_address}/{length}"

    def _network(self, network: Network) -> Network:
        if network.prefixlen == network.max_prefixlen:
            return ipaddress.ip_network(self.address(str(network.network_address)))
        size, value = network.max_prefixlen, int(network.network_address)
        mapped = self._flipped(value, size, network.prefixlen)
        return type(network)((mapped, network.prefixlen))

    def network(self, address: str, length: int) -> str:
        """The address part of ``address/length``, where the two stand apart."""
        return self.prefix(f"{address}/{length}").partition("/")[0]

    def networks(self, first: str, last: str) -> list[Network]:
        """The networks that hold what becomes of the addresses ``first`` to ``last``, and nothing else.

        A range is not one any more, as the order is lost. Raises ValueError for what is no range of one family.
        """
        ends = ipaddress.ip_address(first), ipaddress.ip_address(last)
        pieces = ipaddress.summarize_address_range(*ends)
        return list(ipaddress.collapse_addresses(map(self._network, pieces)))  # type: ignore[type-var]

    def _address(self, said: str) -> str:
        try:
            value = ipaddress.ip_address(said)
        except ValueError:
            return said
        if isinstance(value, ipaddress.IPv4Address):
            return str(ipaddress.IPv4Address(self._flipped(int(value), 32, 32)))
        if value.scope_id is not None:
            return f"{self.address(said.partition('%')[0])}%{value.scope_id}"
        if value.ipv4_mapped is not None:
            return f"::ffff:{self.address(str(value.ipv4_mapped))}"
        if value in _NAT64:
            four = ipaddress.IPv4Address(int(value) & 0xFFFFFFFF)
            return str(_NAT64[int(ipaddress.IPv4Address(self.address(str(four))))])
        return str(ipaddress.IPv6Address(self._six(value)))

    def _six(self, value: ipaddress.IPv6Address) -> int:
        number = int(value)
        low = number & (1 << 64) - 1
        if value in _GROUPS:
            return number & ~0xFFFFFF | self._low24(number & 0xFFFFFF)
        if number >> 120 == 0xFF or number < 2:
            return number
        eui = (low >> 24 & 0xFFFF) == 0xFFFE
        if not value.is_link_local and not eui:
            return self._flipped(number, 128, 128)
        high = number >> 64 if value.is_link_local else self._flipped(number, 128, 64) >> 64
        return high << 64 | (self._eui(low) if eui else self._interface(low))

    def _flipped(self, value: int, size: int, length: int) -> int:
        """The first ``length`` bits of ``size`` mapped, the others zero."""
        new = value >> (size - length) << (size - length)
        if any(value >> (size - bits) == block for block, bits in _KEPT[size]):
            return new
        for octet in range(-(-length // 8)):
            flips, node = self._flips(size, octet, value >> (size - 8 * octet)), 1
            for bit in range(8 * octet, min(8 * octet + 8, length)):
                below = size - bit - 1
                if flips >> node & 1 and (value >> (below + 1), bit) not in self._fixed[size]:
                    new ^= 1 << below
                node = node << 1 | value >> below & 1
        return new

    def _flips_after(self, size: int, octet: int, before: int) -> int:
        """Whether to flip each bit of an octet: a tree of 255 answers, numbered as a heap is, under one hash."""
        return self._bits(f"{size} {octet} {before}", 256)

    def mac(self, said: str) -> str:
        """A unicast MAC becomes a locally administered one; group addresses stay, but for the bits of a host."""
        value = int(said.replace(":", ""), 16)
        if said.lower() in (_BROADCAST_MAC, _NO_MAC):
            return said
        if value >> 40 & 1:
            if value >> 24 == 0x3333FF:
                value = value & ~0xFFFFFF | self._low24(value & 0xFFFFFF)
            elif value >> 24 == 0x01005E and value & 0xFFFF00:
                value = value & ~0x7FFFFF | self._bits(f"group {value}", 23)
        else:
            value = self._unicast(value)
        return ":".join(f"{byte:02x}" for byte in value.to_bytes(6, "big"))

    def _unicast(self, value: int) -> int:
        # the last 24 bits are mapped alone: solicited-node groups are made of them (RFC 4291, 2.7.1)
        high = self._bits(f"vendor {value >> 24}", 24) & ~(1 << 16) | 1 << 17
        return high << 24 | self._low24(value & 0xFFFFFF)

    def _interface(self, low: int) -> int:
        """An interface identifier that is not made from a MAC; small ones (``fe80::1``) were chosen, and stay."""
        return low if low <= 0xFFFF else self._shuffled("interface", low >> 24, 40) << 24 | self._low24(low & 0xFFFFFF)

    def _low24(self, value: int) -> int:
        if value <= 0xFF:
            return value
        while (value := self._shuffled("host", value, 24)) <= 0xFF:
            pass
        return value

    def _shuffled(self, salt: str, value: int, size: int) -> int:
        """A keyed permutation of the numbers of an even number of bits: a Feistel network.

        Not a mask: MACs are often made of IP addresses (0a:58 and the address), whose differences would show.
        """
        half = size // 2
        mask = (1 << half) - 1
        left, right = value >> half, value & mask
        for turn in range(_ROUNDS):
            left, right = right, left ^ self._bits(f"{salt} {turn} {right}", half)
        return left << half | right

    def _eui(self, low: int) -> int:
        """An interface identifier made from a MAC (RFC 4291, appendix A), made from the mapped one."""
        mac = (low >> 40 ^ 1 << 17) << 24 | low & 0xFFFFFF
        new = self._unicast(mac)
        return (new >> 24 ^ 1 << 17) << 40 | _EUI | new & 0xFFFFFF


def _ancestors(blocks: list[Block]) -> frozenset[Block]:
    """Every prefix that has one of the blocks on one of its two sides: (bits, how many)."""
    return frozenset((block >> (bits - length), length) for block, bits in blocks for length in range(bits))
