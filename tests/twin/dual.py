"""A dual-stack recording with what the bundled one lacks, by kube-proxy's rules in iptables and in nftables mode.

Two nodes, each in one mode, four pods each (one on the host's network). The rules are written as kube-proxy writes them
and then printed by the tools themselves, from a network namespace that is gone afterwards.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twin.made import (
    LO,
    RULES,
    UID,
    Made,
    _connected4,
    _local4,
    _local6,
    _loopback4,
    _multicast,
    four,
    link,
    made_node,
    six,
)

__all__ = ["OUTSIDE_RANGES", "SERVICES", "Port", "dual_rules_recording"]

NODES = {1: "ipt", 2: "nft"}
OUTSIDE_RANGES = {4: "203.0.113.128/25", 6: "2001:db8:ffff:0:8000::/65"}
"""Halves of the networks from which the twin's clients outside come."""

PODS4, PODS6 = "10.20.0.0/16", "fd00:20::/32"


@dataclass(frozen=True)
class Port:
    """One Service with one port. ``ends``: pods (node, number) that are ready; number 0: the one on the host."""

    name: str
    number: int
    ends: tuple[tuple[int, int], ...]
    protocol: str = "tcp"
    port: int = 80
    target: int = 8080
    node_port: int = 0
    balanced: bool = False
    external: bool = False
    local: bool = False
    internal_local: bool = False
    sticky: bool = False
    guarded: bool = False
    unready: tuple[tuple[int, int], ...] = ()

    def vip(self, family: int) -> str:
        return f"10.96.0.{self.number}" if family == 4 else f"fd00:96::{self.number}"

    def outer(self, family: int) -> str:
        return f"192.168.5.{100 + self.number}" if family == 4 else f"fd00:5::{100 + self.number}"

    def sockets(self, family: int, only: int | None = None) -> list[tuple[str, int]]:
        chosen = [end for end in self.ends if only is None or end[0] == only]
        return [(address(family, *end), self.target) for end in chosen]


SERVICES = (
    Port("web", 10, ((1, 5), (1, 6), (2, 5)), node_port=30080, unready=((2, 6),)),
    Port("talk", 11, ((1, 5), (2, 5)), "udp", 5353, 9000, node_port=30053),
    Port("sticky", 12, ((1, 5), (2, 5), (2, 6)), sticky=True),
    Port("near", 13, ((2, 5), (2, 6)), node_port=30081, balanced=True, local=True),
    Port("guarded", 14, ((1, 6), (2, 6)), node_port=30082, balanced=True, guarded=True),
    Port("host", 15, ((1, 0), (2, 0)), port=9100, target=9100),
    Port("gone", 16, (), node_port=30083),
    Port("gonetoo", 17, (), "udp", 5000),
    Port("outer", 18, ((1, 5), (2, 6)), external=True),
    Port("inner", 19, ((2, 5),), internal_local=True),
    Port("one", 20, ((1, 5),), "udp", 5001, 9001),
)


def address(family: int, node: int, number: int) -> str:
    if number == 0:
        return f"192.168.5.1{node}" if family == 4 else f"fd00:5::1{node}"
    return f"10.20.{node}.{number}" if family == 4 else f"fd00:20:{node}::{number}"


def dual_rules_recording(root: Path) -> Path:
    made = Made(root, list(NODES.values()))
    made.items("nodes", [made_node(name, address(4, n, 0), address(6, n, 0)) for n, name in NODES.items()])
    made.items("pods", [_pod(n, m) for n in NODES for m in (0, 5, 6, 7)])
    made.items("networkpolicies", [])
    made.items("services", [_service(port) for port in SERVICES])
    made.items("endpointslices", [_slice(port, family) for port in SERVICES for family in (4, 6)])
    for n, name in NODES.items():
        _node(made, name, n)
    made.write("nodes/ipt/iptables-save.txt", _printed("iptables", _iptables(4, 1)))
    made.write("nodes/ipt/ip6tables-save.txt", _printed("ip6tables", _iptables(6, 1)))
    made.write("nodes/nft/nft.json", _printed("nft", _nft(4, 2) + _nft(6, 2)))
    return root


