"""Each lesson's exercises have a solution, hidden under `<details>`, that runs and is accepted."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from k8snet_nb.show import Feedback

LESSONS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
SOLUTION = re.compile(r"<details>\s*<summary>Solution</summary>\s*```python\n(.*?)```.*?</details>", re.DOTALL)


def _value(code: str, names: dict[str, Any]) -> Any:
    """Runs a cell and gives the value of its last expression, as the notebook would show it."""
    *body, last = ast.parse(code).body
    if not isinstance(last, ast.Expr):
        body.append(last)
    exec(compile(ast.Module(body, []), "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if isinstance(last, ast.Expr) else None


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda p: p.stem)
def test_solutions_are_right(lesson: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("K8SNET_SOURCE", raising=False)
    names: dict[str, Any] = {}
    asked: list[str] = []
    solved: list[str] = []
    for cell in nbformat.read(lesson, as_version=4).cells:
        if cell.cell_type == "code":
            asked += re.findall(r'kn\.exercise\("([\w-]+)"', cell.source)
            _value(cell.source, names)
        for code in SOLUTION.findall(cell.source) if cell.cell_type == "markdown" else ():
            feedback = _value(code, names)
            assert isinstance(feedback, Feedback)
            assert feedback.right is True, f"{code}\n{feedback}"
            solved += re.findall(r'kn\.exercise\("([\w-]+)"', code)
    assert len(asked) >= 2, "each lesson ends with two exercises or more"
    assert solved == asked, "and each has its solution, in the same order"
