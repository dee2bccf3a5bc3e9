"""hello-world with both address families, in the API and in every node's rules."""

from __future__ import annotations

import copy
import json
from typing import Any

from drifting import ONE, THREE, TWO, on_nft, on_service
from edited import Change, as_json, cluster, slice_of, text

from k8snet_nb.facts import FactRef

VIP6, POD6 = (
    "fd00:32::62",
    {"10.244.18.3": "fd00:18::3", "10.244.18.4": "fd00:18::4", "10.244.3.3": "fd00:3::3", "10.244.3.4": "fd00:3::4"},
)


def dual_api() -> dict[str, Change]:
    def slices(listing: Any) -> None:
        twin = copy.deepcopy(slice_of(listing, "hello-world"))
        twin["metadata"]["name"] += "-v6"
        twin["addressType"] = "IPv6"
        for endpoint in twin["endpoints"]:
            endpoint["addresses"] = [POD6[endpoint["addresses"][0]]]
        listing["items"].append(twin)

    def services(one: Any) -> None:
        one["spec"] |= {"clusterIPs": ["10.32.62.13", VIP6], "ipFamilies": ["IPv4", "IPv6"]}

    def pods(listing: Any) -> None:
        six = POD6 | {"10.244.18.5": "fd00:18::5", "10.244.3.7": "fd00:3::7"}
        for pod in listing["items"]:
            ip = (pod.get("status") or {}).get("podIP")
            if ip in six:
                pod["status"]["podIPs"] = [{"ip": ip}, {"ip": six[ip]}]

    return {
        "endpointslices": as_json(slices),
        "services": on_service("hello-world", services),
        "pods": as_json(pods),
    }


def routes6(own: str, other: str, gateway: str) -> Change:
    """IPv6 routes of a node to its own pods and to those of the other node."""
    return json.dumps(
        [
            {"type": "unicast", "dst": own, "dev": "cni0", "flags": []},
            {"type": "unicast", "dst": other, "gateway": gateway, "dev": "eth0", "flags": []},
        ]
    ).encode()


def dual_iptables(lines: list[str]) -> list[str]:
    """What node-one has for hello-world in IPv4, said for IPv6."""
    four = cluster().source.read(FactRef("iptables-save.txt", ONE)).decode().splitlines()
    mine = [line for line in four if "hello-world:http" in line]
    chains = {word for line in mine for word in line.split() if word.startswith(("KUBE-SVC-", "KUBE-SEP-"))}

    def six(line: str) -> str:
        for old, new in POD6.items():
            line = line.replace(f"{old}/32", f"{new}/128").replace(
                f"--to-destination {old}:", f"--to-destination [{new}]:"
            )
        return line.replace("10.32.62.13/32", f"{VIP6}/128").replace("10.244.0.0/16", "fd00::/16")

    at = lines.index("*nat") + 1
    end = lines.index("COMMIT", at)
    portals = [six(line) for line in mine if "-A KUBE-SERVICES" in line]
    others = [six(line) for line in mine if "-A KUBE-SERVICES" not in line]
    return [
        *lines[:at],
        *(f":{chain} - [0:0]" for chain in sorted(chains)),
        *lines[at : end - 1],
        *portals,
        lines[end - 1],
        *others,
        *lines[end:],
    ]


def dual_nft(entries: list[Any]) -> None:
    chain = "service-MBZD57SS-default/hello-world/tcp/http"
    portal = next(
        e["map"] for e in entries if e.get("map", {}).get("name") == "service-ips" and e["map"]["family"] == "ip6"
    )
    portal["elem"] = [[{"concat": [VIP6, "tcp", 80]}, {"goto": {"target": chain}}]]
    data = [[i, {"concat": [address, 8080]}] for i, address in enumerate(POD6.values())]
    numgen = {"numgen": {"mode": "random", "mod": 4, "offset": 0}}
    rule = {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "tcp"}}
    dnat = {"dnat": {"family": "ip6", "addr": {"map": {"key": numgen, "data": {"set": data}}}}}
    common = {"family": "ip6", "table": "kube-proxy"}
    entries.append({"chain": {**common, "name": chain, "handle": 900}})
    entries.append({"rule": {**common, "chain": chain, "handle": 901, "expr": [rule, dnat]}})


def dual_ipvs(lines: list[str]) -> list[str]:
    servers = [f"-a -t [{VIP6}]:80 -r [{address}]:8080 -m -w 1" for address in POD6.values()]
    return [*lines, f"-A -t [{VIP6}]:80 -s rr", *servers]


def on_dummy(links: Any) -> None:
    dummy = next(link for link in links if link["ifname"] == "kube-ipvs0")
    dummy["addr_info"].append({"family": "inet6", "local": VIP6, "prefixlen": 128, "scope": "global"})


DUAL_RULES: dict[str, Change] = {
    f"{ONE}/ip6tables-save.txt": text(dual_iptables),
    f"{TWO}/nft.json": on_nft(dual_nft),
    f"{THREE}/ipvs-save.txt": text(dual_ipvs),
    f"{THREE}/addr.json": as_json(on_dummy),
    f"{ONE}/route6.json": routes6("fd00:18::/64", "fd00:3::/64", "fd00::12"),
    f"{TWO}/route6.json": routes6("fd00:3::/64", "fd00:18::/64", "fd00::11"),
}
