"""Agents in pods: real processes in namespaces of this kernel, reached by exec over a real websocket."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_server import TOKEN, FakeCluster, serving
from kernel_nodes import Machine, ip
from needs import need, required

import k8snet_nb as kn
from k8snet_nb import cli
from k8snet_nb.agent import files
from k8snet_nb.agent.collect import NODE_FACTS
from k8snet_nb.errors import AgentError, FactMissing, Refused
from k8snet_nb.facts import API_RESOURCES, FactRef
from k8snet_nb.record import check_recording, record
from k8snet_nb.record.over_time import Spans
from k8snet_nb.sources.agent_exec import ExecStream
from k8snet_nb.sources.agent_manifest import CAPABILITIES, AgentSettings, job_manifest
from k8snet_nb.sources.agent_pods import clean
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


def test_two_nodes_are_read_each_in_its_own_namespace_and_everything_is_taken_away(any_server: FakeCluster) -> None:
    cluster, source = opened()
    with source:
        assert source.nodes() == ("node-one", "node-two")
        assert source.describe().endswith("agents on 2 nodes, none on node-three")
        for number, node in enumerate(source.nodes(), 1):
            addresses = [a.address for link in cluster.node(node).links() for a in link.addresses]
            assert f"172.31.9.{number}" in addresses
            assert cluster.node(node).proxy_mode is None, "no rules; and no legacy tables, which is no error"
        assert sorted(any_server.made)[0].startswith("Job k8snet/k8snet-agent-")
        assert len(any_server.made) == 3
        with pytest.raises(FactMissing, match="not ready"):
            cluster.node("node-three").links()
        both = source.read_many([FactRef(fact, node) for node in source.nodes() for fact in ("addr.json", "rule.json")])
        assert all(told.data for told in both.values())
        large = source.read(FactRef("processes.json", "node-one"))
        assert json.loads(large)
    assert soon(lambda: ended(any_server), 5)
    assert any_server.jobs == {}
    with pytest.raises(FactMissing, match="agents are off"):
        source.read(FactRef("addr.json", "node-one"))


def test_some_nodes_only(server: FakeCluster) -> None:
    cluster, source = opened(agents=["node-two"])
    with source:
        assert source.nodes() == ("node-two",)
        with pytest.raises(FactMissing, match="not asked for"):
            cluster.node("node-one").links()


def test_an_agent_that_died_is_started_anew(server: FakeCluster) -> None:
    _, source = opened(agents=["node-one"])
    with source:
        server.conversations[0].kill()
        server.conversations[0].wait()
        assert soon(lambda: source._pods is not None and not source._pods.running())
        assert source.read(FactRef("rule.json", "node-one"))
        assert len([line for line in server.made if line.startswith("Job")]) == 1, "the pod was still good"


def test_a_pod_of_an_earlier_session_is_used_again(server: FakeCluster) -> None:
    _, first = opened(agents=["node-one"], idle=60)
    second_cluster, second = opened(agents=["node-one"])
    with first:
        with second:
            assert second_cluster.node("node-one").links()
        assert len([line for line in server.made if line.startswith("Job")]) == 1
        assert first.read(FactRef("rule.json", "node-one")), "the one that made it still has it"
    assert server.jobs == {}


SESSION = """
import os, sys, time
import kubernetes.config.kube_config as config
config.KUBE_CONFIG_DEFAULT_LOCATION = sys.argv[1]
import k8snet_nb as kn
cluster = kn.open("live", agents=True, idle=2, time_to_live=1, heartbeat=3)
print("ready", *cluster.source.nodes(), flush=True)
sys.stdin.readline()
"""


def session(server: FakeCluster, tmp_path: Path) -> subprocess.Popen[str]:
    path = server.kubeconfig(tmp_path / "theirs")
    child = subprocess.Popen(
        [sys.executable, "-c", SESSION, str(path)], text=True, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready node-one node-two\n"
    assert len(server.conversations) == 2
    assert not any(process.poll() is not None for process in server.conversations)
    return child


@pytest.mark.parametrize("way", ["killed", "hung", "left"])
def test_whatever_becomes_of_the_notebook_nothing_stays(server: FakeCluster, tmp_path: Path, way: str) -> None:
    child = session(server, tmp_path)
    try:
        if way == "killed":
            child.send_signal(signal.SIGKILL)
        elif way == "hung":
            child.send_signal(signal.SIGSTOP)  # its connections stay open, and nothing comes through them
        else:
            child.communicate("\n", timeout=20)
            assert server.jobs == {}, "deleted at the interpreter's exit"
        agents_only = lambda: all(process.poll() is not None for process in server.conversations)  # noqa: E731
        assert soon(agents_only, 3 + 3), "the agents end within their heartbeat"
        assert soon(lambda: ended(server), 2 + 3), "the pods' own processes end when no agent came for a while"
        assert soon(lambda: server.jobs == {}, 1 + 2), "the Jobs' time to live"
    finally:
        child.kill()
        child.communicate()


def test_what_is_left_is_cleaned(server: FakeCluster) -> None:
    _, source = opened(agents=["node-one"])
    told = clean(source.api.connection, "k8snet")
    assert [line.split(" ")[:2] for line in told] == [["deleted", "Job"], ["deleted", "Namespace"]]
    assert server.jobs == {}
    assert server.namespaces == {}
    assert clean(source.api.connection, "k8snet") == []
    source.close()


def said(**options: Any) -> str:
    """What keeps node-one's agent from starting."""
    _, source = opened(agents=["node-one"], **options)
    with source, pytest.raises(FactMissing) as caught:
        source.read(FactRef("addr.json", "node-one"))
    return str(caught.value)


