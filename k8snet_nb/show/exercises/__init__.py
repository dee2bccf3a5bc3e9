"""The lessons' exercises, by number: lesson, dash, place."""

from __future__ import annotations

from ..question import Question
from . import (
    lesson_00,
    lesson_01,
    lesson_02,
    lesson_03,
    lesson_04,
    lesson_05,
    lesson_06,
    lesson_07,
    lesson_08,
    lesson_09,
    lesson_10,
    lesson_11,
)

__all__ = ["EXERCISES"]

_LESSONS = (
    lesson_00,
    lesson_01,
    lesson_02,
    lesson_03,
    lesson_04,
    lesson_05,
    lesson_06,
    lesson_07,
    lesson_08,
    lesson_09,
    lesson_10,
    lesson_11,
)

EXERCISES: dict[str, Question] = {entry.number: entry for lesson in _LESSONS for entry in lesson.EXERCISES}
"""All exercises, in the order of the lessons."""
