"""A recording being written: whole files only, never outside of its folder, readable at any moment."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

from ..errors import SourceError
from ..facts import FactRef
from ..sources.archive import safe_parts
from ..sources.recorded import FORMAT

__all__ = ["RecordingFolder"]

_WORKING = ("complete", "source", "run")
"""What recording.json says only until it is finished."""


class RecordingFolder:
    """``recording.json`` is there from the beginning and names the nodes that are complete."""

    def __init__(self, path: Path, name: str, source: str) -> None:
        self.path = path
        self.about: dict[str, Any] = {"format": FORMAT, "name": name, "nodes": [], "complete": False, "source": source}
        self.resumed = False
        self._lock = Lock()

    @property
    def run(self) -> str:
        """A mark of this recording while it is written, from its first beginning on."""
        return str(self.about["run"])

    def open(self) -> None:
        """Look at what is there: go on with it, or begin. Raises SourceError for what is not to be touched."""
        held = self._held()
        if held is None:
            if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
                raise SourceError(f"{self.path}: is not empty and holds no recording; name another folder")
            self.about["run"] = secrets.token_hex(16)
            return
        if held.get("complete", True) or held.get("source") != self.about["source"] or "run" not in held:
            raise SourceError(
                f"{self.path}: holds a recording already ({'finished' if held.get('complete', True) else 'begun'}, of "
                f"{held.get('source') or held.get('name')}); name another folder, or remove this one"
            )
        self.about, self.resumed = held, True

    def _held(self) -> dict[str, Any] | None:
        try:
            held = json.loads((self.path / "recording.json").read_bytes())
        except (OSError, ValueError):
            return None
        return held if isinstance(held, dict) else None

    def write(self, name: str, content: bytes) -> None:
        """Write a file below the folder, so that it is either there as a whole or not at all."""
        self._part(name, content).replace(self.path.joinpath(*safe_parts(name)))

    def _part(self, name: str, content: bytes) -> Path:
        target = self.path.joinpath(*safe_parts(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        try:
            part.write_bytes(content)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        return part

    def write_fact(self, ref: FactRef, content: bytes) -> None:
        """Write one fact to its place."""
        self.write(_place(ref), content)

    def has(self, ref: FactRef) -> bool:
        """Whether that fact was written."""
        return self.path.joinpath(*safe_parts(_place(ref))).is_file()

    def begin_node(self, node: str) -> None:
        """Take away what an interrupted writing left of a node: some of its pods may be gone by now."""
        left = self.path.joinpath(*safe_parts(f"nodes/{node}"))
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)

    def add_node(self, node: str, about: dict[str, Any]) -> None:
        """A node is complete: its node.json, then its name in recording.json."""
        self.write(f"nodes/{node}/node.json", (json.dumps(about, indent=1) + "\n").encode())
        with self._lock:  # several nodes are written at once
            if node not in self.about["nodes"]:
                self.about["nodes"] = sorted([*self.about["nodes"], node])
            self.save()

    def save(self) -> None:
        """Write recording.json as it is now."""
        self.write("recording.json", _as_json(self.about))

    def finished(self) -> bytes:
        """recording.json of the finished recording, which has forgotten where it came from."""
        return _as_json({key: value for key, value in self.about.items() if key not in _WORKING})

    def finish(self, before: Callable[[], None] = lambda: None) -> None:
        """Everything is there. ``before`` is called when nothing can go wrong any more."""
        part = self._part("recording.json", self.finished())
        before()
        part.replace(self.path / "recording.json")


def _as_json(about: dict[str, Any]) -> bytes:
    return (json.dumps(about, indent=1) + "\n").encode()


def _place(ref: FactRef) -> str:
    """Where a fact's file is, below the folder."""
    if ref.node is None:
        return f"api/{ref.fact}.json"
    return f"nodes/{ref.node}/{f'pods/{ref.pod}/' if ref.pod else ''}{ref.fact}"
