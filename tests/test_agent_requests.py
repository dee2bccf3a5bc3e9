"""What an agent is asked beside facts, on this kernel: commands, pods that end, several at once, the facade."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import agent_nodes
import pytest
from agent_nodes import CID, PODS, UID, Nodes, agent_in
from kernel_nodes import (
    PREFIX,
    pod_cgroup,
)
from needs import need

import k8snet_nb as kn
from k8snet_nb.errors import AgentError, FactMissing, NotFound
from k8snet_nb.explain.pod_commands import rendered_command
from k8snet_nb.explain.pod_network import NoVethPair, VethPair
from k8snet_nb.facts import FactRef
from k8snet_nb.sources.agents import Agent, child_command
from k8snet_nb.sources.node import NodeSource

pytestmark = need(root=True, commands=["ip", "bridge", "bash", "ss", "setpriv"], kernel=["veth", "bridge"])
nodes, sources = agent_nodes.nodes, agent_nodes.sources


def test_running_commands_in_a_pod(nodes: Nodes, sources: dict[str, NodeSource]) -> None:
    source, pod = sources["two"], f"unknown/pod-{UID.format('3')}"
    ran = source.run(pod, ["ip", "-4", "-o", "addr", "show", "eth0"])
    assert (ran.status, ran.err, b"10.92.0.2/32" in ran.out) == (0, b"", True)
    apart = source.run(pod, ["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert (apart.status, apart.out, apart.err, apart.ended) == (7, b"out\n", b"err\n", "")
    start = time.monotonic()
    slow = source.run(pod, ["bash", "-c", f"echo begun; sleep 77 & exec -a {PREFIX}slow sleep 78"], seconds=0.5)
    assert (slow.ended, slow.out) == ("timed_out", b"begun\n")
    running = source.start_run(pod, ["bash", "-c", f"echo begun; exec -a {PREFIX}slow sleep 78"], seconds=60)
    time.sleep(0.5)
    assert not running.done
    running.cancel()
    stopped = running.result()
    assert (stopped.ended, stopped.out) == ("cancelled", b"begun\n")
    assert time.monotonic() - start < 6
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if PREFIX + "slow" in _text(p)]
    flood = source.run(pod, ["sh", "-c", "yes | head -c 40000000"])
    assert (flood.ended, len(flood.out)) == ("too_much", 32 * 1024 * 1024)
    with pytest.raises(AgentError, match="no program no-such"):
        source.run(pod, ["no-such"])
    with pytest.raises(AgentError, match="list of words"):
        source.run(pod, ["echo", "a\0b"])
    with pytest.raises(NotFound, match="pods here"):
        source.run("default/nobody", ["true"])


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def test_a_pod_that_ended_is_said_to_be_gone(nodes: Nodes, sources: dict[str, NodeSource]) -> None:
    source, uid = sources["one"], UID.format("7")
    pod = nodes.machine.namespace("p7")
    pid = nodes.machine.process(pod, "/pause", pod_cgroup(uid, CID.format(7)))
    ref = FactRef("addr.json", "one", f"unknown/pod-{uid}")
    source.read(ref)
    nodes.machine.kill(pid)
    with pytest.raises(FactMissing, match="no process carries the pod's uid") as caught:
        source.read(ref)
    assert "look again" in str(caught.value)
    with pytest.raises(AgentError, match="no process carries"):
        source.run(ref.pod or "", ["true"])
    with agent_in(nodes.names["one"]) as agent:
        assert agent.fact("addr.json", pid=pid).code == "gone"
        other = agent.fact("addr.json", pid=nodes.pids["1"], inode=5)
        assert (other.code, "not 5" in other.why) == ("gone", True)
        assert agent.fact("addr.json", path="/etc/passwd").code == "gone"
        assert agent.fact("no-such.txt").code == "absent"
        assert agent.fact("lsns.json", pid=nodes.pids["1"]).code == "absent"


def test_a_dying_agent_is_one_clear_error_and_leaves_nothing(nodes: Nodes) -> None:
    descriptors = {path.name for path in Path("/proc/self/fd").iterdir()}
    agent = agent_in(nodes.names["one"])
    agent.hello()
    running = agent.start_run(["sleep", "66"], {"pid": nodes.pids["1"]}, 60)
    time.sleep(0.3)
    # The youngest child is the agent that was just started.
    pid = max(int(child) for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())
    os.kill(pid, 9)
    with pytest.raises(AgentError, match=r"cannot be asked: it ended .*-9"):
        running.result()
    with pytest.raises(AgentError, match="Open the source again"):
        agent.fact("addr.json")
    assert not agent.alive
    agent.close()
    assert {path.name for path in Path("/proc/self/fd").iterdir()} == descriptors
    assert not Path(f"/proc/{pid}").exists()
    time.sleep(0.2)
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if _text(p) == "sleep\x0066\x00"]


def test_without_root_it_says_what_is_lacking(nodes: Nodes) -> None:
    command = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *child_command("/usr/bin/python3")]
    with Agent.start(command) as agent:
        assert agent.hello()["euid"] == 65534
        assert agent.fact("addr.json").data is not None
        inside = agent.fact("addr.json", pid=nodes.pids["1"])
        assert (inside.data, inside.code) == (None, "denied")
        assert "root" in inside.why
        named = agent.fact("addr.json", path=f"/run/netns/{nodes.pods['1']}")
        assert (named.data, named.code) == (None, "denied")
        pod = agent.fact("addr.json", pod=[UID.format("1")])
        assert (pod.data, pod.code) == (None, "denied")
        assert "may not be read" in (agent.fact("processes.json").note or "")


def test_several_threads_may_ask_at_once(nodes: Nodes, sources: dict[str, NodeSource]) -> None:
    found: list[bool] = []

    def ask() -> None:
        found.append(b"cni0" in sources["one"].read(FactRef("addr.json", "one")))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8


def test_the_facade_over_this_machine(nodes: Nodes, sources: dict[str, NodeSource]) -> None:
    """The same questions as on a recording, with the same answers' types."""
    cluster = kn.Cluster(sources["two"])
    key = f"unknown/pod-{UID.format('3')}"
    pod = cluster.pod(key)
    assert (pod.ip, pod.sandbox_pid) == ("10.92.0.2", nodes.pids["3"])
    pair = pod.veth()
    assert isinstance(pair, VethPair)
    assert pair.node_interface.name == "vetha"
    live = pod.run(["ip", "addr"])
    assert (live.rendered, live.status, "10.92.0.2/32" in live.stdout) == (False, 0, True)
    facts = {fact: sources["two"].read(FactRef(fact, "two", key)) for fact in ("addr.json", "nsid.json")}
    rendered = rendered_command(["ip", "addr"], facts.__getitem__, FactRef("addr.json", "two", key))
    assert rendered.stdout.replace(" proto kernel_lo", "").replace(" proto kernel_ll", "") == live.stdout
    frame = cluster.node("two").interfaces().set_index("name")
    assert frame.loc["vetha", "pod"] == key
    with pytest.raises(FactMissing, match="kubeconfig"):
        cluster.services()


