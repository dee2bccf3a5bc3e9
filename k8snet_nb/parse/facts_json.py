"""JSON facts of a node or a pod: bytes in, a list of objects out, with one clear error for anything else."""

from __future__ import annotations

import json
from typing import Any

from ..errors import FactBroken
from ..facts import FactRef

__all__ = ["broken", "json_list"]


def broken(ref: FactRef, why: str) -> FactBroken:
    """The error for a fact that is there but not what its name promises."""
    return FactBroken(ref.fact, ref.where, why, "Record it again, or look at the file.")


def json_list(content: bytes, ref: FactRef) -> list[dict[str, Any]]:
    """A JSON list of objects, as ``ip -j`` and its kin print it. No bytes: those tools print nothing for none."""
    if not content.strip():
        return []
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise broken(ref, f"not JSON ({error}; {len(content):,} bytes)") from error
    if not isinstance(value, list):
        raise broken(ref, f"a JSON {type(value).__name__}, not a list")
    for number, item in enumerate(value):
        if not isinstance(item, dict):
            raise broken(ref, f"item {number} is no object")
    # `ip -j` prints an empty object in place of each entry that its filter left out
    return [item for item in value if item]
