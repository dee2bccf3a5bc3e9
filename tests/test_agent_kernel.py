"""The agent on this kernel: two nodes made of namespaces, read as the node's own agent would read them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kernel_nodes import (
    PREFIX,
    Machine,
    bridge_node,
    cgroup_root,
    ip,
    pod_cgroup,
    pod_on_bridge,
    pod_point_to_point,
)
from needs import need

import k8snet_nb as kn
from k8snet_nb.errors import AgentError, FactMissing, NotFound
from k8snet_nb.explain.pod_commands import rendered_command
from k8snet_nb.explain.pod_network import NoVethPair, VethPair, host_interfaces, veth_of
from k8snet_nb.explain.sandbox import NodeView, PodView, find_sandbox, pod_identity
from k8snet_nb.facts import FACTS, FactRef
from k8snet_nb.parse.links import parse_links, parse_routes
from k8snet_nb.parse.namespaces import parse_lsns, parse_nsid, parse_pod_processes, parse_processes
from k8snet_nb.parse.pods import parse_pod
from k8snet_nb.parse.routing import parse_fdb, parse_neigh
from k8snet_nb.sources.agents import Agent, child_command
from k8snet_nb.sources.node import NodeSource

pytestmark = [
    need(root=True, commands=["ip", "bridge", "bash", "ss"], kernel=["veth", "bridge"]),
    pytest.mark.skipif(cgroup_root() is None, reason="no cgroup can be made here"),
]

UID = "11111111-2222-3333-4444-55555555555{}"
CID = "{:064x}"
PODS = {  # uid's last digit -> what it is
    "1": ("one", "10.91.0.2", "vetha"),
    "2": ("one", "10.91.0.3", "vethb"),
    "3": ("two", "10.92.0.2", "vetha"),
    "4": ("two", "10.92.0.3", "vethb"),
}


@dataclass
class Nodes:
    machine: Machine
    names: dict[str, str]
    pods: dict[str, str]
    pids: dict[str, int]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    machine = Machine()
    try:
        names = {"one": bridge_node(machine, "one"), "two": machine.namespace("two")}
        pods, pids = {}, {}
        for digit, (node, address, host) in PODS.items():
            make = pod_on_bridge if node == "one" else pod_point_to_point
            pods[digit] = make(machine, names[node], f"p{digit}", host, address)
            path = pod_cgroup(UID.format(digit), CID.format(int(digit)))
            pids[digit] = machine.process(pods[digit], "/pause", path)
            machine.process(pods[digit], "app", path[:-1] + "f")
        pods["5"] = machine.namespace("p5")  # a pod whose interface is a macvlan on the bridge
        ip("link", "add", "link", "cni0", "name", "mv0", "netns", pods["5"], "type", "macvlan", "mode", "bridge",
           namespace=names["one"])  # fmt: skip
        pids["5"] = machine.process(pods["5"], "/pause", pod_cgroup(UID.format("5"), CID.format(5)))
        pods["6"] = names["one"]  # hostNetwork
        pids["6"] = machine.process(names["one"], "/pause", pod_cgroup(UID.format("6"), CID.format(6)))
        subprocess.run(["ip", "netns", "exec", names["one"], "bash", "-c",
                        "exec 3<>/dev/udp/10.91.0.2/9; echo > /dev/udp/10.91.0.2/9; echo > /dev/udp/10.91.0.3/9"],
                       check=False)  # fmt: skip
        time.sleep(2.5)  # duplicate address detection, and the bridge's first listening
        yield Nodes(machine, names, pods, pids)
    finally:
        machine.clear()


def agent_in(node: str) -> Agent:
    return Agent.start(["ip", "netns", "exec", node, *child_command()], name=node)


@pytest.fixture(scope="module")
def sources(nodes: Nodes) -> Iterator[dict[str, NodeSource]]:
    opened = {
        short: NodeSource(agent=agent_in(name), node=short, logs="/nonexistent") for short, name in nodes.names.items()
    }
    yield opened
    for source in opened.values():
        source.close()


IGNORED = {
    # A newer ip tells more, or the kernel's timers moved on between the two readings.
    "gso_ipv4_max_size", "gro_ipv4_max_size", "netns-immutable", "protocol", "gc_timer", "hello_timer", "locked", "mab",
    "neigh_vlan_suppress", "group_fwd_mask_str", "fdb_n_learned", "fdb_max_learned", "no_linklocal_learn",
    "mcast_vlan_snooping", "mst_enabled", "mdb_offload_fail_notification", "fdb_local_vlan_0", "bcqueuelen",
    "usedbcqueuelen", "forward_delay_timer", "message_age_timer", "hold_timer", "valid_life_time",
    "preferred_life_time", "tcn_timer", "topology_change_timer", "state",
}  # fmt: skip


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items() if key not in IGNORED}
    return [plain(part) for part in value if part != {}] if isinstance(value, list) else value


def flat(value: Any, where: str = "") -> list[str]:
    """Every leaf with its place, so that a difference is one line."""
    if isinstance(value, dict):
        return [line for key, part in value.items() for line in flat(part, f"{where}.{key}")]
    if isinstance(value, list):
        return [line for at, part in enumerate(value) for line in flat(part, f"{where}[{at}]")]
    return [f"{where} = {value!r}"]


COMPARED = ("addr.json", "route.json", "route6.json", "rule.json", "neigh.json", "nsid.json", "fdb.json")


@pytest.mark.parametrize("fact", COMPARED)
@pytest.mark.parametrize("which", ["one", "two", "1", "3", "5"])
def test_the_agent_says_what_ip_says(nodes: Nodes, sources: dict[str, NodeSource], which: str, fact: str) -> None:
    namespace = nodes.names.get(which) or nodes.pods[which]
    if fact == "fdb.json" and which not in nodes.names:
        pytest.skip("the forwarding table is a fact of nodes")
    command = ["ip", "netns", "exec", namespace, *FACTS[fact].command.split()]
    with agent_in(namespace) as agent:
        told = agent.fact(fact)
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert told.data is not None, told.why
    assert told.whose == "netlink"
    mine, its = plain(json.loads(told.data)), plain(json.loads(said or "[]"))
    if fact in ("neigh.json", "fdb.json"):
        mine, its = (sorted(value, key=json.dumps) for value in (mine, its))
    assert [line for line in flat(mine) if line not in flat(its)] == []
    assert mine == its
    assert [list(entry) for entry in mine] == [list(entry) for entry in its]


def node_facts(source: NodeSource) -> NodeView:
    def read(fact: str) -> tuple[bytes, FactRef]:
        ref = FactRef(fact, source.name)
        return source.read(ref), ref

    return NodeView(
        source.name, json.loads(source.read(FactRef("node.json", source.name)))["netns"],
        parse_links(*read("addr.json")), parse_routes(*read("route.json")), parse_neigh(*read("neigh.json")),
        parse_fdb(*read("fdb.json")), parse_nsid(*read("nsid.json")), parse_lsns(*read("lsns.json")),
        parse_processes(*read("processes.json")),
    )  # fmt: skip


def pod_facts(source: NodeSource) -> dict[str, PodView]:
    """The pods of these tests, by the last digit of their uid."""
    found = {}
    for item in json.loads(source.read(FactRef("pods")))["items"]:
        identity = pod_identity(parse_pod(item))
        if not identity.uid.startswith(UID[:-2]):
            continue
        refs = [FactRef(fact, source.name, identity.name) for fact in ("addr.json", "route.json", "pod.json")]
        values = [source.read(ref) for ref in refs]
        found[identity.uid[-1]] = PodView(
            identity, parse_links(values[0], refs[0]), parse_routes(values[1], refs[1]),
            parse_pod_processes(values[2], refs[2]),
        )  # fmt: skip
    return found


@pytest.mark.parametrize("digit", sorted(PODS))
def test_each_pod_finds_its_own_peer(nodes: Nodes, sources: dict[str, NodeSource], digit: str) -> None:
    """Both nodes have the same names, and every eth0 is index 2."""
    short, address, host = PODS[digit]
    source = sources[short]
    node, pod = node_facts(source), pod_facts(source)[digit]
    box = find_sandbox(pod, node)
    assert box.pid == nodes.pids[digit]
    assert box.netns == Path(f"/proc/{nodes.pids[digit]}/ns/net").stat().st_ino
    pair = veth_of(pod, node)
    assert isinstance(pair, VethPair), pair
    assert (pair.pod_interface.name, pair.pod_interface.ifindex) == ("eth0", 2)
    assert (pair.node_interface.name, pair.decided_by) == (host, "namespace_id")
    assert pair.master == ("cni0" if short == "one" else None)
    assert (pair.route is not None) == (short == "two")
    assert address in pod.identity.ips
    line = ip("-j", "link", "show", host, namespace=nodes.names[short])
    assert pair.node_interface.ifindex == json.loads(line)[0]["ifindex"]


def test_pods_without_a_pair_and_the_other_way(nodes: Nodes, sources: dict[str, NodeSource]) -> None:
    node, pods = node_facts(sources["one"]), pod_facts(sources["one"])
    macvlan, host = veth_of(pods["5"], node), veth_of(pods["6"], node)
    assert isinstance(macvlan, NoVethPair)
    assert (macvlan.reason, macvlan.parent and macvlan.parent.name) == ("macvlan", "cni0")
    assert isinstance(host, NoVethPair)
    assert host.reason == "host_network"
    behind = {entry.link.name: entry.pod for entry in host_interfaces(node, list(pods.values()))}
    assert behind["vetha"] == pods["1"].identity.name
    assert behind["vethb"] == pods["2"].identity.name
    assert behind["cni0"] is None
    assert pods["1"].processes is not None
    assert pods["1"].processes.sandbox_pid == nodes.pids["1"]
    assert not pods["1"].processes.host_network
    assert pods["6"].processes is not None
    assert pods["6"].processes.host_network


def test_all_passive_facts_of_all_pods_in_one_request(nodes: Nodes, sources: dict[str, NodeSource]) -> None:
    source = sources["one"]
    pods = [pod.identity.name for pod in pod_facts(source).values()]
    facts = ("addr.json", "route.json", "neigh.json", "sockets.txt", "pod.json", "resolv.conf")
    told = source.read_many([FactRef(fact, "one", pod) for pod in pods for fact in facts])
    assert all(answer.data is not None for answer in told.values()), [(r, a.why) for r, a in told.items()]
    one = FactRef("addr.json", "one", pods[0])
    assert source.time(one) is not None
    assert source.whose(one) == "netlink"
    assert source.trouble(one) is None


def test_running_commands_in_a_pod(nodes: Nodes, sources: dict[str, NodeSource]) -> None:
    source, pod = sources["two"], f"unknown/pod-{UID.format('3')}"
    ran = source.run(pod, ["ip", "-4", "-o", "addr", "show", "eth0"])
    assert (ran.status, ran.err, b"10.92.0.2/32" in ran.out) == (0, b"", True)
    apart = source.run(pod, ["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert (apart.status, apart.out, apart.err, apart.ended) == (7, b"out\n", b"err\n", "")
    start = time.monotonic()
    slow = source.run(pod, ["bash", "-c", f"echo begun; sleep 77 & exec -a {PREFIX}slow sleep 78"], seconds=0.5)
    assert (slow.ended, slow.out) == ("timed_out", b"begun\n")
    running = source.start_run(pod, ["bash", "-c", f"echo begun; exec -a {PREFIX}slow sleep 78"], seconds=60)
    time.sleep(0.5)
    assert not running.done
    running.cancel()
    stopped = running.result()
    assert (stopped.ended, stopped.out) == ("cancelled", b"begun\n")
    assert time.monotonic() - start < 6
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if PREFIX + "slow" in _text(p)]
    flood = source.run(pod, ["sh", "-c", "yes | head -c 40000000"])
    assert (flood.ended, len(flood.out)) == ("too_much", 32 * 1024 * 1024)
    with pytest.raises(AgentError, match="no program no-such"):
        source.run(pod, ["no-such"])
    with pytest.raises(AgentError, match="list of words"):
        source.run(pod, ["echo", "a\0b"])
    with pytest.raises(NotFound, match="pods here"):
        source.run("default/nobody", ["true"])


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def test_this_process_stays_where_it_is(nodes: Nodes, sources: dict[str, NodeSource]) -> None:
    before = str(Path("/proc/thread-self/ns/net").readlink())
    pod_facts(sources["one"])
    assert str(Path("/proc/thread-self/ns/net").readlink()) == before
    tasks = {str(path.readlink()) for path in Path("/proc/self/task").glob("*/ns/net")}
    assert tasks == {before}


def test_a_pod_that_ended_is_said_to_be_gone(nodes: Nodes, sources: dict[str, NodeSource]) -> None:
    source, uid = sources["one"], UID.format("7")
    pod = nodes.machine.namespace("p7")
    pid = nodes.machine.process(pod, "/pause", pod_cgroup(uid, CID.format(7)))
    ref = FactRef("addr.json", "one", f"unknown/pod-{uid}")
    source.read(ref)
    nodes.machine.kill(pid)
    with pytest.raises(FactMissing, match="no process carries the pod's uid") as caught:
        source.read(ref)
    assert "look again" in str(caught.value)
    with pytest.raises(AgentError, match="no process carries"):
        source.run(ref.pod or "", ["true"])
    with agent_in(nodes.names["one"]) as agent:
        assert agent.fact("addr.json", pid=pid).code == "gone"
        other = agent.fact("addr.json", pid=nodes.pids["1"], inode=5)
        assert (other.code, "not 5" in other.why) == ("gone", True)
        assert agent.fact("addr.json", path="/etc/passwd").code == "gone"
        assert agent.fact("no-such.txt").code == "absent"
        assert agent.fact("lsns.json", pid=nodes.pids["1"]).code == "absent"


def test_a_dying_agent_is_one_clear_error_and_leaves_nothing(nodes: Nodes) -> None:
    descriptors = {path.name for path in Path("/proc/self/fd").iterdir()}
    agent = agent_in(nodes.names["one"])
    agent.hello()
    running = agent.start_run(["sleep", "66"], {"pid": nodes.pids["1"]}, 60)
    time.sleep(0.3)
    # The youngest child is the agent that was just started.
    pid = max(int(child) for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())
    os.kill(pid, 9)
    with pytest.raises(AgentError, match=r"cannot be asked: it ended .*-9"):
        running.result()
    with pytest.raises(AgentError, match="Open the source again"):
        agent.fact("addr.json")
    assert not agent.alive
    agent.close()
    assert {path.name for path in Path("/proc/self/fd").iterdir()} == descriptors
    assert not Path(f"/proc/{pid}").exists()
    time.sleep(0.2)
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if _text(p) == "sleep\x0066\x00"]


def test_without_root_it_says_what_is_lacking(nodes: Nodes) -> None:
    command = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *child_command("/usr/bin/python3")]
    with Agent.start(command) as agent:
        assert agent.hello()["euid"] == 65534
        assert agent.fact("addr.json").data is not None
        inside = agent.fact("addr.json", pid=nodes.pids["1"])
        assert (inside.data, inside.code) == (None, "denied")
        assert "root" in inside.why
        named = agent.fact("addr.json", path=f"/run/netns/{nodes.pods['1']}")
        assert (named.data, named.code) == (None, "denied")
        pod = agent.fact("addr.json", pod=[UID.format("1")])
        assert (pod.data, pod.code) == (None, "denied")
        assert "may not be read" in (agent.fact("processes.json").note or "")


def test_hostile_names_arrive_as_they_are(nodes: Nodes) -> None:
    name = '"\x1b[1m<b>\\'
    pod = nodes.machine.namespace("hostile")
    ip("link", "add", name, "type", "bridge", namespace=pod)
    with agent_in(pod) as agent:
        links = parse_links(agent.fact("addr.json").data or b"", FactRef("addr.json", "n"))
    assert name in [link.name for link in links]


def test_several_threads_may_ask_at_once(nodes: Nodes, sources: dict[str, NodeSource]) -> None:
    found: list[bool] = []

    def ask() -> None:
        found.append(b"cni0" in sources["one"].read(FactRef("addr.json", "one")))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8


def test_sockets_as_ss_tells_them(nodes: Nodes) -> None:
    code = """
