"""A twin of the recording at hand, brought up by a button: what a panel says where connections cannot be made."""

from __future__ import annotations

import sys
from threading import RLock, Thread
from typing import TYPE_CHECKING

import ipywidgets as widgets

from ..cluster import Cluster
from ..sources.twin import TwinSource
from ..sources.twin_control import TwinFolder, twin_folders
from ..twin.making import down, up
from .live import status_html, told_error

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ONLY_READ", "TwinOffer"]

ONLY_READ = 'What is open here can only be read. A twin does it for real: `k8snet twin up`, then kn.open("twin").'
"""What a panel says on any source but a twin: one line, the same everywhere."""


class TwinOffer:
    """Two buttons: bring a twin of this recording up, take it down. ``ready`` is called with it, or with None.

    Only where a twin can be: a recording in a folder or archive, on Linux; ``layout`` is empty elsewhere. A twin of the
    same recording that runs already is used. The twin goes on until it is taken down.
    """

    def __init__(self, cluster: Cluster, ready: Callable[[Cluster | None], None]) -> None:
        self._recording, self._ready = getattr(cluster.source, "where", None), ready
        self._lock = RLock()
        self._thread: Thread | None = None
        self._twin: TwinFolder | None = None
        self._source: TwinSource | None = None
        auto = widgets.Layout(width="auto")
        self.up_button = widgets.Button(
            description="Bring a twin up", tooltip="Build this recording's twin in this machine's kernel", layout=auto
        )
        self.down_button = widgets.Button(
            description="Take it down", tooltip="End the twin, without a trace", layout=auto, disabled=True
        )
        self._said = ""
        self._status = widgets.HTML(status_html(""))
        self.up_button.on_click(lambda _button: self.bring_up())
        self.down_button.on_click(lambda _button: self.take_down())
        offered = self._recording is not None and sys.platform.startswith("linux")
        self.layout = widgets.HBox(
            [self.up_button, self.down_button, self._status] if offered else [],
            layout=widgets.Layout(flex_flow="row wrap"),
        )

    @property
    def status(self) -> str:
        """What the line beside the buttons says."""
        return self._said

    def bring_up(self) -> None:
        """Build it in a thread of its own: some seconds."""
        self._in_thread(self._bring_up)

    def take_down(self) -> None:
        """End the twin."""
        self._in_thread(self._take_down)

    def wait(self, seconds: float | None = None) -> None:
        """Wait until what was asked for is done."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _in_thread(self, work: Callable[[], None]) -> None:
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            self.up_button.disabled = self.down_button.disabled = True
            self._thread = Thread(target=self._guarded, args=(work,), name="k8snet-twin", daemon=True)
            self._thread.start()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # an exception in a widget's thread would be invisible
            self._say(told_error(error))
        finally:
            self.up_button.disabled = self._twin is not None
            self.down_button.disabled = self._twin is None

    def _bring_up(self) -> None:
        self._say("Building …")
        found = next((twin for twin in twin_folders() if self._is_ours(twin)), None)
        self._twin = found or up(self._recording, told=lambda word: self._say(f"{word} …"))[0]
        self._source = TwinSource(folder=self._twin)
        self._ready(Cluster(self._source))
        self._say(f"Twin {self._twin.name} is up. It goes on until it is taken down: here, or `k8snet twin down`.")

    def _is_ours(self, twin: TwinFolder) -> bool:
        return twin.about.get("recording") == str(self._recording) and twin.alive()

    def _take_down(self) -> None:
        if self._twin is not None:
            self._say("Ending …")
            self._ready(None)
            if self._source is not None:
                self._source.close()
            down(self._twin)
            self._twin = None
        self._say("The twin is down.")

    def _say(self, text: str) -> None:
        self._said = text
        self._status.value = status_html(text)
