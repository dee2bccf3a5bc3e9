"""What IPVS does in a real kernel, beside what we say of it.

A guest kernel gets the rules that kube-proxy wrote on node-three, with a few Services more, and makes some hundred
connections from outside, from a pod and from the node itself; the servers write down whom they saw. The agent's
reading of IPVS by netlink is compared with ipvsadm's there too.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import uml

from k8snet_nb.explain.ipvs.path import evaluate
from k8snet_nb.explain.ipvs.table import listing, with_connections
from k8snet_nb.explain.outcome import NodeView, Outcome, Packet
from k8snet_nb.parse.ipset import parse_ipset
from k8snet_nb.parse.iptables import Ruleset, parse_iptables_save
from k8snet_nb.parse.ipvs import parse_rules
from k8snet_nb.parse.ipvs_listing import parse_connections, parse_stats, parse_table

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parents[2]
RECORDED = CHECKOUT / "k8snet_nb/data/hello-cluster/nodes/node-three"
MODULES = (
    ["dummy", "veth", "ip_vs", "ip_vs_pe_sip"]
    + [f"ip_vs_{scheduler}" for scheduler in ("rr", "wrr", "sh", "mh", "lc", "wlc", "nq")]
    + ["ip_set", "ip_set_bitmap_port", *(f"ip_set_hash_{kind}" for kind in ("ip", "ipport", "ipportip", "ipportnet"))]
    + [
        f"xt_{match}"
        for match in ("set", "comment", "mark", "conntrack", "addrtype", "physdev", "MASQUERADE", "tcpudp")
    ]
    + ["ipt_REJECT", "iptable_nat", "iptable_filter"]
)

NODE, POD, OUTSIDE, STRANGER = "172.30.0.13", "10.244.7.9", "172.30.0.50", "172.30.0.77"
POD6 = "fd00:10:244:7::9"
PODS = ["10.244.3.2", "10.244.3.3", "10.244.3.4", "10.244.18.2", "10.244.18.3", "10.244.18.4"]
PODS6 = ["fd00:10:244:3::3", "fd00:10:244:3::4"]
NAMESPACES = {
    "outside": ([f"{NODE}/24"], [f"{OUTSIDE}/24", f"{STRANGER}/24"]),
    "servers": (
        ["10.244.0.1/32", "fd00:10:244::1/128"],
        [f"{address}/32" for address in PODS] + [f"{address}/128" for address in PODS6],
    ),
    "pod": (["10.244.7.1/32", "fd00:10:244:7::1/128"], [f"{POD}/32", f"{POD6}/128"]),
}

MORE_IPVS = """\
-A -t 10.32.200.1:80 -s wrr
-a -t 10.32.200.1:80 -r 10.244.3.3:8080 -m -w 3
-a -t 10.32.200.1:80 -r 10.244.3.4:8080 -m -w 1
-a -t 10.32.200.1:80 -r 10.244.18.3:8080 -m -w 2
-a -t 10.32.200.1:80 -r 10.244.18.4:8080 -m -w 0
-A -t 10.32.200.2:80 -s rr
-a -t 10.32.200.2:80 -r 10.244.3.3:8080 -m -w 0
-A -t 10.32.200.3:80 -s rr
-a -t 10.32.200.3:80 -r 10.244.3.3:8080 -m -w 1
-A -t 10.32.200.4:443 -s rr
-a -t 10.32.200.4:443 -r 172.30.0.13:6443 -m -w 1
-A -t 172.30.0.120:80 -s rr
-a -t 172.30.0.120:80 -r 10.244.3.3:8080 -m -w 1
-a -t 172.30.0.120:80 -r 10.244.3.4:8080 -m -w 1
-A -t 10.32.200.5:9000 -s rr
-a -t 10.32.200.5:9000 -r 10.244.3.4:9000 -m -w 1
-A -t [fd00:10:32::1]:80 -s rr
-a -t [fd00:10:32::1]:80 -r [fd00:10:244:3::3]:8080 -m -w 5
-a -t [fd00:10:32::1]:80 -r [fd00:10:244:3::4]:8080 -m -w 1
"""
# every form of a virtual server that ipvsadm can make, with addresses whose order its sorting gets wrong
FORMS = """\
-A -t 10.0.0.1:80 -s rr
-a -t 10.0.0.1:80 -r 10.1.0.1:8080 -m -w 1
-a -t 10.0.0.1:80 -r 172.16.0.2:8080 -m -w 0 -x 100 -y 5
-A -t 10.0.0.2:80 -s wrr -p 600 -M 255.255.255.0
-a -t 10.0.0.2:80 -r 10.1.0.1:80 -g -w 3
-a -t 10.0.0.2:80 -r 10.1.0.2:80 -i -w 2 --tun-type gue --tun-port 6080 --tun-nocsum
-a -t 10.0.0.2:80 -r 10.1.0.3:80 -i -w 2
-a -t 10.0.0.2:80 -r 10.1.0.5:80 -i -w 2 --tun-type gre --tun-csum
-A -u 10.0.0.1:53 -s sh -b sh-port,sh-fallback -o
-A -t 10.0.0.7:53 -s mh -b mh-port -p
-A -t 10.0.0.8:53 -s lc -b flag-1,flag-3
-A --sctp-service 10.0.0.1:99 -s rr
-a --sctp-service 10.0.0.1:99 -r 10.1.0.9:99 -m
-A -f 7 -s lc
-a -f 7 -r 10.1.0.9:99 -m
-A -f 8 -6 -s lc -p 360 -M 64
-a -f 8 -6 -r [fd00::9]:0 -m
-A -t [fd00:1234:5678:9abc:def0:1234:5678:9abc]:65535 -s wlc -p 10 -M 64
-a -t [fd00:1234:5678:9abc:def0:1234:5678:9abc]:65535 -r [fd00:1234:5678:9abc:def0:1234:5678:1]:8080 -m
-A -t 10.0.0.9:0 -s rr -p 100
-A -u 10.0.0.12:5060 -s rr --pe sip -p 60
-A -t 222.111.111.111:54321 -s nq
-a -t 222.111.111.111:54321 -r 222.222.222.222:54321 -m -w 65535
"""
MORE_SETS = [
    *(f"add KUBE-CLUSTER-IP 10.32.200.{n},tcp:{port}" for n, port in ((1, 80), (2, 80), (3, 80), (4, 443), (5, 9000))),
    *(f"add KUBE-IPVS-IPS 10.32.200.{n}" for n in (1, 2, 3, 4, 5)),
    "add KUBE-IPVS-IPS 172.30.0.120",
    "add KUBE-LOAD-BALANCER 172.30.0.120,tcp:80",
    "add KUBE-LOAD-BALANCER-FW 172.30.0.120,tcp:80",
    "add KUBE-LOAD-BALANCER-SOURCE-CIDR 172.30.0.120,tcp:80,172.30.0.48/28",
    "add KUBE-LOOP-BACK 10.244.3.3,tcp:8080,10.244.3.3",
]
# what kube-proxy adds once these sets have members, and the rule that each stands before
MORE_RULES = {
    "-A KUBE-SOURCE-RANGES-FIREWALL -j DROP": [
        "-A KUBE-SOURCE-RANGES-FIREWALL -m set --match-set KUBE-LOAD-BALANCER-SOURCE-CIDR dst,dst,src -j RETURN",
        "-A KUBE-PROXY-FIREWALL -m set --match-set KUBE-LOAD-BALANCER-FW dst,dst -j KUBE-SOURCE-RANGES-FIREWALL",
    ],
    "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT": [
        "-A KUBE-SERVICES -m set --match-set KUBE-LOAD-BALANCER dst,dst -j KUBE-LOAD-BALANCER",
        "-A KUBE-SERVICES -m set --match-set KUBE-LOAD-BALANCER dst,dst -j ACCEPT",
    ],
    "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN": [
        "-A KUBE-POSTROUTING -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE",
    ],
}


def recorded(fact: str) -> str:
    return (RECORDED / fact).read_text()


def rules_text() -> str:
    lines = []
    for line in recorded("iptables-save.txt").splitlines():
        lines += MORE_RULES.get(line.partition("] ")[2], [])
        lines.append(line)
    return "\n".join(lines) + "\n"


def sets_text() -> str:
    """kube-proxy's sets, those of IPv4 first as ``ipset save`` lists them; members after all sets are made."""
    return recorded("ipset.txt") + "".join(line + "\n" for line in MORE_SETS)


