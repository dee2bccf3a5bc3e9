"""Many plans of connections at once, their answers counted: what :mod:`.client` tells, in a form that stays small.

Whole answers of thousands of connections would fill a guest's serial line. What matters of them here is how many ended
alike: the same end, the same server, seen from the same client address.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ...errors import Refused
from .client import Answer, Plan, attempt

__all__ = ["MOST", "tally"]

MOST = 50_000
"""Connections in one request."""

_COUNTED = ("end", "pod", "server", "port", "peer", "local", "says")


def tally(plans: Sequence[Plan], at_once: int = 96) -> list[list[dict[str, Any]]]:
    """Make all plans' connections, ``at_once`` of them under way, each plan's as few as its ``concurrency`` says.

    A list a plan, of dicts: ``count``, and end, pod, server, port, peer, local, says as in
    :class:`~k8snet_nb.twin.serving.client.Answer`. A plan that this namespace cannot carry out has one, with ``end``
    empty and ``says`` telling why. Raises Refused for too many connections.
    """
    total = sum(plan.count for plan in plans)
    if total > MOST:
        raise Refused(f"{total} connections at once: {MOST} at most")
    return asyncio.run(_all(plans, at_once))


async def _all(plans: Sequence[Plan], at_once: int) -> list[list[dict[str, Any]]]:
    free = asyncio.Semaphore(at_once)
    return await asyncio.gather(*(_counted(plan, free) for plan in plans))


async def _counted(plan: Plan, free: asyncio.Semaphore) -> list[dict[str, Any]]:
    mine = asyncio.Semaphore(plan.concurrency)

    async def one() -> Answer:
        async with mine, free:
            return await attempt(plan)

    try:
        answers = await asyncio.gather(*(one() for _ in range(plan.count)))
    except Refused as error:
        return [{"count": plan.count, **_part(Answer("", says=str(error)))}]
    counts = Counter(tuple(_part(answer).items()) for answer in answers)
    return [{"count": count, **dict(part)} for part, count in counts.items()]


def _part(answer: Answer) -> dict[str, Any]:
    told = dataclasses.asdict(answer)
    return {name: told[name] for name in _COUNTED}
