"""How an agent is started and talked to as a child of this process: pipes, and its last words."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

from ..errors import AgentError

__all__ = ["ChildTransport", "Transport", "boot_command", "child_command"]

_BOOT = (
    "import sys,types,runpy;p=types.ModuleType('k8snet_nb');p.__path__=[sys.argv.pop(1)];"
    "sys.modules['k8snet_nb']=p;runpy.run_module(sys.argv.pop(1),run_name='__main__',alter_sys=True)"
)
"""Starts a module without the package's own front door: it needs none of it, and may not have its libraries."""


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
    return [*boot_command("k8snet_nb.agent", python), "--parent", str(os.getpid())]


def boot_command(module: str, python: str = sys.executable, site: bool = False) -> list[str]:
    """How one of our programs starts: nothing of the user's environment; with ``site`` the installed libraries."""
    package = str(Path(__file__).resolve().parent.parent)
    return [python, "-I", *([] if site else ["-S"]), "-c", _BOOT, package, module]


class ChildTransport:
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
