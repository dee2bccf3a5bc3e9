"""The lines of ``iptables-save``: which belongs to which table and chain, and what is wrong with them.

The one pass over every line. It must be fast (a large node has 100,000 lines) and must let no cut line through.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address

from .iptables_rule import BadRule, Rule, parse_rule

__all__ = ["Part", "Problem", "Reader"]

TARGETS = frozenset(
    """ACCEPT DROP REJECT RETURN QUEUE DNAT SNAT MASQUERADE REDIRECT NETMAP MARK CONNMARK CONNSECMARK SECMARK CT NOTRACK
    LOG NFLOG ULOG NFQUEUE TRACE TEE TPROXY AUDIT CHECKSUM CLASSIFY CLUSTERIP DSCP ECN HL HMARK IDLETIMER LED RATEEST
    SET SYNPROXY TCPMSS TCPOPTSTRIP TOS TTL DNPT SNPT""".split()
)
_COUNTED = re.compile(r"\[\d+:\d+\] ")
_TABLE = re.compile(r"\*[a-z]+")
_CHAIN = re.compile(r":(\S+) ((?:ACCEPT|DROP|QUEUE|RETURN|-)(?: \[\d+:\d+\])?)")
_WHOLE_DNAT = re.compile(
    r"DNAT --to-destination (?:(?:BYTE\.){3}BYTE|\[[0-9a-f:.]+\])(?::\d{1,5}(?:-\d{1,5})?)?"
    r"(?: --random| --persistent)*".replace("BYTE", r"(?:25[0-5]|2[0-4]\d|1?\d?\d)")
)
_CUT_RULE = re.compile(r"(?:\[\d+:\d+\] )?-A ")
_FOREIGN = (
    (
        re.compile(r"^Chain \S+ \((?:policy|\d+ references)", re.MULTILINE),
        "this is the output of `iptables -L`, not of `iptables-save`",
    ),
    (re.compile(r"\A\s*-[PN] \S+", re.MULTILINE), "this is the output of `iptables -S`, which shows one table only"),
    (
        re.compile(r"\A\s*table \S+ \S+ \{", re.MULTILINE),
        "this is the output of `nft list ruleset`, not of `iptables-save`",
    ),
    (re.compile(r"\A\s*[\[{][\s\"{]"), "this is JSON, not the output of `iptables-save`"),
    (re.compile(r"\A\s*(?:ip6?tables\S*|sudo|sh|bash): (.*)"), "this is an error message, not rules: `{0}`"),
)
_NOISE = re.compile(r"(?:ip6?tables|xtables)\S*(?: v[\d.]+\S*)?(?: \(\S+\))?:|Try `ip6?tables")
_MANY = 1000


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one line; ``line`` counts from 1."""

    line: int
    why: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.why}"


@dataclass(slots=True)
class Part:
    """One table as read: ``heads`` chain -> (line number, policy and counters), ``rules`` chain -> line numbers."""

    heads: dict[str, tuple[int, str]] = field(default_factory=dict)
    rules: dict[str, list[int]] = field(default_factory=dict)


