"""A recording being written: whole files only, never outside of its folder, readable at any moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import SourceError
from ..facts import FactRef
from ..sources.archive import safe_parts
from ..sources.recorded import FORMAT

__all__ = ["RecordingFolder"]


class RecordingFolder:
    """``recording.json`` is there from the beginning and names the nodes that are complete."""

    def __init__(self, path: Path, name: str, source: str, resumable: bool) -> None:
        self.path, self.source = path, source
        self.about: dict[str, Any] = {"format": FORMAT, "name": name, "nodes": [], "complete": False, "source": source}
        self.resumed = False
        held = self._held()
        if held is not None:
            if not resumable or held.get("complete", True) or held.get("source") != source:
                raise SourceError(
                    f"{path}: holds a recording already ({'finished' if held.get('complete', True) else 'begun'}, of "
                    f"{held.get('source') or held.get('name')}); name another folder, or remove this one"
                )
            self.about, self.resumed = held, True
        elif path.is_dir() and any(path.iterdir()):
            raise SourceError(f"{path}: is not empty and holds no recording; name another folder")
        self.save()

    def _held(self) -> dict[str, Any] | None:
        try:
            held = json.loads((self.path / "recording.json").read_bytes())
        except (OSError, ValueError):
            return None
        return held if isinstance(held, dict) else None

    def write(self, name: str, content: bytes) -> None:
        """Write a file below the folder, so that it is either there as a whole or not at all."""
        target = self.path.joinpath(*safe_parts(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        part.write_bytes(content)
        part.replace(target)

    def write_fact(self, ref: FactRef, content: bytes) -> None:
        """Write one fact to its place."""
        if ref.node is None:
            self.write(f"api/{ref.fact}.json", content)
        else:
            self.write(f"nodes/{ref.node}/{f'pods/{ref.pod}/' if ref.pod else ''}{ref.fact}", content)

    def has(self, ref: FactRef) -> bool:
        """Whether that fact was written."""
        name = f"api/{ref.fact}.json" if ref.node is None else f"nodes/{ref.node}/{ref.fact}"
        return self.path.joinpath(*safe_parts(name)).is_file()

    def add_node(self, node: str, about: dict[str, Any]) -> None:
        """A node is complete: its node.json, then its name in recording.json."""
        self.write(f"nodes/{node}/node.json", (json.dumps(about, indent=1) + "\n").encode())
        if node not in self.about["nodes"]:
            self.about["nodes"] = sorted([*self.about["nodes"], node])
        self.save()

    def save(self) -> None:
        """Write recording.json as it is now."""
        self.write("recording.json", (json.dumps(self.about, indent=1) + "\n").encode())

    def finish(self) -> None:
        """Everything is there. Says so, and forgets where it came from."""
        self.about.pop("complete", None)
        self.about.pop("source", None)
        self.save()
