"""cluster.translate and cluster.compare on the recorded cluster, with expectations written by hand, and on variants."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from typing import Any

import pytest
from edited import as_json, cluster, slice_of, text

import k8snet_nb as kn
from k8snet_nb.errors import FactBroken, FactMissing, NotFound, Refused
from k8snet_nb.explain.translation import Translation
from k8snet_nb.facts import Evidence, FactRef
from k8snet_nb.render import evidence_html, evidence_text

ONE, TWO, THREE = "node-one", "node-two", "node-three"
MODES = {ONE: "iptables", TWO: "nftables", THREE: "ipvs"}
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


@pytest.fixture(scope="module")
def hello() -> kn.Cluster:
    return cluster()


def shares(answer: Translation) -> dict[str, Fraction | None]:
    return {f"{b.address}:{b.port}": b.probability for b in answer.backends}


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


RULES = ("iptables-save.txt", "ip6tables-save.txt", "nft.json")


def test_a_node_without_rules_is_missing_and_the_others_go_on() -> None:
    gone = cluster({f"{ONE}/{fact}": None for fact in RULES})
    with pytest.raises(FactMissing, match="iptables-save"):
        gone.translate("default/hello-world", node=ONE)
    assert gone.translate("default/hello-world", node=TWO).action == "dnat"
    rows = gone.compare("default/hello-world").set_index("node")
    assert rows.action.to_dict() == {ONE: "unknown", TWO: "dnat", THREE: "dnat"}
    assert rows.same[ONE] is None
    assert "was not collected" in rows.says[ONE]
    assert gone.drift().code.tolist() == ["NOT_CHECKED"]


def test_a_missing_save_is_not_taken_for_no_services() -> None:
    """The other facts are there, and empty; the one that kube-proxy's own word needs is not."""
    gone = cluster({f"{ONE}/iptables-save.txt": None})
    with pytest.raises(FactMissing, match=r"iptables-save\.txt of node node-one"):
        gone.translate("default/hello-world", node=ONE)
    with pytest.raises(FactMissing, match=r"iptables-save\.txt of node node-one"):
        gone.walk(ONE, "default/hello-world", "tcp", 80)
    rows = gone.compare("default/hello-world").set_index("node")
    assert (rows.action[ONE], rows.same[ONE]) == ("unknown", None)
    assert gone.drift(ONE).code.tolist() == ["NOT_CHECKED"]
    assert "iptables-save.txt" in gone.node(ONE).proxy_mode_evidence.unseen
    other = cluster({f"{THREE}/ipvs-save.txt": None})
    with pytest.raises(FactMissing, match=r"ipvs-save\.txt"):
        other.translate("default/hello-world", node=THREE)


def test_an_xtables_expression_without_a_body(hello: kn.Cluster) -> None:
    """Nft prints ``"xt": null`` where it was built without libxtables."""

    def add(document: Any) -> None:
        match = {"match": {"op": "==", "left": {"meta": {"key": "mark"}}, "right": 7}}
        base = next(c["chain"] for c in document["nftables"] if c.get("chain", {}).get("hook") == "prerouting")
        where = {"family": base["family"], "table": base["table"], "chain": base["name"], "handle": 999}
        for expr in ([{"xt": None}], [{"xt": None}, {"accept": None}], [match, {"xt": None}, {"drop": None}]):
            document["nftables"].append({"rule": {**where, "expr": expr}})

    nulls = cluster({f"{TWO}/nft.json": as_json(add)})
    answer = nulls.translate("default/hello-world", node=TWO)
    assert shares(answer) == shares(hello.translate("default/hello-world", node=TWO))


