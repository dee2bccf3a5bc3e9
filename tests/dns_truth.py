"""What the C libraries of this machine really ask: run in namespaces of its own, against servers that log.

``run_cases`` starts this file under ``unshare`` (network, mount, host name, pid): when it ends, however it ends, the
kernel removes everything that it made. Cases come in as JSON on standard input, what was asked goes out.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.rcode
import dns.rrset

SERVERS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
WARM = (("A", "192.0.2.1"), ("AAAA", "2001:db8::1"), ("CNAME", "other.test."))
UNSHARE = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
RESINIT = r"""
#include <resolv.h>
#include <stdio.h>
#include <string.h>
#include <arpa/inet.h>
int main(void) {
  struct __res_state s; memset(&s, 0, sizeof s);
  if (res_ninit(&s)) return 1;
  printf("numbers %d %d %d\n", s.ndots, s.retrans, s.retry);
  for (int i = 0; i < s.nscount; i++) {
    char text[64] = "?";
    if (s.nsaddr_list[i].sin_family == AF_INET) inet_ntop(AF_INET, &s.nsaddr_list[i].sin_addr, text, 64);
    else if (s._u._ext.nsaddrs[i]) inet_ntop(AF_INET6, &s._u._ext.nsaddrs[i]->sin6_addr, text, 64);
    printf("server %s\n", text);
  }
  for (int i = 0; s.dnsrch[i]; i++) printf("search %s\n", s.dnsrch[i]);
  printf("flags %d %d %d %d %d\n", !!(s.options & RES_ROTATE), !!(s.options & RES_SNGLKUP),
         !!(s.options & RES_SNGLKUPREOP), !!(s.options & RES_USEVC), !!(s.options & RES_USE_EDNS0));
  return 0;
}
"""
GETADDRINFO = r"""
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
int main(int count, char **words) {
  struct addrinfo hints = {0}, *found;
  hints.ai_socktype = SOCK_STREAM;
  printf("%d\n", getaddrinfo(words[1], 0, &hints, &found));
  return 0;
}
"""


def compile_c(folder: Path, name: str, source: str, compiler: list[str], libraries: list[str]) -> str:
    """Compile a small C program into a folder."""
    (folder / f"{name}.c").write_text(source)
    subprocess.run([*compiler, "-o", folder / name, folder / f"{name}.c", *libraries], check=True, capture_output=True)
    return str(folder / name)


def run_cases(request: dict[str, Any], seconds: float = 120, program: str = __file__) -> Any:
    """Run ``program`` (this file) in namespaces of its own with a request, and give back what it found."""
    done = subprocess.run(
        [*UNSHARE, sys.executable, program],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _reply(query: bytes, script: dict[str, Any]) -> bytes | None:
    """The scripted reply to a question: rcode and answer records by name and type, ``silent`` for none."""
    message = dns.message.from_wire(query)
    question = message.question[0]
    name, kind = question.name.to_text().lower(), question.rdtype.name
    entry = script.get(f"{name} {kind}", script.get(name, script.get("*", "NXDOMAIN")))
    if entry == "silent":
        return None
    reply = dns.message.make_response(message, recursion_available=True)
    if isinstance(entry, str):
        reply.set_rcode(dns.rcode.from_text(entry))
    else:
        for owner, rtype, text in entry:
            reply.answer.append(dns.rrset.from_text(owner, 30, "IN", rtype, text))
    return reply.to_wire()


class _Servers:
    """Servers on the loopback addresses; each logs every question and answers by the script of the current case."""

    def __init__(self) -> None:
        self.sockets = []
        for address in SERVERS:
            at = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            at.bind((address, 53))
            self.sockets.append(at)
        self.scripts: dict[str, dict[str, Any]] = {}
        self.log: list[tuple[str, str, str]] = []
        self.lock = threading.Lock()
        # dnspython loads its record types at their first use: not while a resolver waits for the first reply
        first = dns.message.make_query("warm.test.", "A").to_wire()
        _reply(first, {"*": [["warm.test.", kind, text] for kind, text in WARM]})
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            for at in select.select(self.sockets, [], [])[0]:
                with self.lock:
                    query, client = at.recvfrom(4096)
                    server = at.getsockname()[0]
                    try:
                        question = dns.message.from_wire(query).question[0]
                    except dns.exception.DNSException:
                        self.log.append((server, "malformed", query.hex()))
                        continue
                    self.log.append((server, question.name.to_text(), question.rdtype.name))
                    reply = _reply(query, self.scripts.get(server, self.scripts.get("*", {})))
                    if reply is not None:
                        at.sendto(reply, client)

    def settled(self) -> list[tuple[str, str, str]]:
        """The log once nothing more comes in: a program may leave with questions still under way."""
        while True:
            before = len(self.log)
            time.sleep(0.005)
            with self.lock:
                waiting = select.select(self.sockets, [], [], 0)[0]
                if not waiting and len(self.log) == before:
                    return list(self.log)


def main() -> None:
    """Inside the namespaces: own files over /etc, servers up, one program a case."""
    request = json.load(sys.stdin)
    folder = Path(tempfile.mkdtemp())
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", str(folder)], check=True)
    for file, text in (("resolv.conf", ""), ("nsswitch.conf", "hosts: dns\n"), ("hosts", "")):
        (folder / file).write_text(text)
        if Path("/etc", file).exists():
            subprocess.run(["mount", "--bind", str(folder / file), f"/etc/{file}"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    socket.sethostname("podname")
    environment = {k: v for k, v in os.environ.items() if k not in ("LOCALDOMAIN", "RES_OPTIONS", "HOSTALIASES")}
    servers = _Servers() if request["kind"] == "resolve" else None
    results = []
    for case in request["cases"]:
        Path("/etc/resolv.conf").write_bytes(case["resolv"].encode("utf-8", "surrogateescape"))
        if servers:
            with servers.lock:
                servers.scripts, servers.log = case.get("scripts", {}), []
        command = [request["program"], *case.get("words", [])]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
        results.append({"out": done.stdout, "log": servers.settled() if servers else []})
    json.dump(results, sys.stdout)
    folder.rmdir() if not any(folder.iterdir()) else None
    subprocess.run(["umount", "-l", str(folder)], check=False)
    folder.rmdir()


if __name__ == "__main__":
    main()
