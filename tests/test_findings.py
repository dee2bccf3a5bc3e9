"""cluster.findings: each code when something is wrong and not before; what cannot be read is told, never silence."""

from __future__ import annotations

from typing import Any

import pytest
from edited import Change, Edited, as_json, cluster, on_slice
from findings_cases import (
    AS_RECORDED,
    CASES,
    LIGHT,
    ONE,
    RECORDING,
    THREE,
    TWO,
    before,
    more,
    rows,
    service,
    way,
)

import k8snet_nb as kn
from k8snet_nb.cluster.finding import COLUMNS, finding_of
from k8snet_nb.explain.drift import CODES as DRIFT
from k8snet_nb.explain.findings import CODES, SEVERITIES
from k8snet_nb.facts import Evidence


def test_every_code_has_a_case() -> None:
    assert set(CODES) == {*CASES, *AS_RECORDED}


@pytest.mark.parametrize("code", CASES)
def test_the_code_is_found_and_not_before(code: str) -> None:
    changes, row = CASES[code]
    source = Edited(LIGHT | changes)
    frame = kn.Cluster(source).findings()
    assert row in rows(frame), frame[["code", "subject", "what"]].to_string()
    assert row not in before()
    assert not {name for name in source.unused() if changes.get(name) is not None}
    found = frame[[one == row for one in zip(frame.code, frame.node, frame.service, frame.pod, strict=True)]].iloc[0]
    assert found.evidence
    assert all(isinstance(item, Evidence) and item.command for item in found.evidence)
    assert found.means
    assert "{" not in found.next


def test_the_recording_s_own() -> None:
    found = cluster().findings()
    assert list(found.columns) == COLUMNS
    assert [(one.code, one.subject) for one in found.itertuples() if one.severity in ("error", "warning")] == [
        ("CONNTRACK_DROPS", "node node-one"),
        ("CONNTRACK_DROPS", "node node-two"),
        ("CONNTRACK_FULL_LOGGED", "node node-one"),
        ("MIXED_MODES", "the cluster"),
        ("NODE_NOT_READY", "node node-three"),
        ("SERVICE_NO_ENDPOINTS", "Service default/orphan"),
    ]
    ranks = [SEVERITIES.index(severity) for severity in found.severity]
    assert ranks == sorted(ranks)
    assert {ref.ref.fact for ref in found.evidence[0]} == {"conntrack-stats.txt"}


def test_nodes_in_one_mode_are_not_mixed() -> None:
    """node-one's rules alone: of the others it is not known what they do."""
    changes: dict[str, Change] = {
        f"{node}/{fact}": None
        for node in (TWO, THREE)
        for fact in ("iptables-save.txt", "ip6tables-save.txt", "nft.json", "ipvs-save.txt")
    }
    found = cluster(changes).findings()
    assert "MIXED_MODES" not in set(found.code)
    assert {TWO, THREE} <= set(found[found.code == "NOT_CHECKED"].node)


def test_ways_that_are_as_good() -> None:
    """A router that is no node, silence of one that is not asked, ways that differ where nobody is strict about it."""
    neigh = as_json(lambda found: found.append({"dst": "172.30.0.77", "dev": "eth0", "state": ["FAILED"]}))
    astray: dict[str, Change] = {f"{ONE}/route.json": way("10.244.3.0/24", gateway="172.30.0.77")}
    assert "ROUTE_ASTRAY" not in set(cluster(LIGHT | astray).findings().code)
    assert "ROUTE_ASTRAY" in set(cluster(LIGHT | astray | {f"{ONE}/neigh.json": neigh}).findings().code)
    strict, _ = CASES["RP_FILTER_DROPS"]
    for value in "02":
        loose = {f"{ONE}/sysctl.txt": more(f"net.ipv4.conf.all.rp_filter = {value}")}
        assert "RP_FILTER_DROPS" not in set(cluster(LIGHT | strict | loose).findings().code)
    symmetric = {name: change for name, change in strict.items() if "route" not in name}
    assert "RP_FILTER_DROPS" not in set(cluster(LIGHT | symmetric).findings().code)


def test_drift_s_codes_keep_their_severity() -> None:
    for code, (severity, means) in DRIFT.items():
        assert CODES[code].means.lower() == means.lower() or code == "NOT_CHECKED"
        assert CODES[code].severity == ("unknown" if code == "NOT_CHECKED" else severity)
    assert {code.severity for code in CODES.values()} == set(SEVERITIES)