@pytest.mark.parametrize(
    ("method", "part", "words"),
    [
        ("POST", "/jobs", r"verb create on jobs.batch in namespace k8snet.*create role k8snet-jobs --verb=create"),
        ("POST", "/api/v1/namespaces", r"verb create on namespaces.*create clusterrole"),
        ("GET", "/exec", r"verbs get and create on pods/exec.*--resource=pods/exec"),
        ("GET", "/k8snet/pods", r"verb list on pods in namespace k8snet"),
    ],
)
def test_a_refusal_names_verb_and_resource(server: FakeCluster, method: str, part: str, words: str) -> None:
    server.denied.add((method, part))
    why = said()
    assert re.search(words, why), why


def test_pod_security_is_named(server: FakeCluster) -> None:
    server.pod_security = True
    why = said()
    assert "Pod Security refuses it" in why
    assert "pod-security.kubernetes.io/enforce=privileged" in why


def test_an_image_that_does_not_come_is_named(server: FakeCluster) -> None:
    server.waiting = ("ImagePullBackOff", "Back-off pulling image")
    why = said(image="registry.example/none:1")
    assert "registry.example/none:1" in why
    assert "ImagePullBackOff" in why
    assert "Python 3.9" in why


def test_an_image_without_python_is_named(server: FakeCluster) -> None:
    server.waiting = ("RunContainerError", 'exec: "python3": executable file not found in $PATH')
    assert "has no python3" in said()


@pytest.mark.parametrize("how", ["watched", "forbidden", "expired"])
def test_a_pod_that_takes_its_time_is_waited_for(server: FakeCluster, how: str) -> None:
    server.late = 1.5
    if how == "forbidden":
        server.denied.add(("WATCH", "/pods"))
    server.forgotten = 100 if how == "expired" else 0
    begun = time.monotonic()
    cluster, source = opened(agents=["node-one"])
    with source:
        assert cluster.node("node-one").links()
    asked = [line for line, _ in server.seen if "/pods?" in line]
    assert len([line for line in asked if "watch=" not in line]) <= (4 if how == "watched" else 10)
    assert any("resourceVersion=" in line for line in asked)
    assert time.monotonic() - begun < 8


def test_a_busy_server_is_asked_again_for_agents_too(server: FakeCluster) -> None:
    _, source = opened(agents=[])
    for script in ([429, 503], [200, 503, 429], [200, 200, 503], [200, 200, 200, 503]):
        with source:
            server.script = [*script]
            assert source.start_agents(["node-one"]) == {}
            assert server.script == []


def test_an_agent_by_the_older_channel_protocol(server: FakeCluster) -> None:
    server.protocol = "v4.channel.k8s.io"
    cluster, source = opened(agents=["node-one"])
    with source:
        assert cluster.node("node-one").links()
    assert soon(lambda: ended(server), 5)


def test_a_namespace_that_is_being_deleted_is_waited_for(server: FakeCluster) -> None:
    server.namespaces["k8snet"] = {"metadata": {"name": "k8snet"}, "status": {"phase": "Terminating"}}
    threading.Timer(1.2, lambda: server.namespaces.pop("k8snet")).start()
    _, source = opened(agents=["node-one"])
    with source:
        assert source.nodes() == ("node-one",)
    assert server.made[0] == "Namespace k8snet"


def test_the_start_of_agents_can_be_interrupted(server: FakeCluster) -> None:
    server.waiting = ("ContainerCreating", "")
    _, source = opened(agents=[])
    threading.Timer(0.8, signal.raise_signal, [signal.SIGINT]).start()
    begun = time.monotonic()
    with source, pytest.raises(KeyboardInterrupt):
        source.start_agents()
    assert time.monotonic() - begun < 5
    assert soon(lambda: not [t for t in threading.enumerate() if t.name.startswith("k8snet nodes")])
    assert soon(lambda: server.jobs == {})


