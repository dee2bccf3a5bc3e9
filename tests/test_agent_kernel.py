"""The facts of an agent on this kernel: two nodes made of namespaces, read as the node's own agent would."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import agent_nodes
import pytest
from agent_nodes import PODS, UID, Nodes, agent_in
from kernel_nodes import PREFIX, ip
from needs import need

from k8snet_nb.explain.pod_network import NoVethPair, VethPair, host_interfaces, veth_of
from k8snet_nb.explain.sandbox import NodeView, PodView, find_sandbox, pod_identity
from k8snet_nb.facts import FACTS, FactRef
from k8snet_nb.parse.links import parse_links, parse_routes
from k8snet_nb.parse.namespaces import parse_lsns, parse_nsid, parse_pod_processes, parse_processes
from k8snet_nb.parse.pods import parse_pod
from k8snet_nb.parse.routing import parse_fdb, parse_neigh
from k8snet_nb.sources.node import NodeSource

pytestmark = need(root=True, commands=["ip", "bridge", "bash", "ss", "setpriv"], kernel=["veth", "bridge"])
nodes, sources = agent_nodes.nodes, agent_nodes.sources

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


COMPARISONS = [(which, fact) for which in ("one", "two", "1", "3", "5") for fact in COMPARED]


@pytest.mark.parametrize(
    ("which", "fact"), [(w, f) for w, f in COMPARISONS if f != "fdb.json" or w in ("one", "two")]
)  # the forwarding table is a fact of nodes
def test_the_agent_says_what_ip_says(nodes: Nodes, sources: dict[str, NodeSource], which: str, fact: str) -> None:
    namespace = nodes.names.get(which) or nodes.pods[which]
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


def test_hostile_names_arrive_as_they_are(nodes: Nodes) -> None:
    name = '"\x1b[1m<b>\\'
    pod = nodes.machine.namespace("hostile")
    ip("link", "add", name, "type", "bridge", namespace=pod)
    with agent_in(pod) as agent:
        links = parse_links(agent.fact("addr.json").data or b"", FactRef("addr.json", "n"))
    assert name in [link.name for link in links]


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


def names_here() -> set[str]:
    """Names of namespaces, without those that other tests make and delete at the same time."""
    names = {line.split()[0] for line in ip("netns", "list").splitlines()}
    return {name for name in names if name.startswith(PREFIX) or not name.startswith(("lab-", "k8s"))}


def test_looking_changes_nothing(nodes: Nodes, sources: dict[str, NodeSource]) -> None:
    """Not even legacy tables, which iptables-legacy-save would make, or namespaces."""
    namespace = nodes.machine.namespace("untouched")
    with agent_in(namespace) as agent:
        facts = agent.hello()["node_facts"]
        before = names_here()
        agent.facts([{"key": None, "facts": facts}])
        assert names_here() == before
    tables = subprocess.run(["ip", "netns", "exec", namespace, "cat", "/proc/net/ip_tables_names"],
                            check=False, capture_output=True).stdout  # fmt: skip
    assert tables == b""


def test_a_namespace_bound_elsewhere_has_its_number(nodes: Nodes, tmp_path: Path) -> None:
    """Without a process and without a name below /run/netns, as some runtimes keep it."""
    place = tmp_path / "ns\tone"
    place.touch()
    name = nodes.machine.namespace("elsewhere")
    ip("link", "add", "vethe", "type", "veth", "peer", "name", "eth0", "netns", name, namespace=nodes.names["one"])
    inode = Path(f"/run/netns/{name}").stat().st_ino
    subprocess.run(["mount", "--bind", f"/run/netns/{name}", place], check=True)
    try:
        ip("netns", "del", name)
        with agent_in(nodes.names["one"]) as agent:
            ref = FactRef("lsns.json", "one")
            spaces = {space.inode: space for space in parse_lsns(agent.fact("lsns.json").data or b"", ref)}
        peer = json.loads(ip("-j", "link", "show", "vethe", namespace=nodes.names["one"]))[0]["link_netnsid"]
        assert spaces[inode].nsid == peer
    finally:
        subprocess.run(["umount", place], check=True)


def test_this_process_stays_where_it_is(nodes: Nodes, sources: dict[str, NodeSource]) -> None:
    before = str(Path("/proc/thread-self/ns/net").readlink())
    pod_facts(sources["one"])
    assert str(Path("/proc/thread-self/ns/net").readlink()) == before
    tasks = {str(path.readlink()) for path in Path("/proc/self/task").glob("*/ns/net")}
    assert tasks == {before}
