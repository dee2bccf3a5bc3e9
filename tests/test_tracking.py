"""Connection tracking from the façade on the recorded cluster: numbers counted with grep, and what is missing."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from waiting import until

import k8snet_nb as kn
from k8snet_nb.cluster import Cluster
from k8snet_nb.cluster.events import FeedEnded
from k8snet_nb.errors import FactBroken, FactMissing, Refused
from k8snet_nb.facts import FactRef
from k8snet_nb.parse.conntrack_counters import parse_stats
from k8snet_nb.show.conntrack import LiveChart, UsageChart
from k8snet_nb.sources.opening import BUNDLED

VIP, DNS, API = "10.32.62.13", "10.32.0.10", "10.32.0.1"


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return kn.open(BUNDLED)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    target = tmp_path / "copy"
    shutil.copytree(BUNDLED, target)
    return target


def edit(path: Path, change: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def endpoints(copied: Path, service: str, address: str, change: Callable[[list[Any], Any], None]) -> None:
    """Change one endpoint of a Service in its EndpointSlices."""

    def each(value: Any) -> None:
        for item in value["items"]:
            if item["metadata"]["labels"].get("kubernetes.io/service-name") == service:
                for endpoint in list(item["endpoints"]):
                    if endpoint["addresses"] == [address]:
                        change(item["endpoints"], endpoint)

    edit(copied / "api" / "endpointslices.json", each)


def verdicts(frame: Any, **where: str) -> dict[str, int]:
    for column, value in where.items():
        frame = frame[frame[column] == value]
    counts: dict[str, int] = frame["verdict"].value_counts().to_dict()
    return counts


@pytest.mark.parametrize(
    ("filters", "count"),
    [({}, 354), ({"destination": VIP}, 243), ({"destination": DNS, "protocol": "udp"}, 67), ({"destination": API}, 1),
     ({"destination": VIP, "reply_source": "10.244.18.4"}, 60), ({"destination": "10.244.18.4"}, 2),
     ({"destination": DNS, "port": 53, "reply_source": "10.244.18.2"}, 41), ({"state": "established"}, 3)],
)  # fmt: skip
def test_entries_of_a_recorded_node(cluster: Cluster, filters: dict[str, Any], count: int) -> None:
    table = cluster.node("node-one").conntrack(**filters)
    assert len(table) == count
    (evidence,) = table.evidence
    assert all(line in (BUNDLED / "nodes/node-one/conntrack.txt").read_text() for line in evidence.lines)
    assert len(evidence.lines) == min(count, 3)
    assert all(str(value) in evidence.command for value in filters.values())
    assert "How do we know?" in table._repr_mimebundle_()["text/plain"]
    assert "<details>" in table._repr_mimebundle_()["text/html"]


def test_the_quoted_lines_are_those_of_the_entries(cluster: Cluster) -> None:
    table = cluster.node("node-one").conntrack(destination=API)
    assert f"dst={API} " in table.evidence[0].lines[0]
    assert f"id={table.frame.id[0]}" in table.evidence[0].lines[0]


def test_a_pods_own_table_is_empty_and_the_host_networks_is_the_nodes(cluster: Cluster) -> None:
    own = cluster.pod("default/client").conntrack()
    assert len(own) == 0
    assert "pod default/client" in own.evidence[0].ref.place
    assert len(cluster.pod("kube-system/node-watch-74fwx").conntrack()) == 354
    with pytest.raises(FactMissing, match="on no node yet"):
        cluster.pod("kube-system/node-watch-8zf8j").conntrack()
    with pytest.raises(Refused, match="neither an IP address"):
        cluster.pod("default/client").conntrack(destination="hello-world")


def test_ipv6_entries_come_from_the_second_fact_only_when_the_first_has_none(copied: Path) -> None:
    folder = copied / "nodes/node-one"
    six = (
        "ipv6     10 udp      17 29 src=fd00::1 dst=fd00::2 sport=1 dport=53 src=fd00::2 dst=fd00::1 sport=53 dport=1\n"
    )
    (folder / "conntrack6.txt").write_text(six)
    node = kn.open(copied).node("node-one")
    assert len(node.conntrack()) == 355
    assert len(node.conntrack(destination="fd00::2")) == 1
    text = (folder / "conntrack.txt").read_text()
    (folder / "conntrack.txt").write_text(text + six)
    assert len(node.conntrack()) == 355
    assert node.conntrack().problems == ()
    (folder / "conntrack.txt").write_text(text[:-30])
    cut = node.conntrack()
    assert len(cut) == 354
    assert "conntrack.txt: left out, the entry is cut" in str(cut.problems[0])
    (folder / "conntrack6.txt").unlink()
    assert len(node.conntrack()) in (353, 354)


def test_each_of_the_two_files_is_read_on_its_own(copied: Path) -> None:
    folder = copied / "nodes/node-one"
    six = "udp 17 29 src=fd00::1 dst=fd00::2 sport=1 dport=53 src=fd00::2 dst=fd00::1 sport=53 dport=1 mark=0 use=1\n"
    (folder / "conntrack6.txt").write_text(f"x\n{six}")
    node = kn.open(copied).node("node-one")
    both = node.conntrack()
    assert (len(both), both.frame.family.value_counts().to_dict()) == (355, {"ipv4": 354, "ipv6": 1})
    assert [str(problem) for problem in both.problems] == ["line 1: conntrack6.txt: left out, no conntrack entry: x"]
    assert [(each.ref.fact, len(each.lines)) for each in both.evidence] == [("conntrack.txt", 3), ("conntrack6.txt", 1)]
    (folder / "conntrack6.txt").write_text("no table\n")
    with pytest.raises(FactBroken, match=r"conntrack6\.txt of node node-one: no line"):
        node.conntrack()
    (folder / "conntrack6.txt").write_text(six)
    (folder / "conntrack.txt").unlink()
    alone = node.conntrack()
    assert len(alone) == 1
    assert "conntrack.txt is missing" in str(alone.problems[0])
    assert "IPv4 entries are not known" in str(alone.problems[0])


def test_log_lines_of_unknown_namespaces_are_nobodys(copied: Path) -> None:
    edit(copied / "nodes/node-one/node.json", lambda value: value.pop("netns"))
    usage = kn.open(copied).node("node-one").conntrack_usage()
    assert usage.full == ()
    assert any("25 lines" in note and "which of these namespaces is this node's is not known" in note
               for note in usage.notes)  # fmt: skip
    assert "The kernel's log has 25 lines of a full table, from" not in str(usage)


def test_usage_of_the_recorded_nodes(cluster: Cluster) -> None:
    usage = cluster.node("node-one").conntrack_usage()
    assert (usage.count, usage.maximum, usage.buckets, usage.drops) == (359, 131072, 262144, 375)
    assert usage.fraction == 359 / 131072
    assert usage.series is not None
    assert usage.series.counts.max() == 4410
    assert usage.limit is not None
    assert (usage.limit.cores, usage.limit.value) == (2, 131072)
    assert len(usage.full) == 15  # of 25 lines: the other ten are about another node's namespace
    assert {line.netns for line in usage.full} == {4026532178}
    assert [e.ref.fact for e in usage.evidence] == [
        "conntrack.txt", "nodes", "kernel-log.txt", "sysctl.txt", "conntrack-count.csv", "conntrack-stats.txt",
    ]  # fmt: skip
    for evidence in usage.evidence[2:]:
        text = (BUNDLED / "nodes/node-one" / evidence.ref.fact).read_text()
        assert all(line in text for line in evidence.lines), evidence.ref
    two = cluster.node("node-two").conntrack_usage()
    assert (two.count, two.drops, two.series, two.full) == (354, 28, None, ())
    assert "conntrack-count.csv (not in this recording)" in two.notes[-1]
    three = cluster.node("node-three").conntrack_usage()
    assert (three.count, three.maximum) == (6, 8192)
    assert three.limit is not None
    assert three.limit.value is None  # nobody told how many CPUs it has


def test_missing_facts_are_tolerated_and_named_broken_ones_are_not(copied: Path) -> None:
    folder = copied / "nodes/node-one"
    node = kn.open(copied).node("node-one")
    for fact in ("sysctl.txt", "conntrack-stats.txt", "kernel-log.txt"):
        (folder / fact).unlink()
    usage = node.conntrack_usage()
    assert (usage.count, usage.maximum, usage.buckets, usage.drops) == (3979, 131072, None, None)
    assert all(f"{fact} (" in usage.notes[-1] for fact in ("sysctl.txt", "conntrack-stats.txt", "kernel-log.txt"))
    (folder / "conntrack-count.csv").unlink()
    assert node.conntrack_usage().count == 354
    (folder / "conntrack.txt").unlink()
    with pytest.raises(FactMissing, match="how many connections"):
        node.conntrack_usage()
    with pytest.raises(FactMissing, match=r"conntrack\.txt of node node-one"):
        node.conntrack()
    (folder / "conntrack-stats.txt").write_text("no counters\n")
    with pytest.raises(FactBroken, match="line 1"):
        node.conntrack_usage()


def test_extra_files_of_a_recording_are_facts_too(cluster: Cluster) -> None:
    def drops(fact: str) -> int | None:
        return parse_stats(cluster.source.read(FactRef(fact, "node-one")), fact=fact).total("drop")

    assert (drops("conntrack-stats-before-full.txt"), drops("conntrack-stats-after-full.txt")) == (375, 682)
    assert cluster.source.read(FactRef("count-and-max-after-full.txt", "node-one")) == b"246\n1989\n"


def test_flows_of_the_recorded_nodes(cluster: Cluster) -> None:
    flows = cluster.node("node-one").flows()
    assert len(flows) == 354
    hello = flows[flows.service == "default/hello-world:http"]
    assert hello.groupby("backend").size().to_dict() == {
        "default/hello-world-c648f6bd8-96wh2": 60, "default/hello-world-c648f6bd8-b6hq5": 58,
        "default/hello-world-c648f6bd8-gl7ct": 56, "default/hello-world-c648f6bd8-s8cwf": 69,
    }  # fmt: skip
    assert set(hello.client) == {"default/client"}
    assert set(hello.nat) == {"dnat"}
    assert verdicts(flows) == {"ok": 352, "unreplied": 2}
    gateway = flows[flows.orig_src == "10.244.18.1"]
    assert set(gateway.client) == {"node node-one"}  # the CNI's gateway, which the API does not list
    assert not flows.client.eq("unknown").any()
    assert flows.attrs["evidence"][-1].ref.fact == "sysctl.txt"
    three = cluster.node("node-three").flows()
    assert set(three.client) == {"node node-three"}  # IPVS: a node's own client has the VIP as its address
    assert set(three.nat) == {"both"}
    assert set(three.service) == {"default/hello-world:http"}


def test_top_talkers(cluster: Cluster) -> None:
    node = cluster.node("node-one")
    top = node.top_talkers(count=1)
    assert top[["client", "flows"]].values.tolist() == [["default/client", 332]]
    assert node.top_talkers("service").service[0] == "default/hello-world:http"
    with pytest.raises(Refused, match="client, backend, service"):
        node.top_talkers("nope")


def test_a_node_port_of_another_node_is_translated_there(copied: Path) -> None:
    line = (
        "ipv4     2 tcp      6 86400 ESTABLISHED src=10.244.18.4 dst={0} sport=4000 dport=30080 "
        "src={0} dst=10.244.18.4 sport=30080 dport=4000 [ASSURED] mark=0 use=1\n"
    )
    text = "".join(line.format(address) for address in ("172.30.0.12", "172.30.0.11"))
    (copied / "nodes/node-one/conntrack.txt").write_text(text)
    flows = kn.open(copied).node("node-one").flows()
    assert flows.service.tolist() == ["default/hello-nodeport:http"] * 2
    assert flows.verdict.tolist() == ["ok", "untranslated"]


def test_udp_to_a_removed_endpoint_is_stale_and_tcp_is_draining(copied: Path) -> None:
    endpoints(copied, "kube-dns", "10.244.18.2", lambda several, one: several.remove(one))
    endpoints(copied, "hello-world", "10.244.18.4", lambda several, one: several.remove(one))
    flows = kn.open(copied).node("node-one").flows()
    # 41 queries went to that CoreDNS: 26 of them with 15 of their 30 seconds left or more
    assert verdicts(flows, service="kube-system/kube-dns:dns") == {"ok": 26, "stale": 26, "expiring": 15}
    stale = flows[flows.verdict == "stale"]
    assert set(stale.protocol) == {"udp"}
    assert set(stale.reply_src) == {"10.244.18.2"}
    assert stale.timeout.min() >= 15
    assert verdicts(flows, service="default/hello-world:http") == {"ok": 183, "draining": 60}
    assert set(flows[flows.verdict == "draining"].reply_src) == {"10.244.18.4"}


def test_the_nodes_own_timeouts_decide_what_is_stale(copied: Path) -> None:
    endpoints(copied, "kube-dns", "10.244.18.2", lambda several, one: several.remove(one))
    sysctl = copied / "nodes/node-one/sysctl.txt"
    sysctl.write_text(sysctl.read_text().replace("nf_conntrack_udp_timeout = 30", "nf_conntrack_udp_timeout = 60"))
    assert verdicts(kn.open(copied).node("node-one").flows(), service="kube-system/kube-dns:dns") == {
        "ok": 26, "expiring": 41,
    }  # fmt: skip
    sysctl.unlink()
    flows = kn.open(copied).node("node-one").flows()
    assert verdicts(flows, service="kube-system/kube-dns:dns")["stale"] == 26
    assert "default timeouts" in flows.attrs["notes"][0]


def test_terminating_endpoints(copied: Path) -> None:
    def ending(_: list[Any], endpoint: Any) -> None:
        endpoint["conditions"] = {"ready": False, "serving": True, "terminating": True}

    endpoints(copied, "hello-world", "10.244.3.3", ending)
    assert verdicts(kn.open(copied).node("node-one").flows(), service="default/hello-world:http") == {
        "ok": 185, "draining": 58,
    }  # fmt: skip
    for address in ("10.244.3.4", "10.244.18.3", "10.244.18.4"):
        endpoints(copied, "hello-world", address, ending)
    # all are ending and still serve: they get new connections as well (KEP-1669)
    assert verdicts(kn.open(copied).node("node-one").flows(), service="default/hello-world:http") == {"ok": 243}


def test_flows_need_the_api(copied: Path) -> None:
    (copied / "api/endpointslices.json").unlink()
    with pytest.raises(FactMissing, match="endpointslices"):
        kn.open(copied).node("node-one").flows()


def test_events_as_recorded(cluster: Cluster) -> None:
    events = cluster.node("node-one").conntrack_events()
    assert events.frame["event"].value_counts().to_dict() == {"UPDATE": 1232, "NEW": 268}
    shown = events._repr_mimebundle_()["text/plain"]
    assert shown.startswith("1,500 conntrack events: 268 NEW, 1,232 UPDATE, 0 DESTROY")
    assert "conntrack -E" in shown
    with pytest.raises(FactMissing):
        cluster.node("node-two").conntrack_events()


def test_charts_of_a_series_and_of_a_moment(cluster: Cluster) -> None:
    minute, moment = kn.conntrack_chart(cluster.node("node-one")), kn.conntrack_chart(cluster.node("node-two"))
    assert isinstance(minute, UsageChart)
    assert "4,410 at most" in minute.alt
    assert moment.alt == "354 entries now; the maximum is 131,072 (0.3%)."
    assert moment._repr_mimebundle_()["text/html"].startswith('<img alt="354 entries now;')
    assert len(moment.figure.axes[0].patches) == 1


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "k8snet-live"]


def test_a_replay_says_so_runs_to_its_end_and_leaves_no_thread(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("k8snet_nb.show.conntrack.usage_image", lambda series: "")  # drawing takes the longest
    chart = kn.conntrack_live(cluster.node("node-one"), interval=0.001)
    assert "replay of what was recorded on node-one" in chart._repr_mimebundle_()["text/plain"]
    chart.start()
    until(lambda: chart.ended)
    assert len(chart.series) == 60
    assert chart.series.counts.max() == 4410
    assert "the recorded minute ends here" in chart._status.value
    assert not chart.running
    until(lambda: not threads())
    chart.start()  # begins anew
    until(lambda: len(chart.series) > 60)
    chart.close()
    assert not threads()


def test_replayed_events_are_bounded(cluster: Cluster) -> None:
    events = kn.conntrack_events(cluster.node("node-one"), interval=0.001)
    events.start()
    until(lambda: events.ended)
    assert (events.total, len(events.rows)) == (1500, 200)
    assert "replay of what was recorded" in events.text
    until(lambda: not threads())
    events.close()


def test_what_was_not_recorded_is_said_in_the_panel(cluster: Cluster) -> None:
    chart = kn.conntrack_live(cluster.node("node-two"), interval=0.01)
    chart.start()
    until(lambda: chart.error is not None)
    assert "not in this recording" in chart._status.value
    chart.layout.close()  # as when the panel is closed in the browser
    until(lambda: not threads())


def test_stop_and_start_again_keep_one_thread() -> None:
    calls: list[int] = []

    def sample() -> tuple[float, int, int]:
        calls.append(1)
        if len(calls) == 30:
            raise FeedEnded("over")
        return float(len(calls)), 1, 2

    finished: list[int] = []
    chart = LiveChart(sample, interval=0.002, finish=lambda: finished.append(1))
    for _ in range(3):
        chart.start()
        chart.start()
        assert len(threads()) == 1
        chart.stop()
        until(lambda: not threads())
    assert len(finished) == 3
    chart.start()
    until(lambda: chart.ended)
    assert len(calls) == 30
    chart.close()
