"""All facts of 20 nodes at once against those of one: agents in namespaces, over exec and websockets.

    python benchmarks/agents_20.py [--nodes 20] [--rounds 7]

Needs root. Each node is a network namespace of this kernel with its own agent process; the API server of the tests runs
in a process of its own. The ratio is to be at most 3. Two are printed:

- *here*: all the nodes' own work is done by this machine's cores, which no number of threads makes more of. The CPU
  time of the client, the agents and the server is printed beside it, so that one sees whose work the time is;
- *as on machines of their own*: every agent is replaced by one that waits as long as a node took alone and then sends
  that node's answer. What is measured is what a notebook pays for 20 nodes instead of one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import k8snet_nb as kn  # noqa: E402  (its folder is put on the path above)
from k8snet_nb.facts import FactRef  # noqa: E402
from k8snet_nb.record.wanted import node_refs  # noqa: E402
from k8snet_nb.sources.live import LiveSource  # noqa: E402

PREFIX = f"k8sb{os.getpid() % 100_000}n"
TICK = os.sysconf("SC_CLK_TCK")
REPLAY = """#!{python}
import json, os, sys, time
if "--heartbeat" not in sys.argv:  # the pod's own process, which waits
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
sys.path.insert(0, {root!r})
from k8snet_nb.agent.protocol import pack, read_frame
read = lambda size: os.read(0, size)
size = int.from_bytes(os.read(0, 8), "big")
while size:
    size -= len(os.read(0, size))
folder = {folder!r}
hello, index = json.load(open(folder + "/answer.json"))
payload = open(folder + "/payload", "rb").read()
while (frame := read_frame(read)) is not None:
    begun, said = time.monotonic(), frame[0]
    if said["op"] == "facts":
        answer = pack({{"facts": index, "id": said["id"]}}, payload)
        time.sleep(max(0.0, float(open(folder + "/delay").read()) - (time.monotonic() - begun)))
    else:
        answer = pack({{**hello, "id": said["id"]}} if said["op"] == "hello" else {{"id": said["id"], "ok": True}})
    view = memoryview(answer)
    while view:
        view = view[os.write(1, view):]
"""


@dataclass(frozen=True)
class Cost:
    """Seconds of one reading: on the clock, and of CPU time of the client, the agents with their tools, the server."""

    wall: float
    client: float
    agents: float
    server: float


def serve(folder: Path, names: list[str], python: str | None) -> None:
    """In the server's process: ready nodes of these names, each a namespace, until the input ends."""
    from api_server import serving

    ready = {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"operatingSystem": "linux"}}
    with serving(folder) as server:
        server.lists["nodes"] = {"items": [{"metadata": {"name": name}, "status": ready} for name in names]}
        server.nodes = {name: name for name in names}
        server.python = python or server.python
        print(server.kubeconfig(folder / "kubeconfig"), flush=True)
        sys.stdin.read()


@contextmanager
def server_of(folder: Path, names: list[str], python: str = "") -> Iterator[int]:
    """The server's pid, with its kubeconfig as the current one."""
    import kubernetes.config.kube_config as location

    folder.mkdir(exist_ok=True)
    command = [sys.executable, __file__, "--serve", str(folder), "--python", python, *names]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        location.KUBE_CONFIG_DEFAULT_LOCATION = child.stdout.readline().strip()
        yield child.pid
        child.communicate()


