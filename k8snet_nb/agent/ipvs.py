"""IPVS by generic netlink, printed as ipvsadm prints it (``-Sn``, ``-Ln``, ``-Ln --stats --exact``, ``-Lnc``).

For nodes that hold no ipvsadm, and because ipvsadm itself loads ip_vs where it is missing. /proc is asked first:
without ``/proc/net/ip_vs`` nothing is requested from the kernel and :class:`NotLoaded` is the answer.
Attributes: include/uapi/linux/ip_vs.h. Runs on Python 3.9 with pyroute2 and the standard library.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["FACTS", "NotLoaded", "connections", "loaded", "rules", "stats", "table"]

PROC_NET = "/proc/thread-self/net"
PROTOCOLS = {6: ("-t", "TCP"), 17: ("-u", "UDP"), 132: ("--sctp-service", "SCTP")}
PERSISTENT, ONE_PACKET = 0x1, 0x4
SCHEDULER_FLAGS = ((0x08, "flag-1"), (0x10, "flag-2"), (0x20, "flag-3"))
HASH_FLAGS = ((0x08, "-fallback"), (0x10, "-port"))
FORWARDS = {0: ("-m", "Masq"), 1: ("-g", "Local"), 2: ("-i", "Tunnel"), 3: ("-g", "Route")}
TUNNELS = {0: "ipip", 1: "gue", 2: "gre"}
COUNTERS = ("CONNS", "INPKTS", "OUTPKTS", "INBYTES", "OUTBYTES")
CMD_GET_SERVICE, CMD_GET_DEST = 4, 8


class NotLoaded(Exception):
    """The kernel has no IPVS: an answer, not a fault."""


class Dest(NamedTuple):
    """One real server, as the kernel has it."""

    address: str
    port: int
    forward: int
    weight: int
    active: int
    inactive: int
    tunnel: tuple[int, int, int]
    counters: tuple[int, ...]


class Service(NamedTuple):
    """One virtual server, as the kernel has it; ``fwmark`` 0 when it has an address."""

    family: int
    protocol: int
    address: str
    port: int
    fwmark: int
    scheduler: str
    flags: int
    timeout: int
    netmask: int
    engine: str
    counters: tuple[int, ...]
    dests: tuple[Dest, ...]


def loaded(proc_net: str = PROC_NET) -> bool:
    """Whether this kernel has IPVS in the present network namespace; asking loads nothing."""
    return Path(proc_net, "ip_vs").exists()


def dump(proc_net: str = PROC_NET) -> list[Service]:
    """All virtual servers in ipvsadm's order. Raises NotLoaded."""
    if not loaded(proc_net):
        raise NotLoaded("IPVS is not loaded: there is no /proc/net/ip_vs")
    from pyroute2 import IPVS
    from pyroute2.netlink import NLM_F_DUMP, NLM_F_REQUEST
    from pyroute2.netlink.generic.ipvs import ipvsmsg

    with IPVS() as netlink:

        def ask(command: int, attributes: list[tuple[str, Any]]) -> list[Any]:
            message = ipvsmsg()
            message["cmd"], message["version"], message["attrs"] = command, 1, attributes
            return list(netlink.nlm_request(message, msg_type=netlink.prid, msg_flags=NLM_F_REQUEST | NLM_F_DUMP))

        services = []
        for answer in ask(CMD_GET_SERVICE, []):
            found = answer.get_attr("IPVS_CMD_ATTR_SERVICE")
            if found is None:
                continue
            wanted = [("IPVS_CMD_ATTR_SERVICE", {"attrs": _key(found)})]
            dests = [one.get_attr("IPVS_CMD_ATTR_DEST") for one in ask(CMD_GET_DEST, wanted)]
            services.append(_service(found, [_dest(one) for one in dests if one is not None]))
    return sorted(services, key=functools.cmp_to_key(_compare_services))


def _key(service: Any) -> list[tuple[str, Any]]:
    """What names a virtual server to the kernel: its mark, or protocol, address and port."""
    names = ["AF", "FWMARK"] if service.get_attr("IPVS_SVC_ATTR_FWMARK") else ["AF", "PROTOCOL", "ADDR", "PORT"]
    return [("IPVS_SVC_ATTR_" + name, service.get_attr("IPVS_SVC_ATTR_" + name)) for name in names]


def _counters(record: Any, prefix: str) -> tuple[int, ...]:
    found = record.get_attr(prefix + "STATS64") or record.get_attr(prefix + "STATS")
    return tuple(found.get_attr("IPVS_STATS_ATTR_" + name) or 0 for name in COUNTERS) if found else (0,) * len(COUNTERS)


