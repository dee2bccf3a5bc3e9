"""Twins brought up, taken down, listed: from this machine's side."""

from __future__ import annotations

import json
import os
import pickle
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from ..errors import TwinError
from ..sources.base import Source
from ..sources.opening import BUNDLED, ENVIRONMENT, open_source
from ..sources.transport import boot_command
from ..sources.twin_control import ABOUT, SOCKET, TwinFolder, twin_base, twin_folders
from .loading.steps import rule_steps
from .model import LeftOut, TwinPlan
from .planning.plan import plan_twin, with_rules
from .planning.wire import node_mark
from .serving.dns_server import read_zone

__all__ = ["down", "sweep", "up"]

_LOG, _SECONDS = "log", 120.0


def up(
    recording: str | os.PathLike[str] | None = None,
    nodes: Sequence[str] | None = None,
    name: str | None = None,
    told: Callable[[str], None] = lambda word: None,
) -> tuple[TwinFolder, tuple[LeftOut, ...]]:
    """Bring a recording to life; returns where it is asked, and what of the recording it does not have.

    ``nodes``: some of them, by default all of which there are facts. ``name``: of the twin, by default the recording's.
    Raises TwinError, SourceError, FactError.
    """
    if not sys.platform.startswith("linux"):
        raise TwinError("a twin needs a Linux kernel. Elsewhere use the container: docs/twin.md")
    source = open_source(recording or _usual_recording())
    told(f"planning {source.name}")
    plan = with_rules(plan_twin(source, nodes), lambda node: rule_steps(source, node))
    folder = _new_folder(name or _plain(source.name), named=name is not None)
    try:
        told(f"building {len(plan.nodes)} nodes")
        left_out = _start(folder, plan, source)
    except BaseException:
        _kill(folder)
        shutil.rmtree(folder.path, ignore_errors=True)
        raise
    return folder, left_out


def _usual_recording() -> str | os.PathLike[str]:
    """What K8SNET_SOURCE names, unless that is the twin that is about to be made; else the bundled recording."""
    chosen = os.environ.get(ENVIRONMENT) or "twin"
    return BUNDLED if chosen.partition(":")[0] == "twin" else chosen


def down(twin: TwinFolder, seconds: float = 10.0) -> None:
    """End a twin and wait until nothing of it is left. Raises TwinError when it does not end."""
    with suppress(TwinError):
        twin.ask({"op": "down"}, 5)
    _kill(twin, seconds)
    shutil.rmtree(twin.path, ignore_errors=True)


def sweep() -> list[str]:
    """Remove what ended twins left: their folders. Returns their names."""
    ended = [twin for twin in twin_folders() if twin.about and not _running(twin.about)]
    for twin in ended:
        shutil.rmtree(twin.path, ignore_errors=True)
    return [twin.name for twin in ended]


def _plain(name: str) -> str:
    return (re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._") or "twin")[:32]


def _new_folder(name: str, named: bool) -> TwinFolder:
    base = twin_base()
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    sweep()  # also refuses a base that is somebody else's
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", name):
        raise TwinError(f"{name!r} is no name for a twin: letters, digits, dot, dash and underscore, 40 at most")
    for candidate in [name] if named else [name, *(f"{name}-{number}" for number in range(2, 100))]:
        folder = base / candidate
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            continue
        return TwinFolder(candidate, folder)
    raise TwinError(f"there is a twin {name!r} already: `k8snet twin down {name}`, or give another --name")


def _start(folder: TwinFolder, plan: TwinPlan, source: Source) -> tuple[LeftOut, ...]:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with listener, (folder.path / _LOG).open("wb") as log:
        listener.bind(str(folder.path / SOCKET))
        listener.listen(64)
        reading, writing = os.pipe()
        argv = [*boot_command("k8snet_nb.twin.keeper", sys.executable, site=True), str(listener.fileno()), str(writing)]
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=log, stderr=log, pass_fds=(listener.fileno(), writing), cwd="/",
            start_new_session=True,
        )  # fmt: skip
        os.close(writing)
        _hand_over(process, (plan, read_zone(source)))
        with os.fdopen(reading) as words:
            return _until_ready(folder, plan, source, words)


def _hand_over(process: subprocess.Popen[bytes], what: Any) -> None:
    if process.stdin is not None:
        with suppress(OSError), process.stdin as pipe:  # it may have ended already: its own word says why
            pickle.dump(what, pipe)


def _until_ready(folder: TwinFolder, plan: TwinPlan, source: Source, words: IO[str]) -> tuple[LeftOut, ...]:
    about: dict[str, Any] = {
        "recording": getattr(source, "where", source.name),
        "nodes": [node.name for node in plan.nodes if not node.stand_in],
        "marks": {node.name: node_mark(position) for position, node in enumerate(plan.nodes)},
        "outside": dict(plan.outside),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    for line in words:
        word = json.loads(line)
        if "error" in word:
            raise TwinError(word["error"])
        if "pid" in word:
            about.update(pid=word["pid"], started=_started(word["pid"]))
            _write(folder, about)
        if "left_out" in word:
            about["left_out"] = word["left_out"]
            _write(folder, about)
            return tuple(LeftOut(*one) for one in word["left_out"])
    raise TwinError(f"the twin ended while it was built: {_last_words(folder)}")


def _write(folder: TwinFolder, about: dict[str, Any]) -> None:
    unfinished = folder.path / f".{secrets.token_hex(4)}"
    unfinished.write_text(json.dumps(about, indent=1))
    unfinished.replace(folder.path / ABOUT)


def _last_words(folder: TwinFolder) -> str:
    text = (folder.path / _LOG).read_text(errors="replace").strip()
    return text[-1500:] or "it said nothing"


def _started(pid: int) -> str:
    """When a process started, in clock ticks since boot (proc_pid_stat(5), field 22): a pid alone may be used again."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _running(about: dict[str, Any]) -> bool:
    pid, started = about.get("pid"), about.get("started")
    return isinstance(pid, int) and bool(started) and _started(pid) == started


def _kill(twin: TwinFolder, seconds: float = 10.0) -> None:
    about = twin.about
    if not _running(about):
        return
    until = time.monotonic() + seconds
    asked = time.monotonic() + seconds / 2
    while _running(about):
        if time.monotonic() > asked:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(about["pid"], signal.SIGKILL)
        if time.monotonic() > until:
            raise TwinError(f"the twin {twin.name} (process {about['pid']}) does not end")
        time.sleep(0.02)