def used(pid: int, with_children: bool) -> float:
    """CPU seconds of a process, and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11 : 15 if with_children else 13]) / TICK


def agents_of(server: int) -> list[int]:
    """The agents that the server has started for its nodes."""
    found: list[int] = []
    for task in Path(f"/proc/{server}/task").iterdir():
        pids = (task / "children").read_text().split()
        found += [int(pid) for pid in pids if b"--heartbeat" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return found


def measure(source: LiveSource, nodes: list[str], rounds: int, server: int) -> Cost:
    """The best of the rounds on the clock; CPU times are means of all rounds."""
    refs = [ref for node in nodes for ref in node_refs(source, node)]
    source.read_many(refs)
    agents = agents_of(server)

    def clocks() -> tuple[float, float, float]:
        return time.process_time(), sum(used(pid, True) for pid in agents), used(server, False)

    best, before = float("inf"), clocks()
    for _ in range(rounds):
        source.refresh()
        begun = time.perf_counter()
        told = source.read_many(refs)
        best = min(best, time.perf_counter() - begun)
        assert all(told[FactRef("addr.json", node)].data for node in nodes)
    client, working, serving = ((now - then) / rounds for now, then in zip(clocks(), before, strict=True))
    return Cost(best, client, working, serving)


def opened(nodes: list[str]) -> tuple[LiveSource, float]:
    """A source with agents on these nodes, and how long that took."""
    begun = time.perf_counter()
    settings: dict[str, Any] = {"at_once": len(nodes)}
    source = kn.open("live", agents=nodes, **settings).source
    assert isinstance(source, LiveSource)
    assert len(source.nodes()) == len(nodes), json.dumps(source._without)
    return source, time.perf_counter() - begun


def keep_answer(source: LiveSource, node: str, folder: Path) -> None:
    """Write a node's answer for the agents that only repeat it."""
    assert source._pods is not None
    hello = source._pods.agent(node).hello()
    told = source.read_many(node_refs(source, node))
    index, payload = [], b""
    for ref, one in told.items():
        entry: dict[str, Any] = {"key": None, "fact": ref.fact}
        if one.data is None:
            entry |= {"error": one.code, "why": one.why}
        else:
            entry |= {"size": len(one.data), "whose": one.whose, "note": one.note}
            payload += one.data
        index.append(entry)
    (folder / "answer.json").write_text(json.dumps([hello, index]))
    (folder / "payload").write_bytes(payload)
    (folder / "delay").write_text("0")
    script = folder / "replay"
    script.write_text(REPLAY.format(python=sys.executable, root=str(ROOT), folder=str(folder)))
    script.chmod(0o755)


def here(folder: Path, names: list[str], rounds: int) -> tuple[Cost, Cost]:
    """One node and all of them on this machine's cores; prints how long their start takes."""
    with server_of(folder / "real", names) as server:
        source, first = opened(names[:1])
        source.close()
        source, last = opened(names)
        with source:
            one, everything = (measure(source, nodes, rounds, server) for nodes in (names[:1], names))
            keep_answer(source, names[0], folder)
    print(
        f"start of the agents:         one {first * 1e3:6.0f} ms, all {last * 1e3:6.0f} ms, ratio {last / first:5.1f}"
    )
    return one, everything


def apart(folder: Path, names: list[str], rounds: int, alone: float) -> tuple[Cost, Cost]:
    """The same with agents that wait as long as one node took alone."""
    with server_of(folder / "replayed", names, str(folder / "replay")) as server, opened(names)[0] as source:
        bare = measure(source, names[:1], rounds, server).wall
        (folder / "delay").write_text(str(max(0.0, alone - bare)))
        one, everything = (measure(source, nodes, rounds, server) for nodes in (names[:1], names))
    return one, everything


def show(title: str, one: Cost, everything: Cost) -> None:
    print(f"{title + ':':28} one {one.wall * 1e3:6.0f} ms, all {everything.wall * 1e3:6.0f} ms, "
          f"ratio {everything.wall / one.wall:5.1f}")  # fmt: skip
    for name in ("client", "agents", "server"):
        first, last = getattr(one, name) * 1e3, getattr(everything, name) * 1e3
        print(f"    CPU time, {name + ':':16} one {first:6.1f} ms, all {last:6.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--python", help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve, options.names, options.python)
    names = [f"{PREFIX}{number}" for number in range(options.nodes)]
    try:
        for name in names:
            subprocess.run(["ip", "netns", "add", name], check=True)
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            one, everything = here(folder, names, options.rounds)
            cores = os.cpu_count() or 1
            show(f"here, {cores} cores", one, everything)
            least = everything.agents / cores
            print(f"    the nodes' own work fills {cores} cores for {least * 1e3:.0f} ms; the rest of the time is "
                  f"{max(0.0, everything.wall - least) / one.wall:.1f} of one node's")  # fmt: skip
            show("as on machines of their own", *apart(folder, names, options.rounds, one.wall))
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
