"""The agent's loop: a frame in, a child process that does the work, a frame out.

The loop itself never enters a namespace and never waits for the kernel: each request has a child of its own, which is
killed at the request's deadline, when it is cancelled, or when the agent ends. The agent ends with its standard input.

Requests are headers with an ``id`` (any JSON value, given back) and an ``op``:

- ``hello``: what ``node.json`` says, the facts that this agent knows, ``euid``;
- ``ping``;
- ``facts``: ``targets``, a list of ``{"key", "facts"}`` for the node, with ``pid``, ``path`` or ``pod`` (a list of
  uid and config hash) and optionally ``inode`` for a namespace. The answer lists key, fact and size in the payload,
  or why not;
- ``run``: ``argv`` in the namespace of ``target``; the payload is the output, then the errors;
- ``dns``: one question to one server from the namespace of ``target``: ``exchange`` and the answer's ``exchange`` are
  those of :func:`.dns_exchange.answer`. Sent only when asked for, and nothing but that one message;
- ``cancel``: ``target`` is the id of the request to end; ``stop``: the agent ends.

``timeout`` in seconds bounds each; an answer with ``error`` is a failure.
"""

from __future__ import annotations

import os
import selectors
import signal
import time
import traceback
from typing import Any

from .collect import NODE_FACTS, POD_FACTS, Collector, Target, about_node
from .command import find_tool, run
from .dns_exchange import answer as dns_answer
from .kernel import Missing, die_with_parent
from .protocol import LIMIT, BadFrame, pack, read_frame

__all__ = ["Server"]

_MOST_CHILDREN = 16
_DEFAULT_SECONDS, _MOST_SECONDS = 30.0, 3600.0
_GRACE = 3.0
_LOOK_FOR_PARENT = 2.0
_TOO_SLOW, _CANCELLED = "no answer within the time limit", "cancelled"
_CODES = {_TOO_SLOW: "timeout", _CANCELLED: "cancelled"}
_RUN_LIMIT = 32 * 1024 * 1024
_REQUEST_LIMIT = 16 * 1024 * 1024


class _Child:
    """One request at work: its process, the pipe that its answer comes through, when it must be done."""

    def __init__(self, key: Any, pid: int, pipe: int, deadline: float) -> None:
        self.key, self.pid, self.pipe, self.deadline = key, pid, pipe, deadline
        self.answer = bytearray()
        self.why = ""


class Server:
    """Serves frames from descriptor ``source`` to descriptor ``sink`` until the first ends.

    With ``heartbeat`` it also ends when no request, not even a ping, came for so many seconds.
    """

    def __init__(
        self, source: int, sink: int, limit: int = LIMIT, parent: int | None = None, heartbeat: float | None = None
    ) -> None:
        self._source, self._sink, self._limit, self._parent = source, sink, limit, parent
        self._heartbeat = heartbeat
        self._beat()
        self._children: dict[int, _Child] = {}
        self._waiting = selectors.DefaultSelector()

    def serve(self) -> None:
        """Run until the end of input, ``stop``, a frame that is none, or the parent's death."""
        self._waiting.register(self._source, selectors.EVENT_READ)
        try:
            while self._wanted():
                for key, _ in self._waiting.select(self._patience()):
                    if key.fd == self._source:
                        if not self._request():
                            return
                    else:
                        self._hear(self._children[key.fd])
                self._enforce()
        except BrokenPipeError:
            return  # nobody reads the answers any more
        finally:
            for child in list(self._children.values()):
                self._end(child)
            self._waiting.close()

    def _wanted(self) -> bool:
        if self._heartbeat is not None and time.monotonic() - self._heard > self._heartbeat:
            return False
        return self._parent is None or os.getppid() == self._parent

    def _beat(self) -> None:
        """Somebody is there: a request came, or an answer was taken."""
        self._heard = time.monotonic()
        if self._heartbeat is not None:  # the alarm ends the agent even while it waits for an answer to be taken
            signal.alarm(int(2 * self._heartbeat) + 1)

    def _patience(self) -> float | None:
        # Not the kernel's parent-death signal: that comes when the *thread* that started the agent ends.
        longest = None if self._parent is None and self._heartbeat is None else _LOOK_FOR_PARENT
        if not self._children:
            return longest
        left = max(0.0, min(child.deadline for child in self._children.values()) - time.monotonic())
        return left if longest is None else min(left, longest)

    def _request(self) -> bool:
        try:
            frame = read_frame(lambda size: os.read(self._source, size), min(self._limit, _REQUEST_LIMIT))
        except BadFrame as error:
            self._send({"id": None, "error": "failed", "why": "a request that is none: %s" % error})
            return False
        if frame is None:
            return False
        self._beat()
        header = frame[0]
        op, key = header.get("op"), header.get("id")
        if op == "stop":
            return False
        if op == "ping":
            self._send({"id": key, "ok": True})
        elif op == "cancel":
            self._cancel(header.get("target"))
        elif op not in _WORK:
            self._send({"id": key, "error": "failed", "why": "no such operation: %r" % (op,)})
        elif len(self._children) >= _MOST_CHILDREN:
            self._send({"id": key, "error": "failed", "why": "busy: %d requests at work" % _MOST_CHILDREN})
        else:
            self._start(header)
        return True

    def _start(self, header: dict[str, Any]) -> None:
        seconds = _seconds(header)
        reading, writing = os.pipe()
        me = os.getpid()
        pid = os.fork()
        if pid == 0:
            _work(header, seconds, writing, me, self._limit)
        os.close(writing)
        child = _Child(header.get("id"), pid, reading, time.monotonic() + seconds + _GRACE)
        self._children[reading] = child
        self._waiting.register(reading, selectors.EVENT_READ)

    def _hear(self, child: _Child) -> None:
        data = os.read(child.pipe, 1 << 20)
        if data:
            child.answer += data
            return
        self._end(child)
        if child.answer:
            self._write(bytes(child.answer))
        else:
            why = child.why or "the process that worked on the request died"
            self._send({"id": child.key, "error": _CODES.get(child.why, "failed"), "why": why})

    def _enforce(self) -> None:
        now = time.monotonic()
        for child in list(self._children.values()):
            if child.deadline <= now:
                child.why = child.why or _TOO_SLOW
                child.answer.clear()
                self._kill(child, signal.SIGKILL)
                child.deadline = now + 60

    def _cancel(self, key: Any) -> None:
        for child in self._children.values():
            if child.key == key:
                child.why = _CANCELLED
                self._kill(child, signal.SIGTERM)
                child.deadline = min(child.deadline, time.monotonic() + _GRACE)

    def _kill(self, child: _Child, number: int) -> None:
        try:
            os.kill(child.pid, number)
        except ProcessLookupError:
            pass

    def _end(self, child: _Child) -> None:
        self._waiting.unregister(child.pipe)
        del self._children[child.pipe]
        os.close(child.pipe)
        self._kill(child, signal.SIGKILL)
        os.waitpid(child.pid, 0)

    def _send(self, header: dict[str, Any]) -> None:
        self._write(pack(header, limit=self._limit))

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._sink, view) :]
            self._beat()


