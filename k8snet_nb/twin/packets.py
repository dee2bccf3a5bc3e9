"""Words between the keeper and its nodes' first processes: of any length, with descriptors. Standard library only.

A packet of a socket is bounded by its send buffer (socket(7), wmem_default: some 200 kB), which a list of what was left
out, or a request with many connections, may exceed. So the word is in a file without a name, which goes along.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

__all__ = ["receive", "send"]

_MOST_FDS = 4


def send(control: socket.socket, word: bytes, fds: Sequence[int] = ()) -> None:
    """Send one word (not empty), and descriptors with it. Raises OSError."""
    with os.fdopen(os.memfd_create("k8snet-word"), "r+b", buffering=0) as held:
        view = memoryview(word)
        while view:
            view = view[held.write(view) or 0 :]
        socket.send_fds(control, [b"w"], [held.fileno(), *fds])


def receive(control: socket.socket) -> tuple[bytes, list[int]]:
    """The next word and its descriptors, which no program that is started takes over; b"" when the other end is gone.

    Raises OSError.
    """
    data, fds, _, _ = socket.recv_fds(control, 1, _MOST_FDS)
    for fd in fds:
        os.set_inheritable(fd, False)
    if not data or not fds:
        return b"", fds
    with os.fdopen(fds[0], "rb") as held:
        held.seek(0)
        return held.read(), fds[1:]
