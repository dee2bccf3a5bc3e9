"""cluster.journey: every place on the way out and back, what is on the packet there, and the lines that show it."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from edited import Change, as_json, cluster, text
from journeys import ACROSS, CLIENTS, HELLO, ONE, THREE, TWO, VIP, at, places

import k8snet_nb as kn
from k8snet_nb.errors import NotFound, Refused
from k8snet_nb.explain.journey.parts import of_end
from k8snet_nb.explain.journey.values import Ground, Party, Trip
from k8snet_nb.explain.outcome import Step
from k8snet_nb.explain.socket_text import listening
from k8snet_nb.explain.walk import End
from k8snet_nb.facts import Evidence
from k8snet_nb.parse.links import parse_links, parse_routes


def test_iptables_over_a_bridge(hello: kn.Cluster) -> None:
    journey = hello.journey("default/client", HELLO)
    assert places(journey) == ["pod", "veth", "bridge", "translation", *ACROSS, "veth", "server"]
    assert places(journey, "back") == ["server", "forwarding", "wire", "memory", "delivery", "pod"]
    assert (journey.near, journey.far, journey.mode) == (ONE, TWO, "iptables")
    assert (journey.verdict, journey.chance, journey.connection) == ("delivered", Fraction(1, 4), True)
    assert [stop.name for stop in journey.stops[:4]] == [
        "eth0 of default/client", "veth5255f3bf", "cni0", "KUBE-SEP-4XITVHZVEZTX25SU",
    ]  # fmt: skip
    client, server = "10.244.18.5:60842", "10.244.3.3:8080"
    assert [stop.moves for stop in journey.stops[2:4]] == [f"{client} > {VIP}", f"{client} > {server}"]
    assert [stop.changed for stop in journey.stops if stop.changed] == ["destination", "source"]
    assert at(journey, "memory", "back").moves == f"{VIP} > {client}"
    assert journey.stops[-1].says == f"the client sees an answer from {VIP}, the address that it called"


def test_nftables_point_to_point(hello: kn.Cluster) -> None:
    journey = hello.journey("default/client-two", HELLO)
    assert places(journey) == ["pod", "veth", "translation", *ACROSS, "bridge", "veth", "server"]
    assert "gateway's address 10.244.3.1 itself" in at(journey, "veth").says
    assert at(journey, "translation").name == "service-MBZD57SS-default/hello-world/tcp/http"
    assert "numgen random mod 4" in "".join(line for e in at(journey, "translation").evidence for line in e.lines)
    assert {item.ref.fact for item in at(journey, "bridge").evidence} == {"neigh.json", "fdb.json"}
    assert journey.connection, "of the endpoints on the other node the one that a tracked connection got"


def test_ipvs_from_the_node_itself(hello: kn.Cluster) -> None:
    """The address is on kube-ipvs0, so a process there sends from the Service's own address, until masqueraded."""
    journey = hello.journey(THREE, HELLO)
    assert places(journey) == ["process", "translation", *ACROSS, "veth", "server"]
    assert at(journey, "process").moves == f"10.32.62.13:56670 > {VIP}"
    assert at(journey, "source").moves == "172.30.0.13:20131 > 10.244.3.3:8080"
    assert [stop.changed for stop in journey.stops if stop.changed] == [
        "destination",
        "source",
        "source and destination",
    ]
    lines = [line for item in at(journey, "translation").evidence for line in item.lines]
    assert "-a -t 10.32.62.13:80 -r 10.244.3.3:8080 -m -w 1" in lines
    assert not [line for line in lines if "10.244.18" in line], "the other servers are not on this way"
    assert at(journey, "memory", "back").evidence[1].lines == (
        "TCP 01:54  TIME_WAIT   10.32.62.13:56670  10.32.62.13:80     10.244.3.3:8080",
    )


@pytest.mark.parametrize("client", CLIENTS.values())
def test_the_wire_is_said_to_be_out_of_sight(hello: kn.Cluster, client: str) -> None:
    journey = hello.journey(client, HELLO)
    unseen = [stop for stop in journey.stops if not stop.seen]
    assert [(stop.place, stop.node, stop.direction) for stop in unseen] == [
        ("wire", None, "out"),
        ("wire", None, "back"),
    ]
    assert "both are on one link" in unseen[0].says
    assert f"Not in evidence: {journey.stops.index(unseen[0]) + 1}, " in str(journey)


def known_lines(source: kn.Cluster, item: Evidence) -> str:
    """What a fact holds, in the forms in which its lines are quoted."""
    content = source.source.read(item.ref).decode()
    if item.ref.fact in ("addr.json", "route.json"):
        parse = parse_links if item.ref.fact == "addr.json" else parse_routes
        content = "\n".join(one.line() for one in parse(content.encode(), item.ref))
    elif item.ref.fact == "nft.json":
        node = source.node(str(item.ref.node))
        content = "\n".join(node.chain(key).text for key in node.chains().key if key.startswith("nft ip kube-proxy"))
    return content


