"""The small facts about conntrack: its counters by CPU, the count over time, sysctls, the kernel's log."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..errors import FactBroken

__all__ = [
    "ConntrackStats",
    "CountSeries",
    "TableFull",
    "parse_count_series",
    "parse_stats",
    "parse_sysctl",
    "parse_table_full",
]


@dataclass(frozen=True, slots=True)
class ConntrackStats:
    """Counters of ``conntrack -S``, one mapping a CPU. They are 32 bits wide and wrap."""

    per_cpu: tuple[dict[str, int], ...]
    lines: tuple[str, ...] = ()
    """As the tool printed them, for evidence."""

    def total(self, name: str) -> int | None:
        """The sum over all CPUs; None where this kernel or tool has no such counter."""
        values = [counters[name] for counters in self.per_cpu if name in counters]
        return sum(values) if values else None

    @property
    def names(self) -> tuple[str, ...]:
        """The counters, in the tool's order."""
        return tuple(dict.fromkeys(name for counters in self.per_cpu for name in counters))


def _text(data: bytes | str) -> str:
    return data.decode("utf-8", "replace") if isinstance(data, bytes) else data


def parse_stats(data: bytes | str, *, fact: str = "conntrack-stats.txt", where: str = "this text") -> ConntrackStats:
    """``conntrack -S`` of any version. Raises FactBroken with the line that is none of its."""
    per_cpu: list[dict[str, int]] = []
    lines: list[str] = []
    for number, line in enumerate(_text(data).splitlines(), 1):
        if not line.strip():
            continue
        pairs = re.findall(r"(\S+)=(\S*)", line)
        if not re.match(r"cpu=\d+\s", line) or " ".join(f"{k}={v}" for k, v in pairs) != " ".join(line.split()):
            raise FactBroken(fact, where, f"line {number} is no line of counters: {line[:80]!r}", "Collect it again.")
        if any(not (value.isdigit() and len(value) < 20) for _, value in pairs):
            raise FactBroken(fact, where, f"line {number} has a counter that is no number", "Collect it again.")
        per_cpu.append({name: int(value) for name, value in pairs if name != "cpu"})
        lines.append(line.rstrip())
    if not per_cpu:
        raise FactBroken(fact, where, "it is empty: every kernel has at least one CPU", "Collect it with conntrack -S.")
    return ConntrackStats(tuple(per_cpu), tuple(lines))


@dataclass(frozen=True, slots=True, eq=False)
class CountSeries:
    """Entries and maximum over time: seconds since 1970, one value a sample."""

    times: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    maxima: npt.NDArray[np.int64]
    problems: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.times)


def parse_count_series(
    data: bytes | str, *, fact: str = "conntrack-count.csv", where: str = "this text"
) -> CountSeries:
    """``unix_time,nf_conntrack_count,nf_conntrack_max`` lines under that heading.

    A cut last line is left out and said; anything else that is no such line raises FactBroken.
    """
    text = _text(data)
    lines = text.splitlines()
    if not lines or lines[0].strip() != "unix_time,nf_conntrack_count,nf_conntrack_max":
        raise FactBroken(fact, where, "line 1 is not its heading", "Collect it again.")
    rows: list[tuple[float, int, int]] = []
    problems: list[str] = []
    for number, line in enumerate(lines[1:], 2):
        if found := re.fullmatch(r"(\d{1,12}(?:\.\d{1,9})?),(\d{1,18}),(\d{1,18})", line.strip()):
            rows.append((float(found[1]), int(found[2]), int(found[3])))
        elif number == len(lines) and not text.endswith("\n"):
            problems.append(f"line {number}: left out, the text ends within it")
        elif line.strip():
            raise FactBroken(fact, where, f"line {number} is no sample: {line[:80]!r}", "Collect it again.")
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    times, counts, maxima = columns
    return CountSeries(
        np.array(times, dtype=np.float64),
        np.array(counts, dtype=np.int64),
        np.array(maxima, dtype=np.int64),
        tuple(problems),
    )


def parse_sysctl(data: bytes | str) -> dict[str, str]:
    """``key = value`` lines of ``sysctl``; the tool's own messages (``sysctl: cannot stat ...``) are left out."""
    pairs = (line.partition(" = ") for line in _text(data).splitlines())
    return {key.strip(): value.strip() for key, sign, value in pairs if sign and re.fullmatch(r"[\w./-]+", key.strip())}


@dataclass(frozen=True, slots=True)
class TableFull:
    """The kernel says that a table was full: one line of its log."""

    line: int
    text: str
    when: str | None
    """What stood in brackets before the message: a date, or seconds since boot."""
    netns: int | None
    """Inode of the network namespace; None in old kernels, which do not tell."""


_FULL = re.compile(
    r"(?:\[\s*(?P<when>[^\]]+)\])?.*?\b(?:nf|ip)_conntrack: (?:(?:nf|ip)_conntrack: )?"
    r"table full(?: in netns (?P<netns>\d{1,20}))?, dropping packet"
)


def parse_table_full(data: bytes | str, netns: int | None = None) -> tuple[TableFull, ...]:
    """Lines of a kernel log that say that a conntrack table was full, in the old spellings and the new one.

    The log is the machine's: with ``netns`` only lines about that namespace, and lines that do not say which.
    """
    found = []
    for number, line in enumerate(_text(data).splitlines(), 1):
        if match := _FULL.search(line):
            of = int(match["netns"]) if match["netns"] else None
            if netns is None or of is None or of == netns:
                found.append(TableFull(number, line, match["when"], of))
    return tuple(found)
