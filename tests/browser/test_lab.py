"""The lessons in a real JupyterLab in a real browser. Pictures of each go to artifacts/."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from browser.lab import ROOT, Lab, output_of, run_all, serving, shoot, theme
from needs import chromium, need
from playwright.sync_api import Locator, Page, expect

import k8snet_nb as kn

pytestmark = [need(chromium=True, modules=["playwright"]), pytest.mark.slow]

expect.set_options(timeout=15_000)

NOTEBOOKS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
SAMPLE = "sample.ipynb"
SAMPLE_CELLS = (
    "import k8snet_nb as kn\ncluster = kn.open()",
    'kn.panel(kn.PodSelector(cluster, value="default/client"), lambda pod: pod, title="A pod")',
    'kn.exercise("02-1", cluster)',
    'kn.enter(cluster.pod("default/client"))',
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    lessons = folder / "lessons"
    shutil.copytree(ROOT / "notebooks", lessons, ignore=shutil.ignore_patterns(".*"))
    nbformat.write(_notebook(*SAMPLE_CELLS), lessons / SAMPLE)
    with serving(lessons, folder / "state", chromium()) as running:
        yield running


def _notebook(*cells: str) -> Any:
    return nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )


@pytest.fixture
def page(lab: Lab) -> Iterator[Page]:
    with lab.page() as opened:
        yield opened


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_lesson_opens_runs_answers_and_stays_here(name: str, lab: Lab, page: Page) -> None:
    stem = Path(name).stem
    lab.open(page, name)
    theme(page, "JupyterLab Light")
    shoot(page, f"{stem}-opened")
    _no_errors(run_all(page))
    expect(page.locator(".jp-NotebookPanel").get_by_text("Error displaying widget")).to_have_count(0)
    shoot(page, f"{stem}-light")
    for control in page.locator(".jp-Notebook .widget-select select").all():
        _choosing_redraws_in_place(control)
        _typing_narrows(control)
    for field in page.locator(".jp-Notebook").get_by_label("Answer", exact=True).all():
        _answers_by_keyboard(field)
    theme(page, "JupyterLab Dark")
    shoot(page, f"{stem}-dark")
    shoot(page, f"{stem}-narrow", width=560)
    assert lab.requests
    assert lab.strangers() == []


def test_the_sample_has_every_part(lab: Lab, page: Page) -> None:
    lab.open(page, SAMPLE)
    theme(page, "JupyterLab Light")
    _no_errors(run_all(page))
    namespace = page.get_by_label("Namespace", exact=True)
    expect(namespace.locator("option:checked")).to_have_text("all namespaces")
    _choosing_redraws_in_place(page.get_by_label("Pod", exact=True))
    _typing_narrows(page.get_by_label("Pod", exact=True))
    _answers_by_keyboard(page.get_by_label("Answer", exact=True))
    shoot(page, "sample-light")
    theme(page, "JupyterLab Dark")
    shoot(page, "sample-dark")
    shoot(page, "sample-narrow", width=560)
    assert lab.strangers() == []


def test_a_choice_by_keyboard_alone(lab: Lab, page: Page) -> None:
    lab.open(page, SAMPLE)
    run_all(page)
    listed = page.get_by_label("Pod", exact=True)
    page.get_by_label("Filter", exact=True).focus()
    page.keyboard.type("shop/cart")
    options = listed.locator("option")
    expect(options).to_have_count(3)
    keys = [label.split()[0] for label in options.all_inner_texts()]
    said = output_of(listed).locator("p").first
    expect(said).to_contain_text(f"pod {keys[0]}")
    page.keyboard.press("Tab")
    expect(listed).to_be_focused()
    for expected in ("Previous", "Next"):
        page.keyboard.press("Tab")
        expect(output_of(listed).get_by_role("button", name=expected)).to_be_focused()
    page.keyboard.press("Space")
    expect(said).to_contain_text(f"pod {keys[1]}")


def test_a_command_is_typed_run_and_refused_by_keyboard(lab: Lab, page: Page) -> None:
    lab.open(page, SAMPLE)
    run_all(page)
    line = page.get_by_label("Command", exact=True)
    area = output_of(line)
    expect(area.locator("pre").nth(1)).to_contain_text("eth0@if7")
    for typed, says in (("ip route", "default via 10.244.18.1"), ("dig kubernetes", "a recording cannot run")):
        line.fill("")
        line.focus()
        page.keyboard.type(typed)
        page.keyboard.press("Enter")
        expect(area).to_contain_text(says)
        expect(line).to_be_focused()
    page.keyboard.press("Tab")
    expect(area.get_by_role("button", name="Run")).to_be_focused()
    page.keyboard.press("Tab")
    expect(area.get_by_role("button", name="Stop")).to_be_focused()
    page.keyboard.press("Space")
    expect(area.get_by_role("status")).to_contain_text("Nothing is running")


def _no_errors(cells: list[dict[str, Any]]) -> None:
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    errors = [output for cell in code for output in cell["outputs"] if output["output_type"] == "error"]
    assert not errors
    assert [cell["execution_count"] for cell in code if "".join(cell["source"]).strip()] != []
    assert all(cell["execution_count"] for cell in code if "".join(cell["source"]).strip())


def _choosing_redraws_in_place(control: Locator) -> None:
    area = output_of(control)
    if control.locator("option").count() < 2:
        return
    area.evaluate("node => { node.dataset.same = 'yes'; }")
    chosen = control.evaluate("node => node.selectedIndex")
    wanted = control.locator("option").nth(1 if chosen == 0 else 0).inner_text()
    key = wanted.split()[0]
    control.select_option(wanted)
    expect(area.locator("p").first).to_have_text(re.compile(rf"(pod|Service|node) {re.escape(key)}$"))
    assert area.get_attribute("data-same") == "yes"


def _typing_narrows(control: Locator) -> None:
    area, options = output_of(control), control.locator("option")
    before = options.all_inner_texts()
    filter_ = area.get_by_label("Filter", exact=True)
    typed = before[-1].split()[0][-5:]
    filter_.press_sequentially(typed)
    expect(options).to_have_count(sum(typed in label for label in before))
    expect(area.get_by_role("status").first).to_contain_text("match")
    filter_.fill("no such thing anywhere")
    expect(options).to_have_count(0)
    filter_.fill("")
    expect(options).to_have_count(len(before))


def _answers_by_keyboard(field: Locator) -> None:
    """A wrong answer with Enter, then the right one with Enter; the hint by Tab and space."""
    area, page = output_of(field), field.page
    number = re.search(r"Exercise (\d\d-\d)\.", area.inner_text())
    assert number is not None
    if field.is_disabled():
        return
    feedback = area.get_by_role("status")
    field.focus()
    page.keyboard.type("quite wrong")
    page.keyboard.press("Enter")
    expect(feedback).to_contain_text("Not yet:")
    page.keyboard.press("Tab")
    expect(area.get_by_role("button", name="Check")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(feedback).to_contain_text("Hint 1")
    field.fill("")
    field.focus()
    solution = kn.exercise(number[1], kn.open()).solution()
    page.keyboard.type(solution.answer)
    page.keyboard.press("Enter")
    expect(feedback).to_contain_text("Right:")
