"""Exec of the tests' API server: a websocket (RFC 6455), a channel number before each message, and a process."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import struct
import subprocess
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any

__all__ = ["Conversation", "upgraded"]


def upgraded(handler: BaseHTTPRequestHandler, protocol: str = "v5.channel.k8s.io") -> None:
    """Answer a websocket's first request."""
    key = handler.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    handler.send_response(101)
    handler.send_header("Upgrade", "websocket")
    handler.send_header("Connection", "Upgrade")
    handler.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
    handler.send_header("Sec-WebSocket-Protocol", protocol)
    handler.end_headers()
    handler.close_connection = True


class Conversation:
    """One exec: a process with pipes, and the websocket's frames."""

    def __init__(self, handler: BaseHTTPRequestHandler, cluster: Any, pod: dict[str, Any], command: list[str]) -> None:
        self.handler, self.sending = handler, threading.Lock()
        try:
            self.process: subprocess.Popen[bytes] | None = cluster.start(
                pod, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except FileNotFoundError as error:
            self.process = None
            self._end(f'exec: "{error.filename}": executable file not found in $PATH')
            return
        cluster.conversations.append(self.process)

    def hold(self) -> None:
        if self.process is None:
            return
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        threads = [self._thread(1, self.process.stdout.fileno()), self._thread(2, self.process.stderr.fileno())]
        ended = threading.Thread(target=self._wait, args=(threads,), daemon=True)
        ended.start()
        with suppress(OSError, struct.error, ValueError):
            self._listen()
        with suppress(OSError):
            assert self.process.stdin is not None
            self.process.stdin.close()  # as the kubelet does when the connection is gone

    def _thread(self, channel: int, fd: int) -> threading.Thread:
        def pump() -> None:
            with suppress(OSError):
                while data := os.read(fd, 65536):
                    self._send(bytes([channel]) + data)

        thread = threading.Thread(target=pump, daemon=True)
        thread.start()
        return thread

    def _wait(self, threads: list[threading.Thread]) -> None:
        assert self.process is not None
        status = self.process.wait()
        for thread in threads:
            thread.join()
        self._end(None if status == 0 else f"command terminated with exit code {status}")

    def _end(self, failure: str | None) -> None:
        said = {"status": "Success"} if failure is None else {"status": "Failure", "message": failure}
        with suppress(OSError):
            self._send(b"\3" + json.dumps(said).encode())
            self._send(struct.pack("!H", 1000), opcode=8)

    def _send(self, data: bytes, opcode: int = 2) -> None:
        size = len(data)
        head = bytes([0x80 | opcode])
        head += (
            bytes([size])
            if size < 126
            else struct.pack("!BH", 126, size)
            if size < 65536
            else struct.pack("!BQ", 127, size)
        )
        with self.sending:
            self.handler.connection.sendall(head + data)

    def _exactly(self, size: int) -> bytes:
        data = self.handler.rfile.read(size)
        if len(data) < size:
            raise ValueError("the client went away")
        return data

    def _listen(self) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        while True:
            first, second = self._exactly(2)
            size = second & 0x7F
            if size == 126:
                size = struct.unpack("!H", self._exactly(2))[0]
            elif size == 127:
                size = struct.unpack("!Q", self._exactly(8))[0]
            mask = self._exactly(4)
            masked = self._exactly(size)
            key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
            data = (int.from_bytes(masked, "big") ^ key).to_bytes(size, "big")
            if first & 0x0F == 8:
                return
            if data[:1] == b"\xff":
                self.process.stdin.close()
                return
            self.process.stdin.write(data[1:])
            self.process.stdin.flush()
