"""Selectors: namespace, then a filter text, then a list of at most 200. Small objects by composition."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import RLock
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import ipywidgets as widgets

from ..render import escape, printable
from .choice import Choice, Item
from .live import live_bundle, status_html, told_error

if TYPE_CHECKING:
    from ..cluster import Cluster, Node, Pod, Service  # noqa: F401  (named in the bases below, as text)

__all__ = ["ItemSelector", "NodeSelector", "PodSelector", "ServiceSelector"]

T = TypeVar("T")
_WIDE = {"description_width": "6.5em"}


class ItemSelector(Generic[T]):
    """Chooses one of many things of a cluster.

    ``read`` lists the items, ``open_`` gives the object for a key, ``kind`` is the word for one of them. ``value`` is
    the key to begin with; a key that is not there is said so, never replaced by another. ``group`` is the word for
    what the first control narrows to.
    """

    def __init__(
        self,
        read: Callable[[], Iterable[Item]],
        open_: Callable[[str], T],
        kind: str,
        value: str | None = None,
        *,
        namespaced: bool = True,
        group: str = "namespace",
    ) -> None:
        self.kind, self._group = kind, group
        self._read, self._open = read, open_
        self._choice = Choice(read(), value)
        self._listeners: list[Callable[[T | None], object]] = []
        self._told = self._choice.chosen
        self._trouble = ""
        self._drawing = False
        self._lock = RLock()  # which thread runs a widget's callback depends on the ipykernel
        self._build(namespaced)
        self._draw()

    @property
    def key(self) -> str | None:
        """The chosen key ("namespace/name", or a node's name); None when nothing is chosen."""
        return self._choice.chosen

    @property
    def value(self) -> T | None:
        """The chosen object, opened now; None when nothing matches or the wanted one is gone."""
        key = self._choice.chosen
        return None if key is None else self._open(key)

    @property
    def state(self) -> str:
        """One line: what is chosen, or why nothing is."""
        choice = self._choice
        if choice.missing is not None:
            return f"{self.kind} {printable(choice.missing)} is not in this cluster now: choose another"
        if choice.chosen is None:
            return f"no {self.kind} matches"
        return f"{self.kind} {printable(choice.chosen)}"

    def on_change(self, callback: Callable[[T | None], object]) -> Callable[[], None]:
        """Call ``callback(value)`` whenever another one is chosen or the choice was read anew.

        What it raises is shown under the list. Returns a function that ends the subscription.
        """
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    def choose(self, key: str) -> None:
        """Choose by key, as a click does."""
        with self._lock:
            self._choice.pick(key)
            self._changed()

    def refresh(self) -> None:
        """Read the list again. Namespace, filter and choice stay; a choice that is gone is said so."""
        with self._lock:
            self._choice.load(self._read())
            self._trouble = ""
            self._changed(always=True)

    def _build(self, namespaced: bool) -> None:
        wide = widgets.Layout(width="auto", max_width="46em")
        self.namespace = widgets.Dropdown(description=self._group.capitalize(), style=_WIDE, layout=wide)
        self.filter = widgets.Text(
            description="Filter",
            placeholder="part of a name, an address, a node …",
            style=_WIDE,
            layout=wide,
        )
        self.list = widgets.Select(description=self.kind.capitalize(), rows=6, style=_WIDE, layout=wide)
        self.refresh_button = _button("Read again", f"Read the list of {self.kind}s again")
        # JupyterLab keeps the arrow keys of a list for itself (they move between cells): these do without them
        self.previous_button = _button("Previous", f"Choose the {self.kind} before this one")
        self.next_button = _button("Next", f"Choose the {self.kind} after this one")
        self.status = widgets.HTML()
        buttons = [self.previous_button, self.next_button, self.refresh_button]
        foot = widgets.HBox([*buttons, self.status], layout=widgets.Layout(margin="0 0 0 7em", flex_flow="row wrap"))
        controls = [self.namespace] if namespaced else []
        self.layout = widgets.VBox([*controls, self.filter, self.list, foot])
        self.namespace.observe(self._on_narrow, names="value")
        self.filter.observe(self._on_narrow, names="value")
        self.list.observe(self._on_pick, names="value")
        self.refresh_button.on_click(self._on_refresh)
        self.previous_button.on_click(lambda _button: self._step(-1))
        self.next_button.on_click(lambda _button: self._step(1))

    def _on_narrow(self, _change: object) -> None:
        with self._lock:
            if not self._drawing:
                self._choice.narrow(self.namespace.value or None, self.filter.value)
                self._changed()

    def _on_pick(self, change: dict[str, Any]) -> None:
        with self._lock:
            if not self._drawing and change["new"] is not None:
                self.choose(change["new"])

    def _step(self, by: int) -> None:
        with self._lock:
            self._choice.step(by)
            self._changed()

    def _on_refresh(self, _button: object) -> None:
        try:
            self.refresh()
        except Exception as error:  # an exception in a widget's callback would be invisible
            self._trouble = told_error(error)
            self._draw()

    def _changed(self, always: bool = False) -> None:
        self._draw()
        if not always and self._told == self._choice.chosen:
            return
        self._told = self._choice.chosen
        self._trouble = ""
        for listener in tuple(self._listeners):
            try:
                listener(self.value)
            except Exception as error:  # as above
                self._trouble = told_error(error)
        self._draw_status()

    def _draw(self) -> None:
        choice = self._choice
        self._drawing = True
        try:
            names = choice.namespaces
            if choice.namespace is not None and choice.namespace not in names:
                names = sorted([*names, choice.namespace])  # emptied meanwhile: still what is looked at
            everything = (f"all {_plural(self._group)}", "")  # not None: to a Dropdown that is no choice at all
            _fill(self.namespace, [everything, *((printable(name), name) for name in names)], choice.namespace or "")
            _fill(self.list, [(item.label, item.key) for item in choice.shown], choice.chosen)
        finally:
            self._drawing = False
        self._draw_status()

    def _draw_status(self) -> None:
        many, shown = len(self._choice.matches), len(self._choice.shown)
        count = f"{many} match" if many == 1 else f"{many} match" + (f", showing {shown}" if shown < many else "")
        told = "" if self._choice.chosen else f"{self.state}. "
        self.status.value = status_html(f"{told}{count}" + (f". {self._trouble}" if self._trouble else ""))

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        items = self._choice.shown
        rest = len(self._choice.matches) - len(items)
        lines = [self.state, *(f"{'>' if item.key == self.key else ' '} {item.label}" for item in items[:10])]
        more = rest + max(0, len(items) - 10)
        text = "\n".join([*lines, *([f"  and {more} more"] if more else [])])
        return live_bundle(self.layout, text, f"<pre>{escape(text)}</pre>")


def _plural(word: str) -> str:
    return f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"


def _button(description: str, tooltip: str) -> widgets.Button:
    return widgets.Button(description=description, tooltip=tooltip, layout=widgets.Layout(width="auto"))


def _fill(control: widgets.Dropdown | widgets.Select, options: list[tuple[str, Any]], value: Any = None) -> None:
    """New options and value in one message. Options set over a selection would choose the first one by themselves."""
    if list(control.options) == options and control.value == value:
        return
    with control.hold_sync():
        control.value = None
        control.options = options
        control.value = value


def _frame_items(frame: Any, detail: tuple[str, ...]) -> list[Item]:
    """Items of a table with namespace, name and the columns that tell one from another."""
    columns = [frame[column].tolist() for column in ("namespace", "name", *detail)]
    return [
        Item(f"{namespace}/{name}", namespace, "  ".join(str(part) for part in rest if isinstance(part, str) and part))
        for namespace, name, *rest in zip(*columns, strict=True)
    ]


class PodSelector(ItemSelector["Pod"]):
    """Chooses a pod: ``PodSelector(cluster, value="default/client").value`` is what ``cluster.pod`` gives."""

    def __init__(self, cluster: Cluster, value: str | None = None) -> None:
        super().__init__(lambda: _frame_items(cluster.pods(), ("ip", "node", "status")), cluster.pod, "pod", value)


class ServiceSelector(ItemSelector["Service"]):
    """Chooses a Service; ``.value`` is what ``cluster.service`` gives."""

    def __init__(self, cluster: Cluster, value: str | None = None) -> None:
        super().__init__(
            lambda: _frame_items(cluster.services(), ("type", "cluster_ip", "ports")), cluster.service, "Service", value
        )


class NodeSelector(ItemSelector["Node"]):
    """Chooses a node; ``.value`` is what ``cluster.node`` gives."""

    def __init__(self, cluster: Cluster, value: str | None = None) -> None:
        super().__init__(
            lambda: [Item(str(name)) for name in cluster.nodes()["name"]],
            cluster.node,
            "node",
            value,
            namespaced=False,
        )
