"""The walk through made-up iptables rules: matches, targets, order, and what is not known."""

from __future__ import annotations

from fractions import Fraction

import pytest
from iptables_place import ask, made

from k8snet_nb.errors import FactBroken
from k8snet_nb.explain.iptables.path import evaluate
from k8snet_nb.explain.outcome import NodeView, Packet
from k8snet_nb.parse.iptables import parse_iptables_save

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
