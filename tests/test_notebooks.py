"""The committed lessons: executed, canonical, short, and compared in earnest.

``make test`` runs every notebook under strict nbval beside these; what stands here makes sure that this run cannot
pass without comparing anything.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from refresh_notebooks import LIVE_VIEW, canonical, lessons

ROOT = Path(__file__).resolve().parent.parent
RECORDING = ROOT / "k8snet_nb" / "data" / "hello-cluster"
STRICT = ["--nbval", "--nbval-current-env", "--nbval-cell-timeout=60"]
MEDIAN_LINES, MOST_LINES = 4, 15

every_lesson = pytest.mark.parametrize("path", lessons(), ids=lambda path: path.name)


def code_cells(path: Path) -> list[Any]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def lines(cell: Any) -> list[str]:
    return [line for line in cell.source.splitlines() if line.strip()]


def shows_something(source: str) -> bool:
    """Whether a cell's last line is an expression whose value a reader expects to see."""
    body = ast.parse(source).body
    return bool(body) and isinstance(body[-1], ast.Expr) and not source.rstrip().endswith(";")


def test_the_lessons_are_there() -> None:
    names = [path.name for path in lessons()]
    assert names[:3] == ["00_start_here.ipynb", "01_pod_cluster_ip.ipynb", "02_service_cluster_ip.ipynb"]


@every_lesson
def test_executed_from_top_to_bottom_without_an_error(path: Path) -> None:
    cells = code_cells(path)
    assert cells
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]


@every_lesson
def test_what_a_cell_shows_is_stored(path: Path) -> None:
    silent = [cell.source for cell in code_cells(path) if shows_something(cell.source) and not cell.outputs]
    assert not silent, "these cells end with a value and store no output: make refresh"


@every_lesson
def test_every_stored_output_has_text_that_is_compared(path: Path) -> None:
    for output in (output for cell in code_cells(path) for output in cell.outputs if "data" in output):
        assert output.data.get("text/plain", "").strip()
        assert not re.search(r" at 0x[0-9a-f]{6,}|(VBox|HBox|HTML|Dropdown|Select)\(", output.data["text/plain"]), (
            "a repr instead of a canonical text"
        )


@every_lesson
def test_no_live_widget_is_stored(path: Path) -> None:
    assert "widgets" not in nbformat.read(path, as_version=4).metadata
    assert LIVE_VIEW not in path.read_text(encoding="utf-8")


@every_lesson
def test_cell_ids_are_unique(path: Path) -> None:
    ids = [cell.id for cell in nbformat.read(path, as_version=4).cells]
    assert len(ids) == len(set(ids))


@every_lesson
def test_stored_in_the_form_that_a_refresh_writes(path: Path) -> None:
    assert canonical(nbformat.read(path, as_version=4)) == path.read_text(encoding="utf-8"), "make refresh"


@every_lesson
def test_cells_are_short(path: Path) -> None:
    counts = [len(lines(cell)) for cell in code_cells(path)]
    assert statistics.median(counts) <= MEDIAN_LINES
    assert max(counts) <= MOST_LINES


@every_lesson
def test_one_visible_line_chooses_the_source(path: Path) -> None:
    visible = [cell for cell in code_cells(path) if not cell.metadata.get("jupyter", {}).get("source_hidden")]
    assert len([line for cell in visible for line in lines(cell) if "kn.open(" in line]) == 1


@every_lesson
def test_no_cell_is_excused_from_comparison(path: Path) -> None:
    for cell in code_cells(path):
        assert not re.search(r"#\s*(NBVAL|PYTEST_VALIDATE)_", cell.source)
        assert not [
            tag for tag in cell.metadata.get("tags", []) if tag.startswith("nbval") or tag == "raises-exception"
        ]


def nbval(folder: Path, source: Path | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Strict nbval over a folder, outside of this project's settings; the lessons read ``source``."""
    environment = {name: value for name, value in os.environ.items() if name != "K8SNET_SOURCE"}
    if source is not None:
        environment["K8SNET_SOURCE"] = str(source)
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *STRICT, *arguments, str(folder)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_every_notebook_and_every_cell_is_collected(tmp_path: Path) -> None:
    for path in lessons():
        shutil.copy(path, tmp_path)
    listed = nbval(tmp_path, None, "--collect-only", "-q").stdout
    for path in lessons():
        collected = re.findall(rf"{re.escape(path.name)}::Cell \d+", listed)
        assert len(collected) == len(code_cells(path)), path.name


@pytest.fixture
def changed_recording(tmp_path: Path) -> Path:
    """A copy of the bundled recording in which one pod has another address."""
    recording = tmp_path / "changed" / RECORDING.name
    shutil.copytree(RECORDING, recording)
    listing = recording / "api" / "pods.json"
    text = listing.read_text(encoding="utf-8")
    pod = next(p for p in json.loads(text)["items"] if p["metadata"]["name"].startswith("hello-world"))
    address = pod["status"]["podIP"]
    listing.write_text(text.replace(f'"{address}"', '"10.244.99.99"'), encoding="utf-8")
    return recording


@pytest.mark.slow
def test_a_changed_recorded_value_turns_the_comparison_red(tmp_path: Path, changed_recording: Path) -> None:
    folder = tmp_path / "lessons"
    folder.mkdir()
    shutil.copy(next(path for path in lessons() if path.name.startswith("01_")), folder)
    unchanged = tmp_path / "unchanged" / RECORDING.name
    shutil.copytree(RECORDING, unchanged)
    green, red = nbval(folder, unchanged), nbval(folder, changed_recording, "-vv")
    assert green.returncode == 0, green.stdout
    assert red.returncode == 1, red.stdout
    assert "Cell outputs differ" in red.stdout
    assert "10.244.99.99" in red.stdout
