"""The panel that enters a pod: on a recording, with a source that runs for ever until stopped, and on this kernel."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from kernel_nodes import PREFIX, Machine, bridge_node, need_cgroups, pod_cgroup, pod_on_bridge
from needs import need

import k8snet_nb as kn
from k8snet_nb.cluster import Cluster
from k8snet_nb.errors import AgentError, Refused
from k8snet_nb.show.enter import EnterPanel
from k8snet_nb.show.live import WIDGET_VIEW
from k8snet_nb.sources.agents import Agent, Ran, child_command
from k8snet_nb.sources.node import NodeSource
from k8snet_nb.sources.opening import open_source


class FakeRunning:
    """Ends when cancelled, or at once for ``true``."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.argv, self.ended = tuple(argv), threading.Event()
        if self.argv[0] != "sleep":
            self.ended.set()

    def cancel(self) -> None:
        self.ended.set()

    def result(self) -> Ran:
        if self.argv[0] == "broken":
            raise AgentError("the agent went away")
        assert self.ended.wait(10)
        if self.argv[0] == "sleep":
            return Ran(self.argv, -15, b"so far\n", b"", "cancelled")
        return Ran(self.argv, 3, b"out <b>\n", b"err \x1b[31m\n")


class FakeSource:
    """The bundled recording, with a runner."""

    def __init__(self) -> None:
        self._source = open_source()
        self.started: list[tuple[str, FakeRunning]] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._source, name)

    def start_run(self, pod: str, argv: Sequence[str], seconds: float) -> FakeRunning:
        running = FakeRunning(argv)
        self.started.append((pod, running))
        return running


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


@pytest.fixture
def recorded() -> EnterPanel:
    cluster = kn.open()
    return kn.enter(kn.PodSelector(cluster, value="default/client"))


def typed(panel: EnterPanel, line: str) -> str:
    panel.command.value = line
    panel.run()
    panel.wait(10)
    return panel.text


def test_the_first_output_is_there_at_once(recorded: EnterPanel) -> None:
    bundle = recorded._repr_mimebundle_()
    assert bundle["text/plain"].startswith("pod default/client\n[node node-one, in the network namespace of pod")
    assert "2: eth0@if7" in bundle["text/plain"]
    assert "nothing was run" in bundle["text/plain"]
    assert WIDGET_VIEW in bundle
    assert not recorded.running


def test_what_a_recording_cannot_answer_is_refused_with_the_list(recorded: EnterPanel) -> None:
    said = typed(recorded, "dig kubernetes.default")
    assert "cannot run" in said
    assert "ip rule [show]" in said
    assert 'role="alert"' in recorded._repr_mimebundle_()["text/html"]


@pytest.mark.parametrize(("line", "says"), [("ip 'addr", "no closing quotation"), ("  ", "write a command")])
def test_a_bad_command_line_is_one_message(recorded: EnterPanel, line: str, says: str) -> None:
    assert says in typed(recorded, line)
    assert len(recorded.text.splitlines()) == 2


def test_another_pod_answers_at_once(recorded: EnterPanel) -> None:
    recorded._where.choose("default/client-two")
    assert "inet 10.244.3.7/24" in recorded.text
    recorded._where.choose("kube-system/node-watch-74fwx")
    assert "cni0" in recorded.text
    recorded._where.choose("kube-system/node-watch-8zf8j")
    assert "on no node yet" in recorded.text
    recorded._where.filter.value = "nothing like that"
    assert "no pod matches" in recorded.text


def test_enter_runs_and_typing_alone_does_not(recorded: EnterPanel) -> None:
    recorded.command.value = "ip route"
    assert "default via" not in recorded.text
    recorded.command._handle_custom_msg({"event": "submit"}, [])
    recorded.wait(10)
    assert "default via 10.244.18.1 dev eth0" in recorded.text


def test_output_errors_and_status_apart_and_inert(source: FakeSource) -> None:
    panel = kn.enter(Cluster(source).pod("default/client"), "tool 'two words'")
    panel.wait(10)
    lines = panel.text.splitlines()
    assert lines == [
        "pod default/client",
        "[node node-one, in the network namespace of pod default/client]$ tool 'two words'",
        "out <b>", "Errors:", "err \\x1b[31m", "exit status 3",
    ]  # fmt: skip
    html = panel._repr_mimebundle_()["text/html"]
    assert "<pre>out &lt;b&gt;</pre>" in html
    assert "\x1b" not in html
    assert source.started[0][1].argv == ("tool", "two words")


