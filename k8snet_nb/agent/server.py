"""The agent's loop: a frame in, a child process that does the work, a frame out.

The loop itself never enters a namespace and never waits for the kernel, nor for who asks: half a request and an answer
that nobody takes wait in :mod:`.streams`, and as long as the latter does nothing more is read from the children. Each
request has a child of its own, which is killed at the request's deadline, when it is cancelled, or when the agent ends,
and what it runs with it. The agent ends with its standard input.

Requests are headers with an ``id`` (any JSON value, given back) and an ``op``:

- ``hello``: what ``node.json`` says, the facts that this agent knows, ``euid``;
- ``ping``;
- ``facts``: ``targets``, a list of ``{"key", "facts"}`` for the node, with ``pid``, ``path`` or ``pod`` (a list of
  uid and config hash) and optionally ``inode`` for a namespace. The answer lists key, fact and size in the payload,
  or why not;
- ``watch``: conntrack events in the namespace of ``target``, in many frames with ``more``; see :mod:`.watch`. The last
  frame, without it, says why it ended;
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
from collections.abc import Iterator
from typing import Any

from .collect import NODE_FACTS, POD_FACTS, Collector, Target, about_node, as_missing
from .command import Stop, end_at_once, find_tool, kill_children, run, short
from .dns_exchange import answer as dns_answer
from .kernel import Missing, adopt_orphans, die_with_parent
from .processes import children
from .protocol import LIMIT, REQUEST_LIMIT, BadFrame, frame_size, pack
from .streams import Inbox, Outbox
from .watch import watch

__all__ = ["Server"]

_MOST_CHILDREN = 16
_DEFAULT_SECONDS, _MOST_SECONDS = 30.0, 3600.0
_GRACE = 3.0
_LOOK_FOR_PARENT = 2.0
_TOO_SLOW, _CANCELLED = "no answer within the time limit", "cancelled"
_CODES = {_TOO_SLOW: "timeout", _CANCELLED: "cancelled"}
_RUN_LIMIT = 32 * 1024 * 1024
_LAST_WORDS, _FAREWELL = 1.0, 1.5
"""Seconds for a last message to be taken, and for commands to be ended, when the agent itself ends."""


class _Child:
    """One request at work: its process, the pipe that its answer comes through, when it must be done."""

    def __init__(self, key: Any, pid: int, pipe: int, deadline: float, op: str) -> None:
        self.key, self.pid, self.pipe, self.deadline = key, pid, pipe, deadline
        self.streams, self.runs = op == "watch", op == "run"
        self.answer = bytearray()
        self.why = ""
        self.frames = 0
        self.killed = False


class Server:
    """Serves frames from descriptor ``source`` to descriptor ``sink`` until the first ends.

    With ``heartbeat`` it also ends when no request, not even a ping, came for so many seconds.
    """

    def __init__(
        self, source: int, sink: int, limit: int = LIMIT, parent: int | None = None, heartbeat: float | None = None
    ) -> None:
        self._limit, self._parent, self._heartbeat = limit, parent, heartbeat
        self._inbox, self._outbox = Inbox(source, min(limit, REQUEST_LIMIT)), Outbox(sink)
        self._beat()
        self._children: dict[int, _Child] = {}
        self._waiting = selectors.DefaultSelector()
        self._sink_watched = False
        self._others: list[int] = []  # children that were there before

    def serve(self) -> None:
        """Run until the end of input, ``stop``, a frame that is none, or the parent's death."""
        self._waiting.register(self._inbox.fd, selectors.EVENT_READ)
        adopt_orphans()  # what a child leaves that was killed from outside is ended here
        self._others = children()
        try:
            while self._wanted():
                self._watch_sink()
                for key, _ in self._waiting.select(self._patience()):
                    if key.fd == self._inbox.fd:
                        if not self._requests():
                            return
                    elif key.fd == self._outbox.fd:
                        self._outbox.flush()
                    elif not self._outbox.full:
                        self._hear(self._children[key.fd])
                self._enforce()
        except BrokenPipeError:
            return  # nobody reads the answers any more
        finally:
            self._end_all()
            self._waiting.close()

    def _watch_sink(self) -> None:
        """While answers wait to be taken, wait for that and not for the children: they would only make more of them."""
        full = self._outbox.full
        if full == self._sink_watched:
            return
        self._sink_watched = full
        if full:
            self._waiting.register(self._outbox.fd, selectors.EVENT_WRITE)
        else:
            self._waiting.unregister(self._outbox.fd)
        for pipe in self._children:
            if full:
                self._waiting.unregister(pipe)
            else:
                self._waiting.register(pipe, selectors.EVENT_READ)

    def _wanted(self) -> bool:
        if self._heartbeat is not None and time.monotonic() - self._heard > self._heartbeat:
            return False
        return self._parent is None or os.getppid() == self._parent

    def _beat(self) -> None:
        """Somebody is there: a request came."""
        self._heard = time.monotonic()

    def _patience(self) -> float | None:
        # Not the kernel's parent-death signal: that comes when the *thread* that started the agent ends.
        longest = None if self._parent is None and self._heartbeat is None else _LOOK_FOR_PARENT
        if not self._children:
            return longest
        left = max(0.0, min(child.deadline for child in self._children.values()) - time.monotonic())
        return left if longest is None else min(left, longest)

    def _requests(self) -> bool:
        """Take what came; False when the agent has to end."""
        try:
            ended = self._inbox.fill()
            while (header := self._inbox.take()) is not None:
                if not self._request(header):
                    return False
        except BadFrame as error:
            self._send({"id": None, "error": "failed", "why": "a request that is none: %s" % error})
            self._outbox.last_words(_LAST_WORDS)
            return False
        return not ended

    def _request(self, header: dict[str, Any]) -> bool:
        self._beat()
        op, key = header.get("op"), header.get("id")
        if op == "stop":
            return False
        if op == "ping":
            self._send({"id": key, "ok": True})
        elif op == "cancel":
            self._cancel(header.get("target"))
        elif op not in _WORK and op != "watch":
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
        deadline = time.monotonic() + seconds + _GRACE
        self._children[reading] = _Child(header.get("id"), pid, reading, deadline, header["op"])
        if not self._sink_watched:
            self._waiting.register(reading, selectors.EVENT_READ)

    def _hear(self, child: _Child) -> None:
        data = os.read(child.pipe, 1 << 20)
        if data:
            if child.killed:
                return  # the rest of a frame whose begin is gone
            child.answer += data
            while (size := frame_size(child.answer)) is not None:
                self._outbox.add(bytes(child.answer[:size]))
                del child.answer[:size]
                child.frames += 1
            return
        self._end(child)
        if child.streams and not child.why:
            self._send({"id": child.key, "error": "ended", "why": "its time is over"})
        elif child.streams or not child.frames:
            why = child.why or "the process that worked on the request died"
            self._send({"id": child.key, "error": _CODES.get(child.why, "failed"), "why": why})

    def _enforce(self) -> None:
        now = time.monotonic()
        for child in list(self._children.values()):
            if child.deadline <= now:
                # One that runs a command is done with it by now, or that dies with it; another ends its tool first.
                first = not child.runs and not child.killed
                child.why = child.why or _TOO_SLOW
                child.answer.clear()
                child.killed = True
                self._kill(child, signal.SIGTERM if first else signal.SIGKILL)
                child.deadline = now + (_GRACE if first else 60)

    def _cancel(self, key: Any) -> None:
        for child in self._children.values():
            if child.key == key and not child.why:  # a second signal would come while it cleans up
                child.why = _CANCELLED
                self._kill(child, signal.SIGTERM)
                child.deadline = min(child.deadline, time.monotonic() + _GRACE)

    def _kill(self, child: _Child, number: int) -> None:
        try:
            os.kill(child.pid, number)
        except ProcessLookupError:
            pass

    def _end_all(self) -> None:
        """End every child. One that runs a command gets a moment to end that and whatever the command started."""
        for child in self._children.values():
            self._forget_pipe(child)
            self._kill(child, signal.SIGKILL if child.runs and child.killed else signal.SIGTERM)
        until = time.monotonic() + _FAREWELL
        for child in self._children.values():
            while not (ended := os.waitpid(child.pid, os.WNOHANG)[0]) and time.monotonic() < until:
                time.sleep(0.005)
            if not ended:
                self._kill(child, signal.SIGKILL)
                os.waitpid(child.pid, 0)
        self._children.clear()
        kill_children(but=self._others)

    def _end(self, child: _Child) -> None:
        self._forget_pipe(child)
        del self._children[child.pipe]
        self._kill(child, signal.SIGKILL)
        os.waitpid(child.pid, 0)
        if child.killed or not child.frames:
            kill_children(but=[*self._others, *(other.pid for other in self._children.values())])

    def _forget_pipe(self, child: _Child) -> None:
        if not self._sink_watched:
            self._waiting.unregister(child.pipe)
        os.close(child.pipe)

    def _send(self, header: dict[str, Any]) -> None:
        self._outbox.add(pack(header, limit=self._limit))


