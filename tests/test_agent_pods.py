"""Agents in pods: real processes in namespaces of this kernel, reached by exec over a real websocket."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import live_agents
import pytest
from api_server import TOKEN, FakeCluster
from live_agents import QUICK, ROOT, ended, opened, soon
from needs import need

import k8snet_nb as kn
from k8snet_nb import cli
from k8snet_nb.errors import FactMissing, Refused
from k8snet_nb.facts import FactRef
from k8snet_nb.record import check_recording, record
from k8snet_nb.record.over_time import Spans
from k8snet_nb.sources.agent_pods import clean
from k8snet_nb.sources.opening import BUNDLED

pytestmark = need(root=True, commands=["ip", "nsenter", "openssl"], modules=["kubernetes"])
spaces, any_server, server = live_agents.spaces, live_agents.any_server, live_agents.server


def test_two_nodes_are_read_each_in_its_own_namespace_and_everything_is_taken_away(any_server: FakeCluster) -> None:
    cluster, source = opened()
    with source:
        assert source.nodes() == ("node-one", "node-two")
        assert source.describe().endswith("agents on 2 nodes, none on node-three")
        for number, node in enumerate(source.nodes(), 1):
            addresses = [a.address for link in cluster.node(node).links() for a in link.addresses]
            assert f"172.31.9.{number}" in addresses
            assert cluster.node(node).proxy_mode is None, "no rules; and no legacy tables, which is no error"
        assert sorted(any_server.made)[0].startswith("Job k8snet/k8snet-agent-")
        assert len(any_server.made) == 3
        with pytest.raises(FactMissing, match="not ready"):
            cluster.node("node-three").links()
        both = source.read_many([FactRef(fact, node) for node in source.nodes() for fact in ("addr.json", "rule.json")])
        assert all(told.data for told in both.values())
        large = source.read(FactRef("processes.json", "node-one"))
        assert json.loads(large)
    assert soon(lambda: ended(any_server), 5)
    assert any_server.jobs == {}
    with pytest.raises(FactMissing, match="agents are off"):
        source.read(FactRef("addr.json", "node-one"))


def test_some_nodes_only(server: FakeCluster) -> None:
    cluster, source = opened(agents=["node-two"])
    with source:
        assert source.nodes() == ("node-two",)
        with pytest.raises(FactMissing, match="not asked for"):
            cluster.node("node-one").links()


def test_an_agent_that_died_is_started_anew(server: FakeCluster) -> None:
    _, source = opened(agents=["node-one"], idle=60)
    with source:
        server.conversations[0].kill()
        server.conversations[0].wait()
        assert soon(lambda: source._pods is not None and not source._pods.running())
        assert source.read(FactRef("rule.json", "node-one"))
        assert len([line for line in server.made if line.startswith("Job")]) == 1, "the pod was still good"


def test_a_pod_of_an_earlier_session_is_used_again(server: FakeCluster) -> None:
    _, first = opened(agents=["node-one"], idle=60)
    second_cluster, second = opened(agents=["node-one"])
    with first:
        with second:
            assert second_cluster.node("node-one").links()
        assert len([line for line in server.made if line.startswith("Job")]) == 1
        assert first.read(FactRef("rule.json", "node-one")), "the one that made it still has it"
    assert server.jobs == {}


SESSION = """
import os, sys, time
import kubernetes.config.kube_config as config
config.KUBE_CONFIG_DEFAULT_LOCATION = sys.argv[1]
import k8snet_nb as kn
cluster = kn.open("live", agents=True, idle=2, time_to_live=1, heartbeat=3)
print("ready", *cluster.source.nodes(), flush=True)
sys.stdin.readline()
"""


def session(server: FakeCluster, tmp_path: Path) -> subprocess.Popen[str]:
    path = server.kubeconfig(tmp_path / "theirs")
    child = subprocess.Popen(
        [sys.executable, "-c", SESSION, str(path)], text=True, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready node-one node-two\n"
    assert len(server.conversations) == 2
    assert not any(process.poll() is not None for process in server.conversations)
    return child


@pytest.mark.parametrize("way", ["killed", "hung", "left"])
def test_whatever_becomes_of_the_notebook_nothing_stays(server: FakeCluster, tmp_path: Path, way: str) -> None:
    child = session(server, tmp_path)
    try:
        if way == "killed":
            child.send_signal(signal.SIGKILL)
        elif way == "hung":
            child.send_signal(signal.SIGSTOP)  # its connections stay open, and nothing comes through them
        else:
            child.communicate("\n", timeout=20)
            assert server.jobs == {}, "deleted at the interpreter's exit"
        agents_only = lambda: all(process.poll() is not None for process in server.conversations)  # noqa: E731
        assert soon(agents_only, 3 + 3), "the agents end within their heartbeat"
        assert soon(lambda: ended(server), 2 + 3), "the pods' own processes end when no agent came for a while"
        assert soon(lambda: server.jobs == {}, 1 + 2), "the Jobs' time to live"
    finally:
        child.kill()
        child.communicate()


def test_what_is_left_is_cleaned(server: FakeCluster) -> None:
    _, source = opened(agents=["node-one"])
    told = clean(source.api.connection, "k8snet")
    assert [line.split(" ")[:2] for line in told] == [["deleted", "Job"], ["deleted", "Namespace"]]
    assert server.jobs == {}
    assert server.namespaces == {}
    assert clean(source.api.connection, "k8snet") == []
    source.close()


def test_an_agents_panel_lists_first_and_creates_when_it_is_pressed(server: FakeCluster) -> None:
    cluster = kn.open("live", **QUICK)
    shown = kn.live_agents(cluster)
    assert "create" in shown.text
    assert "node-two" in shown.text
    assert "user jane@example.org" in shown.text
    assert "Nothing has been created." in shown.text
    assert server.made == []
    shown.start_button.click()
    shown.wait(30)
    assert "Agents on node-one, node-two; without: node-three." in shown.text
    assert cluster.node("node-one").links()
    assert "<table" in shown._repr_mimebundle_()["text/html"]
    shown.remove_button.click()
    shown.wait(30)
    assert server.jobs == {}
    with pytest.raises(Refused, match="agents are for a live cluster"):
        kn.live_agents(kn.open(BUNDLED))


def test_a_recording_of_the_live_cluster_gives_its_answers(server: FakeCluster, tmp_path: Path) -> None:
    cluster, source = opened()
    with source:
        told = record(source, tmp_path / "out", spans=Spans(2.5, 1.0))
        assert told.nodes == ("node-one", "node-two")
        read = kn.open(tmp_path / "out")
        for node in told.nodes:
            assert read.node(node).links() == cluster.node(node).links()
            assert read.node(node).routes() == cluster.node(node).routes()
            assert read.node(node).proxy_mode == cluster.node(node).proxy_mode
            about = json.loads(read.source.read(FactRef("node.json", node)))
            assert about["told_by"]["addr.json"] == "netlink"
            assert "addr.json" in about["times"]
            ref = FactRef("addr.json", node)
            assert read.source.read(ref) == source.read(ref)
            moment = source.time(ref)
            assert moment is not None
            assert read.source.time(ref) == moment.replace(microsecond=0)
        assert read.pods().drop(columns="age").equals(cluster.pods().drop(columns="age"))
        assert read.drift()[["code", "node"]].equals(cluster.drift(settle=0.01)[["code", "node"]])
    assert check_recording(tmp_path / "out").good
    count = (tmp_path / "out/nodes/node-one/conntrack-count.csv").read_text().splitlines()
    assert len(count) == 4
    assert TOKEN not in "".join(p.read_text(errors="replace") for p in (tmp_path / "out").rglob("*") if p.is_file())


def test_the_command_records_live_and_cleans(
    server: FakeCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["record", str(tmp_path / "api"), "--namespace", "k8snet"]) == 0
    said_there = capsys.readouterr()
    assert "only the API is recorded" in said_there.err
    assert "user jane@example.org" in said_there.err
    assert server.made == []
    assert TOKEN not in said_there.out + said_there.err
    assert len(kn.open(tmp_path / "api").pods()) > 5
    assert cli.main(["clean"]) == 0
    assert "nothing of k8snet" in capsys.readouterr().out
