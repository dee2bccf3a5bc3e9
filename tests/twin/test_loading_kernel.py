"""The recorded rules of every node, loaded into this kernel and read back: the same rules, and nothing left out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_nft_text import same

from k8snet_nb.facts import FactRef
from k8snet_nb.parse.ipset import parse_ipset
from k8snet_nb.parse.iptables import Ruleset, parse_iptables_save
from k8snet_nb.parse.nft import parse_nft
from k8snet_nb.sources.opening import BUNDLED, open_source
from k8snet_nb.twin.loading.run import MOST_ROUNDS, run_steps
from k8snet_nb.twin.loading.steps import Loaded, rule_steps
from k8snet_nb.twin.model import Step

sys.path.insert(0, str(Path(__file__).parents[1] / "kernel"))
from lab import Lab, require

TOOLS = ("nft", "ipset", *(f"ip{six}tables-{kind}-restore" for six in ("", "6") for kind in ("nft", "legacy")))


class Place:
    """A namespace in which steps are run; ``told``: what was run."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab, self.name = lab, lab.namespace(name)
        self.told: list[tuple[str, ...]] = []

    def run(self, argv: tuple[str, ...], text: str) -> tuple[int, str]:
        self.told.append(argv)
        command = ["ip", "netns", "exec", self.name, *argv]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stderr

    def prints(self, *command: str) -> str:
        return self.lab.run(self.name, list(command))


@pytest.fixture
def place() -> Iterator[Place]:
    require(*TOOLS)
    with Lab("load") as lab:
        yield Place(lab, "node")


def load(place: Place, node: str) -> Loaded:
    loaded = rule_steps(open_source(BUNDLED), node)
    assert loaded.left_out == ()
    if loaded.nfacct:
        place.lab.nfacct(place.name, *loaded.nfacct)
    here = [step for step in loaded.steps if step.argv[0] != "ipvsadm"]
    assert run_steps(here, place.run, node) == ()
    return loaded


def recorded(node: str, fact: str) -> bytes:
    return open_source(BUNDLED).read(FactRef(fact, node))


def rules_of(save: Ruleset) -> Any:
    """Tables, chains, policies and rules in their order, without counters."""
    assert not save.problems
    return {
        name: {
            chain.name: (
                chain.policy,
                [(rule.matches, rule.target, rule.goto, rule.target_options) for rule in chain.rules()],
            )
            for chain in table.values()
        }
        for name, table in save.tables.items()
    }


@pytest.mark.parametrize("six", ["", "6"])
@pytest.mark.parametrize(("node", "flavour"), [("node-one", "nft"), ("node-two", "nft"), ("node-three", "legacy")])
def test_iptables_rules_read_back_as_recorded(place: Place, node: str, flavour: str, six: str) -> None:
    load(place, node)
    there = parse_iptables_save(place.prints(f"ip{six}tables-{flavour}-save", "-c"))
    assert rules_of(there) == rules_of(parse_iptables_save(recorded(node, f"ip{six}tables-save.txt")))
    assert there.flavour == flavour
    counters = {rule.counters for table in there.tables.values() for chain in table.values() for rule in chain.rules()}
    assert counters <= {(0, 0)}, "counters begin at zero"


def test_nft_tables_read_back_as_recorded_and_counters_begin_at_zero(place: Place) -> None:
    load(place, "node-two")
    there, wanted = parse_nft(place.prints("nft", "-j", "list", "ruleset")), parse_nft(recorded("node-two", "nft.json"))
    for family in ("ip", "ip6"):
        key = (family, "kube-proxy")
        assert _no_counts(same(there)[key]) == _no_counts(same(wanted)[key])
    assert list(there.tables)[-2:] == [("ip", "kube-proxy"), ("ip6", "kube-proxy")]
    counted = [part["counter"] for chain in there.tables["ip", "kube-proxy"].chains.values() for rule in chain.rules
               for part in rule.expr if "counter" in part]  # fmt: skip
    assert all(one["packets"] == 0 for one in counted)


def _no_counts(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: 0 if key in ("packets", "bytes") else _no_counts(one) for key, one in value.items()}
    return type(value)(map(_no_counts, value)) if isinstance(value, list | tuple) else value


def test_sets_read_back_as_recorded(place: Place) -> None:
    load(place, "node-three")
    there, wanted = parse_ipset(place.prints("ipset", "save")), parse_ipset(recorded("node-three", "ipset.txt"))
    assert {n: (s.type, s.options, {m.text for m in s.members}) for n, s in there.items()} == {
        n: (s.type, s.options, {m.text for m in s.members}) for n, s in wanted.items()
    }


