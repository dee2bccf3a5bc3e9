"""The port behind which every source of facts stands: nothing above it can tell which one it is."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol, runtime_checkable

from ..facts import API_RESOURCES, FACTS, FactRef

__all__ = ["Closable", "Source", "command_for"]


class Source(Protocol):
    """Delivers facts as raw bytes."""

    name: str
    """Short name to show, such as ``hello-cluster``."""

    kind: str
    """``recorded``, ``node``, ``live`` or ``twin``: to show, never to decide by."""

    def describe(self) -> str:
        """One line: what this source is and of when its facts are."""
        ...

    def nodes(self) -> tuple[str, ...]:
        """The nodes whose kernels can be asked for facts."""
        ...

    def read(self, ref: FactRef) -> bytes:
        """The raw fact. For the API, ``ref.fact`` is the resource and ``ref.node`` None.

        Raises FactMissing (not collected, and why) or FactBroken (there, but unreadable).
        """
        ...

    def has(self, ref: FactRef) -> bool:
        """Whether :meth:`read` would find it; costs no reading of the fact itself where that can be helped."""
        ...

    def trouble(self, ref: FactRef) -> str | None:
        """Why the fact is missing or only partial; None when nothing is known against it."""
        ...

    def command(self, ref: FactRef) -> str:
        """The command that a person would type to see this fact."""
        ...

    def whose(self, ref: FactRef) -> str | None:
        """Which tool, of which version, told the fact; None when that is not known."""
        ...

    def time(self, ref: FactRef) -> datetime | None:
        """When the fact was read (timezone-aware), if the source knows."""
        ...


@runtime_checkable
class Closable(Protocol):
    """A source that runs something: an agent, a connection."""

    def close(self) -> None:
        """End it."""
        ...


def command_for(ref: FactRef) -> str:
    """The catalogue's command for a fact, entering the pod's network namespace where that is needed."""
    if ref.node is None:
        return API_RESOURCES.get(ref.fact, f"kubectl get {ref.fact} -o json")
    known = FACTS.get(ref.fact)
    command = known.command if known else f"cat {ref.fact}"
    if ref.pod and ref.fact not in ("pod.json", "resolv.conf"):
        return f"nsenter -t {{pid}} -n {command}"
    return command
