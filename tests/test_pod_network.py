from __future__ import annotations

import ipaddress
import json
from dataclasses import replace
from pathlib import Path

import pytest

import k8snet_nb
from k8snet_nb.cgroups import ProcessRecord
from k8snet_nb.explain.pod_network import NoVethPair, VethPair, host_interfaces, pair_of, veth_of
from k8snet_nb.explain.sandbox import NodeView, PodIdentity, PodView, find_sandbox, host_of, pod_identity
from k8snet_nb.facts import FactRef
from k8snet_nb.parse.links import Address, Link, Route, parse_links, parse_routes
from k8snet_nb.parse.namespaces import (
    Namespace,
    NamespaceId,
    parse_lsns,
    parse_nsid,
    parse_pod_processes,
    parse_processes,
)
from k8snet_nb.parse.pods import parse_pod
from k8snet_nb.parse.routing import FdbEntry, Neighbour, parse_fdb, parse_neigh

HELLO = Path(next(iter(k8snet_nb.__path__))) / "data" / "hello-cluster"


def load_node(name: str) -> NodeView:
    folder = HELLO / "nodes" / name

    def read(fact: str) -> tuple[bytes, FactRef]:
        return (folder / fact).read_bytes(), FactRef(fact, name)

    return NodeView(
        name,
        json.loads((folder / "node.json").read_text())["netns"],
        parse_links(*read("addr.json")),
        parse_routes(*read("route.json")),
        parse_neigh(*read("neigh.json")),
        parse_fdb(*read("fdb.json")),
        parse_nsid(*read("nsid.json")),
        parse_lsns(*read("lsns.json")),
        parse_processes(*read("processes.json")),
    )


def load_pods() -> list[PodView]:
    pods = []
    for item in json.loads((HELLO / "api/pods.json").read_text())["items"]:
        identity = pod_identity(parse_pod(item))
        folder = HELLO / "nodes" / str(identity.node) / "pods" / identity.name
        if not folder.is_dir():
            pods.append(PodView(identity))
            continue
        refs = {fact: FactRef(fact, identity.node, identity.name) for fact in ("addr.json", "route.json", "pod.json")}
        data = {fact: (folder / fact).read_bytes() for fact in refs if (folder / fact).exists()}
        pods.append(
            PodView(
                identity,
                parse_links(data["addr.json"], refs["addr.json"]) if "addr.json" in data else None,
                parse_routes(data["route.json"], refs["route.json"]) if "route.json" in data else None,
                parse_pod_processes(data["pod.json"], refs["pod.json"]),
            )
        )
    return pods


NODES = {name: load_node(name) for name in ("node-one", "node-two", "node-three")}
PODS = {pod.identity.name: pod for pod in load_pods()}
PAIRS = {
    "kube-system/coredns-675dc9c89c-tn5qt": "veth554a505b",
    "default/hello-world-c648f6bd8-gl7ct": "veth6b52ccbd",
    "default/hello-world-c648f6bd8-96wh2": "veth762f3b93",
    "default/client": "veth5255f3bf",
    "shop/cart-865f99cbb8-j49cc": "veth08fec128",
    "kube-system/coredns-675dc9c89c-km5v8": "vethf794c889",
    "default/hello-world-c648f6bd8-b6hq5": "veth2307ea80",
    "default/hello-world-c648f6bd8-s8cwf": "veth5621b2b2",
    "shop/cart-865f99cbb8-l98b2": "veth498ebe08",
    "shop/cart-865f99cbb8-k6zjh": "vethe47477ec",
    "default/client-two": "veth72978db9",
}


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_recorded_pairs_where_every_host_side_says_if2(name: str) -> None:
    pod = PODS[name]
    node = NODES[str(pod.identity.node)]
    pair = veth_of(pod, node)
    assert isinstance(pair, VethPair), pair
    assert (pair.pod_interface.name, pair.node_interface.name) == ("eth0", PAIRS[name])
    assert pair.node_interface.peer_ifindex == 2
    assert pair.decided_by == "namespace_id"
    bridged = pod.identity.node == "node-one"
    assert pair.master == ("cni0" if bridged else None)
    assert (pair.route is None) is bridged
    assert bridged or host_of(pair.route) == pod.identity.ips[0]
    assert {item.ref.fact for item in pair.evidence} >= {"processes.json", "addr.json", "nsid.json", "lsns.json"}
    said = pod.processes
    box = find_sandbox(pod, node)
    assert said is not None
    assert (box.pid, box.netns, box.pids) == (said.sandbox_pid, said.netns, said.pids)


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_without_ids_traffic_decides_and_without_both_it_stays_undecided(name: str) -> None:
    pod = PODS[name]
    node = replace(NODES[str(pod.identity.node)], nsids=None, namespaces=None)
    pair = veth_of(pod, node)
    assert isinstance(pair, VethPair)
    assert pair.node_interface.name == PAIRS[name]
    assert pair.decided_by == "indices_and_traffic"
    blind = veth_of(pod, replace(node, fdb=None, neighbours=None, routes=None))
    assert isinstance(blind, NoVethPair)
    assert blind.reason == "undecided"
    assert not blind


