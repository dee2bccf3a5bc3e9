"""IPVS of a node as people look at it: the table of ``ipvsadm -Ln``, counters, ipsets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...facts import Evidence
from ...parse.ipset import IpSet
from ...parse.ipvs import VirtualServer
from ...parse.ipvs_listing import ServerCounters
from ...render import Report, Shown
from ...text import socket_text
from .table import listing

__all__ = ["IpvsTable", "ipset_rows", "stats_rows"]

_OPTIONS = {"tcp": "-t", "udp": "-u", "sctp": "--sctp-service"}


@dataclass(frozen=True, slots=True)
class IpvsTable(Shown):
    """Virtual servers with their real servers. ``counted``: connections are known. ``of``: the Service, None: all."""

    node: str
    of: str | None
    servers: tuple[VirtualServer, ...]
    counted: bool
    title: str
    evidence: tuple[Evidence, ...]

    @property
    def command(self) -> str:
        """What a person would type for these virtual servers; a UDP one needs ``-u``."""
        if self.of is None or len(self.servers) != 1 or self.servers[0].address is None:
            return "ipvsadm -Ln"
        one = self.servers[0]
        return f"ipvsadm -Ln {_OPTIONS[one.protocol or 'tcp']} {socket_text(one.address or '', one.port or 0)}"

    def report(self) -> Report:
        """The table as ipvsadm prints it, and from what it was put together."""
        facts = " and ".join(dict.fromkeys(item.command for item in self.evidence))
        notes = [f"Rendered from {facts}"]
        if self.of is not None:
            what = f"virtual server{'s' if len(self.servers) != 1 else ''} of {self.of}"
            notes.append(f"{len(self.servers)} {what}")
        if not self.counted:
            notes.append("ActiveConn and InActConn were not collected (-)")
        block = f"{self.title}\n{listing(self.servers)}" if self.title else listing(self.servers)
        return Report(f"[node {self.node}]$ {self.command}", notes=tuple(notes), block=block.rstrip("\n"))


def stats_rows(counters: Sequence[ServerCounters]) -> Iterator[tuple[object, ...]]:
    """Rows: protocol address port server server_port connections in_packets out_packets in_bytes out_bytes."""
    for one in counters:
        identity = one.identity
        for address, port, c in one.servers:
            yield (
                identity.protocol, identity.address, identity.port, address, port,
                c.connections, c.in_packets, c.out_packets, c.in_bytes, c.out_bytes,
            )  # fmt: skip


def ipset_rows(sets: Mapping[str, IpSet]) -> Iterator[tuple[object, ...]]:
    """Rows: name type family size members (as ``ipset save`` spells them)."""
    for one in sets.values():
        yield one.name, one.type, one.family, len(one), tuple(member.text for member in one.members)
