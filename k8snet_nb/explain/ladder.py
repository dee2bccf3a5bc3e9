"""The ladder of chances by which iptables chooses among endpoints, rung by rung, in exact fractions.

``-m statistic --mode random --probability p`` takes a share p of the packets *that come to the rule* (xt_statistic): a
rung's share of all is p times what the rungs above left. The kernel keeps p in 31 bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from ..facts import Evidence
from ..parse.iptables import Chain, Rule, Ruleset
from ..render import Report, Shown
from .outcome import exact_share
from .translation import share_text

__all__ = ["Ladder", "Rung", "rungs"]

_BITS = 2**31


@dataclass(frozen=True, slots=True)
class Rung:
    """One rule. ``printed``: the probability as iptables prints it, None on the last rung, which takes all that come.

    ``takes``: of the packets that come to it; ``comes``: of all; ``share``: of all, the product. ``packets``: what the
    rule has counted, None when the save has no counters.
    """

    line: str
    endpoint: str
    chain: str
    printed: str | None
    comes: Fraction
    takes: Fraction
    share: Fraction
    packets: int | None


def rungs(rules: Ruleset, chain: Chain) -> Iterator[Rung]:
    """The rungs of a KUBE-SVC or KUBE-SVL chain; rules that mark packets or remember clients are none."""
    left = Fraction(1)
    for rule in chain.rules():
        statistic = next((match for match in rule.matches if match.module == "statistic"), None)
        if not (rule.target or "").startswith("KUBE-SEP-") or any(m.module == "recent" for m in rule.matches):
            continue
        option = statistic.option("--probability") if statistic else None
        takes = exact_share(option.value) if option else Fraction(1)
        printed = option.value if option else None
        packets = rule.counters[0] if rule.counters else None
        yield Rung(rule.text, _endpoint(rules, rule), rule.target or "", printed, left, takes, left * takes, packets)
        left *= 1 - takes


def _endpoint(rules: Ruleset, rule: Rule) -> str:
    chain = rules.chain("nat", rule.target or "")
    options = (r.target_option("--to-destination") for r in chain.rules()) if chain else ()
    return next((option.value for option in options if option), "no endpoint")


@dataclass(frozen=True, slots=True)
class Ladder(Shown):
    """The rungs of one Service port on one node."""

    service: str
    node: str
    chain: str
    rungs: tuple[Rung, ...]
    evidence: tuple[Evidence, ...]

    def report(self) -> Report:
        """One row a rung, and how far the kernel's 31 bits are from the exact fraction."""
        headings = ("LEADS TO", "PRINTED", "COME HERE", "OF THEM TAKEN", "SHARE OF ALL", "PACKETS COUNTED")
        rows = tuple(
            (r.endpoint, r.printed or "(none: all)", str(r.comes), str(r.takes), share_text(r.share), r.packets)
            for r in self.rungs
        )
        total = sum(r.packets or 0 for r in self.rungs)
        notes = [self._bits()] if any(r.printed for r in self.rungs) else []
        if total:
            counted = ", ".join(f"{(r.packets or 0) / total:.2%}" for r in self.rungs)
            notes.append(f"Of {total:,} first packets counted here: {counted}")
        return Report(f"{self.service} on {self.node}: chain {self.chain}", headings, rows, tuple(notes), self.evidence)

    def _bits(self) -> str:
        worst = max((r for r in self.rungs if r.printed), key=lambda r: abs(_kept(r.takes) - r.takes))
        kept = _kept(worst.takes)
        away = abs(kept - worst.takes)
        if not away:
            return "Every probability here is a whole number of 2^-31: the kernel keeps it exactly"
        return (
            f"The kernel keeps {worst.takes} as {int(kept * _BITS):,} / 2^31, printed as {worst.printed}: "
            f"{float(away):.1e} away from {worst.takes}"
        )


def _kept(share: Fraction) -> Fraction:
    return Fraction(round(share * _BITS), _BITS)
