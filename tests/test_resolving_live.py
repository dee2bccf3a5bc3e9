"""Names asked now: from the façade through an agent, out of a pod's own namespace, at real servers of this kernel."""

from __future__ import annotations

import base64
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from kernel_nodes import PREFIX, Machine, bridge_node, cgroup_root, pod_cgroup, pod_on_bridge
from needs import need

from k8snet_nb.cluster import Cluster
from k8snet_nb.errors import AgentError, Refused
from k8snet_nb.parse.dns import compose
from k8snet_nb.sources.agents import Agent, child_command
from k8snet_nb.sources.node import NodeSource

pytestmark = [
    need(root=True, commands=["ip", "bash", "dnsmasq", "unshare", "mount"], kernel=["veth", "bridge"]),
    pytest.mark.skipif(cgroup_root() is None, reason="no cgroup can be made here"),
    pytest.mark.slow,
]

UID = "71111111-2222-3333-4444-555555555551"
SERVER, SILENT, LIAR = "10.91.0.1", "10.91.0.77", "10.91.0.66"
WITHIN = "127.0.0.53"
"""In the pod's own namespace alone."""
ANSWERING = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], 53))
while True:
    query, client = sock.recvfrom(4096)
    sock.sendto(bytes([query[0] ^ int(sys.argv[2])]) + query[1:2] + b"\\x81\\x85" + query[4:], client)
"""
"""Refuses every question; the second word is 1 for one that gets the id wrong."""


@dataclass
class Place:
    cluster: Cluster
    source: NodeSource
    file: Path

    def write(self, *servers: str, search: str = "default.svc.test svc.test test") -> None:
        lines = "".join(f"nameserver {server}\n" for server in servers)
        self.file.write_text(f"search {search}\n{lines}options ndots:5 timeout:1 attempts:1\n")


def _container(machine: Machine, pod: str, file: Path) -> None:
    """The pod's pause process and one with a /etc/resolv.conf of its own, as a container has."""
    path = pod_cgroup(UID, "a" * 64)
    machine.process(pod, "/pause", path)
    folder = machine._folder(pod_cgroup(UID, "b" * 64))
    mounted = f"echo $$ > {folder}/cgroup.procs && mount --bind {file} /etc/resolv.conf && exec -a app sleep 1000"
    command = ["nsenter", f"--net=/run/netns/{pod}", "unshare", "--mount", "bash", "-c", mounted]
    child = subprocess.Popen(command)
    machine.processes.append(child)
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child.pid}/cmdline").read_text()[:3] != "app" and time.monotonic() < deadline:
        time.sleep(0.01)


def _server(machine: Machine, node: str, folder: Path) -> None:
    hosts = ["10.9.0.1 hello.default.svc.test", *(f"10.9.1.{n} many.default.svc.test" for n in range(1, 61))]
    (folder / "hosts").write_text("\n".join(hosts) + "\n")
    command = ["ip", "netns", "exec", node, "dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts"]
    command += [f"--addn-hosts={folder / 'hosts'}", "--local=/test/", "--bind-interfaces", f"--listen-address={SERVER}"]
    command += ["--user=root", "--conf-file=/dev/null", f"--pid-file={folder / 'pid'}", "--log-facility=/dev/null"]
    machine.processes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
    _answering(machine, node, LIAR, wrong=1)


def _answering(machine: Machine, namespace: str, address: str, *, wrong: int) -> None:
    command = ["ip", "netns", "exec", namespace, sys.executable, "-I", "-S", "-c", ANSWERING, address, str(wrong)]
    machine.processes.append(subprocess.Popen(command))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("dns")
    machine = Machine()
    try:
        node = bridge_node(machine, "dnsn")
        for address in (LIAR, SILENT):
            subprocess.run(["ip", "-n", node, "addr", "add", f"{address}/24", "dev", "cni0"], check=True)
        sink = "import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
        sink += f"s.bind(('{SILENT}', 53)); time.sleep(1000)"
        pod = pod_on_bridge(machine, node, "dnsp", "vetha", "10.91.0.2")
        file = folder / "resolv.conf"
        file.write_text("")
        _container(machine, pod, file)
        _server(machine, node, folder)
        _answering(machine, pod, WITHIN, wrong=0)
        silent = ["ip", "netns", "exec", node, sys.executable, "-I", "-S", "-c", sink]
        machine.processes.append(subprocess.Popen(silent))
        logs = folder / "logs" / f"default_asker_{UID}"
        logs.mkdir(parents=True)
        agent = Agent.start(["ip", "netns", "exec", node, *child_command()], name=node)
        with NodeSource(agent=agent, node=PREFIX, logs=str(logs.parent)) as source:
            found = Place(Cluster(source), source, file)
            found.write(SERVER)
            _wait(source)
            yield found
    finally:
        machine.clear()


