"""Entering a pod's network namespace from a notebook: a command line, its output, Stop.

The command is a program of the node, run in the pod's network namespace only, as ``nsenter -t PID -n`` does: files,
processes and the host name stay the node's. On a recording the lessons' commands are rendered from its facts.
"""

from __future__ import annotations

import shlex
from threading import RLock, Thread
from time import sleep
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from ..cluster.inside import PodRun, check_seconds
from ..errors import Refused
from ..explain.pod_commands import CommandOutput
from ..render import escape, printable
from .live import LivePane, alert, pane, status_html, told_error
from .select import ItemSelector

if TYPE_CHECKING:
    from ..cluster import Pod

__all__ = ["EnterPanel", "enter"]

_TYPED = 0.15
"""Seconds after Enter: JupyterLab says that the key was pressed before it sends the text that was typed."""

_ENDED = {
    "timed_out": "ended at its time limit",
    "cancelled": "stopped",
    "too_much": "ended: it wrote more than is kept",
}


class EnterPanel(LivePane):
    """``.layout`` is the widget, ``.command`` its command line, ``.text`` what it says, ``.running`` whether it runs.

    One command at a time, in a thread of its own, for ``seconds`` at most. It is stopped when another pod is chosen or
    the panel is closed.
    """

    def __init__(self, where: ItemSelector[Pod] | Pod, command: str, seconds: float, first: float = 2.0) -> None:
        self._where, self._seconds = where, check_seconds(seconds)
        self._lock = RLock()
        self._thread: Thread | None = None
        self._run: PodRun | None = None
        self._stopping = False
        self._turn = 0  # the number of the command that may write into the pane
        self._build(command)
        self._show("", "", "")
        pod = self._pod()
        self.run()
        self.wait(first if pod is not None and pod.can_run else None)  # a recording's answer is always there at once
        if isinstance(where, ItemSelector):
            where.on_change(lambda _pod: self._other_pod())

    @property
    def running(self) -> bool:
        """Whether a command runs now."""
        return self._thread is not None and self._thread.is_alive()

    def run(self) -> None:
        """Start what the command line says. While a command runs, another one is not started."""
        self._start(0.0)

    def stop(self) -> None:
        """Have the running command ended; what it wrote until then is shown."""
        with self._lock:
            run, alive = self._run, self.running
            if alive:
                self._stopping = True
        if not alive:
            self._say("Nothing is running.")
            return
        self._say("Stopping …")
        self._cancel(run)

    def wait(self, seconds: float | None = None) -> None:
        """Wait for the end of the running command."""
        if self._thread is not None:
            self._thread.join(seconds)

    def close(self) -> None:
        """Stop what runs, and close the widget."""
        self.layout.close()

    def _build(self, command: str) -> None:
        auto = widgets.Layout(width="auto")
        self.command = widgets.Text(
            value=command,
            description="Command",
            placeholder="a program of the node, such as ip addr; Enter runs it",
            continuous_update=False,
            layout=widgets.Layout(width="auto", max_width="46em"),
            style={"description_width": "6.5em"},
        )
        self.run_button = widgets.Button(
            description="Run", tooltip="Run the command in the pod's network namespace", layout=auto
        )
        self.stop_button = widgets.Button(description="Stop", tooltip="Stop the running command", layout=auto)
        self._status, self._pane = widgets.HTML(), widgets.HTML()
        buttons = [self.run_button, self.stop_button, self._status]
        foot = widgets.HBox(buttons, layout=widgets.Layout(margin="0 0 0 7em", flex_flow="row wrap"))
        above = [self._where.layout] if isinstance(self._where, ItemSelector) else []
        self.layout = widgets.VBox([*above, self.command, foot, self._pane])
        self.run_button.on_click(lambda _button: self._start(0.0))
        self.stop_button.on_click(lambda _button: self.stop())
        self.command.on_msg(self._on_message)
        self.layout.observe(self._closed, names="comm")

    def _on_message(self, _widget: object, content: dict[str, Any], _buffers: object) -> None:
        if content.get("event") == "submit":
            self._start(_TYPED)

    def _closed(self, change: dict[str, Any]) -> None:
        if change["new"] is None:  # in the browser or by close()
            self._abandon()

    def _other_pod(self) -> None:
        """Another pod was chosen: what runs in the old one ends. A recording answers at once; a node waits for Run."""
        self._abandon()
        pod = self._pod()
        if pod is None:
            self._show("", "", "")
        elif pod.can_run:
            self._show(*_message(f"Press Run, or Enter, to run the command in {pod.key}."))
        else:
            self._start(0.0)
            self.wait()

    def _abandon(self) -> None:
        with self._lock:
            self._turn += 1
            run, self._stopping, self._thread = self._run, True, None
        self._cancel(run)

    def _cancel(self, run: PodRun | None) -> None:
        try:
            if run is not None:
                run.cancel()
        except Exception as error:  # an exception in a widget's callback would be invisible
            self._say(told_error(error))

    def _start(self, after: float) -> None:
        with self._lock:
            if self.running:
                self._say("A command is still running: stop it first.")
                return
            self._turn += 1
            self._stopping = False
            self._thread = Thread(target=self._work, args=(self._turn, after), name="k8snet-enter", daemon=True)
            self._say("Running …")
            self._thread.start()

    def _work(self, turn: int, after: float) -> None:
        sleep(after)
        try:
            shown = _output(self._execute(turn))
        except Exception as error:  # seen by nobody in a thread
            shown = _message(told_error(error))
        with self._lock:
            if turn == self._turn:
                self._run = None
                self._show(*shown)

    def _execute(self, turn: int) -> CommandOutput:
        argv, pod = _words(self.command.value), self._pod()
        if pod is None:
            raise Refused("choose a pod first")
        run = pod.start_run(argv, self._seconds)
        with self._lock:
            mine = turn == self._turn
            if mine:
                self._run = run
            stopping = self._stopping or not mine
        if stopping:  # asked for before there was anything to stop
            run.cancel()
        elif pod.can_run:
            limit = f"{self._seconds:g} seconds at most"
            self._say(f"Running in {pod.key}, {limit}. The output comes at its end, or with Stop.")
        return run.result()

    def _pod(self) -> Pod | None:
        return self._where.value if isinstance(self._where, ItemSelector) else self._where

    def _say(self, state: str) -> None:
        self._status.value = status_html(state)

    def _show(self, text: str, html: str, state: str) -> None:
        where = self._where.state if isinstance(self._where, ItemSelector) else f"pod {printable(self._where.key)}"
        self._text = "\n".join(part for part in (where, text, state) if part)
        self._html = f"<p>{escape(where)}</p>{html}" + (f"<p>{escape(state)}</p>" if state else "")
        self._pane.value = pane(self._html)
        self._say("")