def vips() -> list[str]:
    words = [line.split() for line in sets_text().splitlines()]
    return [f"{word[2]}/32" for word in words if word[:2] == ["add", "KUBE-IPVS-IPS"]] + ["fd00:10:32::1/128"]


def probe(
    client: str, dst: str, dport: int, protocol: str = "tcp", count: int = 48, source: str = ""
) -> dict[str, Any]:
    """``count`` connections by a client of one kind; 48 is a whole number of rounds for every scheduler here."""
    own = {"pod": POD6 if ":" in dst else POD, "outside": OUTSIDE, "node": dst}
    namespace = "servers" if source in PODS else {"pod": "pod", "outside": "outside", "node": None}[client]
    return {
        "client": client,
        "namespace": namespace,
        "source": source or None,
        "own": source or own[client],
        "dst": dst,
        "dport": dport,
        "protocol": protocol,
        "count": count,
        "timeout": 1.0 if source == STRANGER else 10.0,
    }


PROBES = [
    *(probe(client, "10.32.62.13", 80) for client in ("pod", "node", "outside")),
    *(probe(client, "10.32.0.10", 53, "udp") for client in ("pod", "node", "outside")),
    *(probe(client, NODE, 30080) for client in ("pod", "node", "outside")),
    *(probe(client, NODE, 30081) for client in ("pod", "node", "outside")),
    *(probe(client, "172.30.0.99", 80, count=12) for client in ("pod", "node", "outside")),
    *(probe(client, "10.32.200.1", 80) for client in ("pod", "outside")),
    *(probe(client, "10.32.91.161", 80, count=12) for client in ("pod", "node", "outside")),
    *(probe(client, "10.32.22.26", 80, count=4) for client in ("pod", "node", "outside")),
    *(probe(client, "10.32.22.26", 80, "udp", count=4) for client in ("pod", "outside")),
    *(probe(client, "10.32.200.2", 80, count=4) for client in ("pod", "node")),
    *(probe(client, "10.32.62.13", 82, count=4) for client in ("pod", "node", "outside")),
    *(probe(client, "10.32.200.4", 443, count=4) for client in ("pod", "node", "outside")),
    probe("pod", "10.32.200.3", 80, count=4, source="10.244.3.3"),
    probe("pod", "10.32.200.3", 80, count=4),
    probe("outside", "172.30.0.120", 80, count=12, source=OUTSIDE),
    probe("outside", "172.30.0.120", 80, count=2, source=STRANGER),
    probe("node", "172.30.0.120", 80, count=12),
    probe("pod", "fd00:10:32::1", 80, count=12),
]


