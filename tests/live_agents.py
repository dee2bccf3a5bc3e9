"""What tests of agents in pods share: a server whose nodes are namespaces of this kernel, and sources opened on it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from api_server import FakeCluster, serving
from kernel_nodes import Machine, ip
from needs import need

import k8snet_nb as kn
from k8snet_nb.agent.collect import NODE_FACTS
from k8snet_nb.errors import FactMissing
from k8snet_nb.facts import FactRef
from k8snet_nb.sources.agent_program import BOOT, packed_agent
from k8snet_nb.sources.agents import Agent
from k8snet_nb.sources.live import LiveSource
from k8snet_nb.sources.opening import BUNDLED
from k8snet_nb.sources.transport import ChildTransport

pytestmark = need(root=True, commands=["ip", "nsenter", "openssl"], modules=["kubernetes"])
LOCATION = "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
ROOT = Path(next(iter(kn.__path__))).parent
QUICK = {"idle": 2, "time_to_live": 1, "heartbeat": 3, "patience": 20.0}


@pytest.fixture(scope="module")
def spaces() -> Iterator[dict[str, str]]:
    machine = Machine()
    try:
        made = {"node-one": machine.namespace("live1"), "node-two": machine.namespace("live2")}
        for number, name in enumerate(made.values(), 1):
            ip("addr", "add", f"172.31.9.{number}/32", "dev", "lo", namespace=name)
        yield made
    finally:
        machine.clear()


@pytest.fixture(params=["http", "https"])
def any_server(
    request: pytest.FixtureRequest, tmp_path: Path, spaces: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeCluster]:
    with serving(tmp_path, BUNDLED, tls=request.param == "https") as made:
        made.nodes = spaces
        monkeypatch.setattr(LOCATION, str(made.kubeconfig(tmp_path / "kubeconfig")))
        yield made


@pytest.fixture
def server(tmp_path: Path, spaces: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    with serving(tmp_path, BUNDLED) as made:
        made.nodes = spaces
        monkeypatch.setattr(LOCATION, str(made.kubeconfig(tmp_path / "kubeconfig")))
        yield made


def opened(**options: Any) -> tuple[kn.Cluster, LiveSource]:
    cluster = kn.open("live", **{"agents": True, **QUICK, **options})
    assert isinstance(cluster.source, LiveSource)
    return cluster, cluster.source


def soon(true: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)
    return true()


def ended(server: FakeCluster) -> bool:
    return all(process.poll() is not None for process in [*server.conversations, *server.processes.values()])


def said(**options: Any) -> str:
    """What keeps node-one's agent from starting."""
    _, source = opened(agents=["node-one"], **options)
    with source, pytest.raises(FactMissing) as caught:
        source.read(FactRef("addr.json", "node-one"))
    return str(caught.value)


def zipped(words: list[str], *options: str) -> Agent:
    """An agent that came as a zip, as in a pod, started behind ``words``."""
    child = ChildTransport([*words, sys.executable, "-I", "-S", "-c", BOOT, *options])
    child.write(packed_agent())
    return Agent(child, "node-one")


def told(words: list[str], namespace: str) -> dict[str, str]:
    """What becomes of every fact of a node: "" or why not, and whose the sockets are."""
    with zipped(["nsenter", f"--net=/run/netns/{namespace}", *words]) as agent:
        target = {"path": f"/run/netns/{namespace}", "key": "other", "facts": ["addr.json"]}
        found = agent.facts([{"key": None, "facts": list(NODE_FACTS)}, target], 60)
    codes = {f"{key} {fact}": one.code or str(one.note) for (key, fact), one in found.items()}
    return {**codes, "sockets": (found[None, "sockets.txt"].data or b"").decode()}
