"""cluster.drift: the same number in several protocols, and both address families."""

from __future__ import annotations

from typing import Any

from drifting import NODES, ONE, THREE, cut, on_service, rows
from dual_stack import DUAL_RULES, POD6, VIP6, dual_api
from edited import cluster, text

# ---------------------------------------------------------------- the same number in two protocols


def test_the_same_port_number_in_udp_tcp_and_sctp() -> None:
    """kube-dns has 53 in both: taking away one says which."""
    frame = rows({f"{THREE}/ipvs-save.txt": cut("-u 10.32.0.10:53")})
    assert frame[["code", "protocol", "port"]].to_numpy().tolist() == [["SERVICE_NOT_PROGRAMMED", "udp", 53]]

    def sctp(one: Any) -> None:
        one["spec"]["ports"].append({"name": "tunnel", "port": 80, "protocol": "SCTP", "targetPort": 8080})

    frame = rows({"services": on_service("hello-world", sctp)})
    assert frame.protocol.tolist() == ["sctp"] * 3
    assert set(frame.code) == {"SERVICE_NOT_PROGRAMMED"}

    def programmed(lines: list[str]) -> list[str]:
        return [*lines, "-A --sctp-service 10.32.62.13:80 -s rr"]

    more = rows({"services": on_service("hello-world", sctp), f"{THREE}/ipvs-save.txt": text(programmed)}, THREE)
    assert not len(more)


# ---------------------------------------------------------------- both families


def test_dual_stack_with_rules_in_both_families() -> None:
    assert not len(rows(dual_api() | DUAL_RULES))


def test_dual_stack_without_rules_in_ipv6() -> None:
    frame = rows(dual_api())
    assert frame.code.tolist() == ["SERVICE_NOT_PROGRAMMED"] * 3
    assert set(frame.family) == {6}
    assert set(map(tuple, frame.missing)) == {tuple(sorted(f"[{address}]:8080" for address in POD6.values()))}


def test_dual_stack_is_translated_and_compared_in_both_families() -> None:
    dual = cluster(dual_api() | DUAL_RULES)
    for node in NODES:
        answer = dual.translate("default/hello-world", node=node, family=6, client="outside")
        assert (answer.target.address, answer.action) == (VIP6, "dnat"), node
        assert {b.address for b in answer.backends} == set(POD6.values())
    compared = dual.compare("default/hello-world")
    assert compared.family.tolist() == [4, 6] * 3
    assert compared.same.tolist() == [True] * 6


def test_ipv6_that_was_not_collected_is_not_checked() -> None:
    frame = rows(dual_api() | {f"{ONE}/ip6tables-save.txt": None}, ONE)
    assert frame[["code", "family"]].to_numpy().tolist() == [["NOT_CHECKED", 6]]
    # without IPv6 Services nobody misses it
    assert not len(rows({f"{ONE}/ip6tables-save.txt": None}, ONE))
