"""Accounting objects, to which rules with ``-m nfacct`` refer: made by netlink, as the tool for it is seldom there.

Message and attributes: linux/netfilter/nfnetlink_acct.h. Run as a program it makes the objects that its arguments
name, in the network namespace in which it runs.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterable

__all__ = ["LONGEST_NAME", "make_accounting"]

LONGEST_NAME = 31
"""Bytes of a name; with its closing zero byte they fill NFACCT_NAME_MAX."""

_NETLINK_NETFILTER = 12
_ACCT_NEW = 7 << 8  # subsystem NFNL_SUBSYS_ACCT, message NFNL_MSG_ACCT_NEW
_REQUEST_ACK_CREATE = 0x1 | 0x4 | 0x400
_NAME = 1
_HEADER = struct.Struct("=IHHII")


def make_accounting(names: Iterable[str]) -> None:
    """Make objects of these names in the namespace of the caller; ones that exist already stay as they are.

    Raises OSError with what the kernel said (needs CAP_NET_ADMIN; EOPNOTSUPP and EINVAL: no nfnetlink_acct in it).
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
        for number, name in enumerate(names, 1):
            netlink.send(_request(number, name))
            (error,) = struct.unpack_from("=i", netlink.recv(4096), _HEADER.size)
            if error not in (0, -errno.EBUSY):  # EBUSY: there is one of this name
                raise OSError(-error, f"accounting object {name}: {os.strerror(-error)}")


def _request(number: int, name: str) -> bytes:
    text = name.encode() + b"\0"
    if len(text) > LONGEST_NAME + 1:
        raise ValueError(f"{name!r} is longer than {LONGEST_NAME} bytes")
    attribute = struct.pack("=HH", 4 + len(text), _NAME) + text + b"\0" * (-len(text) % 4)
    body = struct.pack("=BBH", socket.AF_UNSPEC, 0, 0) + attribute
    return _HEADER.pack(_HEADER.size + len(body), _ACCT_NEW, _REQUEST_ACK_CREATE, number, 0) + body


if __name__ == "__main__":
    make_accounting(sys.argv[1:])
