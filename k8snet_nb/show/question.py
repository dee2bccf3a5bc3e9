"""What a lesson says of one exercise: everything is computed from the cluster at hand."""

from __future__ import annotations

from collections.abc import Callable, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from .answers import Answer

if TYPE_CHECKING:
    from ..cluster import Cluster

__all__ = ["NotHere", "Question", "Text", "some"]

Text = str | Callable[["Cluster"], str]
F = TypeVar("F", bound=Sized)


class NotHere(Exception):
    """The question makes no sense on this cluster; the message says why."""


@dataclass(frozen=True, slots=True)
class Question:
    """One exercise. ``number`` is the lesson, a dash and the place. Texts may hold `code` between backticks.

    ``answer`` (and any text) may raise :class:`NotHere`. ``slips`` are wrong answers that are easily given, each with
    what it overlooks.
    """

    number: str
    ask: Text
    answer: Callable[[Cluster], Answer]
    why: Text
    hints: tuple[Text, ...] = ()
    slips: Callable[[Cluster], tuple[tuple[Answer, str], ...]] | None = None


def some(found: F, otherwise: str) -> F:
    """What was found, unless that is nothing: NotHere then, with this reason."""
    if not len(found):
        raise NotHere(otherwise)
    return found