def _service(record: Any, dests: list[Dest]) -> Service:
    def of(name: str, default: Any = 0) -> Any:
        value = record.get_attr("IPVS_SVC_ATTR_" + name)
        return default if value is None else value

    # a prefix length for IPv6 and a mask for IPv4; pyroute2 prints both as an IPv4 address
    netmask = socket.inet_aton(str(of("NETMASK", "255.255.255.255")))
    family = int(of("AF"))
    return Service(
        family=6 if family == socket.AF_INET6 else 4,
        protocol=int(of("PROTOCOL")),
        address=str(of("ADDR", "")),
        port=int(of("PORT")),
        fwmark=int(of("FWMARK")),
        scheduler=str(of("SCHED_NAME", "")),
        flags=int(of("FLAGS", {"flags": 0})["flags"]),
        timeout=int(of("TIMEOUT")),
        netmask=struct.unpack("=I" if family == socket.AF_INET6 else "!I", netmask)[0],
        engine=str(of("PE_NAME", "")),
        counters=_counters(record, "IPVS_SVC_ATTR_"),
        dests=tuple(sorted(dests, key=functools.cmp_to_key(_compare_dests))),
    )


def _dest(record: Any) -> Dest:
    def of(name: str) -> Any:
        value = record.get_attr("IPVS_DEST_ATTR_" + name)
        return 0 if value is None else value

    return Dest(
        address=str(of("ADDR")),
        port=int(of("PORT")),
        forward=int(of("FWD_METHOD")) & 7,
        weight=int(of("WEIGHT")),
        active=int(of("ACTIVE_CONNS")),
        inactive=int(of("INACT_CONNS")),
        # the kernel sends this port in network order, pyroute2 reads it in the machine's
        tunnel=(int(of("TUN_TYPE")), socket.ntohs(int(of("TUN_PORT"))), int(of("TUN_FLAGS"))),
        counters=_counters(record, "IPVS_DEST_ATTR_"),
    )


def _difference(one: int, other: int) -> int:
    """As a C program subtracts in 32 bits: ipvsadm lists 172.x before 10.x because of it."""
    return (one - other + 2**31) % 2**32 - 2**31


def _compare_addresses(one: str, other: str) -> int:
    left, right = ipaddress.ip_address(one), ipaddress.ip_address(other)
    if left.version == 4 and right.version == 4:
        return _difference(int(left), int(right))
    return (left.packed > right.packed) - (left.packed < right.packed)


def _compare_services(one: Service, other: Service) -> int:
    first = (one.fwmark - other.fwmark) or (one.family - other.family) or (one.protocol - other.protocol)
    if first or one.fwmark:
        return first
    return _compare_addresses(one.address, other.address) or (one.port - other.port)


def _compare_dests(one: Dest, other: Dest) -> int:
    return _compare_addresses(one.address, other.address) or (one.port - other.port)


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _mask(service: Service) -> str | None:
    """The persistence mask, None when all of the client's address counts."""
    if service.family == 6:
        return None if service.netmask == 128 else str(service.netmask)
    return None if service.netmask == 0xFFFFFFFF else str(ipaddress.ip_address(service.netmask))


def _flags(service: Service) -> str:
    if service.scheduler in ("sh", "mh"):
        return ",".join(service.scheduler + name for bit, name in HASH_FLAGS if service.flags & bit)
    return ",".join(name for bit, name in SCHEDULER_FLAGS if service.flags & bit)


def _rule_name(service: Service) -> str:
    if service.fwmark:
        return "-f {}{}".format(service.fwmark, " -6" if service.family == 6 else "")
    return f"{PROTOCOLS[service.protocol][0]} {_endpoint(service.address, service.port)}"


def _row_name(service: Service) -> str:
    if service.fwmark:
        return "FWM  {}{}".format(service.fwmark, " IPv6" if service.family == 6 else "")
    return f"{PROTOCOLS[service.protocol][1]:<4} {_endpoint(service.address, service.port)}"


def _rule_tunnel(dest: Dest) -> str:
    if dest.forward != 2:
        return ""
    kind, port, flags = dest.tunnel
    words = ["", "--tun-type", TUNNELS.get(kind, str(kind))]
    if kind == 1:
        words += ["--tun-port", str(port)]
    if kind:
        words.append("--tun-csum" if flags & 1 else "--tun-remcsum" if flags & 2 else "--tun-nocsum")
    return " ".join(words)


