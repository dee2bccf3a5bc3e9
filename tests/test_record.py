"""Recordings written and read back; redaction; the check."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.message
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import k8snet_nb as kn
from k8snet_nb import cli
from k8snet_nb.errors import FactMissing, NotFound, SourceError
from k8snet_nb.facts import FactRef
from k8snet_nb.record import check_recording, record
from k8snet_nb.record.addresses import AddressMap
from k8snet_nb.record.pseudonyms import KEPT_NAMES, chain_hash
from k8snet_nb.record.over_time import seconds_of
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


@pytest.fixture(scope="module")
def original() -> kn.Cluster:
    return kn.open(BUNDLED)


def test_a_recording_of_a_recording_is_the_same_facts(tmp_path: Path) -> None:
    told = record(open_recording(BUNDLED), tmp_path / "out")
    assert told.missing == {}
    assert "unredacted" in told.warning
    for path in BUNDLED.rglob("*"):
        if path.is_file() and path.name not in ("recording.json", "node.json"):
            assert (tmp_path / "out" / path.relative_to(BUNDLED)).read_bytes() == path.read_bytes(), path
    mine, theirs = open_recording(tmp_path / "out"), open_recording(BUNDLED)
    assert mine.nodes() == theirs.nodes()
    assert mine.about["recorded"] == theirs.about["recorded"]
    for node in NODES:
        assert mine.about_node(node)["errors"] == theirs.about_node(node).get("errors", {})
        ref = FactRef("ipvs-save.txt", node)
        assert mine.trouble(ref) == theirs.trouble(ref)
        assert mine.command(FactRef("addr.json", node)) == theirs.command(FactRef("addr.json", node))


def test_some_nodes_only_and_a_node_that_is_none(tmp_path: Path, original: kn.Cluster) -> None:
    told = original.record(tmp_path / "out", nodes=["node-two"])
    assert told.nodes == ("node-two",)
    assert kn.open(tmp_path / "out").node("node-one").facts()["present"].sum() == 0
    with pytest.raises(NotFound, match=r"node no-such cannot be recorded.*can be: node-one"):
        original.record(tmp_path / "other", nodes=["no-such"])


def test_what_is_there_already_is_not_overwritten(tmp_path: Path, original: kn.Cluster) -> None:
    original.record(tmp_path / "out", nodes=["node-three"])
    with pytest.raises(SourceError, match=r"holds a recording already \(finished"):
        original.record(tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(SourceError, match="is not empty"):
        original.record(tmp_path / "mine")


class Interrupted(Exception):
    pass


def test_an_interrupted_recording_is_readable_and_goes_on_node_by_node(tmp_path: Path) -> None:
    source = open_recording(BUNDLED)
    read, broken = source.read, [True]

    def failing(ref: FactRef) -> bytes:
        if broken[0] and ref.node == "node-two" and ref.fact == "route.json":
            raise Interrupted
        return read(ref)

    source.read = failing  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        record(source, tmp_path / "out", nodes=["node-one", "node-two"])
    begun = kn.open(tmp_path / "out")
    assert begun.source.nodes() in (("node-one",), ())
    assert check_recording(tmp_path / "out").findings
    broken[0] = False
    seen: list[str] = []
    told = record(source, tmp_path / "out", nodes=["node-one", "node-two"], progress=lambda what, *_: seen.append(what))
    assert told.nodes == ("node-one", "node-two")
    assert not any(word.startswith("API") for word in seen)
    assert check_recording(tmp_path / "out").good
    with pytest.raises(SourceError, match="finished"):
        record(source, tmp_path / "out")


def test_a_missing_resource_is_noted(tmp_path: Path) -> None:
    source = open_recording(BUNDLED)
    read = source.read

    def refusing(ref: FactRef) -> bytes:
        if ref.fact == "networkpolicies":
            raise FactMissing(ref.fact, ref.where, "forbidden (403)")
        return read(ref)

    source.read = refusing  # type: ignore[method-assign]
    told = record(source, tmp_path / "out", nodes=[])
    assert told.missing == {"networkpolicies": "forbidden (403)"}
    with pytest.raises(FactMissing, match="forbidden"):
        kn.open(tmp_path / "out").source.read(FactRef("networkpolicies"))


# redaction


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


class Renamer:
    """Takes an answer about the original to the one that the redacted recording should give."""

    def __init__(self, redactor: Redactor) -> None:
        self.names, self.addresses = redactor.names, redactor.addresses

    def __call__(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.word(value)
        if isinstance(value, dict):
            return {self(key): self(one) for key, one in value.items()}
        if isinstance(value, (tuple, list)):
            return type(value)(sorted(map(self, value), key=str))
        return value

    def word(self, text: str) -> str:
        text = self.addresses.text(text)
        return "/".join(self.names.name(p) if self.names.known(p) else p for p in text.split("/"))

    def rows(self, frame: pd.DataFrame, columns: list[str]) -> list[str]:
        return sorted(str([self(value) for value in row]) for row in frame[columns].itertuples(index=False))


def rows(frame: pd.DataFrame, columns: list[str]) -> list[str]:
    plain = lambda v: type(v)(sorted(v, key=str)) if isinstance(v, (tuple, list)) else v  # noqa: E731
    return sorted(str([plain(value) for value in row]) for row in frame[columns].itertuples(index=False))


def test_every_table_is_the_same_up_to_the_mapping(original: kn.Cluster, redacted: tuple[kn.Cluster, Redactor]) -> None:
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
        mine, theirs = getattr(cluster, table)(), getattr(original, table)()
        assert rows(mine, columns) == renamed.rows(theirs, columns), table


def test_translations_wiring_and_flows_are_the_same_up_to_the_mapping(
    original: kn.Cluster, redacted: tuple[kn.Cluster, Redactor]
) -> None:
    cluster, renamed = redacted[0], Renamer(redacted[1])
    for key in original.api.services:
        mine, theirs = cluster.compare(renamed.word(key)), original.compare(key)
        columns = ["node", "mode", "port", "family", "action", "endpoints", "masquerade", "affinity", "same"]
        assert rows(mine, columns) == renamed.rows(theirs, columns), key
        shares = [sorted(f"{a}={s}" for a, s in (row or {}).items()) for row in mine["shares"]]
        expected = [sorted(f"{renamed.word(a)}={s}" for a, s in (row or {}).items()) for row in theirs["shares"]]
        assert sorted(shares) == sorted(expected), key
    for node in NODES:
        mine, theirs = cluster.node(renamed.word(node)), original.node(node)
        assert mine.proxy_mode == theirs.proxy_mode
        assert sorted(str(p) for p in mine.interfaces()["pod"]) == sorted(
            str(p and renamed.word(p)) for p in theirs.interfaces()["pod"]
        )
    for key, pod in original.api.pods.items():
        other = cluster.pod(renamed.word(key))
        assert other.ips == tuple(renamed.addresses.address(ip) for ip in pod.ips)
        before, after = original.pod(key).veth(), other.veth()
        assert type(before) is type(after), key
        if hasattr(before, "node_interface"):
            assert before.node_interface.ifindex == after.node_interface.ifindex  # type: ignore[union-attr]
    for address in ("10.244.3.4", "10.32.0.10", "172.30.0.11", "10.244.18.1", "8.8.8.8"):
        mine, theirs = cluster.who(renamed.addresses.address(address)), original.who(address)
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


def test_names_are_answered_the_same(original: kn.Cluster, redacted: tuple[kn.Cluster, Redactor]) -> None:
    cluster, redactor = redacted
    before = original.source.read(FactRef("dns.jsonl", "node-one", "default/client")).decode().splitlines()
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


v4 = st.integers(0, 2**32 - 1).map(lambda n: ".".join(str(n >> s & 255) for s in (24, 16, 8, 0)))
MAP = AddressMap(b"of this test")


def common(one: str, other: str) -> int:
    a, b = (int.from_bytes(bytes(map(int, text.split("."))), "big") for text in (one, other))
    return 32 - (a ^ b).bit_length()


@given(
    st.sampled_from(["10.0.0.0", "172.16.0.0", "192.168.0.0", "8.0.0.0"]),
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**16 - 1),
)
def test_prefixes_are_preserved(block: str, one: int, other: int) -> None:
    base = ".".join(block.split(".")[:2])
    first, second = (f"{base}.{n >> 8}.{n & 255}" for n in (one, other))
    assert common(MAP.address(first), MAP.address(second)) == common(first, second)


@given(v4)
def test_private_stays_private_and_special_stays_itself(address: str) -> None:
    import ipaddress

    old, new = ipaddress.ip_address(address), ipaddress.ip_address(MAP.address(address))
    for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "224.0.0.0/4"):
        assert (old in ipaddress.ip_network(network)) == (new in ipaddress.ip_network(network))
    if old.is_loopback or old.is_multicast or old.is_link_local:
        assert new == old


def test_addresses_made_from_a_mac_are_made_from_the_new_one() -> None:
    mac = MAP.mac("22:b8:15:b9:e5:aa")
    parts = [int(part, 16) for part in mac.split(":")]
    host = f"{parts[0] ^ 2:02x}{parts[1]:02x}:{parts[2]:02x}ff:fe{parts[3]:02x}:{parts[4]:02x}{parts[5]:02x}"
    import ipaddress

    expected = ipaddress.ip_address(f"fe80::{host}")
    assert ipaddress.ip_address(MAP.address("fe80::20b8:15ff:feb9:e5aa")) == expected
    group = MAP.address("ff02::1:ffb9:e5aa")
    assert int(ipaddress.ip_address(group)) & 0xFFFFFF == int(expected) & 0xFFFFFF
    assert MAP.mac("33:33:ff:b9:e5:aa").split(":")[3:] == mac.split(":")[3:]


def test_networks_stay_networks() -> None:
    assert MAP.text("via 10.244.3.0/24 dev x").split()[1].endswith(".0/24")
    assert MAP.text("10.244.0.0/16").endswith(".0.0/16")
    assert MAP.text("0.0.0.0/0 ::/0 127.0.0.0/8 fe80::/64") == "0.0.0.0/0 ::/0 127.0.0.0/8 fe80::/64"
    assert MAP.text("v1.36.2 1.2.3.4.5 12:30:45") == "v1.36.2 1.2.3.4.5 12:30:45"


# the check, and the command


def test_the_bundled_recording_is_good() -> None:
    checked = check_recording(BUNDLED)
    assert checked.good
    assert checked.facts > 190


def test_what_is_broken_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(BUNDLED, tmp_path / "copy")
    (tmp_path / "copy/nodes/node-one/addr.json").write_text('[{"ifindex": 1')
    (tmp_path / "copy/nodes/node-two/conntrack.txt").write_text("nonsense\n")
    (tmp_path / "copy/api/services.json").write_text('{"kind": "ServiceList"}')
    assert cli.main(["check", str(tmp_path / "copy")]) == 1
    said = capsys.readouterr().out
    assert "error: nodes/node-one/addr.json" in said
    assert "nodes/node-two/conntrack.txt" in said
    assert "error: api/services" in said
    assert said.rstrip().endswith("not good")
    assert cli.main(["check", str(BUNDLED)]) == 0
    assert cli.main(["check", str(tmp_path / "none")]) == 2


def test_the_command_records_and_redacts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["record", str(tmp_path / "out"), "--source", str(BUNDLED), "--node", "node-three", "--redact"]
    assert cli.main(words) == 0
    assert "of 1 nodes" in capsys.readouterr().out
    assert check_recording(tmp_path / "out").good
    assert cli.main(["record", str(tmp_path / "x"), "--source", str(BUNDLED), "--agents"]) == 2
    assert "--source live" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "seconds"), [("60s", 60.0), ("2m", 120.0), ("5", 5.0)])
def test_time_spans(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-5s", "2 h", "9h", "nan"])
def test_no_time_spans(text: str) -> None:
    with pytest.raises(SourceError, match="no time span"):
        seconds_of(text)
