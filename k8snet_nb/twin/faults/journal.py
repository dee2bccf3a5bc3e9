"""What is broken in a twin, kept in its folder: any process of the same user can mend it, and judge an answer."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from ...errors import Refused, TwinError
from .scene import Fault, Request

__all__ = ["Broken", "Journal", "Verdict"]

FILE = "fault.json"


class Asked(Protocol):
    """Who takes requests for a node: :meth:`k8snet_nb.sources.twin.TwinSource.ask`."""

    def __call__(self, node: str, request: dict[str, Any], /) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Broken:
    """A fault that was made. ``undo``: the requests that take it back, each with its node, the first one last."""

    code: str
    symptom: str
    what: str
    where: tuple[str, ...]
    undo: tuple[tuple[str, Request], ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is right of an answer; true when all of it is."""

    code: bool
    where: bool

    def __bool__(self) -> bool:
        return self.code and self.where


class _SaidNo(TwinError):
    """A tool refused: it changed nothing (status 126 is a time-out, and may have)."""


class Journal:
    """One twin's fault: at most one at a time. ``folder``: the twin's; ``ask``: how a node of it is asked."""

    def __init__(self, folder: Path, ask: Asked) -> None:
        self._path, self._ask = folder / FILE, ask

    def read(self) -> Broken | None:
        """What is broken now; None: nothing. Raises TwinError when the file cannot be read."""
        try:
            found = json.loads(self._path.read_text())
            undo = tuple((str(node), dict(request)) for node, request in found["undo"])
            return Broken(found["code"], found["symptom"], found["what"], tuple(found["where"]), undo)
        except FileNotFoundError:
            return None
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise TwinError(f"{self._path} cannot be read ({error}); take the twin down and up again") from None

    def break_(self, code: str, fault: Fault) -> Broken:
        """Make a fault. What was done is taken back when a part of it fails. Raises Refused, TwinError."""
        broken = Broken(code, fault.symptom, fault.what, fault.where, ())
        self._begin(broken)
        done = broken.undo
        try:
            for change in fault.changes:
                if change.undo is not None:  # written first: who dies now leaves a file that mends
                    broken = Broken(*_parts(broken), (*broken.undo, (change.node, change.undo)))
                    self._write(broken)
                self._do(change.node, change.do)
                done = broken.undo
        except _SaidNo:  # that step did nothing, so there is nothing of it to take back
            self._take_back(done)
            raise
        except BaseException:
            self._take_back(broken.undo)
            raise
        return broken

    def _take_back(self, undo: Sequence[tuple[str, Request]]) -> list[str]:
        """Undo, the last first; returns what went wrong. The file stays unless all of it went well."""
        failed = []
        for node, request in reversed(undo):
            try:
                self._do(node, request)
            except TwinError as error:
                failed.append(str(error))
        if not failed:
            self._path.unlink(missing_ok=True)
        return failed

    def mend(self) -> Broken | None:
        """Take it back; what it was, None when nothing was broken. Raises TwinError, then it is still broken."""
        broken = self.read()
        if broken is None:
            return None
        failed = self._take_back(broken.undo)
        if failed:
            raise TwinError(f"not all of it could be mended ({failed[0]}); take the twin down and up again")
        return broken

    def judge(self, code: str, where: str) -> Verdict:
        """Whether an answer is right. Raises Refused when nothing is broken."""
        broken = self.read()
        if broken is None:
            raise Refused("nothing is broken in this twin")
        return Verdict(_plain(code) == _plain(broken.code), _plain(where) in {_plain(one) for one in broken.where})

    def _begin(self, broken: Broken) -> None:
        """The file is made here and nowhere else, so that two who break at once do not both do it."""
        try:
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            raise Refused("something is broken already: find it, or mend it first") from None
        self._write(broken)

    def _write(self, broken: Broken) -> None:
        unfinished = self._path.with_suffix(".new")
        unfinished.write_text(json.dumps(asdict(broken), indent=1))
        unfinished.chmod(0o600)
        unfinished.replace(self._path)

    def _do(self, node: str, request: Request) -> None:
        """One request. A tool that says no, a server that does not start: TwinError."""
        told = self._ask(node, dict(request))
        if told.get("status"):
            raise (TwinError if told["status"] == 126 else _SaidNo)(
                f"node {node}: {' '.join(request['argv'])}: {str(told.get('said', '')).strip()}"
            )
        if told.get("problems"):
            raise TwinError(f"node {node}: {told['problems'][0]}")


def _parts(broken: Broken) -> tuple[str, str, str, tuple[str, ...]]:
    return broken.code, broken.symptom, broken.what, broken.where


def _plain(text: str) -> str:
    return "".join(text.split()).lower()
