"""Following every way a packet can take, and folding the ways into one outcome.

The rules are run again and again, each time with other answers where the way forks: a draw of chance (``numgen``) or
a question of the source address that only some clients of that kind answer with yes. The ways form a tree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction

from ..outcome import Action

__all__ = ["End", "Folded", "Fork", "Guide", "explore"]

LIMIT = 20_000


@dataclass(frozen=True, slots=True)
class Fork:
    """Where a way forks. ``weights``: the chance of each branch, None unknown; ``source``: the addresses asked for.

    A fork on the source has two branches, yes first; ``text`` quotes the rule that asks.
    """

    weights: tuple[Fraction | None, ...]
    source: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class End:
    """Where one way ends, and the address and port the packet then has when it was rewritten."""

    action: Action
    address: str = ""
    port: int = 0


@dataclass(slots=True)
class Folded:
    """A subtree: each end with its chance and masquerading, who alone may come in, and what remains open."""

    ends: dict[End, tuple[Fraction | None, bool | str | None]]
    ranges: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Guide:
    """Answers the questions of one way: first the given answers, then always the first branch."""

    def __init__(self, answers: tuple[int, ...]) -> None:
        self.answers = list(answers)
        self.forks: list[Fork] = []

    def choose(self, fork: Fork) -> int:
        """Which branch to take here."""
        at = len(self.forks)
        self.forks.append(fork)
        if at == len(self.answers):
            self.answers.append(0)
        return self.answers[at]


@dataclass(slots=True)
class _Node:
    fork: Fork | None = None
    end: tuple[End, bool] | None = None
    children: dict[int, _Node] = field(default_factory=dict)


def explore(run: Callable[[Guide], tuple[End, bool]]) -> tuple[Folded, bool]:
    """Run every way and fold them. ``run`` gives the end and whether the source was rewritten on the way.

    The second value says whether all ways were run (there is a limit, for rules made to explode).
    """
    root, pending = _Node(), list[tuple[int, ...]]([()])
    for _ in range(LIMIT):
        if not pending:
            break
        answers = pending.pop()
        guide = Guide(answers)
        end = run(guide)
        node = root
        for depth, fork in enumerate(guide.forks):
            node.fork = fork
            if depth >= len(answers):
                pending += [(*guide.answers[:depth], i) for i in range(len(fork.weights) - 1, 0, -1)]
            node = node.children.setdefault(guide.answers[depth], _Node())
        node.end = end
    return _fold(root), not pending


def _fold(node: _Node) -> Folded:
    if node.end is not None:
        return Folded({node.end[0]: (Fraction(1), node.end[1])})
    if node.fork is None:
        return Folded({})
    branches = {i: _fold(child) for i, child in sorted(node.children.items())}
    if node.fork.source and len(branches) == 2:
        return _fold_source(node.fork, branches[0], branches[1])
    return _fold_chance(node.fork, branches)


def _fold_chance(fork: Fork, branches: dict[int, Folded]) -> Folded:
    ends: dict[End, tuple[Fraction | None, bool | str | None]] = {}
    ranges, notes = dict[str, None](), dict[str, None]()
    for i, branch in branches.items():
        ranges.update(dict.fromkeys(branch.ranges))
        notes.update(dict.fromkeys(branch.notes))
        weight = fork.weights[i]
        for end, (share, masquerade) in branch.ends.items():
            share = None if share is None or weight is None else share * weight
            if end in ends:
                before, other = ends[end]
                share = None if share is None or before is None else share + before
                masquerade = masquerade if masquerade == other else None
            ends[end] = (share, masquerade)
    return Folded(ends, tuple(ranges), tuple(notes))


def _blocked(folded: Folded) -> bool:
    return all(end.action in ("drop", "reject") for end in folded.ends)


def _fold_source(fork: Fork, yes: Folded, no: Folded) -> Folded:
    notes = tuple(dict.fromkeys(yes.notes + no.notes))
    listed = ", ".join(fork.source)
    shares = [{end: share for end, (share, _) in branch.ends.items()} for branch in (yes, no)]
    if shares[0] == shares[1]:
        return _same_ends(fork, yes, no, notes)
    if _blocked(no) and not _blocked(yes):
        return replace(yes, ranges=tuple(dict.fromkeys((*fork.source, *yes.ranges))))
    if _blocked(yes) and not _blocked(no):
        note = f"{fork.text}: a client in {listed} is refused; this is the answer for the others"
        return replace(no, notes=(*no.notes, note))
    note = f"{fork.text}: where it goes depends on whether the client is in {listed}; this is the answer for the others"
    return Folded(no.ends, no.ranges, (*notes, note))


def _same_ends(fork: Fork, yes: Folded, no: Folded, notes: tuple[str, ...]) -> Folded:
    ends: dict[End, tuple[Fraction | None, bool | str | None]] = {}
    for end, (share, masquerade) in yes.ends.items():
        other = no.ends[end][1]
        if masquerade == other:
            ends[end] = (share, masquerade)
        elif masquerade is True and other is False and fork.source == (end.address,):
            ends[end] = (share, "hairpin")
        else:
            ends[end] = (share, None)
            listed = ", ".join(fork.source)
            note = f"{fork.text}: masquerading to {end.address} depends on whether the client is in {listed}"
            notes = tuple(dict.fromkeys((*notes, note)))
    return Folded(ends, tuple(dict.fromkeys(yes.ranges + no.ranges)), notes)
