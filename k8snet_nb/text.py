"""Hostile text made printable, a socket as text. Below all the rest: errors too show what a cluster said."""

from __future__ import annotations

import unicodedata

__all__ = ["printable", "socket_text"]


def printable(value: object, *, keep: str = "") -> str:
    r"""The text of a value with control and bidirectional-override characters shown as ``\xNN`` or ``\uNNNN``."""
    text = str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char
        if char in keep or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
        else (f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}")
        for char in text
    )


def socket_text(address: str, port: object) -> str:
    """``address:port``, an IPv6 address in brackets (RFC 3986)."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
