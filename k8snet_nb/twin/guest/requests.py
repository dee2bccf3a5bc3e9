"""A server for a guest that is asked to do one thing after another. Standard library only.

Each connection is one request: a line of JSON with ``op``, answered by one line, which holds ``error`` (text) if it
could not be done.

- ``run``: ``argv`` with ``stdin`` (text) for at most ``seconds``; answers ``status``, ``out``, ``err``;
- ``start``: ``argv`` is started and left running, its output goes to the console; answers ``pid``;
- ``write``: ``text`` into each of ``files`` (path -> text), for sysctls;
- ``stream``: ``argv`` takes the connection over as its standard input and output; there is no line of answer.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, NoReturn

__all__ = ["read_line", "serve"]

_LONGEST = 64 << 20
_CHUNK = 65536


def serve(listener: socket.socket, _config: Mapping[str, Any]) -> NoReturn:
    """Answer every connection in a process of its own."""
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            # the one that answers is nobody's child, so nobody here has to wait for it
            if os.fork() == 0:
                answer(connection)
            os._exit(0)
        connection.close()
        os.wait()


def read_line(connection: socket.socket) -> bytes:
    """What comes before the first newline; what comes after it stays in the socket."""
    line = bytearray()
    while len(line) < _LONGEST:
        piece = connection.recv(_CHUNK, socket.MSG_PEEK)
        size = piece.find(b"\n") + 1 or len(piece)
        line += connection.recv(size)
        if not piece or line.endswith(b"\n"):
            break
    return bytes(line)


def answer(connection: socket.socket) -> NoReturn:
    """Do what the connection asks, and end."""
    try:
        request = json.loads(read_line(connection) or b"{}")
        if request.get("op") == "stream":
            _stream(connection, request["argv"])
        if request:
            found = _WORK[request["op"]](request)
            connection.sendall(json.dumps(found).encode() + b"\n")
    except Exception as error:  # noqa: BLE001 - whoever asked is told
        connection.sendall(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode() + b"\n")
    finally:
        os._exit(0)


def _stream(connection: socket.socket, argv: list[str]) -> NoReturn:
    for fd in (0, 1):
        os.dup2(connection.fileno(), fd)
    os.execvp(argv[0], argv)  # noqa: S606 - no shell is what is wanted; the socket itself is closed by it


def _run(request: dict[str, Any]) -> dict[str, Any]:
    # files, not pipes: what the command leaves running may hold those open for ever
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        done = subprocess.run(
            request["argv"],
            input=request.get("stdin", "").encode(errors="surrogateescape"),
            timeout=request.get("seconds", 30.0),
            stdout=out,
            stderr=err,
            check=False,
            cwd="/",
        )
        texts = [_text(one) for one in (out, err)]
    return {"status": done.returncode, "out": texts[0], "err": texts[1]}


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="surrogateescape")


def _start(request: dict[str, Any]) -> dict[str, Any]:
    process = subprocess.Popen(request["argv"], stdin=subprocess.DEVNULL, start_new_session=True, cwd="/")
    return {"pid": process.pid}


def _write(request: dict[str, Any]) -> dict[str, Any]:
    for path, text in request["files"].items():
        Path(path).write_text(text)
    return {}


_WORK: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"run": _run, "start": _start, "write": _write}
