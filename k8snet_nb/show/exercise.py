"""Exercises whose answers are checked against the cluster at hand: in a widget, or from a cell."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from ..errors import NotFound
from ..render import bundle, escape, printable
from .answers import Answer
from .live import live_bundle, pane, status_html, told_error
from .question import NotHere, Question, Text

if TYPE_CHECKING:
    from ..cluster import Cluster

__all__ = ["Exercise", "Feedback", "Solution", "as_html", "as_text", "exercise"]


@dataclass(frozen=True, slots=True)
class Feedback:
    """What came of an answer: ``right`` is True, False, or None when this cluster does not have the case."""

    right: bool | None
    message: str

    def __repr__(self) -> str:
        return f"{ {True: 'Right', False: 'Not yet', None: 'Not here'}[self.right] }: {as_text(self.message)}"

    def html(self) -> str:
        """The same as html, with a mark that does not rest on colour."""
        mark, word = {True: ("✔", "Right"), False: ("✘", "Not yet"), None: ("–", "Not here")}[self.right]
        return f"{mark} <strong>{word}:</strong> {as_html(self.message)}"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return bundle(repr(self), f"<p>{self.html()}</p>")


@dataclass(frozen=True, slots=True)
class Solution:
    """The answer with its reasoning."""

    answer: str
    why: str

    def __repr__(self) -> str:
        return f"Answer: {printable(self.answer)}\n{as_text(self.why)}"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        html = f"<p><strong>Answer:</strong> {escape(self.answer)}</p><p>{as_html(self.why)}</p>"
        return bundle(repr(self), html)


class Exercise:
    """One question about one cluster: a widget with a field and buttons, and :meth:`check` for use from a cell."""

    def __init__(self, entry: Question, cluster: Cluster) -> None:
        self.number = entry.number
        self._entry, self._cluster = entry, cluster
        self._hints_given = 0
        self._missing = ""
        try:
            self.question = self._say(entry.ask)
            self._answer: Answer | None = entry.answer(cluster)
        except NotHere as reason:
            self._missing, self._answer = str(reason), None
            self.question = f"This cluster has no case for this exercise: {reason}."
        self._build()

    def check(self, answer: object) -> Feedback:
        """Judge an answer: a text, a number, or a list of names."""
        if self._answer is None:
            return Feedback(None, f"{self._missing}.")
        if isinstance(answer, str) and not answer.strip():
            return Feedback(False, "Write an answer first.")
        wrong = self._answer.judge(answer)
        if wrong is None:
            return Feedback(True, self._say(self._entry.why))
        slips = self._entry.slips(self._cluster) if self._entry.slips else ()
        overlooked = [why for slip, why in slips if slip.accepts(answer)]
        return Feedback(False, overlooked[0] if overlooked else wrong)

    def hint(self, number: int = 1) -> str:
        """The hint of that number, from 1; the last one when there are not so many."""
        hints = self._entry.hints
        if self._answer is None or not hints:
            return "There is no hint for this one."
        return self._say(hints[max(0, min(number, len(hints)) - 1)])

    def solution(self) -> Solution | Feedback:
        """The answer with the reasoning; a Feedback when this cluster does not have the case."""
        if self._answer is None:
            return self.check("")
        return Solution(self._answer.shown, self._say(self._entry.why))

    def _say(self, text: Text) -> str:
        return text if isinstance(text, str) else text(self._cluster)

    @property
    def _head(self) -> str:
        return f"<p><strong>Exercise {escape(self.number)}.</strong> {as_html(self.question)}</p>"

    def _build(self) -> None:
        auto = widgets.Layout(width="auto")
        disabled = self._answer is None
        self.field = widgets.Text(
            description="Answer",
            placeholder="type, then press Enter",
            disabled=disabled,
            continuous_update=False,  # the value arrives with Enter, or on the way to a button
            layout=widgets.Layout(width="auto", max_width="46em"),
            style={"description_width": "6.5em"},
        )
        self.check_button = widgets.Button(
            description="Check", tooltip=f"Check the answer to exercise {self.number}", disabled=disabled, layout=auto
        )
        self.hint_button = widgets.Button(
            description="Hint", tooltip=f"A hint for exercise {self.number}", disabled=disabled, layout=auto
        )
        self.feedback = widgets.HTML(pane(status_html("")))
        buttons = widgets.HBox([self.check_button, self.hint_button], layout=widgets.Layout(margin="0 0 0 7em"))
        self.layout = widgets.VBox([widgets.HTML(pane(self._head)), self.field, buttons, self.feedback])
        self.check_button.on_click(lambda _button: self._show_check())
        self.hint_button.on_click(lambda _button: self._show_hint())
        self.field.observe(lambda _change: self._show_check(), names="value")

    def _show_check(self) -> None:
        self._show(lambda: self.check(self.field.value).html())

    def _show_hint(self) -> None:
        self._hints_given += 1
        many = len(self._entry.hints)
        at = min(self._hints_given, many)
        self._show(lambda: f"<strong>Hint {at} of {many}:</strong> {as_html(self.hint(at))}")

    def _show(self, make: Any) -> None:
        try:
            html = make()
        except Exception as error:  # an exception in a widget's callback would be invisible
            html = f"⚠ {escape(told_error(error))}"
        self.feedback.value = pane(status_html("", html))

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return live_bundle(self.layout, f"Exercise {self.number}. {as_text(self.question)}", self._head)


def exercise(number: str, cluster: Cluster) -> Exercise:
    """The exercise of that number, such as "01-1" (lesson and number), about this cluster.

    Raises NotFound, with the list of what there is.
    """
    from .exercises import EXERCISES

    entry = EXERCISES.get(number)
    if entry is None:
        raise NotFound(f"no exercise {printable(number)}: there are {', '.join(EXERCISES)}")
    return Exercise(entry, cluster)


def as_text(message: str) -> str:
    """A message as plain text, without its backticks."""
    return printable(message.replace("`", ""), keep="\n")


def as_html(message: str) -> str:
    """A message as html: what stands between backticks is code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(message))