def test_drift_is_told_once_and_quotes_the_rule() -> None:
    changes, _ = CASES["ENDPOINT_STALE"]
    one = cluster(changes)
    drift, found = one.drift(), one.findings()
    mine = found[found.code == "ENDPOINT_STALE"]
    assert list(mine.node) == list(drift.node)
    for node, word in ((ONE, "DNAT"), (TWO, "dnat"), (THREE, "-r ")):
        lines = [line for item in mine[mine.node == node].evidence.iloc[0] for line in item.lines]
        assert any(word in line and "10.244.3.4" in line for line in lines), lines
    assert set(mine.port) == {"80/TCP"}


def test_only_one_node() -> None:
    found = cluster().findings(THREE)
    assert set(found.node) == {THREE}
    with pytest.raises(kn.errors.NotFound, match="nosuch"):
        cluster().findings("nosuch")


def test_a_row_is_a_finding_that_shows_itself() -> None:
    found = cluster().findings()
    row = found[found.code == "SERVICE_NO_ENDPOINTS"].iloc[0]
    shown = str(finding_of(row))
    assert shown.startswith("warning: SERVICE_NO_ENDPOINTS, Service default/orphan\n")
    assert "kubectl describe service --namespace default orphan" in shown
    assert "[your machine]$ kubectl get endpointslices --namespace default" in shown
    assert "<details open>" in row.evidence._repr_mimebundle_()["text/html"]


def test_hostile_names_stay_text() -> None:
    def edit(one: Any) -> None:
        one["endpoints"] = None
        one["metadata"]["labels"]["kubernetes.io/service-name"] = "cart"

    evil = "x\x1b[31m<script>"
    changes: dict[str, Change] = {
        "endpointslices": on_slice("cart", edit),
        "services": service("cart", lambda s: s["spec"].update(selector={evil: evil})),
    }
    found = cluster(changes).findings()
    row = found[found.service == "shop/cart"].iloc[0]
    assert "\x1b" not in f"{row.what}{row.subject}{row.next}"
    bundle = finding_of(row)._repr_mimebundle_()
    assert "\x1b" not in bundle["text/plain"]
    assert "<script>" not in bundle["text/html"]


# ---------------------------------------------------------------- one fact less

PODS = ("default/client", "default/client-two", "kube-system/coredns-675dc9c89c-km5v8", "kube-system/node-watch-74fwx")


def facts() -> list[str]:
    """Every fact file of the API and the nodes, and those of a pod of each kind."""
    found = []
    for path in sorted(RECORDING.rglob("*")):
        name = path.relative_to(RECORDING).as_posix()
        if (
            path.is_file()
            and name != "recording.json"
            and ("/pods/" not in name or any(f"/{p}/" in name for p in PODS))
        ):
            found.append(name)
    return found


def key(name: str) -> str:
    return (
        name.removeprefix("api/").removesuffix(".json")
        if name.startswith("api/")
        else (name.removeprefix("nodes/").replace("/pods/", "/"))
    )


@pytest.mark.parametrize("name", facts())
def test_a_fact_missing_or_cut_is_told_and_never_raised(name: str) -> None:
    """A node's facts are judged with that node, which is quick; the API's with everything."""
    parts = name.split("/")
    node = parts[1] if parts[0] == "nodes" and parts[-1] != "dns.jsonl" else None
    for change in (None, lambda content: content[: len(content) // 2]):
        found = cluster(LIGHT | {key(name): change}).findings(node)
        assert list(found.columns) == COLUMNS
        assert set(found.code) <= set(CODES)
        if parts[0] == "api" and parts[1] in ("pods.json", "services.json", "nodes.json", "endpointslices.json"):
            assert set(found.code) & {"FACT_MISSING", "FACT_BROKEN"}


def test_a_fact_that_many_pods_lack_is_told_once() -> None:
    lacking: dict[str, Change] = {f"{ONE}/dns.jsonl": None, f"{ONE}/resolv.conf": None}
    found = cluster(LIGHT | lacking).findings()
    mine = found[(found.code == "FACT_MISSING") & found.what.str.contains("pods")]
    assert list(mine.node) == [ONE]
    assert mine.what.iloc[0].startswith("dns.jsonl, resolv.conf of 6 pods (default/client, ")


def test_one_broken_service_breaks_only_its_own_check() -> None:
    found = cluster(LIGHT | {"services": service("cart", lambda one: one.update(spec=None))}).findings()
    assert any("shop/cart: has no spec" in what for what in found[found.code == "FACT_BROKEN"].what)
    assert "default/orphan" in set(found[found.code == "SERVICE_NO_ENDPOINTS"].service)


def test_without_the_api_nothing_is_checked() -> None:
    found = cluster({path.stem: None for path in (RECORDING / "api").iterdir()}).findings()
    assert found.attrs["checks"] == 0
    assert set(found.severity) == {"unknown"}