@pytest.fixture(scope="module")
def guest() -> dict[str, Any]:
    """One boot for all tests: every probe's answers, and every listing by ipvsadm and by the agent."""
    uml.require("ip", "ipvsadm", "ipset", "iptables-legacy-restore")
    plan = {
        "checkout": str(CHECKOUT),
        "vips": vips(),
        "namespaces": NAMESPACES,
        "servers": {"servers": PODS + PODS6, "": [NODE]},
        "ports": [("tcp", 8080), ("udp", 53), ("tcp", 6443), ("tcp", 9000)],
        "held": ["10.32.200.5", 9000],
        "ipset": sets_text(),
        "iptables": rules_text(),
        "ipvs": recorded("ipvs-save.txt") + MORE_IPVS,
        "probes": PROBES,
        "forms": FORMS,
    }
    script = Path(__file__).with_name("traffic.py").read_text()
    found: dict[str, Any] = json.loads(uml.run(script, MODULES, {"plan.json": json.dumps(plan)}, timeout=90))
    return found


def view() -> NodeView:
    own = [address for here, _ in NAMESPACES.values() for address in here]
    return NodeView(
        "guest",
        local=frozenset(address.partition("/")[0] for address in [*own, *vips()]),
        primary=frozenset([NODE]),
        pod_addresses=frozenset([*PODS, *PODS6, POD, POD6]),
        pod_networks=("10.244.3.0/24", "10.244.7.0/24", "10.244.18.0/24", "fd00:10:244::/48"),
    )


def said(guest: dict[str, Any], asked: dict[str, Any], source: str | None) -> Outcome:
    """Our answer from what the guest's own ipvsadm printed and from the rules that it was given."""
    six = ":" in asked["dst"]
    packet = Packet(6 if six else 4, asked["protocol"], asked["dst"], asked["dport"], source, asked["client"])
    return evaluate(
        parse_rules(guest["listings"]["ipvs-save.txt"][0]), packet, view(), rules(six), parse_ipset(sets_text())
    )


def rules(six: bool) -> Ruleset:
    return parse_iptables_save(recorded("ip6tables-save.txt") if six else rules_text())


def name(asked: dict[str, Any]) -> str:
    return f"{asked['source'] or asked['client']}-{asked['protocol']}-{asked['dst']}-{asked['dport']}"


@pytest.mark.parametrize("number", range(len(PROBES)), ids=[name(asked) for asked in PROBES])
def test_the_kernel_does_what_we_say(guest: dict[str, Any], number: int) -> None:
    asked, answers = PROBES[number], Counter(guest["answers"][number])
    outcome = said(guest, asked, asked["source"])
    assert outcome.unknown == ()
    assert sum(answers.values()) == asked["count"]
    if outcome.action == "drop":
        assert set(answers) == {"TimeoutError"}
    elif outcome.action == "reject":
        assert {answer.partition(" ")[0] for answer in answers} == {"ConnectionRefusedError"}
    else:
        compare(asked, answers, outcome)


