"""DNS asked for a recording: by the agent, out of a pod's own namespace, at a real server of this kernel."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dns_place import LIAR, SERVER, UID, Place, dns_place
from kernel_nodes import PREFIX
from needs import need

import k8snet_nb as kn
from k8snet_nb.record import check_recording, record

pytestmark = [
    need(root=True, commands=["ip", "bash", "dnsmasq", "unshare", "mount"], kernel=["veth", "bridge"]),
    pytest.mark.slow,
]
HOSTS = (
    f"{SERVER} kube-dns.kube-system.svc.cluster.local",
    "10.9.0.1 kubernetes.default.svc.cluster.local",
    "10.9.0.7 web.default.svc.cluster.local",
)


def service(key: str, address: str, **port: Any) -> dict[str, Any]:
    namespace, name = key.split("/")
    spec = {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "ports": [port]}
    return {"metadata": {"namespace": namespace, "name": name, "uid": name}, "spec": spec, "status": {}}


def lists(resource: str) -> bytes:
    """The API of a cluster with one pod and a DNS Service of two servers, one of which lies."""
    dns = {"name": "dns", "port": 53, "protocol": "UDP"}
    pod = {
        "metadata": {"namespace": "default", "name": "asker", "uid": UID},
        "spec": {"nodeName": PREFIX},
        "status": {"phase": "Running", "podIP": "10.91.0.2", "podIPs": [{"ip": "10.91.0.2"}]},
    }
    meta = {"namespace": "kube-system", "name": "kube-dns-1", "labels": {"kubernetes.io/service-name": "kube-dns"}}
    endpoints = [{"addresses": [address], "conditions": {"ready": True}} for address in (SERVER, LIAR)]
    items = {
        "nodes": [{"metadata": {"name": PREFIX}, "status": {}}],
        "pods": [pod],
        "services": [
            service("kube-system/kube-dns", SERVER, **dns),
            service("default/kubernetes", "10.9.0.1", port=443),
            service("default/web", "10.9.0.7", name="http", port=80),
        ],
        "endpointslices": [{"metadata": meta, "addressType": "IPv4", "endpoints": endpoints, "ports": [dns]}],
    }
    return json.dumps({"kind": "List", "items": items.get(resource, [])}).encode()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with dns_place(tmp_path_factory.mktemp("dns"), HOSTS, "cluster.local", lists) as made:
        made.write(SERVER, search="default.svc.cluster.local svc.cluster.local cluster.local")
        yield made


def test_what_was_asked_is_answered_from_the_recording(place: Place, tmp_path: Path) -> None:
    told = record(place.source, tmp_path / "out.tar.gz")
    read = kn.open(tmp_path / "out.tar.gz")
    assert check_recording(tmp_path / "out.tar.gz").good
    assert f"{PREFIX}/pods/default/asker/dns.jsonl" not in told.missing
    live, mine = place.cluster.pod("default/asker"), read.pod("default/asker")
    for name in ("web", "kubernetes.default", "kube-dns.kube-system", "no-such.default.svc.cluster.local."):
        before, after = live.resolve(name), mine.resolve(name)
        assert (after.outcome, after.rcode, after.addresses) == (before.outcome, before.rcode, before.addresses), name
        assert {each.server for each in after.queries} == {SERVER}
    assert mine.resolve("7.0.9.10.in-addr.arpa.", types="PTR").records[0].text == HOSTS[2].split()[1] + "."
    found = read.dns_replicas(pod="default/asker")
    assert {row.server: row.reply.status for row in found.rows if row.transport == "udp"} == {
        SERVER: "answered",
        LIAR: "silent",
    }


def test_it_left_no_process_and_no_namespace(place: Place, tmp_path: Path) -> None:
    before = subprocess.run(["ip", "netns"], check=True, capture_output=True).stdout
    record(place.source, tmp_path / "out")
    assert subprocess.run(["ip", "netns"], check=True, capture_output=True).stdout == before
    assert place.source._agent.alive
