"""The small conntrack facts, usage, flows and what shows them, on the recorded cluster and on made-up flows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from waiting import until

import k8snet_nb
from k8snet_nb.errors import FactBroken
from k8snet_nb.explain.flows import FlowDirectory, explain_flows, top_talkers
from k8snet_nb.explain.usage import ConntrackUsage, conntrack_usage, growth_of, kube_proxy_limit
from k8snet_nb.parse.conntrack import parse_conntrack
from k8snet_nb.parse.conntrack_counters import (
    CountSeries,
    parse_count_series,
    parse_stats,
    parse_sysctl,
    parse_table_full,
)
from k8snet_nb.parse.conntrack_events import parse_events
from k8snet_nb.show.conntrack import EventList, LiveChart, usage_chart

RECORDED = Path(k8snet_nb.__file__).parent / "data" / "hello-cluster" / "nodes" / "node-one"


def raw(fact: str) -> bytes:
    return (RECORDED / fact).read_bytes()


def test_recorded_counters_tell_of_the_full_table() -> None:
    before, after = (
        parse_stats(raw("conntrack-stats-before-full.txt")),
        parse_stats(raw("conntrack-stats-after-full.txt")),
    )
    assert (before.total("drop"), after.total("drop")) == (375, 682)
    assert after.total("no such counter") is None


@pytest.mark.parametrize(
    "text", ["", "cpu=0 found\n", "cpu=0 found=1 x\n", "tcp 6\n", "cpu=0 found=99999999999999999999\n"]
)
def test_what_is_no_counters_is_broken(text: str) -> None:
    with pytest.raises(FactBroken):
        parse_stats(text)


def test_count_series_and_its_cut_end() -> None:
    whole = raw("conntrack-count.csv")
    assert parse_count_series(whole).counts.max() == 4410
    cut = parse_count_series(whole.rstrip()[:-7])
    assert len(cut) == len(parse_count_series(whole)) - 1
    assert "ends within" in cut.problems[0]
    with pytest.raises(FactBroken, match="line 3"):
        parse_count_series("unix_time,nf_conntrack_count,nf_conntrack_max\n1,2,3\n1,x,3\n1,2,3\n")
    with pytest.raises(FactBroken, match="line 1"):
        parse_count_series("a,b\n")


def test_full_table_lines_in_every_spelling() -> None:
    log = (
        "[   12.5] nf_conntrack: table full, dropping packet.\n"
        "kernel: ip_conntrack: table full, dropping packet.\n"
        "[Mon Nov 23 06:40:16 2026] nf_conntrack: nf_conntrack: table full in netns 7, dropping packet\n"
        "[Mon Nov 23 06:40:17 2026] nf_conntrack: nf_conntrack: table full in netns 8, dropping packet\n"
        "nf_conntrack: default automatic helper assignment has been turned off\n"
    )
    assert [(full.line, full.netns) for full in parse_table_full(log)] == [(1, None), (2, None), (3, 7), (4, 8)]
    assert [full.line for full in parse_table_full(log, 7)] == [1, 2, 3]
    assert parse_table_full(log)[0].when == "12.5"


def test_recorded_events() -> None:
    events = parse_events(raw("conntrack-events.txt"))
    assert len(events) == 1500
    assert events.problems == ()
    first = events.frame.iloc[0]
    assert (first["event"], first["state"], first["orig_dport"]) == ("NEW", "SYN_SENT", 8080)
    assert first["time"] == pytest.approx(1795415841.155112)
    assert "no conntrack event" in str(parse_events(raw("conntrack-events.txt") + b"tcpdump: listening\n").problems[0])
    with pytest.raises(FactBroken):
        parse_events("tcpdump: listening\n")


def usage(**more: object) -> ConntrackUsage:
    return conntrack_usage(
        parse_sysctl(raw("sysctl.txt")),
        table=parse_conntrack(raw("conntrack.txt")),
        stats=parse_stats(raw("conntrack-stats.txt")),
        series=parse_count_series(raw("conntrack-count.csv")),
        full=parse_table_full(raw("kernel-log.txt"), json.loads(raw("node.json"))["netns"]),
        **more,  # type: ignore[arg-type]
    )


def test_recorded_usage() -> None:
    found = usage(cores=2)
    assert (found.count, found.maximum, found.drops) == (359, 131072, 375)
    assert found.fraction == pytest.approx(359 / 131072)
    assert found.chain_length == pytest.approx(2 * 359 / 262144)
    assert found.protocols is not None
    assert sum(found.protocols.values()) == 354
    assert found.limit is not None
    assert found.limit.value == 131072
    shown = found._repr_mimebundle_()
    assert "of a full table" in shown["text/plain"]
    assert "maxPerCore" in shown["text/html"]


def test_unknown_stays_unknown() -> None:
    found = conntrack_usage({"net.netfilter.nf_conntrack_count": "5"})
    assert (found.count, found.maximum, found.fraction, found.chain_length, found.drops) == (5, None, None, None, None)
    assert "not known" in str(found)
    with pytest.raises(LookupError):
        conntrack_usage({})


@pytest.mark.parametrize(("cores", "value", "uncapped"), [(1, 131072, 131072), (8, 262144, 262144), (64, 2**20, 2**21)])
def test_what_kube_proxy_would_set(cores: int, value: int, uncapped: int) -> None:
    limit = kube_proxy_limit(cores)
    assert (limit.value, limit.uncapped) == (value, uncapped)


def series(counts: list[int], maximum: int = 1000) -> CountSeries:
    return CountSeries(np.arange(len(counts), dtype=float), np.array(counts), np.full(len(counts), maximum))


def test_growth_and_time_to_full() -> None:
    growing = growth_of(series([100, 200, 300]))
    assert growing is not None
    assert (growing.per_second, growing.time_to_full) == (pytest.approx(100), pytest.approx(7))
    shrinking = growth_of(series([300, 200]))
    assert shrinking is not None
    assert shrinking.time_to_full is None
    full = growth_of(series([300, 1000]))
    assert full is not None
    assert full.time_to_full == 0
    assert growth_of(series([1])) is None


POD, BACKEND, GONE, ENDING, NODE, OTHER, VIP = (
    "10.244.0.1",
    "10.244.0.2",
    "10.244.0.3",
    "10.244.0.4",
    "192.168.0.1",
    "192.168.0.2",
    "10.32.0.9",
)
DIRECTORY = FlowDirectory(
    pods={POD: "default/client", BACKEND: "default/web", ENDING: "default/old"},
    nodes={NODE: "node-one", OTHER: "node-two"},
    services={(VIP, port, protocol): "default/web:http" for port, protocol in ((80, "tcp"), (80, "udp"), (80, "sctp"))},
    endpoints={"default/web:http": [(BACKEND, 8080), (POD, 8080)]},
    terminating={"default/web:http": [(ENDING, 8080)]},
    node_ports={(30080, "tcp"): "default/web:http"},
    networks=("10.244.0.0/16",),
    service_networks=("10.32.0.0/16",),
    node="node-one",
)


def flow(
    proto: str, backend: str, *, to: tuple[str, int] = (VIP, 80), src: str = POD, back: str | None = None,
    timeout: int = 119, flags: tuple[str, str] = ("", "[ASSURED] "), backend_port: int = 8080, source_port: int = 4000,
) -> str:  # fmt: skip
    number, state = {"tcp": (6, "ESTABLISHED "), "udp": (17, ""), "sctp": (132, "ESTABLISHED ")}[proto]
    return (
        f"{proto} {number} {timeout} {state}src={src} dst={to[0]} sport={source_port} dport={to[1]} {flags[0]}"
        f"src={backend} dst={back or src} sport={backend_port} dport={source_port} {flags[1]}mark=0 use=1\n"
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (flow("tcp", BACKEND), ("default/client", "default/web:http", "default/web", "dnat", "ok")),
        (flow("tcp", GONE), ("default/client", "default/web:http", "unknown", "dnat", "draining")),
        (flow("udp", GONE), ("default/client", "default/web:http", "unknown", "dnat", "stale")),
        (flow("sctp", GONE, timeout=209), ("default/client", "default/web:http", "unknown", "dnat", "stale")),
        (flow("udp", GONE, timeout=20), ("default/client", "default/web:http", "unknown", "dnat", "expiring")),
        (flow("udp", ENDING), ("default/client", "default/web:http", "default/old", "dnat", "draining")),
        (flow("udp", BACKEND, flags=("[UNREPLIED] ", ""), timeout=29),
         ("default/client", "default/web:http", "default/web", "dnat", "unreplied")),
        (flow("udp", GONE, to=("10.32.7.7", 53)), ("default/client", None, "unknown", "dnat", "stale")),
        (flow("tcp", POD, back=NODE), ("default/client", "default/web:http", "default/client", "both", "ok")),
        (flow("tcp", BACKEND, to=(NODE, 30080), src="8.8.8.8", back=NODE),
         ("outside", "default/web:http", "default/web", "both", "ok")),
        (flow("tcp", "1.1.1.1", to=("1.1.1.1", 443), backend_port=443, back=NODE),
         ("default/client", None, "outside", "masquerade", "ok")),
        (flow("tcp", BACKEND, to=(BACKEND, 8080), src=NODE), ("node node-one", None, "default/web", "none", "ok")),
        (flow("tcp", VIP, backend_port=80), ("default/client", "default/web:http", "unknown", "none", "untranslated")),
        (flow("tcp", OTHER, to=(OTHER, 30080), backend_port=30080),
         ("default/client", "default/web:http", "node node-two", "none", "ok")),
        (flow("tcp", NODE, to=(NODE, 30080), backend_port=30080),
         ("default/client", "default/web:http", "node node-one", "none", "untranslated")),
    ],
)  # fmt: skip
def test_each_flow_is_explained(line: str, expected: tuple[str | None, ...]) -> None:
    found = explain_flows(parse_conntrack(line), DIRECTORY).iloc[0]
    told = [
        None if found[name] != found[name] else found[name]
        for name in ("client", "service", "backend", "nat", "verdict")
    ]
    assert tuple(told) == expected


def test_hairpin_and_what_an_earlier_table_shows() -> None:
    assert explain_flows(parse_conntrack(flow("tcp", POD, back=NODE)), DIRECTORY)["hairpin"].tolist() == [True]
    now = parse_conntrack(flow("udp", GONE, timeout=20))
    for before, verdict in ((18, "stale"), (25, "expiring")):
        earlier = parse_conntrack(flow("udp", BACKEND, source_port=1) + flow("udp", GONE, timeout=before))
        assert explain_flows(now, DIRECTORY, earlier=earlier)["verdict"].tolist() == [verdict]


def test_top_talkers() -> None:
    lines = [flow("tcp", BACKEND, source_port=port) for port in (1, 2)] + [
        flow("tcp", BACKEND, src=NODE, source_port=3)
    ]
    top = top_talkers(explain_flows(parse_conntrack("".join(lines)), DIRECTORY))
    assert top[["client", "flows"]].values.tolist() == [["default/client", 2], ["node node-one", 1]]
    assert top["packets"].isna().all()


def test_no_flows_at_all() -> None:
    assert len(explain_flows(parse_conntrack(""), DIRECTORY)) == 0
    assert len(top_talkers(explain_flows(parse_conntrack(""), DIRECTORY), "service")) == 0


def test_chart_says_its_numbers() -> None:
    chart = usage_chart(usage())
    assert "4,410" in chart.alt
    shown = chart._repr_mimebundle_()
    assert shown["text/plain"] == chart._repr_mimebundle_()["text/plain"]
    assert "4410" in shown["text/plain"]
    assert f'alt="{chart.alt}"' in shown["text/html"]
    assert len(chart.figure.axes[0].lines) == 2


def test_live_chart_starts_pauses_survives_and_ends() -> None:
    def samples() -> Iterator[tuple[float, int, int]]:
        yield 1.0, 5, 10
        yield 2.0, 6, 10
        while True:
            yield 3.0, 7, 10

    source, fail = samples(), [False]

    def sample() -> tuple[float, int, int]:
        if fail[0]:
            raise ConnectionResetError("<closed>")
        return next(source)

    live = LiveChart(sample, interval=0.01, most=6)
    try:
        assert not live.running
        live.start()
        until(lambda: len(live.series) >= 3)
        fail[0] = True
        until(lambda: live.error is not None)
        assert "&lt;closed&gt;" in live._status.value
        fail[0] = False
        until(lambda: live.error is None)
        live.pause()
        assert not live.running
        live.start()
        until(lambda: len(live.series) == 6 and live.series.counts[0] == 7)
        assert "7 entries" in live._repr_mimebundle_()["text/plain"]
    finally:
        live.close()
    assert not live._ticker.alive


def test_event_list_is_bounded_and_says_what_was_lost() -> None:
    batches = iter([([("1", "NEW", "<x>")] * 500, 0), ([("2", "DESTROY", "y")], 2)])
    events = EventList(lambda: next(batches), most=100, show=5)
    events._step()
    events._step()
    assert (len(events.rows), events.total, events.dropped) == (100, 501, 2)
    assert "dropped events 2 times" in events.text
    assert "<x>" not in events._pane.value
    events.close()
