"""The dual-stack recording's Services as kube-proxy writes them in nftables mode."""

from __future__ import annotations

from twin.dual_services import OUTSIDE_RANGES, PODS4, PODS6, SERVICES, Port, address

__all__ = ["nft_rules"]


def nft_rules(family: int, node: int) -> str:
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
