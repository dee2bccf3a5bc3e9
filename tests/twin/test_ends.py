"""A twin that ends, however it does, leaves nothing behind; and beside it this machine is as it was."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from needs import need, stop
from twin.traces import Of, left_of, machine, of, of_folder, processes

from k8snet_nb.errors import TwinError
from k8snet_nb.sources.twin_control import LOG, TwinFolder, twin_folders
from k8snet_nb.twin.folders import held, sweep
from k8snet_nb.twin.guest.guest import unavailable
from k8snet_nb.twin.making import down, up

pytestmark = need(root=True, commands=["ip", "nft", "sysctl", "iptables-nft-restore", "unshare"])

LOCAL = ["node-one", "node-two"]
NOTHING = Of(frozenset(), frozenset())
COMMAND = [sys.executable, "-c", "import sys; from k8snet_nb.cli import main; sys.exit(main())", "twin"]


@pytest.fixture(autouse=True)
def twins(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="k8tw") as folder:
        monkeypatch.setenv("K8SNET_TWINS", f"{folder}/twins")
        yield Path(folder, "twins")
        for twin in twin_folders():
            down(twin)


def gone(of_it: Of, seconds: float = 10.0) -> Of:
    """What is left after a moment: the kernel takes namespaces apart after their last process has ended."""
    until = time.monotonic() + seconds
    while (left := left_of(of_it)) != NOTHING and time.monotonic() < until:
        time.sleep(0.05)
    return left


def connected(twin: TwinFolder, node: str = "node-one") -> str:
    plan = {"protocol": "tcp", "address": "10.32.62.13", "port": 80, "count": 1, "timeout": 5.0}
    return str(twin.ask({"op": "connect", "node": node, "plan": plan})["answers"][0]["end"])


def children(twin: TwinFolder) -> dict[str, int]:
    """The first process of each node, by the host name that it gave itself."""
    found = {}
    for pid, (parent, _) in processes().items():
        if parent == twin.about["pid"]:
            argv = ["nsenter", "-t", str(pid), "-u", "hostname"]
            said = subprocess.run(argv, capture_output=True, text=True, check=False)
            found[said.stdout.strip()] = pid
    return found


def test_nothing_is_left_after_down_and_the_machine_is_as_it_was(twins: Path) -> None:
    before = machine()
    twin, _ = up(nodes=LOCAL)
    of_it = of(twin)
    assert len(of_it.processes) > 10
    assert sum(space.startswith("net:") for space in of_it.namespaces) > 8
    assert connected(twin) == "ok"
    assert machine() == before
    down(twin)
    assert gone(of_it) == NOTHING
    assert machine() == before
    assert not list(twins.iterdir())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_keeper_takes_all_of_it_along(number: int) -> None:
    before = machine()
    twin, _ = up(nodes=LOCAL)
    of_it = of(twin)
    os.kill(twin.about["pid"], number)
    assert gone(of_it) == NOTHING
    with pytest.raises(TwinError, match="does not answer"):
        twin.ask({"op": "status"})
    assert sweep() == [twin.name]
    assert twin_folders() == []
    assert machine() == before


def moments() -> list[float]:
    """From the first import to after it is up."""
    chance = random.Random(8)
    return [round(chance.uniform(0.1, 3.0), 2) for _ in range(4)]


@pytest.mark.parametrize("seconds", moments())
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_up_that_is_killed_in_the_middle_leaves_nothing(twins: Path, seconds: float, number: int) -> None:
    before = machine()
    command = [*COMMAND, "up", "--node", "node-one", "--node", "node-two"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as making:
        time.sleep(seconds)
        of_it = of_folder(twins)
        making.send_signal(number)
        said = making.communicate()[0]
    if " is up " in said:
        (twin,) = twin_folders()
        down(twin)
    until = time.monotonic() + 10
    while any(held(twin) for twin in twin_folders()) and time.monotonic() < until:
        time.sleep(0.05)
    sweep()
    assert twin_folders() == []
    assert gone(of_it) == NOTHING
    assert of_folder(twins) == NOTHING
    assert machine() == before


def test_a_node_that_died_is_told_and_the_others_go_on() -> None:
    twin, _ = up(nodes=LOCAL)
    os.kill(children(twin)["node-two"], signal.SIGKILL)
    time.sleep(0.2)
    assert twin.ask({"op": "status"}) == {"alive": True, "ended": ["node-two"]}
    with pytest.raises(TwinError, match="node node-two has ended"):
        twin.ask({"op": "nodestatus", "node": "node-two"})
    with pytest.raises(TwinError, match="node node-two has ended"):
        twin.stream({"op": "agent", "node": "node-two"})
    assert twin.ask({"op": "nodestatus", "node": "node-one"})["sandboxes"]
    listed = subprocess.run([*COMMAND, "list"], capture_output=True, text=True, check=True).stdout
    assert "up, but without node-two, which ended" in listed


@need(commands=["linux.uml"])
def test_a_guest_that_is_killed_is_told_and_leaves_nothing() -> None:
    stop([why] if (why := unavailable()) else [])
    before = machine()
    twin, _ = up(nodes=["node-one", "node-three"])
    of_it = of(twin)
    kernels = [pid for pid, _ in of_it.processes if _program(pid).name.startswith("linux")]
    assert kernels
    for pid in kernels:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + 10
    while twin.ask({"op": "status"})["ended"] != ["node-three"] and time.monotonic() < until:
        time.sleep(0.1)
    with pytest.raises(TwinError, match="node node-three has ended"):
        twin.ask({"op": "nodestatus", "node": "node-three"})
    assert connected(twin) in ("ok", "refused", "timeout")  # it goes on, whatever is behind that Service now
    assert "the guest ended" in (twin.path / LOG).read_text(errors="replace")
    down(twin)
    assert gone(of_it) == NOTHING
    assert machine() == before


def _program(pid: int) -> Path:
    with suppress(OSError):
        return Path(f"/proc/{pid}/exe").readlink()
    return Path()


def test_two_of_the_same_recording_are_strangers() -> None:
    one, _ = up(nodes=LOCAL)
    other, _ = up(nodes=LOCAL)
    assert {one.name, other.name} == {"hello-cluster", "hello-cluster-2"}
    assert not of(one).namespaces & of(other).namespaces
    assert connected(one) == connected(other) == "ok"
    of_one = of(one)
    down(one)
    assert gone(of_one) == NOTHING
    assert connected(other) == "ok"


def test_a_second_of_the_same_name_is_refused() -> None:
    up(nodes=["node-one"], name="mine")
    with pytest.raises(TwinError, match="there is a twin 'mine' already"):
        up(nodes=["node-one"], name="mine")
    assert [twin.name for twin in twin_folders()] == ["mine"]


def test_it_cannot_be_reached_from_outside() -> None:
    before = machine()
    twin, _ = up(nodes=LOCAL)
    assert machine() == before  # no interface or address of the machine leads there
    assert twin.path.stat().st_mode & 0o077 == 0
    assert (twin.path / "control").parent.parent.stat().st_mode & 0o077 == 0
    here = Path("/proc/self/ns/net").readlink()  # where a socket would have to be that others can reach
    assert here not in {Path(f"/proc/{pid}/ns/net").readlink() for pid, _ in of(twin).processes}
