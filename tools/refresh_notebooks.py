"""Executes the notebooks again and writes them back in one canonical form, so that a second run changes no byte.

Run it as ``make refresh``; ``--check`` writes nothing and ends with status 1 when a run would change something.
The notebooks read the bundled recording, whatever ``K8SNET_SOURCE`` says.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
LIVE_VIEW = "application/vnd.jupyter.widget-view+json"
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
}
FLEETING = ("execution", "ExecuteTime", "collapsed", "scrolled", "trusted")


def lessons(root: Path = ROOT) -> list[Path]:
    """Every notebook in ``notebooks/``, in the order of the lessons."""
    return sorted(path for path in (root / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)


def canonical(notebook: NotebookNode) -> str:
    """The text of the file: nothing in it that a second run, another machine or a Python patch would change.

    Cell ids are kept (and made, from the cell's position, where there are none); code cells count from 1; live
    widgets, timings and versions go; outputs of one stream that follow each other become one.
    """
    notebook = nbformat.from_dict(notebook)
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    count = 0
    for position, cell in enumerate(notebook.cells):
        cell.id = cell.get("id") or f"cell-{position:02d}"
        for name in FLEETING:
            cell.metadata.pop(name, None)
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        cell.outputs = list(_outputs(cell.outputs, count))
    nbformat.validate(notebook)
    return str(nbformat.writes(notebook, version=nbformat.NO_CONVERT)).rstrip("\n") + "\n"


def _outputs(outputs: Iterable[NotebookNode], count: int) -> Iterable[NotebookNode]:
    last: NotebookNode | None = None
    for output in outputs:
        if output.output_type == "stream" and last is not None and last.get("name") == output.name:
            last.text += output.text
            continue
        if "data" in output:
            output.data.pop(LIVE_VIEW, None)
            output.metadata.pop(LIVE_VIEW, None)
        if output.output_type == "execute_result":
            output.execution_count = count
        last = output if output.output_type == "stream" else None
        yield output


def execute(path: Path) -> NotebookNode:
    """The notebook, run from top to bottom in its own folder. Raises CellExecutionError at the first error."""
    notebook: NotebookNode = nbformat.read(path, as_version=4)
    folder = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, kernel_name="python3", timeout=120, resources=folder, store_widget_state=False).execute()
    return notebook


def main(arguments: Sequence[str] | None = None) -> int:
    """Refresh or check the notebooks; returns the exit status."""
    parser = argparse.ArgumentParser(description="Execute the notebooks again and write them in canonical form.")
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 when a run would change a file")
    parser.add_argument("paths", nargs="*", type=Path, help="notebooks; by default all in notebooks/")
    options = parser.parse_args(arguments)
    os.environ.pop("K8SNET_SOURCE", None)
    changed = []
    for path in options.paths or lessons():
        before = path.read_text(encoding="utf-8")
        try:
            after = canonical(execute(path))
        except CellExecutionError as error:
            print(f"{path}: a cell failed, the file is left as it is\n{error}", file=sys.stderr)
            return 1
        if after != before:
            changed.append(path)
            if not options.check:
                path.write_text(after, encoding="utf-8", newline="\n")
        print(f"{path.name}: {'as it was' if after == before else 'would change' if options.check else 'written'}")
    return 1 if options.check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
