"""The agent as it travels: a zip of the program and what it needs, and the two small programs that a pod starts with.

Any image with Python 3.9 or newer will do. The pod's own process only waits (:data:`WAITER`); each conversation is an
``exec`` of :data:`BOOT`, which reads the zip from its standard input, keeps it in memory (memfd_create(2): the image's
files may be read-only) and becomes the agent on the same stream.
"""

from __future__ import annotations

import importlib.util
import io
import struct
import zipfile
from functools import cache
from pathlib import Path

__all__ = ["BOOT", "WAITER", "agent_command", "packed_agent", "waiter_command"]

WAITER = """\
import fcntl, os, sys, time
lock, patience, idle = os.open(sys.argv[1], os.O_RDONLY), float(sys.argv[2]), 0
while idle < patience:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(lock, fcntl.LOCK_UN)
        idle += 1
    except OSError:
        idle = 0
    time.sleep(1)
"""
"""Ends when no agent has held the lock for so many seconds: the Job is then complete, and its time to live runs."""

BOOT = """\
import sys
if sys.version_info < (3, 9):
    sys.exit("k8snet needs Python 3.9 or newer, this image has " + sys.version.split()[0])
import os, runpy, struct
def take(size):
    parts = []
    while size:
        part = os.read(0, min(size, 1 << 20))
        if not part:
            sys.exit("the stream ended before the agent had arrived")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
held = os.memfd_create("k8snet-agent")
view = memoryview(take(struct.unpack("!Q", take(8))[0]))
while view:
    view = view[os.write(held, view):]
sys.path.insert(0, "/proc/self/fd/%d" % held)
runpy.run_module("k8snet_nb.agent", run_name="__main__", alter_sys=True)
"""


def waiter_command(lock: str, patience: int) -> list[str]:
    """What the pod's container runs."""
    return ["python3", "-I", "-S", "-c", WAITER, lock, str(patience)]


def agent_command(lock: str, heartbeat: int, node_pid: int, limit: int) -> list[str]:
    """What is executed in it for each conversation."""
    options = ["--lock", lock, "--heartbeat", str(heartbeat), "--node-pid", str(node_pid), "--limit", str(limit)]
    return ["python3", "-I", "-S", "-c", BOOT, *options]


@cache
def packed_agent() -> bytes:
    """Length (8 bytes, big endian) and zip of the agent, its part of k8snet_nb, and pyroute2 from this installation."""
    package = Path(__file__).resolve().parent.parent
    files = [(path, f"k8snet_nb/agent/{path.name}") for path in sorted((package / "agent").glob("*.py"))]
    files.append((package / "cgroups.py", "k8snet_nb/cgroups.py"))
    spec = importlib.util.find_spec(
        "pyroute2"
    )  # not there on a workstation that is not Linux: IPVS needs the tool then
    if spec is not None and spec.origin is not None:
        root = Path(spec.origin).parent
        files += [(path, path.relative_to(root.parent).as_posix()) for path in sorted(root.rglob("*.py"))]
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("k8snet_nb/__init__.py", b"")
        for path, name in files:
            archive.writestr(name, path.read_bytes())
    data = held.getvalue()
    return struct.pack("!Q", len(data)) + data
