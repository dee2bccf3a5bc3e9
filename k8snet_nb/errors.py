"""The errors of k8snet_nb: one small tree.

Every message says *what* went wrong, *where* (recording, node, fact, line) and *what to do*.

::

    K8snetError
    ├── SourceError            a source cannot be opened
    │   ├── NotARecording      no recording.json there, or not a readable one
    │   ├── UnknownFormat      a recording of a format that this version does not read
    │   └── UnsafeRecording    a path, link or size that a recording must not have
    ├── FactError              one fact cannot be had; other facts may well be
    │   ├── FactMissing        it was not collected, and why
    │   └── FactBroken         it is there, but not what its name promises
    ├── NotFound               no such pod, Service or node (also a LookupError)
    ├── Stopped                a long reading was stopped on request
    ├── Refused                this cannot be done on this source; the message lists what can
    ├── AgentError             the program that reads a node's kernel did not answer
    └── TwinError              a twin cannot be made, found or asked
        └── GuestError         its guest kernel (User-Mode Linux) did not start, or could not do what was asked
"""

from __future__ import annotations

from .text import printable

__all__ = [
    "AgentError",
    "FactBroken",
    "FactError",
    "FactMissing",
    "GuestError",
    "K8snetError",
    "NotARecording",
    "NotFound",
    "Refused",
    "SourceError",
    "Stopped",
    "TwinError",
    "UnknownFormat",
    "UnsafeRecording",
]


class K8snetError(Exception):
    """Base of all errors that k8snet_nb raises on purpose. Its text is printable, whatever a cluster put into it."""

    def __str__(self) -> str:
        return printable(super().__str__(), keep="\n")


class SourceError(K8snetError):
    """A source of facts cannot be opened."""


class NotARecording(SourceError):
    """The path holds no recording, or its recording.json cannot be read."""


class UnknownFormat(SourceError):
    """The recording says a format number that this version does not read."""


class UnsafeRecording(SourceError):
    """The recording holds something that no recording may hold: `..`, absolute names, links, devices, a bomb."""


class FactError(K8snetError):
    """One fact cannot be had. ``fact`` is its name, ``where`` says of which node or pod, ``why`` the reason.

    ``passing``: the trouble of a moment, as of a server that is busy; asking again may help.
    """

    passing = False

    def __init__(self, fact: str, where: str, why: str, advice: str = "") -> None:
        self.fact, self.where, self.why, self.advice = fact, where, why, advice
        super().__init__(f"{fact} of {where}: {why}" + (f". {advice}" if advice else ""))


class FactMissing(FactError):
    """The fact was not collected. Absent is never the same as empty."""


class FactBroken(FactError):
    """The fact is present, but truncated, of another kind, or inconsistent."""


class NotFound(K8snetError, LookupError):
    """No pod, Service or node of that name."""


class Refused(K8snetError):
    """What was asked cannot be done on this source; the message says what can."""


class Stopped(K8snetError):
    """A long reading was stopped on request; what had been read until then is kept."""


class AgentError(K8snetError):
    """The agent on a node did not start, died, answered too slowly or with too much, or could not do what was asked.

    ``code`` is the agent's own word for the last: absent, denied, gone, failed, timeout, too_much; else "".
    ``status`` is the API server's, where it was the one that refused.
    """

    status: int | None = None

    def __init__(self, text: str, code: str = "") -> None:
        self.code = code
        super().__init__(text)


class TwinError(K8snetError):
    """A twin cannot be made on this machine, is not there, or did not do what was asked."""


class GuestError(TwinError):
    """A guest kernel cannot be started here, ended, or could not do what was asked; the message holds its words."""
