"""What a live recording asks DNS, and that names can be followed on the recording as they could be on the cluster."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dns_zone import AskedSource

import k8snet_nb as kn
from k8snet_nb.facts import FactRef
from k8snet_nb.record import check_recording, record
from k8snet_nb.record.redact import Redactor

CLIENT = FactRef("dns.jsonl", "node-one", "default/client")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[kn.Cluster, AskedSource]:
    source, out = AskedSource(), tmp_path_factory.mktemp("dns") / "out"
    told = record(source, out, nodes=["node-one"])
    assert not [place for place in told.missing if place.endswith("dns.jsonl")]
    source.sent = list(source.asked)
    return kn.open(out), source


def test_names_are_followed_on_the_recording_as_on_the_cluster(written: tuple[kn.Cluster, AskedSource]) -> None:
    read, source = written
    live = kn.Cluster(source)
    mine, theirs = read.pod("default/client"), live.pod("default/client")
    for name, types in [
        ("hello-world", "A AAAA"),
        ("kubernetes.default", "A AAAA"),
        ("kubernetes.default.svc.cluster.local", "A AAAA"),
        ("kubernetes.default.svc.cluster.local.", "A AAAA"),
        ("hello-headless", "A AAAA"),
        ("_http._tcp.hello-world", "SRV"),
        ("example-external", "A AAAA"),
        ("no-such.default.svc.cluster.local.", "A"),
        ("cart.shop", "A AAAA"),
        ("example.com", "A AAAA"),
        ("1.0.32.10.in-addr.arpa.", "PTR"),
        ("10.0.32.10.in-addr.arpa.", "PTR"),
    ]:
        for libc in ("glibc", "musl"):
            before, after = (pod.resolve(name, libc, types=tuple(types.split())) for pod in (theirs, mine))
            assert after.outcome != "not recorded", (name, libc)
            assert (after.outcome, after.rcode) == (before.outcome, before.rcode), name
            assert set(after.records) == set(before.records), name
            assert [str(at.query) for at in after.queries] == [str(at.query) for at in before.queries]
    assert mine.resolve("_http._tcp.hello-world", types="SRV").records[0].type == "SRV"
    assert read.dns_replicas(pod="default/client").verdict == "agree"
    assert not read.dns_replicas(pod="default/client").unknown
    tools = mine.compare_dns_tools("kubernetes.default", server="10.32.0.10")
    assert all("not recorded" not in (way.result or "") for way in tools.ways if way.server == "10.32.0.10")
    assert kn.draw_dns(mine, "kubernetes.default").path.outcome


def test_every_running_pod_is_asked_a_bounded_number_of_different_questions(
    written: tuple[kn.Cluster, AskedSource],
) -> None:
    read, source = written
    running = [key for key, pod in read.api.pods.items() if pod.node == "node-one" and pod.phase == "Running"]
    assert {pod for pod, *_ in source.sent} == set(running)
    for key in running:
        mine = [one for one in source.sent if one[0] == key]
        assert 10 < len(mine) < 120
        assert len(mine) - len(set(mine)) <= 5, "of UDP and TCP each one by name, not the same over and over"
    lines = [json.loads(line) for line in read.source.read(CLIENT).splitlines()]
    assert list(lines[0]) == ["name", "type", "server", "transport", "ms", "response", "error"]
    assert check_recording(read.source.where).good  # type: ignore[attr-defined]
    times = read.source.about_node("node-one")["times"]  # type: ignore[attr-defined]
    assert times["pods/default/client/dns.jsonl"].endswith("Z")


def test_none_is_asked_where_that_is_not_wanted(tmp_path: Path) -> None:
    source = AskedSource()
    record(source, tmp_path / "out", nodes=["node-one"], dns=False)
    assert source.asked == []
    assert not list((tmp_path / "out").rglob("dns.jsonl"))


def test_a_silent_server_is_asked_twice_and_a_pod_that_is_gone_does_not_keep_the_others(tmp_path: Path) -> None:
    source = AskedSource()
    source.silent, source.gone = {"10.32.0.10"}, {"shop/cart-865f99cbb8-j49cc"}
    told = record(source, tmp_path / "out", nodes=["node-one"])
    assert "its processes are gone" in told.missing["node-one/pods/shop/cart-865f99cbb8-j49cc/dns.jsonl"]
    asked = [one for one in source.asked if one[:2] == ("default/client", "10.32.0.10")]
    assert len(asked) <= 4
    read = kn.open(tmp_path / "out")
    assert "asked no more" in str(read.source.trouble(CLIENT))
    assert read.pod("default/client").resolve("kubernetes.default").outcome in ("no answer", "not recorded")
    assert read.dns_replicas(pod="default/client").verdict == "silence"


def test_answers_that_were_asked_are_redacted_and_still_followed(tmp_path: Path) -> None:
    redactor = Redactor()
    record(AskedSource(), tmp_path / "out", nodes=["node-one"], redaction=redactor)
    text = "".join(path.read_text() for path in (tmp_path / "out").rglob("dns.jsonl"))
    assert "hello-world" not in text
    read, name = kn.open(tmp_path / "out"), redactor.names.name
    pod = read.pod(f"default/{name('client')}")
    found = pod.resolve(name("hello-world"))
    assert found.outcome == "found"
    assert found.addresses == (read.service(f"default/{name('hello-world')}").cluster_ip,)
    assert pod.resolve(f"{name('cart')}.{name('shop')}").outcome == "found"
    back = ".".join(reversed(redactor.addresses.address("10.32.0.1").split("."))) + ".in-addr.arpa."
    assert pod.resolve(back, types="PTR").records[0].text == "kubernetes.default.svc.cluster.local."
