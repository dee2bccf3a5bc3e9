"""Running the steps that load rules, and finding the line that a tool of this machine refuses.

Another version of a tool, or another kernel, may not take what the node's took. The line that it names is taken out
and listed, and the rest is loaded. Where it names none (legacy iptables hands a whole table to the kernel), the line
is found by loading shorter and shorter beginnings of the table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from ..links import Run
from ..model import LeftOut, Step

__all__ = ["MOST_ROUNDS", "run_steps", "without"]

MOST_ROUNDS = 40
"""So many lines of a step may be refused; then the step as a whole is given up."""

_LINE = re.compile(r"Error occurred at line: (\d+)|line (\d+):? (?:\w+ )?failed|Error in line (\d+):|/dev/stdin:(\d+):")
_NO_CHAIN = re.compile(r"Chain '([^']+)' does not exist")
_UNKNOWN = re.compile(r"Unknown argument: `([^']+)'")
_RULE = re.compile(r"(?:\[\d+:\d+\] )?-A (\S+) ")
_GOES_TO = re.compile(r" -[jg] (\S+) ?$")


def run_steps(steps: Iterable[Step], run: Run, node: str | None = None) -> tuple[LeftOut, ...]:
    """Run the steps in order; what this machine's tools do not take is given back, with what they said."""
    return tuple(lost for step in steps for lost in _run_step(step, run, node))


def _run_step(step: Step, run: Run, node: str | None) -> list[LeftOut]:
    lost: list[LeftOut] = []
    for _ in range(MOST_ROUNDS):
        status, said = run(step.argv, step.stdin)
        if status == 0:
            return lost
        found = without(step, said, node) or _without_culprit(step, said, run, node)
        if found is None:
            break
        step = found[0]
        lost.append(found[1])
    _, _, what = step.says.partition(": ")
    return [*lost, LeftOut(node, _fact(step), what, f"not loaded: {_message(said)}")]


def _fact(step: Step) -> str:
    return step.says.partition(":")[0]


def _message(said: str) -> str:
    """The first line of a tool's message that says something, without the tool's name and version."""
    lines = (re.sub(r"^\S+ v[\d.]+(?: \(\w+\))?: ?", "", line).strip() for line in said.splitlines())
    return next(filter(None, lines), "the tool said nothing")[:300]


def without(step: Step, message: str, node: str | None = None) -> tuple[Step, LeftOut] | None:
    """The step without the line that a tool's message names, and that line as left out; None where it names none."""
    lines = step.stdin.split("\n")
    if (gone := _named(step.argv[0], lines, message)) is None:
        return None
    dropped = set(gone)
    kept = [line for number, line in enumerate(lines) if number not in dropped]
    more = f"; {len(dropped) - 1} lines that need it go with it" if len(dropped) > 1 else ""
    why = f"this machine's {step.argv[0]} does not take it: {_message(message)}{more}"
    return replace(step, stdin="\n".join(kept)), LeftOut(node, _fact(step), lines[gone[0]].strip(), why)


def _named(tool: str, lines: list[str], message: str) -> list[int] | None:
    """The indices of the lines to take out, the one that the message is about first."""
    if found := _NO_CHAIN.search(message):
        return [i for i, line in enumerate(lines) if _target(line) == found[1]] or None
    if found := _UNKNOWN.search(message):
        at = next((i for i, line in enumerate(lines) if found[1] in line.split(" ")[3:]), None)
        return None if at is None else _of_set(lines, at)
    found = _LINE.search(message)
    at = int(next(filter(None, found.groups()))) - 1 if found else -1
    if not 0 <= at < len(lines):
        return None
    if tool == "ipset":
        return _of_set(lines, at)
    return _of_table(lines, at) if tool == "nft" else _of_save(lines, at)


def _target(line: str) -> str | None:
    found = _GOES_TO.search(line)
    return found[1] if found else None


def _of_set(lines: list[str], at: int) -> list[int]:
    """A ``create`` takes its ``add`` lines with it."""
    words = lines[at].split(" ")
    if words[0] != "create":
        return [at]
    return [at, *(i for i, line in enumerate(lines) if line.startswith(f"add {words[1]} "))]


def _of_save(lines: list[str], at: int) -> list[int] | None:
    """A rule goes alone, a chain with its rules and the jumps to it, a table whole; of COMMIT nothing is known."""
    line = lines[at]
    if _RULE.match(line):
        return [at]
    begin = max((i for i in range(at + 1) if lines[i].startswith("*")), default=None)
    if begin is None or line == "COMMIT":
        return None
    end = next((i for i in range(at, len(lines)) if lines[i] == "COMMIT"), len(lines) - 1)
    if begin == at:
        return list(range(begin, end + 1))
    name = line[1:].partition(" ")[0]
    rules = ((i, _RULE.match(lines[i])) for i in range(begin, end))
    return [at, *(i for i, rule in rules if rule and (rule[1] == name or _target(lines[i]) == name))]


def _of_table(lines: list[str], at: int) -> list[int] | None:
    """A rule goes alone; a table whose sets or chains nft does not take cannot be loaded."""
    heads = ("type ", "comment ")
    opener = next((line for line in reversed(lines[:at]) if re.match(r"\t\S", line)), "")
    inside = lines[at].startswith("\t\t") and opener.startswith("\tchain ")
    return [at] if inside and not lines[at].lstrip("\t").startswith(heads) else None


def _without_culprit(step: Step, said: str, run: Run, node: str | None) -> tuple[Step, LeftOut] | None:
    """Where the kernel refused a whole table: the rule with which its beginnings stop loading, taken out."""
    lines = step.stdin.split("\n")
    found = _LINE.search(said)
    end = int(next(filter(None, found.groups()))) - 1 if found else len(lines)
    if "tables" not in step.argv[0] or not 0 <= end < len(lines) or lines[end] != "COMMIT":
        return None
    begin = max((i for i in range(end) if lines[i].startswith("*")), default=end)
    rules = [i for i in range(begin, end) if _RULE.match(lines[i])]
    heads = [line for line in lines[begin:end] if not _RULE.match(line)]

    def loads(count: int) -> bool:
        text = "\n".join([*heads, *(lines[i] for i in rules[:count]), "COMMIT", ""])
        return run(step.argv, text)[0] == 0

    good, bad = 0, len(rules)
    if not rules or not loads(0):
        return None
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if loads(middle) else (good, middle)
    at = rules[bad - 1]
    why = f"this machine's kernel does not take it: {_message(said)}"
    kept = [*lines[:at], *lines[at + 1 :]]
    return replace(step, stdin="\n".join(kept)), LeftOut(node, _fact(step), lines[at], why)
