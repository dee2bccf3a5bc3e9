"""An agent as it is in a pod: its capabilities, the node's own files and tools, the image's Python."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import live_agents
import pytest
from api_server import FakeCluster
from live_agents import ROOT, opened, told, zipped
from needs import need, required, stop

from k8snet_nb.agent import files
from k8snet_nb.agent.collect import NODE_FACTS
from k8snet_nb.errors import AgentError
from k8snet_nb.facts import FactRef
from k8snet_nb.sources.agent_manifest import CAPABILITIES
from k8snet_nb.sources.agent_program import BOOT

pytestmark = need(root=True, commands=["ip", "nsenter", "openssl"], modules=["kubernetes"])
spaces, server = live_agents.spaces, live_agents.server


def test_an_image_whose_python_is_too_old_says_so() -> None:
    old = BOOT.replace("(3, 9)", "(9, 9)")
    done = subprocess.run([sys.executable, "-I", "-S", "-c", old], capture_output=True, text=True, check=False)
    assert "k8snet needs Python 3.9 or newer, this image has" in done.stderr


@pytest.fixture
def of_another_user(spaces: dict[str, str]) -> Iterator[None]:
    listen = "import socket, time; s = socket.create_server(('127.0.0.1', 8099)); print(1, flush=True); time.sleep(99)"
    words = ["nsenter", f"--net=/run/netns/{spaces['node-one']}", "setpriv", "--reuid=65534", "--clear-groups"]
    child = subprocess.Popen([*words, "/usr/bin/python3", "-c", listen], stdout=subprocess.PIPE, cwd="/")
    assert child.stdout is not None
    child.stdout.readline()
    yield
    child.kill()
    child.communicate()


def limited(*without: str) -> list[str]:
    only = ",".join(f"+{name.lower()}" for name in CAPABILITIES if name not in without)
    return ["setpriv", f"--bounding-set=-all,{only}", "--inh-caps=-all"]


@need(commands=["setpriv", "iptables-save", "nft", "conntrack"])
@pytest.mark.usefixtures("of_another_user")
def test_the_named_capabilities_suffice(spaces: dict[str, str]) -> None:
    everything, some = told([], spaces["node-one"]), told(limited(), spaces["node-one"])
    assert some == everything
    assert "8099" in some["sockets"]
    assert 'users:(("python3"' in some["sockets"]


@need(commands=["setpriv", "iptables-save", "nft", "conntrack"])
@pytest.mark.usefixtures("of_another_user")
@pytest.mark.parametrize("name", ["SYS_PTRACE", "SYS_ADMIN", "NET_ADMIN", "DAC_READ_SEARCH"])
def test_and_without_one_of_them_something_is_lacking(spaces: dict[str, str], name: str) -> None:
    assert told(limited(name), spaces["node-one"]) != told([], spaces["node-one"])


NODE = """
mount -t tmpfs none "$1"
mount -t tmpfs none /tmp && echo 'PRETTY_NAME="A node of this test"' > /tmp/release
mount --bind /tmp/release /etc/os-release && echo ready && exec sleep 100
"""


@pytest.fixture
def node_files() -> Iterator[int]:
    """A process whose files are a node's: its own release file, and no Python library."""
    library = str(Path(json.__file__).parent.parent)
    child = subprocess.Popen(["unshare", "--mount", "sh", "-c", NODE, "sh", library], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    yield child.pid
    child.kill()
    child.communicate()


@need(commands=["unshare"])
@pytest.mark.usefixtures("spaces")
def test_the_agent_reads_with_the_nodes_own_files_and_tools(node_files: int) -> None:
    with zipped([], "--node-pid", str(node_files)) as agent:
        assert agent.hello()["about"]["os_release"] == "A node of this test"
        assert agent.fact("addr.json").data
        ran = agent.run(["ls", "/tmp"], {})
        assert ran.out == b"release\n"
    with zipped([], "--node-pid", "4194303") as agent, pytest.raises(AgentError, match="needs hostPID"):
        agent.hello()


def test_modules_can_still_be_imported_from_the_image(node_files: int) -> None:
    code = (
        "import sys, os, types\n"
        "sys.modules['k8snet_nb'] = package = types.ModuleType('k8snet_nb')\n"
        "package.__path__ = [sys.argv[1] + '/k8snet_nb']\n"
        "from k8snet_nb.agent.placement import to_node\n"
        "to_node(int(sys.argv[2]))\n"
        "assert not os.path.exists(os.__file__)\n"
        "import csv, sqlite3, xml.dom, concurrent.futures\n"
        "print(csv.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(ROOT), str(node_files)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("/proc/self/fd/")


def python39() -> str | None:
    """A Python 3.9 of this machine: on PATH, or one of pyenv's."""
    places = [shutil.which("python3.9"), *map(str, Path.home().glob(".pyenv/versions/3.9.*/bin/python3.9"))]
    places += map(str, Path("/").glob("opt/pyenv/versions/3.9.*/bin/python3.9"))
    for place in filter(None, places):
        done = subprocess.run(
            [place, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, check=False
        )
        if done.stdout.strip() == b"(3, 9)":
            return place
    return None


@pytest.mark.skipif(python39() is None and not required(), reason="needs Python 3.9, on PATH or of pyenv")
def test_python_3_9_will_do(server: FakeCluster, spaces: dict[str, str]) -> None:
    place = python39()
    assert place is not None
    server.python = place
    cluster, source = opened()
    with source:
        assert source.nodes() == ("node-one", "node-two")
        assert cluster.node("node-one").links()
        found = source.read_many([FactRef(fact, "node-one") for fact in NODE_FACTS])
        here = told([], spaces["node-one"])
        assert {f"None {ref.fact}": one.code or str(one.note) for ref, one in found.items()}.items() <= here.items()


def test_the_kernels_log_by_either_way() -> None:
    by_call = files._syslog()
    if by_call is None:
        stop(["syslog(2)"])
    device = files._from_device("").decode().splitlines()
    called = files._dated(by_call, "").decode().splitlines()
    text = lambda line: line.split("] ", 1)[1]  # noqa: E731
    assert {text(line) for line in called[-5:]} <= {text(line) for line in device}


def test_a_line_of_the_kernels_log_without_a_time_is_not_lost() -> None:
    """Where printk writes no times, the full table would be logged and not seen."""
    said = (
        "<4>nf_conntrack: table full, dropping packet\n<4>[   12.5] nf_conntrack: table full, again\n<6>[1.0] other\n"
    )
    first, second = files._dated(said, "nf_conntrack").decode().splitlines()
    assert first == "nf_conntrack: table full, dropping packet"
    assert re.fullmatch(r"\[.* \d{4}\] nf_conntrack: table full, again", second)
