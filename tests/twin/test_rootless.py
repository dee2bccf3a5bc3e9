"""A twin of an ordinary user without any capability; and a clear word where the kernel allows no user namespaces."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from needs import need
from twin.nobody import GROUP, USER, command
from twin.traces import Of, left_of, machine, of_folder

pytestmark = need(root=True, commands=["ip", "nft", "iptables-nft-restore", "setpriv", "sysctl", "unshare"])

TWIN = [sys.executable, "-c", "import sys; from k8snet_nb.cli import main; sys.exit(main())", "twin"]
LOCAL = ["--node", "node-one", "--node", "node-two"]
NOTHING = Of(frozenset(), frozenset())
USED = """
import os, sys
import k8snet_nb as kn
from k8snet_nb.facts import FactRef

assert os.getuid() != 0
with kn.open("twin") as cluster:
    sent = cluster.send("default/hello-world", count=20)
    assert set(sent.ends) == {"ok"}, sent.ends
    assert sent.frame.answered.sum() == 20
    rules = cluster.source.read(FactRef("iptables-save.txt", "node-one"))
    assert b"KUBE-SERVICES" in rules
"""
FORBIDDEN = """
import ctypes, struct, sys

# a filter on system calls as containers have it (seccomp(2)): unshare(2), number 272 on x86-64, fails with EPERM
code = [(0x20, 0, 0, 0), (0x15, 0, 1, 272), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
program = b"".join(struct.pack("=HBBI", *one) for one in code)
kept = ctypes.create_string_buffer(program)
wanted = struct.pack("@HP", len(code), ctypes.addressof(kept))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.create_string_buffer(wanted), 0, 0) == 0
from k8snet_nb.cli import main

sys.exit(main(["twin", "up", "--node", "node-one"]))
"""


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="k8no") as folder:
        os.chown(folder, USER, GROUP)
        yield Path(folder)
        as_nobody([*TWIN, "down", "--all"], Path(folder))
        os.chown(folder, os.getuid(), os.getgid())


def as_nobody(argv: Sequence[str], home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(argv, home), capture_output=True, text=True, check=False, timeout=120)


def test_an_ordinary_user_has_a_twin(home: Path) -> None:
    before = machine()
    made = as_nobody([*TWIN, "up", *LOCAL], home)
    assert made.returncode == 0, made.stderr
    assert "left out of the recording, and why (1):\n  node-three" in made.stdout  # it only stands in
    used = as_nobody([sys.executable, "-c", USED], home)
    assert used.returncode == 0, used.stderr
    of_it = of_folder(home)
    assert len(of_it.processes) > 10
    assert machine() == before
    ended = as_nobody([*TWIN, "down"], home)
    assert ended.returncode == 0, ended.stderr
    assert left_of(of_it) == NOTHING
    assert machine() == before
    assert not list((home / "twins").iterdir())


@need(commands=["linux.uml"])
def test_an_ordinary_user_has_a_guest_too(home: Path) -> None:
    made = as_nobody([*TWIN, "up", "--node", "node-three"], home)
    assert made.returncode == 0, made.stderr
    assert "left out of the recording, and why (2):\n  node-one" in made.stdout  # two nodes that only stand in


def test_it_is_said_where_no_user_namespace_can_be_had(home: Path) -> None:
    # in a user namespace of the test's own: this machine's limit stays as it is
    none = 'echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-all --inh-caps=-all "$@"'
    inside = ["unshare", "--user", "--map-root-user", "sh", "-ec", none, "sh"]
    made = as_nobody([*inside, *TWIN, "up", *LOCAL], home)
    assert made.returncode == 2
    assert "no user namespaces to be had here: their number is limited" in made.stderr
    assert "docker run --privileged" in made.stderr
    assert "Traceback" not in made.stderr
    assert not list((home / "twins").iterdir())


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the filter is written for x86-64")
def test_it_is_said_where_a_filter_forbids_namespaces(home: Path) -> None:
    made = as_nobody([sys.executable, "-c", FORBIDDEN], home)
    assert made.returncode == 2, made.stderr
    assert "a filter on system calls such as a container's, forbids it" in made.stderr
    assert "docker run --privileged" in made.stderr
    assert not list((home / "twins").iterdir())


def test_a_folder_of_somebody_else_is_refused(home: Path) -> None:
    (home / "twins").mkdir()
    made = as_nobody([*TWIN, "up", *LOCAL], home)
    assert made.returncode == 2
    assert "belongs to somebody else; set K8SNET_TWINS" in made.stderr
    assert not list((home / "twins").iterdir())
    os.chown(home / "twins", USER, GROUP)
