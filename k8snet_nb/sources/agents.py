"""The side that asks: starts an agent, sends it requests, reads its answers. Safe from a cell of a live kernel.

The agent is a child process with pipes; nothing here enters a namespace, and no event loop is needed. A thread reads
the answers, so several threads may ask at once and a slow answer does not keep the others. What goes wrong with the
agent itself is one AgentError; what a node cannot tell is a :class:`Told` that says why.
"""

from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, Self

from ..agent.protocol import LIMIT, BadFrame, pack, read_frame
from ..errors import AgentError

__all__ = ["Agent", "Ran", "Running", "Told", "Transport", "child_command"]

_BOOT = (
    "import sys,types,runpy;p=types.ModuleType('k8snet_nb');p.__path__=[sys.argv.pop(1)];"
    "sys.modules['k8snet_nb']=p;runpy.run_module('k8snet_nb.agent',run_name='__main__',alter_sys=True)"
)
"""Starts the agent without the package's own front door: it needs none of it, and a node may not have its libraries."""


@dataclass(frozen=True, slots=True)
class Told:
    """One fact as an agent told it: ``data``, or None with ``why`` and a code (absent, denied, gone, failed, timeout).

    ``whose`` names the tool that told it, ``note`` what it lacks if it is partial.
    """

    data: bytes | None
    why: str = ""
    code: str = ""
    whose: str = ""
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that ran in a network namespace. ``ended``: "", timed_out, cancelled or too_much (output cut)."""

    argv: tuple[str, ...]
    status: int | None
    out: bytes
    err: bytes
    ended: str = ""


class Transport(Protocol):
    """A two-way stream to an agent, however it was started."""

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; b"" at the end."""
        ...

    def write(self, data: bytes) -> None:
        """Send all of it."""
        ...

    def close(self) -> str:
        """End the agent; returns its last words, for a message."""
        ...


def child_command(python: str = sys.executable) -> list[str]:
    """How the agent starts as a child of this process: same interpreter, nothing of the user's environment."""
    package = str(Path(__file__).resolve().parent.parent)
    return [python, "-I", "-S", "-c", _BOOT, package, "--parent", str(os.getpid())]


class _Child:
    """An agent as a child process. Its standard error is kept in a file without a name, for the last words."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._words: IO[bytes] = os.fdopen(os.memfd_create("k8snet-agent"), "w+b", buffering=0)
        try:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._words, bufsize=0, cwd="/"
            )
        except OSError as error:
            self._words.close()
            raise AgentError(f"the agent did not start: {error}. Look at the command {argv[0]}") from error
        if self._process.stdin is None or self._process.stdout is None:
            raise AgentError("the agent has no pipes")
        self._in, self._out = self._process.stdin, self._process.stdout

    def read(self, size: int) -> bytes:
        return self._out.read(size) or b""

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._in.write(view) or 0 :]

    def close(self) -> str:
        if self._words.closed:
            return ""
        with suppress(OSError):
            self._in.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
        status = self._process.wait()
        self._out.close()
        self._words.seek(0)
        said = self._words.read(65536)[-2000:].decode("utf-8", "replace").strip()
        self._words.close()
        return f"exit status {status}" + (f": {said.splitlines()[-1]}" if said else "")


class _Slot:
    def __init__(self) -> None:
        self.ready = threading.Event()
        self.answer: tuple[dict[str, Any], bytes] | None = None


class Running:
    """A request under way: :meth:`cancel` it, or wait for its :meth:`result`."""

    def __init__(self, agent: Agent, key: int, slot: _Slot, seconds: float, argv: tuple[str, ...]) -> None:
        self._agent, self._key, self._slot, self._seconds, self._argv = agent, key, slot, seconds, argv

    @property
    def done(self) -> bool:
        """Whether the result is there."""
        return self._slot.ready.is_set()

    def cancel(self) -> None:
        """Have the command ended; what it wrote until then is in the result."""
        self._agent.send({"op": "cancel", "target": self._key})

    def result(self) -> Ran:
        """The command's end. Raises AgentError when the agent could not run it."""
        header, payload = self._agent.wait(self._key, self._slot, self._seconds)
        if header.get("error") == "cancelled":  # before the command had started
            return Ran(self._argv, None, b"", b"", "cancelled")
        if "error" in header:
            raise AgentError(f"{' '.join(self._argv)}: {header.get('why')}")
        size = int(header["out"])
        return Ran(self._argv, header.get("status"), payload[:size], payload[size:], str(header.get("ended") or ""))


