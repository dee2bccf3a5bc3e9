"""A pod's ``/etc/resolv.conf`` beside what the kubelet writes for its dnsPolicy and dnsConfig."""

from __future__ import annotations

from dataclasses import dataclass

from ...facts import Evidence
from ...parse.resolv_conf import ResolvConf
from ...render import Report, Shown
from .policy import ExpectedResolvConf

__all__ = ["PodResolvConf"]


@dataclass(frozen=True, slots=True)
class PodResolvConf(Shown):
    """The file as it is read (``conf``), as it should be (``expected``), and how the two differ.

    ``policy`` is the pod's dnsPolicy as written, ``expected.effective`` the one that works. ``differences`` is empty
    when there is none as far as can be told: ``expected.unknown`` names what could not be compared.
    """

    pod: str
    policy: str
    text: str
    conf: ResolvConf
    expected: ExpectedResolvConf
    differences: tuple[str, ...]
    notes: tuple[str, ...]
    evidence: tuple[Evidence, ...]

    def report(self) -> Report:
        """The file, what the C library takes from it beside what was to be expected, and the rule."""
        whole = self.expected.effective == "Default" and bool(self.expected.unknown)
        rows = tuple(
            (what, has, "not known" if whole else should)
            for (what, has), (_, should) in zip(_rows(self.conf), _rows(self.expected.conf), strict=True)
        )
        notes = [self.expected.why, *(f"Not known: {what}" for what in self.expected.unknown)]
        notes += [f"Differs: {what}" for what in self.differences] or ["No difference" + (" seen" if whole else "")]
        notes += [*self.expected.notes, *map(str, self.conf.problems), *self.notes]
        headings = ("SETTING", "IN THE POD", "THE KUBELET WRITES")
        return Report(
            f"/etc/resolv.conf of {self.pod}", headings, rows, tuple(notes), self.evidence, self.text.rstrip()
        )


def _rows(conf: ResolvConf) -> list[tuple[str, object]]:
    servers = ("none, so 127.0.0.1",) if conf.server_default else conf.nameservers
    rows: list[tuple[str, object]] = [("nameserver", servers), ("search", " ".join(conf.search) or None)]
    rows += [
        ("ndots", conf.ndots),
        ("timeout", conf.timeout),
        ("attempts", conf.attempts),
        ("other options", conf.flags),
    ]
    return rows
