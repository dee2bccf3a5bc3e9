"""What a view gave, as text and html."""

from __future__ import annotations

import base64
from typing import Any

import pandas as pd

from ..render import escape, html_table, printable, text_table

__all__ = ["ROWS", "rendered"]

ROWS = 200
"""At most so many rows of a table are shown."""


def rendered(result: object) -> tuple[str, str]:
    """Canonical text and html of a table, a text, a value that renders itself, or a list of those."""
    if isinstance(result, str):
        return printable(result, keep="\n\t"), f"<pre>{escape(result)}</pre>"
    if isinstance(result, pd.DataFrame):
        return _frame(result)
    if isinstance(result, (list, tuple)):
        parts = [rendered(part) for part in result]
        return "\n\n".join(text for text, _ in parts), "".join(html for _, html in parts)
    if hasattr(result, "_repr_mimebundle_"):
        return _bundled(result._repr_mimebundle_(include=None, exclude=None))
    return rendered(str(result))


def _frame(frame: pd.DataFrame) -> tuple[str, str]:
    shown = frame.head(ROWS)
    if not isinstance(frame.index, pd.RangeIndex):
        shown = shown.reset_index()
    headings = [str(column) for column in shown.columns]
    # pd.NA cannot be compared with itself, so what is absent becomes None before it is drawn
    columns = [shown.iloc[:, at].astype(object).tolist() for at in range(len(headings))]
    rows = [[_absent_as_none(cell) for cell in row] for row in zip(*columns, strict=True)]
    rest = len(frame) - len(shown)
    note = f"{rest} more rows" if rest else ""
    text = text_table(rows, headings) if len(frame) else "no rows"
    html = html_table(rows, headings) if len(frame) else "<p>no rows</p>"
    return (f"{text}\n({note})", f"{html}<p>({note})</p>") if note else (text, html)


def _absent_as_none(cell: Any) -> Any:
    return None if cell is pd.NA or cell is pd.NaT else cell


def _bundled(given: Any) -> tuple[str, str]:
    """The text and html of a mime bundle (or of a pair of bundle and metadata); a PNG becomes an image with a text."""
    data = given[0] if isinstance(given, tuple) else given
    text = str(data.get("text/plain", ""))
    html = data.get("text/html")
    if html is None and "image/png" in data:
        png = data["image/png"]
        code = base64.b64encode(png).decode() if isinstance(png, bytes) else str(png).replace("\n", "")
        html = f'<img alt="{escape(text)}" src="data:image/png;base64,{escape(code)}">'
    return text, html if html is not None else f"<pre>{escape(text)}</pre>"