class Agent:
    """A conversation with one agent. Close it, or use ``with``; it also ends with this process."""

    slack = 6.0
    """Seconds beyond a request's own limit after which an agent that says nothing is given up."""

    def __init__(self, transport: Transport, name: str = "this node", limit: int = LIMIT) -> None:
        self._transport, self.name, self._limit = transport, name, limit
        self._lock, self._sending = threading.Lock(), threading.Lock()
        self._slots: dict[int, _Slot] = {}
        self._keys = itertools.count(1)
        self._dead = ""
        self._reader = threading.Thread(target=self._listen, name=f"k8snet agent of {name}", daemon=True)
        self._reader.start()

    @classmethod
    def start(cls, argv: Sequence[str] | None = None, name: str = "this node", limit: int = LIMIT) -> Agent:
        """Start an agent as a child process. Raises AgentError when it does not start."""
        command = list(argv) if argv is not None else [*child_command(), "--limit", str(limit)]
        return cls(_Child(command), name, limit)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the agent and whatever it is doing."""
        self._die("it was closed")
        if threading.current_thread() is not self._reader:
            self._reader.join(5)

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""
        return not self._dead

    def hello(self, seconds: float = 30.0) -> dict[str, Any]:
        """What the agent says of its node, the facts that it knows, and its user id."""
        header, _ = self._ask({"op": "hello"}, seconds)
        if "error" in header:
            raise AgentError(f"the agent of {self.name}: {header.get('why')}")
        return header

    def facts(self, targets: Iterable[Mapping[str, Any]], seconds: float = 60.0) -> dict[tuple[Any, str], Told]:
        """Many facts of many namespaces in one go: (key, fact) -> Told; targets as in :mod:`k8snet_nb.agent.server`."""
        wanted = [dict(target) for target in targets]
        header, payload = self._ask({"op": "facts", "targets": wanted}, seconds)
        if "error" in header:
            told = Told(None, str(header.get("why")), str(header["error"]))
            return {(target.get("key"), fact): told for target in wanted for fact in target["facts"]}
        stream = io.BytesIO(payload)
        found = {}
        for entry in header["facts"]:
            if "error" in entry:
                told = Told(None, entry["why"], entry["error"])
            else:
                told = Told(stream.read(entry["size"]), whose=entry["whose"], note=entry["note"])
            found[entry["key"], entry["fact"]] = told
        return found

    def fact(self, fact: str, seconds: float = 30.0, **target: Any) -> Told:
        """One fact of the node, or of the namespace given by ``pid``, ``path`` or ``pod`` (uid and config hash)."""
        return self.facts([{"key": None, "facts": [fact], **target}], seconds)[None, fact]

    def start_run(self, argv: Sequence[str], target: Mapping[str, Any], seconds: float = 30.0) -> Running:
        """Start a command of the node in a network namespace; see :class:`Running`."""
        words = tuple(argv)
        key, slot = self._post({"op": "run", "argv": list(words), "target": dict(target)}, seconds)
        return Running(self, key, slot, seconds, words)

    def run(self, argv: Sequence[str], target: Mapping[str, Any], seconds: float = 30.0) -> Ran:
        """Run a command of the node in a network namespace to its end or time limit. Raises AgentError."""
        return self.start_run(argv, target, seconds).result()

    def exchange(self, request: Mapping[str, Any], target: Mapping[str, Any], seconds: float = 30.0) -> dict[str, Any]:
        """One DNS question to one server, sent from a network namespace: see :mod:`k8snet_nb.agent.dns_exchange`.

        ``seconds`` bounds the whole, entering the namespace included; the request's ``timeout`` bounds the waiting.
        Raises AgentError when nothing could be sent.
        """
        header, _ = self._ask({"op": "dns", "exchange": dict(request), "target": dict(target)}, seconds)
        if "error" in header:
            raise AgentError(f"the agent of {self.name} could not ask {request.get('server')}: {header.get('why')}")
        told: dict[str, Any] = header["exchange"]
        return told

    def _ask(self, request: dict[str, Any], seconds: float) -> tuple[dict[str, Any], bytes]:
        key, slot = self._post(request, seconds)
        return self.wait(key, slot, seconds)

    def _post(self, request: dict[str, Any], seconds: float) -> tuple[int, _Slot]:
        key, slot = next(self._keys), _Slot()
        with self._lock:
            self._slots[key] = slot
        self.send({**request, "id": key, "timeout": seconds})
        return key, slot

    def send(self, request: dict[str, Any]) -> None:
        """Send one frame. Raises AgentError when the agent is gone."""
        try:
            with self._sending:
                if not self._dead:
                    self._transport.write(pack(request))
        except (OSError, ValueError):
            self._die("it went away")
        if self._dead:
            raise AgentError(self._message())

    def wait(self, key: int, slot: _Slot, seconds: float) -> tuple[dict[str, Any], bytes]:
        """The answer to a request, a little after its own deadline at the latest. Raises AgentError."""
        arrived = slot.ready.wait(seconds + self.slack)
        with self._lock:
            self._slots.pop(key, None)
        if slot.answer is not None:
            return slot.answer
        if not arrived:
            self._die(f"it did not answer within {seconds:g} seconds")
        raise AgentError(self._message())

    def _message(self) -> str:
        return f"the agent of {self.name} cannot be asked: {self._dead}. Open the source again to start a new one"

    def _listen(self) -> None:
        why = "it ended"
        try:
            while (frame := read_frame(self._transport.read, self._limit)) is not None:
                self._deliver(*frame)
        except BadFrame as error:
            why = str(error)
        except (OSError, ValueError):
            why = "it went away"
        self._die(why)

    def _deliver(self, header: dict[str, Any], payload: bytes) -> None:
        with self._lock:
            slot = self._slots.get(header.get("id") or 0)
        if slot is not None:
            slot.answer = (header, payload)
            slot.ready.set()

    def _die(self, why: str) -> None:
        with self._lock:
            first = not self._dead
            self._dead = self._dead or why
            waiting = list(self._slots.values())
        if first:
            last = self._transport.close()
            if last and why != "it was closed":
                self._dead = f"{why} ({last})"
        for slot in waiting:
            slot.ready.set()
