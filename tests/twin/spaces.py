"""Namespaces of a plan, built by this kernel for a test. Each is held by one sleeping process, and ends with it."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from k8snet_nb.twin.links import Batch, build, run_batch, wire_batch, work_for
from k8snet_nb.twin.model import LeftOut, NodePlan, Space, TwinPlan
from k8snet_nb.twin.nsids import set_nsid

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000


class Spaces:
    """Fresh namespaces by key: ``wire``, a node's name, a pod's "namespace/name"."""

    def __init__(self) -> None:
        self._holders: dict[str, subprocess.Popen[bytes]] = {}
        self._libc = ctypes.CDLL(None, use_errno=True)

    def make(self, key: str) -> None:
        """A namespace with nothing in it."""
        argv = ["setpriv", "--pdeathsig", "KILL", "unshare", "-n", "sh", "-c", "echo; exec sleep 600"]
        holder = subprocess.Popen(argv, stdout=subprocess.PIPE)
        self._holders[key] = holder
        assert holder.stdout is not None
        holder.stdout.readline()

    def pid(self, key: str) -> int:
        """The process that holds it."""
        return self._holders[key].pid

    def within(self, key: str, work: Callable[[], T]) -> T:
        """Do something in a namespace: a thread of its own enters it, and ends."""

        def enter() -> T:
            fd = os.open(f"/proc/{self.pid(key)}/ns/net", os.O_RDONLY)
            try:
                assert self._libc.setns(fd, _CLONE_NEWNET) == 0
            finally:
                os.close(fd)
            return work()

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(enter).result()

    def run(self, key: str, *argv: str) -> str:
        """A command's output."""
        return self.within(key, lambda: subprocess.run(argv, capture_output=True, text=True, timeout=60).stdout)

    def read(self, key: str, *argv: str) -> list[dict[str, Any]]:
        """The objects that ``ip -j`` prints."""
        return [item for item in json.loads(self.run(key, *argv) or "[]") if item]

    def build(self, key: str, space: Space, plan: NodePlan | None = None) -> tuple[LeftOut, ...]:
        """One namespace as its plan has it."""
        work = work_for(space, self.pid, plan.pods if plan else (), plan.name if plan else None)
        identify = lambda pod, nsid: set_nsid(self.pid(pod), nsid)  # noqa: E731
        return self.within(key, lambda: build(work, tool, setting, identify))

    def plug(self, batch: Batch, node: str) -> tuple[LeftOut, ...]:
        """A node's wire."""
        return self.within("wire", lambda: run_batch(batch, tool, node))

    def twin(self, plan: TwinPlan) -> tuple[LeftOut, ...]:
        """All namespaces of a plan."""
        self.make("wire")
        left = [*self.build("wire", plan.wire)]
        position = 0
        for node in plan.nodes:
            pods = {pod.key: pod.space for pod in node.pods if pod.space is not None}
            for key in (node.name, *pods):
                self.make(key)
            for link in (link for link in node.space.links if link.kind == "wire"):
                left += self.plug(wire_batch(link, self.pid(node.name), position), node.name)
                position += 1
            left += self.build(node.name, node.space, node)
            for key, space in pods.items():
                left += self.build(key, space)
        return tuple(left)

    def close(self) -> None:
        """End the processes, and the namespaces with them."""
        for holder in self._holders.values():
            holder.kill()
            holder.wait()
            if holder.stdout is not None:
                holder.stdout.close()
        self._holders.clear()


def tool(argv: Sequence[str], stdin: str) -> tuple[int, str]:
    """Run a tool: its exit status and what it complains of."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


def setting(path: str, value: str) -> None:
    """Write one setting of the calling thread's namespace."""
    Path("/proc/sys", path).write_text(value)
