"""What a node of a twin is asked: nothing that it is asked ends it, and nothing changes what is the machine's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from needs import need
from twin.running import twin_of

from k8snet_nb.errors import TwinError
from k8snet_nb.sources.twin import TwinSource
from k8snet_nb.twin.model import LeftOut, NodePlan, Space
from k8snet_nb.twin.node_init import Node
from k8snet_nb.twin.spaces import LONGEST_HOST

pytestmark = need(root=True, commands=["ip", "nft", "iptables-nft-restore", "unshare"])
NODE = "node-one"


@pytest.fixture(scope="module")
def source() -> Iterator[TwinSource]:
    with twin_of(nodes=[NODE]) as cluster:
        assert isinstance(cluster.source, TwinSource)
        yield cluster.source


@pytest.mark.parametrize(
    "request_",
    [
        {"op": "nonsense"},
        {"op": ["agent"]},
        {"op": "servers"},
        {"op": "servers", "action": "stop", "pod": []},
        {"op": "servers", "action": "start", "pod": "no/pod"},
        {"op": "answer", "name": 5, "type": "A"},
        {"op": "connect"},
        {"op": "connect", "plan": {"protocol": "tcp", "nonsense": 1}},
        {"op": "tally", "plans": 7},
        {"op": "tool", "argv": [None]},
        {"op": "tool", "argv": ["true"], "pod": "no/pod"},
    ],
)
def test_a_request_that_cannot_be_done_is_answered_and_the_node_goes_on(
    source: TwinSource, request_: dict[str, Any]
) -> None:
    with pytest.raises(TwinError):
        source.ask(NODE, request_, 20)
    assert source.twin.ask({"op": "status"})["ended"] == []
    assert source.ask(NODE, {"op": "tool", "argv": ["true"]})["status"] == 0


def test_a_request_may_be_longer_than_a_packet(source: TwinSource) -> None:
    assert source.ask(NODE, {"op": "tool", "argv": ["true"], "stdin": "x" * 2_000_000})["status"] == 0


@pytest.mark.parametrize(
    "path", ["kernel/pid_max", "net/../kernel/pid_max", "/proc/sys/kernel/pid_max", "vm/swappiness"]
)
def test_settings_of_the_machine_are_refused(source: TwinSource, path: str) -> None:
    before = Path("/proc/sys/kernel/pid_max").read_text()
    with pytest.raises(TwinError, match="no setting of a network namespace"):
        source.ask(NODE, {"op": "sysctl", "path": path, "value": before.strip()})


def test_a_longer_name_than_a_host_may_have_is_cut_and_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = "node." + "x" * LONGEST_HOST
    monkeypatch.setattr("k8snet_nb.twin.node_init.RUN", tmp_path)
    monkeypatch.setattr("k8snet_nb.twin.spaces.hide_machine", lambda: None)
    monkeypatch.setattr("k8snet_nb.twin.spaces.name_host", lambda _: None)
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: None)
    node = Node(NodePlan(name, Space(()), ()), None)
    node.prepare()
    assert node.left_out == [
        LeftOut(name, "node.json", name, "a host name has 64 bytes at most: this node's is cut there")
    ]
