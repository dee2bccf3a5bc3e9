"""A selector over 10,000 pods in a real browser: seconds until it shows, and until a filter has narrowed it.

The floor, in the same run: a bare ipywidgets Select that holds all 10,000 options. Run from the repository's root;
needs chromium (``CHROMIUM`` names its program). ``--pods N`` changes the number.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from browser.lab import lab_page, run_all, serving  # noqa: E402
from needs import chromium  # noqa: E402
from playwright.sync_api import Page  # noqa: E402

PODS = """import ipywidgets, pandas as pd
from k8snet_nb.show import PodSelector
n = range({pods})
frame = pd.DataFrame({{
    "namespace": [f"team-{{i % 40:02d}}" for i in n],
    "name": [f"web-{{i:05d}}" for i in n],
    "ip": [f"10.{{i >> 16}}.{{i >> 8 & 255}}.{{i & 255}}" for i in n],
    "node": [f"node-{{i % 100}}" for i in n],
    "status": "Running",
}})
class Generated:
    def pods(self): return frame
    def pod(self, key): return key
names = [f"{{a}}/{{b}}" for a, b in zip(frame["namespace"], frame["name"])]"""
SELECTOR = "PodSelector(Generated())"
BARE = "ipywidgets.Select(options=names, description='Bare')"
RUN_CELL = """async at => {
  const panel = window.jupyterapp.shell.currentWidget;
  panel.content.activeCellIndex = at;
  await window.jupyterapp.commands.execute('notebook:run-cell');
}"""


def seconds(act: Callable[[], object], done: Callable[[], object]) -> float:
    """From the start of ``act`` until ``done`` has returned."""
    start = time.perf_counter()
    act()
    done()
    return time.perf_counter() - start


def listed(page: Page, label: str, count: int, first: str = "") -> None:
    """Wait until the list of that label holds so many options, the first of which begins so."""
    page.wait_for_function(
        """([label, count, first]) => [...document.querySelectorAll('.widget-select')].some(box =>
          box.innerText.startsWith(label) && box.querySelectorAll('option').length === count
          && box.querySelector('option').text.startsWith(first))""",
        arg=[label, count, first],
        polling=10,
    )


def measure(page: Page, pods: int, rounds: int) -> dict[str, float]:
    """Medians in seconds."""
    times: dict[str, list[float]] = {"bare": [], "selector": [], "filter": [], "back": []}
    text = page.get_by_label("Filter", exact=True)
    for _ in range(rounds):
        times["bare"].append(seconds(lambda: page.evaluate(RUN_CELL, 1), lambda: listed(page, "Bare", pods)))
        page.evaluate("() => window.jupyterapp.commands.execute('notebook:clear-cell-output')")
        times["selector"].append(
            seconds(lambda: page.evaluate(RUN_CELL, 2), lambda: listed(page, "Pod", min(pods, 200)))
        )
        times["filter"].append(
            seconds(lambda: text.fill("web-00077"), lambda: listed(page, "Pod", 1, "team-37/web-00077"))
        )
        times["back"].append(seconds(lambda: text.fill(""), lambda: listed(page, "Pod", min(pods, 200))))
        page.evaluate("() => window.jupyterapp.commands.execute('notebook:clear-cell-output')")
    return {name: statistics.median(several) for name, several in times.items()}


def main() -> int:
    """Print the medians; 1 when showing or filtering takes a second or more."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    cells = [PODS.format(pods=options.pods), BARE, SELECTOR]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata={"kernelspec": kernel}
    )
    with tempfile.TemporaryDirectory(prefix="k8snet-bench-") as folder:
        root = Path(folder) / "notebooks"
        root.mkdir()
        nbformat.write(notebook, root / "bench.ipynb")
        with serving(root, Path(folder) / "state", chromium()) as lab, lab_page(lab, "bench.ipynb") as page:
            run_all(page)
            page.evaluate("() => window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
            found = measure(page, options.pods, options.rounds)
    print(f"{options.pods:,} pods, medians of {options.rounds} rounds, from the click to the browser's page")
    print(f"floor: bare Select of all   {found['bare']:.3f} s")
    for name, said in (("selector", "selector shows"), ("filter", "filter narrows to one"), ("back", "filter cleared")):
        print(f"{said:<26}  {found[name]:.3f} s   {found[name] / found['bare']:.2f} x floor")
    return int(max(found[name] for name in ("selector", "filter", "back")) >= 1)


if __name__ == "__main__":
    sys.exit(main())
