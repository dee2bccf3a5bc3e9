"""Twins brought up, taken down, listed: from this machine's side."""

from __future__ import annotations

import json
import os
import pickle
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, BinaryIO

from ..errors import TwinError
from ..sources.base import Source
from ..sources.opening import BUNDLED, ENVIRONMENT
from ..sources.recorded import open_recording
from ..sources.transport import boot_command
from ..sources.twin_control import ABOUT, LOG, SOCKET, TwinFolder
from .folders import held, new_folder, remove
from .loading.steps import rule_steps
from .model import LeftOut, TwinPlan
from .planning.plan import plan_twin, with_rules
from .planning.wire import node_mark, outside_network
from .serving.dns_server import read_zone

__all__ = ["down", "up"]


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
    source = open_recording(_recording(recording))
    told(f"planning {source.name}")
    plan = with_rules(plan_twin(source, nodes), lambda node: rule_steps(source, node))
    folder, log = new_folder(name or _plain(source.name), named=name is not None)
    try:
        with log:
            told(f"building {len(plan.nodes)} nodes")
            left_out = _start(folder, log, plan, source)
    except BaseException:  # whoever reads the keeper's words is gone then, which ends it
        _wait(folder)
        remove(folder)
        raise
    return folder, left_out


def _recording(chosen: str | os.PathLike[str] | None) -> str | os.PathLike[str]:
    """What was named; else what K8SNET_SOURCE names, unless that is the twin to be made; else the bundled one.

    Raises TwinError for a source that changes: a twin is opened later by the recording that it was made from.
    """
    if chosen is None:
        chosen = os.environ.get(ENVIRONMENT) or "twin"
        chosen = BUNDLED if chosen.partition(":")[0] == "twin" else chosen
    if isinstance(chosen, str) and chosen.partition(":")[0] in ("live", "node", "twin"):
        raise TwinError(
            f"{chosen!r} is no recording: make one (k8snet record OUT), then a twin of it (k8snet twin up OUT)"
        )
    return chosen


def down(twin: TwinFolder, seconds: float = 10.0) -> None:
    """End a twin and wait until nothing of it is left. Raises TwinError when it does not end."""
    about = twin.about
    with suppress(TwinError):
        twin.ask({"op": "down"}, 5)
    if not _wait(twin, seconds / 2) and _running(about):
        with suppress(ProcessLookupError):
            os.kill(about["pid"], signal.SIGKILL)
    if not _wait(twin, seconds / 2):
        if not about:
            raise TwinError(f"the twin {twin.name} is being built: wait for its `k8snet twin up`, or interrupt that")
        raise TwinError(
            f"the twin {twin.name} (process {about.get('pid')}) does not end: end that process, then say it again"
        )
    remove(twin)


def _plain(name: str) -> str:
    return (re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._") or "twin")[:32]


def _start(folder: TwinFolder, log: BinaryIO, plan: TwinPlan, source: Source) -> tuple[LeftOut, ...]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(folder.path / SOCKET))
        listener.listen(64)
        reading, writing = os.pipe()
        argv = [*boot_command("k8snet_nb.twin.keeper", sys.executable, site=True), str(listener.fileno()), str(writing)]
        handed = (listener.fileno(), writing)
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=log, stderr=log, pass_fds=handed, cwd="/", start_new_session=True
        )
        with process, os.fdopen(reading) as words:  # closed before the process is waited for: see keeper.main
            os.close(writing)
            _hand_over(process, (plan, read_zone(source)))
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
        "outside_networks": {family: str(outside_network(ip)) for family, ip in plan.outside.items()},
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    for line in words:
        word = json.loads(line)
        if "error" in word:  # with the log's end, for the folder goes with the twin
            raise TwinError(f"{word['error']}. The twin's log: {_last_words(folder)}")
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
    text = (folder.path / LOG).read_text(errors="replace").strip()
    return text[-1500:] or "it said nothing"


def _started(pid: int) -> str:
    """When a process started, in clock ticks since boot (proc_pid_stat(5)): a pid alone may be used again.

    Empty when it has ended, even where nobody has taken note of that.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _running(about: dict[str, Any]) -> bool:
    pid, started = about.get("pid"), about.get("started")
    return isinstance(pid, int) and bool(started) and _started(pid) == started


def _wait(twin: TwinFolder, seconds: float = 10.0) -> bool:
    """Wait until the twin's last process is gone; whether it is. The keeper is: it ends after all the others."""
    until, about = time.monotonic() + seconds, twin.about
    while held(twin) or _running(about):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True
