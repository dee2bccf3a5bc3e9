"""What ends with a command: everything that it started, however it, the agent or the notebook ended."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from needs import need
from waiting import until

from k8snet_nb.agent.protocol import pack, read_frame
from k8snet_nb.errors import AgentError, Refused
from k8snet_nb.sources.agents import Agent, child_command

pytestmark = need(linux=True, commands=["sh", "sleep", "setsid"])
HERE: dict[str, object] = {}  # no target: the namespace that the agent is in, which takes no rights
_numbers = itertools.count(1)


@pytest.fixture
def mark() -> Iterator[str]:
    """An argument for sleep that no other process has; what is left of such sleeps is ended afterwards."""
    word = f"7{os.getpid()}.{next(_numbers)}"
    yield word
    for pid in sleeping(word):
        os.kill(pid, signal.SIGKILL)


def sleeping(mark: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [b"sleep", mark.encode()]:
            found.append(int(path.parent.name))
    return found


def started(argv: list[str] | None = None) -> tuple[Agent, int]:
    """An agent and its pid."""
    before = children()
    agent = Agent.start(argv)
    agent.hello()
    return agent, (children() - before).pop()


def children() -> set[int]:
    tasks = Path("/proc/self/task").glob("*/children")
    return {int(pid) for path in tasks for pid in path.read_text().split()}


@pytest.mark.parametrize("line", ["sleep {}; true", "setsid sleep {} & sleep {}; true"])
@pytest.mark.parametrize("how", ["killed", "closed"])
def test_a_command_ends_with_its_agent_and_so_does_what_it_started(mark: str, line: str, how: str) -> None:
    agent, pid = started()
    with agent:
        agent.start_run(["sh", "-c", line.format(mark, mark)], HERE, 60)
        until(lambda: len(sleeping(mark)) == line.count("{}"))
        os.kill(pid, signal.SIGKILL) if how == "killed" else agent.close()
        until(lambda: not sleeping(mark))


def test_a_command_ends_when_the_notebooks_process_is_killed(mark: str) -> None:
    code = (
        "import sys, time\n"
        "from k8snet_nb.sources.agents import Agent\n"
        f"agent = Agent.start(); agent.start_run(['sh', '-c', 'sleep {mark}; true'], {{}}, 60); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent.parent) as notebook:
        try:
            until(lambda: sleeping(mark))
        finally:
            notebook.kill()
    until(lambda: not sleeping(mark))


@pytest.mark.parametrize(
    ("line", "ended"),
    [
        ("setsid sleep {} & sleep 0.3; echo x", ""),
        ("setsid sh -c 'setsid sleep {} & sleep {}' & sleep 0.3; echo x", ""),
        ("echo x; setsid sleep {} & sleep {}", "timed_out"),
    ],
)
def test_another_session_is_no_way_out(mark: str, line: str, ended: str) -> None:
    agent, pid = started()
    with agent:
        ran = agent.run(["sh", "-c", line.replace("{}", mark)], HERE, 1 if ended else 30)
        assert (ran.out, ran.ended) == (b"x\n", ended)
        until(lambda: not sleeping(mark))
        until(lambda: not Path(f"/proc/{pid}/task/{pid}/children").read_text())  # the worker is reaped, no zombie stays


def test_a_second_cancel_loses_nothing(mark: str) -> None:
    agent, _ = started()
    with agent:
        running = agent.start_run(["sh", "-c", f'trap "" INT; echo out; sleep {mark}; true'], HERE, 60)
        until(lambda: sleeping(mark))
        running.cancel()
        time.sleep(0.2)
        running.cancel()
        ran = running.result()
        assert (ran.ended, ran.out) == ("cancelled", b"out\n")
        assert not sleeping(mark)


def test_an_interrupt_reaches_a_cancelled_command() -> None:
    agent, _ = started()
    with agent:
        running = agent.start_run(["sh", "-c", 'trap "echo told; exit 5" INT; echo out; sleep 60'], HERE, 60)
        time.sleep(0.5)
        running.cancel()
        ran = running.result()
        assert (ran.ended, ran.status, ran.out) == ("cancelled", 5, b"out\ntold\n")


def test_a_forgotten_agent_ends() -> None:
    files, threads = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
    for _ in range(3):
        agent, pid = started()
        del agent
        gc.collect()
        until(lambda pid=pid: not Path(f"/proc/{pid}").exists())  # type: ignore[misc]
    until(lambda: threading.active_count() == threads)
    assert len(list(Path("/proc/self/fd").iterdir())) <= files  # other tests may have left some to the collector


def test_too_large_a_request_is_refused_and_the_agent_lives() -> None:
    agent, _ = started()
    with agent:
        with pytest.raises(Refused, match="too large"):
            agent.start_run(["echo", "x" * 20_000_000], HERE)
        with pytest.raises(AgentError, match="Argument list too long") as caught:
            agent.run(["echo", "x" * 2_000_000], HERE)
        assert len(str(caught.value)) < 500, "not the whole command line"
        with pytest.raises(TypeError):
            agent.start_run([b"echo"], HERE)  # type: ignore[list-item]
        assert not agent._talk._slots
        assert agent.run(["echo", "x"], HERE).out == b"x\n"


@pytest.mark.parametrize("name", ["", "..", "."])
def test_a_folder_is_no_program(name: str) -> None:
    agent, _ = started()
    with agent, pytest.raises(AgentError, match="no program"):
        agent.run([name], HERE)


def test_half_a_request_and_an_answer_that_nobody_reads_keep_nobody() -> None:
    with subprocess.Popen(child_command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as agent:
        assert agent.stdin is not None
        assert agent.stdout is not None
        run = {"op": "run", "id": 1, "argv": ["head", "-c", "3000000", "/dev/urandom"], "target": {}, "timeout": 20}
        agent.stdin.write(pack(run))
        agent.stdin.write(pack({"op": "run", "id": 2, "argv": ["sleep", "60"], "target": {}, "timeout": 0.5}))
        half = pack({"op": "ping", "id": 3})
        agent.stdin.write(half[:5])
        time.sleep(1.5)
        agent.stdin.write(half[5:])
        answers = [read_frame(agent.stdout.read) for _ in range(3)]
        assert sorted(answer[0]["id"] for answer in answers if answer) == [1, 2, 3]
        agent.stdin.write(struct.pack("!4sI", b"HTTP", 1))
        last = read_frame(agent.stdout.read)
        assert last is not None
        assert "no frame" in last[0]["why"]
        assert agent.wait(5) == 0


def test_an_agent_that_cannot_write_still_ends_with_its_parent_or_input() -> None:
    with subprocess.Popen(child_command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as agent:
        assert agent.stdin is not None
        run = {"op": "run", "id": 1, "argv": ["head", "-c", "3000000", "/dev/urandom"], "target": {}, "timeout": 20}
        agent.stdin.write(pack(run))
        time.sleep(1)
        agent.stdin.close()
        assert agent.wait(5) == 0


SLOW_TOOL = """
import sys
from k8snet_nb.agent import __main__, command, tools
command.PATH = sys.argv.pop() + ":" + command.PATH
tools.loadable_by_asking = lambda _: False
__main__.main()
"""


@pytest.mark.parametrize("how", ["agent killed", "closed", "worker killed", "too slow"])
def test_a_tool_that_hangs_ends_with_whoever_asked_for_it(mark: str, how: str, tmp_path: Path) -> None:
    tool = tmp_path / "ipset"
    tool.write_text(f"#!/bin/sh\nsetsid sleep {mark} & sleep {mark}; true\n")
    tool.chmod(0o755)
    agent, pid = started([sys.executable, "-c", SLOW_TOOL, str(tmp_path)])
    with agent:
        key, slot = agent.post({"op": "facts", "targets": [{"facts": ["ipset.txt"]}]}, 1 if how == "too slow" else 60)
        until(lambda: len(sleeping(mark)) == 2)
        if how == "agent killed":
            os.kill(pid, signal.SIGKILL)
        elif how == "closed":
            agent.close()
        elif how == "worker killed":
            os.kill(int(Path(f"/proc/{pid}/task/{pid}/children").read_text()), signal.SIGKILL)
        until(lambda: not sleeping(mark))
        if how in ("worker killed", "too slow"):
            header, _ = agent.wait(key, slot, 10)
            assert header["why"] == {"too slow": "no answer within the time limit"}.get(
                how, "the process that worked on the request died"
            )
            assert agent.hello()["about"]
            until(lambda: not Path(f"/proc/{pid}/task/{pid}/children").read_text())


def test_a_tool_is_asked_for_its_version_once(tmp_path: Path) -> None:
    tool, asked = tmp_path / "ipset", tmp_path / "asked"
    tool.write_text(f'#!/bin/sh\n[ "$1" = save ] || {{ echo x >> {asked}; echo "ipset v7"; }}\n')
    tool.chmod(0o755)
    agent, _ = started([sys.executable, "-c", SLOW_TOOL, str(tmp_path)])
    with agent:
        for _ in range(3):
            assert agent.fact("ipset.txt").whose == "ipset v7"
        assert asked.read_text() == "x\n"
        tool.write_text(tool.read_text().replace("v7", "v8"))
        os.utime(tool, (1, 1))
        assert agent.fact("ipset.txt").whose == "ipset v8"
