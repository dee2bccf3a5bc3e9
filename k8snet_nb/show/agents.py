"""Agents by a button: what would be created where is read first, and nothing is created before it is pressed."""

from __future__ import annotations

from collections.abc import Sequence
from threading import RLock, Thread
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from ..errors import Refused
from ..render import Report, escape
from .live import LivePane, pane, status_html, told_error
from .view import rendered

if TYPE_CHECKING:
    from ..cluster import Cluster

__all__ = ["AgentsPanel", "live_agents"]

_HEADINGS = ("ACTION", "KIND", "NAME", "NAMESPACE", "NODE", "WHAT")


class AgentsPanel(LivePane):
    """``.layout`` is the widget; ``.start()`` and ``.remove()`` are its buttons, ``.text`` what it says."""

    def __init__(self, cluster: Cluster, nodes: Sequence[str] | None = None) -> None:
        source: Any = cluster.source
        if not hasattr(source, "start_agents"):
            raise Refused(
                f'{source.describe()}: agents are for a live cluster. Open one with kn.open("live"); a recording has '
                "its nodes' facts already"
            )
        self._cluster, self._source, self._nodes = cluster, source, nodes
        self._lock = RLock()
        self._words: dict[str, str] = {}
        self._thread: Thread | None = None
        auto = widgets.Layout(width="auto")
        self.start_button = widgets.Button(description="Create these", tooltip="Create what is listed", layout=auto)
        self.remove_button = widgets.Button(
            description="Remove", tooltip="End all agents, delete their Jobs", layout=auto
        )
        self._status, self._pane = widgets.HTML(), widgets.HTML()
        self.layout = widgets.VBox([self._pane, widgets.HBox([self.start_button, self.remove_button, self._status])])
        self.start_button.on_click(lambda _button: self.start())
        self.remove_button.on_click(lambda _button: self.remove())
        self._show("Nothing has been created.")

    def start(self) -> None:
        """Create what is listed, in a thread of its own; the panel tells how far each node is."""
        self._in_thread(self._start)

    def remove(self) -> None:
        """End all agents and delete their Jobs."""
        self._in_thread(self._remove)

    def wait(self, seconds: float | None = None) -> None:
        """Wait until what was asked for is done."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _in_thread(self, work: Any) -> None:
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            self.start_button.disabled = self.remove_button.disabled = True
            self._thread = Thread(target=self._guarded, args=(work,), name="k8snet agents", daemon=True)
            self._thread.start()

    def _guarded(self, work: Any) -> None:
        try:
            work()
        except Exception as error:  # an exception in a widget's thread would be invisible
            self._show(told_error(error))
        finally:
            self.start_button.disabled = self.remove_button.disabled = False

    def _start(self) -> None:
        self._words.clear()
        self._show("Starting …")
        failed = self._source.start_agents(self._nodes, self._told)
        self._cluster.refresh()
        running = self._source.nodes()
        without = f"; without: {', '.join(sorted(failed))}" if failed else ""
        self._show(f"Agents on {', '.join(running) or 'no node'}{without}.", failed)

    def _remove(self) -> None:
        self._show("Removing …")
        self._source.close()
        self._cluster.refresh()
        self._words.clear()
        self._show("All agents have ended, their Jobs are deleted.")

    def _told(self, node: str, word: str) -> None:
        with self._lock:
            self._words[node] = word
            told = ", ".join(f"{name}: {said.split(':')[0]}" for name, said in sorted(self._words.items()))
        self._show(f"Starting … {told}")

    def _show(self, status: str, failed: dict[str, str] | None = None) -> None:
        with self._lock:
            rows = tuple((p.action, p.kind, p.name, p.namespace, p.node, p.says) for p in self._plan())
            notes = tuple(f"{node}: {why}" for node, why in sorted((failed or {}).items()))
            text, html = rendered(Report(self._source.describe(), _HEADINGS, rows, notes))
            self._text, self._html = f"{text}\n{status}", f"{html}<p>{escape(status)}</p>"
            self._pane.value = pane(html)
            self._status.value = status_html(status)

    def _plan(self) -> list[Any]:
        return list(self._source.plan(self._nodes))


def live_agents(cluster: Cluster, nodes: Sequence[str] | None = None) -> AgentsPanel:
    """A panel that lists the agents that would be created on a live cluster (or on some nodes), and creates them.

    Raises Refused for a source that is not live.
    """
    return AgentsPanel(cluster, nodes)
