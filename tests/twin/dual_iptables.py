"""The dual-stack recording's Services as kube-proxy writes them in iptables mode."""

from __future__ import annotations

from twin.dual_services import OUTSIDE_RANGES, PODS4, PODS6, SERVICES, Port

__all__ = ["iptables_rules"]


def iptables_rules(family: int, node: int) -> str:
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
