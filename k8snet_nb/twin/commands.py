"""``k8snet twin up|down|list``: see :mod:`.making`; the arguments of ``verify``, which the façade does."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

from ..errors import TwinError
from ..render import printable
from ..sources.twin_control import TwinFolder, twin_folders
from .model import LeftOut

__all__ = ["add_commands", "run_command"]


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    """Add ``twin`` to the command's parser."""
    twin = commands.add_parser("twin", help="bring a recorded cluster to life in this machine's kernel")
    verbs = twin.add_subparsers(dest="verb", required=True, metavar="up|down|list|verify")
    making = verbs.add_parser("up", help="build one", description="Build a twin; then kn.open('twin') reads it.")
    making.add_argument(
        "recording", nargs="?", help="folder or archive; by default K8SNET_SOURCE, else the bundled one"
    )
    making.add_argument("--node", action="append", metavar="NAME", help="only this node (again for more)")
    making.add_argument("--name", help="of the twin; by default the recording's")
    ending = verbs.add_parser("down", help="end one, without a trace")
    ending.add_argument("name", nargs="?", help="which; not needed when there is only one")
    ending.add_argument("--all", action="store_true", help="all of them")
    verbs.add_parser("list", help="those that run")
    _add_verify(verbs)


def _add_verify(verbs: argparse._SubParsersAction[Any]) -> None:
    about = "Make connections for every Service, entry, node, family and client, and compare them with the rules."
    status = "exit status: 0 all is the same or explained, 1 something differs, 2 it could not be tried"
    verifying = verbs.add_parser(
        "verify", help="try that packets go as the rules say", description=about, epilog=status
    )
    verifying.add_argument("name", nargs="?", help="which; not needed when there is only one")
    verifying.add_argument(
        "--service", action="append", metavar="NAMESPACE/NAME", help="only this one (again for more)"
    )
    verifying.add_argument("--node", action="append", metavar="NAME", help="only by this node (again for more)")
    verifying.add_argument("--count", type=int, default=48, help="connections where several endpoints share (48)")
    verifying.add_argument("--all", action="store_true", help="one line a case, also of those that are the same")
    verifying.add_argument("--json", action="store_true", help="every case as JSON")


def run_command(options: argparse.Namespace) -> int | None:
    """Do what was asked; the exit status, or None when it was for somebody else."""
    if options.command != "twin":
        return None
    if not sys.platform.startswith("linux"):
        raise TwinError("a twin needs a Linux kernel. Elsewhere use the container: docs/twin.md")
    return {"up": _up, "down": _down, "list": _list}[options.verb](options)


def _up(options: argparse.Namespace) -> int:
    from .making import up  # what only Linux has is imported on Linux only: other commands work elsewhere too

    begun = time.monotonic()
    twin, left_out = up(options.recording, options.node, options.name, lambda word: _say(f"{word} ..."))
    nodes = ", ".join(twin.about["nodes"])
    print(f"twin {twin.name} is up after {time.monotonic() - begun:.1f} s: {printable(nodes)}")
    for line in _summary(left_out):
        print(line)
    print(f'read it: kn.open("twin")   open the lessons on it: k8snet lab --source twin:{twin.name}')
    print(f"end it:  k8snet twin down {twin.name}")
    return 0


def _summary(left_out: Sequence[LeftOut]) -> list[str]:
    if not left_out:
        return ["nothing of the recording was left out"]
    lines = [f"left out of the recording, and why ({len(left_out)}):"]
    lines += [printable(f"  {one.node or 'wire'} {one.fact}: {one.text[:120]}: {one.why}") for one in left_out[:20]]
    return [*lines, *([f"  and {len(left_out) - 20} more"] if len(left_out) > 20 else [])]


def _down(options: argparse.Namespace) -> int:
    from .folders import sweep
    from .making import down

    for name in sweep():
        _say(f"removed what the ended twin {name} had left")
    running = twin_folders()
    if not running:
        print("no twin is running")
        return 0
    if options.all:
        chosen: Sequence[TwinFolder] = running
    elif options.name is None:
        if len(running) > 1:
            names = ", ".join(twin.name for twin in running)
            raise TwinError(f"several twins are there: {names}. Name one, or give --all")
        chosen = running
    else:
        chosen = [twin for twin in running if twin.name == options.name]
        if not chosen:
            raise TwinError(f"no twin {options.name!r}; there are: {', '.join(twin.name for twin in running)}")
    for twin in chosen:
        down(twin)
        print(f"twin {twin.name} is down")
    return 0


def _list(options: argparse.Namespace) -> int:
    from .folders import sweep

    for name in sweep():
        _say(f"removed what the ended twin {name} had left")
    for twin in twin_folders():
        about = twin.about
        nodes = ", ".join(about.get("nodes") or ())
        state = _state(twin)
        columns = twin.name, state, about.get("made", ""), nodes, about.get("recording", "")
        print("\t".join(printable(str(column)) for column in columns))
    return 0


def _state(twin: TwinFolder) -> str:
    try:
        ended = twin.ask({"op": "status"}, 5).get("ended")
    except TwinError:
        return "up, but it does not answer" if twin.about else "being built"
    return f"up, but without {', '.join(ended)}, which ended" if ended else "up"


def _say(word: str) -> None:
    print(f"k8snet: {word}", file=sys.stderr)