def test_the_pods_that_have_none() -> None:
    watch = veth_of(PODS["kube-system/node-watch-74fwx"], NODES["node-one"])
    assert isinstance(watch, NoVethPair)
    assert watch.reason == "host_network"
    assert watch.evidence
    pending = veth_of(PODS["kube-system/node-watch-8zf8j"], None)
    assert isinstance(pending, NoVethPair)
    assert pending.reason in ("not_scheduled", "host_network")
    lost = veth_of(replace(PODS["default/client"], links=None, processes=None), None)
    assert isinstance(lost, NoVethPair)
    assert lost.reason == "no_node_data"
    assert "node-one" in str(lost)


def test_the_other_way_each_host_interface_names_its_pod() -> None:
    for name, node in NODES.items():
        said = {entry.link.name: entry.pod for entry in host_interfaces(node, list(PODS.values()))}
        mine = {veth: pod for pod, veth in PAIRS.items() if PODS[pod].identity.node == name}
        assert {link: pod for link, pod in said.items() if pod} == mine
    alone = host_interfaces(NODES["node-two"], [])
    assert all(entry.netns for entry in alone if entry.link.name.startswith("veth"))
    only_processes = [replace(pod, links=None) for pod in PODS.values()]
    assert {e.link.name for e in host_interfaces(NODES["node-two"], only_processes) if e.pod} >= {"veth72978db9"}


UID = "2174b7f8-0b0f-4e45-b59b-7a9431686311"
IDENTITY = PodIdentity("a/b", UID, "n", ("10.0.0.2",))


def make_link(ifindex: int, name: str, kind: str | None) -> Link:
    flags = ("LOOPBACK",) if name == "lo" else ("UP",)
    return Link(ifindex, name, kind, "ether", 1500, None, "UP", flags, None, None, None, None, (), {})


def host_route(address: str, dev: str) -> Route:
    network = ipaddress.ip_network(address)
    return Route("unicast", network, None, dev, "main", None, 0, ((None, dev),), {})


def eth0(**change: object) -> Link:
    base = replace(make_link(2, "eth0", "veth"), mac="02:00:00:00:00:02", peer_ifindex=7, peer_nsid=0,
                   addresses=(Address(4, "10.0.0.2", 32, "global"),))  # fmt: skip
    return replace(base, **change)  # type: ignore[arg-type]


def host(**change: object) -> Link:
    return replace(make_link(7, "lxc1", "veth"), **{"peer_ifindex": 2, "peer_nsid": 4, **change})  # type: ignore[arg-type]


def make(pod_link: Link | None = None, **change: object) -> tuple[PodView, NodeView]:
    member = ProcessRecord(50, 900, (f"/kubepods/pod{UID}/{'ab' * 32}",), "/pause")
    node = NodeView(
        "n", 1, (make_link(1, "lo", None), host()), namespaces=(Namespace(900, 4, bound=("/run/netns/x",)),),
        processes=(ProcessRecord(1, 1, ("/",), "init"), member),
    )  # fmt: skip
    return PodView(IDENTITY, (make_link(1, "lo", None), pod_link or eth0())), replace(node, **change)  # type: ignore[arg-type]


def reason(pod: PodView, node: NodeView | None) -> str:
    answer = veth_of(pod, node)
    assert isinstance(answer, NoVethPair), answer
    assert answer.text
    assert all(item.lines and item.says for item in answer.evidence)
    return answer.reason


@pytest.mark.parametrize(
    ("link", "code"),
    [
        (eth0(kind="ipvlan"), "ipvlan"),
        (eth0(kind="macvlan"), "macvlan"),
        (eth0(kind=None, peer_ifindex=None, peer_nsid=None), "no_peer"),
        (eth0(kind="vlan"), "no_peer"),
        (eth0(peer_ifindex=None, peer_name="eth1", peer_nsid=None), "peer_inside"),
        (eth0(peer_ifindex=9), "peer_elsewhere"),
        (eth0(ifindex=3), "peer_elsewhere"),
    ],
)
def test_interfaces_without_a_peer_on_the_node(link: Link, code: str) -> None:
    assert reason(*make(link)) == code


