"""What of IP sets and virtual servers a twin loads, and what it leaves out."""

from __future__ import annotations

import pytest
from twin.rules_place import steps

from k8snet_nb.twin.loading.steps import Loaded


def ipset(data: str) -> tuple[str, list[str]]:
    loaded = steps({"node-three/ipset.txt": data.encode()}, "node-three")
    step = next((step for step in loaded.steps if step.argv[0] == "ipset"), None)
    return (step.stdin if step else ""), [one.text for one in loaded.left_out if one.fact == "ipset.txt"]


SETS = "create A hash:ip,port family inet hashsize 1024 maxelem 65536\nadd A 10.0.0.1,tcp:80\n"


@pytest.mark.parametrize(
    "line",
    [
        "create -X hash:ip family inet",
        "create B hash:evil family inet",
        "create B hash:ip family inet hashsize 1073741824",
        "create B hash:ip family inet evil 1",
        "create B hash:ip family inet file /etc/passwd",
        "create B;x hash:ip family inet",
        "create " + "B" * 32 + " hash:ip family inet",
        "create  B hash:ip family inet",
        "create 'B' hash:ip family inet",
        "create B bitmap:ip range evil.example.com",
        'add A 10.0.0.1,tcp:81 comment "a\'b\\"',
        "add A 10.0.0.1,evil:81",
        'add A 10.0.0.1,tcp:81 comment "' + "x" * 256 + '"',
        "add\tA 10.0.0.1,tcp:81",
        "add A 10.0.0.1,tcp:81 packets ٣",
        "add A 10.0.0.1,tcp:81 skbmark -o",
    ],
)
def test_a_hostile_set_or_element_is_left_out(line: str) -> None:
    loaded, left_out = ipset(SETS + line + "\n")
    assert loaded in (SETS, "")  # "": the whole fact is no ipset save, and said to be broken
    assert left_out == ([line] if loaded else [""])


def test_a_set_of_sets_comes_last_and_knows_its_members() -> None:
    nested = "create L list:set size 8\nadd L A\nadd L NONE\n"
    loaded, left_out = ipset(nested + SETS)
    assert loaded == SETS + "create L list:set size 8\nadd L A\n"
    assert left_out == ["add L NONE"]


def ipvs(data: str) -> Loaded:
    return steps({"node-three/ipvs-save.txt": data.encode()}, "node-three")


def test_virtual_servers_are_written_anew() -> None:
    lines = [
        "-A -t 10.0.0.1:80 -s wrr -p 600 -M 255.255.255.0",
        "-a -t 10.0.0.1:80 -r 10.0.0.2:80 -m -w 3",
        "-A -u [fd00::1]:53 -s sh -b sh-fallback,sh-port",
        "-a -u [fd00::1]:53 -r [fd00::2]:53 -g -w 0",
        "-A -f 7 -6 -s rr",
    ]
    loaded = ipvs("\n".join([*lines, ""]))
    assert loaded.steps[-1].stdin.splitlines() == lines
    assert loaded.guest


@pytest.mark.parametrize(
    "line", ["-A -t 10.0.0.1:80 -s ../evil", "-A -t 10.0.0.1:80 -s rr --pe evil", "-A -t 10.0.0.1:80 -s rr -b evil",
             "-A -t 10.0.0.1:80 -s rr -p 4294967295", "-A -t 10.0.0.1:80 -s rr -p 1 -M evil",
             "-A -t evil.example.com:80 -s rr", "-A -t 10.0.0.1:80 -s rr -C"],
)  # fmt: skip
def test_a_hostile_virtual_server_is_left_out(line: str) -> None:
    loaded = ipvs(f"{line}\n")
    assert not [step for step in loaded.steps if step.argv[0] == "ipvsadm"]
    assert [one.fact for one in loaded.left_out] == ["ipvs-save.txt"]
    assert not loaded.guest
