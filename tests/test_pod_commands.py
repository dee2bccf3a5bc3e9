"""The rendered commands against the tools themselves, on the same namespace of this kernel."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from needs import need

import k8snet_nb
from k8snet_nb.errors import FactBroken, FactMissing, Refused
from k8snet_nb.explain.pod_commands import ANSWERED, rendered_command
from k8snet_nb.facts import FACTS, FactRef

HELLO = Path(next(iter(k8snet_nb.__path__))) / "data" / "hello-cluster" / "nodes"
REF = FactRef("addr.json", "node-one", "default/client")
NAME = f"k8snbc{os.getpid()}"


def recorded(fact: str) -> bytes:
    return (HELLO / "node-one/pods/default/client" / fact).read_bytes()


SET_UP = """
link set lo up
link add br0 type bridge
addr add 10.9.0.1/24 dev br0
link set br0 up
link add eth0 type veth peer name up0 netns {name}b
link set eth0 up
addr add 10.8.0.2/24 brd + dev eth0
addr add 10.8.0.3/24 dev eth0 label eth0:second
addr add 10.7.0.1 peer 10.7.0.2/32 dev eth0
addr add fd00::2/64 dev eth0 nodad
link add mv0 link br0 type macvlan mode bridge
link set br0 alias "two words"
link property add dev br0 altname a-rather-long-other-name
route add default via 10.8.0.1
route add 192.0.2.7 dev eth0 scope link
route add blackhole 198.51.100.0/24 metric 5
route add 203.0.113.0/24 nexthop via 10.8.0.1 weight 2 nexthop via 10.9.0.9
route add 10.66.0.0/24 via 10.8.0.1 mtu 1400 table 77 proto static onlink dev eth0
rule add from 10.0.0.0/8 to 192.0.2.1 fwmark 0x4000/0x4000 iif br0 table 77 priority 9
rule add not from 10.5.5.5 prohibit priority 10
rule add fwmark 7 lookup main suppress_prefixlength 0 priority 11
neigh add 10.8.0.1 lladdr 02:00:00:00:00:01 dev eth0
neigh add fd00::1 lladdr 02:00:00:00:00:01 dev eth0 router
"""


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    try:
        for name in (NAME, f"{NAME}b"):
            subprocess.run(["ip", "netns", "add", name], check=True)
        script = SET_UP.format(name=NAME).encode()
        subprocess.run(["ip", "-n", NAME, "-batch", "-"], input=script, check=True)
        subprocess.run(["ip", "-n", f"{NAME}b", "link", "set", "up0", "up"], check=True)
        yield NAME
    finally:
        for name in (NAME, f"{NAME}b"):
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)


def real(name: str, argv: list[str]) -> str:
    return subprocess.run(["ip", "netns", "exec", name, *argv], capture_output=True, text=True, check=True).stdout


COMMANDS = [
    "ip addr", "ip a", "ip -4 addr", "ip addr show dev eth0", "ip -br addr", "ip -br -4 a", "ip -br link", "ip link",
    "ip l show eth0", "ip route", "ip r", "ip -4 route show", "ip -6 route", "ip route show table all",
    "ip -6 route list table all", "ip route show table 77", "ip route show table local", "ip route show dev eth0",
    "ip neigh", "ip n show dev eth0", "ip -4 neigh", "ip -6 neigh", "ip rule", "ip rule list",
]  # fmt: skip


@need(root=True, commands=["ip"], kernel=["veth", "bridge"])
@pytest.mark.parametrize("line", COMMANDS)
def test_ip_is_rendered_as_ip_prints_it(namespace: str, line: str) -> None:
    def read(fact: str) -> bytes:
        return real(namespace, FACTS[fact].command.split()).encode()

    answer = rendered_command(line.split(), read, REF)
    assert answer.stdout == real(namespace, line.split())
    assert answer.rendered
    assert "nothing was run" in str(answer)


@need(root=True, commands=["ip"], kernel=["veth"])
def test_ip_6_addr_but_for_the_kernels_own_slip(namespace: str) -> None:
    """Asked for IPv6 alone the kernel leaves the namespace id out, and ip names a wrong peer; the fact does not."""

    def read(fact: str) -> bytes:
        return real(namespace, FACTS[fact].command.split()).encode()

    def plain(text: str) -> str:
        return re.sub(r"@\w+:", ":", text)

    assert plain(rendered_command(["ip", "-6", "addr"], read, REF).stdout) == plain(
        real(namespace, ["ip", "-6", "addr"])
    )


@need(root=True, commands=["ip", "ss"])
@pytest.mark.parametrize("options", ["-tunap", "-tn", "-tln", "-unap", "-tuln", "-tlnp", "-tuan", "-t -n -a", "-tun6a"])
def test_ss_is_rendered_as_ss_prints_it(namespace: str, options: str) -> None:
    code = """
