"""Every lesson on a twin: each cell runs without an error, and what is sent for real arrives as the rules say."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from needs import need
from refresh_notebooks import execute, lessons
from twin.running import twin_of

from k8snet_nb.sources.twin import TwinSource

pytestmark = [
    pytest.mark.slow,
    need(
        root=True,
        commands=["ip", "bridge", "nft", "iptables-restore", "ipset", "ss", "unshare", "linux.uml"],
        kernel=["veth", "bridge"],
    ),
]
LIVE = "kn.try_it("


@pytest.fixture(scope="module")
def twins() -> Iterator[Path]:
    """The folder of a running twin of the bundled recording: what K8SNET_TWINS names."""
    with twin_of() as cluster:
        assert isinstance(cluster.source, TwinSource)
        yield cluster.source.twin.path.parent


def texts(cell: Any) -> str:
    """What a cell shows, as text."""
    return "\n".join(output.data.get("text/plain", "") for output in cell.outputs if "data" in output)


@pytest.mark.parametrize("path", lessons(), ids=lambda path: path.stem)
def test_a_lesson_runs_on_a_twin(
    path: Path, twins: Path, monkeypatch: pytest.MonkeyPatch, record_property: pytest.RecordProperty
) -> None:
    monkeypatch.setenv("K8SNET_SOURCE", "twin")
    monkeypatch.setenv("K8SNET_TWINS", str(twins))
    begun = time.monotonic()
    cells = [cell for cell in execute(path).cells if cell.cell_type == "code"]  # raises at a cell's first error
    record_property("seconds", round(time.monotonic() - begun, 1))
    for cell in cells:
        if LIVE in cell.source:
            said = texts(cell)
            assert " ok\n" in said, said
            assert "CHANGE" in said or "watch=" not in cell.source, said
            assert "This is not what the rules say" not in said


def test_the_lessons_have_live_parts() -> None:
    stems = [path.stem[:2] for path in lessons() if LIVE in path.read_text(encoding="utf-8")]
    assert stems == ["03", "04", "05", "06", "07", "08", "09"]
