"""The walk through iptables rules: the recorded node-one by hand-written expectations, and made-up rules."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

import k8snet_nb.errors
from k8snet_nb.errors import FactBroken
from k8snet_nb.explain.iptables.path import evaluate
from k8snet_nb.explain.iptables.services import services
from k8snet_nb.explain.outcome import Client, NodeView, Outcome, Packet
from k8snet_nb.parse.ipset import parse_ipset
from k8snet_nb.parse.iptables import Ruleset, parse_iptables_save

NODES = Path(k8snet_nb.errors.__file__).parent / "data" / "hello-cluster" / "nodes"
VIEW = NodeView(
    "node-one",
    frozenset({"127.0.0.1", "172.30.0.11", "10.244.18.1", "::1"}),
    frozenset({"172.30.0.11"}),
    frozenset(f"10.244.18.{n}" for n in range(2, 7)),
    ("10.244.18.0/24",),
)
HELLO = ("10.244.18.3", "10.244.18.4", "10.244.3.3", "10.244.3.4")
CART = ("10.244.18.6", "10.244.3.5", "10.244.3.6")
DNS = ("10.244.18.2", "10.244.3.2")


@pytest.fixture(scope="module")
def node_one() -> Ruleset:
    return parse_iptables_save((NODES / "node-one" / "iptables-save.txt").read_bytes())


def ask(
    rules: Ruleset, dst: str, port: int, client: Client = "pod", protocol: str = "tcp", src: str | None = None
) -> Outcome:
    return evaluate(rules, Packet(6 if ":" in dst else 4, protocol, dst, port, src, client), VIEW)


def made(nat: str = "", filters: str = "", mangle: str = "", raw: str = "") -> Ruleset:
    """Rules from bare ``-A`` lines; every chain that is named is declared."""
    text = ""
    builtin = {"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}
    for table, rules in (("raw", raw), ("mangle", mangle), ("nat", nat), ("filter", filters)):
        lines = [line.strip() for line in rules.strip().splitlines() if line.strip()]
        heads = [line for line in lines if line.startswith(":")]
        lines = [line for line in lines if not line.startswith(":")]
        known = {head[1:].split()[0] for head in heads}
        names = dict.fromkeys(line.split()[1] for line in lines if line.split()[1] not in known)
        heads += [f":{name} {'ACCEPT' if name in builtin else '-'} [0:0]" for name in names]
        text += "\n".join([f"*{table}", *heads, *lines, "COMMIT", ""])
    return parse_iptables_save(text)


CLUSTER_IPS = [
    ("10.32.62.13", "tcp", 80, HELLO, 8080),
    ("10.32.43.193", "tcp", 80, HELLO, 8080),
    ("10.32.180.52", "tcp", 80, HELLO, 8080),
    ("10.32.219.232", "tcp", 80, HELLO, 8080),
    ("10.32.91.161", "tcp", 80, HELLO, 8080),
    ("10.32.35.27", "tcp", 80, HELLO[:2], 8080),
    ("10.32.118.77", "tcp", 8000, CART, 8000),
    ("10.32.118.77", "tcp", 81, CART, 8000),
    ("10.32.0.10", "tcp", 53, DNS, 53),
    ("10.32.0.10", "udp", 53, DNS, 53),
    ("10.32.0.10", "tcp", 9153, DNS, 9153),
    ("10.32.0.1", "tcp", 443, ("172.30.0.1",), 6443),
]


@pytest.mark.parametrize(("address", "protocol", "port", "endpoints", "target"), CLUSTER_IPS)
@pytest.mark.parametrize("client", ["pod", "node", "outside"])
def test_cluster_ips(
    node_one: Ruleset, address: str, protocol: str, port: int, endpoints: tuple[str, ...], target: int, client: Client
) -> None:
    outcome = ask(node_one, address, port, client, protocol)
    assert (outcome.action, outcome.unknown, outcome.partial) == ("dnat", (), False)
    assert [(c.address, c.port, c.probability) for c in outcome.choices] == [
        (endpoint, target, Fraction(1, len(endpoints))) for endpoint in endpoints
    ]
    assert outcome.affinity == (600 if address == "10.32.91.161" else None)
    for choice in outcome.choices:
        local = choice.address.startswith("10.244.18.")
        assert choice.masquerade == (("hairpin" if local else False) if client == "pod" else True)


@pytest.mark.parametrize(("address", "port"), [("172.30.0.11", 30080), ("10.244.18.1", 30120), ("172.30.0.99", 80)])
@pytest.mark.parametrize("client", ["pod", "node", "outside"])
def test_external_entries_of_policy_cluster(node_one: Ruleset, address: str, port: int, client: Client) -> None:
    outcome = ask(node_one, address, port, client)
    assert [(c.address, c.probability, c.masquerade) for c in outcome.choices] == [
        (e, Fraction(1, 4), True) for e in HELLO
    ]
    assert not outcome.unknown


def test_external_entry_of_policy_local(node_one: Ruleset) -> None:
    """Pods and the node go on to all endpoints; outsiders to those here, and keep their address."""
    shares = {client: ask(node_one, "172.30.0.11", 30081, client).choices for client in ("pod", "node", "outside")}  # type: ignore[arg-type]
    assert [(c.address, c.masquerade) for c in shares["pod"]] == [
        *((e, "hairpin") for e in HELLO[:2]),
        *((e, False) for e in HELLO[2:]),
    ]
    assert [(c.address, c.masquerade) for c in shares["node"]] == [(e, True) for e in HELLO]
    assert [(c.address, c.probability, c.masquerade) for c in shares["outside"]] == [
        (e, Fraction(1, 2), False) for e in HELLO[:2]
    ]


@pytest.mark.parametrize("port", [80, 9000])
@pytest.mark.parametrize("client", ["pod", "node", "outside"])
def test_no_endpoints_is_a_reject(node_one: Ruleset, port: int, client: Client) -> None:
    outcome = ask(node_one, "10.32.22.26", port, client)
    assert outcome.action == "reject"
    assert outcome.steps[-1].place == "filter KUBE-SERVICES"
    assert "has no endpoints" in outcome.steps[-1].text
    assert "rejected with icmp-port-unreachable" in outcome.steps[-1].says


def test_the_pod_itself_by_its_service(node_one: Ruleset) -> None:
    outcome = ask(node_one, "10.32.62.13", 80, src="10.244.18.3")
    assert {c.address: c.masquerade for c in outcome.choices} == {
        HELLO[0]: True,
        HELLO[1]: False,
        HELLO[2]: False,
        HELLO[3]: False,
    }


@pytest.mark.parametrize(
    ("dst", "port"), [("10.244.3.3", 8080), ("192.0.2.7", 443), ("10.32.62.13", 81), ("172.30.0.11", 31999)]
)
@pytest.mark.parametrize("client", ["pod", "node", "outside"])
def test_any_other_packet_passes(node_one: Ruleset, dst: str, port: int, client: Client) -> None:
    outcome = ask(node_one, dst, port, client)
    assert (outcome.action, outcome.choices, outcome.masquerade, outcome.unknown) == ("none", (), False, ())


def test_loopback_from_elsewhere_is_dropped(node_one: Ruleset) -> None:
    assert ask(node_one, "127.0.0.1", 9999, "outside").action == "drop"
    assert ask(node_one, "127.0.0.1", 9999, "node").action == "none"


def test_steps_quote_the_save(node_one: Ruleset) -> None:
    text = (NODES / "node-one" / "iptables-save.txt").read_text()
    steps = ask(node_one, "10.32.62.13", 80).steps
    assert [step.place for step in steps[:3]] == [
        "nat PREROUTING",
        "nat KUBE-SERVICES",
        "nat KUBE-SVC-NOIMA57NP5B3VMDZ",
    ]
    assert all(step.text in text and step.fact == "iptables-save.txt" for step in steps)
    assert "1 in 3 of the packets" in next(s.says for s in steps if "0.33333333349" in s.text)


def test_the_other_family_is_refused(node_one: Ruleset) -> None:
    with pytest.raises(ValueError, match="IPv6"):
        ask(node_one, "fd00::1", 80)


def test_ipvs_node_needs_its_sets() -> None:
    rules = parse_iptables_save((NODES / "node-three" / "iptables-save.txt").read_bytes())
    sets = parse_ipset((NODES / "node-three" / "ipset.txt").read_bytes())
    view = NodeView(
        "node-three",
        frozenset({"172.30.0.13", "10.32.62.13"}),
        frozenset({"172.30.0.13"}),
        pod_networks=("10.244.7.0/24",),
    )
    packet = Packet(4, "tcp", "10.32.62.13", 80, client="node")
    known = evaluate(rules, packet, view, ipsets=sets)
    assert (known.action, known.masquerade, known.unknown) == ("none", True, ())
    blind = evaluate(rules, packet, view)
    assert blind.masquerade is None
    assert any("KUBE-IPVS-IPS" in text and "rejected" in text for text in blind.unknown)


SOURCES = """-A PREROUTING -d 192.0.2.9/32 -p tcp -m tcp --dport 80 -j KUBE-FW-A
-A KUBE-FW-A -s 198.51.100.0/24 -j KUBE-EXT-A
-A KUBE-FW-A -s 203.0.113.0/25 -j KUBE-EXT-A
-A KUBE-FW-A -m comment --comment "other traffic to x/fw:http will be dropped by KUBE-PROXY-FIREWALL"
-A KUBE-EXT-A -p tcp -j DNAT --to-destination 10.244.18.3:80"""
FIREWALL = "-A FORWARD -d 192.0.2.9/32 -p tcp -m tcp --dport 80 -j DROP"


def test_source_ranges() -> None:
    rules = made(SOURCES, FIREWALL)
    outcome = ask(rules, "192.0.2.9", 80, "outside")
    assert (outcome.action, outcome.source_ranges) == ("dnat", ("198.51.100.0/24", "203.0.113.0/25"))
    assert not outcome.unknown
    assert ask(rules, "192.0.2.9", 80, "outside", src="203.0.113.5").action == "dnat"
    assert ask(rules, "192.0.2.9", 80, "outside", src="203.0.113.200").action == "drop"
    pod = ask(rules, "192.0.2.9", 80, "pod")
    assert (pod.action, pod.source_ranges) == ("drop", ("198.51.100.0/24", "203.0.113.0/25"))


def test_goto_and_return() -> None:
    rules = made(
        """-A PREROUTING -j ONE
        -A PREROUTING -p tcp -j DNAT --to-destination 10.0.0.3:3
        -A ONE -p tcp -m tcp --dport 1 -g TWO
        -A ONE -p tcp -m tcp --dport 2 -j TWO
        -A ONE -p tcp -j DNAT --to-destination 10.0.0.1:1
        -A TWO -p tcp -j RETURN"""
    )
    targets = {port: ask(rules, "192.0.2.1", port).choices[0].address for port in (1, 2)}
    assert targets == {1: "10.0.0.3", 2: "10.0.0.1"}


@pytest.mark.parametrize(
    ("match", "action"),
    [
        ("-p tcp -m tcp --dport 70:90", "drop"),
        ("-p tcp -m tcp ! --dport 70:90", "none"),
        ("-p udp", "none"),
        ("! -p udp", "drop"),
        ("-p 6", "drop"),
        ("-p tcp -m multiport --dports 1,79:81", "drop"),
        ("-p tcp -m multiport ! --dports 1,80", "none"),
        ("-d 192.0.2.0/25", "drop"),
        ("! -d 192.0.2.0/25", "none"),
        ("-s 10.244.18.0/24", "drop"),
        ("! -s 10.244.0.0/16", "none"),
        ("-m conntrack --ctstate NEW,RELATED", "drop"),
        ("-m conntrack --ctstate ESTABLISHED", "none"),
        ("-m conntrack --ctstate DNAT", "none"),
        ("-m conntrack ! --ctstate DNAT", "drop"),
        ("-m state --state NEW", "drop"),
        ("-m conntrack --ctorigdst 192.0.2.1 --ctorigdstport 80 --ctdir ORIGINAL", "drop"),
        ("-m mark --mark 0x0/0x4000", "drop"),
        ("-m mark ! --mark 0x0", "none"),
        ("-m connmark --mark 0x1", "none"),
        ("-m addrtype --dst-type LOCAL", "none"),
        ("-m addrtype ! --dst-type LOCAL", "drop"),
        ("-m addrtype --src-type LOCAL", "none"),
        ("-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN", "drop"),
        ("-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN", "none"),
        ("-m iprange --dst-range 192.0.2.0-192.0.2.1", "drop"),
        ("-i lo", "none"),
        ("-o lo", "none"),
        ("-m recent --rcheck --seconds 60 --name X", "none"),
        ("-m recent --set --name X", "drop"),
        ("-m comment --comment -j", "drop"),
        ("-f", "none"),
    ],
)
def test_matches(match: str, action: str) -> None:
    outcome = ask(made(filters=f"-A FORWARD {match} -j DROP"), "192.0.2.1", 80)
    assert (outcome.action, outcome.unknown) == (action, ())


@pytest.mark.parametrize(
    "match",
    [
        "-i eth0", "-m physdev --physdev-is-in", "-m limit --limit 5/sec", "-m owner --uid-owner 0",
        "-p tcp -m tcp --sport 99",
        "-m rpfilter --invert", "-m set --match-set X src", "-m addrtype --src-type UNICAST", "-m brand-new --x y",
        "-m nfacct --nfacct-name quota", "-m iprange --src-range 10.0.0.1-10.0.0.2", "-m statistic --mode odd",
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_named(match: str) -> None:
    """Not assumed to match, not assumed to miss: the rule and what it would do are in ``unknown``."""
    outcome = ask(made(filters=f"-A FORWARD {match} -j DROP"), "192.0.2.1", 80)
    assert outcome.action == "none"
    (text,) = outcome.unknown
    assert f"-A FORWARD {match} -j DROP" in text
    assert "if it matches, the packet is dropped" in text


def test_what_changes_nothing_is_not_named() -> None:
    rules = made(
        filters="""-A FORWARD -m limit --limit 5/sec -j LOG
        -A FORWARD -m brand-new -j ACCEPT
        -A FORWARD -p udp -m owner -j DROP"""
    )
    assert ask(rules, "192.0.2.1", 80).unknown == ()


def test_an_unknown_rule_between_endpoints_takes_the_shares_away() -> None:
    rules = made(
        """-A PREROUTING -i weird0 -p tcp -j DNAT --to-destination 10.0.0.1:1
        -A PREROUTING -p tcp -j DNAT --to-destination 10.0.0.2:2"""
    )
    outcome = ask(rules, "192.0.2.1", 80)
    assert {(c.address, c.probability) for c in outcome.choices} == {("10.0.0.1", None), ("10.0.0.2", None)}
    assert len(outcome.unknown) == 1


def test_unknown_rules_behind_unknown_rules() -> None:
    rules = made(filters="-A FORWARD -m new-one -j MINE\n-A MINE -m new-two -j DROP")
    (text,) = {t for t in ask(rules, "192.0.2.1", 80).unknown if "new-two" in t}
    assert "dropped" in text


def test_an_unknown_target_is_named() -> None:
    outcome = ask(made(filters="-A FORWARD -p tcp -j NFQUEUE --queue-num 1"), "192.0.2.1", 80)
    assert outcome.action == "none"
    assert "what NFQUEUE does" in outcome.unknown[0]


def test_marks_notrack_and_order_of_tables() -> None:
    nat = "-A PREROUTING -m mark --mark 0x5/0xff -j DNAT --to-destination 10.0.0.1:1"
    assert ask(made(nat, mangle="-A PREROUTING -j MARK --set-xmark 0x5/0xff"), "192.0.2.1", 80).action == "dnat"
    assert ask(made(nat, mangle="-A FORWARD -j MARK --set-xmark 0x5/0xff"), "192.0.2.1", 80).action == "none"
    untracked = made(nat, mangle="-A PREROUTING -j MARK --set-xmark 0x5/0xff", raw="-A PREROUTING -j CT --notrack")
    assert ask(untracked, "192.0.2.1", 80).action == "none"
    saved = """-A PREROUTING -j CONNMARK --set-xmark 0x5/0xff
    -A PREROUTING -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff"""
    assert ask(made(nat, mangle=saved), "192.0.2.1", 80).action == "dnat"


def test_marks_are_replaced_under_their_mask() -> None:
    mangle = "-A PREROUTING -j MARK --set-xmark 0xf3/0xffffffff\n-A PREROUTING -j MARK --set-xmark 0x5/0xf"
    assert ask(made(filters="-A FORWARD -m mark --mark 0xf5 -j DROP", mangle=mangle), "192.0.2.1", 80).action == "drop"


def test_conntrack_knows_of_the_translation() -> None:
    nat = "-A PREROUTING -p tcp -j DNAT --to-destination 10.0.0.1:1"
    rules = made(nat, "-A FORWARD -m conntrack ! --ctstate DNAT -j DROP\n-A FORWARD -d 192.0.2.1/32 -j DROP")
    assert ask(rules, "192.0.2.1", 80).action == "dnat"
    assert ask(rules, "192.0.2.1", 80, protocol="udp").action == "drop"


def test_sources_are_rewritten_at_input_only_for_what_comes_in() -> None:
    """A local connection's source was settled at POSTROUTING already."""
    rules = made("-A INPUT -j SNAT --to-source 192.0.2.3")
    assert ask(rules, "172.30.0.11", 80, "outside").masquerade is True
    assert ask(rules, "172.30.0.11", 80, "node").masquerade is False