def stands_in_the_fact(source: kn.Cluster, item: Evidence, line: str) -> bool:
    if not line.startswith("{"):
        return line in known_lines(source, item)
    said = json.loads(line)
    entries = json.loads(source.source.read(item.ref))
    slaves = [(one.get("linkinfo") or {}).get("info_slave_data") or {} for one in entries]
    return any(said.items() <= one.items() for one in [*entries, *slaves])


@pytest.mark.parametrize(
    ("client", "backend"),
    [*((client, None) for client in CLIENTS.values()), ("default/client", "10.244.18.4"),
     ("default/hello-world-c648f6bd8-96wh2", "10.244.18.4")],
)  # fmt: skip
def test_every_line_of_evidence_stands_in_its_fact(hello: kn.Cluster, client: str, backend: str | None) -> None:
    journey = hello.journey(client, HELLO, backend=backend)
    assert len(journey.evidence) > 15
    for item in journey.evidence:
        assert hello.source.has(item.ref)
        for line in item.lines:
            assert stands_in_the_fact(hello, item, line), (item.ref, line)


def test_all_but_the_wire_has_evidence_or_says_what_is_seen(hello: kn.Cluster) -> None:
    for client in CLIENTS.values():
        for stop in hello.journey(client, HELLO).stops:
            assert stop.evidence or not stop.seen or "the client sees" in stop.says, stop


def test_on_the_same_bridge_the_answer_is_switched(hello: kn.Cluster) -> None:
    journey = hello.journey("default/client", HELLO, backend="default/hello-world-c648f6bd8-96wh2")
    assert journey.near == journey.far == ONE
    assert places(journey) == [
        "pod",
        "veth",
        "bridge",
        "translation",
        "forwarding",
        "source",
        "bridge",
        "veth",
        "server",
    ]
    assert places(journey, "back") == ["server", "bridge", "pod"]
    back = at(journey, "bridge", "back")
    assert "br_netfilter" in back.says
    assert back.seen
    assert back.source == VIP


def test_without_an_entry_the_way_back_is_not_in_evidence() -> None:
    def drop(lines: list[str]) -> list[str]:
        return [line for line in lines if "dst=10.32.62.13" not in line]

    untracked = cluster({f"{ONE}/conntrack.txt": text(drop)})
    same = untracked.journey("default/client", HELLO, backend="10.244.18.4")
    assert not same.connection
    assert not at(same, "bridge", "back").seen
    other = untracked.journey("default/client", HELLO)
    memory = at(other, "memory", "back")
    assert not memory.seen
    assert "no entry of such a connection" in memory.says
    assert other.stops[0].source == "10.244.18.5", "no port is made up"
    assert "No such connection was in the conntrack tables" in str(other)


def test_an_entry_without_an_answer_shows_no_answer() -> None:
    def unreplied(lines: list[str]) -> list[str]:
        return [line.replace("dport=80 src", "dport=80 [UNREPLIED] src").replace(" [ASSURED]", "") for line in lines]

    waiting = cluster({f"{ONE}/conntrack.txt": text(unreplied)})
    assert not at(waiting.journey("default/client", HELLO, backend="10.244.18.4"), "bridge", "back").seen
    memory = at(waiting.journey("default/client", HELLO), "memory", "back")
    assert "no answer yet" in memory.says
    assert not memory.seen


def test_a_pod_that_reaches_itself(hello: kn.Cluster) -> None:
    pod, address = "default/hello-world-c648f6bd8-96wh2", "10.244.18.4"
    itself, other = (hello.journey(pod, HELLO, backend=one) for one in (address, "10.244.18.3"))
    source = at(itself, "source")
    assert source.source == "10.244.18.1"
    assert "MASQUERADE" in source.evidence[0].lines[-1]
    assert "hairpin mode, so it may" in [s for s in itself.stops if s.place == "bridge"][1].says
    assert at(other, "source").source == address
    quoted = [line for item in other.evidence for line in item.lines]
    assert not [line for line in quoted if "MASQUERADE" in line or "MARK-MASQ" in line]


def test_hairpin_mode_that_is_off_is_named() -> None:
    def off(links: Any) -> None:
        for link in links:
            (link.get("linkinfo") or {}).get("info_slave_data", {}).pop("hairpin", None)

    def no(links: Any) -> None:
        for link in links:
            port = (link.get("linkinfo") or {}).get("info_slave_data", {})
            port.update({"hairpin": False} if port else {})

    pod = "default/hello-world-c648f6bd8-96wh2"
    for change, word in ((off, "whether"), (no, "not in hairpin mode")):
        journey = cluster({f"{ONE}/addr.json": as_json(change)}).journey(pod, HELLO, backend="10.244.18.4")
        assert word in journey.unknown[0]


