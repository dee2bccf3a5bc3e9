"""The agent's parts by themselves: frames, limits, dying and silent agents, files, what may load a module."""

from __future__ import annotations

import ast
import io
import os
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from needs import need

from k8snet_nb.agent import files, kernel, processes, tools
from k8snet_nb.agent.collect import Collector, Target
from k8snet_nb.agent.kernel import Missing
from k8snet_nb.agent.protocol import BadFrame, pack, read_frame
from k8snet_nb.cgroups import ProcessRecord
from k8snet_nb.errors import AgentError
from k8snet_nb.sources.agents import Agent, child_command
from k8snet_nb.sources.local_pods import seen_pods

pytestmark = need(linux=True)
ROOT = Path(kernel.__file__).parent.parent


@given(st.dictionaries(st.text(), st.integers() | st.text(), max_size=5), st.binary(max_size=3000))
def test_frames_come_back(header: dict[str, object], payload: bytes) -> None:
    stream = io.BytesIO(pack(header, payload) * 2)
    assert [read_frame(stream.read) for _ in range(3)] == [(header, payload), (header, payload), None]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"K8S", "ended inside"),
        (b"HTTP/1.1 400 Bad", "no frame"),
        (struct.pack("!4sI", b"K8SN", 100) + b"x", "1 of 100"),
        (struct.pack("!4sI", b"K8SN", 2**31), "over the limit"),
        (struct.pack("!4sI", b"K8SN", 4) + b"abcd", "does not unpack"),
        (pack({}, bytes(5000)), "more than the limit"),
    ],
)
def test_what_is_no_frame_or_too_large(data: bytes, says: str) -> None:
    with pytest.raises(BadFrame, match=says):
        read_frame(io.BytesIO(data).read, 2000)


def fake(code: str) -> Agent:
    return Agent.start([sys.executable, "-I", "-S", "-c", code], name="a fake", limit=1 << 24)


BOMB = """
import struct, sys, zlib
squeezer = zlib.compressobj(1)
body = squeezer.compress(b'{"id":1}\\n' + bytes(1000))
for _ in range(30): body += squeezer.compress(bytes(1 << 20))
body += squeezer.flush()
sys.stdout.buffer.write(struct.pack("!4sI", b"K8SN", len(body)) + body)
sys.stdout.flush(); sys.stdin.buffer.read()
"""


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise SystemExit('no such luck')", "no such luck"),
        ("print('hello, I am a shell')", "no frame of the agent"),
        (BOMB, "more than the limit"),
        ("import os; os.kill(os.getpid(), 9)", "-9"),
    ],
)
def test_what_is_no_agent_is_one_clear_error(code: str, says: str) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with fake(code) as agent, pytest.raises(AgentError, match=says):
        agent.hello(10)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_an_agent_that_says_nothing_is_given_up() -> None:
    with fake("import time; time.sleep(60)") as agent:
        agent.slack = 0.2
        start = time.monotonic()
        with pytest.raises(AgentError, match=r"did not answer within 0\.3 seconds"):
            agent.hello(0.3)
        assert time.monotonic() - start < 5


def test_an_agent_that_does_not_start() -> None:
    with pytest.raises(AgentError, match="did not start"):
        Agent.start(["/no/such/program"])


def test_an_answer_over_the_limit_is_said_to_be_too_much() -> None:
    with Agent.start(limit=1000) as agent:
        told = agent.fact("processes.json")
        assert (told.data, told.code) == (None, "too_much")
        assert agent.alive


