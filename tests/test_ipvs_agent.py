"""The agent's reading of IPVS, as far as it needs no kernel that has it (guest/test_ipvs_truth.py has the rest)."""

from __future__ import annotations

from pathlib import Path

import pytest

from k8snet_nb.agent import ipvs
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