def _seconds(header: dict[str, Any]) -> float:
    said = header.get("timeout")
    return min(float(said), _MOST_SECONDS) if isinstance(said, (int, float)) and said > 0 else _DEFAULT_SECONDS


def _work(header: dict[str, Any], seconds: float, pipe: int, parent: int, limit: int) -> None:
    """In the child: do it, write the frame, end. Never returns."""
    try:
        die_with_parent(signal.SIGKILL, parent)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            answer, payload = _WORK[header["op"]](header, seconds)
        except Missing as missing:
            answer, payload = {"error": missing.code, "why": str(missing)}, b""
        except Exception as error:  # noqa: BLE001 - a fault of the agent: say where, rather than die without a word
            place = traceback.extract_tb(error.__traceback__)[-1]
            why = "%s: %s (%s, line %s)" % (type(error).__name__, error, os.path.basename(place.filename), place.lineno)
            answer, payload = {"error": "failed", "why": why}, b""
        answer["id"] = header.get("id")
        try:
            data = pack(answer, payload, limit)
        except BadFrame as error:
            data = pack({"id": header.get("id"), "error": "too_much", "why": str(error)})
        view = memoryview(data)
        while view:
            view = view[os.write(pipe, view) :]
    finally:
        os._exit(0)


def _hello(_header: dict[str, Any], _seconds: float) -> tuple[dict[str, Any], bytes]:
    return {"about": about_node(), "node_facts": NODE_FACTS, "pod_facts": POD_FACTS, "euid": os.geteuid()}, b""


def _facts(header: dict[str, Any], _seconds: float) -> tuple[dict[str, Any], bytes]:
    answers = Collector().collect([Target(said) for said in header["targets"]])
    index, parts = [], []
    for key, fact, value in answers:
        if isinstance(value, Missing):
            index.append({"key": key, "fact": fact, "error": value.code, "why": str(value)})
            continue
        data, whose, note = value
        parts.append(data)
        index.append({"key": key, "fact": fact, "size": len(data), "whose": whose, "note": note})
    return {"facts": index}, b"".join(parts)


def _run(header: dict[str, Any], seconds: float) -> tuple[dict[str, Any], bytes]:
    argv = header["argv"]
    if not isinstance(argv, list) or not argv or not all(isinstance(word, str) and "\0" not in word for word in argv):
        raise Missing("a command is a list of words", "failed")
    program = argv[0] if "/" in argv[0] else find_tool(argv[0])
    if program is None:
        raise Missing("the node has no program %s" % argv[0])
    Collector().enter(Target(header.get("target") or {}))
    try:
        outcome = run([program, *argv[1:]], seconds, _RUN_LIMIT)
    except OSError as error:
        raise Missing("%s: %s" % (argv[0], error.strerror), "failed") from None
    answer = {"status": outcome.status, "ended": outcome.ended, "out": len(outcome.out), "err": len(outcome.err)}
    return answer, outcome.out + outcome.err


def _dns(header: dict[str, Any], _seconds: float) -> tuple[dict[str, Any], bytes]:
    Collector().enter(Target(header.get("target") or {}))
    try:
        return {"exchange": dns_answer(header["exchange"])}, b""
    except (KeyError, TypeError, ValueError) as error:
        raise Missing(str(error), "failed") from None


_WORK = {"hello": _hello, "facts": _facts, "run": _run, "dns": _dns}
