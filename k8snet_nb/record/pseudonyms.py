"""New names for old, the same wherever a name occurs: in the API, in comments, in DNS answers, in command lines."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator, Mapping

__all__ = ["KEPT_NAMES", "Pseudonyms", "chain_hash"]

KEPT_NAMES = {
    "default", "kube-system", "kube-public", "kube-node-lease", "kubernetes", "kube-dns", "coredns", "kube-proxy",
    "svc", "cluster", "local", "pod", "in-addr", "ip6", "arpa", "localhost", "localdomain", "internal", "com", "net",
    "org", "io", "dev", "example",
}  # fmt: skip
"""On every cluster, or in every domain: they tell nothing."""

_UID = re.compile(
    r"(?:(?<=pod)|(?<![0-9a-fA-F]))([0-9a-f]{8})([-_])([0-9a-f]{4})\2([0-9a-f]{4})\2([0-9a-f]{4})\2([0-9a-f]{12})(?![0-9a-f])"
)
_HEX = re.compile(r"(?:(?<=pod)|(?<![0-9a-zA-Z]))([0-9a-f]{64}|[0-9a-f]{40}|[0-9a-f]{32})(?![0-9a-zA-Z])")
_INTERFACE = re.compile(
    r"(?<![a-z0-9])(veth|cali|lxc|eni|azv|tap|vnet|gke|nodelocal|tunl|dummy|br-)([0-9a-f]{4,})(?![0-9a-zA-Z])"
)
_STANDARD = re.compile(
    r"(?:lo|eth|en[ops]|bond|team|wlan|wwan|docker|cni|cbr|virbr|br|flannel|flannel-v6|vxlan|vxlan-v6|tunl|sit|ip6tnl|gre|"
    r"gretap|erspan|dummy|wg|tun|tap|ifb|kube-bridge|kube-ipvs|nodelocaldns|net|vrf|cilium_(?:host|net|vxlan|geneve|wg)|"
    r"geneve_sys|ovs-system|ovn-k8s-mp|weave|kube-dummy-if|antrea-gw|antrea-tun|vxlan_sys_|lxc_health)"
    r"(?:[0-9._a-f]|calico|(?<=[0-9])[spnfdv](?=[0-9]))*"
)
_POD_KIND = re.compile(r"veth|cali|lxc|eni|azv|tap|vnet|gke")
_WORD = re.compile(r"(?<![\w.-])[\w.-]{1,15}(?![\w-]|\.\w)")


def chain_hash(text: str, length: int) -> str:
    """The hash in the name of a kube-proxy chain: base32 of SHA-256, cut.

    Source: kubernetes pkg/proxy/iptables (portProtoHash, servicePortEndpointChainName), pkg/proxy/nftables.
    """
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode()[:length]


class Pseudonyms:
    """Names by their old ones. Words that are not known get a keyed one when they are asked for."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._names: dict[str, str] = {}
        self._old: set[str] = set()
        self._frozen: dict[str, str] = {}
        self._interfaces: dict[str, str] = {}

    def begin_with(self, names: Mapping[str, str]) -> None:
        """Names that were given before, in the same recording: they stay what they are."""
        self._frozen = dict(names)
        self._names.update(names)

    @property
    def given(self) -> dict[str, str]:
        """Every new name by its old one: with this a recording can be read back, so it is not for its readers."""
        return dict(self._names)

    def learn(self, kind: str, names: Iterable[str]) -> None:
        """Give every name a number of its kind, in a keyed order. A name keeps the one that it got first."""
        new = sorted({name for name in names if name and name not in self._names and name not in KEPT_NAMES})
        self._old.update(new)
        numbers = [value.removeprefix(f"{kind}-").rstrip("x") for value in self._names.values()]
        start = max((int(number) for number in numbers if number.isdecimal()), default=0)
        for number, name in enumerate(sorted(new, key=lambda name: self.digest(name, 16)), start + 1):
            self._names[name] = f"{kind}-{number}"

    def settle(self) -> None:
        """Once all is learnt: no new name may be an old one of something else."""
        fresh = {old: new for old, new in self._names.items() if old not in self._frozen}
        while taken := self._old & set(fresh.values()):
            fresh = {old: f"{new}x" if new in taken else new for old, new in fresh.items()}
        self._names.update(fresh)

    def known(self, name: str) -> bool:
        """Whether it is a name of the cluster."""
        return name in self._names or name in KEPT_NAMES

    def name(self, name: str, kind: str = "name") -> str:
        """The new name; for one that is not known a keyed word of that kind."""
        if not name or name in KEPT_NAMES:
            return name
        return self._names.get(name) or f"{kind}-{self.digest(f'{kind} {name}', 8)}"

    def old(self) -> Iterator[str]:
        """Every old name, for a test of what is left of them."""
        yield from self._names

    def digest(self, text: str, length: int) -> str:
        """Keyed hex digits: the same for the same text, and nobody can try guesses on them."""
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()[:length]

    def base32(self, text: str, length: int) -> str:
        """The same as base32, as chains have it."""
        return base64.b32encode(hmac.new(self._key, text.encode(), hashlib.sha256).digest()).decode()[:length]

    def marks(self, text: str) -> str:
        """A text with every uid, container id, config hash and pod's interface name replaced, shape kept."""
        text = _UID.sub(lambda m: self._uid(m), text)
        text = _HEX.sub(lambda m: self.digest(m[1], 64)[: len(m[1])], text)
        return _INTERFACE.sub(lambda m: m[1] + self.digest(f"interface {m[0]}", 64)[: len(m[2])], text)

    def learn_interfaces(self, names: Iterable[str]) -> None:
        """Names of interfaces that a node or pod has: those that are not in general use get a keyed one."""
        for name in names:
            if (new := self.interface(name)) != name:
                self._interfaces[name] = new

    def interface(self, name: str) -> str:
        """The new name of an interface; ``cali+`` (iptables' way to say all that begin so) keeps its end."""
        bare = name.rstrip("+*")
        marked = self.marks(name)
        if marked != name or _STANDARD.fullmatch(bare) or _POD_KIND.fullmatch(bare) or len(bare) < 2:
            return marked
        return f"if{self.digest(f'interface {bare}', 8)}{name[len(bare) :]}"

    def learnt_interface(self, name: str) -> str:
        """The new name of what may be an interface, where it is known as one."""
        return self._interfaces.get(name) or self.marks(name)

    def interfaces(self, text: str) -> str:
        """A text with every interface's name replaced."""
        return _WORD.sub(lambda m: self._interfaces.get(m[0], m[0]), text) if self._interfaces else text

    def _uid(self, found: re.Match[str]) -> str:
        plain = "-".join(found.group(1, 3, 4, 5, 6))
        digits = self.digest(plain, 32)
        return found[2].join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    def domain(self, name: str) -> str:
        """A domain name, label by label; well-known labels and service labels (_tcp) stay."""
        return ".".join(
            part if part.startswith("_") or part == "*" else self.name(part, "label") for part in name.split(".")
        )
