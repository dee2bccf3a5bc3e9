"""The live path against real servers: run in namespaces of its own (see ``dns_truth``), results go out as JSON."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from k8snet_nb.agent.dns_exchange import answer as agent_answer
from k8snet_nb.agent.dns_exchange import exchange
from k8snet_nb.explain.dns.answers import LiveAnswers, send_through
from k8snet_nb.explain.resolution import resolve
from k8snet_nb.facts import FactRef
from k8snet_nb.parse.dns import compose
from k8snet_nb.parse.resolv_conf import parse_resolv_conf

REF = FactRef("dns.jsonl", "node", "default/pod")


def question_of(query: bytes) -> bytes:
    """The question section of a query with one question."""
    end = 12
    while query[end]:
        end += query[end] + 1
    return query[12 : end + 5]


def answer(query: bytes, *, ident: bytes | None = None, question: bytes | None = None, flags: int = 0x8580) -> bytes:
    """A reply with one A record, 192.0.2.1, or a lie about its id or question."""
    asked = question or question_of(query)
    record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 30, 4) + bytes([192, 0, 2, 1])
    return (ident or query[:2]) + struct.pack("!HHHHH", flags, 1, 1, 0, 0) + asked + record


def serve(address: str, act: Callable[[socket.socket, bytes, Any], None]) -> None:
    """A UDP server in a thread."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, 53))

    def loop() -> None:
        while True:
            query, client = sock.recvfrom(4096)
            act(sock, query, client)

    threading.Thread(target=loop, daemon=True).start()


def closing(address: str) -> None:
    """A TCP server that sends one byte and closes."""
    listening = socket.create_server((address, 53))

    def loop() -> None:
        while True:
            client, _ = listening.accept()
            client.recv(1000)
            client.sendall(b"\0")
            client.close()

    threading.Thread(target=loop, daemon=True).start()


def liars() -> None:
    """Servers that lie, each in its own way, by address."""
    other = b"\x05other\x04test\x00\x00\x01\x00\x01"
    stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    stranger.bind(("127.0.2.99", 53))
    wrong = lambda q: bytes([q[0] ^ 1]) + q[1:2]  # noqa: E731
    serve("127.0.2.1", lambda s, q, c: s.sendto(answer(q, ident=wrong(q)), c))
    serve("127.0.2.2", lambda s, q, c: s.sendto(answer(q, question=other), c))
    serve("127.0.2.3", lambda s, q, c: stranger.sendto(answer(q), c))
    serve("127.0.2.4", lambda s, q, c: s.sendto(b"abc", c))
    serve("127.0.2.5", lambda s, q, c: s.sendto(answer(q)[:-2], c))
    serve("127.0.2.6", lambda s, q, c: (s.sendto(answer(q, ident=wrong(q)), c), s.sendto(answer(q), c)))
    serve("127.0.2.7", lambda s, q, c: s.sendto(answer(q, flags=0x8780), c))
    closing("127.0.2.7")
    serve("127.0.2.8", lambda s, q, c: [s.sendto(answer(q, ident=wrong(q)), c) for _ in range(500)])
    serve("127.0.2.9", lambda s, q, c: s.sendto(q, c))
    serve("127.0.2.10", lambda s, q, c: s.sendto(q[:2] + struct.pack("!HHHHH", 0x8182, 1, 0, 0, 0) + question_of(q), c))
    serve("127.0.2.66", lambda s, q, c: None)
    serve("127.0.2.11", lambda s, q, c: s.sendto(q[:2] + struct.pack("!HHHHH", 0x8185, 0, 0, 0, 0), c))


def dnsmasq(folder: Path) -> subprocess.Popen[bytes]:
    """A real server on 127.0.0.1: names, a name with 60 addresses, and one whose upstream fails."""
    hosts = ["10.9.0.1 hello.default.svc.test", *(f"10.9.1.{n} many.default.svc.test" for n in range(1, 61))]
    (folder / "hosts").write_text("\n".join(hosts) + "\n")
    command = ["dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", f"--addn-hosts={folder / 'hosts'}"]
    command += [
        "--local=/test/",
        "--server=/fail.test/127.0.2.10",
        "--bind-interfaces",
        "--listen-address=127.0.0.1,::1",
    ]
    command += ["--user=root", "--conf-file=/dev/null", f"--pid-file={folder / 'pid'}", "--log-facility=/dev/null"]
    command += ["--cname=alias.default.svc.test,hello.default.svc.test"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    wire = compose("hello.default.svc.test.", "A", 1)
    for _ in range(200):
        if exchange("127.0.0.1", 53, wire, "udp", 0.2).kind == "answered":
            return process
        time.sleep(0.02)
    raise RuntimeError("dnsmasq does not answer")


def over_json(request: dict[str, Any]) -> dict[str, Any]:
    """What an agent does: a request and an answer that are JSON on their way."""
    found: dict[str, Any] = json.loads(json.dumps(agent_answer(json.loads(json.dumps(request)))))
    return found


def told(
    name: str, servers: str, options: str = "timeout:1 attempts:1", limit: float = 30.0, *, agent: bool = True
) -> dict[str, Any]:
    """Resolve a name with a resolv.conf and say what came of it."""
    lines = "".join(f"nameserver {server}\n" for server in servers.split())
    resolv = parse_resolv_conf(f"search default.svc.test svc.test test\n{lines}options ndots:5 {options}\n")
    live = LiveAnswers(send_through(over_json) if agent else exchange, resolv, REF, limit=limit)
    begin = time.monotonic()
    found = resolve(name, resolv, live)
    return {
        "outcome": found.outcome,
        "rcode": found.rcode,
        "addresses": list(found.addresses),
        "server": found.server,
        "eai": found.eai,
        "seconds": time.monotonic() - begin,
        "tries": [[str(each.query), each.server, each.reply.transport, each.result] for each in found.queries],
        "notes": [list(each.reply.notes) for each in found.queries],
        "log": live.log,
    }


def main() -> None:
    """Bring the namespace's loopback up, start everything, go through the cases."""
    request = json.load(sys.stdin)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        process = dnsmasq(Path(folder))
        try:
            liars()
            json.dump([told(**case) for case in request["cases"]], sys.stdout)
        finally:
            process.terminate()
            process.wait(10)


if __name__ == "__main__":
    main()
