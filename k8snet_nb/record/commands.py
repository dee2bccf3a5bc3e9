"""``k8snet record``, ``k8snet check``, ``k8snet clean``: their arguments, and what they print."""

from __future__ import annotations

import argparse
import os
import sys
import threading

from ..errors import K8snetError
from ..sources.base import Closable, Source
from ..sources.opening import ENVIRONMENT, open_live, open_source
from .over_time import Spans, seconds_of
from .recorder import record
from .redact import Redactor
from .work import Progress

__all__ = ["add_commands", "add_live_options", "run_command", "source_of"]

_COMMANDS = ("record", "check", "clean")


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the three to a parser's commands."""
    make = commands.add_parser("record", help="write a recording", description="Write a recording of a cluster.")
    make.add_argument(
        "out",
        metavar="OUT",
        help="the folder to write, or an archive (.tar.gz, .tar.xz, .zip); continued if interrupted",
    )
    make.add_argument("--source", metavar="SOURCE", default="live", help="live (default), node, or a recording's path")
    make.add_argument("--node", action="append", metavar="NAME", help="only this node; may be given several times")
    add_live_options(make)
    make.add_argument("--redact", action="store_true", help="rename everything, consistently, and leave out the rest")
    make.add_argument(
        "--keep-label", action="append", default=[], metavar="KEY", help="a label key that redaction keeps"
    )
    make.add_argument("--series", metavar="TIME", help="watch the fill of the connection table for so long: 60s")
    make.add_argument("--events", metavar="TIME", help="watch the events of the connection table for so long: 20s")
    make.add_argument(
        "--no-dns", action="store_true", help="do not ask DNS from inside the pods (some dozens of questions a pod)"
    )
    check = commands.add_parser("check", help="check a recording", description="Read and parse all of a recording.")
    check.add_argument("recording", metavar="RECORDING", help="a folder or an archive")
    clean = commands.add_parser("clean", help="delete agents that were left", description="Delete agents left behind.")
    clean.add_argument("--context", help="the kubeconfig context (default: the current one)")
    clean.add_argument("--namespace", default="k8snet", help="the agents' namespace (default %(default)s)")


def add_live_options(parser: argparse.ArgumentParser) -> None:
    """Add how a live cluster is opened: see :func:`source_of`."""
    parser.add_argument("--context", help="the kubeconfig context (default: the current one)")
    parser.add_argument(
        "--agents", action="store_true", help="start an agent pod on each node; else only the API is read"
    )
    parser.add_argument("--namespace", default="k8snet", help="the agents' namespace (default %(default)s)")
    parser.add_argument("--image", help="the agents' image: any with Python 3.9 or newer")


def run_command(options: argparse.Namespace) -> int | None:
    """Run one of the three: its exit status; None when it is another command. Raises K8snetError."""
    if options.command not in _COMMANDS:
        return None
    return {"record": _record, "check": _check, "clean": _clean}[options.command](options)


def _record(options: argparse.Namespace) -> int:
    source = source_of(
        options.source, options, options.node, "only the API is recorded; --agents records the nodes too"
    )
    try:
        redactor = Redactor(keep_labels=options.keep_label) if options.redact else None
        spans = Spans(*(seconds_of(text) if text else 0.0 for text in (options.series, options.events)))
        print(record(source, options.out, options.node, redactor, _bar(), spans, dns=not options.no_dns))
    finally:
        if isinstance(source, Closable):
            source.close()
    return 0


def source_of(wanted: str | None, options: argparse.Namespace, nodes: list[str] | None, without: str) -> Source:
    """The source that a command line names, with agents on ``nodes`` where it asks for them.

    ``without``: what to tell where it does not. None is what ``kn.open()`` opens. Raises K8snetError.
    """
    wanted = wanted or os.environ.get(ENVIRONMENT)
    if wanted != "live":
        if options.agents or options.context:
            raise K8snetError("--agents and --context are for a live cluster: add --source live, or leave them out")
        return open_source(wanted)
    source = open_live(options.context, namespace=options.namespace, image=options.image)
    print(f"k8snet: {source.describe()}", file=sys.stderr)
    if options.agents:
        for planned in source.plan(nodes):
            place = f"{planned.namespace}/" if planned.namespace else ""
            print(f"k8snet: {planned.action} {planned.kind} {place}{planned.name}: {planned.says}", file=sys.stderr)
        for node, why in source.start_agents(nodes).items():
            print(f"k8snet: no agent on {node}: {why}", file=sys.stderr)
    else:
        print(f"k8snet: {without}", file=sys.stderr)
    return source


def _bar() -> Progress:
    """A line that is rewritten on a terminal; nothing elsewhere."""
    lock = threading.Lock()

    def told(what: str, done: int, total: int) -> None:
        if sys.stderr.isatty():
            with lock:
                print(f"\r\x1b[K{what} ({done} of {total})", end="" if done < total else "\n", file=sys.stderr)

    return told


def _check(options: argparse.Namespace) -> int:
    from .check import check_recording  # it loads every parser, and with them pandas

    checked = check_recording(options.recording)
    print(checked)
    return 0 if checked.good else 1


def _clean(options: argparse.Namespace) -> int:
    from ..sources.agent_pods import clean
    from ..sources.kube_http import Connection

    told = clean(Connection.open(options.context), options.namespace)
    print("\n".join(told) if told else f"nothing of k8snet in namespace {options.namespace}")
    return 0
