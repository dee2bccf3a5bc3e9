"""Live panels in a real JupyterLab: start, pause and stop by their buttons, on the recording's replay."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from browser.lab import Lab, lab_page, run_all, serving, shoot, theme
from needs import chromium, need
from playwright.sync_api import Locator, Page, expect

pytestmark = [need(chromium=True, modules=["playwright"]), pytest.mark.slow]

expect.set_options(timeout=15_000)

CELLS = (
    'import k8snet_nb as kn\nnode = kn.open().node("node-one")\nchart = kn.conntrack_live(node, interval=0.2)\nchart',
    "kn.conntrack_events(node, interval=0.2)",
)
AFTER = "import threading\n[t.name for t in threading.enumerate() if t.name == 'k8snet-live']"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder: Path = tmp_path_factory.mktemp("live")
    (folder / "lessons").mkdir()
    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), folder / "lessons" / "live.ipynb")
    with serving(folder / "lessons", folder / "state", chromium()) as running:
        yield running


def press(panel: Locator, name: str, state: str) -> None:
    panel.get_by_role("button", name=name, exact=True).click()
    expect(panel.get_by_role("status")).to_contain_text(state)


def panels(page: Page) -> tuple[Locator, Locator]:
    found = page.locator(".jp-OutputArea-output").filter(has=page.get_by_role("button", name="Start"))
    expect(found).to_have_count(2)
    return found.nth(0), found.nth(1)


def test_a_chart_and_a_list_start_pause_and_stop(lab: Lab) -> None:
    with lab_page(lab, "live.ipynb") as page:
        theme(page, "JupyterLab Light")
        run_all(page)
        chart, events = panels(page)
        expect(chart).to_contain_text("replay of what was recorded on node-one")
        press(chart, "Start", "running")
        expect(chart.locator("img")).to_have_attribute("alt", re.compile(r"entries at first, .* after [1-9]"))
        press(chart, "Pause", "paused")
        page.wait_for_timeout(800)
        words = chart.locator("img").get_attribute("alt")
        page.wait_for_timeout(800)
        assert chart.locator("img").get_attribute("alt") == words
        press(chart, "Start", "running")
        expect(chart.locator("img")).not_to_have_attribute("alt", str(words))
        press(events, "Start", "running")
        expect(events.get_by_role("cell", name="SYN_SENT").first).to_be_visible()
        shoot(page, "live-light")
        theme(page, "JupyterLab Dark")
        shoot(page, "live-dark")
        press(events, "Stop", "stopped")
        press(chart, "Stop", "stopped")
        assert lab.strangers() == []
