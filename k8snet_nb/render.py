"""Text and html for people: escaping, canonical tables, evidence. Standard library only.

Everything that comes from a cluster is hostile text. Html goes through :func:`escape`; text through
:func:`printable`, which shows control characters instead of obeying them.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .facts import Evidence
from .text import printable

__all__ = [
    "Report",
    "Shown",
    "ShownTuple",
    "as_kubectl",
    "bundle",
    "escape",
    "evidence_html",
    "evidence_text",
    "html_table",
    "printable",
    "text_table",
]


def escape(value: object) -> str:
    """The text of a value, made safe for html content and quoted attributes; line breaks and tabs stay."""
    return html.escape(printable(value, keep="\n\t"), quote=True)


# JupyterLab's own style sets table cells to the right; where style is stripped, the old attribute serves.
_LEFT = 'align="left" style="text-align: left"'


def _is_missing(value: Any) -> bool:
    try:
        return value is None or bool(value != value)  # NaN and NaT differ from themselves
    except (TypeError, ValueError):  # pandas' NA gives no answer; an array gives several
        return not hasattr(value, "__len__")


def _cell(value: Any, missing: str) -> str:
    if _is_missing(value):
        return missing
    if isinstance(value, (list, tuple)):
        return ",".join(printable(part) for part in value) or missing
    return printable(value)


def text_table(rows: Iterable[Sequence[Any]], headings: Sequence[str], missing: str = "<none>") -> str:
    """Columns padded as ``kubectl get`` pads them; one line a row, no trailing blanks."""
    lines = [[printable(head) for head in headings], *([_cell(value, missing) for value in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headings))]
    return "\n".join("   ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def html_table(
    rows: Iterable[Sequence[Any]], headings: Sequence[str], missing: str = "<none>", caption: str = ""
) -> str:
    """A plain html table: it takes the reader's theme, and reads the same where style is stripped."""
    head = "".join(f'<th scope="col" {_LEFT}>{escape(h)}</th>' for h in headings)
    body = "".join(
        "<tr>" + "".join(f"<td {_LEFT}>{escape(_cell(v, missing))}</td>" for v in row) + "</tr>" for row in rows
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def evidence_text(items: Iterable[Evidence]) -> str:
    """Evidence as text: where, the command, the deciding lines, what they say."""
    return "\n".join("\n".join(printable(line) for line in item.text_lines()) for item in items)


def evidence_html(items: Iterable[Evidence], summary: str = "How do we know?") -> str:
    """Evidence as html that a reader opens: works in JupyterLab and on static renderers."""
    text = evidence_text(items)
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>" if text else ""


def bundle(text: str, html_text: str, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A Jupyter mime bundle: canonical text for comparison, html for readers, ``extra`` for live views."""
    return {"text/plain": text, "text/html": html_text, **(extra or {})}


def as_kubectl(frame: Any, columns: Mapping[str, str] | Sequence[str] | None = None) -> Report:
    """A DataFrame in kubectl's layout: upper-case headings, ``<none>`` for what is missing.

    ``columns`` chooses some of them, or maps column -> heading (``{"ports": "PORT(S)"}``).
    """
    chosen = dict(columns) if isinstance(columns, Mapping) else {c: c for c in (columns or frame.columns)}
    headings = [h.upper().replace("_", "-") for h in chosen.values()]
    return Report("", tuple(headings), tuple(zip(*(frame[column] for column in chosen), strict=True)))


@dataclass(frozen=True, slots=True)
class Report:
    """What a value shows of itself: a title, one table, notes below it, and the evidence to open.

    ``block`` is preformatted text, such as a command's output; its line breaks and tabs stay.
    """

    title: str
    headings: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    notes: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    block: str = ""

    def text(self) -> str:
        """Canonical text: what nbval compares and a terminal shows."""
        parts = [printable(self.title)] if self.title else []
        if self.headings:
            parts.append(text_table(self.rows, self.headings))
        if self.block:
            parts.append(printable(self.block, keep="\n\t"))
        parts += [printable(note) for note in self.notes]
        if self.evidence:
            parts += ["", "How do we know?", evidence_text(self.evidence)]
        return "\n".join(parts)

    def html(self) -> str:
        """Plain html, everything escaped."""
        title = f"<p><strong>{escape(self.title)}</strong></p>" if self.title else ""
        table = html_table(self.rows, self.headings) if self.headings else ""
        block = f"<pre>{escape(self.block)}</pre>" if self.block else ""
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return f"<div>{title}{table}{block}{notes}{evidence_html(self.evidence)}</div>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return bundle(self.text(), self.html())

    def __str__(self) -> str:
        return self.text()


class Shown:
    """A value that shows itself through its ``report()``, in text and html alike."""

    __slots__ = ()

    def report(self) -> Report:
        """The value as a Report."""
        raise NotImplementedError

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        report = self.report()
        return bundle(report.text(), report.html())

    def __str__(self) -> str:
        return self.report().text()


class ShownTuple(tuple[Any, ...]):
    """Several values that show themselves, one below the other; else an ordinary tuple."""

    __slots__ = ()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundles = [value._repr_mimebundle_() for value in self]
        return bundle("\n\n".join(b["text/plain"] for b in bundles), "".join(b["text/html"] for b in bundles))

    def __str__(self) -> str:
        return "\n\n".join(str(value) for value in self)
