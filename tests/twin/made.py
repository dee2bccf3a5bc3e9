"""Recordings made up for tests: written as files of the recording format, read like any other."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from k8snet_nb.errors import FactMissing
from k8snet_nb.facts import FactRef
from k8snet_nb.sources.recorded import RecordedSource

UID = "00000000-0000-4000-8000-0000000000{:02d}"


class Made:
    """A recording that is being written below one folder."""

    def __init__(self, root: Path, nodes: list[str]) -> None:
        self.root = root
        self.write("recording.json", {"format": 1, "name": root.name, "nodes": nodes})
        for name in ("nodes", "pods", "services", "endpointslices"):
            self.items(name, [])

    def write(self, path: str, value: Any) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(value if isinstance(value, str) else json.dumps(value))

    def items(self, resource: str, items: list[dict[str, Any]]) -> None:
        self.write(f"api/{resource}.json", {"kind": "List", "items": items})

    def space(self, place: str, addr: list[dict[str, Any]], four: list[Any], six: list[Any], **more: Any) -> None:
        """Facts of one namespace; ``place`` is a node, or node/pods/namespace/pod."""
        facts = {"addr": addr, "route": four, "route6": six, "rule": RULES, **more}
        for name, value in facts.items():
            self.write(f"nodes/{place}/{name}.json", value)


class Changed:
    """A recording with some JSON facts changed (a function of the value, in place) or taken away (None).

    ``changes`` by "fact", "node/fact" or "node/namespace/pod/fact"; the last with ``*`` for all facts of a pod.
    """

    def __init__(self, source: RecordedSource, changes: Mapping[str, Callable[[Any], object] | None]) -> None:
        self._source, self._changes = source, dict(changes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def read(self, ref: FactRef) -> bytes:
        key = "/".join(part for part in (ref.node, ref.pod, ref.fact) if part)
        key = key if key in self._changes else f"{ref.node}/{ref.pod}/*"
        if key not in self._changes:
            return self._source.read(ref)
        change = self._changes[key]
        if change is None:
            raise FactMissing(ref.fact, ref.where, "it was not collected")
        value = json.loads(self._source.read(ref))
        change(value)
        return json.dumps(value).encode()


RULES = [
    {"priority": 0, "src": "all", "table": "local"},
    {"priority": 32766, "src": "all", "table": "main"},
    {"priority": 32767, "src": "all", "table": "default"},
]


def link(
    index: int, name: str, mac: str | None, *addresses: str, kind: str | None = None, **more: Any
) -> dict[str, Any]:
    """One interface as ``ip -d -j addr`` prints it."""
    info = {"linkinfo": {"info_kind": kind}} if kind else {}
    flags = ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"] if mac else ["LOOPBACK", "UP", "LOWER_UP"]
    infos = []
    for text in addresses:
        ip, _, length = text.partition("/")
        scope = "link" if ip.startswith("fe80") else "host" if ip.startswith(("127.", "::1")) else "global"
        entry: dict[str, Any] = {"family": "inet6" if ":" in ip else "inet", "local": ip, "prefixlen": int(length)}
        infos.append({**entry, "scope": scope, **({} if ":" in ip else {"label": name})})
    base = {
        "ifindex": index, "ifname": name, "flags": flags, "mtu": 1500 if mac else 65536,
        "link_type": "ether" if mac else "loopback", "address": mac or "00:00:00:00:00:00", "addr_info": infos,
    }  # fmt: skip
    return {**base, **info, **more}


LO = link(1, "lo", None, "127.0.0.1/8", "::1/128")


def four(dst: str, dev: str, **more: Any) -> dict[str, Any]:
    scope = "global" if "gateway" in more else "link"
    return {"type": "unicast", "dst": dst, "dev": dev, "table": "main", "protocol": "boot", "scope": scope, **more}


def six(dst: str, dev: str, **more: Any) -> dict[str, Any]:
    base = {"type": "unicast", "dst": dst, "dev": dev, "table": "main", "protocol": "boot", "scope": "global"}
    return {**base, "metric": 1024, "flags": [], "pref": "medium", **more}


def _local4(ip: str, dev: str, dst: str | None = None) -> dict[str, Any]:
    base = {"type": "local", "dst": dst or ip, "dev": dev, "table": "local"}
    return {**base, "protocol": "kernel", "scope": "host", "prefsrc": ip}


def _local6(ip: str, dev: str) -> dict[str, Any]:
    return six(ip, dev, type="local", table="local", protocol="kernel", metric=0)


def _multicast(dev: str) -> dict[str, Any]:
    return six("ff00::/8", dev, type="multicast", table="local", protocol="kernel", metric=256)


def _loopback4() -> list[dict[str, Any]]:
    last = {"type": "broadcast", "dst": "127.255.255.255", "dev": "lo", "table": "local", "protocol": "kernel"}
    last |= {"scope": "link", "prefsrc": "127.0.0.1"}
    return [_local4("127.0.0.1", "lo", "127.0.0.0/8"), _local4("127.0.0.1", "lo"), last]


def _connected4(ip: str, network: str, last: str, dev: str) -> list[dict[str, Any]]:
    on = four(network, dev, protocol="kernel", prefsrc=ip)
    end = {**on, "type": "broadcast", "dst": last, "table": "local"}
    return [on, end, _local4(ip, dev)]


def dual_stack(root: Path) -> Path:
    """Two nodes with both families: point-to-point pods, a VXLAN between the nodes, a policy rule, and a third node of
    which only the API knows.
    """
    made = Made(root, ["alpha", "beta"])
    for position, name in ((1, "alpha"), (2, "beta")):
        _dual_node(made, name, position)
    made.items("nodes", [made_node(name, f"192.168.5.1{n}", f"fd00:5::1{n}") for n, name in _NODES])
    pods = [made_pod(f"web-{n}", n, name, [f"10.20.{n}.5", f"fd00:20:{n}::5"]) for n, name in _NODES]
    made.items("pods", pods)
    made.items("services", [_service()])
    made.items("endpointslices", [_slice("v4", "IPv4", 0), _slice("v6", "IPv6", 1), _outsider()])
    return root


_NODES = ((1, "alpha"), (2, "beta"), (3, "gamma"))


def made_node(name: str, *ips: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"addresses": [{"type": "InternalIP", "address": ip} for ip in ips]}}


def made_pod(name: str, number: int, node: str, ips: list[str]) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "shop", "name": name, "uid": UID.format(number)},
        "spec": {"nodeName": node},
        "status": {"phase": "Running", "podIPs": [{"ip": ip} for ip in ips]},
    }


def _service() -> dict[str, Any]:
    ports = [{"port": 80, "protocol": "TCP"}]
    spec = {"clusterIPs": ["10.96.0.7", "fd00:96::7"], "ipFamilies": ["IPv4", "IPv6"], "ports": ports}
    return {"metadata": {"namespace": "shop", "name": "web"}, "spec": spec}


def _slice(suffix: str, kind: str, at: int) -> dict[str, Any]:
    ends = [
        {
            "addresses": [(f"10.20.{n}.5", f"fd00:20:{n}::5")[at]],
            "conditions": {"ready": n == 1, "terminating": n == 2},
            "targetRef": {"kind": "Pod", "namespace": "shop", "name": f"web-{n}", "uid": UID.format(n)},
        }
        for n, _ in _NODES
    ]
    gone = {"addresses": [("10.20.1.99", "fd00:20:1::99")[at]], "targetRef": {"kind": "Pod", "name": "gone"}}
    meta = {"namespace": "shop", "name": f"web-{suffix}", "labels": {"kubernetes.io/service-name": "web"}}
    ports = [{"port": 8080, "protocol": "TCP"}, {"port": 9000, "protocol": "UDP", "name": "u"}]
    return {"metadata": meta, "addressType": kind, "endpoints": [*ends, gone], "ports": ports}


def _outsider() -> dict[str, Any]:
    ends = [{"addresses": ["198.51.100.7"]}, {"addresses": ["192.168.5.200"]}, {"addresses": ["192.168.5.11"]}]
    meta = {"namespace": "shop", "name": "db", "labels": {"kubernetes.io/service-name": "db"}}
    return {"metadata": meta, "addressType": "IPv4", "endpoints": ends, "ports": [{"port": 5432, "protocol": "TCP"}]}


def _dual_node(made: Made, name: str, n: int) -> None:
    other = 3 - n
    up, inner, outer = f"0e:00:00:00:0{n}:01", f"0e:00:00:00:0{n}:02", f"0e:00:00:00:0{n}:99"
    peer = f"0e:00:00:00:0{n}:05"
    vxlan = {"id": 1, "local": f"192.168.5.1{n}", "link": "ens3", "port": 8472, "learning": False}
    addr = [
        LO,
        link(2, "ens3", up, f"192.168.5.1{n}/24", f"fd00:5::1{n}/64"),
        link(5, "flannel.1", outer, f"10.20.{n}.0/32", kind="vxlan", mtu=1450),
        link(9, "caliweb", inner, kind="veth", mtu=1450, link_index=4, link_netnsid=0),
    ]
    addr[2]["linkinfo"]["info_data"] = vxlan
    four_routes = [
        four("default", "ens3", gateway="192.168.5.1", protocol="dhcp", metric=100),
        four(f"10.20.{other}.0/24", "flannel.1", gateway=f"10.20.{other}.0", flags=["onlink"]),
        four(f"10.20.{n}.5", "caliweb"),
        {"type": "blackhole", "dst": f"10.20.{n}.0/24", "table": "main", "protocol": "80", "scope": "global"},
        four("10.99.0.0/16", "ens3", gateway="192.168.5.1", table="100"),
        *_connected4(f"192.168.5.1{n}", "192.168.5.0/24", "192.168.5.255", "ens3"),
        _local4(f"10.20.{n}.0", "flannel.1"),
        *_loopback4(),
    ]
    six_routes = [
        six("default", "ens3", gateway="fd00:5::1"),
        six(f"fd00:20:{other}::/64", "ens3", gateway=f"fd00:5::1{other}"),
        six(f"fd00:20:{n}::5", "caliweb"),
        six("fd00:5::/64", "ens3", protocol="kernel", metric=256),
        _local6(f"fd00:5::1{n}", "ens3"),
        _local6("::1", "lo"),
        *(_multicast(dev) for dev in ("ens3", "flannel.1", "caliweb")),
    ]
    rules = [
        RULES[0],
        {"priority": 90, "src": "all", "fwmark": "0x200", "fwmask": "0xf00", "table": "100"},
        {"priority": 91, "src": f"10.20.{n}.0", "srclen": 24, "dst": "10.99.0.0", "dstlen": 16, "table": "100"},
        {"priority": 92, "not": None, "src": "all", "iif": "ens3", "table": "main", "suppress_prefixlen": 0},
        *RULES[1:],
    ]
    near = [
        {"dst": f"10.20.{other}.0", "dev": "flannel.1", "lladdr": f"0e:00:00:00:0{other}:99", "state": ["PERMANENT"]},
        {"dst": f"192.168.5.1{other}", "dev": "ens3", "lladdr": f"0e:00:00:00:0{other}:01", "state": ["STALE"]},
        {"dst": "192.168.5.1", "dev": "ens3", "lladdr": "0e:00:00:00:00:fe", "state": ["REACHABLE"]},
        {"dst": f"10.20.{n}.5", "dev": "caliweb", "lladdr": peer, "state": ["REACHABLE"]},
    ]
    fdb_entry = {"mac": f"0e:00:00:00:0{other}:99", "ifname": "flannel.1", "dst": f"192.168.5.1{other}"}
    fdb = [{**fdb_entry, "flags": ["self"], "state": "permanent"}]
    made.write(f"nodes/{name}/node.json", {"node": name})
    made.write(f"nodes/{name}/sysctl.txt", "net.ipv4.ip_forward = 1\nnet.netfilter.nf_conntrack_acct = 1\n")
    made.space(name, addr, four_routes, six_routes, rule=rules, neigh=near, fdb=fdb)
    _dual_pod(made, name, n, peer, inner)


def _dual_pod(made: Made, name: str, n: int, mac: str, above: str) -> None:
    ip, ip6 = f"10.20.{n}.5", f"fd00:20:{n}::5"
    eth0 = link(4, "eth0", mac, f"{ip}/32", f"{ip6}/128", kind="veth", mtu=1450, link_index=9, link_netnsid=0)
    place = f"{name}/pods/shop/web-{n}"
    four_routes = [
        four("169.254.1.1", "eth0"),
        four("default", "eth0", gateway="169.254.1.1"),
        _local4(ip, "eth0"),
        *_loopback4(),
    ]
    six_routes = [
        six("default", "eth0", gateway="fe80::1"),
        six(ip6, "eth0", protocol="kernel", metric=256),
        _local6(ip6, "eth0"),
        _local6("::1", "lo"),
        _multicast("eth0"),
    ]
    near = [{"dst": "169.254.1.1", "dev": "eth0", "lladdr": above, "state": ["PERMANENT"]}]
    made.space(place, [LO, eth0], four_routes, six_routes, neigh=near)
    made.write(f"nodes/{place}/resolv.conf", "nameserver 10.96.0.10\n")
