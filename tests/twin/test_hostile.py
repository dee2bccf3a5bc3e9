"""A hostile recording, brought to life for real: what runs, what is written, and what is asked of the network."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from needs import need
from twin.hostile import MARK, hostile
from twin.traces import machine

from k8snet_nb.errors import K8snetError
from k8snet_nb.sources.opening import open_source
from k8snet_nb.sources.twin_control import twin_folders
from k8snet_nb.twin.loading.steps import rule_steps
from k8snet_nb.twin.making import down
from k8snet_nb.twin.model import TwinPlan
from k8snet_nb.twin.planning.plan import plan_twin, with_rules
from k8snet_nb.twin.serving.dns_server import read_zone

COMMAND = [sys.executable, "-c", "import sys; from k8snet_nb.cli import main; sys.exit(main())", "twin", "up"]
CALLS = (
    "execve,open,openat,creat,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,symlink,symlinkat,link,linkat,"
    "mknod,mknodat,truncate,chmod,fchmodat,chown,fchownat,init_module,finit_module"
)
TOOLS = {
    ("ip", "-force", "-batch", "-"), ("ip", "-batch", "-"), ("bridge", "-force", "-batch", "-"), ("nft", "-f", "-"),
    ("/pause", "infinity"), ("ipset", "-exist", "restore"), ("ipvsadm", "-R"),
    *((f"ip{six}tables-{flavour}-restore", "-w", "10") for six in ("", "6") for flavour in ("nft", "legacy")),
}  # fmt: skip
"""Every command of a twin on this kernel: not one of their words is a recording's; that comes on standard input."""
WRITES = re.compile(
    r"/dev/null|/proc/sys/kernel/ns_last_pid|/run/xtables\.lock|/run/netns(/[\w.-]+)?|/run/k8snet(/(cgroup|resolv)-\d+)?"
    r"|.*/__pycache__(/[\w.-]+)?|/proc/sys/net/(?!.*\.\.)[\w.@:/-]+"
)
"""Beside the twin's folder and what this Python keeps of its modules: all of it in the twin's own /run and /proc.

What a namespace shows below /proc/sys/net is its own; that this machine's is not written is seen by comparing it.
"""


@pytest.mark.parametrize("seed", range(12))
def test_a_hostile_recording_is_planned_or_refused_in_one_clear_error(tmp_path: Path, seed: int) -> None:
    made = hostile(tmp_path, seed, (0.003, 0.01, 0.03, 0.1)[seed % 4])
    with suppress(K8snetError):
        plan_of(made)


@pytest.mark.parametrize(
    "name", ["../../x", "node\none", "", ".", "..", "/etc", "a b", "wire", "-n", "x" * 300, 7, None]
)
def test_a_node_by_a_hostile_name(tmp_path: Path, name: object) -> None:
    made = hostile(tmp_path, 0, 0.0)
    about = json.loads((made / "recording.json").read_text())
    (made / "recording.json").write_text(json.dumps({**about, "nodes": [*about["nodes"], name]}))
    try:
        plan = plan_of(made)
    except K8snetError:
        return
    assert name not in [node.name for node in plan.nodes]


def plan_of(made: Path) -> TwinPlan:
    source = open_source(made)
    plan = with_rules(plan_twin(source), lambda node: rule_steps(source, node))
    read_zone(source)
    return plan


@pytest.fixture
def twins(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="k8tw") as folder:
        monkeypatch.setenv("K8SNET_TWINS", f"{folder}/twins")
        yield Path(folder, "twins")
        for twin in twin_folders():
            down(twin)


@need(root=True, commands=["ip", "nft", "iptables-nft-restore", "strace", "sysctl"])
@pytest.mark.parametrize(("seed", "share"), [(2, 0.003), (5, 0.01), (100, 0.0)])
def test_only_known_commands_run_and_only_own_files_are_written(
    tmp_path: Path, twins: Path, seed: int, share: float
) -> None:
    before = machine()
    made = hostile(tmp_path, seed, share)
    trace = tmp_path / "trace"
    tracing = ["strace", "-f", "-qq", "-s", "400", "-e", f"trace={CALLS}", "-o", str(trace)]
    command = [*tracing, *COMMAND, str(made), "--node", "node-one", "--node", "node-two"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as tracer:
        until = time.monotonic() + 100  # strace ends when the twin does
        while tracer.poll() is None and not ready() and time.monotonic() < until:
            time.sleep(0.1)
        for twin in twin_folders():
            down(twin)
        try:
            said = tracer.communicate(timeout=30)[1]
        finally:
            tracer.send_signal(signal.SIGKILL)
    assert "Traceback" not in said
    run, written = read_trace(trace.read_text(errors="replace"))
    assert run <= TOOLS
    assert ("ip", "-force", "-batch", "-") in run  # it was built, so there was something to see
    assert [path for path in written if not path.startswith(f"{twins}/") and not WRITES.fullmatch(path)] == [str(twins)]
    assert not list(Path("/tmp").glob(f"*{MARK}*"))
    assert machine() == before


def ready() -> bool:
    return any("left_out" in twin.about for twin in twin_folders())


def read_trace(text: str) -> tuple[set[tuple[str, ...]], list[str]]:
    """Commands that ran, without this Python's own; paths that were written, made, moved or removed."""
    run: set[tuple[str, ...]] = set()
    written: dict[str, None] = {}
    for line in text.splitlines():
        call, _, rest = line.partition(" ")[2].lstrip().partition("(")
        if "ENOENT" in line or "resumed>" in call:
            continue
        if call == "execve":
            argv = re.findall(r'"((?:[^"\\]|\\.)*)"', rest.partition("[")[2].rpartition("]")[0])
            if argv[0] != sys.executable:
                run.add(tuple(argv))
        elif call not in ("open", "openat") or re.search("O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", rest):
            written.update(dict.fromkeys(re.findall(r'"((?:[^"\\]|\\.)*)"', rest)))
    return run, list(written)
