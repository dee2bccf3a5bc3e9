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
    "Proof",
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
    return "\n".join("\n".join(printable(line, keep="\t") for line in item.text_lines()) for item in items)


def evidence_html(items: Iterable[Evidence], summary: str = "How do we know?") -> str:
    """Evidence as html that a reader opens: works in JupyterLab and on static renderers."""
    text = "\n".join(_evidence_html(item) for item in items)
    return f"<details><summary>{escape(summary)}</summary><pre>{text}</pre></details>" if text else ""


# what a line does is read, not copied: selecting the quoted lines leaves it out, where the reader's page keeps styles
_UNCOPIED = 'style="user-select: none"'


def _evidence_html(item: Evidence) -> str:
    """One fact's lines, each shown as one line and escaped; notes below their line."""

    def shown(line: str) -> str:
        return escape(printable(line, keep="\t"))

    parts = [shown(item.head)]
    for line, note in item.noted():
        parts.append(shown(f"    {line}"))
        if note:
            parts.append(f"<em {_UNCOPIED}>        # {shown(note)}</em>")
    return "\n".join([*parts, *([shown(f"  -> {item.says}")] if item.says else [])])


def bundle(text: str, html_text: str, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A Jupyter mime bundle: canonical text for comparison, html for readers, ``extra`` for live views."""
    return {"text/plain": text, "text/html": html_text, **(extra or {})}


def as_kubectl(frame: Any, columns: Mapping[str, str] | Sequence[str] | None = None) -> Report:
    """A DataFrame in kubectl's layout: upper-case headings, ``<none>`` for what is missing.

    ``columns`` chooses some of them, or maps column -> heading (``{"ports": "PORT(S)"}``).
    """
    chosen = dict(columns) if isinstance(columns, Mapping) else {c: c for c in (columns or frame.columns)}
    headings = [h.upper().replace("_", "-") for h in chosen.values()]
    # pandas' own marks for what is missing cannot be compared: they become None
    columns = [frame[column].astype(object).where(frame[column].notna(), None) for column in chosen]
    return Report("", tuple(headings), tuple(zip(*columns, strict=True)))


@dataclass(frozen=True, slots=True)
class Report:
    """What a value shows of itself: a title, one table, notes below it, and the evidence to open.

    ``block`` is preformatted text, such as a command's output; its line breaks and tabs stay, and ``wide`` keeps its
    long lines whole, to be scrolled.
    """

    title: str
    headings: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    notes: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    block: str = ""
    wide: bool = False

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
        style = ' style="white-space: pre; overflow-x: auto"' if self.wide else ""
        block = f"<pre{style}>{escape(self.block)}</pre>" if self.block else ""
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


class Proof(tuple[Evidence, ...]):
    """Evidence that shows itself: commands with where they run, the lines that decided; else an ordinary tuple."""

    __slots__ = ()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        html_text = evidence_html(self, f"{len(self)} facts" if len(self) != 1 else "1 fact")
        return bundle(str(self), html_text.replace("<details>", "<details open>", 1) or "<p>no evidence</p>")

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))  # IPython would print a tuple as one, whatever its bundle says

    def __str__(self) -> str:
        return evidence_text(self) or "no evidence"


class ShownTuple(tuple[Any, ...]):
    """Several values that show themselves, one below the other; else an ordinary tuple."""

    __slots__ = ()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundles = [value._repr_mimebundle_() for value in self]
        return bundle("\n\n".join(b["text/plain"] for b in bundles), "".join(b["text/html"] for b in bundles))

    def __str__(self) -> str:
        return "\n\n".join(str(value) for value in self)
