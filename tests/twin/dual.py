"""A dual-stack recording with what the bundled one lacks, by kube-proxy's rules in iptables and in nftables mode.

Two nodes, each in one mode, four pods each (one on the host's network). The rules are written as kube-proxy writes them
and then printed by the tools themselves, from a network namespace that is gone afterwards.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from twin.dual_iptables import iptables_rules
from twin.dual_nft import nft_rules
from twin.dual_services import NODES, OUTSIDE_RANGES, SERVICES, Port, address
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

__all__ = ["dual_rules_recording"]


def dual_rules_recording(root: Path) -> Path:
    made = Made(root, list(NODES.values()))
    made.items("nodes", [made_node(name, address(4, n, 0), address(6, n, 0)) for n, name in NODES.items()])
    made.items("pods", [_pod(n, m) for n in NODES for m in (0, 5, 6, 7)])
    made.items("networkpolicies", [])
    made.items("services", [_service(port) for port in SERVICES])
    made.items("endpointslices", [_slice(port, family) for port in SERVICES for family in (4, 6)])
    for n, name in NODES.items():
        _node(made, name, n)
    made.write("nodes/ipt/iptables-save.txt", _printed("iptables", iptables_rules(4, 1)))
    made.write("nodes/ipt/ip6tables-save.txt", _printed("ip6tables", iptables_rules(6, 1)))
    made.write("nodes/nft/nft.json", _printed("nft", nft_rules(4, 2) + nft_rules(6, 2)))
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
