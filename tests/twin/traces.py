"""What a twin has in this machine's kernel, so that a test can see that nothing of it is left."""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from k8snet_nb.sources.twin_control import TwinFolder

__all__ = ["Machine", "Of", "left_of", "machine", "of", "of_folder", "processes"]

_KINDS = ("net", "mnt", "pid", "uts", "ipc", "user", "cgroup", "time")
_COUNTS = re.compile(
    r"nf_conntrack_count|random|\.(ns_last_pid|pty\.nr|inode|file-nr|dentry)|net\.unix|tcp_mem|udp_mem"
)


@dataclass(frozen=True)
class Of:
    """Processes (pid, its start) and namespaces (kind:[inode]) of a twin."""

    processes: frozenset[tuple[int, str]]
    namespaces: frozenset[str]


@dataclass(frozen=True)
class Machine:
    """What is this machine's own: it is the same before a twin, beside it, and after it."""

    links: str
    addresses: str
    mounts: tuple[str, ...]
    sysctls: tuple[str, ...]
    rules: str


def machine() -> Machine:
    """This machine as of now."""
    settings = _run("sysctl", "-a", "--pattern", r"^net\.").splitlines()
    assert settings, "sysctl says nothing"
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return Machine(
        _run("ip", "-o", "link").replace("NO-CARRIER,", ""),
        _run("ip", "-o", "address"),
        tuple(line for line in mounts if " nsfs " not in line),  # of a twin's own: see left_of
        tuple(line for line in settings if not _COUNTS.search(line)),
        _run("nft", "list", "ruleset"),
    )


def _run(*argv: str) -> str:
    strict = argv[0] != "sysctl"  # which fails where a setting goes while it reads
    return subprocess.run(argv, capture_output=True, text=True, check=strict, timeout=30).stdout


def processes() -> dict[int, tuple[int, str]]:
    """Of all processes: the parent's pid, and when it started."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if fields[0] not in "ZX":  # else it has ended, and only its parent has not looked yet
                found[int(entry.name)] = int(fields[1]), fields[19]
    return found


def of(twin: TwinFolder) -> Of:
    """All processes below a twin's keeper, and the namespaces that they are in and this process is not."""
    everyone = processes()
    family = {twin.about["pid"]}
    while more := {pid for pid, (parent, _) in everyone.items() if parent in family} - family:
        family |= more
    return _of(family)


def of_folder(folder: Path) -> Of:
    """All processes that have a file of this folder open, and their namespaces: of a twin that is not up yet, too."""
    holders = set()
    for pid in processes():
        with suppress(OSError):
            if any(str(fd.readlink()).startswith(f"{folder}/") for fd in Path(f"/proc/{pid}/fd").iterdir()):
                holders.add(pid)
    return _of(holders)


def _of(family: set[int]) -> Of:
    everyone = processes()
    ours = _namespaces(os.getpid())
    spaces = set().union(*(_namespaces(pid) for pid in family)) - ours
    return Of(frozenset((pid, everyone[pid][1]) for pid in family if pid in everyone), frozenset(spaces))


def _namespaces(pid: int) -> set[str]:
    found = set()
    for kind in _KINDS:
        with suppress(OSError):
            found.add(str(Path(f"/proc/{pid}/ns/{kind}").readlink()))
    return found


def left_of(twin: Of) -> Of:
    """What of it is still there: running processes, and namespaces that a process is in or that are mounted."""
    everyone = processes()
    running = {(pid, start) for pid, start in twin.processes if pid in everyone and everyone[pid][1] == start}
    there = set().union(*(_namespaces(pid) for pid in everyone))
    for pid in everyone:
        with suppress(OSError):
            there |= set(re.findall(r"\w+:\[\d+\]", Path(f"/proc/{pid}/mountinfo").read_text()))
    return Of(frozenset(running), frozenset(twin.namespaces & there))
