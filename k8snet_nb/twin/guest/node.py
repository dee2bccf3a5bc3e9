"""A node in a kernel of its own: held by a process of the keeper's, built in the guest by the same program.

The guest's first network namespace is a bridge whose other port is a tap on the wire. The node stands behind it in a
namespace of its own, exactly as it would on this kernel.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import select
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from ...errors import GuestError, TwinError
from ..building import has_ipvs
from ..inside import bury, child, run_tool
from ..model import BRIDGE, NodePlan
from ..packets import receive, send
from ..requests import reply
from ..spaces import enter_network
from .guest import Guest, unavailable
from .modules import NODE
from .requests import read_line

if TYPE_CHECKING:
    from ..serving.dns_server import Zone  # the DNS library takes its time to load: only where a zone is served

__all__ = ["hold", "serve", "wanted"]

_LINES, _LAST_WORDS = 16, 2000
_TUN = "/dev/net/tun"


def wanted() -> bool:
    """Whether a node that needs IPVS must have a guest here, and can have one. Few containers have the tap's device."""
    return not has_ipvs() and unavailable() is None and os.access(_TUN, os.R_OK | os.W_OK)


def hold(plan: NodePlan, zone: Zone | None, number: int, wire: int, control: socket.socket) -> None:
    """Boot the guest, report what the node does not have, hand requests on until the control socket ends."""
    tap = f"tap{number}"
    config = {"plan": base64.b64encode(pickle.dumps((plan, zone))).decode()}
    try:
        enter_network(wire)
        _plug_in(tap)
        with Guest(NODE, tap=tap, bridge=BRIDGE, server="twin.guest.node:serve", config=config, lines=_LINES) as guest:
            send(control, json.dumps(guest.request({"op": "left_out"})).encode())
            _hand_on(guest, control)
    except TwinError as error:
        print(f"node {plan.name}: {error}", file=sys.stderr, flush=True)
        with suppress(OSError):
            send(control, json.dumps({"error": str(error)}).encode())


def _plug_in(tap: str) -> None:
    """The tap is up before the guest is: its driver gives a device up for good that refuses one packet."""
    lines = f"tuntap add {tap} mode tap\nlink set {tap} master {BRIDGE}\nlink set {tap} up\n"
    status, said = run_tool(("ip", "-batch", "-"), lines)
    if status:
        raise TwinError(f"the guest's tap could not be plugged in: {said}")


def _hand_on(guest: Guest, control: socket.socket) -> None:
    """Until the keeper has no more requests, or the guest ends: then so does this process, and the keeper sees it."""
    while True:
        bury()
        readable, _, _ = select.select([control.fileno(), guest.fileno()], [], [])
        if guest.fileno() in readable:
            raise TwinError(f"the guest ended; the last that it said: {guest.console()[-_LAST_WORDS:]}")
        data, fds = receive(control)
        if not data:
            return
        for fd in fds:
            with socket.socket(fileno=fd) as asker:
                _connect(guest, asker, data)


def _connect(guest: Guest, asker: socket.socket, request: bytes) -> None:
    try:
        with guest.connect() as inside:
            inside.sendall(request + b"\n")
            child(lambda: _carry(asker, inside))
    except (GuestError, OSError) as error:
        reply(asker, {"error": str(error)})


def _carry(one: socket.socket, other: socket.socket) -> None:
    """Bytes both ways until either side ends."""
    while True:
        readable, _, _ = select.select([one, other], [], [])
        for source, sink in ((one, other), (other, one)):
            if source in readable:
                data = source.recv(1 << 16)
                if not data:
                    return
                sink.sendall(data)


def serve(listener: socket.socket, config: Mapping[str, Any]) -> NoReturn:
    """In the guest: build the node, then take requests. What goes wrong is the answer to every request."""
    from ..keeper import Keeper

    plan, zone = pickle.loads(base64.b64decode(config["plan"]))  # noqa: S301 - from the keeper
    keeper = Keeper([plan], zone, None)
    try:
        keeper.build()
    except (TwinError, OSError) as error:
        _refuse(listener, str(error))
    keeper.serve(listener)
    raise SystemExit(0)


def _refuse(listener: socket.socket, why: str) -> NoReturn:
    while True:
        connection, _ = listener.accept()
        with connection:
            read_line(connection)
            connection.sendall(json.dumps({"error": why}).encode() + b"\n")
