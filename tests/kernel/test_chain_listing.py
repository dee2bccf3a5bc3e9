"""Chains as we list them, compared line by line with what iptables lists after loading the recorded rules."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from lab import Lab, require

import k8snet_nb.errors
from k8snet_nb.explain.chain_listing import listing
from k8snet_nb.parse.iptables import parse_iptables_save

NODES = Path(k8snet_nb.errors.__file__).parent / "data" / "hello-cluster" / "nodes"
_NUMBERS = {"0": "all", "6": "tcp", "17": "udp"}


def as_named(line: str) -> str:
    """Some versions print numbers of protocols under -n, others names; the columns are the same."""
    return re.sub(
        r"^( *\S+ +\S+ \S+ +[! ])(\d+) +--", lambda m: f"{m[1]}{_NUMBERS.get(m[2], m[2]):<4} --", line
    ).rstrip()


@pytest.mark.parametrize(
    ("node", "tool"),
    [("node-one", "iptables"), ("node-one", "ip6tables"), ("node-two", "iptables"), ("node-three", "iptables")],
)
def test_every_chain_is_listed_as_the_tool_lists_it(node: str, tool: str) -> None:
    require(tool, f"{tool}-restore", "ipset")
    lines = (NODES / node / f"{tool}-save.txt").read_text().splitlines(keepends=True)
    save = "".join(line for line in lines if "nfacct" not in line)  # its objects would have to be made first
    with Lab("lst") as lab:
        inside = lab.namespace("node")
        enter = ["ip", "netns", "exec", inside]
        if "match-set" in save:
            subprocess.run([*enter, "ipset", "restore"], input=(NODES / node / "ipset.txt").read_bytes(), check=True)
        subprocess.run([*enter, f"{tool}-restore", "-c"], input=save.encode(), check=True)
        loaded = subprocess.run([*enter, f"{tool}-save", "-c"], capture_output=True, check=True).stdout
        rules = parse_iptables_save(loaded, f"{tool}-save.txt")
        compared = 0
        for table, chains in rules.tables.items():
            for name in chains:
                command = [*enter, tool, "-t", table, "-L", name, "-n", "-v"]
                told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
                ours = listing(rules, table, chains[name]).splitlines()
                assert ours == [as_named(line) for line in told], f"{table} {name}"
                compared += len(ours) - 2
    assert compared > 2
