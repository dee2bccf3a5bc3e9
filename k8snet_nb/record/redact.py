"""Redaction: a recording that says the same about its network, and nothing about whose it is.

Names and addresses are mapped consistently, so that every answer of the kit stays the same up to the mapping. The key
is random and kept nowhere: two redactions of one recording cannot be joined, and nobody can try guesses.
"""

from __future__ import annotations

import ipaddress
import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from ..errors import FactError, SourceError
from ..facts import FactRef
from ..sources.base import Source
from .addresses import AddressMap
from .pseudonyms import Pseudonyms
from .redact_api import ApiRedaction
from .redact_nft import redact_nft
from .redact_node import NodeRedaction
from .redact_rules import Endpoint, RuleRedaction, ServicePort

__all__ = ["Redactor"]

_TRIES = 64
_RELEASE = re.compile(r"\d[\w.+~-]{0,63}")


class Redactor:
    """The mapping of one recording; used once. ``keep_labels``: keys of labels that may stay as they are."""

    def __init__(self, keep_labels: Iterable[str] = (), key: bytes | None = None) -> None:
        self._keep = frozenset(keep_labels)
        self._fixed = key is not None
        self._selected: set[str] = set()
        self._begin(key or secrets.token_bytes(32))

    def _begin(self, key: bytes) -> None:
        self._key = key
        self.names, self.addresses = Pseudonyms(key), AddressMap(key)
        self._node = NodeRedaction(self.names, self.addresses)
        self._rules = RuleRedaction(self.names, self.addresses)
        self._api = ApiRedaction(self.names, self.addresses, self._node.prose, self._keep)

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on with the names of an interrupted recording. Raises SourceError for other labels to keep."""
        if sorted(self._keep) != state["keep"]:
            kept = ", ".join(state["keep"]) or "none"
            raise SourceError(
                f"this recording was begun with other labels to keep ({kept}): say the same, or begin anew"
            )
        self._fixed = True
        self._begin(bytes.fromhex(state["key"]))
        self._selected = set(state["selected"])
        self.names.begin_with(state["names"])

    def state(self) -> dict[str, Any]:
        """What :meth:`resume` takes. It undoes the redaction: it is for :class:`.run_key.RunKey` only."""
        return {"key": self._key.hex(), "names": self.names.given, "selected": sorted(self._api.selected),
                "keep": sorted(self._keep)}  # fmt: skip

    def learn(self, source: Source) -> None:
        """Look at the API's Lists for every name. Raises SourceError when one that holds names cannot be had."""
        lists = {}
        for resource in ("nodes", "namespaces", "pods", "services", "endpointslices", "networkpolicies"):
            try:
                lists[resource] = list(json.loads(source.read(FactRef(resource))).get("items") or ())
            except FactError as error:
                if resource in ("nodes", "pods", "services"):
                    raise SourceError(f"a redacted recording needs {resource}, to know their names: {error}") from error
                lists[resource] = []
        known = set(_addresses(lists))
        for _ in range(1 if self._fixed else _TRIES):
            # a new address that is an old one of something else would be right, and look like a leak
            if not known & {self.addresses.address(address) for address in known}:
                break
            self._begin(secrets.token_bytes(32))
        self._learn_names(lists, source.nodes())
        self._api.selected = self._selected | set(_selected(lists))
        self._rules.learn(_endpoints(lists))

    def _learn_names(self, lists: Mapping[str, list[dict[str, Any]]], nodes: Iterable[str]) -> None:
        def of(resource: str) -> list[str]:
            return [str(item["metadata"]["name"]) for item in lists[resource]]

        domains = [a["address"] for item in lists["nodes"] for a in (item.get("status") or {}).get("addresses") or ()
                   if a.get("type") in ("Hostname", "InternalDNS", "ExternalDNS")]  # fmt: skip
        hosts = [domain.split(".")[0] for domain in domains]
        self.names.learn("node", [*of("nodes"), *nodes, *hosts])
        spaces = [str(item["metadata"].get("namespace")) for items in lists.values() for item in items]
        self.names.learn("namespace", [*of("namespaces"), *(space for space in spaces if space != "None")])
        self.names.learn("service", of("services"))
        self.names.learn("pod", of("pods"))
        specs = [item.get("spec") or {} for item in lists["pods"]]
        self.names.learn(
            "host", [str(spec[key]) for spec in specs for key in ("hostname", "subdomain") if spec.get(key)]
        )
        owners = [str(one.get("name")) for items in lists.values() for item in items
                  for one in item["metadata"].get("ownerReferences") or ()]  # fmt: skip
        self.names.learn("owner", owners)
        self.names.learn("slice", of("endpointslices"))
        zones = [str(value) for item in lists["nodes"] for key, value in (item["metadata"].get("labels") or {}).items()
                 if key.endswith(("/zone", "/region"))]  # fmt: skip
        self.names.learn("zone", zones)
        self.names.learn("policy", of("networkpolicies"))
        self.names.settle()

    def ref(self, ref: FactRef) -> FactRef:
        """The place of a fact under the new names."""
        pod = "/".join(map(self.names.name, ref.pod.split("/"))) if ref.pod else None
        return FactRef(ref.fact, self.names.name(ref.node) if ref.node else None, pod)

    def text(self, text: str) -> str:
        """A message under the new names."""
        return self._node.message(text)

    def fact(self, ref: FactRef, content: bytes) -> bytes | None:
        """The fact under the new names; None for one that is of no known kind, or cannot be renamed."""
        try:
            if ref.node is None:
                return self._resource(ref.fact, content)
            make = self._makers().get(ref.fact)
            return make(content) if make is not None and content.strip() else content if make is not None else None
        except (ValueError, KeyError, TypeError, AttributeError):
            return None  # what cannot be understood cannot be shown to be harmless

    def _resource(self, resource: str, content: bytes) -> bytes:
        whole = json.loads(content)
        if resource == "version":
            kept = {key: whole[key] for key in ("major", "minor", "gitVersion", "platform") if key in whole}
            return (json.dumps(kept, indent=1) + "\n").encode()
        items = [self._api.item(resource, item) for item in whole.get("items") or ()]
        told = {"kind": whole.get("kind"), "apiVersion": whole.get("apiVersion"), "metadata": {},
                "items": [item for item in items if item is not None]}  # fmt: skip
        return (json.dumps(told, indent=1) + "\n").encode()

    def _makers(self) -> dict[str, Callable[[bytes], bytes]]:
        node, rules = self._node, self._rules

        def text(make: Callable[[str], str]) -> Callable[[bytes], bytes]:
            return lambda content: make(content.decode()).encode()

        plain = text(node.plain)
        saves = ("iptables-save.txt", "ip6tables-save.txt", "iptables-legacy-save.txt", "ip6tables-legacy-save.txt")
        tables = ("route.json", "route6.json", "rule.json", "neigh.json", "nsid.json", "fdb.json", "lsns.json")
        ipvs = ("ipvs-save.txt", "ipvs.txt", "ipvs-stats.txt", "ipvs-connections.txt")
        tracked = ("conntrack.txt", "conntrack6.txt", "conntrack-stats.txt", "conntrack-events.txt",
                   "conntrack-count.csv", "conntrack-stats-before-full.txt", "conntrack-stats-after-full.txt",
                   "count-and-max-after-full.txt", "pod.json")  # fmt: skip
        return {
            **dict.fromkeys(saves, text(rules.iptables)),
            **dict.fromkeys(tables, node.json_text),
            **dict.fromkeys(ipvs, plain),
            **dict.fromkeys(tracked, text(node.tracked)),
            "addr.json": node.addr,
            "nft.json": partial(redact_nft, rules),
            "ipset.txt": text(rules.ipset),
            "processes.json": node.processes,
            "sysctl.txt": text(node.settings),
            "sockets.txt": text(node.sockets),
            "kernel-log.txt": text(node.kernel_log),
            "resolv.conf": text(node.resolv_conf),
            "dns.jsonl": text(node.dns_log),
            "node.json": self._about,
        }

    def _about(self, content: bytes) -> bytes:
        about = json.loads(content)
        kept = ("collected", "kernel", "netns", "os_release", "tools", "kube_proxy_mode", "commands", "errors", "times",
                "told_by", "euid")  # fmt: skip
        told = {"node": self.names.name(str(about.get("node"))), **{key: about[key] for key in kept if key in about}}
        if isinstance(told.get("tools"), dict):
            told["tools"] = {key: _version(value) for key, value in told["tools"].items()}
        if isinstance(told.get("told_by"), dict):
            told["told_by"] = {key: _version(value) for key, value in told["told_by"].items()}
        if not _RELEASE.fullmatch(str(told.get("kernel"))):
            told.pop("kernel", None)
        return json.dumps(told).encode()


