"""Writing a recording of format 1 from any source: raw facts, their times, and why one is missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from ..errors import FactError, K8snetError, NotFound, SourceError
from ..facts import API_RESOURCES, FactRef
from ..render import printable
from ..sources.base import Source
from .folder import RecordingFolder
from .over_time import Spans, collect_over_time
from .wanted import node_refs, pod_refs

__all__ = ["Recorded", "Redaction", "record"]

WARNING = (
    "It holds what the cluster said, unredacted: names and addresses of its nodes, pods and Services, command lines "
    "and connections of its processes, images, annotations and ConfigMaps of kube-system. Redact it before it is shared"
)
_AT_ONCE = 8
_BATCH = 400

Progress = Callable[[str, int, int], None]
"""Told what is at work, how many nodes are done, and how many there are."""


class Redaction(Protocol):
    """Renames what a recording holds; see :mod:`.redact`."""

    def learn(self, source: Source) -> None:
        """Look at everything that decides the new names, before anything is written."""
        ...

    def ref(self, ref: FactRef) -> FactRef:
        """The place of a fact under the new names."""
        ...

    def fact(self, ref: FactRef, content: bytes) -> bytes | None:
        """The fact under the new names; None for one that is left out."""
        ...

    def text(self, text: str) -> str:
        """A message under the new names."""
        ...


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was written: ``missing`` are facts and why; ``warning`` says what an unredacted recording holds."""

    path: Path
    nodes: tuple[str, ...]
    facts: int
    size: int
    missing: dict[str, str] = field(default_factory=dict)
    warning: str = ""

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.facts} facts of {len(self.nodes)} nodes and the API, {self.size:,} bytes"]
        lines += [f"  missing: {place}: {why}" for place, why in self.missing.items()]
        return "\n".join(printable(line) for line in (*lines, *([self.warning] if self.warning else [])))


def record(
    source: Source,
    out: str | Path,
    nodes: Sequence[str] | None = None,
    redaction: Redaction | None = None,
    progress: Progress | None = None,
    spans: Spans | None = None,
) -> Recorded:
    """Write everything that a source can tell into the folder ``out``.

    ``nodes``: only these (default: all that can be read). One that was interrupted goes on where it stopped, node by
    node, when called again with the same folder and source; a redacted one does not, its names are new every time.
    Raises SourceError for a folder that holds something else, NotFound for a node that cannot be read.
    """
    chosen = _chosen(source, nodes)
    whose = printable(source.describe()) if redaction is None else f"a {source.kind} source"
    name = source.name if redaction is None else "redacted"
    folder = RecordingFolder(Path(out).expanduser(), name, whose, redaction is None)
    if redaction is not None:
        redaction.learn(source)
    work = _Work(source, folder, redaction, progress or (lambda *_: None), len(chosen))
    work.api()
    done = set(folder.about["nodes"])
    with ThreadPoolExecutor(_AT_ONCE, "k8snet record") as pool:
        for _ in pool.map(lambda node: work.node(node, spans), [n for n in chosen if work.new_name(n) not in done]):
            pass
    work.finish()
    sizes = [path.stat().st_size for path in folder.path.rglob("*") if path.is_file()]
    warning = WARNING if redaction is None else ""
    return Recorded(folder.path, tuple(folder.about["nodes"]), len(sizes) - 1, sum(sizes), work.missing, warning)


def _chosen(source: Source, nodes: Sequence[str] | None) -> list[str]:
    there = source.nodes()
    for node in nodes or ():
        if node not in there:
            why = source.trouble(FactRef("node.json", node)) or "it is not known"
            raise NotFound(f"node {node} cannot be recorded: {why}; can be: {', '.join(there) or 'none'}")
    return list(nodes) if nodes is not None else list(there)


@dataclass(slots=True)
class _Notes:
    """What node.json says of a node's facts."""

    errors: dict[str, str]
    commands: dict[str, str]
    times: dict[str, str] = field(default_factory=dict)
    told_by: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        extra = {name: said for name in ("times", "told_by") if (said := getattr(self, name))}
        return {"errors": self.errors, "commands": self.commands, **extra}


