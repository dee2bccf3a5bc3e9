"""Running a command of the node: bounded in time and output, output apart from errors, nothing left behind."""

from __future__ import annotations

import os
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress

from .kernel import adopt_orphans, die_with_parent
from .processes import children

__all__ = ["Outcome", "Stop", "end_at_once", "find_tool", "kill_children", "run", "short"]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CHUNK = 65536
_LOOK = 0.1
"""Seconds between two looks whether the command was cancelled or has ended."""
_GENTLY, _PATIENCE = 0.5, 2.0
"""Seconds that a command has after an interrupt, and that killed processes have to be gone."""
_WORDS = 200
_GENERATIONS = 50


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


class Stop:
    """Becomes true with SIGTERM from when it is made. An exception instead could come where a process would leak."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGTERM, self._note)

    def _note(self, _signal: int, _frame: object) -> None:
        self.asked = True


def short(argv: Sequence[str]) -> str:
    """A command line for a message: quoted as a shell wants it, and cut where it is long."""
    line = shlex.join(argv)
    return line if len(line) <= _WORDS else line[:_WORDS] + " ..."


def find_tool(name: str) -> str | None:
    """The node's own program of that name, or None."""
    for folder in PATH.split(":"):
        path = os.path.join(folder, name)
        if name and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def end_at_once(_signal: int, _frame: object) -> None:
    """A handler: end this process, and the command that it runs before that."""
    kill_children()
    os._exit(0)


def kill_children(but: Iterable[int] = ()) -> None:
    """Kill and reap the children of this process other than these, and who becomes one by that."""
    for _ in range(_GENERATIONS):
        left = [pid for pid in children() if pid not in but]
        if not left:
            return
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)
        for pid in left:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def run(argv: Sequence[str], seconds: float, limit: int, stop: Stop | None = None, tied: bool = True) -> Outcome:
    """Run a command to its end, its deadline, ``stop``, or ``limit`` bytes of output a stream.

    Raises OSError when there is no such program. All that it started is killed in any case, in other sessions too:
    orphans become children of this process (prctl(2), PR_SET_CHILD_SUBREAPER).

    ``tied`` commands die with this process even if that is killed. The others start in a fifth of the time (Python
    need not copy itself for them): for those that end soon by themselves, and where :func:`end_at_once` is the handler.
    """
    outcome, me = Outcome(), os.getpid()
    environment = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/", "TERM": "dumb"}
    adopt_orphans()
    others = frozenset(children())

    def begin() -> None:
        die_with_parent(signal.SIGKILL, me)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the agent ignores it; a command ends by it when cancelled

    child = subprocess.Popen(  # the agent's own threads are none, so a function before exec is safe
        list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/",
        env=environment, start_new_session=True, preexec_fn=begin if tied else None,
    )  # fmt: skip
    try:
        outcome.ended = _collect(child, outcome, time.monotonic() + seconds, limit, stop)
    finally:
        _kill(child, gently=outcome.ended == "cancelled")
        outcome.status = child.wait()
        _kill_orphans(others)
        _drain(child, outcome, limit)
    return outcome


def _collect(child: subprocess.Popen[bytes], outcome: Outcome, deadline: float, limit: int, stop: Stop | None) -> str:
    with selectors.DefaultSelector() as waiting:
        for stream, held in zip((child.stdout, child.stderr), outcome.streams):
            if stream is not None:
                waiting.register(stream, selectors.EVENT_READ, held)
        while True:
            left = deadline - time.monotonic()
            if stop is not None and stop.asked:
                return "cancelled"
            if left <= 0:
                return "timed_out"
            if not waiting.get_map():
                with suppress(subprocess.TimeoutExpired):
                    child.wait(min(left, _LOOK))
            # A command that ended may leave its output to something in the background: do not wait for that.
            for key, _ in waiting.select(min(left, _LOOK)) if waiting.get_map() else ():
                data = os.read(key.fd, _CHUNK)
                if not data:
                    waiting.unregister(key.fileobj)
                    continue
                key.data.extend(data)
                if len(key.data) > limit:
                    del key.data[limit:]
                    return "too_much"
            if child.poll() is not None and not (waiting.get_map() and waiting.select(0)):
                return ""


def _kill(child: subprocess.Popen[bytes], gently: bool) -> None:
    for number in (signal.SIGINT, signal.SIGKILL) if gently else (signal.SIGKILL,):
        try:
            os.killpg(child.pid, number)
        except (ProcessLookupError, PermissionError):
            return
        if number != signal.SIGKILL:
            with suppress(subprocess.TimeoutExpired):
                child.wait(_GENTLY)


def _childless(others: frozenset[int]) -> bool:
    """Whether the list of children was empty for good: /proc may leave one out that is just being born or adopted."""
    if others:
        time.sleep(_LOOK)
        return not [pid for pid in children() if pid not in others]
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


def _kill_orphans(others: frozenset[int]) -> None:
    """Kill and reap the children that were none before, until there are none: each may leave children of its own."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        left = [pid for pid in children() if pid not in others]
        if not left and _childless(others):
            return
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.002)


def _drain(child: subprocess.Popen[bytes], outcome: Outcome, limit: int) -> None:
    """Take what it wrote before it ended, and close. Nothing waits: whoever could still write is gone."""
    for stream, held in zip((child.stdout, child.stderr), outcome.streams):
        if stream is None:
            continue
        os.set_blocking(stream.fileno(), False)
        with suppress(BlockingIOError):
            while len(held) < limit and (data := os.read(stream.fileno(), min(_CHUNK, limit - len(held)))):
                held.extend(data)
        stream.close()