def test_the_agent_ends_with_its_input_and_when_nobody_reads() -> None:
    for answers_wanted in (0, 200):
        with subprocess.Popen(child_command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as agent:
            assert agent.stdin is not None
            assert agent.stdout is not None
            for number in range(answers_wanted):
                targets = [{"key": 0, "facts": ["processes.json", "addr.json"]}]
                agent.stdin.write(pack({"op": "facts", "id": number, "targets": targets}))
            agent.stdin.flush()
            if answers_wanted:
                time.sleep(0.5)
            agent.stdout.close()
            agent.stdin.close()
            assert agent.wait(10) == 0


def test_the_agent_ends_when_its_parent_dies_though_others_hold_its_input() -> None:
    code = (
        "import subprocess, sys, os\n"
        f"sys.path.insert(0, {str(ROOT.parent)!r})\n"
        "from k8snet_nb.sources.agents import child_command\n"
        "agent = subprocess.Popen(child_command(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)\n"
        "holder = os.fork()\n"
        "if holder == 0:\n"
        "    import time; os.close(1); time.sleep(30); os._exit(0)\n"
        "print(agent.pid, holder, flush=True); os._exit(0)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout
    agent, holder = map(int, out.split())
    try:
        deadline = time.monotonic() + 10
        while _alive(agent) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not _alive(agent)
    finally:
        os.kill(holder, 9)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_the_agent_outlives_the_thread_that_started_it() -> None:
    import threading

    made: list[Agent] = []
    thread = threading.Thread(target=lambda: made.append(Agent.start()))
    thread.start()
    thread.join()
    with made[0] as agent:
        time.sleep(0.3)
        assert agent.hello()["euid"] == os.geteuid()


def test_a_pod_that_died_between_look_up_and_entry_is_looked_up_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    uid = "2174b7f8-0b0f-4e45-b59b-7a9431686311"
    inode = Path("/proc/self/ns/net").stat().st_ino
    path = (f"/kubepods/pod{uid}/{'ab' * 32}",)
    dead, alive = (ProcessRecord(pid, inode, path, "/pause") for pid in (2**22 - 1, os.getpid()))
    entered: list[int] = []
    monkeypatch.setattr("k8snet_nb.agent.collect.enter", lambda fd: entered.append(os.fstat(fd).st_ino))
    scans = iter([[dead], [alive]])
    monkeypatch.setattr(processes, "scan", lambda: next(scans))
    place = Collector().enter(Target({"pod": [uid]}))
    assert place is not None
    assert (place.entry, entered) == (os.getpid(), [inode])
    scans = iter([[dead], [dead]])
    with pytest.raises(Missing, match="is gone") as caught:
        Collector().enter(Target({"pod": [uid]}))
    assert caught.value.code == "gone"
    assert next(scans, None) is None


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda f: f.write_text("nameserver 10.0.0.1\n"), b"nameserver 10.0.0.1\n"),
        (lambda f: f.symlink_to("/run/resolv.conf"), b"inside\n"),
        (lambda f: f.symlink_to("../../../../../../run/resolv.conf"), b"inside\n"),
        (lambda f: f.symlink_to("/proc/self/root/etc/passwd"), None),
        (lambda f: f.symlink_to("/etc/passwd"), None),
        (lambda f: f.symlink_to("resolv.conf"), None),
        (os.mkfifo, None),
        (lambda f: f.mkdir(), None),
        (lambda f: None, None),
        (lambda f: f.write_bytes(bytes(2 << 20)), None),
    ],
)
def test_a_pods_file_never_leads_out_of_its_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: object, expected: bytes | None
) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "run").mkdir()
    (root / "run/resolv.conf").write_text("inside\n")
    make(root / "etc/resolv.conf")  # type: ignore[operator]
    real = kernel.open_inside
    monkeypatch.setattr(files, "open_inside", lambda _, path: real(str(root), path))
    for old_kernel in (False, True):
        if old_kernel:
            monkeypatch.setattr(kernel, "_openat2", lambda *_: None)
            expected = None if expected == b"inside\n" else expected
        if expected is None:
            with pytest.raises(Missing):
                files.resolv_conf(os.getpid())
        else:
            assert files.resolv_conf(os.getpid()) == expected


def test_what_could_load_a_module_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "loadable_by_asking", lambda _: True)
    monkeypatch.setattr(tools, "run", lambda *_: pytest.fail("a tool was started"))
    for ask in (tools.nft, tools.ipset, lambda: tools.iptables("", legacy=False)):
        with pytest.raises(Missing, match=r"not loaded|has no"):
            ask()
    assert tools._asked_version("ipvsadm", "/sbin/ipvsadm") is None


