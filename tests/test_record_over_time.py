"""What is recorded over a while, from a namespace of this kernel, is read back through the façade."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel_nodes import Machine
from needs import need

import k8snet_nb as kn
from k8snet_nb.cluster.events import CountFeed, EventFeed, FeedEnded
from k8snet_nb.errors import FactMissing
from k8snet_nb.facts import FactRef
from k8snet_nb.record import Spans, check_recording, record
from k8snet_nb.sources.agents import Agent, child_command
from k8snet_nb.sources.node import NodeSource
from k8snet_nb.sources.opening import BUNDLED
from k8snet_nb.sources.recorded import open_recording

pytestmark = [need(root=True, commands=["ip", "conntrack"], kernel=["nf_conntrack"]), pytest.mark.slow]
ADDRESSES = [f"10.91.7.{n}" for n in range(1, 250)]


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    machine = Machine()
    try:
        yield machine.namespace("time")
    finally:
        machine.clear()


@pytest.fixture(scope="module")
def written(namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def conntrack(*words: str) -> None:
        subprocess.run(["ip", "netns", "exec", namespace, "conntrack", *words], check=True, capture_output=True)

    def make() -> None:
        for address in ADDRESSES:  # until all is recorded: nobody knows when the watching begins
            if stop.wait(0.4):
                return
            conntrack(*f"-I -t 300 -s {address} -d 10.32.0.9 -p udp --sport 4000 --dport 53".split())

    out, stop = tmp_path_factory.mktemp("time") / "out", threading.Event()
    agent = Agent.start(["ip", "netns", "exec", namespace, *child_command()], name="here")
    with NodeSource(agent=agent, node="here", logs="/nonexistent") as source:
        maker = threading.Thread(target=make)
        maker.start()
        try:
            begin = time.monotonic()
            told = record(source, out, spans=Spans(series=6.0, events=6.0))
            assert time.monotonic() - begin < 25
        finally:
            stop.set()
            maker.join()
    assert "here/conntrack-events.txt" not in told.missing
    assert "here/conntrack-count.csv" not in told.missing
    return out


def test_events_are_read_back(written: Path) -> None:
    assert check_recording(written).good
    cluster = kn.open(written)
    events = cluster.node("here").conntrack_events()
    assert not events.problems
    new = events.frame[events.frame["event"] == "NEW"]
    assert len(new) >= 2
    assert set(new["orig_src"]) <= set(ADDRESSES)
    assert new["time"].notna().all()
    assert abs(float(new["time"].max()) - time.time()) < 300
    assert events.evidence[0].command == "conntrack -E -o timestamp,id"
    feed = EventFeed(cluster, "here")
    rows, _ = feed.read()
    assert rows[0][1] == "NEW"
    told = len(rows)
    with pytest.raises(FeedEnded):
        told += sum(len(feed.read()[0]) for _ in range(100))


def test_the_fill_is_read_back(written: Path) -> None:
    cluster = kn.open(written)
    series = CountFeed(cluster, "here").series()
    assert 4 <= len(series) <= 7
    assert (series.maxima > 0).all()
    assert series.counts[-1] > series.counts[0]
    usage = cluster.node("here").conntrack_usage()
    assert "conntrack-count.csv" in " ".join(evidence.ref.fact for evidence in usage.report().evidence)
    times = cluster.source.about_node("here")["times"]  # type: ignore[attr-defined]
    assert {"conntrack-count.csv", "conntrack-events.txt"} <= set(times)


def test_a_recording_cannot_be_watched_and_says_so(tmp_path: Path) -> None:
    told = record(open_recording(BUNDLED), tmp_path / "out", nodes=["node-three"], spans=Spans(events=1.0))
    assert told.missing["node-three/conntrack-events.txt"] == "a recorded source cannot be watched"
    with pytest.raises(FactMissing, match="cannot be watched"):
        kn.open(tmp_path / "out").source.read(FactRef("conntrack-events.txt", "node-three"))
