"""The stream to an agent in a pod: channels of a websocket."""

from __future__ import annotations

import socket

import live_agents
from api_server import FakeCluster
from live_agents import ended, opened, soon
from needs import need

from k8snet_nb.sources.agent_exec import ExecStream

pytestmark = need(root=True, commands=["ip", "nsenter", "openssl"], modules=["kubernetes"])
spaces, server = live_agents.spaces, live_agents.server


def test_an_agent_by_the_older_channel_protocol(server: FakeCluster) -> None:
    server.protocol = "v4.channel.k8s.io"
    cluster, source = opened(agents=["node-one"])
    with source:
        assert cluster.node("node-one").links()
    assert soon(lambda: ended(server), 5)


class Decrypted(socket.socket):
    """A socket whose next bytes TLS has taken already: nothing that poll(2) could see."""

    def pending(self) -> int:
        return 5


class Frames:
    """As much of a websocket as a stream uses."""

    subprotocol = "v4.channel.k8s.io"

    def __init__(self, frames: list[tuple[int, bytes]]) -> None:
        self.frames, self.sent = frames, list[bytes]()
        self.other, inner = socket.socketpair()
        self.sock = Decrypted(fileno=inner.detach())

    def settimeout(self, _seconds: float) -> None:
        pass

    def send_binary(self, data: bytes) -> None:
        self.sent.append(data)

    def recv_data(self, control_frame: bool) -> tuple[int, bytes]:
        return self.frames.pop(0)

    def send_close(self) -> None:
        self.other.close()


def test_frames_are_sorted_by_their_channel() -> None:
    end = b'\3{"status": "Failure", "message": "command terminated with exit code 1"}'
    frames = Frames([(2, b"\1ab"), (9, b""), (1, b"\2first\nlast words"), (2, b"\1\0\xff"), (2, end)])
    stream = ExecStream(frames)
    assert stream.read(1) == b"a"
    assert stream.read(10) == b"b"
    assert stream.read(10) == b"\0\xff"
    assert stream.read(10) == b""
    stream.write(b"x" * 40_000)
    assert [len(data) for data in frames.sent] == [32 * 1024 + 1, 40_000 - 32 * 1024 + 1]
    assert all(data[:1] == b"\0" for data in frames.sent)
    assert stream.close() == "command terminated with exit code 1: last words"
