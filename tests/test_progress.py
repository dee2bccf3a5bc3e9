"""How far a long reading is: on a terminal and in a notebook, where the kernel's interrupt stops it."""

from __future__ import annotations

import io
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from api_server import FakeCluster, serving
from needs import need

from k8snet_nb.sources.opening import BUNDLED
from k8snet_nb.sources.progress import ProgressLine, WhenSlow
from k8snet_nb.sources.together import together

ROOT = Path(__file__).parent.parent


def test_a_quick_reading_is_silent_and_a_slow_one_is_told_to_its_end() -> None:
    told: list[tuple[str, int, int | None]] = []
    made = []

    def make() -> Any:
        made.append(1)
        return lambda *words: told.append(words)

    slow = WhenSlow(make, after=0.05)
    slow("pods", 500, 1000)
    slow("pods", 1000, 1000)
    assert not made
    for number in (1, 2):
        slow("pods", 500, None)
        time.sleep(0.06)
        slow("pods", 1000, 1500)
        slow("pods", 1500, 1500)
        assert told == [("pods", 1000, 1500), ("pods", 1500, 1500)] * number
    assert made == [1], "one view for all readings"


def test_a_line_on_a_terminal() -> None:
    out = io.StringIO()
    line = ProgressLine(out)
    line("pods", 500, None)
    line("pods", 500, 1000)
    line("pods", 1000, 1000)
    first, second, last = out.getvalue().split("\r\x1b[K")[1:]
    assert first == "pods: 500 (Ctrl-C stops; what is read is kept)"
    assert second == "pods: [##########          ] 500 of 1000 (Ctrl-C stops; what is read is kept)"
    assert last == "pods: [####################] 1000 of 1000\n"


def test_several_at_once_end_when_one_stops() -> None:
    begun = threading.Event()
    started: list[int] = []

    def work(number: int) -> int:
        started.append(number)
        begun.wait(5)
        return number

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(together(work, list(range(50)), 4, stop))
    begun.set()
    assert len(started) == 4, "the others never begin"
    assert sorted(together(lambda x: x * x, [1, 2, 3], 2)) == [1, 4, 9]


@need(modules=["ipywidgets"])
def test_the_bar_of_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    from k8snet_nb.show import progress

    shown: list[object] = []
    monkeypatch.setattr(progress, "display", shown.append)
    bar = progress.ProgressBar()
    bar("pods", 500, 1200)
    bar("pods", 1000, 1200)
    assert shown == [bar]
    assert (bar.bar.value, bar.bar.max, bar.layout.layout.display) == (1000, 1200, "")
    assert bar.text == "pods: 1000 of 1200"
    assert "Interrupt" in bar._label.value
    assert bar._repr_mimebundle_()["text/plain"].strip().startswith("pods: 1000 of 1200")
    bar("pods", 1200, 1200)
    assert bar.layout.layout.display == "none"


CELLS = """import sys; sys.path.insert(0, '@ROOT@')
import kubernetes.config.kube_config as config
config.KUBE_CONFIG_DEFAULT_LOCATION = '@CONFIG@'
import k8snet_nb as kn
cluster = kn.open("live")
---
len(cluster.pods())
---
print(len(cluster.pods()))
""".split("\n---\n")


@pytest.fixture
def slow_server(tmp_path: Path) -> Iterator[FakeCluster]:
    with serving(tmp_path, BUNDLED) as server:
        item = server.lists["pods"]["items"][0]
        items = [{**item, "metadata": {**item["metadata"], "name": f"p{i}"}} for i in range(3000)]
        server.lists["pods"]["items"] = items
        server.slow = 0.7
        yield server


@need(modules=["ipykernel", "nbclient", "kubernetes"])
def test_an_interrupt_of_the_kernel_stops_a_reading_and_the_next_goes_on(
    slow_server: FakeCluster, tmp_path: Path
) -> None:
    import nbclient

    config = str(slow_server.kubeconfig(tmp_path / "kubeconfig"))
    cells = [source.replace("@ROOT@", str(ROOT)).replace("@CONFIG@", config) for source in CELLS]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "", "language": "python"}},
    )
    client = nbclient.NotebookClient(notebook, timeout=60, allow_errors=True)

    def interrupt() -> None:
        while len([line for line, _ in slow_server.seen if "/pods" in line]) < 4:
            time.sleep(0.05)
        os.kill(client.km.provisioner.pid, signal.SIGINT)  # what the notebook's interrupt does

    with client.setup_kernel():
        client.execute_cell(notebook.cells[0], 0)
        thread = threading.Thread(target=interrupt)
        thread.start()
        client.execute_cell(notebook.cells[1], 1)
        thread.join()
        slow_server.seen.clear()
        slow_server.slow = 0.0
        client.execute_cell(notebook.cells[2], 2)
    stopped = notebook.cells[1].outputs
    assert [out.ename for out in stopped if out.output_type == "error"] == ["KeyboardInterrupt"]
    assert "pods was stopped after 1500 of 3000" in stopped[-1].evalue
    assert re.match(r"pods: (10|15)00 of 3000", stopped[0]["data"]["text/plain"]), "as it was first shown"
    assert "application/vnd.jupyter.widget-view+json" in stopped[0]["data"]
    assert notebook.cells[2].outputs[-1]["text"] == "3000\n"
    assert len([line for line, _ in slow_server.seen if "/pods" in line]) == 3, "from where it was stopped"
