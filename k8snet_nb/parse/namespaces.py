"""Network namespaces and processes: ``ip -j netns list-id``, ``lsns -J``, ``processes.json``, ``pod.json``, node.json.

A namespace id (nsid) is local: the same namespace has another id, or none, seen from another namespace
(ip-netns(8), RTM_GETNSID). An inode (``ns``) is one number for the whole machine, as ``/proc/PID/ns/net`` shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..cgroups import ProcessRecord
from ..facts import FactRef
from .records import Record, json_object, quote, records

__all__ = [
    "Namespace",
    "NamespaceId",
    "PodProcesses",
    "parse_lsns",
    "parse_nsid",
    "parse_pod_processes",
    "parse_processes",
    "process_line",
]


@dataclass(frozen=True, slots=True)
class NamespaceId:
    """One id that a namespace has for another, and the name below /run/netns that is bound to it."""

    nsid: int
    name: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False, hash=False)

    def evidence_line(self) -> str:
        """The entry as the fact says it."""
        return quote(self.raw, "nsid", "name")


@dataclass(frozen=True, slots=True)
class Namespace:
    """One network namespace of a node: inode, its id for the node, lowest pid in it, where it is bound."""

    inode: int
    nsid: int | None = None
    nprocs: int = 0
    pid: int | None = None
    bound: tuple[str, ...] = ()
    command: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False, hash=False)

    def evidence_line(self) -> str:
        """The entry as the fact says it."""
        return quote(self.raw, "ns", "netnsid", "pid", "nsfs", "command")


@dataclass(frozen=True, slots=True)
class PodProcesses:
    """What ``pod.json`` says: the sandbox process, the namespace's inode, whether it is the node's own, all pids."""

    sandbox_pid: int | None
    netns: int | None
    host_network: bool | None
    pids: tuple[int, ...] = ()


def parse_nsid(data: bytes, ref: FactRef) -> tuple[NamespaceId, ...]:
    """The ids that one namespace has for others. Raises FactBroken."""
    return tuple(NamespaceId(r.integer("nsid"), r.text_or_none("name"), r.raw) for r in records(data, ref))


def parse_lsns(data: bytes, ref: FactRef) -> tuple[Namespace, ...]:
    """The network namespaces of a node. Raises FactBroken."""
    return tuple(_namespace(record) for record in records(data, ref, "namespaces"))


def parse_processes(data: bytes, ref: FactRef) -> tuple[ProcessRecord, ...]:
    """The processes of a node. Raises FactBroken."""
    return tuple(
        ProcessRecord(r.integer("pid"), r.integer_or_none("netns"), r.texts("cgroups"), r.text_or_none("cmdline") or "")
        for r in records(data, ref)
    )


def parse_pod_processes(data: bytes, ref: FactRef) -> PodProcesses:
    """What was found of a pod on its node. Raises FactBroken."""
    record = Record(json_object(data, ref), ref, 1)
    host = record.raw.get("host_network")
    if host is not None and not isinstance(host, bool):
        record.broken('has no true or false as "host_network"')
    return PodProcesses(
        record.integer_or_none("sandbox_pid"), record.integer_or_none("netns"), host, record.integers("pids")
    )


def process_line(process: ProcessRecord) -> str:
    """One process as ``processes.json`` says it, its command line shortened: a line of evidence."""
    paths = list(dict.fromkeys(process.cgroups))
    shown = process.cmdline if len(process.cmdline) <= 60 else process.cmdline[:60] + "..."
    return quote(
        {"pid": process.pid, "netns": process.netns, "cgroups": paths, "cmdline": shown},
        "pid", "netns", "cgroups", "cmdline",
    )  # fmt: skip


def _namespace(record: Record) -> Namespace:
    # util-linux prints numbers or texts, by version; "unassigned" is no id, "unknown" is not known.
    said = record.raw.get("netnsid")
    nsid = int(str(said)) if str(said).isascii() and str(said).isdecimal() else None
    bound = record.raw.get("nsfs")
    if bound is not None and not isinstance(bound, str):
        record.broken('has no text as "nsfs"')
    return Namespace(
        inode=_number(record, "ns"),
        nsid=nsid,
        nprocs=_number(record, "nprocs") if record.raw.get("nprocs") is not None else 0,
        pid=_number(record, "pid") if record.raw.get("pid") is not None else None,
        bound=tuple(part for part in (bound or "").split("\n") if part),
        command=record.text_or_none("command"),
        raw=record.raw,
    )


def _number(record: Record, key: str) -> int:
    value = record.raw.get(key)
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        return int(value)
    return record.integer(key)
