"""The recorded source: facts from a recording of format 1, a folder or an archive."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from ..errors import FactBroken, FactMissing, NotARecording, UnknownFormat, UnsafeRecording
from ..facts import FactRef
from ..render import printable
from .archive import MAX_BYTES, SUFFIXES, read_archive, safe_parts
from .base import command_for

__all__ = ["FORMAT", "RecordedSource", "open_recording"]

FORMAT = 1


class _Files(Protocol):
    def read(self, name: str) -> bytes | None: ...

    def has(self, name: str) -> bool: ...

    def names(self) -> list[str]: ...


class _Folder:
    """Files below one folder; a link that leads out of it is refused."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def _path(self, name: str) -> Path:
        try:
            path = self.root.joinpath(*safe_parts(name)).resolve()
        except (OSError, RuntimeError, ValueError) as error:  # a link to itself, a name that no file system takes
            raise UnsafeRecording(f"{str(self.root / name)[:200]}: cannot be followed ({error})") from None
        if not path.is_relative_to(self.root):
            raise UnsafeRecording(f"{self.root / name}: a link that leads out of the recording; it is not followed")
        return path

    def has(self, name: str) -> bool:
        try:
            return self._path(name).is_file()
        except OSError:  # a name too long for a file: there is none
            return False

    def names(self) -> list[str]:
        found = (path for path in self.root.rglob("*") if path.is_file() and not path.is_symlink())
        return sorted(path.relative_to(self.root).as_posix() for path in found)

    def read(self, name: str) -> bytes | None:
        path = self._path(name)
        try:
            if not path.is_file():
                return None
            if path.stat().st_size > MAX_BYTES:
                raise UnsafeRecording(f"{path}: larger than {MAX_BYTES:,} bytes; no fact is")
            return path.read_bytes()
        except OSError as error:
            raise FactBroken(
                name, str(self.root), f"cannot be read ({error.strerror})", "Mind its permissions."
            ) from None