def test_a_long_chain_is_no_different(monkeypatch: pytest.MonkeyPatch) -> None:
    """The index of long chains leaves out only what cannot match."""
    forms = [
        "-d 192.0.2.{n}/32 -p tcp -m tcp --dport 80 -j DROP",
        "! -d 192.0.2.{n}/32 -p udp -m udp --dport {n} -j DROP",
        "-d 192.0.2.{n}/31 -p tcp -m tcp --dport {n} -j REJECT",
        "-p tcp -m tcp ! --dport {n}:65535 -m mark --mark 0x1 -j DROP",
        "-p tcp -m tcp ! --dport 80 -m comment --comment x -d 192.0.2.7/32 -j REJECT",
        '-p tcp -m comment --comment "-d 9.9.9.9/32 --dport 9" -m tcp --dport {n} -j REJECT',
        "-p tcp -m tcp --dport {n}:{n} -j ACCEPT",
    ]
    text = "\n".join(f"-A FORWARD {form.format(n=n)}" for n in range(40) for form in forms)
    packets = [
        (f"192.0.2.{n}", port, protocol) for n in (3, 7, 60) for port in (5, 39, 80, 99) for protocol in ("tcp", "udp")
    ]
    indexed = made(filters=text)
    ends = [ask(indexed, dst, port, protocol=protocol) for dst, port, protocol in packets]
    monkeypatch.setattr("k8snet_nb.parse.iptables.LONG_CHAIN", 10**6)
    plain = made(filters=text)
    assert ends == [ask(plain, dst, port, protocol=protocol) for dst, port, protocol in packets]
    assert {end.action for end in ends} == {"drop", "reject", "none"}


