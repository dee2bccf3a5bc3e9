"""Inside pods, from the façade on the bundled recording: sandbox, namespace, interfaces, veth pair, commands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import k8snet_nb as kn
from k8snet_nb.errors import FactBroken, FactMissing, Refused
from k8snet_nb.explain.pod_network import NoVethPair, VethPair
from k8snet_nb.sources.opening import BUNDLED

PAIRS = {
    "default/client": (685, 4026532919, "veth5255f3bf", 7, "cni0"),
    "default/client-two": (716, 4026533067, "veth72978db9", 8, None),
    "default/hello-world-c648f6bd8-96wh2": (404, 4026532619, "veth762f3b93", 6, "cni0"),
    "default/hello-world-c648f6bd8-b6hq5": (350, 4026532546, "veth2307ea80", 4, None),
    "default/hello-world-c648f6bd8-gl7ct": (331, 4026532396, "veth6b52ccbd", 5, "cni0"),
    "default/hello-world-c648f6bd8-s8cwf": (370, 4026532690, "veth5621b2b2", 5, None),
    "kube-system/coredns-675dc9c89c-km5v8": (288, 4026532477, "vethf794c889", 3, None),
    "kube-system/coredns-675dc9c89c-tn5qt": (333, 4026532326, "veth554a505b", 4, "cni0"),
    "shop/cart-865f99cbb8-j49cc": (677, 4026532998, "veth08fec128", 8, "cni0"),
    "shop/cart-865f99cbb8-k6zjh": (641, 4026532775, "vethe47477ec", 7, None),
    "shop/cart-865f99cbb8-l98b2": (611, 4026532850, "veth498ebe08", 6, None),
}
"""Read off pod.json and both sides' addr.json by hand: sandbox pid, netns inode, the node's side, the bridge."""


@pytest.mark.parametrize("key", PAIRS)
def test_every_recorded_pod(hello: kn.Cluster, key: str) -> None:
    pid, netns, name, index, bridge = PAIRS[key]
    pod = hello.pod(key)
    assert (pod.sandbox_pid, pod.netns) == (pid, netns)
    pair = pod.veth()
    assert isinstance(pair, VethPair)
    assert (pair.pod_interface.name, pair.pod_interface.ifindex) == ("eth0", 2)
    assert (pair.node_interface.name, pair.node_interface.ifindex, pair.master) == (name, index, bridge)
    assert pair.evidence
    if bridge is None:
        assert pair.route is not None, "a point-to-point CNI has a route to the pod alone"
        assert str(pair.route.network) == f"{pod.ip}/32"


def test_the_host_network_has_no_pair_and_says_so(hello: kn.Cluster) -> None:
    pod = hello.pod("kube-system/node-watch-74fwx")
    assert (pod.sandbox_pid, pod.netns) == (598, 4026532178)
    nothing = pod.veth()
    assert isinstance(nothing, NoVethPair)
    assert nothing.reason == "host_network"
    assert set(pod.interfaces().name) == {"lo", "eth0", "cni0"} | {p[2] for p in PAIRS.values() if p[4]}


def test_a_command_on_the_host_network_is_rendered_from_the_nodes_facts(hello: kn.Cluster) -> None:
    pod = hello.pod("kube-system/node-watch-74fwx")
    assert "cni0" in pod.run(["ip", "link"]).stdout
    assert pod.run(["cat", "/etc/resolv.conf"]).stdout


def test_a_pod_on_no_node(hello: kn.Cluster) -> None:
    pod = hello.pod("kube-system/node-watch-8zf8j")
    assert (pod.sandbox_pid, pod.netns) == (None, None)
    assert not pod.veth()
    for ask in (pod.interfaces, pod.routes):
        with pytest.raises(FactMissing, match="on no node yet"):
            ask()
    with pytest.raises(Refused, match="on no node yet"):
        pod.run(["ip", "addr"])


def test_interfaces_and_routes(hello: kn.Cluster) -> None:
    pod = hello.pod("client")
    frame = pod.interfaces()
    assert list(frame.columns) == "ifindex name kind mtu mac addresses peer_ifindex peer_nsid".split()
    eth0 = frame.set_index("name").loc["eth0"]
    assert (eth0.ifindex, eth0.kind, eth0.mtu, eth0.peer_ifindex, eth0.peer_nsid) == (2, "veth", 1450, 7, 0)
    assert "10.244.18.5/24" in eth0.addresses
    assert frame.attrs["evidence"]
    routes = pod.routes()
    assert routes[(routes.destination == "0.0.0.0/0")].via.tolist() == ["10.244.18.1"]
    assert not routes.duplicated(["type", "destination", "dev", "table"]).any()


def test_the_other_way_round(hello: kn.Cluster) -> None:
    for node in ("node-one", "node-two"):
        behind = hello.node(node).interfaces().set_index("name").pod.dropna().to_dict()
        expected = {p[2]: key for key, p in PAIRS.items() if hello.pod(key).node == node}
        assert behind == expected


def test_commands_are_rendered_and_say_so(hello: kn.Cluster) -> None:
    shown = hello.pod("client").run(["ip", "addr"])
    assert shown.rendered
    assert "nothing was run" in str(shown)
    assert "2: eth0@if7:" in shown.stdout
    assert "\n    inet 10.244.18.5/24" in str(shown)
    with pytest.raises(Refused, match="it can answer"):
        hello.pod("client").run(["tcpdump"])
    with pytest.raises(Refused, match="list of words"):
        hello.pod("client").run("ip addr")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([b"ip"], "no str"),
        (["echo", 1], "no str"),
        (b"ip addr", "list of words"),
        (["a\0b"], "character"),
        (["a\udc80"], "character"),
        (["echo", "x" * 20_000_000], "longer than"),
    ],
)
def test_words_that_no_program_can_get_are_refused(hello: kn.Cluster, argv: list[str], says: str) -> None:
    with pytest.raises(Refused, match=says) as caught:
        hello.pod("client").run(argv)
    assert len(str(caught.value)) < 500


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(BUNDLED, folder)
    return folder


def test_a_node_without_data(copy: Path) -> None:
    shutil.rmtree(copy / "nodes/node-one")
    pod = kn.open(copy).pod("client")
    assert (pod.sandbox_pid, pod.netns) == (None, None)
    nothing = pod.veth()
    assert isinstance(nothing, NoVethPair)
    assert nothing.reason == "no_node_data"
    with pytest.raises(FactMissing, match="node-one"):
        pod.interfaces()


def test_without_namespace_ids_the_two_indices_and_traffic_decide_or_nobody(copy: Path) -> None:
    """Every node's side says `@if2`: the index alone must not decide."""
    node = copy / "nodes/node-one"
    for fact in ("nsid.json", "lsns.json"):
        (node / fact).unlink()
    pair = kn.open(copy).pod("client").veth()
    assert isinstance(pair, VethPair)
    assert pair.node_interface.name == "veth5255f3bf"
    assert pair.decided_by == "indices_and_traffic"
    links = json.loads((node / "addr.json").read_text())
    for link in links:
        if link["ifname"].startswith("veth"):
            link["link_index"] = 3
    (node / "addr.json").write_text(json.dumps(links))
    nothing = kn.open(copy).pod("client").veth()
    assert not nothing, "a peer that does not point back is no peer"


def test_a_broken_fact_is_told(copy: Path) -> None:
    (copy / "nodes/node-one/processes.json").write_text("[{")
    with pytest.raises(FactBroken, match=r"processes\.json of node node-one"):
        _ = kn.open(copy).pod("client").sandbox_pid
