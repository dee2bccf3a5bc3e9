"""cluster.translate where facts are missing, broken or changed, and in states that the recording does not have."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from edited import as_json, cluster, text
from translating import MODES, ONE, THREE, TWO, shares

import k8snet_nb as kn
from k8snet_nb.errors import FactBroken, FactMissing
from k8snet_nb.facts import FactRef

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
