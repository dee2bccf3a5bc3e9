"""Several nodes at once: bounded, results as they come, and no waiting for the rest where somebody stops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import TypeVar

__all__ = ["together"]

_LOOK = 0.2
"""Seconds between two looks whether to go on."""
Item = TypeVar("Item")
Result = TypeVar("Result")


def together(
    work: Callable[[Item], Result], items: Sequence[Item], at_once: int, go_on: Callable[[], object] = lambda: None
) -> Iterator[Result]:
    """What ``work`` gives for each item, in the order in which it comes; at most ``at_once`` at work.

    ``go_on`` is called now and then, and raises to stop. Then, and when interrupted, what has not begun never does,
    and what is at work ends by itself.
    """
    pool = ThreadPoolExecutor(at_once, "k8snet nodes")
    try:
        waiting = {pool.submit(work, item) for item in items}
        while waiting:
            done, waiting = wait(waiting, _LOOK, FIRST_COMPLETED)
            for future in done:
                yield future.result()
            if waiting:
                go_on()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
