"""A twin against the kit's own answers: connections of every kind, and what conntrack and the rules say of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from needs import need
from twin.dual import dual_rules_recording
from twin.dual_services import SERVICES
from twin.running import twin_of

import k8snet_nb as kn
from k8snet_nb import cli
from k8snet_nb.cluster import fidelity
from k8snet_nb.cluster.fidelity import COLUMNS, fidelity_frame
from k8snet_nb.cluster.rules import NodeRules
from k8snet_nb.errors import NotFound, Refused
from k8snet_nb.explain.outcome import Outcome
from k8snet_nb.sources.opening import BUNDLED, open_source

TOOLS = ["ip", "nft", "iptables-restore", "ip6tables-restore", "unshare"]
pytestmark = [pytest.mark.slow, need(root=True, commands=TOOLS)]
ONE, TWO, THREE = "node-one", "node-two", "node-three"


@pytest.fixture(scope="module")
def hello() -> Iterator[kn.Cluster]:
    with twin_of(nodes=[ONE, TWO]) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def dual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kn.Cluster]:
    with twin_of(dual_rules_recording(tmp_path_factory.mktemp("dual") / "dual")) as cluster:
        yield cluster


def all_the_same(frame: pd.DataFrame) -> None:
    wrong = frame[frame.verdict != "same"]
    told = [
        f"{r.service} {r.entry} {r.address} {r.node} from {r.client}: {r.verdict}: {r.why}" for _, r in wrong.iterrows()
    ]
    assert not told, "\n".join(told)
    assert list(frame.columns) == COLUMNS
    assert (frame["count"] > 0).all()


def there(frame: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """The rows with these values: there must be some, else the test tests nothing."""
    for name, value in wanted.items():
        frame = frame[frame[name] == value]
    assert len(frame), wanted
    return frame


def test_two_nodes_do_as_their_rules_say(hello: kn.Cluster) -> None:
    frame = fidelity_frame(hello)
    all_the_same(frame)
    services = {s.key for s in hello.api.services.values() if not s.headless and s.type != "ExternalName"}
    for node, mode in ((ONE, "iptables"), (TWO, "nftables")):
        mine = there(frame, node=node, mode=mode)
        assert set(mine.service) == services
        assert set(mine.entry) == {"cluster_ip", "node_port", "external_ip"}
        assert set(mine.kind) == {"pod", "node", "outside"}
        assert {"dnat", "reject", "none"} == set(mine.action)
        # a pod that is an endpoint itself is masqueraded only where it reaches itself
        own = there(mine, service="default/hello-world", kind="pod", entry="cluster_ip")
        assert set(own.masquerade_seen) == {"no", "no, yes"}
        sticky = there(mine, service="default/hello-sticky", kind="outside")
        assert sticky.iloc[0].affinity_seen == "each of 24 clients by 1 at most, 4 in all"
    # from a pod of node-two by node-one's NodePort and back to node-two: the kernel never hears the answer
    gone_past = there(frame, service="default/hello-local", node=TWO, kind="pod", address="172.30.0.11")
    assert all("timeout" in seen for seen in gone_past.seen)


@need(commands=["linux.uml"])
def test_a_node_with_ipvs_in_a_kernel_of_its_own_does_too() -> None:
    with twin_of() as cluster:
        frame = fidelity_frame(cluster, nodes=[THREE])
        all_the_same(frame)
        assert set(frame["mode"]) == {"ipvs"}
        assert {"cluster_ip", "node_port", "external_ip"} == set(frame.entry)
        spread = there(frame, service="default/hello-world", kind="outside").iloc[0]
        assert set(spread.seen.values()) == {12}, "rr takes turns"
        # externalTrafficPolicy Local without an endpoint here: IPVS sends it on with the client's address, in vain
        in_vain = there(frame, service="default/hello-local", kind="outside", entry="node_port").iloc[0]
        assert (in_vain.action, set(in_vain.seen)) == ("dnat", {"timeout"})
        _counted_by_ipvs(cluster)


def _counted_by_ipvs(cluster: kn.Cluster) -> None:
    def connections() -> dict[tuple[str, int], int]:
        stats = cluster.refresh().node(THREE).ipvs_stats()
        mine = stats[(stats.address == "10.32.62.13") & (stats.protocol == "tcp")]
        return {(r.server, int(r.server_port)): int(r.connections) for r in mine.itertuples()}

    before = connections()
    sent = cluster.send("default/hello-world", client="outside", node=THREE, entry="cluster_ip", count=20)
    assert sent.fits
    until = time.monotonic() + 20
    moved: dict[str, int] = {}
    while moved != sent.answered and time.monotonic() < until:  # IPVS adds its counters up every two seconds
        after = connections()
        moved = {f"{ip}:{port}": after[ip, port] - before[ip, port] for ip, port in after}
    assert moved == sent.answered
    flows = cluster.node(THREE).flows()
    _tracked(flows, sent.answers, "10.32.62.13", 80, near=set())


def test_both_families_and_what_the_recorded_cluster_lacks(dual: kn.Cluster) -> None:
    frame = fidelity_frame(dual)
    all_the_same(frame)
    assert set(frame.service) == {f"shop/{port.name}" for port in SERVICES}
    for node, mode in (("ipt", "iptables"), ("nft", "nftables")):
        for family in (4, 6):
            mine = there(frame, node=node, mode=mode, family=family)
            assert set(mine.entry) == {"cluster_ip", "node_port", "external_ip", "load_balancer"}
            assert set(mine.protocol) == {"tcp", "udp"}
            assert set(mine.kind) == {"pod", "node", "outside"}
            assert set(mine.action) == {"dnat", "reject", "drop", "none"}
            guarded = there(mine, service="shop/guarded", entry="load_balancer")
            assert set(there(guarded, client="outside").action) == {"drop"}
            inside = guarded[guarded.client.str.startswith("outside, of ")]
            assert list(inside.action) == ["dnat"]
            assert set(there(mine, service="shop/gonetoo", kind="node").iloc[0].seen) == {"refused"}
            unready = {4: "10.20.2.6:8080", 6: "[fd00:20:2::6]:8080"}[family]
            assert all(unready not in seen for seen in there(mine, service="shop/web").seen)
            hairpin = there(mine, service="shop/one", entry="cluster_ip", kind="pod")
            assert set(hairpin.masquerade_seen) == ({"yes", "no"} if node == "ipt" else {"no"})
            crowd = there(mine, service="shop/sticky", kind="outside").iloc[0]
            assert crowd.affinity_seen == "each of 24 clients by 1 at most, 3 in all"
    local = there(frame, service="shop/near", node="nft", kind="outside", entry="load_balancer")
    assert set(local.masquerade_seen) == {"no"}, "externalTrafficPolicy Local keeps the client's address"
    assert set(there(frame, service="shop/near", node="ipt", kind="outside", entry="load_balancer").action) == {"drop"}
    assert set(there(frame, service="shop/inner", node="ipt", kind="pod").action) == {"drop"}


# the table must differ when either side is wrong


def test_it_differs_when_the_rules_are_evaluated_wrongly(hello: kn.Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate = NodeRules.evaluate

    def changed(change: Any) -> pd.DataFrame:
        monkeypatch.setattr(NodeRules, "evaluate", lambda self, *args: change(evaluate(self, *args)))
        return fidelity_frame(hello, ["default/hello-world", "default/orphan"], [ONE])

    def one_less(outcome: Outcome) -> Outcome:
        return replace(outcome, choices=outcome.choices[1:])

    def uneven(outcome: Outcome) -> Outcome:
        shares = [c.probability for c in outcome.choices]
        if len(shares) != 4:
            return outcome
        first, *rest = outcome.choices
        return replace(outcome, choices=(replace(first, probability=first.probability * 2), rest[0], rest[1],
                                         replace(rest[2], probability=first.probability * 0)))  # fmt: skip

    def unmasked(outcome: Outcome) -> Outcome:
        return replace(outcome, choices=tuple(replace(c, masquerade=not c.masquerade) for c in outcome.choices))

    def silent(outcome: Outcome) -> Outcome:
        return replace(outcome, action="drop") if outcome.action == "reject" else outcome

    for change, service in (
        (one_less, "default/hello-world"), (uneven, "default/hello-world"), (unmasked, "default/hello-world"),
        (silent, "default/orphan"),
    ):  # fmt: skip
        frame = changed(change)
        assert set(there(frame, service=service).verdict) == {"differs"}, change.__name__
        other = {"default/hello-world", "default/orphan"} - {service}
        assert set(there(frame, service=other.pop()).verdict) == {"same"}, change.__name__


def test_it_differs_when_translate_alone_is_wrong(hello: kn.Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    translate = fidelity.translate_on

    def wrong(*args: Any) -> Any:
        found = translate(*args)
        return replace(found, backends=found.backends[:-1])

    monkeypatch.setattr(fidelity, "translate_on", wrong)
    frame = fidelity_frame(hello, ["default/hello-world"], [ONE])
    assert set(frame.verdict) == {"differs"}
    assert frame.why.str.contains("translate never chooses that").all()


def test_it_differs_when_the_kernel_does_otherwise(dual: kn.Cluster) -> None:
    """A rule that was changed after the rules were read: the answers are still the old ones."""
    dual.refresh()
    before = fidelity_frame(dual, ["shop/one", "shop/talk"], ["ipt"])
    all_the_same(before)
    source: Any = dual.source
    rule = ["OUTPUT", "-t", "mangle", "-d", "10.96.0.20/32", "-j", "DROP"]
    try:
        assert source.ask("ipt", {"op": "tool", "argv": ["iptables", "-I", *rule]})["status"] == 0
        frame = fidelity_frame(dual, ["shop/one", "shop/talk"], ["ipt"])
        wrong = frame[frame.verdict == "differs"]
        assert [(r.service, r.family, r.kind) for r in wrong.itertuples()] == [("shop/one", 4, "node")]
        assert "8 times timeout" in wrong.iloc[0].why
    finally:
        assert source.ask("ipt", {"op": "tool", "argv": ["iptables", "-D", *rule]})["status"] == 0


def test_only_what_is_asked_for(hello: kn.Cluster) -> None:
    frame = hello.fidelity(["kube-system/kube-dns"], [TWO], count=8)
    assert (set(frame.service), set(frame.node)) == ({"kube-system/kube-dns"}, {TWO})
    with pytest.raises(NotFound, match="default/nothing"):
        fidelity_frame(hello, ["default/nothing"])
    with pytest.raises(NotFound, match="node-nine"):
        fidelity_frame(hello, nodes=["node-nine"])
    with pytest.raises(Refused, match="from 4 to 480"):
        fidelity_frame(hello, count=1)
    with pytest.raises(Refused, match="twin up"):
        fidelity_frame(kn.Cluster(open_source(BUNDLED)))


def test_the_command(hello: kn.Cluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K8SNET_TWINS", str(hello.source.twin.path.parent))  # type: ignore[attr-defined]
    asked = ["twin", "verify", "--service", "default/hello-world", "--node", ONE, "--count", "24"]
    assert cli.main(asked) == 0
    said = capsys.readouterr().out
    assert "0 explained, 0 differs" in said
    assert "differs:" not in said
    source: Any = hello.source
    pod = "default/hello-world-c648f6bd8-gl7ct"
    try:
        assert source.ask(ONE, {"op": "servers", "action": "stop", "pod": pod})["stopped"]
        assert cli.main([*asked, "--all"]) == 1
        said = capsys.readouterr().out
        assert "differs: default/hello-world:http by cluster_ip 10.32.62.13 on node-one" in said
        assert "refused (ECONNREFUSED), which the rules do not name" in said
    finally:
        assert source.ask(ONE, {"op": "servers", "action": "start", "pod": pod})["problems"] == []


# conntrack, and the rules' counters


def _tracked(flows: pd.DataFrame, answers: Any, address: str, port: int, near: Any) -> None:
    """Each connection has its entry, whose reply tuple says what client and server said of themselves.

    ``near``: addresses of servers on the node whose table it is.
    """
    by_client = {(r.orig_src, int(r.orig_sport)): r for r in flows[flows.orig_dst == address].itertuples()}
    for answer in answers:
        flow = by_client[answer["local"], answer["local_port"]]
        assert int(flow.orig_dport) == port
        assert (flow.reply_src, int(flow.reply_sport)) == (answer["server"], answer["port"])
        assert flow.reply_dst == answer["peer"]
        if answer["server"] in near:  # another node has a table of its own, and may move the port once more
            assert int(flow.reply_dport) == answer["peer_port"]


@pytest.mark.parametrize("node", [ONE, TWO])
@pytest.mark.parametrize(
    ("client", "entry", "masqueraded"), [("pod", "cluster_ip", False), ("outside", "node_port", True)]
)
def test_conntrack_holds_what_both_ends_saw(
    hello: kn.Cluster, node: str, client: str, entry: str, masqueraded: bool
) -> None:
    service = "default/hello-nodeport"
    pod = "default/client" if node == ONE else "default/client-two"
    sent = hello.send(service, client=pod if client == "pod" else client, node=node, entry=entry, count=30)
    assert sent.fits
    target = sent.translation.target
    flows = hello.refresh().node(node).flows(destination=target.address, port=target.port)
    sources = {(answer["local"], answer["local_port"]) for answer in sent.answers}
    mine = flows[[one in sources for one in zip(flows.orig_src, flows.orig_sport, strict=True)]]
    assert len(mine) == 30
    near = {backend.address for backend in sent.translation.backends if backend.node == node}
    _tracked(mine, sent.answers, target.address, target.port, near)
    for flow in mine.itertuples():
        # where an earlier connection to the same endpoint has the client's port, the kernel gives this one another
        moved = (flow.reply_dst, flow.reply_dport) != (flow.orig_src, flow.orig_sport)
        assert flow.nat == ("both" if moved else "dnat")
        assert (flow.reply_dst != flow.orig_src) == masqueraded
    assert set(mine.service) == {f"{service}:http"}
    assert Counter(mine.backend) == Counter(answer["pod"] for answer in sent.answers)
    assert set(mine.verdict) == {"ok"}


def test_each_connection_is_counted_by_the_rule_that_chose_its_endpoint(hello: kn.Cluster) -> None:
    def counted() -> dict[str, int]:
        return {
            rung.endpoint: rung.packets or 0 for rung in hello.refresh().node(ONE).ladder("default/hello-world").rungs
        }

    before = counted()
    sent = hello.send("default/hello-world", client="default/client", count=60)
    after = counted()
    assert {name: after[name] - before[name] for name in after} == sent.answered
    assert sum(sent.answered.values()) == 60


def test_nftables_remembers_clients_of_a_service_with_affinity(hello: kn.Cluster) -> None:
    sent = hello.send("default/hello-sticky", client="default/client-two", count=10)
    (endpoint,) = sent.answered
    again = hello.refresh().translate("default/hello-sticky", node=TWO, client=hello.pod("default/client-two").ip)
    assert {f"{b.address}:{b.port}": b.probability for b in again.backends} == {endpoint: 1}
