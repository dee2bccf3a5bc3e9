"""Pods from within, as a notebook asks: on the bundled recording."""

from __future__ import annotations

import pytest

import k8snet_nb as kn
from k8snet_nb.errors import FactMissing, Refused

CLUSTER = kn.open()


def test_a_pods_chain_of_evidence() -> None:
    pod = CLUSTER.pod("default/client")
    assert (pod.sandbox_pid, pod.netns) == (685, 4026532919)
    assert list(pod.interfaces()["name"]) == ["lo", "eth0"]
    pair = pod.veth()
    assert pair
    assert (pair.node_interface.name, pair.master) == ("veth5255f3bf", "cni0")
    assert "veth5255f3bf" in str(pair)
    assert "lsns" in str(pair)
    assert "default" not in set(pod.routes()["network"])
    assert "0.0.0.0/0" in set(pod.routes()["network"])
    assert "/pause" in str(pod.sandbox())


def test_point_to_point_host_network_and_pending() -> None:
    pair = CLUSTER.pod("default/client-two").veth()
    assert pair
    assert pair.master is None
    assert str(pair.route.network) == "10.244.3.7/32"
    watch = CLUSTER.pod("kube-system/node-watch-74fwx")
    assert watch.veth().reason == "host_network"
    assert watch.sandbox().host_network
    assert "cni0" in set(watch.interfaces()["name"])
    assert "cni0" in watch.run(["ip", "link"]).stdout
    pending = CLUSTER.pod("kube-system/node-watch-8zf8j")
    assert pending.netns is None
    assert not pending.veth()
    with pytest.raises(FactMissing, match="on no node yet"):
        pending.interfaces()
    with pytest.raises(Refused, match="on no node yet"):
        pending.run(["ip", "addr"])


def test_node_interfaces_name_their_pods() -> None:
    frame = CLUSTER.node("node-one").interfaces().set_index("name")
    assert frame.loc["veth5255f3bf", "pod"] == "default/client"
    assert frame.loc["cni0", "pod"] is None
    assert frame.loc["cni0", "kind"] == "bridge"


def test_running_is_rendered_or_refused() -> None:
    pod = CLUSTER.pod("default/client")
    assert "eth0@if7" in pod.run(["ip", "addr"]).stdout
    assert pod.run(["cat", "/etc/resolv.conf"]).stdout.startswith("search default")
    with pytest.raises(Refused, match="ip rule"):
        pod.run(["ping", "10.0.0.1"])
