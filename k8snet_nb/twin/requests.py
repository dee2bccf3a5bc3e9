"""What a node of a twin can be asked, each request one JSON object with ``op`` and, where it matters, ``pod``.

``agent`` becomes an agent on the connection; ``connect`` makes connections from a pod or the node; ``tally`` makes
those of many plans, and counts; ``tool`` runs a command there; ``sysctl`` writes one of its network namespace;
``servers`` stops or starts a pod's servers; ``answer`` has the DNS servers answer one question otherwise;
``nodestatus`` tells its processes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import K8snetError, TwinError
from ..sources.transport import boot_command
from .inside import ENVIRONMENT, child, in_network, run_tool
from .serving import client
from .serving.tally import tally
from .spaces import write_sysctl

if TYPE_CHECKING:
    from .node_init import Node

__all__ = ["answer_request"]


def answer_request(node: Node, request: Mapping[str, Any], connection: socket.socket) -> None:
    """Do it and answer on the connection; what goes wrong is an answer too."""
    here: dict[str, Callable[[Node, Mapping[str, Any]], dict[str, Any]]] = {
        "servers": _servers,
        "answer": _answer,
        "nodestatus": _status,
    }
    try:
        if request.get("op") == "agent":
            child(lambda: _become_agent(connection))
        elif request.get("op") in here:
            reply(connection, here[request["op"]](node, request))
        else:
            child(lambda: _elsewhere(node, request, connection))
    except Exception as error:  # noqa: BLE001 - with this process the whole node would end
        reply(connection, {"error": _told(error)})


def _told(error: Exception) -> str:
    known = isinstance(error, K8snetError | OSError)
    return str(error) if known else f"a request that cannot be read ({type(error).__name__}: {error})"


def reply(connection: socket.socket, answer: Mapping[str, Any]) -> None:
    """One line of JSON; nobody may be listening any more."""
    with suppress(OSError):
        connection.sendall(json.dumps(answer).encode() + b"\n")


def _become_agent(connection: socket.socket) -> None:
    reply(connection, {"ok": True})
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, signal.SIG_DFL)
    os.dup2(connection.fileno(), 0)
    os.dup2(connection.fileno(), 1)
    argv = boot_command("k8snet_nb.agent", sys.executable)
    os.execve(argv[0], argv, ENVIRONMENT)  # noqa: S606


def _elsewhere(node: Node, request: Mapping[str, Any], connection: socket.socket) -> None:
    """In a forked child: it may take its time, and the node does other things meanwhile."""
    work = {"connect": _connect, "tally": _tally, "tool": _tool, "sysctl": _sysctl}.get(str(request.get("op")))
    try:
        if work is None:
            raise TwinError(f"a twin's node cannot {request.get('op')}")
        pid = node.network_of(request.get("pod"))
        reply(connection, in_network(pid, lambda: work(request)))
    except Exception as error:  # noqa: BLE001 - whoever asked is told
        reply(connection, {"error": _told(error)})


def _connect(request: Mapping[str, Any]) -> dict[str, Any]:
    plan = client.Plan(**request["plan"])
    return {"answers": [dataclasses.asdict(answer) for answer in client.connect(plan)]}


def _tally(request: Mapping[str, Any]) -> dict[str, Any]:
    return {"tallies": tally([client.Plan(**plan) for plan in request["plans"]])}


def _tool(request: Mapping[str, Any]) -> dict[str, Any]:
    status, said = run_tool(tuple(request["argv"]), request.get("stdin", ""))
    return {"status": status, "said": said}


def _sysctl(request: Mapping[str, Any]) -> dict[str, Any]:
    path = str(request["path"])
    if not path.startswith("net/") or ".." in path.split("/"):  # as root the others would be this whole machine's
        raise TwinError(f"{path!r} is no setting of a network namespace: net/... below /proc/sys")
    before = Path("/proc/sys", path).read_text().strip()
    write_sysctl(path, str(request["value"]))
    return {"before": before}


def _servers(node: Node, request: Mapping[str, Any]) -> dict[str, Any]:
    node.network_of(request.get("pod"))  # raises for a pod that is not here: else the node's own would be meant
    if request["action"] == "stop":
        return {"stopped": node.stop_server(request.get("pod"))}
    return {"problems": node.start_server(request.get("pod"))}


def _answer(node: Node, request: Mapping[str, Any]) -> dict[str, Any]:
    """Have DNS servers in pods of this node answer ``name`` and ``type`` with ``data``; without ``name``: as before.

    ``servers``: which they are; none where there is no such pod.
    """
    if node.zone is None:
        return {"servers": [], "problems": []}
    if request.get("name"):
        zone = node.zone.with_answer(request["name"], request["type"], request.get("data") or ())
    else:
        zone = dataclasses.replace(node.zone, faults={})
    asked = [pod.key for pod in node.plan.pods if any(one.kind == "dns" for one in pod.listeners)]
    problems = [problem for pod in asked for problem in node.start_server(pod, zone)]
    return {"servers": asked, "problems": problems}


def _status(node: Node, request: Mapping[str, Any]) -> dict[str, Any]:
    return {"sandboxes": node.sandboxes, "servers": {str(pod): pid for pod, pid in node.servers.items()}}