def test_stop(source: FakeSource) -> None:
    panel = EnterPanel(Cluster(source).pod("default/client"), "sleep 60", 60, first=0.05)
    assert panel.running
    panel.run()
    assert "still running" in panel._status.value
    assert len(source.started) == 1
    panel.stop_button.click()
    panel.wait(10)
    assert not panel.running
    assert panel.text.endswith("so far\nstopped; ended by signal 15")
    panel.stop()
    assert "Nothing is running" in panel._status.value


@pytest.mark.parametrize("leave", ["close", "choose"])
def test_a_closed_panel_or_another_pod_ends_the_command(source: FakeSource, leave: str) -> None:
    selector = kn.PodSelector(Cluster(source), value="default/client")
    panel = EnterPanel(selector, "sleep 60", 60, first=0.05)
    thread = panel._thread
    panel.close() if leave == "close" else selector.choose("default/client-two")
    thread.join(10)
    assert not thread.is_alive()
    assert source.started[0][1].ended.is_set()
    assert "so far" not in panel.text
    assert len(source.started) == 1, "in the other pod nothing runs until it is asked for"


def test_what_fails_is_shown(source: FakeSource) -> None:
    panel = kn.enter(Cluster(source).pod("default/client"), "broken")
    panel.wait(10)
    assert panel.text == "pod default/client\nthe agent went away"


@pytest.fixture
def machine() -> Iterator[Machine]:
    made = Machine()
    try:
        yield made
    finally:
        made.clear()


@need(root=True, commands=["ip", "bash", "sleep"], kernel=["veth", "bridge"])
def test_a_real_namespace(machine: Machine) -> None:
    need_cgroups()
    node = bridge_node(machine, "en")
    pod = pod_on_bridge(machine, node, "enp", "vethen", "10.91.0.7")
    uid = "99999999-2222-3333-4444-555555555555"
    machine.process(pod, "/pause", pod_cgroup(uid, "c" * 64))
    before = os.stat("/proc/self/ns/net").st_ino  # noqa: PTH116
    agent = Agent.start(["ip", "netns", "exec", node, *child_command()], name=PREFIX)
    with NodeSource(agent=agent, node=PREFIX, logs="/nonexistent") as source:
        found = Cluster(source).pod(f"unknown/pod-{uid}")
        panel = kn.enter(found, "ip -br addr")
        panel.wait(10)
        assert "10.91.0.7/24" in panel.text
        assert panel.text.endswith("exit status 0")
        assert "vethen" in kn.draw_wiring(found).text
        assert "port of the bridge" in kn.draw_wiring(found).text
        panel.command.value = f"sleep 98.{os.getpid()}"
        panel.run()
        _until(lambda: _sleeping(panel.command.value))
        panel.stop()
        panel.wait(10)
        assert "stopped" in panel.text
        assert not _sleeping(panel.command.value)
        panel.run()
        _until(lambda: _sleeping(panel.command.value))
        panel.close()
        _until(lambda: not _sleeping(panel.command.value))
    assert os.stat("/proc/self/ns/net").st_ino == before  # noqa: PTH116


def _sleeping(line: str) -> bool:
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return any(args.endswith(line) for args in listed.splitlines())


def _until(holds: object) -> None:
    deadline = time.monotonic() + 10
    while not holds() and time.monotonic() < deadline:  # type: ignore[operator]
        time.sleep(0.05)
    assert holds()  # type: ignore[operator]


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 0, -1, 3601, True])
def test_a_time_limit_that_is_none_is_refused(source: FakeSource, seconds: float) -> None:
    pod = Cluster(source).pod("default/client")
    with pytest.raises(Refused, match="time limit"):
        kn.enter(pod, "tool", seconds)
    with pytest.raises(Refused, match="time limit"):
        pod.run(["ip", "addr"], seconds)
    assert source.started == []
