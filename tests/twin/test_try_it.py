"""The lessons' live part on a running twin: what it sends, what it counts, what it says when that cannot be."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from needs import need
from twin.running import twin_of

import k8snet_nb as kn
from k8snet_nb.cluster.events import CountFeed
from k8snet_nb.errors import NotFound
from k8snet_nb.show.spread import SpreadChart, draw_spread
from k8snet_nb.show.trying import TryIt, try_it

pytestmark = [
    pytest.mark.slow,
    need(root=True, commands=["ip", "nft", "iptables-restore", "ss", "unshare"], kernel=["veth", "bridge"]),
]
HELLO = "default/hello-world"


@pytest.fixture(scope="module")
def cluster() -> Iterator[kn.Cluster]:
    with twin_of(nodes=["node-one", "node-two"]) as opened:
        yield opened


def counted(panel: TryIt) -> dict[str, tuple[int, int | None, int]]:
    assert panel.seen is not None, panel.text
    return {name: (before, during, after) for name, before, during, after in panel.seen.counts}


def test_entries_of_the_table_while_connections_are_open_and_after(cluster: kn.Cluster) -> None:
    panel = try_it(cluster, HELLO, client="default/client", count=30, hold=3, watch="conntrack")
    found = counted(panel)
    before, during, after = found["of those ESTABLISHED"]
    assert (before, during, after) == (0, 30, 0)
    before, during, after = found["of those TIME_WAIT"]
    assert after - before == 30
    before, during, after = found["entries on node-one"]
    assert during is not None
    assert during - before >= 25  # of 30: an older entry may expire meanwhile
    assert after - before >= 25
    assert panel.seen is not None
    assert max(count for _, count, _ in panel.seen.samples) >= before + 25
    assert "30 ok" in panel.text
    assert 'alt="Of 30 connections answered' in panel._repr_mimebundle_()["text/html"]


def test_rungs_count_connections(cluster: kn.Cluster) -> None:
    panel = try_it(cluster, HELLO, client="default/client", count=50, watch="rules")
    rise = {name.removeprefix("rule to "): after - before for name, (before, _, after) in counted(panel).items()}
    assert panel.seen is not None
    assert rise == {name: panel.seen.sent.answered.get(name, 0) for name in rise}
    assert sum(rise.values()) == 50


def test_what_one_end_of_the_pair_sent_the_other_has_received(cluster: kn.Cluster) -> None:
    rises = [after - before for before, _, after in counted(
        try_it(cluster, HELLO, client="default/client", count=10, watch="veth")
    ).values()]  # fmt: skip
    assert len(rises) == 4
    assert min(rises) >= 40
    assert abs(rises[0] - rises[1]) <= 2  # a packet of the kernel's own may come between two readings
    assert abs(rises[2] - rises[3]) <= 2


def test_sockets_are_the_pods_own(cluster: kn.Cluster) -> None:
    found = counted(try_it(cluster, HELLO, client="default/client-two", count=7, hold=2, watch="sockets"))
    (before, during, after), *_ = found.values()
    assert (before, during, after) == (0, 7, 0)


def test_what_a_place_does_not_have_is_no_row(cluster: kn.Cluster) -> None:
    for watch in ("rules", "ipvs", "sockets", "veth"):
        panel = try_it(cluster, HELLO, client="node", node="node-two", count=5, watch=watch)
        assert counted(panel) == {}
        assert "5 ok" in panel.text


def test_another_service_is_chosen_and_sent_to(cluster: kn.Cluster) -> None:
    panel = try_it(cluster, HELLO, client="default/client", count=3)
    panel.service.value = ("default/orphan", "80/TCP", "cluster_ip")
    panel.send_button.click()
    panel.wait(30)
    assert "3 refused" in panel.text
    panel.service.value = ("default/hello-local", "80:30081/TCP", "node_port")
    panel.client.value = ("outside", "node-one")
    panel.send()
    panel.wait(30)
    assert "3 connections from a client outside through node-one to default/hello-local by its node port" in panel.text
    assert "3 ok" in panel.text


def test_what_the_cluster_does_not_have_is_said_and_nothing_is_sent(cluster: kn.Cluster) -> None:
    panel = try_it(cluster, "default/no-such", client="default/client")
    assert "default/no-such is not in this cluster" in panel.text
    assert panel.seen is None
    panel.send()
    assert panel.seen is None
    panel.service.value = ("default/hello-world", "80/TCP", "cluster_ip")
    panel.send()
    panel.wait(30)
    assert "40 ok" in panel.text
    with pytest.raises(NotFound, match="no counters"):
        try_it(cluster, HELLO, watch="everything")


def test_the_chart_says_in_words_what_it_shows(cluster: kn.Cluster) -> None:
    chart = draw_spread(cluster.send(HELLO, client="default/client", count=8))
    assert isinstance(chart, SpreadChart)
    numbers = [int(found) for found in re.findall(r"\d (\d+) \(share 1/4", chart.alt)]
    assert len(numbers) == 4
    assert sum(numbers) == 8
    bars = chart.figure.axes[0].patches
    assert sorted(bar.get_width() for bar in bars) == sorted(numbers)


def test_a_live_sample_is_of_now(cluster: kn.Cluster) -> None:
    """What is sampled again and again is asked again: a source keeps its facts otherwise."""
    feed = CountFeed(cluster, "node-one")
    _, before, _ = feed.sample()
    cluster.send(HELLO, client="default/client", count=20)
    _, after, _ = feed.sample()
    assert after - before >= 15  # of 20: an older entry may expire meanwhile


def test_a_node_object_reads_its_rules_anew(cluster: kn.Cluster) -> None:
    node = cluster.refresh().node("node-one")
    before = [rung.packets for rung in node.ladder(HELLO).rungs]
    cluster.send(HELLO, client="default/client", count=20)
    cluster.refresh()
    after = [rung.packets for rung in node.ladder(HELLO).rungs]
    assert sum(packets or 0 for packets in after) - sum(packets or 0 for packets in before) == 20
