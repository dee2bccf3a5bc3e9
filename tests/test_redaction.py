"""Redaction of the bundled recording: nothing is left of whose it is, and every answer is the same."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import dns.message
import pytest
from renaming import Renamer, rows

import k8snet_nb as kn
from k8snet_nb.facts import FactRef
from k8snet_nb.record import check_recording, record
from k8snet_nb.record.pseudonyms import KEPT_NAMES, chain_hash
from k8snet_nb.record.redact import Redactor
from k8snet_nb.sources.opening import BUNDLED
from k8snet_nb.sources.recorded import open_recording

NODES = ("node-one", "node-two", "node-three")


@pytest.fixture(scope="module")
def redacted(tmp_path_factory: pytest.TempPathFactory) -> tuple[kn.Cluster, Redactor]:
    out = tmp_path_factory.mktemp("redacted") / "out"
    redactor = Redactor()
    record(open_recording(BUNDLED), out, redaction=redactor)
    return kn.open(out), redactor


def secrets() -> Iterator[tuple[str, str]]:
    """Every name, address and id of the bundled recording, with its kind."""
    text = "\n".join(path.read_text() for path in BUNDLED.rglob("*") if path.is_file())
    for resource in ("nodes", "pods", "services", "namespaces", "endpointslices"):
        for item in json.loads((BUNDLED / "api" / f"{resource}.json").read_text())["items"]:
            if item["metadata"]["name"] not in KEPT_NAMES | {"client"}:
                yield "name", item["metadata"]["name"]
    # `client` is a pod's name, and a word of the API (clientIP) as well
    for address in set(re.findall(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])", text)):
        if not address.startswith(("127.", "0.", "255.", "169.254.", "224.")):
            yield "address", address
    for mac in set(re.findall(r"(?<![\w:])[0-9a-f]{2}(?::[0-9a-f]{2}){5}(?![\w:])", text)):
        if not int(mac[:2], 16) & 1 and mac != "00:00:00:00:00:00":
            yield "mac", mac
    uid = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    for pattern in (uid, r"\b[0-9a-f]{64}\b", r"fe80::[0-9a-f:]+", r"\bveth[0-9a-f]+\b"):
        for found in set(re.findall(pattern, text)):
            yield "id", found
    yield from (("image", image) for image in ("busybox", "docker.io", "registry.k8s.io/"))
    yield from (("hash", name) for name in set(re.findall(r"KUBE-SEP-[A-Z2-7]{16}", text)))


def readable(path: Path) -> str:
    text = path.read_text()
    if path.name != "dns.jsonl":
        return text
    wires = [json.loads(line)["response"] for line in text.splitlines()]
    return text + "".join(dns.message.from_wire(base64.b64decode(wire)).to_text() for wire in wires if wire)


def test_no_name_address_or_id_is_left(redacted: tuple[kn.Cluster, Redactor]) -> None:
    root = Path(redacted[0].source.where)  # type: ignore[attr-defined]
    files = {path.relative_to(root): readable(path) for path in root.rglob("*") if path.is_file()}
    for kind, secret in secrets():
        edges = {"name": ("(?<![a-z0-9])", "(?![a-z0-9])"), "address": (r"(?<![\d.])", r"(?![\d.])")}.get(
            kind, ("", "")
        )
        pattern = re.compile(re.escape(secret).join(edges))
        for name, text in files.items():
            assert not pattern.search(text), (kind, secret, name)
            assert not pattern.search(str(name)), (kind, secret, name)
    everything = "".join(files.values())
    for word in ("wget", "while true", "last-applied", "BEGIN CERTIFICATE", "--kubeconfig", "managedFields"):
        assert word not in everything


def test_a_redacted_recording_is_whole(redacted: tuple[kn.Cluster, Redactor]) -> None:
    checked = check_recording(redacted[0].source.where)  # type: ignore[attr-defined]
    assert checked.good
    assert not [finding for finding in checked.findings if finding.level != "note"]
    facts = {(ref.fact, ref.pod is not None) for ref in open_recording(BUNDLED).refs()}
    assert {(ref.fact, ref.pod is not None) for ref in redacted[0].source.refs()} == facts  # type: ignore[attr-defined]


def test_every_table_is_the_same_up_to_the_mapping(hello: kn.Cluster, redacted: tuple[kn.Cluster, Redactor]) -> None:
    cluster, renamed = redacted[0], Renamer(redacted[1])
    for table, columns in {
        "pods": [
            "namespace",
            "name",
            "ready",
            "status",
            "phase",
            "restarts",
            "age",
            "ip",
            "ips",
            "node",
            "host_network",
        ],
        "services": [
            "namespace",
            "name",
            "type",
            "cluster_ip",
            "external_ip",
            "ports",
            "cluster_ips",
            "headless",
            "age",
        ],
        "nodes": ["name", "status", "roles", "version", "internal_ip", "pod_cidrs", "kernel", "facts"],
        "endpoints": ["service", "port_name", "protocol", "address", "port", "state", "pod", "node"],
        "drift": ["code", "severity", "node", "service", "entry", "address", "port", "protocol", "missing", "extra"],
    }.items():
        mine, theirs = getattr(cluster, table)(), getattr(hello, table)()
        assert rows(mine, columns) == renamed.rows(theirs, columns), table


def test_translations_wiring_and_flows_are_the_same_up_to_the_mapping(
    hello: kn.Cluster, redacted: tuple[kn.Cluster, Redactor]
) -> None:
    cluster, renamed = redacted[0], Renamer(redacted[1])
    for key in hello.api.services:
        mine, theirs = cluster.compare(renamed.word(key)), hello.compare(key)
        columns = ["node", "mode", "port", "family", "action", "endpoints", "masquerade", "affinity", "same"]
        assert rows(mine, columns) == renamed.rows(theirs, columns), key
        shares = [sorted(f"{a}={s}" for a, s in (row or {}).items()) for row in mine["shares"]]
        expected = [sorted(f"{renamed.word(a)}={s}" for a, s in (row or {}).items()) for row in theirs["shares"]]
        assert sorted(shares) == sorted(expected), key
    for node in NODES:
        mine, theirs = cluster.node(renamed.word(node)), hello.node(node)
        assert mine.proxy_mode == theirs.proxy_mode
        assert sorted(str(p) for p in mine.interfaces()["pod"]) == sorted(
            str(p and renamed.word(p)) for p in theirs.interfaces()["pod"]
        )
    for key, pod in hello.api.pods.items():
        other = cluster.pod(renamed.word(key))
        assert other.ips == tuple(renamed.addresses.address(ip) for ip in pod.ips)
        before, after = hello.pod(key).veth(), other.veth()
        assert type(before) is type(after), key
        if hasattr(before, "node_interface"):
            assert before.node_interface.ifindex == after.node_interface.ifindex  # type: ignore[union-attr]
    for address in ("10.244.3.4", "10.32.0.10", "172.30.0.11", "10.244.18.1", "8.8.8.8"):
        mine, theirs = cluster.who(renamed.addresses.address(address)), hello.who(address)
        assert mine.kind == theirs.kind


def test_chains_have_the_hashes_of_the_new_names(redacted: tuple[kn.Cluster, Redactor]) -> None:
    cluster, redactor = redacted
    node = redactor.names.name("node-one")
    save = cluster.source.read(FactRef("iptables-save.txt", node)).decode()
    service = f"default/{redactor.names.name('hello-world')}:http"
    assert f"KUBE-SVC-{chain_hash(service + 'tcp', 16)}" in save
    assert "KUBE-SVC-TCOU7JCQXEZGVUNU" in save, "kube-dns is called so everywhere"
    assert len(set(re.findall(r"KUBE-SEP-\w+", save))) == len(
        set(re.findall(r"KUBE-SEP-\w+", (BUNDLED / "nodes/node-one/iptables-save.txt").read_text()))
    )


def test_names_are_answered_the_same(hello: kn.Cluster, redacted: tuple[kn.Cluster, Redactor]) -> None:
    cluster, redactor = redacted
    before = hello.source.read(FactRef("dns.jsonl", "node-one", "default/client")).decode().splitlines()
    ref = FactRef("dns.jsonl", redactor.names.name("node-one"), f"default/{redactor.names.name('client')}")
    after = cluster.source.read(ref).decode().splitlines()
    assert len(before) == len(after)
    renamed = Renamer(redactor)
    for one, other in zip(map(json.loads, before), map(json.loads, after), strict=True):
        assert one["name"].count(".") == other["name"].count(".")
        assert other["server"] == renamed.addresses.address(one["server"])
        if one["response"]:
            mine, theirs = (dns.message.from_wire(base64.b64decode(e["response"])) for e in (other, one))
            assert (mine.rcode(), mine.id, mine.flags) == (theirs.rcode(), theirs.id, theirs.flags)
            told = sorted(str(r) for rrset in mine.answer for r in rrset if rrset.rdtype == 1)
            assert told == sorted(
                renamed.addresses.address(str(r)) for rrset in theirs.answer for r in rrset if rrset.rdtype == 1
            )


def test_two_redactions_have_nothing_in_common(redacted: tuple[kn.Cluster, Redactor], tmp_path: Path) -> None:
    other = Redactor()
    record(open_recording(BUNDLED), tmp_path / "out", nodes=[], redaction=other)
    assert other.addresses.address("10.244.3.4") != redacted[1].addresses.address("10.244.3.4")


def test_what_a_recording_notes_of_single_facts_is_renamed_too(tmp_path: Path) -> None:
    """node.json of a recording that was made live has a time and a teller for each fact, by pod."""
    made = tmp_path / "made"
    shutil.copytree(BUNDLED, made)
    file = made / "nodes/node-one/node.json"
    noted = {"pods/shop/cart-865f99cbb8-j49cc/resolv.conf": "2026-11-23T06:36:47Z"}
    file.write_text(json.dumps({**json.loads(file.read_text()), "times": noted, "told_by": noted}))
    record(open_recording(made), tmp_path / "out", redaction=Redactor())
    (about,) = [
        about
        for path in (tmp_path / "out").glob("nodes/*/node.json")
        if "times" in (about := json.loads(path.read_text())) and about["times"]
    ]
    (key,) = about["times"]
    assert re.fullmatch(r"pods/[^/]+/[^/]+/resolv\.conf", key)
    assert (tmp_path / "out/nodes" / about["node"] / key).exists(), "it is still the fact's own place"
    assert key in about["told_by"]
    assert "cart-865f99cbb8-j49cc" not in json.dumps(about)