class _Work:
    """One recording under way. Several nodes are written at once, each by one thread."""

    def __init__(
        self, source: Source, folder: RecordingFolder, redaction: Redaction | None, progress: Progress, total: int
    ) -> None:
        self.source, self.folder, self.redaction, self.progress = source, folder, redaction, progress
        self.total, self.done = total, 0
        self.missing: dict[str, str] = {}

    def new_name(self, node: str) -> str:
        return self._ref(FactRef("node.json", node)).node or node

    def _ref(self, ref: FactRef) -> FactRef:
        return ref if self.redaction is None else self.redaction.ref(ref)

    def _text(self, text: str) -> str:
        return text if self.redaction is None else self.redaction.text(text)

    def _write(self, ref: FactRef, content: bytes) -> str | None:
        """Write a fact; returns why it was left out, if it was."""
        told = content if self.redaction is None else self.redaction.fact(ref, content)
        if told is None:
            return "left out: it could not be redacted"
        self.folder.write_fact(self._ref(ref), told)
        return None

    def api(self) -> None:
        """The API's Lists; one that cannot be had is noted."""
        times, errors = self.folder.about.setdefault("times", {}), self.folder.about.setdefault("errors", {})
        for number, resource in enumerate(API_RESOURCES):
            ref = FactRef(resource)
            if self.folder.resumed and self.folder.has(ref):
                continue
            self.progress(f"API: {resource}", number, len(API_RESOURCES))
            try:
                content = self.source.read(ref)
            except FactError as error:
                errors[resource] = self.missing[resource] = self._text(error.why)
                continue
            left_out = self._write(ref, content)
            if left_out:
                errors[resource] = self.missing[resource] = left_out
            if resource == "version":
                self.folder.about["kubernetes"] = _version(content)
            when = self.source.time(ref)
            if when is not None:
                times[resource] = _stamp(when)
        self.folder.save()

    def node(self, node: str, spans: Spans | None) -> None:
        """All facts of a node and of its pods, then its node.json."""
        self.progress(f"node {node}", self.done, self.total)
        about: dict[str, Any] = {}
        try:
            about = json.loads(self.source.read(FactRef("node.json", node)))
        except FactError as error:
            self.missing[f"{node}/node.json"] = error.why
        notes = _Notes(self._said(node, about, "errors"), self._said(node, about, "commands"))
        for ref, content, why in self._contents([*node_refs(self.source, node), *pod_refs(self.source, node)]):
            self._take(ref, content, why, notes)
        if spans is not None:
            for fact, content, why in collect_over_time(self.source, node, spans):
                self._take(FactRef(fact, node), content, why, notes)
        self._node_json(node, {**about, **notes.as_json()})
        self.done += 1
        self.progress(f"node {node}", self.done, self.total)

    def _take(self, ref: FactRef, content: bytes | None, why: str | None, notes: _Notes) -> None:
        """Write one fact of a node, and what is to be said of it."""
        key = _key(self._ref(ref))
        left_out = None if content is None or ref.fact == "node.json" else self._write(ref, content)
        if why or left_out:
            notes.errors[key] = left_out or self._text(why or "")
        if content is None or left_out:
            self.missing[f"{ref.node}/{_key(ref)}"] = left_out or why or "not there"
            return
        when = self.source.time(ref)
        if when is not None and self.source.kind != "recorded":
            notes.times[key] = _stamp(when)
        if ref.pod is None:
            notes.commands[key] = self._text(self.source.command(ref))
        told_by = getattr(self.source, "whose", lambda _ref: None)(ref)
        if told_by:
            notes.told_by[key] = told_by

    def _said(self, node: str, about: dict[str, Any], what: str) -> dict[str, str]:
        """What a recording says already of errors or commands of its node, under the new names."""
        said = about.get(what)
        if self.source.kind != "recorded" or not isinstance(said, dict):
            return {}
        found = {}
        for key, text in said.items():
            parts = str(key).split("/")
            known = len(parts) == 4 and parts[0] == "pods" and not parts[1].startswith("<")
            ref = FactRef(parts[3], node, f"{parts[1]}/{parts[2]}") if known else None
            found[_key(self._ref(ref)) if ref else str(key)] = self._text(str(text))
        return found

    def _node_json(self, node: str, about: dict[str, Any]) -> None:
        about = {"node": node, "collected": _stamp(datetime.now(UTC)), **about}
        ref = FactRef("node.json", node)
        if self.redaction is not None:
            about = json.loads(self.redaction.fact(ref, json.dumps(about).encode()) or b"{}")
        self.folder.add_node(self._ref(ref).node or node, about)

    def _contents(self, refs: Sequence[FactRef]) -> Iterable[tuple[FactRef, bytes | None, str | None]]:
        """Each fact, its content or None, and what is to be said against it."""
        many = getattr(self.source, "read_many", None)
        if many is None:
            for ref in refs:
                yield ref, *self._one(ref)
            return
        for start in range(0, len(refs), _BATCH):
            batch = refs[start : start + _BATCH]
            try:
                found = many(batch, 300.0)
            except K8snetError as error:
                yield from ((ref, None, str(error)) for ref in batch)
                continue
            for ref in batch:
                told = found[ref]
                yield ref, told.data, told.why or told.note

    def _one(self, ref: FactRef) -> tuple[bytes | None, str | None]:
        try:
            return self.source.read(ref), self.source.trouble(ref)
        except FactError as error:
            return None, error.why

    def finish(self) -> None:
        """The moment of the recording, and that it is complete."""
        known = self.source.time(FactRef("pods")) if self.source.kind == "recorded" else None
        self.folder.about["recorded"] = _stamp(known or datetime.now(UTC))
        for name in ("times", "errors"):
            if not self.folder.about.get(name):
                self.folder.about.pop(name, None)
        self.folder.finish()


def _key(ref: FactRef) -> str:
    return f"pods/{ref.pod}/{ref.fact}" if ref.pod else ref.fact


def _version(content: bytes) -> str | None:
    try:
        return str(json.loads(content)["gitVersion"])
    except (ValueError, KeyError, TypeError):
        return None


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_of(text: str) -> float:
    """``60s``, ``2m`` or ``60`` in seconds. Raises SourceError for anything else."""
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    try:
        seconds = float(number) * units[unit]
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 3600:
        raise SourceError(f"{text!r} is no time span: say 60s or 5m, at most an hour")
    return seconds
