"""Rules and sets under new names: chains, comments, addresses, interfaces; counters, ports and order stay."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ..text import socket_text
from .addresses import AddressMap
from .iptables_ranges import without_ranges
from .pseudonyms import Pseudonyms, chain_hash

__all__ = ["Endpoint", "RuleRedaction", "ServicePort"]

ServicePort = tuple[str, str, str, str]
"""Namespace, Service, port's name, protocol in lower case."""
Endpoint = tuple[str, int]

_KUBE_CHAIN = re.compile(r"KUBE-(SVC|SEP|SVL|EXT|FW|XLB)-([A-Z2-7]{16})")
_NFT_CHAIN = re.compile(r"(@?(?:[a-z]+-)+)([A-Z2-7]{8})-([^/\s]+)/([^/\s]+)/(tcp|udp|sctp)/([^_\s]*)(?:__(\S+)/(\d+))?")
_QUALIFIED = re.compile(r"(?<![\w.-])([a-z0-9](?:[a-z0-9-]*[a-z0-9])?)/([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?=[:\s\"]|$)")
_OWN = re.compile(r"(?:KUBE|cali|CNI|FLANNEL|CILIUM|OLD_CILIUM|DOCKER|WEAVE|ANTREA|IP6?TABLES)\b|(?:KUBE|CNI|DOCKER)-")
_INTERFACE = re.compile(r"((?:^|\s)(?:-[io]|--(?:in|out)-interface|--physdev-(?:in|out)) )(\S+)")
_ENTRY = re.compile(r"(^[^ ,]+,(?:physdev:)?)([^ ,]+)")
_BUILT_IN = {"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING", "ACCEPT", "DROP", "RETURN", "REJECT", "DNAT",
             "SNAT", "MASQUERADE", "MARK", "CONNMARK", "LOG", "NFLOG", "CT", "NOTRACK", "TCPMSS", "REDIRECT", "TPROXY",
             "SET", "TRACE", "QUEUE", "NFQUEUE", "CHECKSUM", "CLASSIFY", "AUDIT", "NETMAP", "TOS", "DSCP", "TTL",
             "HL"}  # fmt: skip
_KNOWN_COMMENTS = re.compile(
    r"kubernetes (?:load balancer firewall|health check service ports|externally-visible service portals|"
    r"forwarding (?:rules|conntrack rule)|service portals|postrouting rules|service traffic requiring SNAT|"
    r"service nodeports.*|service local.*|endpoints dst ip.*|Services? .*)|block incoming localnet connections|"
    r"Kubernetes (?:Services?|endpoints|nodeport|service) .*|masquerade.*|mark MASQ.*|"
    r"Active ClusterIPs|ClusterIP, ExternalIP and LoadBalancer IP traffic|Drop traffic to unallocated ClusterIPs|"
    r"IPs that accept NodePort traffic|NodePort traffic|Reject traffic to invalid ports of ClusterIPs|"
    r"destinations that are subject to LoadBalancerSourceRanges|helper for @no-endpoint-services / "
    r"@no-endpoint-nodeports|rules for kube-proxy|service hairpin connections|short-circuit (?:local|pod) traffic|"
    r"vmap to drop or reject packets to services? (?:nodeports )?with no endpoints"
)
"""Comments of kube-proxy and the kubelet that name nothing of the cluster."""
TABLES = {"filter", "nat", "mangle", "raw", "security", "kube-proxy", "calico", "cilium", "route"}


_STANDARD = frozenset(
    "cluster-ips cluster-ips-check filter-forward filter-input filter-output filter-output-post-dnat "
    "filter-output-pre-dnat filter-prerouting filter-prerouting-pre-dnat firewall-check firewall-ips "
    "hairpin-connections mark-for-masquerade masquerading nat-output nat-postrouting nat-prerouting "
    "no-endpoint-nodeports no-endpoint-services nodeport-endpoints-check nodeport-ips "
    "reject-chain service-endpoints-check service-ips service-nodeports services".split()
)
"""Chains, sets and maps that kube-proxy has on every node in nftables mode."""


