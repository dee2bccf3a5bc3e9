"""Running a command of the node: bounded in time and output, output apart from errors, nothing left behind."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence

from .kernel import die_with_parent

__all__ = ["Outcome", "find_tool", "run"]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CHUNK = 65536


class Outcome:
    """How a command ended: ``status`` (exit status; minus the signal's number), what it wrote, why it was ended."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.ended = ""  # "", "timed_out", "cancelled" or "too_much"
        self.streams: tuple[bytearray, bytearray] = (bytearray(), bytearray())

    @property
    def out(self) -> bytes:
        """What it wrote to standard output."""
        return bytes(self.streams[0])

    @property
    def err(self) -> bytes:
        """What it wrote to standard error."""
        return bytes(self.streams[1])


class _Stop(Exception):
    pass


def find_tool(name: str) -> str | None:
    """The node's own program of that name, or None."""
    for folder in PATH.split(":"):
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK):
            return path
    return None


def _stop(_signal: int, _frame: object) -> None:
    raise _Stop


def run(argv: Sequence[str], seconds: float, limit: int) -> Outcome:
    """Run a command to its end, its deadline, SIGTERM to this process, or ``limit`` bytes of output a stream.

    Raises OSError when there is no such program. The whole session of the command is killed in any case.
    """
    outcome, me = Outcome(), os.getpid()
    environment = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/", "TERM": "dumb"}
    before = signal.signal(signal.SIGTERM, _stop)
    child = None
    try:
        child = subprocess.Popen(  # the agent's own threads are none, so a function before exec is safe
            list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/",
            env=environment, start_new_session=True, preexec_fn=lambda: die_with_parent(signal.SIGKILL, me),
        )  # fmt: skip
        outcome.ended = _collect(child, outcome, time.monotonic() + seconds, limit)
    except _Stop:
        outcome.ended = "cancelled"
    finally:
        signal.signal(signal.SIGTERM, before)
        if child is not None:
            _kill(child, gently=outcome.ended == "cancelled")
            outcome.status = child.wait()
            for stream in (child.stdout, child.stderr):
                if stream is not None:
                    stream.close()
    return outcome


def _collect(child: subprocess.Popen[bytes], outcome: Outcome, deadline: float, limit: int) -> str:
    with selectors.DefaultSelector() as waiting:
        for stream, held in zip((child.stdout, child.stderr), outcome.streams):
            if stream is not None:
                waiting.register(stream, selectors.EVENT_READ, held)
        while waiting.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                return "timed_out"
            # A command that ended may leave its output to something in the background: do not wait for that.
            for key, _ in waiting.select(min(left, 0.2)) or ():
                data = os.read(key.fd, _CHUNK)
                if not data:
                    waiting.unregister(key.fileobj)
                    continue
                key.data.extend(data)
                if len(key.data) > limit:
                    del key.data[limit:]
                    return "too_much"
            if child.poll() is not None and not waiting.select(0):
                return ""
    return _finish(child, deadline)


def _finish(child: subprocess.Popen[bytes], deadline: float) -> str:
    try:
        child.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return "timed_out"
    return ""


def _kill(child: subprocess.Popen[bytes], gently: bool) -> None:
    for number in (signal.SIGINT, signal.SIGKILL) if gently else (signal.SIGKILL,):
        try:
            os.killpg(child.pid, number)
        except (ProcessLookupError, PermissionError):
            return
        if number != signal.SIGKILL:
            try:
                child.wait(0.5)
            except subprocess.TimeoutExpired:
                continue