def test_a_fault_of_one_fact_or_pod_is_no_fault_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[ProcessRecord]:
        raise RuntimeError("a fault")

    monkeypatch.setattr(processes, "scan", broken)
    targets = [{"key": 1, "pod": ["uid"], "facts": ["addr.json"]}, {"key": 2, "facts": ["processes.json", "addr.json"]}]
    monkeypatch.setattr("k8snet_nb.agent.collect.enter", lambda _fd: None)
    answers = {(key, fact): value for key, fact, value in Collector().collect([Target(said) for said in targets])}
    for place in ((1, "addr.json"), (2, "processes.json")):
        value = answers[place]
        assert isinstance(value, Missing)
        assert (value.code, "a fault" in str(value)) == ("failed", True)
    assert isinstance(answers[2, "addr.json"], tuple)


def test_pods_without_an_api_are_named_by_their_log_folders(tmp_path: Path) -> None:
    uids = ["2174b7f8-0b0f-4e45-b59b-7a9431686311", "0123456789abcdef0123456789abcdef"]
    (tmp_path / f"kube-system_etcd-node_{uids[1]}" / "etcd").mkdir(parents=True)
    (tmp_path / "junk").mkdir()
    listed = [{"cgroups": [f"/kubepods/pod{uid}"], "netns": inode} for uid, inode in zip(uids, (5, 1), strict=True)]
    pods = seen_pods([*listed, {"cgroups": ["/"], "netns": 1}], 1, str(tmp_path))
    assert [(pod.namespace, pod.name, pod.host_network, pod.containers) for pod in pods] == [
        ("kube-system", "etcd-node", True, ("etcd",)),
        ("unknown", f"pod-{uids[0]}", False, ()),
    ]
    unreadable = [{"cgroups": [f"/kubepods/pod{uids[0]}"], "netns": None}]
    assert [pod.host_network for pod in seen_pods(unreadable, 1, str(tmp_path))] == [None]
    half = [*unreadable, {**unreadable[0], "netns": 1}]
    assert [pod.host_network for pod in seen_pods(half, 1, str(tmp_path))] == [True]


AGENT = [*sorted((ROOT / "agent").glob("*.py")), ROOT / "cgroups.py"]


@pytest.mark.parametrize("path", AGENT, ids=lambda path: path.name)
def test_the_agent_needs_python_39_and_nothing_else(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    assert any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body) or not any(
        isinstance(node, (ast.FunctionDef, ast.ClassDef)) for node in tree.body
    )
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1 or (node.module or "").split(".")[0] in ("", "cgroups"), path
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            allowed = {"pyroute2"} if path.name == "ipvs.py" else set()  # a fallback: without it, that is the answer
            assert {name.split(".")[0] for name in names} - allowed <= set(sys.stdlib_module_names)
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.Call) and any(k.arg == "strict" for k in n.keywords)]


def pythons() -> list[str]:
    """This Python, and a 3.9 as on old nodes, where this machine has one; without one only the syntax is checked."""
    found = sorted(map(str, Path.home().glob(".pyenv/versions/3.9.*/bin/python3.9")))
    return [sys.executable, *[old for old in (*found, shutil.which("python3.9")) if old][:1]]


@pytest.mark.parametrize("python", pythons())
def test_the_agent_starts_without_the_packages_libraries(python: str) -> None:
    """It runs with -I -S: no site-packages, no environment; on a node's old Python too."""
    command = child_command(python)
    assert command[1:3] == ["-I", "-S"]
    with Agent.start(command) as agent:
        known = agent.hello()["node_facts"]
        told = agent.facts([{"key": None, "facts": known}])
    assert {fact for _, fact in told} == set(known)
    assert told[None, "addr.json"].data
    assert not [answer.why for answer in told.values() if answer.code == "failed"]
