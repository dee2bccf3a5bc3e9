"""The exercises of all lessons."""

from __future__ import annotations

from ..question import Question
from . import lesson_00, lesson_01, lesson_02, lesson_03, lesson_04, lesson_07

__all__ = ["EXERCISES"]

_LESSONS = (lesson_00, lesson_01, lesson_02, lesson_03, lesson_04, lesson_07)

EXERCISES: dict[str, Question] = {entry.number: entry for lesson in _LESSONS for entry in lesson.EXERCISES}
"""All exercises, in the order of the lessons."""