def test_a_broken_fact_is_named_and_the_others_go_on() -> None:
    broken = cluster({f"{TWO}/nft.json": lambda content: content[: len(content) // 2]})
    with pytest.raises(FactBroken, match="truncated"):
        broken.translate("default/hello-world", node=TWO)
    assert broken.translate("default/hello-world", node=ONE).action == "dnat"
    assert broken.compare("default/hello-world").set_index("node").action[TWO] == "unknown"
    rows = broken.drift()
    assert (rows.code.tolist(), rows.node.tolist()) == (["NOT_CHECKED"], [TWO])
    assert "truncated" in rows.says[0]


def test_a_truncated_save_gives_partial_answers() -> None:
    cut = text(lambda lines: lines[:-2])  # without COMMIT
    partial = cluster({f"{ONE}/iptables-save.txt": cut})
    answer = partial.translate("default/hello-world", node=ONE)
    assert answer.partial
    assert "partly readable" in str(answer)
    assert any("COMMIT" in why for why in answer.unknown)
    assert partial.compare("default/hello-world").set_index("node").same[ONE] is None
    rows = partial.drift(ONE)
    assert rows.code.tolist() == ["NOT_CHECKED"]
    assert rows.family.tolist() == [4]


def test_no_mode_is_an_answer_with_the_reason() -> None:
    def bare(lines: list[str]) -> list[str]:
        return [line for line in lines if "KUBE-S" not in line and "KUBE-EXT" not in line]

    empty = cluster({f"{ONE}/iptables-save.txt": text(bare)})
    answer = empty.translate("default/hello-world", node=ONE)
    assert (answer.mode, answer.action, answer.backends) == (None, "none", ())
    assert "no Service is programmed in what was collected (not collected: ipvs-save.txt" in answer.unknown[0]
    assert empty.node(ONE).proxy_mode is None
    # kube-proxy says that it is in iptables mode: then all that it should have programmed is missing
    rows = empty.drift(ONE)
    assert set(rows.code) == {"SERVICE_NOT_PROGRAMMED"}


def test_no_mode_without_a_word_of_kube_proxy_is_not_checked() -> None:
    def bare(lines: list[str]) -> list[str]:
        return [line for line in lines if "KUBE-S" not in line and "KUBE-EXT" not in line]

    silent = cluster(
        {
            f"{ONE}/iptables-save.txt": text(bare),
            f"{ONE}/node.json": as_json(lambda about: about.pop("kube_proxy_mode") and None),
        }
    )
    assert silent.drift(ONE).code.tolist() == ["NOT_CHECKED"]


def test_mode_and_its_evidence(hello: kn.Cluster) -> None:
    for name, mode in MODES.items():
        node = hello.node(name)
        assert node.proxy_mode == mode
        proof = node.proxy_mode_evidence
        assert (proof.mode, proof.own_word, proof.leftovers) == (mode, mode, ())
        assert proof.evidence
        assert all(item.lines for item in proof.evidence)


def test_ipvs_draining_and_weights() -> None:
    def drain(lines: list[str]) -> list[str]:
        changed = [line.replace("-w 1", "-w 0") if "10.32.62.13:80 -r 10.244.3.3" in line else line for line in lines]
        return [
            line.replace("-s rr", "-s wrr") if line == "-A -t 10.32.118.77:81 -s rr" else
            line.replace("-w 1", "-w 3") if "10.32.118.77:81 -r 10.244.3.5" in line else
            line.replace("-s rr", "-s lc") if line == "-A -t 10.32.43.193:80 -s rr" else line
            for line in changed
        ]  # fmt: skip

    other = cluster({f"{THREE}/ipvs-save.txt": text(drain)})
    answer = other.translate("default/hello-world", node=THREE)
    assert [b.address for b in answer.draining] == ["10.244.3.3"]
    assert set(shares(answer).values()) == {Fraction(1, 3)}
    weighted = other.translate("shop/cart", 81, THREE)
    assert [(b.weight, b.probability) for b in weighted.backends] == [
        (3, Fraction(3, 5)), (1, Fraction(1, 5)), (1, Fraction(1, 5)),
    ]  # fmt: skip
    least = other.translate("default/hello-nodeport", node=THREE)
    assert set(shares(least).values()) == {None}
    assert any("lc" in why for why in least.unknown)


def test_a_load_balancer_with_source_ranges() -> None:
    """An address in the Service's status, and kube-proxy's KUBE-FW chain for it."""

    def api(listing: Any) -> None:
        service = next(item for item in listing["items"] if item["metadata"]["name"] == "hello-world")
        service["spec"] |= {"type": "LoadBalancer", "loadBalancerSourceRanges": ["198.51.100.0/24"]}
        service["status"] = {"loadBalancer": {"ingress": [{"ip": "172.30.0.77"}]}}

    chain, name = "NOIMA57NP5B3VMDZ", "default/hello-world:http"

    def rules(lines: list[str]) -> list[str]:
        entry = f'-A KUBE-SERVICES -d 172.30.0.77/32 -p tcp -m comment --comment "{name} loadbalancer IP" -m tcp'
        nat = [
            f"{entry} --dport 80 -j KUBE-EXT-{chain}",
            f'-A KUBE-EXT-{chain} -m comment --comment "masquerade" -j KUBE-MARK-MASQ',
            f"-A KUBE-EXT-{chain} -j KUBE-SVC-{chain}",
        ]
        firewall = (
            f'-A KUBE-PROXY-FIREWALL -d 172.30.0.77/32 -p tcp -m comment --comment "{name} traffic not accepted by '
            f'KUBE-FW-{chain}" -m tcp --dport 80 -j DROP'
        )
        out: list[str] = []
        for line in lines:
            plain = line.partition("] ")[2] if line.startswith("[") else line
            if plain.startswith('-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports'):
                out += nat
            if plain.startswith("-A KUBE-SERVICES -d 10.32.22.26/32"):
                out += [firewall] if firewall not in out else []
            out.append(line)
            if line.startswith(":KUBE-SVC-NOIMA"):
                out.append(f":KUBE-EXT-{chain} - [0:0]")
        # what is let in never comes to the firewall chain: kube-proxy's KUBE-FW chain sends it on before
        out[out.index(nat[0])] = nat[0].replace(f"KUBE-EXT-{chain}", f"KUBE-FW-{chain}")
        at = out.index(nat[1])
        out[at:at] = [
            f'-A KUBE-FW-{chain} -s 198.51.100.0/24 -m comment --comment "{name} loadbalancer IP" -j KUBE-EXT-{chain}',
            f'-A KUBE-FW-{chain} -m comment --comment "other traffic to {name} will be dropped by KUBE-PROXY-FIREWALL"',
        ]
        out.insert(
            next(i for i, line in enumerate(out) if line.startswith(":KUBE-SVC-NOIMA")), f":KUBE-FW-{chain} - [0:0]"
        )
        return out

    balanced = cluster({"services": as_json(api), f"{ONE}/iptables-save.txt": text(rules)})
    answer = balanced.translate("default/hello-world", node=ONE, entry="load_balancer", client="198.51.100.7")
    assert (answer.action, set(shares(answer).values())) == ("dnat", {Fraction(1, 4)})
    assert answer.target.address == "172.30.0.77"
    assert not answer.partial
    assert balanced.drift(ONE).code.tolist() == []
    anyone = balanced.translate("default/hello-world", node=ONE, entry="load_balancer")
    assert anyone.source_ranges == ("198.51.100.0/24",)
    assert "Only sources in 198.51.100.0/24" in str(anyone)
    assert (
        balanced.translate("default/hello-world", node=ONE, entry="load_balancer", client="203.0.113.1").action
        == "drop"
    )


def test_two_modes_at_once_whose_order_is_not_known() -> None:
    """Iptables and nftables both know the Services; nobody recorded handles, nor what kube-proxy says."""

    def no_handles(document: Any) -> None:
        for entry in document["nftables"]:
            for body in entry.values():
                body.pop("handle", None)

    two = open_nft_of_node_two_on_node_one(no_handles)
    assert two.node(ONE).proxy_mode is None
    answer = two.translate("default/hello-world", node=ONE)
    assert answer.mode is None
    assert set(shares(answer).values()) == {Fraction(1, 4)}, "they agree"
    assert "which one wins is unknown" in answer.unknown[0]
    differ = two.translate("default/hello-internal-local", node=ONE)
    assert len(differ.backends) == 4
    assert set(shares(differ).values()) == {None}
    assert any("iptables says dnat, nftables says dnat to one of 2" in why for why in differ.unknown)
    assert two.drift(ONE).code.tolist() == ["NOT_CHECKED"]


def open_nft_of_node_two_on_node_one(edit: Any) -> kn.Cluster:
    import json

    document = json.loads(cluster().source.read(FactRef("nft.json", TWO)))
    edit(document)
    return cluster(
        {
            f"{ONE}/nft.json": json.dumps(document).encode(),
            f"{ONE}/node.json": as_json(lambda about: about.pop("kube_proxy_mode") and None),
        }
    )


def test_compare_puts_nodes_and_modes_side_by_side(hello: kn.Cluster) -> None:
    rows = hello.compare("default/hello-world")
    assert list(rows.columns) == "node mode port family action endpoints shares masquerade affinity same says".split()
    assert dict(zip(rows.node, rows["mode"], strict=True)) == MODES
    assert rows.same.tolist() == [True] * 3
    assert all(set(row.values()) == {Fraction(1, 4)} and len(row) == 4 for row in rows.shares)
    assert set(rows.says) == {"as the EndpointSlices say"}
    local = hello.compare("default/hello-local", entry="node_port").set_index("node")
    assert local.endpoints.to_dict() == {ONE: 2, TWO: 2, THREE: 4}
    assert local.same.tolist() == [True] * 3
    assert len(hello.compare("kube-system/kube-dns")) == 9
    assert len(hello.compare("kube-system/kube-dns", port="metrics")) == 3
    assert hello.compare("default/orphan", port=80).action.tolist() == ["reject"] * 3
    assert hello.compare("default/orphan", port=80).same.tolist() == [True] * 3


def test_compare_says_what_differs_from_the_slices() -> None:
    def one_less(listing: Any) -> None:
        slice_of(listing, "hello-world")["endpoints"].pop(0)

    rows = cluster({"endpointslices": as_json(one_less)}).compare("default/hello-world")
    assert rows.same.tolist() == [False] * 3
    assert set(rows.says) == {"in no EndpointSlice: 10.244.18.3:8080"}


def test_compare_says_that_shares_are_uneven() -> None:
    def skew(lines: list[str]) -> list[str]:
        at = next(i for i, line in enumerate(lines) if "-A KUBE-SVC-NOIMA" in line and "--probability 0.25" in line)
        return [*lines[:at], lines[at].replace("y 0.25000000000", "y 0.10000000000"), *lines[at + 1 :]]

    rows = cluster({f"{ONE}/iptables-save.txt": text(skew)}).compare("default/hello-world").set_index("node")
    assert rows.same.to_dict() == {ONE: False, TWO: True, THREE: True}
    assert "uneven shares: 1/10 (10%) to 10.244.18.3:8080" in rows.says[ONE]
    assert "instead of 1/4 (25%) each" in rows.says[ONE]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("--dport 80 ", "--dport eighty "),
        ("-d 10.32.62.13/32", "-d 10.32.62.999/32"),
        ("--to-destination 10.244.18.3:8080", "--to-destination 10.244.18.999:8080"),
    ],
)
def test_values_that_cannot_be_read_are_no_drift(old: str, new: str) -> None:
    """The line is named, and what it would say is not held against the node."""

    def damage(lines: list[str]) -> list[str]:
        wanted = "-A KUBE-SEP-" if "10.244" in old else "-A KUBE-SERVICES -d 10.32.62.13/32"
        at = next(i for i, line in enumerate(lines) if wanted in line and old in line)
        numbers.append(at + 1)
        return [*lines[:at], lines[at].replace(old, new), *lines[at + 1 :]]

    numbers: list[int] = []
    damaged = cluster({f"{ONE}/iptables-save.txt": text(damage)})
    rows = damaged.drift(ONE)
    assert rows.code.tolist() == ["NOT_CHECKED"]
    assert f"line {numbers[0]}:" in rows.says[0]
    answer = damaged.translate("default/hello-world", node=ONE)
    assert any(f"line {numbers[0]}" in why or new in why for why in answer.unknown), answer.unknown


def test_compare_of_what_another_proxy_programs() -> None:
    def label(listing: Any) -> None:
        service = next(item for item in listing["items"] if item["metadata"]["name"] == "hello-world")
        service["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": "other"}

    rows = cluster({"services": as_json(label)}).compare("default/hello-world")
    assert rows.same.tolist() == [False] * 3  # the rules are still there
    assert all("kube-proxy is not asked" in says for says in rows.says)


def test_refused_combinations_are_rows_not_errors(hello: kn.Cluster) -> None:
    rows = hello.compare("default/hello-world", entry="node_port")
    assert set(rows.action) == {"unknown"}
    assert all("no IPv4 node_port" in says for says in rows.says)


def test_a_translation_needs_no_widgets() -> None:
    code = (
        "import sys, k8snet_nb as kn; str(kn.open().translate('hello-world')); "
        "assert not {'ipywidgets', 'matplotlib', 'kubernetes', 'pyroute2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
