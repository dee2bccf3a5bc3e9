"""A program for test_guest.py, run in a network namespace of its own: a guest on a wire, called from outside it.

Prints what the callers got, as JSON.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from k8snet_nb.twin.guest.guest import Guest
from k8snet_nb.twin.guest.modules import NODE

WIRE = """\
link set lo up
link add wire0 type bridge
addr add 172.30.0.1/24 dev wire0
link set wire0 up
tuntap add dev node3 mode tap
link set node3 master wire0 up
"""
SERVER = """\
import socket, sys
with socket.create_server((sys.argv[1], 8080)) as listener:
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(sys.argv[1].encode().ljust(16) + bytes(int(connection.recv(10))))
"""
POD = """\
netns add p{n}
link add v{n} type veth peer name eth0 netns p{n}
link set v{n} up
addr add 10.244.3.1/32 dev v{n}
route add 10.244.3.{n} dev v{n}
"""
INSIDE = "link set eth0 up\naddr add 10.244.3.{n}/24 dev eth0\nroute add default via 10.244.3.1\n"
IPVS = """\
-A -t 172.30.0.13:30080 -s rr
-a -t 172.30.0.13:30080 -r 10.244.3.3:8080 -m
-a -t 172.30.0.13:30080 -r 10.244.3.4:8080 -m
"""


def call(size: int) -> tuple[str, int]:
    """Who answered, and how many bytes came."""
    with socket.create_connection(("172.30.0.13", 30080), 10) as client:
        client.sendall(str(size).encode())
        got = bytearray()
        while piece := client.recv(1 << 20):
            got += piece
    return got[:16].decode().strip(), len(got) - 16


def main() -> None:
    subprocess.run(["ip", "-batch", "-"], input=WIRE, text=True, check=True)
    with Guest(NODE, tap="node3", bridge="wire0") as guest:

        def tool(*argv: str, stdin: str = "") -> None:
            done = guest.run(argv, stdin)
            if done.status != 0:
                raise RuntimeError(done.err)

        guest.write({"/proc/sys/net/ipv4/ip_forward": "1"})
        tool("ip", "addr", "add", "172.30.0.13/24", "dev", "wire0")
        for n in (3, 4):
            for line in POD.format(n=n).splitlines():
                tool("ip", *line.split())
            tool("ip", "-n", f"p{n}", "-batch", "-", stdin=INSIDE.format(n=n))
            guest.start(["ip", "netns", "exec", f"p{n}", sys.executable, "-I", "-S", "-c", SERVER, f"10.244.3.{n}"])
        listening = "until ip netns exec p$0 ss -Hltn | grep -q :8080; do sleep 0.1; done"
        for n in ("3", "4"):
            tool("sh", "-c", listening, n)
        tool("ipvsadm", "-R", stdin=IPVS)
        shares = Counter(call(0)[0] for _ in range(40))
        print(
            json.dumps(
                {"shares": shares, "large": call(3_000_000)[1], "interfaces": guest.run(["ls", "/sys/class/net"]).out}
            )
        )


if __name__ == "__main__":
    main()
