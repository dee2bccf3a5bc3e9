"""Recordings written and read back; redaction; the check."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import k8snet_nb as kn
from k8snet_nb import cli
from k8snet_nb.errors import FactMissing, NotFound, SourceError
from k8snet_nb.facts import FactRef
from k8snet_nb.record import check_recording, record
from k8snet_nb.record.over_time import seconds_of
from k8snet_nb.sources.opening import BUNDLED
from k8snet_nb.sources.recorded import open_recording

NODES = ("node-one", "node-two", "node-three")


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


def test_some_nodes_only_and_a_node_that_is_none(tmp_path: Path, hello: kn.Cluster) -> None:
    told = hello.record(tmp_path / "out", nodes=["node-two"])
    assert told.nodes == ("node-two",)
    assert kn.open(tmp_path / "out").node("node-one").facts()["present"].sum() == 0
    with pytest.raises(NotFound, match=r"node no-such cannot be recorded.*can be: node-one"):
        hello.record(tmp_path / "other", nodes=["no-such"])


def test_what_is_there_already_is_not_overwritten(tmp_path: Path, hello: kn.Cluster) -> None:
    hello.record(tmp_path / "out", nodes=["node-three"])
    with pytest.raises(SourceError, match=r"holds a recording already \(finished"):
        hello.record(tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(SourceError, match="is not empty"):
        hello.record(tmp_path / "mine")


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
