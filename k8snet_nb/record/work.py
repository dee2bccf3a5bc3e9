"""A recording under way: every fact asked for, written to its place, and what is to be said of it noted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from ..errors import FactError, K8snetError
from ..facts import API_RESOURCES, FactRef
from ..sources.base import Source, command_for
from .dns_asking import Asking, ask_pods
from .dns_names import DnsNames, known_names
from .folder import RecordingFolder
from .over_time import Spans, collect_over_time
from .wanted import ips_of, node_refs, pod_refs

__all__ = ["Progress", "Redaction", "Wanted", "Work"]

_AT_ONCE = 8
_BATCH = 400
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
"""What Kubernetes takes for a name (RFC 1123), a little wider: it is to be a folder's."""

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

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on with the names of an interrupted recording, as :meth:`state` gave them."""
        ...

    def state(self) -> dict[str, Any]:
        """What it takes to go on later: with it the recording can be read back."""
        ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is collected beside what can be read: answers of DNS, and the connection table over a while."""

    dns: bool = True
    spans: Spans = field(default_factory=Spans)


_NOTED = ("errors", "commands", "times", "told_by")
"""What node.json says of single facts, by their names or by ``pods/NAMESPACE/POD/FACT``."""


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


class Work:
    """One recording under way. Several nodes are written at once, each by one thread."""

    def __init__(
        self, source: Source, folder: RecordingFolder, redaction: Redaction | None, progress: Progress, wanted: Wanted
    ) -> None:
        self.source, self.folder, self.redaction, self.progress = source, folder, redaction, progress
        self.wanted, self.total, self.done = wanted, 0, 0
        self.missing: dict[str, str] = {}
        self.dns_names = DnsNames()

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
            else:  # what an interrupted attempt had noted is over
                errors.pop(resource, None)
            if resource == "version":
                self.folder.about["kubernetes"] = _version(content)
            when = self.source.time(ref)
            if when is not None:
                times[resource] = _stamp(when)
        self.folder.save()

    def nodes(self, nodes: Sequence[str]) -> None:
        """Several nodes at once. One whose name is none for a folder is left out."""
        fit = [node for node in nodes if self._fits(FactRef("node.json", node))]
        self.total = len(fit)
        if self.wanted.dns:
            self.dns_names = known_names(self.source)
        with ThreadPoolExecutor(_AT_ONCE, "k8snet record") as pool:
            for _ in pool.map(self.node, fit):
                pass

    def _fits(self, ref: FactRef) -> bool:
        """Whether a fact can be written: names come from the cluster, and decide about paths."""
        places = [ref.node or "", *(ref.pod or "a/b").split("/")]
        fits = len(places) == 3 and all(_NAME.fullmatch(place) for place in places)
        if not fits:
            self.missing[f"{ref.node}/{_key(ref)}"] = "its name is none that Kubernetes gives: not recorded"
        return fits

    def node(self, node: str) -> None:
        """All facts of a node and of its pods, then its node.json."""
        self.progress(f"node {node}", self.done, self.total)
        self.folder.begin_node(self.new_name(node))
        about: dict[str, Any] = {}
        try:
            about = json.loads(self.source.read(FactRef("node.json", node)))
        except FactError as error:
            self.missing[f"{node}/node.json"] = error.why
        notes = _Notes(*(self._said(node, about, what) for what in _NOTED))
        files: dict[str, bytes] = {}
        refs = [ref for ref in (*node_refs(self.source, node), *pod_refs(self.source, node)) if self._fits(ref)]
        for ref, content, why in self._contents([ref for ref in refs if self.wanted.dns or ref.fact != "dns.jsonl"]):
            self._take(ref, content, why, notes)
            if ref.fact == "resolv.conf" and ref.pod and content:
                files[ref.pod] = content
        for ref, content, why in self._collected(node, files):
            self._take(ref, content, why, notes)
        rest = {name: said for name, said in about.items() if name not in _NOTED}
        self._node_json(node, {**rest, **notes.as_json()})
        self.done += 1
        self.progress(f"node {node}", self.done, self.total)

    def _collected(self, node: str, files: Mapping[str, bytes]) -> Iterator[tuple[FactRef, bytes | None, str | None]]:
        """What is not read but collected: by asking, and by watching for a while."""
        if self.wanted.dns and files and isinstance(self.source, Asking):
            self.progress(f"node {node}: DNS", self.done, self.total)
            for pod, told in ask_pods(self.source, node, files, self.dns_names, ips_of(self.source, node)):
                yield FactRef("dns.jsonl", node, pod), *told
        for fact, content, why in collect_over_time(self.source, node, self.wanted.spans):
            yield FactRef(fact, node), content, why

    def _take(self, ref: FactRef, content: bytes | None, why: str | None, notes: _Notes) -> None:
        """Write one fact of a node, and what is to be said of it."""
        key = _key(self._ref(ref))
        left_out = None if content is None or ref.fact == "node.json" else self._write(ref, content)
        if why or left_out:
            notes.errors[key] = left_out or self._text(why or "")
        if content is None or left_out:
            self.missing[f"{ref.node}/{_key(ref)}"] = left_out or why or "not there"
            return
        if self.source.kind != "recorded":
            notes.times[key] = _stamp(self.source.time(ref) or datetime.now(UTC))
        if ref.pod is None:
            command = self.source.command(ref)
            notes.commands[key] = command if command == command_for(ref) else self._text(command)
        told_by = self.source.whose(ref)
        if told_by:
            notes.told_by[key] = told_by

    def _said(self, node: str, about: dict[str, Any], what: str) -> dict[str, str]:
        """What a recording says already of the facts of its node, under the new names."""
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
        """The moment of the recording, and nothing that only its writing needs."""
        known = self.source.time(FactRef("pods")) if self.source.kind == "recorded" else None
        self.folder.about["recorded"] = _stamp(known or datetime.now(UTC))
        for name in ("times", "errors"):
            if not self.folder.about.get(name):
                self.folder.about.pop(name, None)


def _key(ref: FactRef) -> str:
    return f"pods/{ref.pod}/{ref.fact}" if ref.pod else ref.fact


def _version(content: bytes) -> str | None:
    try:
        return str(json.loads(content)["gitVersion"])
    except (ValueError, KeyError, TypeError):
        return None


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
