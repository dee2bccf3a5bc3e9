"""The command ``k8snet``: what it would start, and whose files it keeps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from k8snet_nb import cli


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package as a wheel lays it: lessons inside, no checkout around. The working folder is an empty one."""
    package = tmp_path / "site-packages" / "k8snet_nb"
    (package / "notebooks" / "pictures").mkdir(parents=True)
    (package / "notebooks" / cli.FIRST).write_text("first lesson")
    (package / "notebooks" / "pictures" / "one.txt").write_text("picture")
    monkeypatch.setattr(cli, "PACKAGE", package)
    (tmp_path / "user").mkdir()
    monkeypatch.chdir(tmp_path / "user")
    return package


def test_in_a_checkout_the_lessons_open_where_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lab", "--dry-run", "--no-browser"]) == 0
    told = capsys.readouterr()
    assert f"--ServerApp.root_dir={cli.PACKAGE.parent}" in told.out
    assert f"--LabApp.default_url=/lab/tree/notebooks/{cli.FIRST}" in told.out
    assert "--no-browser" in told.out
    assert "--LabApp.news_url=None" in told.out
    assert not told.err


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs users")
@pytest.mark.parametrize(("user", "flags"), [(0, 1), (1000, 0)])
def test_jupyter_starts_for_root_too(user: int, flags: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert cli.lab_command(Path("/lessons"), cli.FIRST).count("--allow-root") == flags


def test_arguments_after_the_dashes_go_to_jupyter(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lab", "--dry-run", "--", "--port", "9000", "--", "x"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("--port 9000 -- x")


def test_an_installed_package_lays_its_lessons_once(installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lab", "--dry-run"]) == 0
    told = capsys.readouterr()
    folder = Path.cwd() / "k8snet-lessons"
    assert (folder / cli.FIRST).read_text() == "first lesson"
    assert (folder / "pictures" / "one.txt").read_text() == "picture"
    assert f"/lab/tree/{cli.FIRST}" in told.out
    assert "lessons laid" in told.err
    assert cli.main(["lab", "--dry-run"]) == 0
    assert not capsys.readouterr().err


def test_a_changed_lesson_is_kept_and_said(installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["lab", "--dry-run"])
    mine = Path.cwd() / "k8snet-lessons" / cli.FIRST
    mine.write_text("my notes")
    (installed / "notebooks" / cli.FIRST).write_text("first lesson, second edition")
    capsys.readouterr()
    assert cli.main(["lab", "--dry-run"]) == 0
    assert mine.read_text() == "my notes"
    assert f"kept your changed {cli.FIRST}" in capsys.readouterr().err


def test_an_unchanged_lesson_follows_a_new_version(installed: Path) -> None:
    cli.main(["lab", "--dry-run"])
    (installed / "notebooks" / cli.FIRST).write_text("second edition")
    cli.main(["lab", "--dry-run"])
    assert (Path.cwd() / "k8snet-lessons" / cli.FIRST).read_text() == "second edition"


@pytest.mark.parametrize("manifest", ["", "[]", '{"00_start_here.ipynb": 3}', "\x00"])
def test_a_broken_list_of_what_was_laid_counts_files_as_the_users(installed: Path, manifest: str) -> None:
    folder = Path("k8snet-lessons")
    cli.main(["lab", "--dry-run"])
    (folder / cli.FIRST).write_text("my notes")
    (folder / cli.MANIFEST).write_text(manifest)
    assert cli.main(["lab", "--dry-run"]) == 0
    assert (folder / cli.FIRST).read_text() == "my notes"


def test_lessons_go_where_the_user_says(installed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lab", "--dry-run", "--dir", str(tmp_path / "my lessons")]) == 0
    assert (tmp_path / "my lessons" / cli.FIRST).is_file()
    assert f"cd '{tmp_path}/my lessons' && " in capsys.readouterr().out


def test_a_package_without_lessons_says_so(installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (installed / "notebooks" / cli.FIRST).unlink()
    assert cli.main(["lab", "--dry-run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("k8snet: no lessons in ")


def test_a_folder_that_cannot_be_made_is_one_line(installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken").write_text("a file")
    assert cli.main(["lab", "--dry-run", "--dir", "taken"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_source_that_is_not_there_is_refused_before_anything_starts(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lab", "--dry-run", "--source", "no-such-recording"]) == 2
    assert "no recording at" in capsys.readouterr().err


def test_the_source_reaches_the_notebooks_whatever_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    started: list[tuple[list[str], Path, dict[str, str]]] = []
    monkeypatch.setattr(cli, "_run", lambda *args: started.append(args) or 0)
    assert cli.main(["lab", "--source", "mine"]) == 0
    assert cli.main(["lab", "--source", "live"]) == 0
    assert cli.main(["lab", "--source", "twin:mine"]) == 0  # as `k8snet twin up` says at its end
    sources = [environment["K8SNET_SOURCE"] for _, _, environment in started]
    assert sources == [str(tmp_path / "mine"), "live", "twin:mine"]


@pytest.mark.parametrize("arguments", [[], ["bake"], ["lab", "--what"], ["lab", "extra"]])
def test_words_it_does_not_know_end_with_status_2(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "k8snet_nb.cli", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("usage: k8snet")
    assert "Traceback" not in done.stderr


def test_it_says_its_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "k8snet_nb.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("k8snet 0.")


def test_who_reads_no_further_is_told_nothing() -> None:
    """``k8snet check-cluster | head``: no message, and no traceback."""
    command = [sys.executable, "-m", "k8snet_nb.cli", "check-cluster"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "hello-cluster" in process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 1
