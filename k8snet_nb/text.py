"""Hostile text made printable. Below all the rest, so that errors too can show what a cluster said."""

from __future__ import annotations

import unicodedata

__all__ = ["printable"]


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
