"""A fault's journal, without a twin: what is taken back when a step is refused, and what stays to be tried again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from k8snet_nb.errors import TwinError
from k8snet_nb.twin.faults.journal import FILE, Journal
from k8snet_nb.twin.faults.scene import Change, Fault

FAULT = Fault(
    "it hangs",
    "two rules are gone",
    ("node-one",),
    tuple(
        Change("node-one", {"op": "tool", "argv": ["del", name]}, {"op": "tool", "argv": ["add", name]})
        for name in ("a", "b")
    ),
)


class Node:
    """Does what it is asked, but for what it is told to refuse."""

    def __init__(self, *refused: str) -> None:
        self.refused, self.done = set(refused), list[str]()

    def __call__(self, _node: str, request: dict[str, Any], /) -> dict[str, Any]:
        word = " ".join(request["argv"])
        self.done.append(word)
        return {"status": int(word in self.refused), "said": "no"}


def test_a_refused_step_is_not_taken_back_itself(tmp_path: Path) -> None:
    node = Node("del b")
    with pytest.raises(TwinError, match="del b: no"):
        Journal(tmp_path, node).break_("RULE_DELETED", FAULT)
    assert node.done == ["del a", "del b", "add a"]
    assert not (tmp_path / FILE).exists()


def test_what_cannot_be_taken_back_stays_written_down(tmp_path: Path) -> None:
    node = Node("del b", "add a")
    journal = Journal(tmp_path, node)
    with pytest.raises(TwinError):
        journal.break_("RULE_DELETED", FAULT)
    assert journal.read() is not None
    node.refused.clear()
    assert journal.mend() is not None
    assert not (tmp_path / FILE).exists()
