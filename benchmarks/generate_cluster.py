"""The generated Services of :mod:`generate_rules` as a whole cluster: API objects and one node's facts, as a source."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from generate_rules import NODE, GeneratedService

from k8snet_nb.errors import FactMissing
from k8snet_nb.facts import FactRef
from k8snet_nb.sources.base import command_for

__all__ = ["GeneratedSource", "ipvs_surroundings"]

NAME = "node"
PODS = "10.128.0.0/24"


class GeneratedSource:
    """One node with the rules that are given, and the first 254 of the pods; the others are on another node."""

    name, kind = "generated", "recorded"

    def __init__(self, services: list[GeneratedService], facts: Mapping[str, bytes]) -> None:
        held = services if "ipvs-save.txt" in facts else []  # kube-ipvs0 is there in IPVS mode only
        self._facts = {"addr.json": _addresses(held), "route.json": _routes(), "node.json": b"{}"} | dict(facts)
        self._api = {
            "services": _list(map(_service, services)),
            "endpointslices": _list(map(_slice, services)),
            "pods": _list(_pod(service, i) for service in services for i in range(len(service.endpoints))),
            "nodes": _list([_node(NAME, NODE, PODS), _node("other", "192.0.2.12", "10.128.0.0/15")]),
        }

    def describe(self) -> str:
        """What this is."""
        return "a generated cluster"

    def nodes(self) -> tuple[str, ...]:
        """The one node that can be asked."""
        return (NAME,)

    def has(self, ref: FactRef) -> bool:
        """Whether it is there."""
        return ref.fact in (self._api if ref.node is None else self._facts)

    def read(self, ref: FactRef) -> bytes:
        """The generated fact."""
        if not self.has(ref):
            raise FactMissing(ref.fact, ref.where, "it was not generated")
        return (self._api if ref.node is None else self._facts)[ref.fact]

    def trouble(self, ref: FactRef) -> str | None:
        """None: nothing is known against any fact."""
        return None

    def command(self, ref: FactRef) -> str:
        """The catalogue's command."""
        return command_for(ref)

    def time(self, ref: FactRef) -> None:
        """Not known."""


def ipvs_surroundings() -> dict[str, bytes]:
    """The few iptables rules and the ipsets that a node in IPVS mode has beside its virtual servers."""
    node = Path(__file__).parent.parent / "k8snet_nb/data/hello-cluster/nodes/node-three"
    return {fact: (node / fact).read_bytes() for fact in ("iptables-save.txt", "ipset.txt")}


def _list(items: Any) -> bytes:
    return json.dumps({"kind": "List", "items": list(items)}).encode()


def _meta(service: GeneratedService, suffix: str = "") -> dict[str, Any]:
    namespace, _, rest = service.name.partition("/")
    return {"namespace": namespace, "name": rest.partition(":")[0] + suffix}


def _service(service: GeneratedService) -> dict[str, Any]:
    port: dict[str, Any] = {"name": "http", "protocol": "TCP", "port": service.port, "targetPort": 8080}
    kind = "NodePort" if service.node_port else "ClusterIP"
    port |= {"nodePort": service.node_port} if service.node_port else {}
    spec = {"type": kind, "clusterIP": service.address, "clusterIPs": [service.address], "ipFamilies": ["IPv4"]}
    return {"metadata": _meta(service), "spec": {**spec, "ports": [port]}}


def _slice(service: GeneratedService) -> dict[str, Any]:
    meta = _meta(service)
    endpoints = [
        {
            "addresses": [address],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": _home(address),
            "targetRef": {"kind": "Pod", "namespace": meta["namespace"], "name": f"{meta['name']}-{i}"},
        }
        for i, (address, _) in enumerate(service.endpoints)
    ]
    labels = {"kubernetes.io/service-name": meta["name"]}
    return {
        "metadata": {**_meta(service, "-slice"), "labels": labels},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
    }


def _pod(service: GeneratedService, number: int) -> dict[str, Any]:
    address = service.endpoints[number][0]
    return {
        "metadata": _meta(service, f"-{number}"),
        "spec": {"nodeName": _home(address), "containers": []},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    }


def _home(address: str) -> str:
    return NAME if address.startswith("10.128.0.") else "other"


def _node(name: str, address: str, pods: str) -> dict[str, Any]:
    status = {"addresses": [{"type": "InternalIP", "address": address}]}
    return {"metadata": {"name": name}, "spec": {"podCIDR": pods, "podCIDRs": [pods]}, "status": status}


def _addresses(services: list[GeneratedService]) -> bytes:
    """The node's own address, and those of Services on a dummy."""

    def held(addresses: list[str]) -> list[dict[str, Any]]:
        return [{"family": "inet", "local": one, "prefixlen": 32, "scope": "global"} for one in addresses]

    common = {"flags": ["UP"], "mtu": 1500, "link_type": "ether", "address": "02:00:00:00:00:01"}
    links = [
        {**common, "ifindex": 2, "ifname": "eth0", "addr_info": held([NODE])},
        {
            **common,
            "ifindex": 3,
            "ifname": "kube-ipvs0",
            "linkinfo": {"info_kind": "dummy"},
            "addr_info": held([service.address for service in services]),
        },
    ]
    return json.dumps(links).encode()


def _routes() -> bytes:
    routes = [
        {"type": "unicast", "dst": "default", "gateway": "192.0.2.1", "dev": "eth0", "flags": []},
        {"type": "unicast", "dst": PODS, "dev": "cni0", "flags": []},
    ]
    return json.dumps(routes).encode()
