"""The keeper of a twin: process 1 of a PID namespace, above the nodes. When it ends, the kernel ends all of the twin.

``python -m k8snet_nb.twin.keeper LISTENER READY`` (two descriptors) with a plan on standard input, made by
:mod:`.making`. It owns no network but the nodes' and the wire's, which nothing connects to the machine's.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import select
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import TwinError
from . import spaces
from .guest import node as guest_node
from .guest.requests import read_line
from .inside import bury, child, in_network, run_tool
from .links import run_batch, wire_batch
from .model import WIRE, LeftOut, NodePlan, TwinPlan
from .node_init import Node
from .packets import receive, send
from .requests import reply

if TYPE_CHECKING:
    from .serving.dns_server import Zone  # the DNS library takes its time to load: only where a zone is served

__all__ = ["Keeper", "main"]

_SECONDS = 120.0


class Keeper:
    """The nodes of one kernel: a control socket and a first process each.

    ``wire``: the place between them, made like a node; None in a guest, whose own network is on the wire already.
    """

    def __init__(self, nodes: Sequence[NodePlan], zone: Zone | None, wire: NodePlan | None) -> None:
        self.nodes, self.zone, self.wire = nodes, zone, wire
        self.pids: dict[str, int] = {}
        self.controls: dict[str, socket.socket] = {}
        self.left_out: list[LeftOut] = []

    def build(self) -> list[LeftOut]:
        """Make all of them, side by side. Returns what they do not have; raises TwinError when one cannot be made."""
        if self.wire:
            self._start(self.wire)
            self._finish([self.wire.name])
        local = [node for node in self.nodes if not (self.wire and node.guest and guest_node.wanted())]
        for number, node in enumerate(self.nodes):
            if node not in local:  # a guest comes up while the others are built: it takes the longest
                self._start_guest(node, number)
        for node in local:
            self._start(node)
        in_network(self.pids[WIRE] if self.wire else None, self._plug_in)
        self._finish([node.name for node in local])
        for node in self.nodes:
            if node not in local:
                self._note(self._told(node.name))
        return self.left_out

    def _finish(self, names: Sequence[str]) -> None:
        """Have nodes that are prepared, and connected, built."""
        for name in names:
            self._told(name)
            send(self.controls[name], b"go")
        for name in names:
            self._note(self._told(name))

    def _note(self, word: Mapping[str, Any]) -> None:
        self.left_out += [LeftOut(*one) for one in word["left_out"]]

    def _start(self, node: NodePlan) -> None:
        """Fork the first process of a node: a child with new namespaces, whose own child is process 1 in them."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        reading, writing = os.pipe()

        def enter() -> None:
            ours.close()
            spaces.new_node()
            pid = child(first)
            os.write(writing, str(pid).encode())

        def first() -> None:
            os.close(writing)  # else the keeper would wait for its end as long as the node lives
            _node_main(node, self._zone_of(node), theirs)

        middle = child(enter)
        os.close(writing)
        theirs.close()
        with os.fdopen(reading) as answer:
            text = answer.read()
        os.waitpid(middle, 0)
        if not text:
            raise TwinError(f"node {node.name} did not start; the twin's log says why. {spaces.CONTAINER}")
        self.pids[node.name], self.controls[node.name] = int(text), ours

    def _start_guest(self, node: NodePlan, number: int) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

        def hold() -> None:
            ours.close()
            guest_node.hold(node, self._zone_of(node), number, self.pids[WIRE], theirs)

        child(hold)
        theirs.close()
        self.controls[node.name] = ours

    def _zone_of(self, node: NodePlan) -> Zone | None:
        """Only where DNS is served: elsewhere not even the library that reads it has to be loaded."""
        served = any(one.kind == "dns" for pod in node.pods for one in pod.listeners)
        return self.zone if served or any(one.kind == "dns" for one in node.listeners) else None

    def _told(self, node: str) -> dict[str, Any]:
        """A node's next word. Raises TwinError with its reason, or when it died."""
        control = self.controls[node]
        control.settimeout(_SECONDS)
        try:
            data, _ = receive(control)
        except OSError as error:
            raise TwinError(f"node {node}: {error}; the twin's log says more") from None
        found = json.loads(data) if data else {"error": "it ended while it was built; the twin's log says why"}
        if "error" in found:
            raise TwinError(f"node {node}: {found['error']}")
        return dict(found)

    def _plug_in(self) -> Mapping[str, Any]:
        """A veth from the wire to each interface of a node that leads there."""
        ends = [(node, link) for node in self.nodes for link in node.space.links if link.kind == "wire"]
        for position, (node, link) in enumerate(ends):
            if node.name in self.pids:
                refused = run_batch(wire_batch(link, self.pids[node.name], position), run_tool, node.name)
                if refused:
                    raise TwinError(f"node {node.name} could not be connected: {refused[0].text}: {refused[0].why}")
        return {}

    def serve(self, listener: socket.socket) -> None:
        """Take requests until one says ``down``: a node's are handed to it with their connection."""
        while True:
            bury()
            connection, _ = listener.accept()
            with connection:
                if not self._request(connection):
                    return

    def _request(self, connection: socket.socket) -> bool:
        connection.settimeout(5)
        try:
            request = json.loads(read_line(connection))
            op = request.get("op")
            if op == "status":
                reply(connection, {"alive": True, "ended": self.ended()})
            elif op == "left_out":
                reply(connection, {"left_out": [dataclasses.astuple(one) for one in self.left_out]})
            elif op == "listeners":
                reply(connection, {"listeners": self.listeners()})
            elif op == "down":
                reply(connection, {"ok": True})
                return False
            else:
                self._hand_on(request, connection)
        except (OSError, ValueError, AttributeError, TwinError) as error:
            reply(connection, {"error": str(error)})
        return True

    def ended(self) -> list[str]:
        """The nodes whose first process is no more: nothing is left of them, and the others go on."""
        poll = select.poll()
        names = {control.fileno(): name for name, control in self.controls.items()}
        for fd in names:
            poll.register(fd, 0)  # POLLHUP comes unasked: the other end has no holder
        return [names[fd] for fd, events in poll.poll(0) if events & (select.POLLHUP | select.POLLERR)]

    def listeners(self) -> list[tuple[str, str, int, str]]:
        """Protocol, address, port and kind of every server that this twin was to have."""
        places = [*self.nodes, *([self.wire] if self.wire else [])]
        several = [each for node in places for each in (node.listeners, *(pod.listeners for pod in node.pods))]
        return [(one.protocol, one.address, one.port, one.kind) for group in several for one in group]

    def _hand_on(self, request: dict[str, Any], connection: socket.socket) -> None:
        control = self.controls.get(str(request.get("node")))
        if control is None:
            raise TwinError(f"no node {request.get('node')!r} in this twin; there are {', '.join(self.controls)}")
        connection.settimeout(None)
        try:
            send(control, json.dumps(request).encode(), [connection.fileno()])
        except (BrokenPipeError, ConnectionResetError):
            why = f"node {request['node']} has ended (its first process died); the log of the twin may say why"
            raise TwinError(f"{why}. Bring the twin up again: k8snet twin down, k8snet twin up") from None