def _printed(tool: str, rules: str) -> str:
    """The rules as the tool prints them."""
    script = "nft -f - && nft -j list ruleset" if tool == "nft" else f"{tool}-restore && {tool}-save -c"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script], input=rules, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# the API


def _pod(node: int, number: int) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "shop", "name": f"p-{node}-{number}", "uid": UID.format(10 * node + number)},
        "spec": {"nodeName": NODES[node], "hostNetwork": number == 0},
        "status": {"phase": "Running", "podIPs": [{"ip": address(family, node, number)} for family in (4, 6)]},
    }


def _service(port: Port) -> dict[str, Any]:
    kind = "LoadBalancer" if port.balanced else "NodePort" if port.node_port else "ClusterIP"
    spec: dict[str, Any] = {
        "type": kind,
        "clusterIPs": [port.vip(4), port.vip(6)],
        "ipFamilies": ["IPv4", "IPv6"],
        "ports": [{"name": "p", "port": port.port, "protocol": port.protocol.upper(), "targetPort": port.target}],
        "internalTrafficPolicy": "Local" if port.internal_local else "Cluster",
        "externalTrafficPolicy": "Local" if port.local else "Cluster",
    }
    if port.node_port:
        spec["ports"][0]["nodePort"] = port.node_port
    if port.sticky:
        spec |= {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}}}
    if port.guarded:
        spec["loadBalancerSourceRanges"] = list(OUTSIDE_RANGES.values())
    if port.external:
        spec["externalIPs"] = [port.outer(4), port.outer(6)]
    ingress = [{"ip": port.outer(4)}, {"ip": port.outer(6)}] if port.balanced else []
    meta = {"namespace": "shop", "name": port.name, "uid": UID.format(port.number + 50)}
    return {"metadata": meta, "spec": spec, "status": {"loadBalancer": {"ingress": ingress}}}


def _slice(port: Port, family: int) -> dict[str, Any]:
    ends = [
        {
            "addresses": [address(family, *end)],
            "conditions": {"ready": ready, "serving": ready, "terminating": False},
            "nodeName": NODES[end[0]],
            "targetRef": {
                "kind": "Pod", "namespace": "shop", "name": f"p-{end[0]}-{end[1]}",
                "uid": UID.format(10 * end[0] + end[1]),
            },
        }
        for ready, several in ((True, port.ends), (False, port.unready))
        for end in several
    ]  # fmt: skip
    label = {"kubernetes.io/service-name": port.name}
    return {
        "metadata": {"namespace": "shop", "name": f"{port.name}-{family}", "labels": label},
        "addressType": f"IPv{family}",
        "endpoints": ends,
        "ports": [{"name": "p", "port": port.target, "protocol": port.protocol.upper()}],
    }


# the nodes