def test_a_node_without_known_addresses() -> None:
    outcome = evaluate(made("-A PREROUTING -p udp -j ACCEPT"), Packet(4, "tcp", "192.0.2.1", 80), NodeView("n"))
    assert outcome.unknown == ("the node's own addresses are not known: the packet is taken as one that it forwards",)


def test_policies() -> None:
    outcome = ask(made(filters=":FORWARD DROP [0:0]\n-A FORWARD -p udp -j ACCEPT"), "192.0.2.1", 80)
    assert outcome.action == "drop"
    assert outcome.steps[-1].text == ":FORWARD DROP [0:0]"


def test_an_incomplete_ladder_says_what_passes() -> None:
    rules = made(
        "-A PREROUTING -m statistic --mode random --probability 0.25000000000 -j DNAT --to-destination 10.0.0.1:1"
    )
    outcome = ask(rules, "192.0.2.1", 80)
    assert [c.probability for c in outcome.choices] == [Fraction(1, 4)]
    assert outcome.unknown == ("3/4 of the packets pass untranslated: no rule of the ladder takes them",)


@pytest.mark.parametrize("count", [2, 7, 60, 1000])
def test_ladders_are_exact(count: int) -> None:
    """As kube-proxy prints them and the kernel rounds them, up to many endpoints."""
    rules = "\n".join(
        "-A PREROUTING"
        + (
            f" -m statistic --mode random --probability {round(2**31 / (count - i)) / 2**31:.11f}"
            if i + 1 < count
            else ""
        )
        + f" -p tcp -j DNAT --to-destination 10.1.{i // 250}.{i % 250 + 1}:80"
        for i in range(count)
    )
    outcome = ask(made(rules), "192.0.2.1", 80)
    assert {c.probability for c in outcome.choices} == {Fraction(1, count)}
    assert len(outcome.choices) == count