class _Archive:
    """Files of an archive, held in memory."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files

    def has(self, name: str) -> bool:
        return "/".join(safe_parts(name)) in self.files

    def names(self) -> list[str]:
        return sorted(self.files)

    def read(self, name: str) -> bytes | None:
        return self.files.get("/".join(safe_parts(name)))


def open_recording(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> RecordedSource:
    """Open a recording: a folder, ``.tar.gz``, ``.tar.xz`` or ``.zip``; ``max_bytes`` bounds what an archive holds.

    Raises NotARecording, UnknownFormat or UnsafeRecording; each names the path and what to do.
    """
    where = Path(path).expanduser()
    try:
        folder, there = where.is_dir(), where.exists()
    except OSError as error:
        raise NotARecording(
            f"{str(where)[:200]}: cannot be opened ({error.strerror}); mind the path and its permissions"
        ) from None
    if folder:
        return RecordedSource(_Folder(where), str(where.absolute()))
    if not there:
        raise NotARecording(f"{where}: no such folder or file; give a recording's folder or its archive")
    if not where.is_file() or not where.name.lower().endswith(SUFFIXES):
        raise NotARecording(f"{where}: neither a folder nor one of {', '.join(SUFFIXES)}")
    return RecordedSource(_Archive(read_archive(where, max_bytes)), str(where.absolute()))


class RecordedSource:
    """Facts as they were written down, byte for byte. Parsing is left to ``parse``, as on a live cluster."""

    kind = "recorded"

    def __init__(self, files: _Files, where: str) -> None:
        self._files = files
        self.where = where
        about = self._json("recording.json")
        if about is None:
            raise NotARecording(f"{where}: no recording.json here; give the folder that holds it")
        if not isinstance(about, dict) or "format" not in about:
            raise NotARecording(f"{where}/recording.json: says no format; this is not a k8snet recording")
        if about["format"] != FORMAT or isinstance(about["format"], bool):
            raise UnknownFormat(
                f"{where}: a recording of format {printable(about['format'])}; this version of k8snet_nb reads format "
                f"{FORMAT}. A newer k8snet_nb may read it"
            )
        nodes = about.get("nodes")
        if not isinstance(nodes, list) or not all(isinstance(node, str) and node for node in nodes):
            raise NotARecording(f"{where}/recording.json: `nodes` is not a list of names; record it again")
        for node in nodes:
            if len(safe_parts(node)) != 1 or "/" in node:
                raise UnsafeRecording(f"{where}/recording.json: {printable(node)!r} is no node's name")
        self.about: dict[str, Any] = about
        self._nodes = tuple(nodes)
        self.name = str(about.get("name") or Path(where).name)

    def describe(self) -> str:
        """One line: the recording's name, version and time."""
        about = self.about
        version, recorded = about.get("kubernetes") or "version unknown", about.get("recorded") or "time unknown"
        return printable(f"recording {self.name}: Kubernetes {version}, {len(self._nodes)} nodes, recorded {recorded}")

    def nodes(self) -> tuple[str, ...]:
        """Nodes that the recording has a folder of facts for."""
        return tuple(node for node in self._nodes if self._files.has(f"nodes/{node}/node.json"))

    def refs(self) -> list[FactRef]:
        """Every fact that the recording holds of its nodes and their pods, node.json left out."""
        found = []
        for name in self._files.names():
            parts = name.split("/")
            if parts[0] != "nodes" or len(parts) < 3 or parts[1] not in self._nodes or parts[-1].startswith("."):
                continue
            if len(parts) == 3 and parts[2] != "node.json":
                found.append(FactRef(parts[2], parts[1]))
            elif len(parts) == 6 and parts[2] == "pods":
                found.append(FactRef(parts[5], parts[1], f"{parts[3]}/{parts[4]}"))
        return found

    def has(self, ref: FactRef) -> bool:
        """Whether the fact's file is there."""
        try:
            return self._files.has(_file(ref))
        except UnsafeRecording:  # a pod of such a name has no file; reading it says why
            return False

    def read(self, ref: FactRef) -> bytes:
        """The fact's bytes. Raises FactMissing with the recorded reason, when there is one."""
        content = self._files.read(_file(ref))
        if content is None:
            raise FactMissing(ref.fact, ref.where, self.trouble(ref) or "not in this recording", self._advice(ref))
        return content

    def trouble(self, ref: FactRef) -> str | None:
        """What node.json notes against the fact, or that its node was not recorded."""
        if ref.node is None:
            said = self.about.get("errors")
            why = said.get(ref.fact) if isinstance(said, dict) else None
            if why is not None:
                return printable(why, keep="\n")
            return None if self.has(ref) else "not in this recording"
        if not self._files.has(f"nodes/{ref.node}/node.json"):
            return f"this recording holds no data of node {printable(ref.node)}"
        errors = self.about_node(ref.node).get("errors") or {}
        key = f"pods/{ref.pod}/{ref.fact}" if ref.pod else ref.fact
        why = errors.get(key) if isinstance(errors, dict) else None
        return None if why is None else "; ".join(printable(line.strip()) for line in str(why).splitlines())

    def command(self, ref: FactRef) -> str:
        """The command that was run for this fact, else the catalogue's."""
        if ref.node is None or ref.pod is not None or not self._files.has(f"nodes/{ref.node}/node.json"):
            return command_for(ref)  # a pod's recorded command holds the pid of one moment
        commands = self.about_node(ref.node).get("commands")
        said = commands.get(ref.fact) if isinstance(commands, dict) else None
        return printable(said) if isinstance(said, str) else command_for(ref)

    def whose(self, ref: FactRef) -> str | None:
        """The tool that told it, by node.json; else what that says of the version of the command's program."""
        if ref.node is None or not self._files.has(f"nodes/{ref.node}/node.json") or not self.has(ref):
            return None
        about, key = self.about_node(ref.node), f"pods/{ref.pod}/{ref.fact}" if ref.pod else ref.fact
        told_by, tools = about.get("told_by"), about.get("tools")
        said = told_by.get(key) if isinstance(told_by, dict) else None
        if said is None and isinstance(tools, dict):
            said = tools.get(self.command(ref).split(" ")[0])
        return printable(said) if isinstance(said, str) else None

    def time(self, ref: FactRef) -> datetime | None:
        """When the fact was read, where that is recorded; else the node, or when the recording was finished."""
        about, key = self.about, ref.fact
        said = about.get("recorded")
        if ref.node is not None and self._files.has(f"nodes/{ref.node}/node.json"):
            about, key = self.about_node(ref.node), f"pods/{ref.pod}/{ref.fact}" if ref.pod else ref.fact
            said = about.get("collected", said)
        times = about.get("times")
        said = times.get(key, said) if isinstance(times, dict) else said
        try:
            when = datetime.fromisoformat(said) if isinstance(said, str) else None
        except ValueError:
            return None
        return when if when is not None and when.tzinfo else None

    def about_node(self, node: str) -> dict[str, Any]:
        """node.json: kernel, netns inode, tools, kube-proxy's word, commands, errors."""
        if node not in self._node_files:
            about = self._json(f"nodes/{node}/node.json")
            if about is None:
                raise FactMissing("node.json", f"node {printable(node)}", "this recording holds no data of that node")
            if not isinstance(about, dict):
                raise FactBroken("node.json", f"node {node}", "is not a JSON object")
            self._node_files[node] = about
        return self._node_files[node]

    @cached_property
    def _node_files(self) -> dict[str, dict[str, Any]]:
        return {}

    def _json(self, name: str) -> Any:
        content = self._files.read(name)
        if content is None:
            return None
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            if name == "recording.json":
                raise NotARecording(f"{self.where}/{name}: not JSON ({error}); is the recording complete?") from error
            raise FactBroken(name, self.where, f"not JSON ({error})", "Record the node again.") from error

    def _advice(self, ref: FactRef) -> str:
        if ref.node is not None and ref.node not in self.nodes():
            return "Its nodes with data: " + (printable(", ".join(self.nodes())) or "none")
        return ""


def _file(ref: FactRef) -> str:
    for part in (ref.fact, ref.node or "", *(ref.pod or "").split("/")):
        if "/" in part or part == "..":
            raise UnsafeRecording(f"{printable(part)!r} is no name of a fact, node or pod")
    if ref.node is None:
        return f"api/{ref.fact}.json"
    return f"nodes/{ref.node}/pods/{ref.pod}/{ref.fact}" if ref.pod else f"nodes/{ref.node}/{ref.fact}"