class Reader:
    """Reads all lines. ``bad`` tells, of rules that stay in their chain, why they cannot be followed."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tables: dict[str, Part] = {}
        self.problems: list[Problem] = []
        self.bad: dict[int, str] = {}
        self.notes: list[str] = []
        self.lines: list[str] = []
        self._part: Part | None = None
        self._name = ""
        self._targets: set[str] = set()
        self._nowhere: list[tuple[int, str]] = []
        self._rules_read = 0
        self._generated = False

    def unusable(self) -> str | None:
        """Read everything; says why it is no iptables-save output at all, or None."""
        text = self.text
        if "\r\n" in text[:2000]:
            text = text.replace("\r\n", "\n")
        if not text.strip():
            return "it is empty"
        if "\0" in text:
            return f"it holds binary data (line {text[: text.index(chr(0))].count(chr(10)) + 1})"
        self.lines = text.split("\n")
        if not self.lines[-1]:
            self.lines.pop()
        self._read()
        if not self.tables:
            return self._foreign(text) or self._first_problem("no table begins in it (`*filter`, `*nat`, ...)")
        if len(self.problems) > 10 and len(self.problems) > self._rules_read:
            return self._foreign(text) or self._first_problem("most of its lines are no rules")
        return None

    def _foreign(self, text: str) -> str | None:
        for pattern, why in _FOREIGN:
            if found := pattern.search(text):
                number = text[: found.start()].count("\n") + 1
                return f"{why.format(*(g[:200] for g in found.groups()))} (line {number})"
        return None

    def _first_problem(self, why: str) -> str:
        return f"{why}; {self.problems[0]}" if self.problems else why

    def _problem(self, number: int, why: str) -> None:
        if len(self.problems) < _MANY:
            self.problems.append(Problem(number, why))
        elif len(self.problems) == _MANY:
            self.problems.append(Problem(number, "and more; only the first problems are listed"))

    def _read(self) -> None:
        number, total = 0, len(self.lines)
        while number < total:
            if self.lines[number][:1] in ("[", "-"):
                after = self._read_rules(number)
                number = after if after > number else self._read_other(number)
            else:
                number = self._read_other(number)
        if self._part is not None:
            if total and not self.text.endswith("\n") and self.lines[-1][:1] in ("[", "-") and total not in self.bad:
                self.bad[total] = "the save ends in this line, which may be cut"
            self._end_table()
            self._problem(total, f"the end is missing: table {self._name} has no COMMIT, so later rules are unknown")
        elif self.tables and self._generated and not self.lines[-1].startswith("# Completed on"):
            self._problem(total, "the end is missing (`# Completed on ...`): later tables are unknown")

    def _read_rules(self, start: int) -> int:
        """Put the rules from line index ``start`` with their chains; returns the index of the first other line."""
        if self._part is None:
            return start
        lines, rules, targets = self.lines, self._part.rules, self._targets
        index, total = start, len(lines)
        while index < total:
            line = lines[index]
            counters, found, rest = line.partition("-A ")
            if not found or (counters and not _COUNTED.fullmatch(counters)):
                break
            index += 1
            name, _, spec = rest.partition(" ")
            chain = rules.get(name)
            if chain is None:
                chain = rules[name] = []
                self._first_rule(self._part, name, index)
            chain.append(index)
            # the last ` -j ` is the target's unless a quote follows (a log prefix) or a quote stays open
            _, _, tail = spec.rpartition(" -j ")
            target = tail.partition(" ")[0]
            if (
                target not in targets
                or '"' in tail
                or spec.count('"') & 1
                or "\\" in spec
                or (target == "DNAT" and not _WHOLE_DNAT.fullmatch(tail))
            ):
                index = self._look_closer(index, line)
        self._rules_read += index - start
        return index

    def _first_rule(self, part: Part, chain: str, number: int) -> None:
        if chain not in part.heads:
            part.heads[chain] = (0, "-")
            self._problem(number, f"a rule of chain {chain}, which is not declared")

    def _look_closer(self, number: int, line: str) -> int:
        """A line that is not obviously whole. Returns the number of its last line: a comment may hold line breaks."""
        try:
            try:
                rule = parse_rule(number, line)
            except BadRule:
                last = self._closing_line(number)
                if last is None:
                    raise
                rule = parse_rule(number, "\n".join(self.lines[number - 1 : last]))
                self.lines[number - 1] = rule.line
                number = last
        except BadRule as bad:
            self.bad[number] = str(bad)
            self._problem(number, f"this rule is cut or damaged: {bad}")
            return number
        if rule.target is None and rule.chain.startswith("KUBE-") and not _ends_with_comment(rule):
            self.bad[rule.number] = "it has no target and does not end with a comment"
            self._problem(rule.number, f"this rule is cut or damaged: {self.bad[rule.number]}")
        elif rule.target is not None and rule.target not in self._targets:
            self._nowhere.append((rule.number, rule.target))
        elif rule.target == "DNAT" and (why := _dnat_damage(rule)):
            self.bad[rule.number] = why
            self._problem(rule.number, f"this rule is cut or damaged: {why}")
        return number

    def _closing_line(self, number: int) -> int | None:
        """Where a quote that line ``number`` leaves open is closed, if no line on the way looks like the save's own."""
        for last in range(number + 1, min(number + 16, len(self.lines)) + 1):
            line = self.lines[last - 1]
            if _CUT_RULE.match(line) or line == "COMMIT" or _TABLE.fullmatch(line) or _CHAIN.fullmatch(line):
                return None
            if line.count('"') - line.count('\\"') & 1:
                return last
        return None

    def _read_other(self, index: int) -> int:
        """A line that is no rule; returns the next index."""
        line, number = self.lines[index], index + 1
        if self._part is not None and (chain := _CHAIN.fullmatch(line)):
            self._part.heads[chain[1]] = (number, chain[2])
            self._targets.add(chain[1])
        elif line.startswith("#"):
            self._generated = self._generated or line.startswith("# Generated by")
            if "arning" in line:
                self.notes.append(line.lstrip("# "))
        elif line == "COMMIT" and self._part is not None:
            self._end_table()
        elif _TABLE.fullmatch(line):
            self._begin_table(number, line[1:])
        elif line.strip():
            self._problem(number, self._stray(line))
        return index + 1

    def _stray(self, line: str) -> str:
        shown = line if len(line) <= 120 else line[:120] + "..."
        if _NOISE.match(line):
            return f"a message of a tool among the rules: `{shown}`"
        if _CUT_RULE.match(line) or line.startswith((":", "COMMIT")):
            return f"it stands outside of any table: `{shown}`" if self._part is None else f"cut or damaged: `{shown}`"
        return f"no line of an iptables-save: `{shown}`"

    def _begin_table(self, number: int, name: str) -> None:
        if self._part is not None:
            self._problem(number, f"table {name} begins before the COMMIT of table {self._name}: rules may be missing")
            self._end_table()
        self._part, self._name = Part(), name
        self._targets = set(TARGETS)
        if name in self.tables:
            self._problem(number, f"table {name} begins a second time (two saves in one?); only the first is read")
        else:
            self.tables[name] = self._part

    def _end_table(self) -> None:
        for number, target in self._nowhere:
            if target not in self._targets:
                why = f"it goes to {target}, which is neither a chain of table {self._name} nor a known target"
                self.bad[number] = why
                self._problem(number, why)
        self._nowhere.clear()
        self._part = None


def _ends_with_comment(rule: Rule) -> bool:
    """So do the rules that kube-proxy writes without a target, which only count (the last one of a KUBE-FW chain)."""
    return bool(rule.matches) and rule.matches[-1].module == "comment" and bool(rule.matches[-1].options)


def _dnat_damage(rule: Rule) -> str | None:
    """Why a DNAT rule does not say where to; None when it does."""
    option = rule.target_option("--to-destination")
    if option is None:
        return "DNAT without --to-destination"
    address = option.value
    if address.startswith("["):
        address = address[1:].partition("]")[0]
    elif address.count(":") == 1:
        address = address.partition(":")[0]
    try:
        for part in filter(None, address.split("-")):
            ip_address(part)
    except ValueError:
        return f"`{option.value}` is no address"
    return None