@pytest.mark.parametrize(
    "rules",
    [
        "-A PREROUTING -j ONE\n-A ONE -j TWO\n-A TWO -j ONE",
        "-A PREROUTING -j ONE\n-A ONE -g ONE",
        "\n".join(f"-A {'PREROUTING' if i == 0 else f'C{i}'} -j C{i + 1}" for i in range(200)) + "\n-A C200 -j RETURN",
        "\n".join(f"-A {'PREROUTING' if i == 0 else f'C{i}'} -j C{i + 1}\n" * 2 for i in range(40))
        + "-A C40 -p tcp -j LOG",
    ],
)
def test_circles_and_bottomless_chains(rules: str) -> None:
    with pytest.raises(FactBroken, match=r"line \d+"):
        ask(made(rules), "192.0.2.1", 80)


def test_damage_on_the_way_is_told() -> None:
    text = "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j GONE\n"
    text += "-A PREROUTING -p tcp -j DNAT --to-destination 10.0.0.1:1\n"
    outcome = ask(parse_iptables_save(text), "192.0.2.1", 80)
    assert (outcome.action, outcome.partial) == ("dnat", True)
    assert any("GONE" in t for t in outcome.unknown)
    assert any("no COMMIT" in t for t in outcome.unknown)


def test_ipv6() -> None:
    text = (
        "# Generated by ip6tables-save v1.8.9 on x\n*nat\n:PREROUTING ACCEPT [0:0]\n:S - [0:0]\n"
        "-A PREROUTING -d fd00::5/128 -p sctp -m sctp --dport 80 -j S\n"
        "-A S -s fd01::7/128 -j MARK --set-xmark 0x1/0x1\n"
        "-A S -p sctp -m sctp -j DNAT --to-destination [fd01::7]:8080\nCOMMIT\n# Completed on x\n"
    )
    rules = parse_iptables_save(text)
    outcome = ask(rules, "fd00::5", 80, protocol="sctp")
    assert [(c.address, c.port, c.probability) for c in outcome.choices] == [("fd01::7", 8080, Fraction(1))]


