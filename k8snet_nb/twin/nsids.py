"""The id that one network namespace has for another (RTM_NEWNSID, linux/net_namespace.h). Standard library only."""

from __future__ import annotations

import os
import socket
import struct

__all__ = ["set_nsid"]

_NEWNSID, _REQUEST_ACK, _NSID, _PID = 88, 0x1 | 0x4, 1, 2
_ROUTE = 0  # NETLINK_ROUTE


def set_nsid(pid: int, nsid: int) -> None:
    """From now on the namespace of process ``pid`` is ``nsid`` for the caller's. Raises OSError, as when it has one."""
    attributes = struct.pack("=HHI", 8, _PID, pid) + struct.pack("=HHi", 8, _NSID, nsid)
    body = struct.pack("=Bxxx", socket.AF_UNSPEC) + attributes
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _ROUTE) as netlink:
        netlink.settimeout(5)
        netlink.send(struct.pack("=IHHII", 16 + len(body), _NEWNSID, _REQUEST_ACK, 1, 0) + body)
        (error,) = struct.unpack("=i", netlink.recv(4096)[16:20])
    if error:
        raise OSError(-error, os.strerror(-error))