def _node_main(plan: NodePlan, zone: Zone | None, control: socket.socket) -> None:
    try:
        node = Node(plan, zone)
        node.prepare()
        send(control, json.dumps({"prepared": True}).encode())
        if receive(control)[0] != b"go":
            return
        left_out = [dataclasses.astuple(one) for one in node.build()]
        send(control, json.dumps({"left_out": left_out}).encode())
    except (TwinError, OSError) as error:
        send(control, json.dumps({"error": str(error)}).encode())
        return
    node.run(control)


def main() -> None:
    """Leave the machine, build, say how that went on the descriptor READY, serve on LISTENER until told to end."""
    listener, ready = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    plan, zone = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our own parent process, of validated values
    try:
        spaces.new_root()
    except (TwinError, OSError) as error:
        _say(ready, {"error": str(error)})
        return
    building, built = os.pipe()
    pid = child(lambda: _first_process(plan, zone, listener, ready, built))
    os.close(built)
    _say(ready, {"pid": pid})
    if not _asked_until(building, ready):
        os.kill(pid, signal.SIGKILL)


def _asked_until(building: int, ready: int) -> bool:
    """Wait until it is built, or has failed; False as soon as nobody reads ``ready`` any more: it was interrupted."""
    poll = select.poll()
    poll.register(building, select.POLLIN)
    poll.register(ready, 0)  # POLLERR: the pipe has no reader
    return any(fd == building for fd, _ in poll.poll())


def _first_process(plan: TwinPlan, zone: Zone | None, listener: socket.socket, ready: int, built: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    keeper = Keeper(plan.nodes, zone, NodePlan(WIRE, plan.wire, (), listeners=plan.wire_listeners))
    try:
        spaces.hide_machine()
        left_out = [*plan.left_out, *keeper.build()]
    except (TwinError, OSError) as error:
        _say(ready, {"error": str(error)})
        return
    os.write(built, b".")
    os.close(built)
    if _say(ready, {"left_out": [dataclasses.astuple(one) for one in left_out]}):
        keeper.serve(listener)


def _say(ready: int, word: Mapping[str, Any]) -> bool:
    """Whether somebody heard it: whoever wanted the twin may have been interrupted."""
    try:
        with os.fdopen(os.dup(ready), "wb") as words:
            words.write(json.dumps(word).encode() + b"\n")
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
