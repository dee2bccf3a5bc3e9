"""What is lacking is said, skipped here and failed where everything is required."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import needs
import pytest

ROOT = Path(__file__).resolve().parent.parent
TEST = """
from needs import need

@need(commands="no-such-command", kernel="no_such_feature")
def test_lacking(): raise AssertionError("must not run")

@need(commands=["sh"])
def test_there(): pass
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
@pytest.mark.parametrize(("require", "outcome"), [("", "1 passed, 1 skipped"), ("1", "1 passed, 1 error")])
def test_what_is_lacking_is_named(tmp_path: Path, require: str, outcome: str) -> None:
    (tmp_path / "test_it.py").write_text(TEST)
    (tmp_path / "conftest.py").write_text((ROOT / "conftest.py").read_text())
    (tmp_path / "needs.py").write_text((ROOT / "tests" / "needs.py").read_text())
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\npythonpath = .\nmarkers =\n  needs: x\naddopts = --strict-markers -ra\n"
    )
    environment = {**os.environ, "K8SNET_REQUIRE_ALL": require, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert outcome in done.stdout
    assert "needs command no-such-command, kernel feature no_such_feature" in done.stdout


def test_nothing_is_lacking_where_nothing_is_asked() -> None:
    assert needs.lacking() == []


def test_root_is_told_from_the_effective_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
    assert needs.lacking(root=True) == ["root"]
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    assert needs.lacking(root=True) == []


def test_a_named_chromium_is_used_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMIUM", sys.executable)
    assert needs.chromium() == sys.executable
    monkeypatch.setenv("CHROMIUM", "/nowhere/chromium")
    assert needs.lacking(chromium=True)
    with pytest.raises(FileNotFoundError):
        needs.chromium()


def test_other_systems_lack_linux_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert needs.lacking(linux=True, commands=["ip"]) == ["Linux"]
    assert needs.need(root=True).kwargs["linux"] is True
