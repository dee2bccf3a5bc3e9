"""The side that asks: starts an agent, sends it requests, reads its answers. Safe from a cell of a live kernel.

The agent is a child process with pipes; nothing here enters a namespace, and no event loop is needed. A thread reads
the answers, so several threads may ask at once and a slow answer does not keep the others. What goes wrong with the
agent itself is one AgentError; what a node cannot tell is a :class:`Told` that says why.
"""

from __future__ import annotations

import io
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from ..agent.command import short
from ..agent.protocol import LIMIT
from ..errors import AgentError
from .conversation import Conversation, Slot
from .transport import ChildTransport, Transport, child_command

__all__ = ["ADVICE", "Agent", "Ran", "Running", "Told", "Transport", "Watching", "child_command"]

ADVICE = {
    "denied": "Run Jupyter as root on the node, or use the live source with an agent pod",
    "gone": "The pod ended or was restarted: look again",
    "timeout": "The node is slow: ask again",
}
"""What to do about a code."""


def _advised(why: str, code: str) -> str:
    return f"{why}. {ADVICE[code]}" if code in ADVICE else why


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


class Running:
    """A request under way: :meth:`cancel` it, or wait for its :meth:`result`.

    ``again`` is asked once for another target when the namespace is gone; None: there is none.
    """

    def __init__(
        self,
        agent: Agent,
        argv: tuple[str, ...],
        target: Mapping[str, Any],
        seconds: float,
        again: Callable[[], Mapping[str, Any] | None] | None = None,
    ) -> None:
        self._agent, self._argv, self._seconds, self._again = agent, argv, seconds, again
        self._lock = threading.Lock()
        self._cancelled = False
        self._key, self._slot = self._start(target)

    def _start(self, target: Mapping[str, Any]) -> tuple[int, Slot]:
        request = {"op": "run", "argv": list(self._argv), "target": dict(target)}
        return self._agent.post(request, self._seconds)

    @property
    def done(self) -> bool:
        """Whether the result is there."""
        return self._slot.ready.is_set()

    def cancel(self) -> None:
        """Have the command ended; what it wrote until then is in the result."""
        with self._lock:
            self._cancelled = True
            self._agent.send({"op": "cancel", "target": self._key})

    def result(self) -> Ran:
        """The command's end. Raises AgentError when the agent could not run it."""
        header, payload = self._agent.wait(self._key, self._slot, self._seconds)
        if header.get("error") == "gone" and self._retry():
            header, payload = self._agent.wait(self._key, self._slot, self._seconds)
        if header.get("error") == "cancelled":  # before the command had started
            return Ran(self._argv, None, b"", b"", "cancelled")
        if "error" in header:
            code = str(header["error"])
            raise AgentError(_advised(f"{short(self._argv)}: {header.get('why')}", code), code)
        size = int(header["out"])
        return Ran(self._argv, header.get("status"), payload[:size], payload[size:], str(header.get("ended") or ""))

    def _retry(self) -> bool:
        again, self._again = self._again, None
        target = again() if again is not None else None
        with self._lock:
            if target is None or self._cancelled:
                return False
            self._key, self._slot = self._start(target)
        return True


class Watching:
    """Events under way: :meth:`take` what came since, :meth:`close` when no more are wanted."""

    def __init__(self, agent: Agent, key: int, slot: Slot) -> None:
        self._agent, self._key, self._slot = agent, key, slot

    def take(self) -> tuple[list[bytes], list[float], int]:
        """Raw datagrams, when each came (seconds since 1970), and how often some were lost, since the last call.

        Raises AgentError when the agent has ended, or could not listen: its reason is in the message.
        """
        answers, lost = self._agent.taken(self._slot)
        pieces: list[bytes] = []
        times: list[float] = []
        for header, payload in answers:
            stream = io.BytesIO(payload)
            for moment, size in header["pieces"]:
                pieces.append(stream.read(size))
                times.append(moment)
            lost += header["dropped"]
        if not answers and self._slot.ready.is_set():
            header, _ = self._agent.wait(self._key, self._slot, 0)
            code = str(header.get("error") or "")
            raise AgentError(_advised(f"conntrack events of {self._agent.name}: {header.get('why')}", code), code)
        return pieces, times, lost

    def close(self) -> None:
        """Have the agent stop listening."""
        self._agent.forget(self._key)
        with suppress(AgentError):
            self._agent.send({"op": "cancel", "target": self._key})


