"""Redaction of made-up clusters: nothing is left of any name, and every answer is the same up to the mapping."""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import dns.message
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from random_cluster import RandomCluster
from renaming import Renamer, rows

import k8snet_nb as kn
from k8snet_nb.explain.nft.source import part_range
from k8snet_nb.facts import FactRef
from k8snet_nb.record import check_recording, record
from k8snet_nb.record.redact import Redactor
from k8snet_nb.sources.recorded import open_recording


def everything(root: Path) -> str:
    """All that is written below a folder, file names and DNS messages too."""
    texts = []
    for path in (path for path in root.rglob("*") if path.is_file()):
        texts += [str(path.relative_to(root)), path.read_text()]
        if path.name == "dns.jsonl":
            wires = [json.loads(line)["response"] for line in path.read_text().splitlines()]
            texts += [dns.message.from_wire(base64.b64decode(wire)).to_text() for wire in wires]
    return "\n".join(texts)


def left_over(secrets: set[str], text: str) -> list[str]:
    """The secrets that stand somewhere as a whole: 10.1.2.3 is not in 110.1.2.31."""

    def pattern(secret: str) -> str:
        number = secret[0].isdigit() or ":" in secret
        return rf"(?<![0-9a-f.:]){re.escape(secret)}(?![0-9a-f:]|\.\d)" if number else re.escape(secret)

    low = text.lower()
    return [one for one in secrets if one.lower() in low and re.search(pattern(one), text, re.IGNORECASE)]


def members(source: Any, node: str) -> dict[str, set[tuple[int, int]]]:
    """The addresses of every nft set of a node, as ranges, in the order of the sets."""
    listing = json.loads(source.read(FactRef("nft.json", node)))["nftables"]
    sets = [one["set"] for one in listing if "set" in one]
    found: dict[str, set[tuple[int, int]]] = {}
    for number, one in enumerate(sets):
        held = found.setdefault(str(number), set())
        for raw in one["elem"]:
            value = raw["elem"]["val"] if isinstance(raw, dict) and "elem" in raw else raw
            first = value["concat"][0] if isinstance(value, dict) and "concat" in value else value
            held.add(part_range(first) or (0, -1))
    return found


def size(ranges: set[tuple[int, int]]) -> int:
    return sum(last - first + 1 for first, last in ranges)


def within(ranges: set[tuple[int, int]], address: str) -> bool:
    number = int(ipaddress.ip_address(address))
    return any(first <= number <= last for first, last in ranges)


@given(st.integers(0, 2**32))
@settings(
    max_examples=int(os.environ.get("K8SNET_EXAMPLES", "8")),
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
def test_nothing_is_left_and_every_answer_is_the_same(seed: int) -> None:
    made = RandomCluster(seed)
    with tempfile.TemporaryDirectory() as folder:
        origin, out, redactor = made.write(Path(folder) / "origin"), Path(folder) / "out", Redactor()
        told = record(open_recording(origin), out, redaction=redactor)
        assert told.missing.keys() == {"servicecidrs"} or told.missing == {}
        assert left_over(made.secrets, everything(out)) == []
        assert check_recording(out).good
        before, after, renamed = kn.open(origin), kn.open(out), Renamer(redactor)
        for table, columns in {
            "pods": ["namespace", "name", "ips", "node", "phase"],
            "services": ["namespace", "name", "cluster_ip", "ports"],
            "endpoints": ["service", "address", "port", "state", "pod", "node"],
            "drift": ["code", "node", "service", "address", "port", "missing", "extra"],
        }.items():
            mine, theirs = getattr(after, table)(), getattr(before, table)()
            assert rows(mine, columns) == renamed.rows(theirs, columns), table
        for pod in made.pods:
            for ip in pod["ips"]:
                assert after.who(renamed.addresses.address(ip)).kind == before.who(ip).kind == "pod"
        for node in made.nodes:
            new = renamed.names.name(node)
            sets, others = members(before.source, node), members(after.source, new)
            assert [size(ranges) for ranges in sets.values()] == [size(ranges) for ranges in others.values()]
            for number, ranges in sets.items():
                for one in (*(ip for pod in made.pods for ip in pod["ips"][:1]), made.services[0]["vip"]):
                    assert within(ranges, one) == within(others[number], renamed.addresses.address(one))


def matched(rule: str, address: str) -> bool:
    found = re.search(r"--src-range ([\d.]+)-([\d.]+)", rule)
    assert found is not None
    first, last = map(ipaddress.ip_address, found.groups())
    return bool(first <= ipaddress.ip_address(address) <= last)  # type: ignore[operator]


@given(st.integers(0, 2**32), st.booleans())
@settings(max_examples=8, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
def test_a_range_matches_whom_it_matched(seed: int, negated: bool) -> None:
    made, redactor = RandomCluster(seed), Redactor()
    first, last = made.range()
    rule = f"[7:9] -A INPUT -m iprange {'! ' if negated else ''}--src-range {first}-{last} -j ACCEPT"
    lines = redactor._rules.iptables(rule).split("\n")
    assert sum(int(line[1]) for line in lines) == 7
    for number in range(int(made.v4[240]), int(made.v4[1000]), 7):
        address = str(ipaddress.ip_address(number))
        before = matched(rule, address) != negated
        new = redactor.addresses.address(address)
        assert sum(matched(line, new) for line in lines) == int(before), address
