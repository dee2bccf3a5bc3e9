"""Recordings that are interrupted, that meet a full disk or hostile names, and those that are one file."""

from __future__ import annotations

import errno
import json
import re
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import k8snet_nb as kn
from k8snet_nb import cli
from k8snet_nb.errors import NotFound, SourceError
from k8snet_nb.facts import FactRef
from k8snet_nb.record import check_recording, record
from k8snet_nb.record.redact import Redactor
from k8snet_nb.sources.opening import BUNDLED
from k8snet_nb.sources.recorded import RecordedSource, open_recording

TWO = ["node-one", "node-two"]


class Interrupted(Exception):
    pass


class Breaking(RecordedSource):
    """The bundled recording; reading a fact of node-two's fails until ``whole`` is set."""

    def __init__(self, change: Callable[[FactRef, bytes], bytes] = lambda _ref, content: content) -> None:
        whole = open_recording(BUNDLED)
        super().__init__(whole._files, whole.where)
        self.whole, self.change = False, change

    def read(self, ref: FactRef) -> bytes:
        if not self.whole and ref == FactRef("iptables-save.txt", "node-two"):
            raise Interrupted
        return self.change(ref, super().read(ref))


def interrupted(source: Breaking, out: Path, redactor: Redactor | None) -> None:
    with pytest.raises(Interrupted):
        record(source, out, nodes=TWO, redaction=redactor)
    source.whole = True


def test_a_redacted_one_goes_on_with_the_same_names_and_its_key_is_gone_at_the_end(tmp_path: Path) -> None:
    def another_pod(ref: FactRef, content: bytes) -> bytes:
        if ref != FactRef("pods") or not source.whole:
            return content
        listing = json.loads(content)
        made = json.loads(json.dumps(listing["items"][0]))
        made["metadata"]["name"] = "aaa-newcomer"
        return json.dumps({**listing, "items": [made, *listing["items"]]}).encode()

    source, out = Breaking(another_pod), tmp_path / "out"
    first, second = Redactor(), Redactor()
    interrupted(source, out, first)
    key = tmp_path / "out.redaction-key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert json.loads(key.read_text())["state"]["names"]["client"] == first.names.name("client")
    assert not any("redaction-key" in str(path) for path in out.rglob("*"))
    held = json.loads(key.read_text())["state"]["key"]
    assert not any(held in path.read_text() for path in out.rglob("*") if path.is_file())
    told = record(source, out, nodes=TWO, redaction=second)
    assert len(told.nodes) == 2
    assert not key.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert set(json.loads((out / "recording.json").read_text())) == {
        "format",
        "name",
        "nodes",
        "times",
        "kubernetes",
        "recorded",
    }
    for name in ("client", "hello-world", "shop", "node-two"):
        assert first.names.name(name) == second.names.name(name)
    read = kn.open(out)
    assert set(read.nodes()["facts"]) == {True, False}
    whole = open_recording(BUNDLED)
    for node in TWO:
        mine = kn.Cluster(read.source).compare(f"default/{second.names.name('hello-world')}")
        assert mine[mine["node"] == second.names.name(node)]["same"].all()
    text = "".join(path.read_text() for path in out.rglob("*") if path.is_file())
    assert "aaa-newcomer" not in text
    for item in json.loads(whole.read(FactRef("pods")))["items"]:
        name = item["metadata"]["name"]
        assert name == "client" or not re.search(rf"(?<![a-z0-9]){name}(?![a-z0-9])", text)


@pytest.mark.parametrize("what", ["gone", "broken", "of another"])
def test_without_its_own_key_a_redacted_one_does_not_go_on(tmp_path: Path, what: str) -> None:
    source, key = Breaking(), tmp_path / "out.redaction-key"
    interrupted(source, tmp_path / "out", Redactor())
    if what == "gone":
        key.unlink()
    elif what == "broken":
        key.write_text("{")
    else:
        key.write_text(key.read_text().replace('"run": "', '"run": "0'))
    with pytest.raises(SourceError, match=r"redaction-key that has them.*begin anew"):
        record(source, tmp_path / "out", nodes=TWO, redaction=Redactor())
    with pytest.raises(SourceError, match="begun, of a recorded source, redacted"):
        record(source, tmp_path / "out", nodes=TWO)


def test_other_labels_to_keep_are_refused(tmp_path: Path) -> None:
    source = Breaking()
    interrupted(source, tmp_path / "out", Redactor(keep_labels=["team"]))
    with pytest.raises(SourceError, match=r"other labels to keep \(team\)"):
        record(source, tmp_path / "out", nodes=TWO, redaction=Redactor())


