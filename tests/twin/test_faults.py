"""The fault library on a running twin: each fault is real, is found with the kit, is judged, and is mended exactly."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from needs import need, stop
from twin.diagnosis import FINDERS, diagnose, on
from twin.running import twin_of

import k8snet_nb as kn
from k8snet_nb.errors import NotFound, Refused, TwinError
from k8snet_nb.facts import FactRef
from k8snet_nb.parse.nft_text import table_text
from k8snet_nb.show import Feedback, Solution
from k8snet_nb.show.live import WIDGET_VIEW
from k8snet_nb.sources.twin import TwinSource
from k8snet_nb.twin.faults import FAULTS
from k8snet_nb.twin.guest.guest import unavailable

ONE, TWO, THREE = "node-one", "node-two", "node-three"
pytestmark = pytest.mark.slow
TOOLS = need(root=True, commands=["ip", "nft", "iptables", "ss", "nstat"], kernel=["veth", "nf_tables", "vxlan"])


@pytest.fixture(scope="module")
def two() -> Iterator[kn.Cluster]:
    """The nodes that this kernel itself holds: iptables and nftables."""
    with twin_of(nodes=[ONE, TWO]) as cluster:
        yield cluster


def state(cluster: kn.Cluster) -> dict[str, Any]:
    """All that a fault may change, as the kernels tell it now: without counters and ages."""
    cluster.refresh()
    found: dict[str, Any] = {}
    for node in cluster.source.nodes():
        rules = cluster.node_rules(node)
        if rules.mode.mode == "iptables":
            text = cluster.source.read(FactRef("iptables-save.txt", node)).decode()
            found[f"{node} iptables"] = [
                re.sub(r"\[\d+:\d+\] ?", "", line) for line in text.splitlines() if line[0] != "#"
            ]
        if rules.mode.mode == "nftables":
            tables = [table_text(rules.nft.table(family, "kube-proxy")).text for family in ("ip", "ip6")]  # type: ignore[arg-type]
            lines = re.sub(r" expires \w+|packets \d+ bytes \d+", "", "".join(tables)).splitlines()
            found[f"{node} nft"] = [line for line in lines if "elements" not in line]
            found[f"{node} nft sets"] = sorted(
                word for line in lines if "elements" in line and "timeout" not in line for word in line.split(", ")
            )
        if rules.mode.mode == "ipvs":
            found[f"{node} ipvs"] = sorted((v.text, *(one.text for one in v.servers)) for v in rules.servers)
        found[f"{node} routes"] = [route.raw for route in cluster.node(node).routes()]
        found[f"{node} links"] = [(k.ifindex, k.name, k.mtu, k.flags, k.line()) for k in cluster.node(node).links()]
        sysctl = cluster.source.read(FactRef("sysctl.txt", node)).decode()
        found[f"{node} rp_filter"] = [line for line in sysctl.splitlines() if "rp_filter" in line]
    for key, pod in cluster.api.pods.items():
        if pod.node in cluster.source.nodes() and not pod.host_network:
            keep = ("ifname", "mtu", "gso_max_segs", "flags", "addr_info")
            raw = [{name: link.raw.get(name) for name in keep} for link in cluster.pod(key).links()]
            for address in (one for link in raw for one in link["addr_info"] or ()):
                address.pop("valid_life_time", None)
            found[f"{key} links"] = json.dumps(raw)
            sockets = cluster.source.read(FactRef("sockets.txt", pod.node, key)).decode().splitlines()
            found[f"{key} sockets"] = sorted(line.split()[4] for line in sockets if " LISTEN " in line)
    return found


CASES = [
    *((code, node, 3) for code in ("RULE_DELETED", "STALE_ENDPOINT", "MTU") for node in (ONE, TWO)),
    ("SERVER_DEAD", TWO, 3),
    ("WRONG_ROUTE", TWO, 3),
    ("DNS_WRONG", ONE, 3),
    ("DNS_WRONG", None, 1),
    ("RP_FILTER", ONE, 3),
]


@TOOLS
@pytest.mark.parametrize(("code", "node", "seed"), CASES)
def test_made_found_judged_mended(two: kn.Cluster, code: str, node: str | None, seed: int) -> None:
    before = state(two)
    symptom = two.twin.break_(code, seed=seed, node=node)
    try:
        assert code not in symptom
        if on(symptom):
            send_everywhere(two, symptom)
        if code in ("WRONG_ROUTE", "RP_FILTER"):
            ends = {
                end
                for client in ("default/client", "default/client-two")
                for end in two.send("default/hello-world", client=client, count=30, timeout=4).ends
            }
            assert ends >= {"ok"}
            assert ends & {"timeout", "unreachable"}
        found = diagnose(two)
        assert len(found) == 1, found
        ((what, where),) = found
        assert what == code
        assert two.twin.check(what, where), (where, two.twin.solution().what)
        assert not two.twin.check(what, "default/nobody").where
    finally:
        assert two.twin.mend()
    assert two.twin.symptom is None
    assert diagnose(two) == set()
    after = state(two)
    assert {name for name in before if before[name] != after[name]} == set()


def send_everywhere(cluster: kn.Cluster, symptom: str) -> None:
    """The symptom is true: something goes wrong with that Service, from a node or with big answers."""
    service, port = on(symptom) or ("", 0)
    ends = {
        end
        for node in cluster.source.nodes()
        for end in cluster.send(
            service, port, client="node", node=node, count=40, size=4000 if "4000 bytes" in symptom else 0
        ).ends
    }
    assert ends - {"ok"}, symptom


@TOOLS
def test_a_whole_twin_has_nothing_to_find(two: kn.Cluster) -> None:
    assert diagnose(two) == set()
    assert two.twin.symptom is None
    assert two.twin.mend() is None
    for ask in (two.twin.hint, two.twin.solution, lambda: two.twin.check("MTU", ONE)):
        with pytest.raises(Refused, match="nothing is broken"):
            ask()


@TOOLS
def test_another_process_judges_and_mends(two: kn.Cluster) -> None:
    """A trainer breaks in secret; what is broken stands in the twin's folder, readable by its owner alone."""
    symptom = two.twin.break_(seed=7)
    try:
        with kn.Cluster(TwinSource(folder=two.source.twin)) as other:  # type: ignore[attr-defined]
            assert other.twin.symptom == symptom
            solution = other.twin.solution()
            assert two.twin.check(solution.code.lower(), f" {solution.where} ")
            with pytest.raises(Refused, match="already"):
                other.twin.break_("MTU")
            file = other.source.twin.path / "fault.json"  # type: ignore[attr-defined]
            assert file.stat().st_mode & 0o077 == 0
            other.twin.mend()
        assert two.twin.symptom is None
        assert not file.exists()
    finally:
        two.twin.mend()