import socket, sys
a = socket.socket(); a.bind(("127.0.0.1", 0)); a.listen(5)
b = socket.create_connection(a.getsockname())
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("0.0.0.0", 53))
v = socket.socket(socket.AF_INET6); v.bind(("::", 8080)); v.listen(7)
print("ready", flush=True); sys.stdin.read()
"""
    command = ["ip", "netns", "exec", namespace, "python3", "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        text = real(namespace, ["ss", "-tunap"])
        answer = rendered_command(["ss", *options.split()], lambda _: text.encode(), REF)
        shown = real(namespace, ["ss", *options.split()])
        server.communicate()
    assert [line.rstrip() for line in answer.stdout.splitlines()] == [line.rstrip() for line in shown.splitlines()]


def test_the_lessons_commands_on_the_recording() -> None:
    shown = rendered_command(["ip", "addr"], recorded, REF)
    assert "2: eth0@if7: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1450" in shown.stdout
    assert "link/ether da:c6:70:bc:5a:3f brd ff:ff:ff:ff:ff:ff link-netnsid 0" in shown.stdout
    assert "inet 10.244.18.5/24" in shown.stdout
    assert str(shown).startswith("[node node-one, in the network namespace of pod default/client]$ ip addr")
    assert rendered_command(["cat", "/etc/resolv.conf"], recorded, REF).stdout == recorded("resolv.conf").decode()
    assert rendered_command(["ip", "-d", "-j", "addr"], recorded, REF).stdout == recorded("addr.json").decode()
    assert rendered_command(["ip", "route"], recorded, REF).stdout.startswith("default via 10.244.18.1 dev eth0 \n")


@pytest.mark.parametrize(
    "line",
    ["ping 10.0.0.1", "ip -d addr", "ip addr add 10.0.0.1/8 dev eth0", "ip link set eth0 down", "ss -tap", "ss -xn",
     "sh",
     "cat /etc/passwd", "ip", "ip route get 10.0.0.1", "ip -br route", "ip netns", "ip addr show table 5", "ip x", ""],
)  # fmt: skip
def test_the_rest_is_refused_with_the_list(line: str) -> None:
    with pytest.raises(Refused) as caught:
        rendered_command(line.split(), recorded, REF)
    assert all(known in str(caught.value) for known in ANSWERED)


def test_broken_and_missing_facts_say_so() -> None:
    with pytest.raises(FactBroken, match="pod default/client"):
        rendered_command(["ip", "addr"], lambda _: b'[{"ifname": 3}]', REF)
    with pytest.raises(FactBroken, match="no socket"):
        rendered_command(["ss", "-tn"], lambda _: b"Netid\nwhat is this\n", REF)

    def missing(fact: str) -> bytes:
        raise FactMissing(fact, REF.where, "not collected")

    with pytest.raises(FactMissing):
        rendered_command(["ip", "route"], missing, REF)


def test_a_hostile_name_does_not_reach_the_terminal() -> None:
    data = b'[{"ifindex": 2, "ifname": "e\\u001b[31m", "mtu": 1, "flags": [], "link_type": "ether"}]'
    answer = rendered_command(["ip", "link"], lambda fact: data if fact == "addr.json" else b"[]", REF)
    assert "\x1b" not in str(answer)
    assert "\x1b" not in answer.report().html()
