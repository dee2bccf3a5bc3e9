"""The agent's reading of IPVS, as far as it needs no kernel that has it (guest/test_ipvs_truth.py has the rest)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from k8snet_nb.agent import ipvs, tools
from k8snet_nb.agent.kernel import Missing
from k8snet_nb.parse.ipvs_listing import parse_connections

CONNECTIONS = """\
Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP 0A203E0D DD76 0A203E0D 0050 0AF41203 1F90 TIME_WAIT       114
UDP 0AF40709 A001 0A20000A 0035 0AF40302 0035 UDP             290
TCP [fd00:0000:0000:0000:0000:0000:0000:0002] 0FA0 [fd00:0000:0000:0000:0000:0000:0000:0001] 0050 \
[fd00:0000:0000:0000:0000:0000:0000:0009] 1F90 ESTABLISHED     898
TCP 0A000009 0000 0A205BA1 0050 0AF40303 1F90 NONE          10800
"""


@pytest.mark.parametrize("fact", ipvs.FACTS)
def test_a_kernel_without_ipvs_is_an_answer_and_stays_without(fact: str, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """No request is made: pyroute2 is not even imported."""
    monkeypatch.setattr("builtins.__import__", _refusing(__import__))
    with pytest.raises(ipvs.NotLoaded, match="not loaded"):
        ipvs.FACTS[fact](str(tmp_path))  # type: ignore[call-arg]


def _refusing(original):  # type: ignore[no-untyped-def]
    def refuse(name: str, *rest: object, **more: object) -> object:
        assert not name.startswith("pyroute2")
        return original(name, *rest, **more)

    return refuse


def test_connections_are_printed_as_ipvsadm_prints_them(tmp_path: Path) -> None:
    (tmp_path / "ip_vs").touch()
    (tmp_path / "ip_vs_conn").write_text(CONNECTIONS)
    text = ipvs.connections(str(tmp_path))
    assert text.splitlines()[:3] == [
        "IPVS connection entries",
        "pro expire state       source             virtual            destination",
        "TCP 01:54  TIME_WAIT   10.32.62.13:56694  10.32.62.13:80     10.244.18.3:8080",
    ]
    assert "TCP 14:58  ESTABLISHED [fd00::2]:4000     [fd00::1]:80       [fd00::9]:8080\n" in text
    assert "TCP 180:00 NONE        10.0.0.9:0         10.32.91.161:80    10.244.3.3:8080\n" in text
    assert len(parse_connections(text)) == 4


def test_the_kernel_is_asked_where_the_tool_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    here = "/proc/thread-self/net/ip_vs"
    monkeypatch.setattr(tools.os.path, "exists", lambda path: path == here)
    monkeypatch.setattr(tools, "find_tool", lambda name: None)
    monkeypatch.setitem(ipvs.FACTS, "ipvs.txt", lambda: "as ipvsadm prints it\n")
    assert tools.ipvs("ipvs.txt", "-Ln") == (b"as ipvsadm prints it\n", "netlink")

    def refused() -> str:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setitem(ipvs.FACTS, "ipvs.txt", refused)
    with pytest.raises(Missing, match="not permitted") as caught:
        tools.ipvs("ipvs.txt", "-Ln")
    assert caught.value.code == "denied"
    monkeypatch.setattr(tools, "_find_pyroute2", lambda: __import__("no_such_library"))
    with pytest.raises(Missing, match="neither ipvsadm nor pyroute2"):
        tools.ipvs("ipvs.txt", "-Ln")


def test_an_agent_without_packages_finds_the_one_it_needs() -> None:
    """It starts with -I -S; where pyroute2 is installed beside the interpreter it is found all the same."""
    boot = (
        "import sys,types;p=types.ModuleType('k8snet_nb');p.__path__=[sys.argv[1]];sys.modules['k8snet_nb']=p;"
        "from k8snet_nb.agent import tools;import importlib.util as u;"
        "before=u.find_spec('pyroute2');tools._find_pyroute2();"
        "print(before is None, u.find_spec('pyroute2') is not None)"
    )
    package = str(Path(tools.__file__).parent.parent)
    command = [sys.executable, "-I", "-S", "-c", boot, package]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == ["True", "True"]
