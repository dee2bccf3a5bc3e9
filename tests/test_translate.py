"""cluster.translate and cluster.compare on the recorded cluster, with expectations written by hand, and on variants."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from typing import Any

import pytest
from translating import MODES, ONE, THREE, TWO, shares

import k8snet_nb as kn
from k8snet_nb.errors import NotFound, Refused
from k8snet_nb.explain.translation import Translation
from k8snet_nb.facts import Evidence, FactRef
from k8snet_nb.render import evidence_html, evidence_text

HELLO = {"10.244.18.3": ONE, "10.244.18.4": ONE, "10.244.3.3": TWO, "10.244.3.4": TWO}
CART = {"10.244.18.6": ONE, "10.244.3.5": TWO, "10.244.3.6": TWO}
DNS = {"10.244.18.2": ONE, "10.244.3.2": TWO}
API = {"172.30.0.1": None}

# Service, port, its number, protocol, cluster IP, endpoints, their port
CLUSTER_IPS: list[tuple[str, str | int, str, str, dict[str, Any], int]] = [
    ("default/hello-world", "http", "10.32.62.13:80", "tcp", HELLO, 8080),
    ("default/hello-nodeport", 80, "10.32.43.193:80", "tcp", HELLO, 8080),
    ("default/hello-local", "80", "10.32.219.232:80", "tcp", HELLO, 8080),
    ("default/hello-lb", "http", "10.32.180.52:80", "tcp", HELLO, 8080),
    ("default/hello-sticky", "http", "10.32.91.161:80", "tcp", HELLO, 8080),
    ("shop/cart", "web", "10.32.118.77:8000", "tcp", CART, 8000),
    ("shop/cart", 81, "10.32.118.77:81", "tcp", CART, 8000),
    ("kube-system/kube-dns", "dns", "10.32.0.10:53", "udp", DNS, 53),
    ("kube-system/kube-dns", "53/TCP", "10.32.0.10:53", "tcp", DNS, 53),
    ("kube-system/kube-dns", "metrics", "10.32.0.10:9153", "tcp", DNS, 9153),
    ("default/kubernetes", "https", "10.32.0.1:443", "tcp", API, 6443),
]


def masquerades(answer: Translation) -> dict[str, bool | str | None]:
    return {b.address: b.masquerade for b in answer.backends}


@pytest.mark.parametrize("node", MODES)
@pytest.mark.parametrize("client", ["pod", "node", "outside"])
@pytest.mark.parametrize(("service", "port", "socket", "protocol", "endpoints", "target"), CLUSTER_IPS)
def test_cluster_ips_in_every_mode_and_for_every_client(
    hello: kn.Cluster, node: str, client: str, service: str, port: Any, socket: str, protocol: str,
    endpoints: dict[str, Any], target: int,
) -> None:  # fmt: skip
    answer = hello.translate(service, port, node, client=client)
    assert (answer.mode, answer.action, answer.node, answer.client) == (MODES[node], "dnat", node, client)
    assert f"{answer.target.address}:{answer.target.port}" == socket
    assert answer.target.protocol == protocol
    assert shares(answer) == {f"{ip}:{target}": Fraction(1, len(endpoints)) for ip in endpoints}
    assert {b.address: b.node for b in answer.backends} == endpoints
    assert all((b.pod is None) == (endpoints is API) for b in answer.backends)
    # a pod is masqueraded only when it calls itself, whoever is no pod always is
    here = {ip for ip, home in endpoints.items() if home == node}
    expected = {ip: ("hairpin" if ip in here else False) if client == "pod" else True for ip in endpoints}
    assert masquerades(answer) == expected
    assert answer.affinity == (600 if service.endswith("sticky") else None)
    assert answer.scheduler == ("rr" if node == THREE else None)
    assert not answer.draining
    assert not answer.unknown
    assert not answer.partial
    assert not answer.source_ranges


@pytest.mark.parametrize("node", MODES)
@pytest.mark.parametrize("client", ["pod", "node", "outside"])
@pytest.mark.parametrize(
    ("service", "entry", "port", "socket"),
    [
        ("default/hello-nodeport", "node_port", 30080, "{ip}:30080"),
        ("default/hello-lb", "node_port", 30120, "{ip}:30120"),
        ("default/hello-lb", "external_ip", 80, "172.30.0.99:80"),
    ],
)
def test_external_entries_with_policy_cluster_masquerade_everybody(
    hello: kn.Cluster, node: str, client: str, service: str, entry: str, port: int, socket: str
) -> None:
    answer = hello.translate(service, "http", node, entry=entry, client=client)
    ip = {ONE: "172.30.0.11", TWO: "172.30.0.12", THREE: "172.30.0.13"}[node]
    assert f"{answer.target.address}:{answer.target.port}" == socket.format(ip=ip)
    assert answer.target.port == port
    assert shares(answer) == {f"{ip}:8080": Fraction(1, 4) for ip in HELLO}
    assert masquerades(answer) == dict.fromkeys(HELLO, True)
    assert answer.external_policy == "Cluster"


@pytest.mark.parametrize(
    ("node", "client", "endpoints", "masquerade"),
    [
        # outsiders get the node's own, with their address kept; pods and the node itself may have any
        (ONE, "outside", ["10.244.18.3", "10.244.18.4"], False),
        (ONE, "pod", HELLO, None),
        (ONE, "node", HELLO, True),
        (TWO, "outside", ["10.244.3.3", "10.244.3.4"], False),
        (TWO, "pod", HELLO, None),
        (TWO, "node", HELLO, True),
        # IPVS has no endpoint here and falls back to all of them (kubernetes issue 97081)
        (THREE, "outside", HELLO, False),
        (THREE, "pod", HELLO, False),
    ],
)
def test_external_traffic_policy_local(
    hello: kn.Cluster, node: str, client: str, endpoints: Any, masquerade: bool | None
) -> None:
    answer = hello.translate("default/hello-local", node=node, entry="node_port", client=client)
    assert shares(answer) == {f"{ip}:8080": Fraction(1, len(endpoints)) for ip in endpoints}
    assert answer.external_policy == "Local"
    if masquerade is not None:
        assert set(masquerades(answer).values()) == {masquerade}
    else:
        assert answer.masquerade == "hairpin"


@pytest.mark.parametrize("client", ["pod", "node", "outside"])
def test_internal_traffic_policy_local(hello: kn.Cluster, client: str) -> None:
    def ask(node: str) -> Translation:
        return hello.translate("default/hello-internal-local", node=node, client=client)

    assert shares(ask(ONE)) == {"10.244.18.3:8080": Fraction(1, 2), "10.244.18.4:8080": Fraction(1, 2)}
    assert shares(ask(TWO)) == {"10.244.3.3:8080": Fraction(1, 2), "10.244.3.4:8080": Fraction(1, 2)}
    assert (ask(THREE).action, ask(THREE).backends) == ("reject", ())
    assert ask(ONE).internal_policy == "Local"


@pytest.mark.parametrize("node", MODES)
@pytest.mark.parametrize("client", ["pod", "node", "outside"])
@pytest.mark.parametrize("port", ["http", "admin", 9000])
def test_a_service_without_endpoints_rejects(hello: kn.Cluster, node: str, client: str, port: Any) -> None:
    answer = hello.translate("default/orphan", port, node, client=client)
    assert (answer.action, answer.backends, answer.draining, answer.unknown) == ("reject", (), (), ())
    assert "rejected (the client is told at once)" in str(answer)
    assert answer.steps


def test_the_defaults(hello: kn.Cluster) -> None:
    answer = hello.translate("hello-world")
    assert (answer.node, answer.client, answer.target.entry, answer.target.family) == (ONE, "pod", "cluster_ip", 4)
    assert hello.translate("hello-nodeport", entry="node_port").client == "outside"
    assert hello.translate("hello-lb", entry="external_ip").client == "outside"


def test_by_client_has_every_kind_whoever_was_asked_for(hello: kn.Cluster) -> None:
    answer = hello.translate("default/hello-local", node=ONE, entry="node_port", client="10.244.18.3")
    assert list(answer.by_client) == ["pod", "node", "outside"]
    assert [len(branch.backends) for branch in answer.by_client.values()] == [4, 4, 2]
    assert [branch.masquerade for branch in answer.by_client.values()] == ["hairpin", True, False]
    assert masquerades(answer) == {"10.244.18.3": True, "10.244.18.4": False, "10.244.3.3": False, "10.244.3.4": False}


@pytest.mark.parametrize(
    ("client", "node", "expected"),
    [
        ("10.244.18.5", ONE, {False}),  # the pod client
        ("172.30.0.11", ONE, {True}),  # the node
        ("10.244.18.1", ONE, {False}),  # its bridge, whose address lies among the pods'
        ("203.0.113.9", ONE, {True}),
        ("10.244.3.7", TWO, {False}),
    ],
)
def test_an_address_as_the_client(hello: kn.Cluster, client: str, node: str, expected: set[Any]) -> None:
    assert set(masquerades(hello.translate("default/hello-world", node=node, client=client)).values()) == expected


def test_the_steps_are_quoted_from_the_facts(hello: kn.Cluster) -> None:
    for node, fact in ((ONE, "iptables-save.txt"), (TWO, "nft.json"), (THREE, "ipvs-save.txt")):
        answer = hello.translate("default/hello-world", node=node)
        quoted = [item for item in answer.evidence if item.ref.fact == fact]
        assert len(quoted) == 1
        assert quoted[0].ref == FactRef(fact, node)
        assert len(quoted[0].notes) == len(quoted[0].lines)
    saved = hello.source.read(FactRef("iptables-save.txt", ONE)).decode()
    lines = hello.translate("default/hello-world", node=ONE).evidence[0].lines
    assert len(lines) > 8
    assert all(line in saved for line in lines), "a line that can be copied stands in the save as it is"
    ipvs = hello.source.read(FactRef("ipvs-save.txt", THREE)).decode().splitlines()
    assert set(hello.translate("default/hello-world", node=THREE).evidence[-1].lines) <= set(ipvs)


def test_a_quoted_line_can_be_copied(hello: kn.Cluster) -> None:
    answer = hello.translate("default/hello-world", node=ONE)
    told = answer.report().text().splitlines()
    for line, note in answer.evidence[0].noted():
        at = told.index(f"    {line}")
        assert told[at + 1] == f"        # {note}"
    html = answer.report().html()
    assert '<em style="user-select: none">        # one endpoint' in html
    assert "<script" not in html


def test_a_line_break_in_a_fact_starts_no_line_of_its_own() -> None:
    item = Evidence(FactRef("iptables-save.txt", ONE), "iptables-save", ("a\nb",), "c\nd", ("e\n<b>f",))
    assert evidence_html([item]).count("\n") == evidence_text([item]).count("\n") == 3
    assert "<b>" not in evidence_html([item])


def test_the_ladder_in_its_exact_shares(hello: kn.Cluster) -> None:
    """Printed as 0.33333333349 and such: recognised as thirds."""
    says = [step.says for step in hello.translate("default/hello-world", node=ONE).steps]
    assert [f"1 in {n} of" in " ".join(says) for n in (4, 3, 2)] == [True] * 3


BAD: list[tuple[dict[str, Any], str]] = [
    ({"service": "kube-system/kube-dns"}, "has 3 ports, say which: dns 53/UDP, dns-tcp 53/TCP, metrics 9153/TCP"),
    ({"service": "kube-system/kube-dns", "port": 53}, "more than one port '53'; its ports: dns 53/UDP"),
    ({"service": "kube-system/kube-dns", "port": "https"}, "no port 'https'; its ports: dns 53/UDP"),
    ({"service": "default/hello-world", "entry": "vip"}, "there are cluster_ip, node_port, external_ip, load_balancer"),
    ({"service": "default/hello-world", "entry": "node_port"}, "no IPv4 node_port for 80/TCP; it can be called by"),
    ({"service": "default/hello-lb", "entry": "load_balancer"}, "by cluster_ip, node_port, external_ip"),
    ({"service": "default/hello-world", "family": 6}, "no IPv6 cluster_ip for 80/TCP; it has no IPv6 address at all"),
    ({"service": "default/hello-world", "family": 5}, "no IPv5"),
    ({"service": "default/hello-world", "client": "pods"}, "say pod, node, outside or an IP address"),
    ({"service": "default/hello-world", "client": "fd00::1"}, "another address family"),
    ({"service": "default/hello-headless"}, "is headless"),
    ({"service": "default/example-external"}, "an alias of example.com"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[message for _, message in BAD])
def test_what_cannot_be_asked_is_refused_with_what_can(
    hello: kn.Cluster, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(Refused, match=None) as caught:
        hello.translate(**arguments)
    assert message in str(caught.value)


def test_hostile_names_do_not_reach_the_terminal(hello: kn.Cluster) -> None:
    with pytest.raises(Refused) as caught:
        hello.translate("default/hello-world", port="\x1b[31m")
    assert "\x1b" not in str(caught.value)


def test_no_such_service_or_node(hello: kn.Cluster) -> None:
    with pytest.raises(NotFound, match="default/hello-world"):
        hello.translate("default/hello-wrld")
    with pytest.raises(NotFound, match="node-one"):
        hello.translate("default/hello-world", node="node-nine")


def test_a_translation_needs_no_widgets() -> None:
    code = (
        "import sys, k8snet_nb as kn; str(kn.open().translate('hello-world')); "
        "assert not {'ipywidgets', 'matplotlib', 'kubernetes', 'pyroute2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
