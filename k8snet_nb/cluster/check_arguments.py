"""The arguments of ``k8snet check-cluster``, apart from what it does: that takes seconds to import."""

from __future__ import annotations

import argparse

from ..record.commands import add_live_options

__all__ = ["add_check_cluster"]

_STATUS = """exit status: 0 nothing at or above --fail-on, 1 something is, 2 it could not be checked"""


def add_check_cluster(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser's."""
    about = "Judge a cluster: drift, flows, connection tables, endpoints, DNS, pods' namespaces, addresses, modes."
    check = commands.add_parser("check-cluster", help="judge a cluster", description=about, epilog=_STATUS)
    check.add_argument(
        "source", metavar="SOURCE", nargs="?", help="live, node, a recording's path; by default what kn.open() opens"
    )
    check.add_argument("--json", action="store_true", help="one JSON object instead of text")
    check.add_argument("--node", metavar="NAME", help="only what is judged of this node")
    check.add_argument(
        "--fail-on", choices=("error", "warning"), default="error", help="from which severity on the status is 1"
    )
    check.add_argument(
        "--settle", type=_seconds, default=0.0, metavar="SECONDS", help="live: read again after so long, to confirm"
    )
    add_live_options(check)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 600:  # NaN is in no order
        raise argparse.ArgumentTypeError("give seconds from 0 to 600")
    return seconds