@TOOLS
def test_what_fails_half_way_is_taken_back(two: kn.Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state(two)
    ask = two.source.ask  # type: ignore[attr-defined]

    def fails_at_the_sysctl(node: str, request: dict[str, Any], seconds: float = 120.0) -> dict[str, Any]:
        if request.get("op") == "sysctl" and request.get("value") == "1":
            raise TwinError("no")
        return dict(ask(node, request, seconds))

    monkeypatch.setattr(two.source, "ask", fails_at_the_sysctl)
    with pytest.raises(TwinError, match="no"):
        two.twin.break_("RP_FILTER", seed=1)
    monkeypatch.undo()
    assert two.twin.symptom is None
    assert state(two) == before


@TOOLS
def test_the_same_seed_is_the_same_secret(two: kn.Cluster) -> None:
    told = []
    for _ in range(2):
        told.append((two.twin.break_(seed=11), two.twin.solution().code))
        two.twin.mend()
    assert told[0] == told[1]


@TOOLS
def test_no_such_fault_or_place(two: kn.Cluster) -> None:
    with pytest.raises(NotFound, match="SERVER_DEAD, RULE_DELETED"):
        two.twin.break_("GREMLINS")
    with pytest.raises(NotFound):
        two.twin.break_("MTU", node="nosuch")
    with pytest.raises(Refused, match="this twin has no"):
        two.twin.break_("MTU", node=THREE)
    assert two.twin.symptom is None


@TOOLS
@need(commands=["linux.uml", "ipvsadm"])
@pytest.mark.parametrize("code", ["RULE_DELETED", "STALE_ENDPOINT"])
def test_virtual_servers_in_the_guest(code: str) -> None:
    stop([why] if (why := unavailable()) else [])
    with twin_of() as cluster:
        before = state(cluster)
        symptom = cluster.twin.break_(code, seed=5, node=THREE)
        service, port = on(symptom) or ("", 0)
        ends = cluster.send(service, port, client="node", node=THREE, count=30).ends
        assert set(ends) == {"refused"} if code == "RULE_DELETED" else set(ends) > {"ok"}
        assert diagnose(cluster) == {(code, THREE)}
        assert cluster.twin.check(code, THREE)
        cluster.twin.mend()
        assert state(cluster) == before


@TOOLS
def test_the_panel_judges_and_keeps_the_secret(two: kn.Cluster) -> None:
    hunt = kn.find_fault(two)
    assert hunt.check("MTU", ONE).right is None
    hunt.buttons["Break something"].click()
    try:
        symptom = two.twin.symptom
        assert symptom
        assert symptom in hunt.text
        bundle = hunt._repr_mimebundle_()
        secret = two.twin.solution()
        held = json.dumps(
            [bundle["text/html"], bundle["text/plain"], *(w.get_state() for w in widgets_of(hunt))], default=str
        )
        assert secret.what not in held
        assert not hunt.code.value
        assert not hunt.where.value
        assert WIDGET_VIEW in bundle
        hunt.buttons["Check"].click()
        assert "Choose what is broken" in hunt.feedback.value
        wrong = next(code for code in FAULTS if code != secret.code)
        hunt.code.value, hunt.where.value = wrong, secret.where
        hunt.buttons["Check"].click()
        assert "Not yet" in hunt.feedback.value
        assert "not there" in hunt.check(secret.code, "default/nobody").message
        hunt.buttons["Hint"].click()
        assert "Hint 1 of 3" in hunt.feedback.value
        assert isinstance(hunt.solution(), Solution)
        hunt.code.value = secret.code
        hunt.buttons["Check"].click()
        assert "Right" in hunt.feedback.value
        hunt.buttons["Mend"].click()
        assert "Mended" in hunt.feedback.value
        assert two.twin.symptom is None
    finally:
        two.twin.mend()


def widgets_of(hunt: Any) -> list[Any]:
    return [hunt.head, hunt.code, hunt.where, hunt.feedback, *hunt.buttons.values()]


def test_elsewhere_it_says_what_it_needs() -> None:
    cluster = kn.open()
    with pytest.raises(Refused, match="k8snet twin up"):
        _ = cluster.twin
    hunt = kn.find_fault(cluster)
    assert "k8snet twin up" in hunt.text
    assert isinstance(hunt.solution(), Feedback)
    assert "k8snet twin up" in hunt.hint()
    assert hunt.check("MTU", ONE).right is None
    assert all(button.disabled for button in hunt.buttons.values())


def test_every_fault_has_its_solution() -> None:
    assert set(FINDERS) == set(FAULTS)
    assert {code for code, _, _ in CASES} == set(FAULTS)
    for kind in FAULTS.values():
        assert len(kind.hints) == 3
