"""Connection tracking through the whole chain: a namespace of this kernel, the agent in it, the source, the façade."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator

import pytest
from kernel_nodes import Machine
from needs import need
from waiting import until

import k8snet_nb as kn
from k8snet_nb.agent import conntrack as agent_conntrack
from k8snet_nb.agent import watch as watch_module
from k8snet_nb.cluster import Cluster
from k8snet_nb.cluster.tracking import kernel_filter
from k8snet_nb.errors import AgentError, FactMissing, Refused
from k8snet_nb.facts import FactRef
from k8snet_nb.parse.conntrack import parse_conntrack
from k8snet_nb.sources.agents import Agent, child_command
from k8snet_nb.sources.conversation import Slot
from k8snet_nb.sources.node import NodeSource

pytestmark = need(root=True, commands=["ip", "conntrack", "setpriv"], kernel=["nf_conntrack"])

VIP, BACKEND, CLIENT = "10.32.0.9", "10.91.0.2", "10.91.0.3"
TRANSLATED = f"-s {CLIENT} -d {VIP} -p tcp --sport 4001 --dport 80 --reply-src {BACKEND} --reply-dst {CLIENT}"
ENTRIES = (
    f"{TRANSLATED} --reply-port-src 8080 --reply-port-dst 4001 --state ESTABLISHED -u SEEN_REPLY,ASSURED",
    f"-s {CLIENT} -d {VIP} -p udp --sport 4002 --dport 53",
    f"-s {CLIENT} -d {BACKEND} -p tcp --sport 4003 --dport 80 --state SYN_SENT",
    "-s fd00::1 -d fd00::2 -p udp --sport 4004 --dport 53 -u SEEN_REPLY",
    f"-s {CLIENT} -d {VIP} -p icmp --icmp-type 8 --icmp-code 0 --icmp-id 7",
)


def run(namespace: str, *words: str) -> bytes:
    return subprocess.run(["ip", "netns", "exec", namespace, *words], check=True, capture_output=True).stdout


def add(namespace: str, entry: str) -> None:
    run(namespace, "conntrack", "-I", "-t", "3000", *entry.split())


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    machine = Machine()
    try:
        name = machine.namespace("ct")
        for entry in ENTRIES:
            add(name, entry)
        yield name
    finally:
        machine.clear()


@pytest.fixture(scope="module")
def cluster(namespace: str) -> Iterator[Cluster]:
    agent = Agent.start(["ip", "netns", "exec", namespace, *child_command()], name="node")
    with NodeSource(agent=agent, node="node", logs="/nonexistent") as source:
        yield Cluster(source)


def test_text_and_netlink_agree_through_the_whole_chain(cluster: Cluster, namespace: str) -> None:
    live = cluster.node("node").conntrack()
    told = parse_conntrack(cluster.source.read(FactRef("conntrack.txt", "node")))
    own = parse_conntrack(run(namespace, "conntrack", "-L", "-o", "extended,id"))
    assert len(live) == len(told) == len(own) == len(ENTRIES)
    assert live.problems == told.problems == ()
    frames = [table.frame.drop(columns="timeout").set_index("id").sort_index() for table in (live, told, own)]
    assert frames[0].equals(frames[1])
    assert frames[0].equals(frames[2])
    assert ((live.frame["timeout"] - told.frame["timeout"]).abs() <= 5).all()
    assert "by netlink" in live.evidence[0].says
    assert live.evidence[0].command == "conntrack -L -o extended,id"


@pytest.mark.parametrize(
    ("filters", "count", "asked"),
    [
        ({"destination": VIP}, 3, {"destination": VIP}),
        ({"destination": VIP, "protocol": "udp", "port": 53}, 1,
         {"destination": VIP, "protocol": "udp", "port": 53}),
        ({"destination": "10.32.0.0/24", "source": CLIENT}, 3, {"source": CLIENT}),
        ({"reply_source": BACKEND}, 2, {"reply_source": BACKEND}),
        ({"destination": "fd00::2"}, 1, {"destination": "fd00::2"}),
        ({"state": "established"}, 1, {}),
        ({"port": 53}, 2, {}),
        ({"source": CLIENT, "destination": "fd00::2"}, 0, {}),
        ({"destination": BACKEND, "port": 443}, 0, {"destination": BACKEND}),
    ],
)  # fmt: skip
def test_filters_ask_the_kernel_and_hold_anyway(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, filters: dict[str, object], count: int, asked: dict[str, object]
) -> None:
    assert kernel_filter(filters) == asked
    if asked:
        monkeypatch.setattr(cluster.source, "read", lambda ref: pytest.fail("the whole table was read"))
    found = cluster.node("node").conntrack(**filters)
    assert len(found) == count
    whole = parse_conntrack(cluster.source.read(FactRef("conntrack.txt", "node"))) if not asked else None
    assert whole is None or len(whole.where(**filters)) == count  # type: ignore[arg-type]


def test_the_kernel_itself_leaves_out_what_is_not_asked_for(cluster: Cluster) -> None:
    source = cluster.source
    assert isinstance(source, NodeSource)
    ref = FactRef("conntrack.netlink", "node")
    assert len(source.read_filtered(ref, {"destination": VIP})) < len(source.read(ref))
    with pytest.raises(FactMissing, match="a filter that is none"):
        source.read_filtered(ref, {"colour": "red"})
    with pytest.raises(FactMissing, match="a filter that is none"):
        source.read_filtered(ref, {"destination": "10.0.0.1", "source": "fd00::1"})


def test_usage_of_a_live_node(cluster: Cluster) -> None:
    usage = cluster.node("node").conntrack_usage()
    assert usage.count == len(ENTRIES)
    assert usage.maximum
    assert usage.drops == 0
    assert usage.series is not None
    assert usage.protocols == {"tcp": 2, "udp": 2, "icmp": 1}


def test_flows_need_the_api_and_say_so(cluster: Cluster) -> None:
    with pytest.raises(FactMissing, match="services of the Kubernetes API"):
        cluster.node("node").flows()


def test_a_live_chart_samples_the_node_and_leaves_no_thread(cluster: Cluster) -> None:
    chart = kn.conntrack_live(cluster.node("node"), interval=0.05)
    assert "node, live" in chart.title
    chart.start()
    try:
        until(lambda: len(chart.series) >= 3)
        assert set(chart.series.counts.tolist()) == {len(ENTRIES)}
        chart.pause()
        time.sleep(0.3)
        before = len(chart.series)
        time.sleep(0.3)
        assert len(chart.series) == before
        chart.start()
        until(lambda: len(chart.series) > before)
    finally:
        chart.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "k8snet-live"]


def test_an_event_list_shows_what_happens(cluster: Cluster, namespace: str) -> None:
    events = kn.conntrack_events(cluster.node("node"), interval=0.05)
    events.start()
    try:
        time.sleep(1.0)
        entry = f"-s {CLIENT} -d {VIP} -p udp --sport 4100 --dport 53"
        add(namespace, entry)
        run(namespace, "conntrack", "-D", *entry.split())
        until(lambda: events.total >= 2)
        assert [row[1] for row in events.rows] == ["NEW", "DESTROY"]
        assert f"{CLIENT}:4100 to {VIP}:53" in events.text
        assert events.error is None
        events.stop()
        add(namespace, entry)
        run(namespace, "conntrack", "-D", *entry.split())
        time.sleep(0.3)
        assert events.total == 2
    finally:
        events.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "k8snet-live"]


def test_events_of_some_seconds(cluster: Cluster, namespace: str) -> None:
    entry = f"-s {CLIENT} -d {VIP} -p udp --sport 4200 --dport 53"
    timers = [threading.Timer(0.8, add, (namespace, entry)),
              threading.Timer(1.1, run, (namespace, "conntrack", "-D", *entry.split()))]  # fmt: skip
    for timer in timers:
        timer.start()
    events = cluster.node("node").conntrack_events(seconds=2.5)
    for timer in timers:
        timer.join()
    assert events.frame["event"].tolist() == ["NEW", "DESTROY"]
    assert events.frame["time"].notna().all()


def test_listeners_end_with_their_close(cluster: Cluster) -> None:
    source = cluster.source
    assert isinstance(source, NodeSource)
    for _ in range(20):  # more than the agent serves at once
        source.watch(FactRef("conntrack-events.txt", "node")).close()
        time.sleep(0.05)
    watching = source.watch(FactRef("conntrack-events.txt", "node"))
    assert watching.take() == ([], [], 0)
    watching.close()


def test_a_listener_whose_agent_ends_says_so(namespace: str) -> None:
    agent = Agent.start(["ip", "netns", "exec", namespace, *child_command()], name="node")
    watching = agent.watch({})
    agent.close()
    with pytest.raises(AgentError, match="cannot be asked"):
        watching.take()
    short = Agent.start(["ip", "netns", "exec", namespace, *child_command()], name="node")
    try:
        over = short.watch({}, seconds=0.3)
        time.sleep(1.5)
        with pytest.raises(AgentError, match="time is over"):
            over.take()
    finally:
        short.close()


def test_without_the_right_it_says_so(namespace: str) -> None:
    drop = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    command = ["ip", "netns", "exec", namespace, *drop, *child_command("/usr/bin/python3")]
    with NodeSource(agent=Agent.start(command, name="node"), node="node", logs="/nonexistent") as source:
        node = Cluster(source).node("node")
        with pytest.raises(FactMissing, match=r"CAP_NET_ADMIN.*Run Jupyter as root"):
            node.conntrack()
        with pytest.raises(FactMissing, match="CAP_NET_ADMIN"):
            node.conntrack(destination=VIP)
        with pytest.raises(FactMissing, match="CAP_NET_ADMIN"):
            node.conntrack_events(seconds=0.1)
        usage = node.conntrack_usage()  # the sysctls are for everybody
        assert usage.count == len(ENTRIES)
        assert "CAP_NET_ADMIN" in " ".join(usage.notes)


def test_a_kernel_that_tracks_nothing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_conntrack, "_COUNT", "/nonexistent")
    for ask in (agent_conntrack.table, agent_conntrack.sample, agent_conntrack.stats_text, agent_conntrack.Events):
        with pytest.raises(agent_conntrack.Missing, match="not loaded") as caught:
            ask()
        assert caught.value.code == "absent"


def test_slips_in_filters_are_no_empty_tables(cluster: Cluster) -> None:
    node = cluster.node("node")
    for slip in ({"destination": "hello-world"}, {"protocol": "tpc"}, {"state": "ESTABLISHD"}, {"port": "80"}):
        with pytest.raises(Refused):
            node.conntrack(**slip)  # type: ignore[arg-type]


def test_answers_that_nobody_takes_are_bounded_and_counted() -> None:
    slot = Slot()
    for _ in range(300):
        slot.add({"pieces": [], "dropped": 0}, b"")
    assert (len(slot.more), slot.lost) == (256, 44)


def test_what_the_kernel_dropped_reaches_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dropping:
        dropped = 3

        def read(self, timeout: float) -> bytes:
            time.sleep(timeout)
            return b""

        def close(self) -> None:
            pass

    monkeypatch.setattr(watch_module, "Events", Dropping)
    answers = watch_module.watch({}, 1.0)
    assert next(answers)[0]["dropped"] == 0
    assert next(answers)[0]["dropped"] == 3
