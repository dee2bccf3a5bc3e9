"""Text and netlink tell the same of this kernel's own table, in network namespaces that end with their thread."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from needs import need

from k8snet_nb.agent import conntrack as agent
from k8snet_nb.errors import FactBroken
from k8snet_nb.parse.conntrack import parse_conntrack
from k8snet_nb.parse.conntrack_counters import parse_count_series
from k8snet_nb.parse.conntrack_events import decode_events
from k8snet_nb.parse.conntrack_netlink import decode

kernel = need(root=True, commands=["conntrack"], kernel=["nf_conntrack"])
TRANSLATED = "-s 10.0.0.1 -d 10.32.0.1 -p tcp --sport 1 --dport 80 --reply-src 10.244.0.1 --reply-dst 10.0.0.1"
ENTRIES = (
    f"{TRANSLATED} --reply-port-src 8080 --reply-port-dst 1 --state ESTABLISHED -u SEEN_REPLY,ASSURED -m 5",
    "-s 10.0.0.1 -d 10.32.0.1 -p tcp --sport 2 --dport 80 --state SYN_SENT",
    "-s 10.0.0.1 -d 10.32.0.1 -p tcp --sport 3 --dport 80 --state TIME_WAIT -u SEEN_REPLY",
    "-s 10.0.0.1 -d 10.32.0.1 -p udp --sport 4 --dport 53",
    "-s 10.0.0.1 -d 10.32.0.1 -p udp --sport 4 --dport 53 --zone 7",
    "-s 10.0.0.1 -d 10.32.0.1 -p udp --sport 5 --dport 53 --orig-zone 9",
    "-s fd00::1 -d fd00::2 -p udp --sport 4 --dport 53 -u SEEN_REPLY,ASSURED",
    "-s fd00::1 -d fd00::2 -p sctp --sport 6 --dport 7 --state ESTABLISHED --orig-vtag 1 --reply-vtag 2",
    "-s 10.0.0.1 -d 10.32.0.1 -p icmp --icmp-type 8 --icmp-code 0 --icmp-id 77",
    "-s fd00::1 -d fd00::3 -p icmpv6 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 77",
    "-s 10.0.0.1 -d 10.32.0.1 -p gre --srckey 0x10 --dstkey 0x20",
    "-s 10.0.0.1 -d 10.32.0.1 -p 253",
    "-s 10.0.0.1 -d 10.32.0.2 -p udplite --sport 8 --dport 9",
)


def in_namespace(task: Callable[[], Any]) -> Any:
    """Run a task in a thread with a network namespace of its own, which ends with the thread."""
    answer: list[Any] = []

    def run() -> None:
        try:
            if ctypes.CDLL(None, use_errno=True).unshare(0x40000000):
                raise OSError(ctypes.get_errno(), "unshare")
            answer.append(task())
        except BaseException as error:  # noqa: BLE001 handed to the test's own thread
            answer.append(error)

    thread = Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(answer[0], BaseException):
        raise answer[0]
    return answer[0]


def tool(*arguments: str) -> bytes:
    environment = {**os.environ, "TZ": "UTC"}
    return subprocess.run(["conntrack", *arguments], capture_output=True, check=True, env=environment).stdout


def made() -> None:
    for name in ("nf_conntrack_acct", "nf_conntrack_timestamp"):  # of this namespace only
        with Path("/proc/sys/net/netfilter", name).open("w") as setting:
            setting.write("1")
    for entry in ENTRIES:
        tool("-I", "-t", "3000", *entry.split())


@kernel
@pytest.mark.parametrize("style", ["extended,id", "extended,id,ktimestamp"])
def test_text_and_netlink_agree(style: str) -> None:
    def task() -> tuple[Any, Any]:
        made()
        return tool("-L", "-o", style), list(agent.dump())

    text, pieces = in_namespace(task)
    read, told = parse_conntrack(text), decode(pieces)
    assert read.problems == told.problems == ()
    assert len(read) == len(told) == len(ENTRIES)
    left, right = read.frame, told.frame
    if "ktimestamp" in style:
        right["start"] = right["start"].dt.floor("s")
        assert left["start"].notna().all()
    else:
        left, right = left.drop(columns="start"), right.drop(columns="start")
    assert left["orig_packets"].notna().all()
    assert left.drop(columns="timeout").to_dict("records") == right.drop(columns="timeout").to_dict("records") or (
        left.drop(columns="timeout").equals(right.drop(columns="timeout"))
    )
    assert ((left["timeout"] - right["timeout"]).abs() <= 1).all()


@kernel
def test_proc_and_save_tell_the_same_tuples() -> None:
    def task() -> tuple[bytes, bytes, list[bytearray]]:
        made()
        with Path("/proc/thread-self/net/nf_conntrack").open("rb") as proc:
            return proc.read(), tool("-L", "-o", "save"), list(agent.dump())

    proc, save, pieces = in_namespace(task)
    names = [
        "family",
        "protocol",
        "orig_src",
        "orig_dst",
        "orig_sport",
        "orig_dport",
        "reply_src",
        "reply_sport",
        "flags",
    ]
    told = decode(pieces).frame[names]
    assert parse_conntrack(proc).frame[names].equals(told)
    assert parse_conntrack(save).frame[names].equals(told)


@kernel
@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (agent.DumpFilter(destination="10.32.0.2"), 1),
        (agent.DumpFilter(destination="fd00::2", protocol="udp", port=53), 1),
        (agent.DumpFilter(destination="10.32.0.1", protocol="udp", port=53), 3),
        (agent.DumpFilter(zone=7), 1),
        (agent.DumpFilter(mark=5), 1),
        (agent.DumpFilter(reply_source="10.244.0.1"), 1),
        (agent.DumpFilter(family="ipv6"), 3),
        (agent.DumpFilter(family="ipv4", protocol="tcp"), 3),
    ],
)
def test_the_kernel_filters(wanted: agent.DumpFilter, count: int) -> None:
    def task() -> int:
        made()
        return len(decode(agent.dump(wanted)))

    assert in_namespace(task) == count


@kernel
def test_counters_and_count() -> None:
    def task() -> tuple[bytes, bytes, bytes]:
        made()
        return agent.stats_text(), tool("-S"), agent.sample()

    ours, theirs, sampled = in_namespace(task)
    assert ours == theirs
    series = parse_count_series(sampled)
    assert series.counts.tolist() == [len(ENTRIES)]
    assert series.maxima[0] > 0
    assert abs(series.times[0] - time.time()) < 60


@kernel
def test_events_are_told_and_losses_said() -> None:
    def task() -> tuple[list[bytes], int]:
        with_listener = agent.Events()
        entry = ENTRIES[0].split()
        tool("-I", "-t", "3000", *entry)
        tool("-U", *entry[:10], "-t", "99", "-m", "6")
        tool("-D", *entry[:10])
        pieces = []
        while piece := with_listener.read(0.2):
            pieces.append(piece)
        with_listener._sock.setsockopt(1, 33, 2304)  # the smallest buffer: now events must get lost
        for port in range(200, 260):
            tool(
                "-I", "-t", "30", "-s", "10.0.0.1", "-d", "10.0.0.2", "-p", "udp", "--sport", str(port), "--dport", "1"
            )
        for _ in range(200):
            if not with_listener.read(0.1) and with_listener.dropped:
                break
        with_listener.close()
        return pieces, with_listener.dropped

    pieces, dropped = in_namespace(task)
    events = decode_events(pieces, [1.5] * len(pieces))
    assert events.frame["event"].tolist() == ["NEW", "UPDATE", "DESTROY"]
    assert set(events.frame["orig_dst"]) == {"10.32.0.1"}
    assert dropped >= 1


@kernel
def test_no_permission_is_said() -> None:
    def task() -> str:
        read, write = os.pipe()
        if (child := os.fork()) == 0:
            os.setuid(65534)
            try:
                list(agent.dump())
                os.write(write, b"it could")
            except agent.Unavailable as error:
                os.write(write, str(error).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        return os.read(read, 500).decode()

    assert "CAP_NET_ADMIN" in in_namespace(task)


def test_not_loaded_is_said_before_a_socket_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "_COUNT", "/nonexistent")
    monkeypatch.setattr(agent.socket, "socket", lambda *_: pytest.fail("opened a socket, which may load modules"))
    with pytest.raises(agent.Unavailable, match="not loaded"):
        list(agent.dump())


def attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("<HH", 4 + len(payload), kind) + payload + b"\0" * (-len(payload) % 4)


def message(client: int, extra: bytes = b"", flags: int = 2) -> bytes:
    def side(kind: int, src: bytes, dst: bytes) -> bytes:
        ports = attribute(1, b"\x11") + attribute(2, b"\x10\x00") + attribute(3, b"\x00\x35")
        return attribute(kind, attribute(1, attribute(1, src) + attribute(2, dst)) + attribute(2, ports))

    mine, other = bytes([10, 0, 0, client]), bytes([10, 0, 0, 200])
    body = struct.pack("<BBH", 2, 0, 0) + side(1, mine, other) + side(2, other, mine) + extra
    return struct.pack("<IHHII", 16 + len(body), 0x100, flags, 0x51234565, 9) + body


DONE = struct.pack("<IHHIIi", 20, 3, 2, 0x51234565, 9, 0)


def test_labels_times_and_offload_from_messages() -> None:
    labels = attribute(22, (1 << 3 | 1 << 64).to_bytes(16, "little"))
    start = attribute(20, attribute(1, struct.pack(">Q", 1_700_000_000 * 10**9)))
    status = attribute(3, struct.pack(">I", 0x2 | 0x4 | 1 << 14))
    table = decode([message(1, labels + start + status), message(2) + DONE])
    first = table.frame.iloc[0]
    assert (first.labels, str(first.start), first["flags"]) == ("3,64", "2023-11-14 22:13:20+00:00", "OFFLOAD")
    assert table.frame.iloc[1][["labels", "start", "flags"]].isna().all()
    assert table.problems == ()


def test_interrupted_repeated_and_unended_dumps_are_said() -> None:
    table = decode([message(1, flags=0x12), message(1)])
    assert len(table) == 1
    assert len(table.problems) == 3


@pytest.mark.parametrize(
    "data",
    [
        message(1)[:-4],
        message(1)[:-6],
        message(1)[:22] + b"\xff\x7f" + message(1)[24:],
        message(1)[:20] + b"\x02\x00" + message(1)[22:],
        struct.pack("<IHHIIi", 20, 2, 0, 5, 9, -1),
        b"GIF89a, no message at all...",
    ],
)
def test_damaged_messages_are_refused(data: bytes) -> None:
    with pytest.raises(FactBroken):
        decode([data])