def _seconds(header: dict[str, Any]) -> float:
    said = header.get("timeout")
    return min(float(said), _MOST_SECONDS) if isinstance(said, (int, float)) and said > 0 else _DEFAULT_SECONDS


def _work(header: dict[str, Any], seconds: float, pipe: int, parent: int, limit: int) -> None:
    """In the child: do it, write the frame, end. Never returns."""
    try:
        # What a command started is out of the kernel's reach: who runs one has to end it first.
        signal.signal(signal.SIGTERM, end_at_once)
        die_with_parent(signal.SIGTERM, parent)
        try:
            if header["op"] == "watch":
                _send_all(pipe, header, watch(header, seconds), limit)
                return
            answer, payload = _WORK[header["op"]](header, seconds)
        except Exception as error:  # noqa: BLE001 - a fault of the agent: say where, rather than die without a word
            missing = as_missing(error)
            answer, payload = {"error": missing.code, "why": str(missing)}, b""
        _send_all(pipe, header, iter([(answer, payload)]), limit)
    finally:
        os._exit(0)


def _send_all(pipe: int, header: dict[str, Any], answers: Iterator[tuple[dict[str, Any], bytes]], limit: int) -> None:
    for answer, payload in answers:
        answer["id"] = header.get("id")
        try:
            data = pack(answer, payload, limit)
        except BadFrame as error:
            data = pack({"id": header.get("id"), "error": "too_much", "why": str(error)})
        view = memoryview(data)
        while view:
            view = view[os.write(pipe, view) :]


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
    stop = Stop()
    argv = header["argv"]
    if not isinstance(argv, list) or not argv or not all(isinstance(word, str) and "\0" not in word for word in argv):
        raise Missing("a command is a list of words", "failed")
    program = argv[0] if "/" in argv[0] else find_tool(argv[0])
    if program is None:
        raise Missing("the node has no program %s" % short(argv[:1]))
    Collector().enter(Target(header.get("target") or {}))
    try:
        outcome = run([program, *argv[1:]], seconds, _RUN_LIMIT, stop)
    except OSError as error:
        raise Missing("%s: %s" % (short(argv[:1]), error.strerror), "failed") from None
    answer = {"status": outcome.status, "ended": outcome.ended, "out": len(outcome.out), "err": len(outcome.err)}
    return answer, outcome.out + outcome.err


def _dns(header: dict[str, Any], _seconds: float) -> tuple[dict[str, Any], bytes]:
    Collector().enter(Target(header.get("target") or {}))
    try:
        return {"exchange": dns_answer(header["exchange"])}, b""
    except (KeyError, TypeError, ValueError) as error:
        raise Missing(str(error), "failed") from None


_WORK = {"hello": _hello, "facts": _facts, "run": _run, "dns": _dns}
