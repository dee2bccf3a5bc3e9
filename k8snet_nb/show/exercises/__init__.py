"""The lessons' exercises, by number: lesson, dash, place. A module lesson_NN is found by its name."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from ..question import Question

__all__ = ["EXERCISES"]

_LESSONS = sorted(module.name for module in iter_modules(__path__) if module.name.startswith("lesson_"))

EXERCISES: dict[str, Question] = {
    entry.number: entry for name in _LESSONS for entry in import_module(f".{name}", __name__).EXERCISES
}
"""All exercises, in the order of the lessons."""