class FakeApi:
    """The pods and nodes of an API server that knows one pod of node ``one``."""

    def __init__(self) -> None:
        self.pod: dict[str, Any] = {}

    def set(self, uid: str, address: str) -> None:
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
        self.pod = {
            "metadata": {"namespace": "shop", "name": "cart", "uid": uid},
            "spec": {"nodeName": "one", "containers": [{"name": "c"}]}, "status": status,
        }  # fmt: skip

    def __call__(self, resource: str) -> bytes:
        node = {"metadata": {"name": "one"}, "spec": {}, "status": {}}
        return json.dumps({"kind": "List", "items": {"pods": [self.pod], "nodes": [node]}[resource]}).encode()


def test_a_pod_made_anew_under_its_name_is_looked_up_afresh(nodes: Nodes) -> None:
    api = FakeApi()
    api.set(UID.format("8"), "10.91.0.2")
    old = nodes.machine.process(nodes.pods["1"], "/pause", pod_cgroup(UID.format("8"), CID.format(8)))
    with kn.Cluster(NodeSource(api, agent_in(nodes.names["one"]), "one", "/nonexistent")) as cluster:
        pod = cluster.pod("shop/cart")
        assert pod.sandbox_pid == old
        nodes.machine.kill(old)
        new = nodes.machine.process(nodes.pods["2"], "/pause", pod_cgroup(UID.format("9"), CID.format(9)))
        api.set(UID.format("9"), "10.91.0.3")
        assert "10.91.0.3" in pod.run(["ip", "-4", "-o", "addr"]).stdout
        assert "10.91.0.3/24" in [ip for ips in pod.interfaces().addresses for ip in ips]
        assert (pod.sandbox_pid, pod.ip) == (new, "10.91.0.3")
        assert isinstance(cluster.source, NodeSource)
        assert not isinstance(pod.veth(), NoVethPair)
        nodes.machine.kill(new)


