"""The table of ``ipvsadm -Ln``, also where only ``-Sn`` and ``-Lnc`` were collected.

The kernel counts a TCP connection as active from its first SYN until one side ends it, an SCTP association while it is
established, and all of UDP as inactive (net/netfilter/ipvs/ip_vs_proto_tcp.c, ip_vs_proto_sctp.c, ip_vs_ctl.c).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ...parse.ipvs import RealServer, VirtualServer
from ...parse.ipvs_listing import Connections
from ...text import socket_text

__all__ = ["listing", "with_connections"]

_ACTIVE = {
    "tcp": frozenset(["ESTABLISHED", "SYN_SENT", "SYN_RECV", "SYNACK"]),
    "sctp": frozenset(["ESTABLISHED"]),
}
_TITLES = (
    "Prot LocalAddress:Port Scheduler Flags",
    "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn",
)


def with_connections(servers: Sequence[VirtualServer], connections: Connections) -> tuple[VirtualServer, ...]:
    """The same virtual servers with active and inactive connections counted from the connection table.

    Persistence templates (client port 0) are no connections. Virtual servers by mark share addresses with others, so
    their connections cannot be told apart and stay None.
    """
    found: Counter[tuple[str, str, int, str, int, bool]] = Counter()
    columns = (connections.protocol, connections.state, connections.client_port, connections.virtual)
    rest = (connections.virtual_port, connections.server, connections.server_port)
    for protocol, state, client_port, virtual, port, server, server_port in zip(*columns, *rest, strict=True):
        if client_port:
            active = state in _ACTIVE.get(protocol, ())
            found[protocol, virtual, port, server, server_port, active] += 1

    def counted(virtual: VirtualServer, server: RealServer) -> RealServer:
        key = (virtual.protocol or "", virtual.address or "", virtual.port or 0, server.address, server.port)
        return server._replace(active=found[*key, True], inactive=found[*key, False])

    return tuple(
        one if one.address is None else one._replace(servers=tuple(counted(one, server) for server in one.servers))
        for one in servers
    )


def listing(servers: Sequence[VirtualServer]) -> str:
    """The table as ``ipvsadm -Ln`` prints it, from its second line on; ``-`` for connections that were not counted."""
    lines = list(_TITLES)
    for one in servers:
        lines.append(_head(one))
        for server in one.servers:
            counts = ("-" if count is None else count for count in (server.active, server.inactive))
            where = socket_text(server.address, server.port)
            lines.append("  -> {:<28} {:<7} {:<6} {:<10} {:<10}".format(where, server.forward, server.weight, *counts))
    return "".join(line + "\n" for line in lines)


def _head(one: VirtualServer) -> str:
    if one.address is None:
        words = [f"FWM  {one.fwmark}" + (" IPv6" if one.family == 6 else ""), one.scheduler]
    else:
        words = [f"{(one.protocol or '').upper():<4} {socket_text(one.address, one.port or 0)}", one.scheduler]
    if one.flags:
        words.append(f"({','.join(one.flags)})")
    if one.persistent is not None:
        words.append(f"persistent {one.persistent}")
        if one.netmask:
            words.append(f"mask {one.netmask}")
    if one.engine:
        words.append(f"pe {one.engine}")
    if one.one_packet:
        words.append("ops")
    return " ".join(words)
