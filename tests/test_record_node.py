"""A node made of this kernel's namespaces, recorded: what is read back says what the node said."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel_nodes import Machine, bridge_node, need_cgroups, pod_cgroup, pod_on_bridge
from needs import need

import k8snet_nb as kn
from k8snet_nb.facts import FactRef
from k8snet_nb.record import check_recording, record
from k8snet_nb.record.redact import Redactor
from k8snet_nb.sources.agents import Agent, child_command
from k8snet_nb.sources.node import NodeSource

pytestmark = [
    need(root=True, commands=["ip", "bridge", "bash"], kernel=["veth", "bridge"]),
]
UIDS = {f"3333333{n}-2222-4333-8444-555555555555": f"10.91.0.{n + 1}" for n in (1, 2)}


@pytest.fixture(scope="module")
def source() -> Iterator[NodeSource]:
    need_cgroups()
    machine = Machine()
    try:
        node = bridge_node(machine, "rec")
        for number, (uid, address) in enumerate(UIDS.items()):
            pod = pod_on_bridge(machine, node, f"rp{number}", f"veth{number}abc", address)
            machine.process(pod, "/pause", pod_cgroup(uid, f"{number + 1:064x}"))
        time.sleep(2.0)  # duplicate address detection
        agent = Agent.start(["ip", "netns", "exec", node, *child_command()], name=node)
        with NodeSource(agent=agent, node="here", logs="/nonexistent") as opened:
            yield opened
    finally:
        machine.clear()


def mine(cluster: kn.Cluster) -> list[str]:
    found = [key for key in cluster.api.pods if key.split("pod-", 1)[-1] in UIDS]
    assert len(found) == 2
    return found


def test_what_is_read_back_is_what_the_node_said(source: NodeSource, tmp_path: Path) -> None:
    told = record(source, tmp_path / "out", progress=None)
    assert told.nodes == ("here",)
    expected = ("not loaded", "no kubeconfig", "the node has no", "/etc/resolv.conf")
    assert {place: why for place, why in told.missing.items() if not why.startswith(expected)} == {}
    assert "services" in told.missing
    assert check_recording(tmp_path / "out").good
    live, read = kn.Cluster(source), kn.open(tmp_path / "out")
    for key in mine(live):
        assert read.pod(key).ips == live.pod(key).ips
        assert read.pod(key).netns == live.pod(key).netns
        before, after = live.pod(key).veth(), read.pod(key).veth()
        assert after.node_interface.ifindex == before.node_interface.ifindex  # type: ignore[union-attr]
        assert after.master == before.master == "cni0"  # type: ignore[union-attr]
        assert read.pod(key).interfaces().equals(live.pod(key).interfaces())
    assert [link.name for link in read.node("here").links()] == [link.name for link in live.node("here").links()]
    assert read.node("here").interfaces()["pod"].tolist() == live.node("here").interfaces()["pod"].tolist()
    assert read.source.trouble(FactRef("services")) == told.missing["services"]


class WithServices:
    """A redaction needs the Services' names; this node knows of none."""

    def __init__(self, source: NodeSource) -> None:
        self._source = source

    def __getattr__(self, name: str) -> object:
        return getattr(self._source, name)

    def read(self, ref: FactRef) -> bytes:
        return b'{"kind": "ServiceList", "items": []}' if ref.fact == "services" else self._source.read(ref)


def test_redacted_it_is_wired_the_same(source: NodeSource, tmp_path: Path) -> None:
    redactor = Redactor()
    record(WithServices(source), tmp_path / "out", redaction=redactor)  # type: ignore[arg-type]
    live, read = kn.Cluster(source), kn.open(tmp_path / "out")
    for key in mine(live):
        before = live.pod(key).veth()
        after = read.pod("/".join(map(redactor.names.name, key.split("/")))).veth()
        assert before.node_interface.ifindex == after.node_interface.ifindex  # type: ignore[union-attr]
        assert after.master == "cni0"  # type: ignore[union-attr]
    for path in (path for path in (tmp_path / "out").rglob("*") if path.is_file()):
        for secret in (*UIDS, *UIDS.values(), "veth0abc", "10.91.0.1"):
            assert secret not in path.read_text(), path
            assert secret not in str(path)
