"""Writing a recording of format 1 from any source: raw facts, their times, and why one is missing."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import NotFound, SourceError
from ..facts import FactRef
from ..render import printable
from ..sources.base import Source
from .folder import RecordingFolder
from .over_time import Spans
from .packing import is_archive, pack, unfinished
from .run_key import RunKey
from .work import Progress, Redaction, Wanted, Work

__all__ = ["Recorded", "record"]

WARNING = (
    "It holds what the cluster said, unredacted: names and addresses of its nodes, pods and Services, command lines "
    "and connections of its processes, images, annotations and ConfigMaps of kube-system. Redact it before it is shared"
)


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
    dns: bool = True,
) -> Recorded:
    """Write everything that a source can tell into the folder ``out``, or the archive that its name's end says.

    ``nodes``: only these (default: all that can be read). ``dns``: also ask DNS from inside the pods, where the source
    can (it sends some dozens of questions a pod). A recording that was interrupted goes on where it stopped, node by
    node, when called again with the same ``out`` and source; a redacted one too, as long as the key that lies beside
    it until it is finished is there (:mod:`.run_key`).

    Raises SourceError for an ``out`` that holds something else or cannot be written, NotFound for a node that cannot
    be read.
    """
    out = Path(out).expanduser()
    chosen = _chosen(source, nodes)
    try:
        return _record(source, out, chosen, redaction, progress or (lambda *_: None), Wanted(dns, spans or Spans()))
    except OSError as error:
        why = f"{error.strerror or error}{f' ({error.filename})' if error.filename else ''}"
        advice = "When that is put right, start it again: it goes on"
        raise SourceError(f"{out}: cannot be written: {why}. {advice}") from error


def _record(
    source: Source, out: Path, chosen: list[str], redaction: Redaction | None, progress: Progress, wanted: Wanted
) -> Recorded:
    packed = is_archive(out)
    whose = printable(source.describe()).partition(";")[0]
    folder = RecordingFolder(unfinished(out) if packed else out, source.name, whose)
    if redaction is not None:
        folder.about.update(name="redacted", source=f"a {source.kind} source, redacted")
    folder.open()
    key = RunKey(folder.path) if redaction is not None else None
    if redaction is not None and key is not None:
        if folder.resumed:
            redaction.resume(key.read(folder.run, whose))
        redaction.learn(source)
        key.write(folder.run, whose, redaction.state())
    folder.save()
    work = Work(source, folder, redaction, progress, wanted)
    work.api()
    done = set(folder.about["nodes"])
    work.nodes([node for node in chosen if work.new_name(node) not in done])
    work.finish()
    forget = key.remove if key is not None else (lambda: None)
    told = _told(out, folder, work, "" if redaction is not None else WARNING)
    if packed:
        pack(folder, out, forget)
        shutil.rmtree(folder.path)
    else:
        folder.finish(forget)
    return told


def _told(out: Path, folder: RecordingFolder, work: Work, warning: str) -> Recorded:
    sizes = [path.stat().st_size for path in folder.path.rglob("*") if path.is_file()]
    return Recorded(out, tuple(folder.about["nodes"]), len(sizes) - 1, sum(sizes), work.missing, warning)


def _chosen(source: Source, nodes: Sequence[str] | None) -> list[str]:
    there = source.nodes()
    for node in nodes or ():
        if node not in there:
            why = source.trouble(FactRef("node.json", node)) or "it is not known"
            raise NotFound(f"node {node} cannot be recorded: {why}; can be: {', '.join(there) or 'none'}")
    return list(nodes) if nodes is not None else list(there)