def _version(said: object) -> str | None:
    """A tool's word about its version, up to where it gets talkative."""
    found = re.match(r"[\w .,()#:/+-]{1,100}", str(said)) if said is not None else None
    return found.group() if found else None


def _addresses(lists: Mapping[str, list[dict[str, Any]]]) -> Iterator[str]:
    """Every address in the API's Lists."""
    waiting: list[Any] = list(lists.values())
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, str):
            try:
                address = ipaddress.ip_address(value)
            except ValueError:
                continue
            if not (address.is_loopback or address.is_unspecified or address.is_link_local or address.is_multicast):
                yield str(address)


def _selected(lists: Mapping[str, list[dict[str, Any]]]) -> Iterator[str]:
    for item in lists["services"]:
        yield from (item.get("spec") or {}).get("selector") or ()
    for item in lists["networkpolicies"]:
        waiting: list[Any] = [item.get("spec")]
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict):
                yield from value.get("matchLabels") or ()
                yield from (str(one.get("key")) for one in value.get("matchExpressions") or ())
                waiting.extend(value.values())
            elif isinstance(value, list):
                waiting.extend(value)


def _endpoints(lists: Mapping[str, list[dict[str, Any]]]) -> dict[ServicePort, list[Endpoint]]:
    """The endpoints of every Service's port, for the hashes in the names of chains."""
    found: dict[ServicePort, list[Endpoint]] = {}
    for item in lists["services"]:
        meta = item["metadata"]
        for port in (item.get("spec") or {}).get("ports") or ():
            key = (meta["namespace"], meta["name"], port.get("name") or "", (port.get("protocol") or "TCP").lower())
            found[key] = []
    for piece in lists["endpointslices"]:
        meta = piece["metadata"]
        service = (meta.get("labels") or {}).get("kubernetes.io/service-name")
        for port in piece.get("ports") or ():
            key = (meta["namespace"], service, port.get("name") or "", (port.get("protocol") or "TCP").lower())
            for endpoint in piece.get("endpoints") or ():
                for address in endpoint.get("addresses") or ():
                    if key in found and isinstance(port.get("port"), int):
                        found[key].append((address, port["port"]))
    return found