import socket, sys
a = socket.socket(); a.bind(("127.0.0.1", 0)); a.listen(5)
b = socket.create_connection(a.getsockname())
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("0.0.0.0", 53))
v = socket.socket(socket.AF_INET6); v.bind(("::", 8080)); v.listen(7)
w = socket.socket(); w.setsockopt(1, 25, b"lo"); w.bind(("0.0.0.0", 99)); w.listen(3)
print("ready", flush=True); sys.stdin.read()
"""
    namespace = nodes.machine.namespace("sockets")
    enter = ["ip", "netns", "exec", namespace]
    with subprocess.Popen(
        [*enter, sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        server.stdout.readline()
        with agent_in(namespace) as agent:
            mine = (agent.fact("sockets.txt").data or b"").decode()
        its = subprocess.run([*enter, "ss", "-tunap"], check=True, capture_output=True, text=True).stdout
        server.communicate()
    assert [line.rstrip() for line in mine.splitlines()] == [line.rstrip() for line in its.splitlines()]


@need(commands=["iptables-save", "nft", "conntrack"], kernel=["nf_tables", "nf_conntrack"])
def test_rules_and_connections_by_the_nodes_own_tools(nodes: Nodes) -> None:
    namespace = nodes.machine.namespace("rules")
    enter = ["ip", "netns", "exec", namespace]
    with agent_in(namespace) as agent:
        legacy = agent.fact("iptables-legacy-save.txt")
        assert (legacy.data, "not loaded" in legacy.why) == (None, True)
        assert Path("/proc/sys/net/netfilter").exists()
        subprocess.run([*enter, "nft", "add table ip kube-proxy"], check=True)
        subprocess.run([*enter, "iptables", "-t", "nat", "-N", "KUBE-SERVICES"], check=True)
        rules, ruleset = agent.fact("iptables-save.txt"), agent.fact("nft.json")
        assert b":KUBE-SERVICES" in (rules.data or b"")
        assert "nf_tables" in rules.whose
        assert b'"kube-proxy"' in (ruleset.data or b"")
        assert agent.fact("ipvs.txt").data is not None or "not loaded" in agent.fact("ipvs.txt").why
        assert agent.fact("conntrack.txt").data == b""
        entry = "-p udp -s 10.0.0.1 -d 10.0.0.2 --sport 5 --dport 53 -t 60".split()
        subprocess.run([*enter, "conntrack", "-I", *entry], check=True, capture_output=True)
        assert b"dst=10.0.0.2" in (agent.fact("conntrack.txt").data or b"")
        sysctls = agent.fact("sysctl.txt").data or b""
        assert b"net.netfilter.nf_conntrack_max = " in sysctls
        assert b"net.ipv4.ip_forward = " in sysctls


def test_looking_changes_nothing(nodes: Nodes, sources: dict[str, NodeSource]) -> None:
    """Not even legacy tables, which iptables-legacy-save would make, or namespaces."""
    namespace = nodes.machine.namespace("untouched")
    with agent_in(namespace) as agent:
        facts = agent.hello()["node_facts"]
        before = ip("netns", "list")
        agent.facts([{"key": None, "facts": facts}])
        assert ip("netns", "list") == before
    tables = subprocess.run(["ip", "netns", "exec", namespace, "cat", "/proc/net/ip_tables_names"],
                            check=False, capture_output=True).stdout  # fmt: skip
    assert tables == b""


def test_the_facade_over_this_machine(nodes: Nodes, sources: dict[str, NodeSource]) -> None:
    """The same questions as on a recording, with the same answers' types."""
    cluster = kn.Cluster(sources["two"])
    key = f"unknown/pod-{UID.format('3')}"
    pod = cluster.pod(key)
    assert (pod.ip, pod.sandbox_pid) == ("10.92.0.2", nodes.pids["3"])
    pair = pod.veth()
    assert isinstance(pair, VethPair)
    assert pair.node_interface.name == "vetha"
    live = pod.run(["ip", "addr"])
    assert (live.rendered, live.status, "10.92.0.2/32" in live.stdout) == (False, 0, True)
    facts = {fact: sources["two"].read(FactRef(fact, "two", key)) for fact in ("addr.json", "nsid.json")}
    rendered = rendered_command(["ip", "addr"], facts.__getitem__, FactRef("addr.json", "two", key))
    assert rendered.stdout.replace(" proto kernel_lo", "").replace(" proto kernel_ll", "") == live.stdout
    frame = cluster.node("two").interfaces().set_index("name")
    assert frame.loc["vetha", "pod"] == key
    with pytest.raises(FactMissing, match="kubeconfig"):
        cluster.services()