def _rule_lines(service: Service) -> list[str]:
    name, mask, flags = _rule_name(service), _mask(service), _flags(service)
    line = f"-A {name} -s {service.scheduler}"
    if service.flags & PERSISTENT:
        line += f" -p {service.timeout}" + (" -M " + mask if mask else "")
    line += (" --pe " + service.engine) if service.engine else ""
    line += " -o" if service.flags & ONE_PACKET else ""
    line += (" -b " + flags) if flags else ""
    lines = [line]
    for dest in service.dests:
        where = _endpoint(dest.address, dest.port)
        how = FORWARDS[dest.forward][0]
        lines.append(f"-a {name} -r {where} {how} -w {dest.weight}{_rule_tunnel(dest)}")
    return lines


def _table_lines(service: Service) -> list[str]:
    mask, flags = _mask(service), _flags(service)
    line = f"{_row_name(service)} {service.scheduler}"
    line += f" ({flags})" if flags else ""
    if service.flags & PERSISTENT:
        line += f" persistent {service.timeout}" + (" mask " + mask if mask else "")
    line += (" pe " + service.engine) if service.engine else ""
    line += " ops" if service.flags & ONE_PACKET else ""
    rows = [
        f"  -> {_endpoint(dest.address, dest.port):<28} {FORWARDS[dest.forward][1]:<7}"
        f" {dest.weight:<6} {dest.active:<10} {dest.inactive:<10}"
        for dest in service.dests
    ]
    return [line, *rows]


def _numbers(counters: tuple[int, ...]) -> str:
    return "".join("{:>{}}".format(value, max(9, len(str(value)) + 1)) for value in counters)


def _stats_lines(service: Service) -> list[str]:
    rows = [f"  -> {_endpoint(dest.address, dest.port):<28}{_numbers(dest.counters)}" for dest in service.dests]
    return [f"{_row_name(service):<33}{_numbers(service.counters)}", *rows]


def rules(proc_net: str = PROC_NET) -> str:
    """As ``ipvsadm -Sn``. Raises NotLoaded."""
    return "".join(line + "\n" for service in dump(proc_net) for line in _rule_lines(service))


def table(proc_net: str = PROC_NET) -> str:
    """As ``ipvsadm -Ln``. Raises NotLoaded."""
    titles = [
        "Prot LocalAddress:Port Scheduler Flags",
        "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn",
    ]
    return _listing(titles, _table_lines, proc_net)


def stats(proc_net: str = PROC_NET) -> str:
    """As ``ipvsadm -Ln --stats --exact``: the counters of 64 bits, where the kernel has them. Raises NotLoaded."""
    title = "{:<33} {:>8} {:>8} {:>8} {:>8} {:>8}"
    titles = [
        title.format("Prot LocalAddress:Port", "Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"),
        "  -> RemoteAddress:Port",
    ]
    return _listing(titles, _stats_lines, proc_net)


def _listing(titles: list[str], rows: Callable[[Service], list[str]], proc_net: str) -> str:
    services = dump(proc_net)
    with Path(proc_net, "ip_vs").open() as kernel:
        version = kernel.readline().rstrip("\n")
    lines = [version] + titles + [line for service in services for line in rows(service)]
    return "".join(line + "\n" for line in lines)


def connections(proc_net: str = PROC_NET) -> str:
    """As ``ipvsadm -Lnc``, from /proc/net/ip_vs_conn: netlink does not have them. Raises NotLoaded."""
    if not loaded(proc_net):
        raise NotLoaded("IPVS is not loaded: there is no /proc/net/ip_vs")
    row = "{:<3} {:<6} {:<11} {:<18} {:<18} {}\n".format
    lines = ["IPVS connection entries\n", row("pro", "expire", "state", "source", "virtual", "destination")]
    with Path(proc_net, "ip_vs_conn").open() as kernel:
        next(kernel, None)
        for line in kernel:
            protocol, source, sport, virtual, vport, server, dport, state, seconds = line.split()[:9]
            expire = "{:02d}:{:02d}".format(*divmod(int(seconds), 60))
            ends = [_end(*pair) for pair in ((source, sport), (virtual, vport), (server, dport))]
            lines.append(row(protocol, expire, state, *ends))
    return "".join(lines)


def _end(address: str, port: str) -> str:
    """An address of /proc: eight hexadecimal digits, or an IPv6 address in brackets."""
    if ":" in address:
        return _endpoint(str(ipaddress.ip_address(address.strip("[]"))), int(port, 16))
    return _endpoint(str(ipaddress.ip_address(int(address, 16))), int(port, 16))


FACTS: dict[str, Callable[[], str]] = {
    "ipvs-save.txt": rules,
    "ipvs.txt": table,
    "ipvs-stats.txt": stats,
    "ipvs-connections.txt": connections,
}
"""The facts that this module delivers, by file name."""