def restore(flavour: str, *lines: str) -> Step:
    text = "\n".join(["*filter", ":FORWARD ACCEPT [0:0]", ":A - [0:0]", *lines, "COMMIT", ""])
    return Step((f"iptables-{flavour}-restore", "-w", "10"), text, "iptables-save.txt: tables filter")


@pytest.mark.parametrize("flavour", ["nft", "legacy"])
def test_what_this_machine_refuses_is_listed_and_the_rest_loaded(place: Place, flavour: str) -> None:
    bad = [
        "-A A -m set --match-set NOWHERE dst -j DROP",  # refused by the tool, which names the line
        "-A A -m nfacct --nfacct-name none -j DROP",  # refused by the kernel: legacy then names COMMIT
        "[3:4] -A FORWARD -j DNAT --to-destination 10.0.0.1",  # not in this table: the kernel again
    ]
    good = [f"-A A -s 10.0.0.{n}/32 -j DROP" for n in range(9)]
    lost = run_steps([restore(flavour, *good[:5], *bad, *good[5:], "-A FORWARD -j A")], place.run, "n")
    assert sorted(one.text for one in lost) == sorted(bad)
    assert {(one.node, one.fact) for one in lost} == {("n", "iptables-save.txt")}
    assert len(place.told) < 20
    there = parse_iptables_save(place.prints(f"iptables-{flavour}-save"))
    assert [rule.line for rule in there.tables["filter"]["A"].rules()] == good


def test_a_refused_chain_takes_the_jumps_to_it_along_and_a_table_its_rules(place: Place) -> None:
    long = "C" * 40
    step = restore("legacy", f":{long} - [0:0]", f"-A FORWARD -j {long}", "-A FORWARD -j A")
    lost = run_steps([step], place.run)
    assert [one.text for one in lost] == [f":{long} - [0:0]"]
    assert "1 lines that need it go with it" in lost[0].why
    text = "*nonsense\n:X ACCEPT [0:0]\n-A X -j DROP\nCOMMIT\n" + step.stdin
    lost = run_steps([Step(step.argv, text, step.says)], place.run)
    assert lost[0].text == "*nonsense"
    assert "-A FORWARD -j A" in place.prints("iptables-legacy-save")


def test_a_refused_set_takes_its_elements_along(place: Place) -> None:
    text = "create a hash:ip family inet\nadd a 10.0.0.1\ncreate b hash:ip family inet new 3\nadd b 10.0.0.1\n"
    lost = run_steps([Step(("ipset", "-exist", "restore"), text + "add a 10.0.0.2\n", "ipset.txt: 2 sets")], place.run)
    assert [one.text for one in lost] == ["create b hash:ip family inet new 3"]
    made = parse_ipset(place.prints("ipset", "save"))
    assert {name: {member.text for member in one.members} for name, one in made.items()} == {
        "a": {"10.0.0.1", "10.0.0.2"}
    }


def test_nft_loses_one_rule_or_says_that_the_table_is_lost(place: Place) -> None:
    text = "table ip t {\n\tchain a {\n\t\tip daddr 10.0.0.1 jump nowhere\n\t\tip daddr 10.0.0.2 drop\n\t}\n\n}\n"
    lost = run_steps([Step(("nft", "-f", "-"), text, "nft.json: table ip t")], place.run)
    assert [one.text for one in lost] == ["ip daddr 10.0.0.1 jump nowhere"]
    assert "10.0.0.2 drop" in place.prints("nft", "list", "ruleset")
    broken = "table ip u {\n\tset s {\n\t\ttype nonsense\n\t}\n\n}\n"
    lost = run_steps([Step(("nft", "-f", "-"), broken, "nft.json: table ip u")], place.run)
    assert [(one.text, one.fact) for one in lost] == [("table ip u", "nft.json")]


def test_a_tool_that_refuses_everything_is_not_asked_for_ever() -> None:
    asked = []

    def run(argv: tuple[str, ...], text: str) -> tuple[int, str]:
        asked.append(text)
        return 2, "Error occurred at line: 4"

    lost = run_steps([restore("nft", *["-A A -j DROP"] * 200)], run)
    assert len(asked) == MOST_ROUNDS
    assert lost[-1].text == "tables filter"
    assert "not loaded" in lost[-1].why


def test_accounting_objects_are_made_once_and_again(place: Place) -> None:
    place.lab.nfacct(place.name, "one", "two")
    with pytest.raises(RuntimeError, match="longer than 31"):
        place.lab.nfacct(place.name, "x" * 32)
    lost = run_steps([restore("nft", "-A A -m nfacct --nfacct-name two -j DROP")], place.run)
    assert lost == ()
    place.lab.nfacct(place.name, "one", "two")
