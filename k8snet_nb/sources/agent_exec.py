"""The agent's stream through ``exec`` into a pod: a websocket with a channel number before each message.

Source: kubernetes staging/src/k8s.io/apiserver/pkg/util/wsstream and KEP-4006. Channel 0 is standard input, 1 output,
2 errors, 3 the end as a Status; v5 adds 255, which closes a channel. Messages are bytes: nothing is decoded.
"""

from __future__ import annotations

import json
import select
import threading
from contextlib import suppress
from typing import Any

__all__ = ["ExecStream"]

_CHUNK = 32 * 1024
_WORDS = 4000
_CLOSE = 255


class ExecStream:
    """A :class:`.agents.Transport` over a websocket (websocket-client's), for one reading and several writing threads.

    TLS allows only one of them into the socket at a time, so the reader waits outside of it.
    """

    def __init__(self, websocket: Any, seconds: float = 30.0) -> None:
        self._websocket, self._socket = websocket, websocket.sock
        websocket.settimeout(seconds)
        self._lock = threading.Lock()
        self._held = bytearray()
        self._words = bytearray()
        self._end = ""
        self._open = True

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes of standard output; b"" at the end."""
        while not self._held and self._open:
            self._receive()
        taken = bytes(self._held[:size])
        del self._held[:size]
        return taken

    def write(self, data: bytes) -> None:
        """Send all of it to standard input. Raises OSError when the stream is gone."""
        from websocket import WebSocketException

        for start in range(0, len(data), _CHUNK):
            try:
                with self._lock:
                    self._websocket.send_binary(b"\0" + data[start : start + _CHUNK])
            except WebSocketException as error:
                raise OSError(str(error)) from error

    def close(self) -> str:
        """End the stream, and with it the agent's input; returns its last words."""
        self._open = False
        with suppress(Exception), self._lock:
            if getattr(self._websocket, "subprotocol", None) == "v5.channel.k8s.io":
                self._websocket.send_binary(bytes([_CLOSE, 0]))
            self._websocket.send_close()
        with suppress(OSError):
            self._socket.close()
        said = self._words.decode("utf-8", "replace").strip()
        return ": ".join(part for part in (self._end, said.splitlines()[-1] if said else "") if part)

    def _receive(self) -> None:
        """Wait for a message and sort it. Sets the end when there will be none."""
        from websocket import ABNF, WebSocketException

        try:
            if not self._readable():
                return
            with self._lock:
                opcode, data = self._websocket.recv_data(control_frame=True)
        except (WebSocketException, OSError, ValueError) as error:
            self._end = self._end or ("" if not self._open else str(error))
            self._open = False
            return
        if opcode == ABNF.OPCODE_CLOSE:
            self._open = False
        elif opcode in (ABNF.OPCODE_BINARY, ABNF.OPCODE_TEXT) and data:
            self._sort(data[0], data[1:])

    def _readable(self) -> bool:
        pending = getattr(self._socket, "pending", None)  # bytes that TLS has decrypted already are seen by no poll
        if pending is not None and pending():
            return True
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(500))

    def _sort(self, channel: int, data: bytes) -> None:
        if channel == 1:
            self._held += data
        elif channel == 2:
            self._words = (self._words + data)[-_WORDS:]
        elif channel == 3:
            with suppress(ValueError):
                said = json.loads(data)
                self._end = "" if said.get("status") == "Success" else str(said.get("message"))[:400]
            self._open = False
        elif channel == _CLOSE and data[:1] == b"\1":
            self._open = False