class RuleRedaction:
    """Redacts iptables-save and ipset text; :mod:`.redact_nft` uses its chains and comments."""

    def __init__(self, names: Pseudonyms, addresses: AddressMap) -> None:
        self.names, self.addresses = names, addresses
        self._hashes: dict[str, str] = {}

    def learn(self, ports: Mapping[ServicePort, Iterable[Endpoint]]) -> None:
        """Compute the hashes that chains of these Services and endpoints have, and those of their new names."""
        for (namespace, service, port, protocol), endpoints in ports.items():
            old = f"{namespace}/{service}" + (f":{port}" if port else "") + protocol
            new = f"{self.names.name(namespace)}/{self.names.name(service)}" + (f":{port}" if port else "") + protocol
            self._hashes[chain_hash(old, 16)] = chain_hash(new, 16)
            for address, number in endpoints:
                mapped = self.addresses.address(address)
                self._hashes[chain_hash(old + socket_text(address, number), 16)] = chain_hash(
                    new + socket_text(mapped, number), 16
                )

    def chain(self, name: str) -> str:
        """The new name of a chain, set or map."""
        found = _KUBE_CHAIN.fullmatch(name)
        if found is not None:
            return f"KUBE-{found[1]}-{self._hashes.get(found[2]) or self.names.base32(found[2], 16)}"
        found = _NFT_CHAIN.fullmatch(name)
        if found is not None:
            return self._nft_chain(found)
        if name.startswith("CNI-"):
            return f"CNI-{self.names.digest(name, 24)}"
        if name.startswith("cali-") and not name.isupper():
            return self._cali(name)
        if name in _BUILT_IN or name in _STANDARD or _OWN.match(name) or name.upper() in _BUILT_IN:
            return name
        return f"chain-{self.names.digest(f'chain {name}', 8)}"

    def named(self, name: str) -> str:
        """The new name of a table's chain, set, map or other object."""
        return name if name in TABLES else self.chain(name)

    def table(self, name: str) -> str:
        """The new name of a table."""
        return name if name in TABLES or name.startswith("cni") else f"table-{self.names.digest(name, 8)}"

    def _cali(self, name: str) -> str:
        # cali-<kind>-<name or hash>: the kind says what it is for, the rest is of a policy, profile or interface
        parts = name.split("-")
        if len(parts) < 3:
            return name
        rest = "-".join(parts[2:])
        marked = self.names.marks(rest)
        return "-".join([*parts[:2], marked if marked != rest else self.names.digest(rest, 12)])

    def _nft_chain(self, found: re.Match[str]) -> str:
        kind, _, namespace, service, protocol, port, address, number = found.groups()
        told = f"{self.names.name(namespace)}/{self.names.name(service)}/{protocol}/{port}"
        if address:
            told += f"__{self._nft_address(address)}/{number}"
        return f"{kind}{chain_hash(told, 8)}-{told}"

    def _nft_address(self, text: str) -> str:
        if "." in text and ":" not in text and text.count(".") > 3:  # IPv6 with dots for colons, as chains have it
            return self.addresses.address(text.replace(".", ":")).replace(":", ".")
        return self.addresses.address(text)

    def comment(self, text: str) -> str:
        """A comment: kube-proxy's with its names mapped; one of another program only as a mark."""
        known = False

        def renamed(found: re.Match[str]) -> str:
            nonlocal known
            if not (self.names.known(found[1]) and self.names.known(found[2])):
                return found.group()
            known = True
            return f"{self.names.name(found[1])}/{self.names.name(found[2])}"

        told = _QUALIFIED.sub(renamed, text)
        if text.startswith("cali:"):
            return f"cali:{self.names.digest(text, 16)}"
        if not known and not _KNOWN_COMMENTS.fullmatch(text):
            return f"comment-{self.names.digest(f'comment {text}', 8)}"
        return self.addresses.text(self.names.marks(told))

    def iptables(self, text: str) -> str:
        """``iptables-save`` of any flavour. Raises ValueError for a translation to a range that is no network."""
        return "\n".join(self._line(line) for whole in text.split("\n") for line in without_ranges(whole))

    def _line(self, line: str) -> str:
        if line.startswith(("#", "*", "COMMIT")) or not line:
            return line
        if line.startswith(":"):
            name, _, rest = line[1:].partition(" ")
            return f":{self.chain(name)} {rest}"
        pieces = re.split(r'(--comment (?:"(?:[^"\\]|\\.)*"|\S+))', line)
        return "".join(self._comment_option(p) if p.startswith("--comment ") else self._options(p) for p in pieces)

    def _comment_option(self, piece: str) -> str:
        said = piece.removeprefix("--comment ")
        told = self.comment(said.strip('"'))
        quoted = said.startswith('"') or " " in told
        return f'--comment "{told}"' if quoted else f"--comment {told}"

    def _options(self, piece: str) -> str:
        def chain(found: re.Match[str]) -> str:
            return found[1] + self.chain(found[2])

        def a_set(found: re.Match[str]) -> str:
            return found[1] + self.set_name(found[2])

        piece = re.sub(r"((?:^|[\s\]])-[Ajg] |--(?:jump|goto|name) )(\S+)", chain, piece)
        piece = _INTERFACE.sub(lambda found: found[1] + self.names.interface(found[2]), piece)
        piece = re.sub(r"(--(?:match-set|add-set|del-set) )(\S+)", a_set, piece)
        piece = re.sub(r"(--(?:nflog-prefix|log-prefix) )(\"[^\"]*\"|\S+)", r'\1"prefix"', piece)
        return self.addresses.strict(self.names.marks(piece))

    def set_name(self, name: str) -> str:
        """The new name of an ipset."""
        return name if name.startswith("KUBE-") else f"set-{self.names.digest(f'set {name}', 8)}"

    def ipset(self, text: str) -> str:
        """``ipset save``. Raises ValueError for a ``bitmap:ip`` over a range that is no network."""
        lines, with_interface = [], set[str]()
        for line in text.split("\n"):
            words = line.split(" ", 2)
            if words[0] == "create" and line.split(" ")[2:3] == ["hash:net,iface"]:
                with_interface.add(words[1])
            if words[0] == "add" and len(words) == 3 and words[1] in with_interface:
                words[2] = _ENTRY.sub(lambda found: found[1] + self.names.interface(found[2]), words[2], count=1)
            if len(words) > 1 and words[0] in ("create", "add"):
                words[1] = self.set_name(words[1])
            told = re.sub(r'comment "([^"]*)"', lambda m: f'comment "{self.comment(m[1])}"', " ".join(words))
            lines.append(self.addresses.strict(self.names.marks(self.names.interfaces(told))))
        return "\n".join(lines)
