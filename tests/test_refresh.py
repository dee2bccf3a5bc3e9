"""The refresh of the notebooks: one canonical form, and a second run that changes no byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
import refresh_notebooks
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from refresh_notebooks import LIVE_VIEW, canonical, main


def notebook(*sources: str) -> Any:
    made = new_notebook(cells=[new_markdown_cell("# Title", id="title")])
    made.cells += [new_code_cell(source, id=f"code-{n}") for n, source in enumerate(sources)]
    return made


def test_what_another_run_would_change_is_taken_out() -> None:
    made = notebook("1 + 1")
    made.metadata = {
        "widgets": {"state": {}},
        "language_info": {"name": "python", "version": "3.11.7"},
        "signature": "x",
    }
    cell = made.cells[1]
    cell.execution_count = 12
    cell.metadata = {"execution": {"iopub.execute_input": "now"}, "tags": ["keep"], "ExecuteTime": {}}
    cell.outputs = [
        new_output("stream", name="stdout", text="one\n"),
        new_output("stream", name="stdout", text="two\n"),
        new_output("stream", name="stderr", text="three\n"),
        new_output("execute_result", {"text/plain": "2", LIVE_VIEW: {"model_id": "random"}}, execution_count=12),
    ]
    stored = nbformat.reads(canonical(made), as_version=4)
    assert "widgets" not in stored.metadata
    assert "version" not in stored.metadata.language_info
    (title, code) = stored.cells
    assert (title.id, code.id) == ("title", "code-0")
    assert code.metadata == {"tags": ["keep"]}
    assert [output.get("text") for output in code.outputs] == ["one\ntwo\n", "three\n", None]
    assert code.outputs[2].data == {"text/plain": "2"}
    assert code.execution_count == code.outputs[2].execution_count == 1


def test_the_canonical_form_is_its_own_canonical_form() -> None:
    made = notebook("print('é')", "2")
    made.cells[1].outputs = [new_output("stream", name="stdout", text="é\n")]
    once = canonical(made)
    assert canonical(nbformat.reads(once, as_version=4)) == once
    assert once.endswith("}\n")
    assert "é" in once


@pytest.mark.slow
def test_a_second_run_changes_no_byte_and_check_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "small.ipynb"
    nbformat.write(notebook("import os; print(os.environ.get('K8SNET_SOURCE'))", "sorted({2, 1})"), path)
    assert main(["--check", str(path)]) == 1
    assert "would change" in capsys.readouterr().out
    assert main([str(path)]) == 0
    once = path.read_bytes()
    assert main(["--check", str(path)]) == 0
    assert main([str(path)]) == 0
    assert path.read_bytes() == once
    assert b'"None\\n"' in once
    assert b"[1, 2]" in once


@pytest.mark.slow
def test_a_failing_cell_leaves_the_file_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "broken.ipynb"
    nbformat.write(notebook("1 / 0"), path)
    before = path.read_bytes()
    assert main([str(path)]) == 1
    assert path.read_bytes() == before
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_lessons_come_in_order_and_without_checkpoints(tmp_path: Path) -> None:
    for name in ("02_b.ipynb", "01_a.ipynb", ".ipynb_checkpoints/01_a.ipynb", "notes.txt"):
        file = tmp_path / "notebooks" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert [path.name for path in refresh_notebooks.lessons(tmp_path)] == ["01_a.ipynb", "02_b.ipynb"]