def test_services_of_node_one(node_one: Ruleset) -> None:
    """Every entry that kube-proxy programmed, by hand."""
    found = {(e.kind, e.address, e.port, e.protocol): e for e in services(node_one)}
    assert len(found) == 18
    assert not [e for e in found.values() if e.problem]
    for address, protocol, port, endpoints, target in CLUSTER_IPS:
        entry = found["cluster_ip", address, port, protocol]
        assert [e for e, _ in entry.endpoints] == list(endpoints)
        assert {p for _, p in entry.endpoints} == {target}
        assert (entry.local is None) == (address != "10.32.35.27")
    local = found["node_port", None, 30081, "tcp"]
    assert (local.service, [e for e, _ in local.cluster]) == ("default/hello-local:http", list(HELLO))
    assert local.local == tuple((e, 8080) for e in HELLO[:2])
    assert found["external_ip", "172.30.0.99", 80, "tcp"].service == "default/hello-lb:http"
    orphans = [(e.service, e.action, e.endpoints) for e in found.values() if e.action != "dnat"]
    assert orphans == [("default/orphan:http", "reject", ()), ("default/orphan:admin", "reject", ())]


def test_services_whose_outsiders_get_nothing() -> None:
    """Traffic policy Local on a node without an endpoint: the EXT chain serves pods and the node only."""
    comment = '-m comment --comment "a/b:c" -m tcp --dport 30000'
    chain = "-A KUBE-EXT-A -s 10.244.0.0/16 -j KUBE-SVC-A\n-A KUBE-EXT-A -m addrtype --src-type LOCAL -j KUBE-SVC-A\n"
    ends = "-A KUBE-SVC-A -j KUBE-SEP-A\n-A KUBE-SEP-A -p tcp -j DNAT --to-destination 10.244.3.3:80"
    drop = (
        '-m comment --comment "a/b:c has no local endpoints" -m addrtype --dst-type LOCAL -m tcp --dport 30000 -j DROP'
    )
    hooks = "-A PREROUTING -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n-A OUTPUT -j KUBE-NODEPORTS\n"
    nat = hooks + f"-A KUBE-NODEPORTS -p tcp {comment} -j KUBE-EXT-A\n" + chain + ends
    rules = made(nat, f"-A INPUT -j KUBE-EXTERNAL-SERVICES\n-A KUBE-EXTERNAL-SERVICES -p tcp {drop}")
    found = [(e.kind, e.service, e.action, e.cluster, e.local) for e in services(rules)]
    assert found == [
        ("node_port", "a/b:c", "dnat", (("10.244.3.3", 80),), ()),
        ("node_port", "a/b:c", "drop", (), None),
    ]
    view = NodeView(VIEW.node, VIEW.local, VIEW.primary, VIEW.pod_addresses, ("10.244.0.0/16",))
    actions = {
        client: evaluate(rules, Packet(4, "tcp", "172.30.0.11", 30000, client=client), view).action  # type: ignore[arg-type]
        for client in ("pod", "node", "outside")
    }
    assert actions == {"pod": "dnat", "node": "dnat", "outside": "drop"}


def test_services_with_damage() -> None:
    comment = '-m comment --comment "a/b:c cluster IP" -m tcp --dport 80'
    nat = f"-A KUBE-SERVICES -d 10.32.0.5/32 -p tcp {comment} -j KUBE-SVC-A\n"
    nat += "-A KUBE-SVC-A -j KUBE-SEP-A\n-A KUBE-SEP-A -j RETURN"
    (entry,) = services(made(nat))
    assert (entry.service, entry.endpoints, "KUBE-SEP-A leads to no endpoint" in entry.problem) == ("a/b:c", (), True)
    circle = (
        nat.replace("KUBE-SVC-A", "KUBE-EXT-A")
        .replace("KUBE-SEP-A", "KUBE-EXT-B")
        .replace("-j RETURN", "-j KUBE-EXT-A")
    )
    with pytest.raises(FactBroken, match="circle"):
        services(made(circle))
