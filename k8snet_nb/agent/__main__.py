"""``python -m k8snet_nb.agent``: serve requests on standard input and output until the input ends."""

from __future__ import annotations

import argparse
import os
import signal
import sys

from .kernel import Missing
from .placement import hold, to_node
from .protocol import LIMIT
from .server import Server


def main() -> None:
    """Serve. With ``--parent PID`` the agent also ends when that process dies while others hold its input open."""
    options = _parser().parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupted cell of a notebook must not take the agent with it
    if options.lock is not None:
        hold(options.lock)
    if options.node_pid is not None:
        try:
            to_node(options.node_pid)
        except Missing as missing:
            sys.exit("k8snet agent: %s" % missing)
    source, sink = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)  # whatever prints by accident must not end up between the frames
    os.close(null)
    Server(source, sink, options.limit, options.parent, options.heartbeat).serve()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="k8snet_nb.agent", description=__doc__)
    parser.add_argument("--parent", type=int, metavar="PID", help="end when this process, the agent's parent, dies")
    parser.add_argument(
        "--limit", type=int, default=LIMIT, metavar="BYTES", help="largest answer (default %(default)s)"
    )
    parser.add_argument("--heartbeat", type=float, metavar="SECONDS", help="end when no request came for so long")
    parser.add_argument("--lock", metavar="PATH", help="share this lock as long as the agent runs")
    parser.add_argument("--node-pid", type=int, metavar="PID", help="read with the files and tools of this process")
    return parser


if __name__ == "__main__":
    main()
