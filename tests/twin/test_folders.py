"""Folders of twins: which are taken for one, and which are never touched."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

import pytest

from k8snet_nb.errors import TwinError
from k8snet_nb.sources.twin_control import LOG, twin_folders
from k8snet_nb.twin.folders import held, new_folder, sweep
from k8snet_nb.twin.making import up
from k8snet_nb.twin.packets import receive, send


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("K8SNET_TWINS", str(tmp_path))
    return tmp_path


def test_other_folders_in_the_same_place_are_nobodys_twin(base: Path) -> None:
    for name, file in (("thesis", "chapter-1"), ("project", "log"), ("empty", None)):
        (base / name).mkdir()
        if file:
            (base / name / file).write_text("years of work")
    (base / "link").symlink_to(base / "thesis")
    assert twin_folders() == []
    assert sweep() == []
    twin, log = new_folder("mine", named=True)
    with log:
        assert [one.name for one in twin_folders()] == ["mine"]
        assert held(twin)
    assert sweep() == ["mine"]
    assert sorted(one.name for one in base.iterdir()) == ["empty", "link", "project", "thesis"]
    assert (base / "project" / "log").read_text() == "years of work"


def test_a_link_to_a_twins_folder_is_no_twin(base: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / LOG).write_text("")
    (base / "mine").symlink_to(other)
    assert twin_folders() == []
    sweep()
    assert (other / LOG).exists()


def test_the_place_must_be_a_folder_and_ones_own(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (base / "there").mkdir()
    (base / "link").symlink_to(base / "there")
    monkeypatch.setenv("K8SNET_TWINS", str(base / "link"))
    with pytest.raises(TwinError, match="is no folder"):
        new_folder("mine", named=True)
    monkeypatch.setenv("K8SNET_TWINS", str(base / "there"))
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    with pytest.raises(TwinError, match="belongs to somebody else"):
        new_folder("mine", named=True)
    assert list((base / "there").iterdir()) == []


def test_two_who_ask_at_once_do_not_take_each_other_for_the_twin(base: Path) -> None:
    twin, log = new_folder("mine", named=True)
    log.close()
    with (twin.path / LOG).open("rb") as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        assert not held(twin)


def test_words_of_any_length_go_with_their_descriptors() -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reading, writing = os.pipe()
    with one, other:
        send(one, b"x" * 3_000_000, [writing])
        os.close(writing)
        word, fds = receive(other)
        assert word == b"x" * 3_000_000
        assert [os.get_inheritable(fd) for fd in fds] == [False]
        os.write(fds[0], b"!")
        os.close(fds[0])
        assert os.read(reading, 2) == b"!"
        one.close()
        assert receive(other) == (b"", [])
    os.close(reading)


@pytest.mark.parametrize("source", ["live", "node", "twin:other"])
def test_a_twin_is_made_of_a_recording_only(base: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.delenv("K8SNET_SOURCE", raising=False)
    with pytest.raises(TwinError, match="is no recording"):
        up(source)
    monkeypatch.setenv("K8SNET_SOURCE", "live")
    with pytest.raises(TwinError, match="is no recording"):
        up()
    assert list(base.iterdir()) == []
