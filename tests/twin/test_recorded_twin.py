"""A twin is recorded as a cluster is, the recording answers as the first one does, and can be brought to life again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from needs import need

from k8snet_nb.cluster import Cluster
from k8snet_nb.errors import K8snetError
from k8snet_nb.explain.entry import ENTRIES
from k8snet_nb.record import check_recording, record
from k8snet_nb.sources.opening import open_source
from k8snet_nb.sources.twin import TwinSource
from k8snet_nb.sources.twin_control import twin_folders
from k8snet_nb.twin.making import down, up

pytestmark = need(
    root=True, commands=["ip", "nft", "iptables-nft-restore", "ipset", "ipvsadm", "conntrack", "linux.uml"]
)


@pytest.fixture
def twins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="k8tw") as folder:
        monkeypatch.setenv("K8SNET_TWINS", f"{folder}/twins")
        yield
        for twin in twin_folders():
            down(twin)


def answers(recording: Path | None) -> dict[tuple[object, ...], object]:
    """What becomes of a connection to every Service and port, by every way in, on every node."""
    found: dict[tuple[object, ...], object] = {}
    with Cluster(open_source(recording)) as cluster:
        for key, service in cluster.api.services.items():
            for port in service.ports:
                for node in cluster.source.nodes():
                    for entry in ENTRIES:
                        where = (key, port.port, port.protocol, node, entry)
                        found[where] = _answer(cluster, key, port.name or port.port, node, entry)
    return found


def _answer(cluster: Cluster, key: str, port: str | int, node: str, entry: str) -> object:
    try:
        said = cluster.translate(key, port, node, entry)
    except K8snetError as error:
        return type(error).__name__
    ends = sorted((each.address, each.port, each.probability) for each in said.backends)
    return said.action, said.masquerade, ends


def test_a_recording_of_a_twin_answers_as_the_first_and_lives_again(tmp_path: Path, twins: None) -> None:
    first = answers(None)
    assert len(first) > 100
    assert sum(isinstance(answer, tuple) for answer in first.values()) > 50
    for generation in ("child", "grandchild"):
        before = tmp_path / "child" if generation == "grandchild" else None
        twin, left_out = up(before, name=generation)
        # the guest's kernel has no nf_tables, so nothing was asked for it: a second twin says that of its node
        told = [("node-three", "nft.json")] if before is not None else []
        assert [(one.node, one.fact) for one in left_out] == told
        with_twin = TwinSource(folder=twin)
        try:
            record(with_twin, tmp_path / generation, dns=False)
        finally:
            with_twin.close()
            down(twin)
        checked = check_recording(tmp_path / generation)
        assert checked.good, str(checked)
        again = answers(tmp_path / generation)
        assert {where: (first[where], again[where]) for where in first if first[where] != again[where]} == {}
