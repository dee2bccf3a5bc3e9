"""Connections over a line: both ends of it, with a socket for the serial line."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k8snet_nb.twin.guest.lines import TO_GUEST, TO_HOST, BadLine, Line


class Wire:
    """A host's end, a guest's end, and whoever the guest's end connects to: all turned by :meth:`turn`."""

    def __init__(self) -> None:
        self.wires = socket.socketpair()
        self.clients: list[socket.socket] = []
        self.servers: list[socket.socket] = []
        self.host = Line(self.wires[0].fileno())
        self.guest = Line(self.wires[1].fileno(), self._opened)
        self.guest.greet()
        self.turn()

    def _opened(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        theirs.settimeout(5)
        self.servers.append(theirs)
        return ours

    def connect(self) -> tuple[socket.socket, socket.socket]:
        client, theirs = socket.socketpair()
        client.settimeout(5)
        self.clients.append(client)
        self.host.begin(theirs, b"+")
        self.turn()
        assert client.recv(1) == b"+"
        return client, self.servers[-1]

    def turn(self) -> None:
        """Until nothing more happens."""
        while True:
            poll, owner = select.poll(), {}
            for line in (self.host, self.guest):
                for fd, events in line.wanted().items():
                    poll.register(fd, events)
                    owner[fd] = line
            ready = poll.poll(0)
            if not ready:
                return
            for fd, events in ready:
                if owner[fd].alive:
                    owner[fd].ready(fd, events)

    def close(self) -> None:
        self.host.close()
        self.guest.close()
        for one in (*self.wires, *self.servers, *self.clients):
            one.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


def drain(one: socket.socket, turn: Callable[[], None]) -> bytes:
    """All that comes until the end, turning the lines between."""
    got = bytearray()
    while True:
        turn()
        piece = one.recv(65536)
        if not piece:
            return bytes(got)
        got += piece


@settings(max_examples=30, deadline=None)
@given(
    there=st.lists(st.binary(max_size=9000), max_size=6),
    back=st.lists(st.binary(max_size=70000), max_size=4),
)
def test_what_goes_in_comes_out_in_both_directions(there: list[bytes], back: list[bytes]) -> None:
    wire = Wire()
    try:
        client, server = wire.connect()
        for one, other, pieces in ((client, server, there), (server, client, back)):

            def send(one: socket.socket = one, pieces: list[bytes] = pieces) -> None:
                for piece in pieces:
                    one.sendall(piece)
                one.shutdown(socket.SHUT_WR)

            sender = threading.Thread(target=send)
            sender.start()
            other.setblocking(False)
            got, ended = bytearray(), False
            while not ended:
                wire.turn()
                with suppress(BlockingIOError):
                    piece = other.recv(65536)
                    got += piece
                    ended = not piece
            sender.join()
            assert bytes(got) == b"".join(pieces)
        client.close()
        server.close()
        wire.turn()
        assert wire.host.free
    finally:
        wire.close()


def test_no_more_is_under_way_than_a_window(wire: Wire) -> None:
    client, server = wire.connect()
    client.setblocking(False)
    server.setblocking(False)
    for one in (client, server):
        with suppress(BlockingIOError):
            while True:
                one.send(bytes(65536))
    # only the two relays are turned, the servers take nothing: what a full tty would have to hold is bounded
    for line, window in ((wire.host, TO_GUEST), (wire.guest, TO_HOST)):
        for _ in range(1000):
            for fd, events in line.wanted().items():
                if fd != line.fd and events & select.POLLIN:
                    line.ready(fd, select.POLLIN)
        assert 0 < len(line._to_line) <= window


def test_a_half_closed_connection_still_answers(wire: Wire) -> None:
    client, server = wire.connect()
    client.sendall(b"question")
    client.shutdown(socket.SHUT_WR)
    assert drain(server, wire.turn) == b"question"
    server.sendall(b"answer")
    server.close()
    assert drain(client, wire.turn) == b"answer"
    client.close()
    wire.turn()
    assert wire.host.free


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_line_is_free_again_when_one_side_is_gone(wire: Wire, who: str) -> None:
    for _ in range(3):
        client, server = wire.connect()
        client.sendall(b"x" * 1000)
        server.sendall(b"y" * 1000)
        wire.turn()
        gone, left = (client, server) if who == "client" else (server, client)
        gone.close()
        wire.turn()
        assert drain(left, wire.turn) == (b"x" if who == "client" else b"y") * 1000
        with pytest.raises(BrokenPipeError):  # as if there were no line between them
            left.sendall(b"more")
        assert wire.host.free
        left.close()
        wire.turn()
        assert wire.host.free


@pytest.mark.parametrize("data", [b"?\0\0", b"O\0\0", b"D\0\1x", b"E\0\0"])
def test_what_cannot_come_is_refused(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        line = Line(ours.fileno())
        theirs.sendall(data)
        with pytest.raises(BadLine, match="cannot come here"):
            line.ready(line.fd, select.POLLIN)