class Agent:
    """A conversation with one agent. Close it, or use ``with``; it also ends with this process."""

    slack = 6.0
    """Seconds beyond a request's own limit after which an agent that says nothing is given up."""

    def __init__(self, transport: Transport, name: str = "this node", limit: int = LIMIT) -> None:
        self.name = name
        self._talk = Conversation(transport, name, limit)
        self._reader = threading.Thread(target=self._talk.listen, name=f"k8snet agent of {name}", daemon=True)
        self._reader.start()
        # The thread does not hold the agent: when nobody else does, it ends, as at the end of this process.
        self._finalizer = weakref.finalize(self, self._talk.end, "it was closed")

    @classmethod
    def start(cls, argv: Sequence[str] | None = None, name: str = "this node", limit: int = LIMIT) -> Agent:
        """Start an agent as a child process. Raises AgentError when it does not start."""
        command = list(argv) if argv is not None else [*child_command(), "--limit", str(limit)]
        return cls(ChildTransport(command), name, limit)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the agent and whatever it is doing."""
        self._finalizer()
        if threading.current_thread() is not self._reader:
            self._reader.join(5)

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""
        return not self._talk.dead

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

    def start_run(
        self,
        argv: Sequence[str],
        target: Mapping[str, Any],
        seconds: float = 30.0,
        again: Callable[[], Mapping[str, Any] | None] | None = None,
    ) -> Running:
        """Start a command of the node in a network namespace; see :class:`Running`."""
        return Running(self, tuple(argv), target, seconds, again)

    def run(self, argv: Sequence[str], target: Mapping[str, Any], seconds: float = 30.0) -> Ran:
        """Run a command of the node in a network namespace to its end or time limit. Raises AgentError."""
        return self.start_run(argv, target, seconds).result()

    def watch(self, target: Mapping[str, Any], seconds: float = 3600.0, patience: float = 30.0) -> Watching:
        """Listen to conntrack events in a network namespace; returns when the agent does.

        Raises AgentError when it cannot: connection tracking is not loaded, or it is not permitted.
        """
        key, slot = self.post({"op": "watch", "target": dict(target)}, seconds)
        watching = Watching(self, key, slot)
        if not slot.begun.wait(patience):
            watching.close()
            raise AgentError(f"the agent of {self.name} did not listen within {patience:g} seconds; ask again")
        watching.take()  # nothing but the word that it listens, or why not
        return watching

    def taken(self, slot: Slot) -> tuple[list[tuple[dict[str, Any], bytes]], int]:
        """The answers that wait in a slot, and how many of them were lost for want of room."""
        return self._talk.taken(slot)

    def forget(self, key: int) -> None:
        """Take no more answers to a request."""
        self._talk.forget(key)

    def exchange(self, request: Mapping[str, Any], target: Mapping[str, Any], seconds: float = 30.0) -> dict[str, Any]:
        """One DNS question to one server, sent from a network namespace: see :mod:`k8snet_nb.agent.dns_exchange`.

        ``seconds`` bounds the whole, entering the namespace included; the request's ``timeout`` bounds the waiting.
        Raises AgentError when nothing could be sent.
        """
        header, _ = self._ask({"op": "dns", "exchange": dict(request), "target": dict(target)}, seconds)
        if "error" in header:
            why = f"the agent of {self.name} could not ask {request.get('server')}: {header.get('why')}"
            raise AgentError(_advised(why, str(header["error"])), str(header["error"]))
        told: dict[str, Any] = header["exchange"]
        return told

    def _ask(self, request: dict[str, Any], seconds: float) -> tuple[dict[str, Any], bytes]:
        key, slot = self.post(request, seconds)
        return self.wait(key, slot, seconds)

    def post(self, request: dict[str, Any], seconds: float) -> tuple[int, Slot]:
        """Send a request; its number and where its answers arrive. Raises AgentError, Refused."""
        return self._talk.post(request, seconds)

    def send(self, request: dict[str, Any]) -> None:
        """Send one frame. Raises AgentError when the agent is gone, Refused when the frame is too large for it."""
        self._talk.send(request)

    def wait(self, key: int, slot: Slot, seconds: float) -> tuple[dict[str, Any], bytes]:
        """The answer to a request, a little after its own deadline at the latest. Raises AgentError."""
        arrived = slot.ready.wait(seconds + self.slack)
        self._talk.forget(key)
        if slot.answer is not None:
            return slot.answer
        if not arrived:
            self._talk.end(f"it did not answer within {seconds:g} seconds")
        raise AgentError(self._talk.message())