def compare(asked: dict[str, Any], answers: Counter[str], outcome: Outcome) -> None:
    """Real servers, their shares and the source that they saw, against the choices."""
    seen: Counter[tuple[str, int]] = Counter()
    for answer, times in answers.items():
        address, port, peer = answer.split(" ")
        seen[address, int(port)] += times
        choice = next(one for one in outcome.choices if (one.address, one.port) == (address, int(port)))
        # "hairpin" is not masqueraded either: none of these clients is the endpoint itself, unless its source is known
        assert (choice.masquerade is True) is (peer != asked["own"]), answer
    if outcome.affinity is not None:
        assert len(seen) == 1
        return
    assert seen == {
        (one.address, one.port): one.probability * asked["count"]
        for one in outcome.choices
        if one.probability is not None
    }


def test_the_expectations_cover_every_kind_of_answer(guest: dict[str, Any]) -> None:
    outcomes = [said(guest, asked, asked["source"]) for asked in PROBES]
    assert {outcome.action for outcome in outcomes} == {"dnat", "reject", "drop"}
    assert {choice.masquerade for outcome in outcomes for choice in outcome.choices} == {True, False, "hairpin"}
    assert any(outcome.draining for outcome in outcomes)
    assert [o.source_ranges for o in outcomes if o.source_ranges] == [("172.30.0.48/28",)] * 2


def test_an_endpoint_that_calls_itself_is_told_apart(guest: dict[str, Any]) -> None:
    outcome = said(guest, probe("pod", "10.32.200.3", 80), None)
    assert [choice.masquerade for choice in outcome.choices] == ["hairpin"]


@pytest.mark.parametrize("fact", ["ipvs-save.txt", "ipvs.txt", "ipvs-stats.txt"])
def test_the_agent_reads_by_netlink_what_ipvsadm_prints(guest: dict[str, Any], fact: str) -> None:
    printed, read = guest["listings"][fact]
    assert read == printed
    assert len(printed.splitlines()) > 60
    printed, read = guest["forms"][fact]
    assert read == printed


def test_every_form_is_parsed_and_printed_alike(guest: dict[str, Any]) -> None:
    texts = {fact: printed for fact, (printed, _) in guest["forms"].items()}
    saved = parse_rules(texts["ipvs-save.txt"])
    assert len(saved) == FORMS.count("-A ")
    assert [one.identity for one in saved] == [one.identity for one in parse_stats(texts["ipvs-stats.txt"])]
    table = texts["ipvs.txt"]
    assert listing(parse_table(table)) == table.partition("\n")[2]


def test_the_agent_lists_the_connections_that_ipvsadm_lists(guest: dict[str, Any]) -> None:
    printed, read = (text.splitlines() for text in guest["listings"]["ipvs-connections.txt"])
    # the seconds left may have gone on by one between the two
    assert [line.split()[:1] + line.split()[2:] for line in read] == [
        line.split()[:1] + line.split()[2:] for line in printed
    ]
    assert len(printed) > 400


def test_every_listing_is_read_by_its_parser_and_they_agree(guest: dict[str, Any]) -> None:
    texts = {fact: printed for fact, (printed, _) in guest["listings"].items()}
    saved, table = parse_rules(texts["ipvs-save.txt"]), parse_table(texts["ipvs.txt"])
    counters = parse_stats(texts["ipvs-stats.txt"])
    assert [one.identity for one in saved] == [one.identity for one in table] == [one.identity for one in counters]


def test_connections_are_counted_as_the_kernel_counts_them(guest: dict[str, Any]) -> None:
    texts = {fact: printed for fact, (printed, _) in guest["listings"].items()}
    connections = parse_connections(texts["ipvs-connections.txt"])
    assert connections.client_port.count(0) == 3  # one for each client of the Service with session affinity
    counted = with_connections(parse_rules(texts["ipvs-save.txt"]), connections)
    table = parse_table(texts["ipvs.txt"])
    assert [[(s.active, s.inactive) for s in one.servers] for one in counted] == [
        [(s.active, s.inactive) for s in one.servers] for one in table
    ]
    assert {(3, 0)} <= {(s.active, s.inactive) for one in table for s in one.servers}
    assert listing(counted) == "\n".join(texts["ipvs.txt"].splitlines()[1:]) + "\n"
