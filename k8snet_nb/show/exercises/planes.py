"""What the questions about data planes look up: nodes by their mode, command lines of their tools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...errors import FactError
from ...render import printable
from ..answers import Answer, words_of
from ..question import NotHere, some

if TYPE_CHECKING:
    from ...cluster import Cluster, Node

__all__ = ["modes", "node_in", "tool_command"]


def modes(cluster: Cluster) -> dict[str, str]:
    """The mode of each node whose rules can be read and where one translates."""
    found: dict[str, str] = {}
    for name in cluster.nodes().name:
        try:
            mode = cluster.node(name).proxy_mode
        except FactError:
            continue
        if mode is not None:
            found[name] = mode
    return some(found, "no node's rules can be read")


def node_in(cluster: Cluster, mode: str) -> Node:
    """The first node in a mode."""
    name = next((name for name, found in modes(cluster).items() if found == mode), None)
    if name is None:
        raise NotHere(f"no node here translates by {mode}")
    return cluster.node(name)


def tool_command(tool: str, wanted: Mapping[str, str], may: str, shown: str) -> Answer:
    """A command line of one tool: each option of ``wanted`` with its value, in any order, and letters of ``may``.

    Letters may be written together (``-Ln``); an option that takes a value stands last in such a group.
    """

    def judge(given: object) -> str | None:
        words = words_of(given)
        if isinstance(words, str):
            return words
        if words[:1] != [tool]:
            return f"Begin with {tool}."
        return _options(words[1:], wanted, may)

    return Answer(shown, judge)


def _options(words: list[str], wanted: Mapping[str, str], may: str) -> str | None:
    found: dict[str, str] = {}
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if not word.startswith("-") or len(word) < 2:
            return f"{printable(word)} belongs to no option."
        for letter in word[1:]:
            if wanted.get(letter):
                found[letter] = words[at] if at < len(words) else ""
                at += 1
            elif letter in wanted or letter in may:
                found[letter] = ""
            else:
                return f"-{printable(letter)} is not the option for this."
    for letter, value in wanted.items():
        if letter not in found:
            return f"The option -{letter} is missing." if not value else "An option is missing."
        if value and found[letter] != value:
            return f"{printable(found[letter]) or 'Nothing'} is not what -{letter} should have."
    return None
