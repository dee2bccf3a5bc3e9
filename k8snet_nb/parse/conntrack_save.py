"""``conntrack -L -o save`` (commands that would create the entries again), reworded as plain entries."""

from __future__ import annotations

from .protocols import PROTOCOLS

__all__ = ["is_save", "to_entries"]

_NUMBERS = {name: number for number, name in PROTOCOLS.items()}
_TUPLES = (
    ("-s", "src"),
    ("-d", "dst"),
    ("--sport", "sport"),
    ("--dport", "dport"),
    ("--srckey", "srckey"),
    ("--dstkey", "dstkey"),
    ("--icmp-type", "type"),
    ("--icmp-code", "code"),
    ("--icmp-id", "id"),
    ("--icmpv6-type", "type"),
    ("--icmpv6-code", "code"),
    ("--icmpv6-id", "id"),
    ("--orig-zone", "zone-orig"),
)
_REPLY = (
    ("-r", "src"),
    ("-q", "dst"),
    ("--reply-port-src", "sport"),
    ("--reply-port-dst", "dport"),
    ("--reply-key-src", "srckey"),
    ("--reply-key-dst", "dstkey"),
    ("--reply-zone", "zone-reply"),
)
_REST = (("-m", "mark"), ("-w", "zone"), ("-l", "labels"))


def is_save(data: bytes) -> bool:
    """Whether the first line that is not blank is one of ``-o save``."""
    return data.lstrip()[:3] in (b"-A ", b"-D ", b"-I ")


def _entry(line: str) -> str:
    """One line reworded; a line that is none of ``-o save`` comes back as it is, to be refused with its number."""
    words = line.split()
    if not words or words[0] not in ("-A", "-D", "-I") or len(words) % 2 == 0:
        return line
    options = dict(zip(words[1::2], words[2::2], strict=True))
    protocol = options.get("-p", "")
    number = _NUMBERS.get(protocol, protocol)
    flags = options.get("-u", "UNSET").split(",")
    parts = [protocol if protocol in _NUMBERS else "unknown", str(number), options.get("-t", "")]
    parts.append(options.get("--state", "").replace("NONE", ""))
    parts += [f"{key}={options[option]}" for option, key in _TUPLES if option in options]
    if "SEEN_REPLY" not in flags:
        parts.append("[UNREPLIED]")
    parts += [f"{key}={options[option]}" for option, key in _REPLY if option in options]
    if "ASSURED" in flags:
        parts.append("[ASSURED]")
    parts += [f"{key}={options[option]}" for option, key in _REST if option in options]
    return " ".join(part for part in parts if part)


def to_entries(data: bytes) -> bytes:
    """The same number of lines, each as ``conntrack -L`` would print that entry."""
    text = data.decode("utf-8", "replace")
    body = "\n".join(_entry(line) for line in text.split("\n"))
    return body.encode()
