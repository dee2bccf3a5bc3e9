"""Find the fault: a twin is broken in secret, and the learner's answer is judged by what really was done."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from ..errors import K8snetError, Refused
from ..render import escape
from .exercise import Feedback, Solution, as_html, as_text
from .live import live_bundle, pane, status_html, told_error

if TYPE_CHECKING:
    from ..cluster import Cluster
    from ..cluster.twin import Twin

__all__ = ["FaultHunt", "find_fault"]

_INTACT = "Nothing is broken. `Break something` does, and says only what somebody would notice."
_ASKS = "What is broken, and where? Look with the kit in cells of your own; then choose, name the place, and check."


class FaultHunt:
    """A fault to find: a widget with buttons, and the same from a cell: ``break_``, ``check``, ``hint``, ``mend``.

    What is broken is known to the twin alone; it is never part of what the widget holds until it is found or given up.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._hints_given = 0
        self._twin: Twin | None = None
        try:
            self._twin = cluster.twin
            self._missing = ""
        except Refused as reason:
            self._missing = str(reason)
        self._build()

    @property
    def symptom(self) -> str | None:
        """What somebody notices; None: nothing is broken, or this is no twin."""
        return self._twin.symptom if self._twin else None

    def break_(self, code: str | None = None, seed: int | None = None, node: str | None = None) -> str:
        """Break something (:meth:`k8snet_nb.cluster.twin.Twin.break_`) and say what somebody would notice."""
        symptom = self._there().break_(code, seed, node)
        self._hints_given = 0
        self._redraw()
        return symptom

    def check(self, code: str, where: str) -> Feedback:
        """Judge an answer: the fault's code, and the pod or node where it is."""
        if self._twin is None:
            return Feedback(None, self._missing)
        if self.symptom is None:
            return Feedback(None, _INTACT)
        if not code or not where.strip():
            return Feedback(False, "Choose what is broken, and name the place.")
        verdict = self._twin.check(code, where)
        if verdict:
            return Feedback(True, f"{self._twin.solution().what}. Mend it before the next one.")
        if verdict.code:
            return Feedback(False, "That is what is broken, but it is not there.")
        return Feedback(False, "There is something wrong, but not that." if verdict.where else "It is something else.")

    def hint(self, number: int = 1) -> str:
        """The hint of that number, from 1 to 3: each narrower than the one before."""
        return (self._missing or _INTACT) if self.symptom is None else self._there().hint(number)

    def solution(self) -> Solution | Feedback:
        """What is broken, where, and the calls that show it."""
        if self._twin is None or self.symptom is None:
            return self.check("", "")
        found = self._twin.solution()
        return Solution(f"{found.code} at {found.where}", "\n".join([f"{found.what}.", *found.hints]))

    def mend(self) -> str:
        """Mend it, and say what it was."""
        was = self._there().mend()
        self._redraw()
        return f"Mended: {was}." if was else "Nothing was broken."

    def _there(self) -> Twin:
        if self._twin is None:
            raise Refused(self._missing)
        return self._twin

    @property
    def _head(self) -> str:
        text = self._missing or self.symptom or _INTACT
        asks = f"<p>{as_html(_ASKS)}</p>" if self.symptom else ""
        return f"<p><strong>Find the fault.</strong> {as_html(text)}</p>{asks}"

    @property
    def text(self) -> str:
        """What the panel says now, as text."""
        state = f"Find the fault. {as_text(self._missing or self.symptom or _INTACT)}"
        return f"{state}\n{as_text(_ASKS)}" if self.symptom else state

    def _build(self) -> None:
        off = self._twin is None
        style = {"description_width": "6.5em"}
        wide = widgets.Layout(width="auto", max_width="46em")
        self.head = widgets.HTML(pane(self._head))
        self.code = widgets.Dropdown(
            description="What", options=[("choose …", ""), *self._kinds()], layout=wide, style=style, disabled=off
        )
        self.where = widgets.Combobox(
            description="Where", placeholder="a pod or a node", options=self._places(), layout=wide, style=style,
            disabled=off, ensure_option=False, continuous_update=False,
        )  # fmt: skip
        self.feedback = widgets.HTML(pane(status_html("")))
        acts: tuple[tuple[str, str, Callable[[], str]], ...] = (
            ("Break something", "Break one thing in the running twin, in secret", self._breaks),
            ("Check", "Check what and where", lambda: self.check(self.code.value, self.where.value).html()),
            ("Hint", "A hint, each narrower than the one before", self._hints),
            ("Mend", "Mend what is broken", lambda: as_html(self.mend())),
        )
        self.buttons = {name: self._button(name, tip, act, off) for name, tip, act in acts}
        row = widgets.HBox([*self.buttons.values()], layout=widgets.Layout(margin="0 0 0 7em", flex_flow="row wrap"))
        self.layout = widgets.VBox([self.head, self.code, self.where, row, self.feedback])

    def _kinds(self) -> list[tuple[str, str]]:
        frame = self._twin.faults() if self._twin else None
        return [] if frame is None else [(f"{row.title} ({row.code})", str(row.code)) for row in frame.itertuples()]

    def _places(self) -> tuple[str, ...]:
        """Every node and pod, whatever is broken: they only spare typing."""
        if self._twin is None:
            return ()
        try:
            return (*self._cluster.source.nodes(), *self._cluster.api.pods)
        except K8snetError:
            return ()

    def _button(self, name: str, tip: str, act: Callable[[], str], off: bool) -> widgets.Button:
        button = widgets.Button(description=name, tooltip=tip, disabled=off, layout=widgets.Layout(width="auto"))
        button.on_click(lambda _button: self._show(act))
        return button

    def _breaks(self) -> str:
        self.break_()
        return "Something is broken. All that was read before is forgotten: ask again."

    def _hints(self) -> str:
        self._hints_given = min(self._hints_given + 1, 3)
        at = self._hints_given if self.symptom else 0
        return (f"<strong>Hint {at} of 3:</strong> " if at else "") + as_html(self.hint(at or 1))

    def _redraw(self) -> None:
        self.head.value = pane(self._head)

    def _show(self, act: Callable[[], str]) -> None:
        try:
            html = act()
        except Exception as error:  # an exception in a widget's callback would be invisible
            html = f"⚠ {escape(told_error(error))}"
        self.feedback.value = pane(status_html("", html))

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        self._redraw()
        return live_bundle(self.layout, self.text, self._head)


def find_fault(cluster: Cluster) -> FaultHunt:
    """A fault to find in the twin that ``cluster`` is read from; elsewhere it says that it needs one."""
    return FaultHunt(cluster)