def _node(made: Made, name: str, n: int) -> None:
    other = 3 - n
    four_routes = [
        four("default", "ens3", gateway="192.168.5.1"),
        four(f"10.20.{other}.0/24", "ens3", gateway=f"192.168.5.1{other}"),
        *(four(f"10.20.{n}.{m}", f"cali{m}") for m in (5, 6, 7)),
        *_connected4(f"192.168.5.1{n}", "192.168.5.0/24", "192.168.5.255", "ens3"),
        *_loopback4(),
    ]
    six_routes = [
        six("default", "ens3", gateway="fd00:5::1"),
        six(f"fd00:20:{other}::/48", "ens3", gateway=f"fd00:5::1{other}"),
        *(six(f"fd00:20:{n}::{m}", f"cali{m}") for m in (5, 6, 7)),
        six("fd00:5::/64", "ens3", protocol="kernel", metric=256),
        _local6(f"fd00:5::1{n}", "ens3"),
        _local6("::1", "lo"),
        *(six("fe80::/64", dev, protocol="kernel", metric=256) for dev in ("ens3", "cali5", "cali6", "cali7")),
        _local6(f"fe80::1{n}", "ens3"),
        *(_local6("fe80::1", f"cali{m}") for m in (5, 6, 7)),
        *(_multicast(dev) for dev in ("ens3", "cali5", "cali6", "cali7")),
    ]
    addr = [LO, link(2, "ens3", f"0e:00:00:00:0{n}:01", f"192.168.5.1{n}/24", f"fd00:5::1{n}/64", f"fe80::1{n}/64")]
    for m in (5, 6, 7):
        more = {"link_index": 2, "link_netnsid": m}
        addr.append(link(m + 5, f"cali{m}", f"0e:00:00:0{n}:0{m}:01", "fe80::1/64", kind="veth", **more))
        _pod_space(made, name, n, m)
    near = [{"dst": "192.168.5.1", "dev": "ens3", "lladdr": "0e:00:00:00:00:fe", "state": ["REACHABLE"]}]
    made.write(f"nodes/{name}/node.json", {"node": name})
    made.write(f"nodes/{name}/sysctl.txt", "net.ipv4.ip_forward = 1\nnet.netfilter.nf_conntrack_acct = 1\n")
    made.space(name, addr, four_routes, six_routes, neigh=near)


def _pod_space(made: Made, name: str, n: int, m: int) -> None:
    ip, ip6, mac, above = f"10.20.{n}.{m}", f"fd00:20:{n}::{m}", f"0e:00:00:0{n}:0{m}:02", f"0e:00:00:0{n}:0{m}:01"
    more = {"link_index": m + 5, "link_netnsid": 0}
    eth0 = link(2, "eth0", mac, f"{ip}/32", f"{ip6}/128", "fe80::2/64", kind="veth", **more)
    four_routes = [
        four("169.254.1.1", "eth0"), four("default", "eth0", gateway="169.254.1.1"), _local4(ip, "eth0"), *_loopback4()
    ]  # fmt: skip
    six_routes = [
        six("default", "eth0", gateway="fe80::1"),
        six(ip6, "eth0", protocol="kernel", metric=256),
        six("fe80::/64", "eth0", protocol="kernel", metric=256),
        _local6(ip6, "eth0"),
        _local6("fe80::2", "eth0"),
        _local6("::1", "lo"),
        _multicast("eth0"),
    ]
    near = [{"dst": "169.254.1.1", "dev": "eth0", "lladdr": above, "state": ["PERMANENT"]}]
    made.space(f"{name}/pods/shop/p-{n}-{m}", [LO, eth0], four_routes, six_routes, neigh=near, rule=RULES)


# iptables mode