def test_a_pod_that_does_not_come_up_in_time(server: FakeCluster) -> None:
    server.waiting = ("ContainerCreating", "")
    assert "not running after 0.5 seconds" in said(patience=0.5)


def test_an_image_whose_python_is_too_old_says_so() -> None:
    old = BOOT.replace("(3, 9)", "(9, 9)")
    done = subprocess.run([sys.executable, "-I", "-S", "-c", old], capture_output=True, text=True, check=False)
    assert "k8snet needs Python 3.9 or newer, this image has" in done.stderr


def test_one_node_that_fails_does_not_keep_the_other(server: FakeCluster, spaces: dict[str, str]) -> None:
    server.nodes = {**spaces, "node-two": "no-such-namespace"}
    cluster, source = opened()
    with source:
        assert source.nodes() == ("node-one",)
        assert cluster.node("node-one").links()
        with pytest.raises(FactMissing, match="node-two"):
            cluster.node("node-two").links()


def test_the_manifest_asks_for_no_more_than_it_says() -> None:
    job = job_manifest("node-one", AgentSettings())
    pod = job["spec"]["template"]["spec"]
    assert "volumes" not in pod
    assert "privileged" not in pod["containers"][0]["securityContext"]
    assert pod["nodeName"] == "node-one"
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert not pod["automountServiceAccountToken"]
    assert job["spec"]["ttlSecondsAfterFinished"] > 0
    assert job["spec"]["activeDeadlineSeconds"] > 0


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


class Decrypted(socket.socket):
    """A socket whose next bytes TLS has taken already: nothing that poll(2) could see."""

    def pending(self) -> int:
        return 5


class Frames:
    """As much of a websocket as a stream uses."""

    subprotocol = "v4.channel.k8s.io"

    def __init__(self, frames: list[tuple[int, bytes]]) -> None:
        self.frames, self.sent = frames, list[bytes]()
        self.other, inner = socket.socketpair()
        self.sock = Decrypted(fileno=inner.detach())

    def settimeout(self, _seconds: float) -> None:
        pass

    def send_binary(self, data: bytes) -> None:
        self.sent.append(data)

    def recv_data(self, control_frame: bool) -> tuple[int, bytes]:
        return self.frames.pop(0)

    def send_close(self) -> None:
        self.other.close()


def test_frames_are_sorted_by_their_channel() -> None:
    end = b'\3{"status": "Failure", "message": "command terminated with exit code 1"}'
    frames = Frames([(2, b"\1ab"), (9, b""), (1, b"\2first\nlast words"), (2, b"\1\0\xff"), (2, end)])
    stream = ExecStream(frames)
    assert stream.read(1) == b"a"
    assert stream.read(10) == b"b"
    assert stream.read(10) == b"\0\xff"
    assert stream.read(10) == b""
    stream.write(b"x" * 40_000)
    assert [len(data) for data in frames.sent] == [32 * 1024 + 1, 40_000 - 32 * 1024 + 1]
    assert all(data[:1] == b"\0" for data in frames.sent)
    assert stream.close() == "command terminated with exit code 1: last words"


def test_the_kernels_log_by_either_way() -> None:
    by_call = files._syslog()
    if by_call is None:
        pytest.skip("syslog(2) is not permitted here")
    device = files._from_device("").decode().splitlines()
    called = files._dated(by_call, "").decode().splitlines()
    text = lambda line: line.split("] ", 1)[1]  # noqa: E731
    assert {text(line) for line in called[-5:]} <= {text(line) for line in device}


RESOURCES = {"jobs": "batch", "endpointslices": "discovery.k8s.io", "networkpolicies": "networking.k8s.io",
             "servicecidrs": "networking.k8s.io"}  # fmt: skip


def rules_of(*names: str) -> set[tuple[str | None, str, str, str]]:
    """(namespace or None, API group, resource, verb) that the manifests allow."""
    found = set()
    for name in names:
        for made in yaml.safe_load_all((ROOT / "deploy" / name).read_text()):
            if made["kind"] in ("Role", "ClusterRole"):
                for rule in made["rules"]:
                    found |= {
                        (made["metadata"].get("namespace"), group, resource, verb)
                        for group in rule["apiGroups"]
                        for resource in rule["resources"]
                        for verb in rule["verbs"]
                    }
    return found


