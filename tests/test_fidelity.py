"""What was seen in a twin, judged: made-up expectations against made-up connections."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

import pytest
from edited import cluster

import k8snet_nb as kn
from k8snet_nb.explain.fidelity import SILENT, Expected, Judged, Seen, expected_of, judge

A, B = "10.0.0.1:80", "10.0.0.2:80"
HALF = Fraction(1, 2)
TWO = Expected("dnat", {A: HALF, B: HALF}, {A: False, B: False}, {"192.0.2.1"}, None)


def met(count: int, server: str, peer: str = "10.0.0.9", local: str = "10.0.0.9", client: str = "pod") -> Seen:
    address, _, port = server.rpartition(":")
    return Seen(client, count, "ok", address, int(port), peer, local)


def ended(count: int, end: str) -> Seen:
    return Seen("pod", count, end, says="a word")


def told(expected: Expected, *seen: Seen) -> Judged:
    return judge(expected, seen)


def test_what_fits_is_the_same() -> None:
    judged = told(TWO, met(22, A), met(26, B))
    assert (judged.verdict, judged.why, judged.seen) == ("same", "", {A: 22, B: 26})
    assert judged.chance is not None
    assert judged.chance > 0.3
    assert judged.masquerade == "no"


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        ((), "nothing was sent"),
        ((met(48, A),), "by chance with probability"),
        ((met(24, A), met(24, "10.0.0.3:80")), "24 times 10.0.0.3:80, which the rules do not name"),
        ((met(24, A), met(23, B), ended(1, "timeout")), r"1 times timeout \(a word\), which the rules do not name"),
        ((met(24, A), met(24, B, peer="192.0.2.1")), "10.0.0.2:80 saw 192.0.2.1, called by 10.0.0.9: .* should be no"),
        ((Seen("pod", 4, "", says="no such pod"),), "4 times not sent"),
    ],
)
def test_what_does_not_fit_differs(seen: tuple[Seen, ...], why: str) -> None:
    judged = told(TWO, *seen)
    assert judged.verdict == "differs"
    assert re.search(why, judged.why), judged.why


def test_masquerade() -> None:
    masked = replace(TWO, masquerade={A: True, B: True})
    through = {"peer": "192.0.2.1"}
    assert told(masked, met(24, A, **through), met(24, B, **through)).verdict == "same"
    assert "should be yes" in told(masked, met(24, A), met(24, B, **through)).why
    assert "no address of a node" in told(masked, met(24, A, peer="192.0.2.7"), met(24, B, **through)).why
    # the node's own connection: its address stays what it was
    own = {"peer": "192.0.2.1", "local": "192.0.2.1"}
    assert told(masked, met(24, A, **own), met(24, B, **own)).masquerade == "the address cannot tell"
    hairpin = replace(TWO, masquerade={A: "hairpin", B: False})
    itself = met(24, A, peer="192.0.2.1", local="10.0.0.1")
    assert told(hairpin, itself, met(24, B, peer="10.0.0.1", local="10.0.0.1")).verdict == "same"
    assert told(hairpin, met(24, A, **through), met(24, B)).verdict == "differs"
    assert told(replace(TWO, masquerade={A: None, B: None}), met(24, A, **through), met(24, B)).verdict == "same"


def test_affinity_holds_each_client_and_spreads_all() -> None:
    sticky = replace(TWO, affinity=600)
    crowd = [met(2, (A, B)[n % 2], client=f"10.1.0.{n}") for n in range(24)]
    judged = told(sticky, *crowd)
    assert (judged.verdict, judged.chance) == ("same", 1.0)
    assert judged.affinity == "each of 24 clients by 1 at most, 2 in all"
    assert told(sticky, met(48, A)).verdict == "same", "one client tells nothing of shares"
    assert "10.1.0.0 was answered by 2 endpoints" in told(sticky, *crowd, met(1, B, client="10.1.0.0")).why
    assert "by chance" in told(sticky, *(met(2, A, client=f"10.1.0.{n}") for n in range(24))).why


def test_where_nobody_listens_any_silence_is_right() -> None:
    silent = Expected("none", {SILENT: Fraction(1)}, {}, (), None)
    for end in ("refused", "timeout", "unreachable"):
        assert told(silent, ended(4, end)).verdict == "same"
    assert told(silent, met(4, A)).verdict == "differs"
    refused = Expected("reject", {"refused": Fraction(1)}, {}, (), None)
    assert told(refused, ended(4, "refused")).verdict == "same"
    assert told(refused, ended(4, "timeout")).verdict == "differs"


def test_limits_explain_and_a_contradiction_is_never_explained() -> None:
    assert told(replace(TWO, limits=("rule 7",)), met(48, A)).verdict == "explained"
    # what was never sent is explained by nothing
    assert told(replace(TWO, limits=("rule 7",))).verdict == "differs"
    assert told(replace(TWO, limits=("rule 7",)), ended(4, "")).verdict == "differs"
    # what may stop a packet explains silence, not another endpoint
    stops = replace(TWO, stops=("a policy",))
    assert told(stops, ended(48, "timeout")).verdict == "explained"
    assert told(stops, met(48, A)).verdict == "differs"
    assert told(stops, ended(24, "timeout"), met(24, "10.0.0.3:80")).verdict == "differs"
    assert told(replace(TWO, limits=("rule 7",), at_odds=("not one",)), met(24, A), met(24, B)).verdict == "differs"


def test_without_fixed_shares_only_the_endpoints_are_judged() -> None:
    open_shares = replace(TWO, shares={A: None, B: None})
    assert (told(open_shares, met(48, A)).verdict, told(open_shares, met(48, A)).chance) == ("same", None)


@pytest.fixture(scope="module")
def hello() -> kn.Cluster:
    return cluster()


def of(hello: kn.Cluster, listens: bool = True) -> Expected:
    translation = hello.translate("default/hello-world", node="node-one", client="10.244.18.5")
    walk = hello.walk("10.244.18.5", "10.32.62.13", "tcp", 80)
    return expected_of(translation, walk, lambda ip, port: listens, {"172.30.0.11"})


def test_expectations_come_from_walk_and_must_agree_with_translate(hello: kn.Cluster) -> None:
    expected = of(hello)
    assert set(expected.shares.values()) == {Fraction(1, 4)}
    assert set(expected.masquerade.values()) == {False}
    assert (expected.at_odds, expected.limits, expected.stops) == ((), (), ())
    assert of(hello, listens=False).shares == {SILENT: Fraction(1)}
    translation = hello.translate("default/hello-world", node="node-one", client="10.244.18.5")
    walk = hello.walk("10.244.18.5", "10.32.62.13", "tcp", 80)
    stray = replace(translation.backends[0], node="node-one", port=1)
    for wrong in (
        replace(translation, backends=translation.backends[1:]),
        replace(translation, backends=(*translation.backends[1:], replace(translation.backends[0], probability=HALF))),
        replace(translation, backends=(*translation.backends[1:], replace(translation.backends[0], masquerade=True))),
        replace(translation, backends=(*translation.backends, stray)),
        replace(translation, action="drop", backends=()),
    ):
        assert expected_of(wrong, walk, lambda ip, port: True, ()).at_odds