def test_what_is_left_of_a_half_written_node_is_written_anew(tmp_path: Path) -> None:
    source = Breaking()
    interrupted(source, tmp_path / "out", None)
    gone = tmp_path / "out/nodes/node-two/pods/default/of-yesterday/addr.json"
    gone.parent.mkdir(parents=True)
    gone.write_text("[]")
    record(source, tmp_path / "out", nodes=TWO)
    assert not gone.exists()
    assert check_recording(tmp_path / "out").good


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz", ".tar.xz", ".zip"])
def test_an_archive_is_there_as_a_whole_or_not_at_all(tmp_path: Path, suffix: str) -> None:
    source, out = Breaking(), tmp_path / f"mine{suffix}"
    interrupted(source, out, None)
    assert not out.exists()
    told = record(source, out, nodes=TWO)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    assert told.path == out
    assert check_recording(out).good
    assert kn.open(out).diff(kn.open(BUNDLED))["node"].dropna().unique().tolist() == ["node-three"]
    with pytest.raises(SourceError, match="is there already"):
        record(source, out)
    if suffix == ".tar.gz":
        with tarfile.open(out) as tar:
            members = tar.getmembers()
        assert {(one.uid, one.uname, one.mtime) for one in members} == {(0, "", 0)}
        assert {one.name.split("/")[0] for one in members} == {"mine"}


def test_a_redacted_archive_leaves_no_key(tmp_path: Path) -> None:
    assert (
        cli.main(["record", str(tmp_path / "a.tar.gz"), "--source", str(BUNDLED), "--node", "node-two", "--redact"])
        == 0
    )
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]
    assert (
        kn.open(tmp_path / "a.tar.gz").source.nodes() == ("node-2",) or len(kn.open(tmp_path / "a.tar.gz").nodes()) == 3
    )


@pytest.mark.parametrize("name", ["out", "out.tar.gz"])
@pytest.mark.parametrize("redact", [False, True])
def test_a_full_disk_is_said_and_it_goes_on_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, redact: bool
) -> None:
    full, write = [True], Path.write_bytes

    def failing(self: Path, data: bytes) -> int:
        if full[0] and self.name == ".nft.json.part":
            write(self, data[:100])
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", failing)
    source, out = open_recording(BUNDLED), tmp_path / name
    with pytest.raises(SourceError, match=r"cannot be written: No space left on device.*goes on"):
        record(source, out, redaction=Redactor() if redact else None)
    assert not list(tmp_path.rglob("*.part"))
    full[0] = False
    record(source, out, redaction=Redactor() if redact else None)
    assert check_recording(out).good
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_hostile_names_do_not_lead_anywhere(tmp_path: Path) -> None:
    class Hostile(Breaking):
        def nodes(self) -> tuple[str, ...]:
            return (*super().nodes(), "../evil", "..", "a/b", ".hidden", "x" * 300)

        def refs(self) -> list[FactRef]:
            bad = ["../../x/y", "default/..", "a/b/c", "default/.ssh"]
            return [*super().refs(), *(FactRef("addr.json", "node-one", pod) for pod in bad)]

    source = Hostile()
    source.whole = True
    told = record(source, tmp_path / "deep" / "out")
    assert told.nodes == ("node-one", "node-three", "node-two")
    assert told.missing["../evil/node.json"].startswith("its name is none")
    assert {path.name for path in tmp_path.iterdir()} == {"deep"}
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"out"}
    assert check_recording(tmp_path / "deep" / "out").good
    with pytest.raises(NotFound, match="cannot be recorded"):
        record(source, tmp_path / "other", nodes=["no\x1b[31msuch"])


def test_a_live_cluster_with_another_number_of_agents_is_the_same_cluster(tmp_path: Path) -> None:
    class Live(Breaking):
        def describe(self) -> str:
            return f"live cluster: context here, user jane; agents on {1 + self.whole} nodes"

    source: Any = Live()
    interrupted(source, tmp_path / "out", None)
    assert len(record(source, tmp_path / "out", nodes=TWO).nodes) == 2


def test_a_file_in_the_way_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(SourceError, match="holds no recording"):
        record(open_recording(BUNDLED), tmp_path / "out", nodes=[])
    assert (tmp_path / "out").read_text() == "mine"


KILLED = """
import sys, time
from k8snet_nb.record import record
from k8snet_nb.record.redact import Redactor
from k8snet_nb.sources.opening import BUNDLED
from k8snet_nb.sources.recorded import open_recording
source, count = open_recording(BUNDLED), [0]
read = source.read
def slow(ref):
    count[0] += 1
    if count[0] == int(sys.argv[2]):
        print("here", flush=True)
        time.sleep(1000)
    return read(ref)
source.read = slow
record(source, sys.argv[1], nodes=["node-two"], redaction=Redactor())
"""


@pytest.mark.parametrize("name", ["out", "out.tar.gz"])
@pytest.mark.parametrize("at", [3, 12, 40])
def test_one_that_was_killed_goes_on_or_begins_anew(tmp_path: Path, name: str, at: int) -> None:
    """Killed while it learns the names, in the API's Lists and in a node."""
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / name), str(at)], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"here\n"
    finally:
        child.kill()
        child.communicate()
    redactor = Redactor()
    record(open_recording(BUNDLED), tmp_path / name, nodes=["node-two"], redaction=redactor)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert check_recording(tmp_path / name).good
    assert kn.open(tmp_path / name).source.nodes() == (redactor.names.name("node-two"),)
