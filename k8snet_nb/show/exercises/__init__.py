"""The lessons' exercises, by number: lesson, dash, place."""

from __future__ import annotations

from ..question import Question
from . import lesson_00, lesson_01, lesson_02, lesson_06, lesson_08, lesson_09

__all__ = ["EXERCISES"]

EXERCISES: dict[str, Question] = {
    entry.number: entry
    for lesson in (lesson_00, lesson_01, lesson_02, lesson_06, lesson_08, lesson_09)
    for entry in lesson.EXERCISES
}
"""All exercises, in the order of the lessons."""
