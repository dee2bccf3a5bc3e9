"""``k8snet check-cluster``: text, JSON and the exit status."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import k8snet_nb as kn
from k8snet_nb import cli
from k8snet_nb.explain.findings import CODES

RECORDING = Path(kn.__path__[0]) / "data" / "hello-cluster"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RECORDING, tmp_path / "copy"))


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check-cluster"]) == 1
    told = capsys.readouterr().out
    assert told.startswith("recording hello-cluster: Kubernetes")
    assert "\n\nerror: CONNTRACK_DROPS, node node-one\n" in told
    assert "[node node-one]$ conntrack -S\n    cpu=0" in told
    assert "\nMeans: " in told
    assert "\nNext: " in told
    assert told.rstrip().rpartition("\n")[2].startswith("2 error, 4 warning, ")


def test_json_holds_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check-cluster", "--json", str(RECORDING)]) == 1
    told = json.loads(capsys.readouterr().out)
    frame = kn.open().findings()
    assert [one["code"] for one in told["findings"]] == list(frame.code)
    assert told["counts"] == {severity: int((frame.severity == severity).sum()) for severity in told["counts"]}
    assert told["status"] == 1
    first = told["findings"][0]
    assert first["service"] is None
    assert first["evidence"][0]["command"] == "conntrack -S"
    assert first["evidence"][0]["lines"]
    assert first["means"] == CODES["CONNTRACK_DROPS"].means


@pytest.mark.parametrize(("arguments", "status"), [([], 0), (["--fail-on", "warning"], 1), (["--fail-on", "error"], 0)])
def test_the_status_goes_by_the_worst(
    copy: Path, arguments: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without drops there is no error left, but warnings."""
    for node in ("node-one", "node-two"):
        path = copy / "nodes" / node / "conntrack-stats.txt"
        path.write_text("cpu=0   found=0 insert=0 insert_failed=0 drop=0 early_drop=0\n")
    assert cli.main(["check-cluster", str(copy), *arguments]) == status
    assert "CONNTRACK_DROPS" not in capsys.readouterr().out


def test_only_one_node(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check-cluster", "--node", "node-three", "--json"]) == 0
    assert {one["node"] for one in json.loads(capsys.readouterr().out)["findings"]} == {"node-three"}


def test_what_could_not_be_checked_at_all(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(copy / "api")
    assert cli.main(["check-cluster", str(copy)]) == 2
    assert capsys.readouterr().out.rstrip().endswith("nothing could be checked")
    assert cli.main(["check-cluster", str(copy / "nowhere")]) == 2
    assert cli.main(["check-cluster", "--node", "nosuch"]) == 2
    assert cli.main(["check-cluster", "--agents", str(RECORDING)]) == 2
    assert "add --source live" in capsys.readouterr().err


def test_hostile_text_does_not_reach_the_terminal(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("services", "endpointslices"):
        path = copy / "api" / f"{name}.json"
        path.write_text(path.read_text().replace('"orphan"', r'"orp\u001b[2Jhan"').replace("nobody", r"no\u202ebody"))
    assert cli.main(["check-cluster", str(copy)]) == 1
    told = capsys.readouterr().out
    assert r"orp\x1b[2Jhan" in told
    assert r"no\u202ebody" in told
    assert "\x1b" not in told
    assert "\u202e" not in told