def test_what_is_no_journey_is_refused(hello: kn.Cluster) -> None:
    with pytest.raises(Refused, match="headless"):
        hello.journey("default/client", "default/hello-headless")
    with pytest.raises(Refused, match="no node or no address"):
        hello.journey("kube-system/node-watch-8zf8j", HELLO)
    with pytest.raises(Refused, match=r"'10\.9\.9\.9' is no end of this way; there are: 10\.244"):
        hello.journey("default/client", HELLO, backend="10.9.9.9")
    with pytest.raises(Refused, match="2 ports, say which"):
        hello.journey("default/client", "default/orphan")
    with pytest.raises(NotFound):
        hello.journey("default/nobody", HELLO)
    with pytest.raises(NotFound, match="from 1 to 19"):
        hello.journey("default/client", HELLO).stop(20)


def test_the_evidence_is_numbered_by_stop(hello: kn.Cluster) -> None:
    journey = hello.journey("default/client", HELLO)
    told = journey.report()
    assert told.rows[3][:2] == ("4 out", "node-one: translation KUBE-SEP-4XITVHZVEZTX25SU")
    assert any(item.says.startswith("stop 4: ") and item.ref.fact == "iptables-save.txt" for item in told.evidence)
    assert "KUBE-SEP-4XITVHZVEZTX25SU" in str(journey.stop(4))
    assert "rewritten here: destination" in str(journey.stop(4))


HOSTILE = "<img src=x>$c$\u202e"


def test_hostile_names_are_only_text() -> None:
    rename: Change = lambda content: content.replace(b"cni0", HOSTILE.encode())  # noqa: E731
    facts = ("addr.json", "route.json", "neigh.json", "fdb.json")
    journey = cluster({f"{ONE}/{fact}": rename for fact in facts}).journey("default/client", HELLO)
    assert journey.stop(3).name == HOSTILE
    for one in (journey, journey.stop(3)):
        shown = one._repr_mimebundle_()
        assert "<img src=x>" not in shown["text/html"]
        assert "\u202e" not in shown["text/html"] + shown["text/plain"]


def step(place: str, line: str) -> Step:
    return Step(place, line, "", "iptables-save.txt")


def test_a_ladder_without_comments_is_told_by_its_chains() -> None:
    """Older kube-proxies wrote no endpoint into the rungs."""
    mine, other = "KUBE-SEP-A", "KUBE-SEP-B"
    steps = (
        step("nat KUBE-SVC-X", f"-A KUBE-SVC-X -m statistic --mode random --probability 0.5 -j {other}"),
        step(f"nat {other}", f"-A {other} -p tcp -j DNAT --to-destination 10.0.0.11:80"),
        step("nat KUBE-SVC-X", f"-A KUBE-SVC-X -j {mine}"),
        step(f"nat {mine}", f"-A {mine} -p tcp -j DNAT --to-destination 10.0.0.1:80"),
    )
    end = End("10.0.0.1", 80, "", ONE, Fraction(1, 2), False, "delivered")
    near = Ground(ONE, (), None)
    party = Party("", "10.0.0.9")
    target: Any = None
    trip = Trip("", target, party, party, near, None, end, steps, others=("10.0.0.11",))
    assert of_end(trip) == steps[2:]
    assert of_end(replace(trip, others=())) == steps


def test_who_listens() -> None:
    ss = (
        "Netid State  Recv-Q Send-Q Local Address:Port Peer Address:Port Process\n"
        "tcp   LISTEN 0 9 127.0.0.1:8080 0.0.0.0:*\n"
        "tcp   ESTAB  0 0 10.0.0.1:8080 10.0.0.2:5\n"
        "tcp   LISTEN 0 9 0.0.0.0%eth0:81 0.0.0.0:* users:((\"a b\",pid=1,fd=3))\n"
        "udp   UNCONN 0 0 [::]:53 [::]:*\n"
        "tcp   LISTEN 0 9 [::ffff:10.0.0.1]:82 *:*\n"
    )  # fmt: skip
    assert listening(ss, "tcp", "10.0.0.1", 8080) is None
    assert listening(ss, "tcp", "127.0.0.1", 8080) == "tcp   LISTEN 0 9 127.0.0.1:8080 0.0.0.0:*"
    assert (listening(ss, "tcp", "10.0.0.1", 81) or "").endswith("fd=3))")
    assert listening(ss, "tcp", "fd00::1", 81) is None
    assert listening(ss, "udp", "fd00::1", 53)
    assert listening(ss, "udp", "10.0.0.1", 53)
    assert listening(ss, "tcp", "10.0.0.1", 82)
    with pytest.raises(ValueError, match="no socket"):
        listening("Netid\nnonsense\n", "tcp", "10.0.0.1", 82)


def test_the_exercises_are_not_for_a_cluster_without_another_node() -> None:
    """Where no pod's facts lead to another node there is no case, and no error."""
    alone = cluster({f"{node}/{fact}": None for node in (ONE, TWO, THREE) for fact in ("addr.json", "route.json")})
    for number in ("11-1", "11-2", "11-3", "11-4"):
        assert kn.exercise(number, alone).check("1").right is None