def needed(line: str) -> tuple[str | None, str, str, str] | None:
    """What right a request needs; None for those that everybody who is logged in has."""
    method, _, path = line.partition(" ")
    parts = path.split("?")[0].strip("/").split("/")
    if parts == ["version"] or parts[-1] == "selfsubjectreviews":
        return None
    group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
    namespace = None
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    resource = "/".join([rest[0], *rest[2:]])
    reading = "get" if len(rest) > 1 else "watch" if "watch=" in path else "list"
    verb = {"GET": reading, "POST": "create", "DELETE": "delete"}[method]
    return namespace, group, resource, verb


def test_the_manifests_allow_what_is_asked_and_no_more(server: FakeCluster) -> None:
    reading, agents = rules_of("rbac-read-only.yaml"), rules_of("rbac.yaml")
    server.namespaces["k8snet"] = {"metadata": {"name": "k8snet"}}
    cluster = kn.open("live")
    for resource in API_RESOURCES:
        cluster.source.read(FactRef(resource))
    asked = {right for line, _ in server.seen if (right := needed(line))}
    assert asked <= reading
    assert {(n, g, r) for n, g, r, _ in reading} == {(n, g, r) for n, g, r, _ in asked}
    server.seen.clear()
    server.pod_security = True
    said()
    server.pod_security = False
    server.late = 0.5
    _, source = opened(agents=["node-one"])
    source.close()
    server.late = 0.0
    _, source = opened(agents=["node-two"])
    server.jobs[next(iter(server.jobs))]["status"] = {"conditions": [{"type": "Failed", "status": "True"}]}
    _, again = opened(agents=["node-two"])
    again.close()
    source.close()
    clean(source.api.connection, "k8snet")
    asked = {right for line, _ in server.seen if (right := needed(line))}
    asked.add(("k8snet", "", "pods/exec", "create"))  # what newer servers check the same request as
    assert asked - reading - {(None, "", "namespaces", "get")} <= agents
    assert agents <= asked
    assert (None, "", "namespaces", "get") in reading


def test_an_agents_panel_lists_first_and_creates_when_it_is_pressed(server: FakeCluster) -> None:
    cluster = kn.open("live", **QUICK)
    shown = kn.live_agents(cluster)
    assert "create" in shown.text
    assert "node-two" in shown.text
    assert "user jane@example.org" in shown.text
    assert "Nothing has been created." in shown.text
    assert server.made == []
    shown.start_button.click()
    shown.wait(30)
    assert "Agents on node-one, node-two; without: node-three." in shown.text
    assert cluster.node("node-one").links()
    assert "<table" in shown._repr_mimebundle_()["text/html"]
    shown.remove_button.click()
    shown.wait(30)
    assert server.jobs == {}
    with pytest.raises(Refused, match="agents are for a live cluster"):
        kn.live_agents(kn.open(BUNDLED))


def test_a_recording_of_the_live_cluster_gives_its_answers(server: FakeCluster, tmp_path: Path) -> None:
    cluster, source = opened()
    with source:
        told = record(source, tmp_path / "out", spans=Spans(2.5, 1.0))
        assert told.nodes == ("node-one", "node-two")
        read = kn.open(tmp_path / "out")
        for node in told.nodes:
            assert read.node(node).links() == cluster.node(node).links()
            assert read.node(node).routes() == cluster.node(node).routes()
            assert read.node(node).proxy_mode == cluster.node(node).proxy_mode
            about = json.loads(read.source.read(FactRef("node.json", node)))
            assert about["told_by"]["addr.json"] == "netlink"
            assert "addr.json" in about["times"]
            ref = FactRef("addr.json", node)
            assert read.source.read(ref) == source.read(ref)
            moment = source.time(ref)
            assert moment is not None
            assert read.source.time(ref) == moment.replace(microsecond=0)
        assert read.pods().drop(columns="age").equals(cluster.pods().drop(columns="age"))
        assert read.drift()[["code", "node"]].equals(cluster.drift(settle=0.01)[["code", "node"]])
    assert check_recording(tmp_path / "out").good
    count = (tmp_path / "out/nodes/node-one/conntrack-count.csv").read_text().splitlines()
    assert len(count) == 4
    assert TOKEN not in "".join(p.read_text(errors="replace") for p in (tmp_path / "out").rglob("*") if p.is_file())


def test_the_command_records_live_and_cleans(
    server: FakeCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["record", str(tmp_path / "api"), "--namespace", "k8snet"]) == 0
    said_there = capsys.readouterr()
    assert "only the API is recorded" in said_there.err
    assert "user jane@example.org" in said_there.err
    assert server.made == []
    assert TOKEN not in said_there.out + said_there.err
    assert len(kn.open(tmp_path / "api").pods()) > 5
    assert cli.main(["clean"]) == 0
    assert "nothing of k8snet" in capsys.readouterr().out
