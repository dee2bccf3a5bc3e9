"""Servers and clients of the twin inside namespaces of a test's own: forked, then moved there, as the keeper does."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import k8snet_nb
from k8snet_nb.sources.recorded import open_recording
from k8snet_nb.twin.model import Listener
from k8snet_nb.twin.serving.client import Answer, Plan, connect
from k8snet_nb.twin.serving.dns_server import Zone, read_zone
from k8snet_nb.twin.serving.servers import serve

HELLO = Path(str(k8snet_nb.__file__)).parent / "data" / "hello-cluster"
_LIBC = ctypes.CDLL(None, use_errno=True)
_NEW_NET = 0x40000000


@cache
def hello_zone() -> Zone:
    """The DNS of the bundled recording."""
    return read_zone(open_recording(HELLO))


def _enter(namespace: str) -> None:
    with Path("/run/netns", namespace).open("rb") as there:
        if _LIBC.setns(there.fileno(), _NEW_NET):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")


def _fork(namespace: str, work: Callable[[Callable[[Any], None]], None]) -> tuple[int, int]:
    """Run ``work`` in a child inside a namespace; it gets a function to send JSON with. Process id and reading end."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    try:
        os.close(reading)
        _LIBC.prctl(1, signal.SIGKILL)  # a test that is killed leaves no server
        _enter(namespace)
        work(lambda value: (os.write(writing, json.dumps(value).encode() + b"\n"), None)[1])
        os._exit(0)
    except BaseException:  # noqa: BLE001 - the child must not go on as a second pytest
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(1)


@contextmanager
def serving(namespace: str, listeners: Sequence[Listener], zone: Zone | None = None) -> Iterator[list[str]]:
    """Servers in a namespace, as long as the block runs; gives what could not be bound."""
    chosen = zone or hello_zone()
    child, reading = _fork(namespace, lambda send: serve(listeners, chosen, send))
    try:
        with os.fdopen(reading) as told:
            yield json.loads(told.readline())
            assert os.waitpid(child, os.WNOHANG) == (0, 0), "the server did not live through the test"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def running(namespace: str, work: Callable[[], Any]) -> Any:
    """What a function gives back, as JSON, when it runs inside a namespace."""
    child, reading = _fork(namespace, lambda send: send(work()))
    with os.fdopen(reading) as told:
        text = told.read()
    assert os.waitpid(child, 0)[1] == 0, "failed inside the namespace: see standard error"
    return json.loads(text)


def connecting(namespace: str, plan: Plan) -> list[Answer]:
    """The answers to a plan, from inside a namespace."""
    fields = Answer.__dataclass_fields__
    told = running(namespace, lambda: [{name: getattr(each, name) for name in fields} for each in connect(plan)])
    return [Answer(**each) for each in told]
