"""Kubernetes API lists: bytes in, the items as dictionaries out, checked for what every object has."""

from __future__ import annotations

import gc
import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from ..errors import FactBroken
from ..render import printable

__all__ = [
    "canonical_host",
    "canonical_ip",
    "collector_paused",
    "count",
    "human_duration",
    "mapping",
    "name",
    "parse_list",
    "parse_object",
    "parse_time",
]

_IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}")
_WHERE = "the Kubernetes API"


@contextmanager
def collector_paused() -> Iterator[None]:
    """Parsing makes a million small objects and no cycle; the collector would walk all of them, again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def parse_object(content: bytes, resource: str) -> dict[str, Any]:
    """One JSON object of the API. Raises FactBroken with the position of the first bad byte."""
    try:
        with collector_paused():
            value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FactBroken(
            f"{resource}.json", _WHERE, f"not JSON ({error}; {len(content):,} bytes)", "Is it cut off? Record it again."
        ) from error
    if not isinstance(value, dict):
        raise FactBroken(f"{resource}.json", _WHERE, f"a JSON {type(value).__name__}, not an object")
    return value


def parse_list(content: bytes, resource: str) -> list[dict[str, Any]]:
    """The items of a List as the API server sends it (``items`` null is an empty list)."""
    value = parse_object(content, resource)
    items = value.get("items", ...)
    if items is None:
        return []
    if not isinstance(items, list):
        kind = printable(value.get("kind", "no kind"))
        raise FactBroken(f"{resource}.json", _WHERE, f"holds no list of items (kind: {kind})", "Record the whole List.")
    for number, item in enumerate(items):
        if not isinstance(item, dict) or not isinstance(item.get("metadata"), dict) or not item["metadata"].get("name"):
            raise FactBroken(f"{resource}.json", _WHERE, f"item {number} is no API object: it has no metadata.name")
    return items


def parse_time(said: Any) -> datetime | None:
    """An RFC 3339 time of the API, or None when there is none."""
    if not isinstance(said, str):
        return None
    try:
        when = datetime.fromisoformat(said)
    except ValueError:
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def canonical_ip(text: Any) -> str:
    """An address in its canonical spelling (RFC 5952 for IPv6). Raises ValueError for what is none."""
    if isinstance(text, str) and _IPV4.fullmatch(text):
        return text  # IPv4 has one spelling; this path is taken tens of thousands of times
    return str(ipaddress.ip_address(str(text)))


def canonical_host(text: Any) -> str:
    """The same for what may also be a host name (of a load balancer, in an FQDN slice), which stays as it is."""
    try:
        return canonical_ip(text)
    except ValueError:
        return name(text)


def name(value: Any) -> str:
    """A name of the API: text. Raises ValueError for anything else."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.60} where a name belongs")
    return value


def count(value: Any) -> int:
    """A small number of the API, 0 for none. Raises ValueError for what is none."""
    if value is None:
        return 0
    if not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise ValueError(f"{value!r:.60} where a small number belongs")
    return value


def human_duration(span: timedelta) -> str:
    """An age as kubectl prints it: ``45s``, ``3m12s``, ``7h``, ``2d3h``, ``1y20d``."""
    seconds = int(span.total_seconds())
    if seconds < -1:
        return "<invalid>"
    if seconds < 0:
        return "0s"
    if seconds < 120:
        return f"{seconds}s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 10:
        return _two(minutes, "m", seconds % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    years = days // 365
    return _two(years, "y", days % 365, "d") if years < 8 else f"{years}y"


def _two(large: int, unit: str, small: int, small_unit: str) -> str:
    return f"{large}{unit}{small}{small_unit}" if small else f"{large}{unit}"


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one: optional objects of the API may be absent or null."""
    return value if isinstance(value, dict) else {}
