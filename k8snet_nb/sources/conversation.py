"""What an agent and its reader thread share. It does not know the :class:`.agents.Agent`: that may be forgotten."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from typing import Any

from ..agent.protocol import REQUEST_LIMIT, BadFrame, pack, read_frame
from ..errors import AgentError, Refused
from .transport import Transport

__all__ = ["Conversation", "Slot"]

_MOST_WAITING = 256


class Slot:
    """Where the answers to one request arrive."""

    def __init__(self) -> None:
        self.ready, self.begun = threading.Event(), threading.Event()
        self.answer: tuple[dict[str, Any], bytes] | None = None
        self.more: deque[tuple[dict[str, Any], bytes]] = deque()
        self.lost = 0

    def add(self, header: dict[str, Any], payload: bytes) -> None:
        """One of many answers. The oldest go when nobody takes them."""
        if len(self.more) >= _MOST_WAITING:
            self.more.popleft()
            self.lost += 1
        self.more.append((header, payload))


class Conversation:
    """Requests under way with one agent: sends frames, and delivers the answers that :meth:`listen` reads."""

    def __init__(self, transport: Transport, name: str, limit: int) -> None:
        self._transport, self._name, self._limit = transport, name, limit
        # Reentrant: a forgotten Agent may be cleaned up at any moment, in a thread that holds it.
        self._lock, self._sending = threading.RLock(), threading.Lock()
        self._slots: dict[int, Slot] = {}
        self._keys = itertools.count(1)
        self.dead = ""

    def post(self, request: dict[str, Any], seconds: float) -> tuple[int, Slot]:
        """Send a request; its number and where its answers arrive. Raises AgentError, Refused."""
        key, slot = next(self._keys), Slot()
        with self._lock:
            self._slots[key] = slot
        try:
            self.send({**request, "id": key, "timeout": seconds})
        except BaseException:
            self.forget(key)
            raise
        return key, slot

    def send(self, request: dict[str, Any]) -> None:
        """Send one frame. Raises AgentError when the agent is gone, Refused when the frame is too large for it."""
        try:
            frame = pack(request, limit=min(self._limit, REQUEST_LIMIT))
        except BadFrame as error:
            raise Refused(f"the request is too large for the agent of {self._name}: {error}. Ask for less") from None
        try:
            with self._sending:
                if not self.dead:
                    self._transport.write(frame)
        except (OSError, ValueError):
            self.end("it went away")
        if self.dead:
            raise AgentError(self.message())

    def forget(self, key: int) -> None:
        """Take no more answers to a request."""
        with self._lock:
            self._slots.pop(key, None)

    def taken(self, slot: Slot) -> tuple[list[tuple[dict[str, Any], bytes]], int]:
        """The answers that wait in a slot, and how many of them were lost for want of room."""
        with self._lock:
            answers, lost = list(slot.more), slot.lost
            slot.more.clear()
            slot.lost = 0
        return answers, lost

    def message(self) -> str:
        """Why the agent cannot be asked any more."""
        return f"the agent of {self._name} cannot be asked: {self.dead}. Open the source again to start a new one"

    def listen(self) -> None:
        """Deliver answers until the agent ends."""
        why = "it ended"
        try:
            while (frame := read_frame(self._transport.read, self._limit)) is not None:
                self._deliver(*frame)
        except BadFrame as error:
            why = str(error)
        except (OSError, ValueError):
            why = "it went away"
        self.end(why)

    def _deliver(self, header: dict[str, Any], payload: bytes) -> None:
        with self._lock:
            slot = self._slots.get(header.get("id") or 0)
            if slot is not None and header.get("more"):
                slot.add(header, payload)
        if slot is None:
            return
        if not header.get("more"):
            # the first is the reason: after it comes the agent's own word that the stream is over
            slot.answer = slot.answer or (header, payload)
            slot.ready.set()
        slot.begun.set()

    def end(self, why: str) -> None:
        """End the agent, if it has not ended, and wake all who wait."""
        with self._lock:
            first = not self.dead
            self.dead = self.dead or why
            waiting = list(self._slots.values())
        if first:
            last = self._transport.close()
            if last and why != "it was closed":
                self.dead = f"{why} ({last})"
        for slot in waiting:
            slot.ready.set()
            slot.begun.set()
