"""The lessons' live parts in a real JupyterLab, on a twin: sent by the keyboard and by clicks, seen in both themes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from browser.lab import Lab, lab_page, output_of, run_all, serving, shoot, theme
from needs import chromium, need
from playwright.sync_api import Locator, Page, expect
from twin.running import twin_of

from k8snet_nb.sources.twin import TwinSource

pytestmark = [
    need(
        chromium=True, modules=["playwright"], root=True, kernel=["veth", "bridge"],
        commands=["ip", "nft", "iptables-restore", "ss", "unshare", "linux.uml", "iptables-legacy-restore"],
    ),
    pytest.mark.slow,
]  # fmt: skip

expect.set_options(timeout=30_000)

WHERE = "import os\nimport k8snet_nb as kn\n\nos.environ['K8SNET_TWINS'] = {base!r}\ncluster = kn.open({source!r})"
HELLO = '"default/hello-world", client="default/client"'
ON_A_TWIN = (f'kn.try_it(cluster, {HELLO}, hold=3, watch="conntrack")', "kn.fill_a_table(64, 80, raised=128)")
ON_A_RECORDING = (f'kn.try_it(cluster, {HELLO}, watch="rules")',)
RECORDING = str(Path(__file__).parents[2] / "k8snet_nb" / "data" / "hello-cluster")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder: Path = tmp_path_factory.mktemp("tryit")
    (folder / "lessons").mkdir()
    empty = folder / "twins"
    empty.mkdir(mode=0o700)
    with twin_of(nodes=["node-one", "node-two"]) as cluster:
        assert isinstance(cluster.source, TwinSource)
        base = str(cluster.source.twin.path.parent)
        _write(folder / "lessons" / "twin.ipynb", WHERE.format(base=base, source="twin"), *ON_A_TWIN)
        recorded = WHERE.format(base=str(empty), source=RECORDING)
        _write(folder / "lessons" / "recording.ipynb", recorded, *ON_A_RECORDING)
        with serving(folder / "lessons", folder / "state", chromium()) as running:
            yield running


def _write(path: Path, *cells: str) -> None:
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    made = [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(nbformat.v4.new_notebook(cells=made, metadata=metadata), path)


def panel(page: Page, button: str) -> Locator:
    return output_of(page.get_by_role("button", name=button, exact=True))


def no_errors(cells: list[dict[str, Any]]) -> None:
    assert not [out for cell in cells for out in cell.get("outputs", []) if out["output_type"] == "error"]


def test_connections_are_sent_and_their_spread_is_shown(lab: Lab) -> None:
    with lab_page(lab, "twin.ipynb") as page:
        theme(page, "JupyterLab Light")
        no_errors(run_all(page))
        sender = panel(page, "Send")
        status = sender.get_by_role("status")
        expect(status).to_have_text("40 connections: 40 ok; as the rules say.")
        expect(sender.get_by_role("img", name=re.compile("Of 40 connections answered"))).to_be_visible()
        expect(sender.get_by_role("img", name=re.compile("entr(y|ies) at first"))).to_be_visible()
        expect(sender).to_contain_text("WHILE OPEN")
        shoot(page, "tryit-light")

        sender.get_by_label("Connections", exact=True).fill("12")
        sender.get_by_label("Seconds open", exact=True).fill("0")
        sender.get_by_role("button", name="Send", exact=True).click()
        expect(status).to_have_text("12 connections: 12 ok; as the rules say.")
        sender.get_by_label("Service", exact=True).select_option("default/orphan 80/TCP, cluster IP")
        sender.get_by_label("Connections", exact=True).fill("3")
        sender.get_by_label("Connections", exact=True).press("Tab")
        page.keyboard.press("Tab")  # by the keyboard alone: seconds, then the button
        expect(sender.get_by_role("button", name="Send", exact=True)).to_be_focused()
        page.keyboard.press("Enter")
        expect(status).to_have_text("3 connections: 3 refused; as the rules say.")
        theme(page, "JupyterLab Dark")
        shoot(page, "tryit-dark")
        assert lab.strangers() == []


def test_a_table_is_filled_in_a_guest(lab: Lab) -> None:
    with lab_page(lab, "twin.ipynb") as page:
        theme(page, "JupyterLab Light")
        no_errors(run_all(page))
        filler = panel(page, "Fill it")
        expect(filler).to_contain_text("Nothing has run yet")
        filler.get_by_role("button", name="Fill it", exact=True).click()
        expect(filler.get_by_role("status")).to_have_text("Done; the small kernel is gone.", timeout=120_000)
        expect(filler).to_contain_text("64 of 64 went on")
        expect(filler.get_by_role("img", name=re.compile("the maximum is"))).to_be_visible()
        shoot(page, "filltable-light")
        theme(page, "JupyterLab Dark")
        shoot(page, "filltable-dark")
        shoot(page, "filltable-narrow", width=560)


def test_a_recording_offers_a_twin_and_takes_it_down(lab: Lab) -> None:
    with lab_page(lab, "recording.ipynb") as page:
        theme(page, "JupyterLab Light")
        no_errors(run_all(page))
        offer = panel(page, "Bring a twin up")
        expect(offer).to_contain_text("can only be read")
        shoot(page, "offer-light")
        offer.get_by_role("button", name="Bring a twin up").click()
        expect(offer).to_contain_text("40 connections: 40 ok; as the rules say.", timeout=120_000)
        expect(offer.get_by_role("button", name="Take it down")).to_be_enabled()
        shoot(page, "offer-up-light")
        theme(page, "JupyterLab Dark")
        shoot(page, "offer-up-dark")
        offer.get_by_role("button", name="Take it down").click()
        expect(offer).to_contain_text("The twin is down.", timeout=30_000)
        expect(offer).to_contain_text("can only be read")
        expect(offer.get_by_role("button", name="Send", exact=True)).to_have_count(0)