def test_the_same_indices_in_another_namespace_are_not_taken() -> None:
    pod, node = make(namespaces=(Namespace(901, 4), Namespace(900, 5)))
    assert reason(pod, node) == "peer_elsewhere"
    contradicted = replace(node, namespaces=(Namespace(900, 4), Namespace(901, None, bound=("/run/netns/y",))),
                           nsids=(NamespaceId(4, "y"),))  # fmt: skip
    assert reason(pod, contradicted) == "undecided"


@pytest.mark.parametrize("kind", ["veth", "netkit", None])
def test_kinds_that_pair(kind: str | None) -> None:
    pod, node = make(eth0(kind=kind), links=(host(kind=kind),))
    assert isinstance(veth_of(pod, node), VethPair)


@pytest.mark.parametrize(
    "witness",
    [
        {"fdb": (FdbEntry("02:00:00:00:00:02", "lxc1", "br0"),)},
        {"neighbours": (Neighbour("10.0.0.2", "lxc1", "02:00:00:00:00:02"),)},
        {"routes": (host_route("10.0.0.2", "lxc1"),)},
    ],
)
def test_one_witness_decides_where_ids_are_unknown(witness: dict[str, object]) -> None:
    pod, node = make(namespaces=(Namespace(900, None),), **witness)
    pair = veth_of(pod, node)
    assert isinstance(pair, VethPair)
    assert pair.decided_by == "indices_and_traffic"


def test_no_process_no_data_no_interface() -> None:
    pod, node = make(processes=())
    assert reason(replace(pod, links=None), node) == "no_process"
    assert reason(replace(pod, links=None, identity=replace(IDENTITY, phase="Succeeded")), node) == "not_running"
    pod, node = make()
    assert reason(replace(pod, links=None), node) == "no_interface_data"
    assert reason(replace(pod, links=pod.links[:1] if pod.links else ()), node) == "only_loopback"
    assert reason(pod, replace(node, links=None)) == "no_node_data"


def test_a_bound_namespace_without_any_process_is_found_by_the_route() -> None:
    pod, node = make(processes=(), routes=(host_route("10.0.0.2", "lxc1"),))
    box = find_sandbox(pod, node)
    assert (box.pid, box.netns, box.bound, box.reason) == (None, 900, ("/run/netns/x",), "")
    assert isinstance(veth_of(pod, node), VethPair)


def test_no_pause_process_as_with_cri_o_and_static_pods_by_hash() -> None:
    digest = "0123456789abcdef0123456789abcdef"
    scope = f"/kubepods.slice/kubepods-pod{digest}.slice"
    members = (
        ProcessRecord(40, 1, (f"{scope}/crio-conmon-{'aa' * 32}.scope",), "conmon"),
        ProcessRecord(41, 900, (f"{scope}/crio-{'bb' * 32}.scope",), "etcd"),
    )
    pod, node = make(processes=members)
    static = replace(pod, identity=replace(IDENTITY, hashes=(digest,)))
    box = find_sandbox(static, node)
    assert (box.pid, box.netns, box.pids) == (None, 900, (40, 41))
    assert isinstance(veth_of(static, node), VethPair)
    assert find_sandbox(pod, node).reason == "no_process"
    torn = replace(node, processes=(*members, ProcessRecord(42, 905, (f"{scope}/crio-{'bb' * 32}.scope",), "x")))
    assert find_sandbox(static, torn).reason == "ambiguous_namespace"


def test_several_interfaces_each_have_their_own_answer() -> None:
    net1 = replace(make_link(3, "net1", "macvlan"), peer_ifindex=9, peer_nsid=0)
    pod, node = make()
    pod = replace(pod, links=(*(pod.links or ()), net1))
    box = find_sandbox(pod, node)
    answers = [pair_of(link, pod, node, box) for link in (pod.links or ())[1:]]
    assert [bool(answer) for answer in answers] == [True, False]


def test_a_master_that_is_no_bridge_is_not_called_one() -> None:
    pod, node = make(links=(host(master="ovs-system"), make_link(8, "ovs-system", "openvswitch")))
    pair = veth_of(pod, node)
    assert isinstance(pair, VethPair)
    assert pair.master is None
    assert any("openvswitch" in item.says for item in pair.evidence)