def _iptables(family: int, node: int) -> str:
    nat, filters, chains = _Nat(family), [_FILTER], ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-MARK-MASQ"]
    unreachable = "icmp-port-unreachable" if family == 4 else "icmp6-port-unreachable"
    for port in SERVICES:
        chains += _iptables_service(nat, port, node)
        filters += _iptables_filter(port, family, node, unreachable)
    own = "".join(f":{chain} - [0:0]\n" for chain in dict.fromkeys([*chains, "KUBE-POSTROUTING"]))
    heads = "".join(f":{one} ACCEPT [0:0]\n" for one in ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"))
    rules = [_NAT, *nat.rules, "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"]
    return "\n".join([*filters, "COMMIT", f"*nat\n{heads}{own}{rules[0]}", *rules[1:], "COMMIT", ""])


class _Nat:
    def __init__(self, family: int) -> None:
        self.family, self.rules = family, list[str]()
        self.cidr, self.length = (PODS4, 32) if family == 4 else (PODS6, 128)

    def add(self, chain: str, *words: str) -> None:
        self.rules.append(" ".join((f"-A {chain}", *words)))


def _to(port: Port, ip: str, length: int, number: int) -> str:
    return f"-d {ip}/{length} -p {port.protocol} -m {port.protocol} --dport {number}"


def _iptables_service(nat: _Nat, port: Port, node: int) -> list[str]:
    if not port.ends:
        return []
    upper, family = port.name.upper(), nat.family
    svc, svl, ext = f"KUBE-SVC-{upper}", f"KUBE-SVL-{upper}", f"KUBE-EXT-{upper}"
    everywhere, here = port.sockets(family), port.sockets(family, node)
    inner, far = (here, svl) if port.internal_local else (everywhere, svc)
    chains = [svc, svl, ext, f"KUBE-FW-{upper}"]
    portal = _to(port, port.vip(family), nat.length, port.port)
    if inner:
        nat.add("KUBE-SERVICES", portal, f"-j {far}")
        nat.add(far, f"! -s {nat.cidr}", portal, "-j KUBE-MARK-MASQ")
    outers = [port.outer(family)] if port.balanced or port.external else []
    for ip in outers:
        target = f"KUBE-FW-{upper}" if port.guarded else ext
        nat.add("KUBE-SERVICES", _to(port, ip, nat.length, port.port), f"-j {target}")
    if port.guarded:
        nat.add(f"KUBE-FW-{upper}", f"-s {OUTSIDE_RANGES[family]}", f"-j {ext}")
    if port.node_port:
        nat.add("KUBE-NODEPORTS", f"-p {port.protocol} -m {port.protocol} --dport {port.node_port} -j {ext}")
    if port.local:
        nat.add(ext, f"-s {nat.cidr} -j {svc}")
        nat.add(ext, "-m addrtype --src-type LOCAL -j KUBE-MARK-MASQ")
        nat.add(ext, f"-m addrtype --src-type LOCAL -j {svc}")
        if here:
            nat.add(ext, f"-j {svl}")
    else:
        nat.add(ext, "-j KUBE-MARK-MASQ")
        nat.add(ext, f"-j {svc}")
    for chain, sockets in ((svc, everywhere), (svl, here)):
        chains += _iptables_ends(nat, port, chain, sockets)
    for socket in everywhere:
        _iptables_end(nat, port, *socket)
    return chains


def _sep(port: Port, ip: str) -> str:
    return f"KUBE-SEP-{port.name.upper()}-{ip.replace(':', '.').replace('.', '')}"


def _iptables_ends(nat: _Nat, port: Port, chain: str, sockets: list[tuple[str, int]]) -> list[str]:
    names = [_sep(port, ip) for ip, _ in sockets]
    if port.sticky:
        for name in names:
            nat.add(chain, f"-m recent --name {name} --rcheck --seconds 600 --reap --rsource -j {name}")
    for left, name in zip(range(len(names), 0, -1), names, strict=True):
        by_chance = f"-m statistic --mode random --probability {1 / left:.10f} " if left > 1 else ""
        nat.add(chain, f"{by_chance}-j {name}")
    return names


def _iptables_end(nat: _Nat, port: Port, ip: str, number: int) -> None:
    name, socket = _sep(port, ip), f"[{ip}]:{number}" if nat.family == 6 else f"{ip}:{number}"
    nat.add(name, f"-s {ip}/{nat.length} -j KUBE-MARK-MASQ")
    recent = f"-m recent --name {name} --set --rsource " if port.sticky else ""
    nat.add(name, f"{recent}-p {port.protocol} -m {port.protocol} -j DNAT --to-destination {socket}")


def _iptables_filter(port: Port, family: int, node: int, unreachable: str) -> list[str]:
    length = 32 if family == 4 else 128
    found = []
    stop = "" if port.ends else f"REJECT --reject-with {unreachable}"
    inner = "DROP" if port.internal_local and not port.sockets(family, node) else stop
    if inner:
        found.append(f"-A KUBE-SERVICES {_to(port, port.vip(family), length, port.port)} -j {inner}")
    outer = "DROP" if port.local and not port.sockets(family, node) else stop
    if outer and port.balanced:
        found.append(f"-A KUBE-EXTERNAL-SERVICES {_to(port, port.outer(family), length, port.port)} -j {outer}")
    if outer and port.node_port:
        found.append(
            f"-A KUBE-EXTERNAL-SERVICES -p {port.protocol} -m addrtype --dst-type LOCAL "
            f"-m {port.protocol} --dport {port.node_port} -j {outer}"
        )
    if port.guarded:
        found.append(f"-A KUBE-PROXY-FIREWALL {_to(port, port.outer(family), length, port.port)} -j DROP")
    return found


_FILTER = """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SERVICES - [0:0]
-A INPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A INPUT -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-A FORWARD -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A FORWARD -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES
-A FORWARD -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-A OUTPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"""
_NAT = """\
-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE --random-fully"""


# nftables mode


def _nft(family: int, node: int) -> str:
    ip, kind, cidr = ("ip", "ipv4_addr", PODS4) if family == 4 else ("ip6", "ipv6_addr", PODS6)
    network = "10.96.0.0/16" if family == 4 else "fd00:96::/112"
    parts = _NftParts(ip, cidr)
    for port in SERVICES:
        _nft_service(parts, port, family, node)
    maps = {
        "service-ips": (f"{kind} . inet_proto . inet_service", parts.ips),
        "service-nodeports": ("inet_proto . inet_service", parts.ports),
        "no-endpoint-services": (f"{kind} . inet_proto . inet_service", parts.no_ips),
        "no-endpoint-nodeports": ("inet_proto . inet_service", parts.no_ports),
        "firewall-ips": (f"{kind} . inet_proto . inet_service", parts.walls),
    }
    hairpins = ", ".join(sorted(set(parts.hairpins)))
    vips = ", ".join(port.vip(family) for port in SERVICES)
    lines = [
        f"table {ip} kube-proxy {{",
        f"set cluster-ips {{ type {kind}; elements = {{ {vips} }} }}",
        f"set nodeport-ips {{ type {kind}; elements = {{ {address(family, node, 0)} }} }}",
        f"set hairpin-connections {{ type {kind} . {kind} . inet_proto . inet_service; elements = {{ {hairpins} }} }}",
        *(
            f"map {name} {{ type {key} : verdict; elements = {{ {', '.join(elements)} }} }}"
            for name, (key, elements) in maps.items()
        ),
        *(f"set {name} {{ type {kind}; size 65535; flags dynamic,timeout; timeout 600s; }}" for name in parts.sets),
        _NFT.replace("IP", ip).replace("CIDR", cidr).replace("RANGE", network).replace("ICMP", _ICMP[family]),
        *parts.chains,
        "}",
    ]
    return "\n".join(lines) + "\n"


_ICMP = {4: "icmp", 6: "icmpv6"}


class _NftParts:
    def __init__(self, ip: str, cidr: str) -> None:
        self.ip, self.cidr = ip, cidr
        self.ips, self.ports, self.no_ips, self.no_ports, self.walls = (list[str]() for _ in range(5))
        self.hairpins, self.sets, self.chains = list[str](), list[str](), list[str]()

    def chain(self, name: str, *rules: str) -> None:
        self.chains.append("\n".join([f"chain {name} {{", *rules, "}"]))


def _nft_service(parts: _NftParts, port: Port, family: int, node: int) -> None:
    key, proto = f"shop-{port.name}-{port.protocol}-p", port.protocol
    everywhere, here = port.sockets(family), port.sockets(family, node)
    service, local, outer = f"service-{key}", f"local-{key}", f"external-{key}"
    inner_stop = "goto reject-chain" if not port.ends else "drop" if port.internal_local and not here else ""
    outer_stop = "goto reject-chain" if not port.ends else "drop" if port.local and not here else ""
    vip, out = (f"{address} . {proto} . {port.port}" for address in (port.vip(family), port.outer(family)))
    if inner_stop:
        parts.no_ips.append(f"{vip} : {inner_stop}")
    else:
        parts.ips.append(f"{vip} : goto {local if port.internal_local else service}")
    if port.balanced or port.external:
        parts.no_ips += [f"{out} : {outer_stop}"] if outer_stop else []
        parts.ips += [f"{out} : goto {outer}"] if port.ends else []
    if port.node_port:
        parts.no_ports += [f"{proto} . {port.node_port} : {outer_stop}"] if outer_stop else []
        parts.ports += [f"{proto} . {port.node_port} : goto {outer}"] if port.ends else []
    if port.guarded:
        parts.walls.append(f"{out} : goto firewall-{key}")
        parts.chain(f"firewall-{key}", f"{parts.ip} saddr != {{ {OUTSIDE_RANGES[family]} }} drop")
    if not port.ends:
        return
    for name, sockets in ((service, everywhere), (local, here)):
        _nft_ends(parts, port, name, sockets)
    short = [f"{parts.ip} saddr {parts.cidr} goto {service}", "fib saddr type local jump mark-for-masquerade",
             f"fib saddr type local goto {service}", *([f"goto {local}"] if here else [])]  # fmt: skip
    parts.chain(outer, *(short if port.local else ["jump mark-for-masquerade", f"goto {service}"]))


def _nft_ends(parts: _NftParts, port: Port, name: str, sockets: list[tuple[str, int]]) -> None:
    if not sockets:
        return
    count, proto = len(sockets), port.protocol
    for ip, number in sockets:
        parts.hairpins.append(f"{ip} . {ip} . {proto} . {number}")
    if not port.sticky:
        choices = ", ".join(f"{i} : {ip} . {number}" for i, (ip, number) in enumerate(sockets))
        choose = f"numgen random mod {count} map {{ {choices} }}"
        parts.chain(name, f"meta l4proto {proto} dnat {parts.ip} addr . port to {choose}")
        return
    ends = [f"{name}-{i}" for i in range(count)]
    sets = [f"affinity-{end}" for end in ends]
    for one, end, (ip, number) in zip(sets, ends, sockets, strict=True):
        socket = f"[{ip}]:{number}" if ":" in ip else f"{ip}:{number}"
        parts.sets.append(one)
        parts.chain(
            f"endpoint-{end}", f"update @{one} {{ {parts.ip} saddr }}", f"meta l4proto {proto} dnat to {socket}"
        )
    known = [f"{parts.ip} saddr @{one} goto endpoint-{end}" for one, end in zip(sets, ends, strict=True)]
    choices = ", ".join(f"{i} : goto endpoint-{end}" for i, end in enumerate(ends))
    parts.chain(name, *known, f"numgen random mod {count} vmap {{ {choices} }}")


_NFT = """\
chain mark-for-masquerade { meta mark set meta mark or 0x4000
}
chain reject-chain { reject with ICMP type port-unreachable
}
chain service-endpoints-check { IP daddr . meta l4proto . th dport vmap @no-endpoint-services
}
chain nodeport-endpoints-check { IP daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports
}
chain firewall-check { IP daddr . meta l4proto . th dport vmap @firewall-ips
}
chain cluster-ips-check {
IP daddr @cluster-ips reject with ICMP type port-unreachable
IP daddr RANGE drop
}
chain services {
IP daddr @cluster-ips IP saddr != CIDR jump mark-for-masquerade
IP daddr . meta l4proto . th dport vmap @service-ips
IP daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
}
chain masquerading {
meta mark & 0x4000 != 0 meta mark set meta mark ^ 0x4000 masquerade fully-random
ct status dnat IP saddr . IP daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random
}
chain filter-prerouting-pre-dnat { type filter hook prerouting priority -110;
ct state new jump firewall-check
}
chain filter-output-pre-dnat { type filter hook output priority -110;
ct state new jump firewall-check
}
chain filter-input { type filter hook input priority 0;
ct state new jump nodeport-endpoints-check
ct state new jump service-endpoints-check
}
chain filter-forward { type filter hook forward priority 0;
ct state new jump service-endpoints-check
ct state new jump cluster-ips-check
}
chain filter-output { type filter hook output priority 0;
ct state new jump service-endpoints-check
ct state new jump cluster-ips-check
}
chain nat-prerouting { type nat hook prerouting priority -100;
jump services
}
chain nat-output { type nat hook output priority -100;
jump services
}
chain nat-postrouting { type nat hook postrouting priority 100;
jump masquerading
}"""
