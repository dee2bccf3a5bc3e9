"""New addresses for old: one keyed bijection a family, such that whoever shared a prefix before shares one after.

Each bit is flipped or not by a keyed hash of the bits before it (Xu, Fan, Ammar, Moon: Prefix-Preserving IP Address
Anonymization, ICNP 2002). The leading bits that say what kind of address it is stay: a private one stays in its block
(RFC 1918, 6598, 4193), so that pod, Service and node prefixes stay apart and inside of each other as they were.
Addresses with a meaning of their own (loopback, multicast, link-local, unspecified) stay what they are.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Callable
from functools import lru_cache

__all__ = ["ADDRESS", "AddressMap"]

_V4 = r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?:/\d{1,2})?(?![\w]|\.\d)"
_V6 = r"(?<![\w:.])(?=[0-9a-fA-F:]*:[0-9a-fA-F:]*:)[0-9a-fA-F:]{2,}(?:(?:\d{1,3}\.){3}\d{1,3})?(?:/\d{1,3})?(?![\w])"
_MAC = r"(?<![\w:])[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}(?![\w:])"
ADDRESS = re.compile(f"(?P<mac>{_MAC})|(?P<v4>{_V4})|(?P<v6>{_V6})")
"""A MAC, an IPv4 or an IPv6 address in a text, with its prefix length where it has one."""

_KEPT = [
    ipaddress.ip_network(text) for text in ("0.0.0.0/8 127.0.0.0/8 169.254.0.0/16 224.0.0.0/3 ::/127 ff00::/8".split())
]
_BLOCKS4 = [("10.0.0.0", 8), ("172.16.0.0", 12), ("192.168.0.0", 16), ("100.64.0.0", 10), ("198.18.0.0", 15)]
_BLOCKS6 = [("fd00::", 8), ("fc00::", 8), ("2000::", 3)]
_BROADCAST_MAC, _NO_MAC = "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"
_EUI = 0xFFFE << 24


class AddressMap:
    """The mapping of one recording. The key is made for it and kept nowhere."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.address = lru_cache(maxsize=None)(self._address)
        self._publics = self._shuffled_publics()

    def _bits(self, salt: str, size: int) -> int:
        digest = hmac.new(self._key, salt.encode(), hashlib.sha256).digest()
        return int.from_bytes(digest, "big") >> (256 - size)

    def text(self, text: str) -> str:
        """A text with every address in it mapped. A prefix stays a prefix: its host bits stay zero."""
        return ADDRESS.sub(self._one, text)

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
        new = ipaddress.ip_network(f"{self.address(address)}/{length}", strict=False)
        return f"{new.network_address}/{length}" if str(network.network_address) == address else f"{new}"

    def network(self, address: str, length: int) -> str:
        """The address part of ``address/length``, where the two stand apart."""
        return self.prefix(f"{address}/{length}").partition("/")[0]

    def _address(self, said: str) -> str:
        try:
            value = ipaddress.ip_address(said)
        except ValueError:
            return said
        if isinstance(value, ipaddress.IPv6Address):
            if value.ipv4_mapped is not None:
                return f"::ffff:{self.address(str(value.ipv4_mapped))}"
            return self._six(value)
        if any(value in network for network in _KEPT if network.version == 4):
            return said
        return str(ipaddress.IPv4Address(self._four(int(value))))

    def _four(self, value: int) -> int:
        for text, kept in _BLOCKS4:
            if value >> (32 - kept) == int(ipaddress.IPv4Address(text)) >> (32 - kept):
                return self._flipped(value, 32, kept)
        first = self._publics.get(value >> 24, value >> 24)
        return first << 24 | self._flipped(value, 32, 8) & 0xFFFFFF

    def _six(self, value: ipaddress.IPv6Address) -> str:
        number = int(value)
        low = number & (1 << 64) - 1
        if value in ipaddress.ip_network("ff02::1:ff00:0/104"):
            return str(ipaddress.IPv6Address(number & ~0xFFFFFF | self._low24(number & 0xFFFFFF)))
        if any(value in network for network in _KEPT if network.version == 6):
            return str(value)
        eui = (low >> 24 & 0xFFFF) == 0xFFFE
        if value.is_link_local:
            high = number >> 64
        else:
            kept = next(
                (n for text, n in _BLOCKS6 if number >> 128 - n == int(ipaddress.ip_address(text)) >> 128 - n), 16
            )
            whole = self._flipped(number, 128, kept)
            high = whole >> 64
            if not eui:
                return str(ipaddress.IPv6Address(whole))
        new = self._eui(low) if eui else low ^ self._bits("link-local", 64) if low > 0xFFFF else low
        return str(ipaddress.IPv6Address(high << 64 | new))

    def _flipped(self, value: int, size: int, kept: int) -> int:
        new = value
        for bit in range(kept, size):
            if self._bits(f"{size} {bit} {value >> (size - bit)}", 1):
                new ^= 1 << (size - bit - 1)
        return new

    def _shuffled_publics(self) -> dict[int, int]:
        """The first octets of public addresses, permuted."""
        special = {0, 10, 100, 127, 169, 172, 192, 198, *range(224, 256)}
        public = [octet for octet in range(256) if octet not in special]
        return dict(zip(public, sorted(public, key=lambda octet: self._bits(f"octet {octet}", 64)), strict=True))

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

    def _low24(self, value: int) -> int:
        return value ^ self._bits("interface", 24) if value > 0xFF else value

    def _eui(self, low: int) -> int:
        """An interface identifier made from a MAC (RFC 4291, appendix A), made from the mapped one."""
        mac = (low >> 40 ^ 1 << 17) << 24 | low & 0xFFFFFF
        new = self._unicast(mac)
        return (new >> 24 ^ 1 << 17) << 40 | _EUI | new & 0xFFFFFF


Textual = Callable[[str], str]