def _wait(source: NodeSource) -> None:
    """Until both servers answer: the bridge needs its time too."""
    pod = Cluster(source).pod("default/asker")
    for _ in range(60):
        if pod.resolve("hello.default.svc.test.", types="A", seconds=1).outcome == "found":
            return
        time.sleep(0.1)
    raise AssertionError("dnsmasq does not answer")


def test_an_answer_comes_from_inside_the_pod(place: Place) -> None:
    place.write(SERVER)
    found = place.cluster.pod("default/asker").resolve("hello")
    assert (found.outcome, found.rcode, found.addresses, found.server) == ("found", "NOERROR", ("10.9.0.1",), SERVER)
    assert [str(each.query) for each in found.queries] == ["hello.default.svc.test. A", "hello.default.svc.test. AAAA"]
    assert found.records[0].ttl == 0
    assert 0 < found.ms < 2000
    assert "Not joined to the cluster" in found.says[0]
    assert place.cluster.pod("default/asker").resolv_conf().conf.nameservers == (SERVER,)


def test_the_question_leaves_from_the_pods_own_namespace(place: Place) -> None:
    place.write(WITHIN)
    found = place.cluster.pod("default/asker").resolve("hello.default.svc.test.", types="A")
    assert (found.outcome, found.rcode, found.server) == ("failed", "REFUSED", WITHIN)


def test_no_such_name(place: Place) -> None:
    place.write(SERVER)
    found = place.cluster.pod("default/asker").resolve("nope.svc.test.")
    assert (found.outcome, found.rcode, found.eai) == ("no such name", "NXDOMAIN", "EAI_NONAME")


def test_truncated_answers_are_asked_for_by_tcp(place: Place) -> None:
    place.write(SERVER)
    found = place.cluster.pod("default/asker").resolve("many", types="A")
    assert len(found.addresses) == 60
    assert found.queries[0].reply.transport == "tcp"
    assert "truncated over UDP" in found.queries[0].reply.notes[0]


def test_silence_ends_in_time_and_names_the_servers(place: Place) -> None:
    place.write(SILENT, LIAR)
    begin = time.monotonic()
    found = place.cluster.pod("default/asker").resolve("hello.default.svc.test.", types="A")
    assert (found.outcome, found.rcode, found.addresses) == ("no answer", None, ())
    assert [each.server for each in found.queries] == [SILENT, LIAR]
    assert time.monotonic() - begin < 8
    assert SILENT in found.report().text()
    assert f"with another id ({LIAR} port 53)" in found.report().text()


def test_a_silent_server_before_one_that_answers(place: Place) -> None:
    place.write(SILENT, SERVER)
    found = place.cluster.pod("default/asker").resolve("hello.default.svc.test.", types="A")
    assert (found.outcome, found.server) == ("found", SERVER)


def test_all_questions_together_have_a_limit(place: Place) -> None:
    place.write(SILENT)
    begin = time.monotonic()
    found = place.cluster.pod("default/asker").resolve("hello", seconds=1.2)
    assert found.outcome == "no answer"
    assert time.monotonic() - begin < 4
    assert "used up" in found.queries[-1].result


def test_nothing_is_sent_for_what_is_no_question(place: Place) -> None:
    place.write(SERVER)
    pod = place.cluster.pod("default/asker")
    with pytest.raises(Refused, match="no DNS record type"):
        pod.resolve("hello", types="NO-SUCH-TYPE")
    with pytest.raises(Refused, match="glibc or musl"):
        pod.resolve("hello", libc="uclibc")
    assert pod.resolve("a" * 64).outcome == "cannot be asked"


def test_the_agent_refuses_what_is_no_exchange(place: Place) -> None:
    for request in ({"server": "a.test", "wire": "AAAA"}, {"server": SERVER}, {"server": SERVER, "wire": "!"}):
        with pytest.raises(AgentError, match="could not ask"):
            place.source.exchange("default/asker", request)
    assert place.cluster.pod("default/asker").resolve("hello").outcome == "found"


def test_a_question_in_the_air_does_not_keep_the_agent(place: Place) -> None:
    place.write(SILENT)
    agent = place.source._agent
    request = {"server": SILENT, "wire": base64.b64encode(compose("a.test.", "A", 1)).decode(), "timeout": 3}
    waiting = threading.Thread(target=place.source.exchange, args=("default/asker", request))
    begin = time.monotonic()
    waiting.start()
    assert agent.hello(5)
    assert time.monotonic() - begin < 2.5
    waiting.join(10)
    assert not waiting.is_alive()
