"""A guest kernel: what comes through its lines, what its tools do, and that nothing of it is left."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from needs import need

from k8snet_nb.agent.protocol import pack, read_frame
from k8snet_nb.errors import GuestError
from k8snet_nb.twin.guest import guest as guests
from k8snet_nb.twin.guest.guest import Guest
from k8snet_nb.twin.guest.modules import NODE, modules_in_order

pytestmark = [pytest.mark.slow, need(root=True, commands=["linux.uml", "unshare", "ip"])]

CHECKOUT = Path(__file__).parents[2]
RECORDED = CHECKOUT / "k8snet_nb/data/hello-cluster/nodes/node-three"
LINES = 4


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    with Guest(NODE, lines=LINES) as one:
        yield one


def test_it_is_a_kernel_of_its_own_that_cannot_write_here(guest: Guest, tmp_path: Path) -> None:
    assert guest.run(["uname", "-r"]).out.strip() != os.uname().release
    assert guest.run(["ls", "/sys/class/net"]).out.split() == ["lo"]
    script = 'mount -o remount,rw /; echo x > "$0/x"'
    assert guest.run(["sh", "-c", script, str(tmp_path)]).status != 0
    assert not list(tmp_path.iterdir())


def test_its_kernel_loads_nothing_more(guest: Guest) -> None:
    assert guest.run(["cat", "/proc/sys/kernel/modprobe"]).out.strip() == ""


def test_a_line_is_clean_in_all_eight_bits(guest: Guest) -> None:
    data = random.Random(8).randbytes(1_000_000)
    with guest.stream(["cat"]) as stream:

        def send() -> None:
            stream.sendall(data)
            stream.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        digest = hashlib.sha256()
        while piece := stream.recv(1 << 20):
            digest.update(piece)
        sender.join()
    assert digest.digest() == hashlib.sha256(data).digest()


def test_who_reads_slowly_holds_up_nobody_and_loses_nothing(guest: Guest) -> None:
    size = 3 << 20
    with guest.stream(["head", "-c", str(size), "/dev/zero"]) as slow:
        time.sleep(1)
        assert guest.run(["echo", "there"]).out == "there\n"
        got = 0
        while piece := slow.recv(1 << 16):
            got += len(piece)
    assert got == size


def test_agents_answer_one_after_another_on_few_lines(guest: Guest) -> None:
    for number in range(LINES + 2):
        with guest.agent() as stream, stream.makefile("rb") as answers:
            stream.sendall(pack({"id": number, "op": "ping"}))
            assert read_frame(answers.read) == ({"id": number, "ok": True}, b"")


def test_a_connection_too_many_is_told_so(guest: Guest) -> None:
    held = [guest.stream(["cat"]) for _ in range(LINES)]
    try:
        with pytest.raises(GuestError, match="all its lines are in use"):
            guest.connect()
    finally:
        for one in held:
            one.close()
    assert guest.run(["true"]).status == 0


def test_what_cannot_be_done_is_told(guest: Guest) -> None:
    with pytest.raises(GuestError, match=r"could not run: FileNotFoundError.*no-such-tool"):
        guest.run(["no-such-tool"])
    with pytest.raises(GuestError, match="could not run: TimeoutExpired"):
        guest.run(["sleep", "60"], seconds=0.2)
    with pytest.raises(GuestError, match="could not write"):
        guest.write({"/proc/sys/no/such": "1"})
    with pytest.raises(GuestError, match="could not dance"):
        guest.request({"op": "dance"})


def test_what_a_command_leaves_running_holds_nobody_up(guest: Guest) -> None:
    assert guest.run(["sh", "-c", "sleep 60 & echo done"], seconds=10).out == "done\n"


@pytest.mark.parametrize(
    ("tool", "fact"),
    [
        (["ipset", "restore"], "ipset.txt"),
        (["iptables-legacy-restore"], "iptables-save.txt"),
        (["ip6tables-legacy-restore"], "ip6tables-save.txt"),
        (["ipvsadm", "-R"], "ipvs-save.txt"),
    ],
)
def test_it_takes_a_recorded_node(guest: Guest, tool: list[str], fact: str) -> None:
    done = guest.run(tool, (RECORDED / fact).read_text())
    assert (done.status, done.err) == (0, "")
    if tool[0] == "ipvsadm":
        assert guest.run(["ipvsadm", "-Sn"]).out == (RECORDED / fact).read_text()


@pytest.mark.parametrize("rootless", [False, True], ids=["root", "rootless"])
def test_ipvs_spreads_what_comes_over_the_wire(rootless: bool) -> None:
    apart = ["unshare", "--net", *(["--user", "--map-root-user"] if rootless else [])]
    program = [sys.executable, str(Path(__file__).with_name("guest_wire.py"))]
    done = subprocess.run([*apart, *program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["shares"] == {"10.244.3.3": 20, "10.244.3.4": 20}
    assert found["large"] == 3_000_000
    assert sorted(found["interfaces"].split()) == ["lo", "v3", "v4", "vec0", "wire0"]


STARTER = """\
import sys, time
sys.path.insert(0, sys.argv[1])
from k8snet_nb.twin.guest.guest import Guest
guest = Guest(["veth"])
guest.start(["sleep", "600"])
print(guest.pid, flush=True)
time.sleep(600)
"""


def descendants(pid: int) -> set[int]:
    found, new = set(), {pid}
    while new:
        found |= new
        texts = [Path(f"/proc/{one}/task/{one}/children") for one in new]
        new = {int(word) for text in texts if text.exists() for word in text.read_text().split()} - found
    return found


@pytest.mark.parametrize("victim", ["starter", "unshare", "relay", "kernel"])
def test_death_leaves_nothing(victim: str, tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, str(CHECKOUT)], stdout=subprocess.PIPE, text=True, env=environment
    ) as starter:
        try:
            assert starter.stdout is not None
            unshare = int(starter.stdout.readline())
            family = sorted(descendants(unshare))
            assert len(family) > 3
            relay = min(descendants(unshare) - {unshare}, key=lambda pid: (_parent(pid) != unshare, pid))
            kernel = min(pid for pid in family if _parent(pid) == relay)
            os.kill(
                {"starter": starter.pid, "unshare": unshare, "relay": relay, "kernel": kernel}[victim], signal.SIGKILL
            )
            deadline = time.monotonic() + 10
            while left := [pid for pid in family if _runs(pid)]:
                assert time.monotonic() < deadline, f"still there: {left}"
                time.sleep(0.05)
        finally:
            starter.kill()
    assert not list(tmp_path.rglob("*"))


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["X", "0"]


def _parent(pid: int) -> int:
    return int(_stat(pid)[1])


def _runs(pid: int) -> bool:
    return _stat(pid)[0] not in "XZ"


def test_a_guest_that_ended_says_so() -> None:
    with Guest() as one:
        with pytest.raises(GuestError, match=r"did not answer|has ended"):
            one.run([sys.executable, "-c", "import ctypes; ctypes.CDLL(None).reboot(0x4321FEDC)"])
        with pytest.raises(GuestError, match="has ended"):
            one.connect()


def test_one_that_cannot_come_up_says_why() -> None:
    with pytest.raises(GuestError, match="no_such_module:serve: ModuleNotFoundError"):  # noqa: SIM117
        with Guest(server="twin.no_such_module:serve") as one:
            one.run(["true"])


@pytest.mark.parametrize("name", ["a/b", "", "x" * 16, "a,mac=1", "-a", "a b"])
def test_only_a_device_name_is_a_tap(name: str) -> None:
    with pytest.raises(GuestError, match="no name of a network device"):
        Guest(tap=name)


def test_without_user_mode_linux_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guests.shutil, "which", lambda name: None)
    with pytest.raises(GuestError, match="apt install user-mode-linux"):
        Guest()


def test_modules_come_after_what_they_need() -> None:
    order = [Path(path).name for path in modules_in_order(["ip_vs_rr", "iptable_nat", "no_such_module"])]
    assert order.index("ip_vs.ko") < order.index("ip_vs_rr.ko")
    assert order.index("nf_conntrack.ko") < order.index("nf_nat.ko") < order.index("iptable_nat.ko")