def enter(where: ItemSelector[Pod] | Pod, command: str = "ip addr", seconds: float = 60.0) -> EnterPanel:
    """A panel that runs commands in the network namespace of the selected pod: ``kn.enter(kn.PodSelector(cluster))``.

    ``seconds`` bounds each command (up to 3600; Refused else). The first one is run when the panel is made.
    """
    return EnterPanel(where, command, seconds)


def _words(line: str) -> list[str]:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise Refused(f"the command line cannot be split into words: {str(error).lower()}. Close the quote") from error
    if not words:
        raise Refused("write a command, such as ip addr")
    return words


def _message(told: str) -> tuple[str, str, str]:
    return printable(told), alert(told), ""


def _output(ran: CommandOutput) -> tuple[str, str, str]:
    """Where it ran and what it wrote, output and errors apart; then how it ended."""
    prompt = f"[{ran.place}]$ {shlex.join(ran.argv)}"
    text, html = [printable(prompt)], [f"<pre>{escape(prompt)}</pre>"]
    for name, written in (("", ran.stdout), ("Errors:", ran.stderr)):
        if written.strip():
            body = written.rstrip("\n")
            text += [*([name] if name else []), printable(body, keep="\n\t")]
            html.append((f"<p>{name}</p>" if name else "") + f"<pre>{escape(body)}</pre>")
    if len(text) == 1:
        text.append("(no output)")
        html.append("<p>(no output)</p>")
    return "\n".join(text), "".join(html), _end(ran)


def _end(ran: CommandOutput) -> str:
    if ran.rendered:
        return printable(ran.note)
    how = _ENDED.get(ran.ended, ran.ended)
    if ran.status is None:
        return how or "ended, its exit status is not known"
    said = f"exit status {ran.status}" if ran.status >= 0 else f"ended by signal {-ran.status}"
    return f"{how}; {said}" if how else said