@pytest.mark.parametrize("digit", ["1", "4"])
def test_a_pod_without_a_process_is_entered_by_its_bound_namespace(nodes: Nodes, digit: str) -> None:
    """On a bridge by the neighbour and its port, else by the route to it alone."""
    short, address, host = PODS[digit]
    api = FakeApi()
    api.set("77777777-2222-3333-4444-555555555555", address)
    api.pod["spec"]["nodeName"] = short
    with kn.Cluster(NodeSource(api, agent_in(nodes.names[short]), short, "/nonexistent")) as cluster:
        pod = cluster.pod("shop/cart")
        box = pod.sandbox
        assert box.pid is None
        assert box.netns == Path(f"/run/netns/{nodes.pods[digit]}").stat().st_ino
        assert address in str(list(pod.interfaces().addresses))
        assert address in pod.run(["ip", "-4", "-o", "addr"]).stdout
        pair = pod.veth()
        assert isinstance(pair, VethPair)
        assert pair.node_interface.name == host
        api.pod["status"]["phase"] = "Failed"  # its address may be another pod's by now
        with pytest.raises(AgentError, match="look again"):
            pod.run(["true"])
        question = {"server": "127.0.0.1", "wire": base64.b64encode(bytes(12)).decode(), "timeout": 1}
        assert isinstance(cluster.source, NodeSource)
        with pytest.raises(AgentError, match=r"could not ask 127.0.0.1.*look again"):
            cluster.source.exchange("shop/cart", question)


@need(kernel=["nf_conntrack"])
def test_events_of_a_pod_made_anew_are_those_of_the_new_one(nodes: Nodes) -> None:
    api = FakeApi()
    api.set(UID.format("8"), "10.91.0.2")
    old = nodes.machine.process(nodes.pods["1"], "/pause", pod_cgroup(UID.format("8"), CID.format(8)))
    with NodeSource(api, agent_in(nodes.names["one"]), "one", "/nonexistent") as source:
        ref = FactRef("conntrack-events.txt", "one", "shop/cart")
        source.watch(ref).close()
        nodes.machine.kill(old)
        new = nodes.machine.process(nodes.pods["2"], "/pause", pod_cgroup(UID.format("9"), CID.format(9)))
        api.set(UID.format("9"), "10.91.0.3")
        watching = source.watch(ref)
        assert watching.take()[2] == 0
        watching.close()
        nodes.machine.kill(new)


def test_without_root_the_facade_says_what_it_does_not_know(nodes: Nodes) -> None:
    command = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *child_command("/usr/bin/python3")]
    agent = Agent.start(["ip", "netns", "exec", nodes.names["one"], *command])
    with kn.Cluster(NodeSource(agent=agent, node="one", logs="/nonexistent")) as cluster:
        pod = cluster.pod(f"unknown/pod-{UID.format('6')}")
        assert pod.host_network is None
        box = pod.sandbox
        assert (box.pid, box.netns, box.reason) == (nodes.pids["6"], None, "denied")
        assert "root" in box.text
        rows = cluster.sandboxes().set_index("name")
        assert rows.host_network.isna().all()
        assert cluster.pods().host_network.isna().all()
        with pytest.raises(AgentError, match="Run Jupyter as root") as caught:
            pod.run(["true"])
        assert caught.value.code == "denied"


def test_who_told_a_fact_is_in_the_list_of_facts(sources: dict[str, NodeSource]) -> None:
    source = sources["one"]
    source.read(FactRef("addr.json", "one"))
    told = kn.Cluster(source).node("one").facts().set_index("fact").whose
    assert told["addr.json"] == "netlink"
