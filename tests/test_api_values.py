"""Pods, Services, EndpointSlices and nodes: what kubectl would say of them."""
# ruff: noqa: E501 - a table reads best with a case on a line

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8snet_nb.errors import FactBroken
from k8snet_nb.parse.api import canonical_host, canonical_ip, human_duration
from k8snet_nb.parse.nodes import parse_node
from k8snet_nb.parse.pods import parse_pod
from k8snet_nb.parse.services import parse_service, parse_slice

RUNNING = {"running": {"startedAt": "2026-11-23T06:30:45Z"}}
READY = [{"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "True"}]


def pod(
    status: dict[str, Any], containers: int = 1, inits: tuple[dict[str, Any], ...] = (), **meta: Any
) -> dict[str, Any]:
    spec = {"containers": [{"name": f"c{i}"} for i in range(containers)], "initContainers": list(inits)}
    return {"metadata": {"namespace": "a", "name": "b", **meta}, "spec": spec, "status": status}


def state(kind: str, **fields: Any) -> dict[str, Any]:
    return {"name": "c0", "state": {kind: fields}, "ready": False, "restartCount": 0}


RUNS = {"name": "c0", "state": RUNNING, "ready": True, "restartCount": 2}
INIT = ({"name": "i0"}, {"name": "i1"})
SIDECAR = ({"name": "i0", "restartPolicy": "Always"},)


@pytest.mark.parametrize(
    ("item", "ready", "status", "restarts"),
    [
        (pod({"phase": "Running", "conditions": READY, "containerStatuses": [RUNS]}), "1/1", "Running", 2),
        (pod({"phase": "Pending"}), "0/1", "Pending", 0),
        (pod({"phase": "Pending", "containerStatuses": [state("waiting", reason="ContainerCreating")]}), "0/1", "ContainerCreating", 0),
        (pod({"phase": "Running", "containerStatuses": [state("waiting", reason="CrashLoopBackOff")]}), "0/1", "CrashLoopBackOff", 0),
        (pod({"phase": "Pending", "containerStatuses": [state("waiting", reason="ImagePullBackOff")]}), "0/1", "ImagePullBackOff", 0),
        (pod({"phase": "Succeeded", "containerStatuses": [state("terminated", reason="Completed", exitCode=0)]}), "0/1", "Completed", 0),
        (pod({"phase": "Failed", "containerStatuses": [state("terminated", reason="OOMKilled", exitCode=137)]}), "0/1", "OOMKilled", 0),
        (pod({"phase": "Failed", "containerStatuses": [state("terminated", exitCode=3)]}), "0/1", "ExitCode:3", 0),
        (pod({"phase": "Failed", "containerStatuses": [state("terminated", signal=9, exitCode=137)]}), "0/1", "Signal:9", 0),
        (pod({"phase": "Failed", "reason": "Evicted"}), "0/1", "Evicted", 0),
        (pod({"phase": "Running", "conditions": READY, "containerStatuses": [RUNS]}, deletionTimestamp="2026-11-23T06:30:45Z"), "1/1", "Terminating", 2),
        (pod({"phase": "Succeeded", "containerStatuses": [state("terminated", reason="Completed", exitCode=0)]}, deletionTimestamp="x"), "0/1", "Completed", 0),
        (pod({"phase": "Running", "reason": "NodeLost"}, deletionTimestamp="2026-11-23T06:30:45Z"), "0/1", "Unknown", 0),
        (pod({"phase": "Pending", "initContainerStatuses": [{"name": "i0", "state": RUNNING}, {"name": "i1", "state": {"waiting": {"reason": "PodInitializing"}}}]}, 1, INIT), "0/1", "Init:0/2", 0),
        (pod({"phase": "Pending", "initContainerStatuses": [{"name": "i0", "restartCount": 1, "state": {"terminated": {"exitCode": 0}}}, {"name": "i1", "restartCount": 4, "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}, 1, INIT), "0/1", "Init:Error", 5),
        (pod({"phase": "Pending", "initContainerStatuses": [{"name": "i0", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}, 1, INIT), "0/1", "Init:CrashLoopBackOff", 0),
        (pod({"phase": "Running", "conditions": READY, "initContainerStatuses": [{"name": "i0", "started": True, "ready": True, "restartCount": 1, "state": RUNNING}], "containerStatuses": [RUNS]}, 1, SIDECAR), "2/2", "Running", 3),
        (pod({"phase": "Running", "conditions": READY, "containerStatuses": [RUNS, state("terminated", reason="Completed", exitCode=0)]}, 2), "1/2", "Running", 2),
        (pod({"phase": "Running", "containerStatuses": [state("terminated", reason="Completed", exitCode=0), RUNS]}, 2), "1/2", "NotReady", 2),
        (pod({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}), "0/1", "SchedulingGated", 0),
        (pod({"phase": "Running", "conditions": READY, "initContainerStatuses": [{"name": "i0", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}], "containerStatuses": [RUNS]}, 1, SIDECAR), "1/2", "Init:CrashLoopBackOff", 5),
        (pod({"phase": "Running", "conditions": READY, "initContainerStatuses": [{"name": "i0", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}], "containerStatuses": [state("waiting", reason="ImagePullBackOff")]}, 1, SIDECAR), "0/2", "ImagePullBackOff", 0),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_kubectls_words(item: dict[str, Any], ready: str, status: str, restarts: int) -> None:
    value = parse_pod(item)
    assert (value.ready, value.status, value.restarts) == (ready, status, restarts)


def test_a_dual_stack_pod_has_both_addresses_in_their_canonical_spelling() -> None:
    value = parse_pod(
        pod({"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "FD00:0:0::1"}]})
    )
    assert value.ips == ("10.0.0.1", "fd00::1")
    assert canonical_ip("FD00:0:0::1") == "fd00::1"
    assert canonical_host("lb.example") == "lb.example"
    for wrong in ("not an address", "999.1.1.1", "1.2.3", "1.2.3.4.", None, 7.5):
        with pytest.raises(ValueError, match="does not appear"):
            canonical_ip(wrong)


def test_only_podip_is_enough() -> None:
    assert parse_pod(pod({"phase": "Running", "podIP": "10.0.0.1"})).ips == ("10.0.0.1",)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0s"), (-1, "0s"), (-5, "<invalid>"), (119, "119s"), (120, "2m"), (397, "6m37s"), (600, "10m"), (10_799, "179m"),
     (10_800, "3h"), (7 * 3600 + 60, "7h1m"), (8 * 3600, "8h"), (47 * 3600, "47h"), (48 * 3600, "2d"), (51 * 3600, "2d3h"),
     (8 * 86400, "8d"), (729 * 86400, "729d"), (731 * 86400, "2y1d"), (8 * 365 * 86400, "8y")],
)  # fmt: skip
def test_ages_as_kubectl_prints_them(seconds: int, words: str) -> None:
    assert human_duration(timedelta(seconds=seconds)) == words


@given(st.integers(0, 10**9))
def test_an_age_is_short_and_never_fails(seconds: int) -> None:
    assert 2 <= len(human_duration(timedelta(seconds=seconds))) <= 6


def service(spec: dict[str, Any], status: dict[str, Any] | None = None) -> Any:
    return parse_service({"metadata": {"namespace": "a", "name": "s"}, "spec": spec, "status": status})


@pytest.mark.parametrize(
    ("spec", "status", "cluster_ip", "external_ip"),
    [
        ({"clusterIP": "10.32.0.1"}, None, "10.32.0.1", None),
        ({"clusterIP": "None", "clusterIPs": ["None"]}, None, "None", None),
        ({"type": "ExternalName", "externalName": "example.com"}, None, None, "example.com"),
        ({"type": "LoadBalancer", "clusterIP": "10.32.0.1"}, None, "10.32.0.1", "<pending>"),
        ({"type": "LoadBalancer", "clusterIP": "10.32.0.1", "externalIPs": ["1.1.1.1"]}, {"loadBalancer": {"ingress": [{"ip": "2.2.2.2"}, {"hostname": "lb.example"}]}}, "10.32.0.1", "2.2.2.2,lb.example,1.1.1.1"),
        ({"type": "NodePort", "clusterIP": "10.32.0.1", "externalIPs": ["1.1.1.1"]}, None, "10.32.0.1", "1.1.1.1"),
    ],
)  # fmt: skip
def test_addresses_as_kubectl_prints_them(
    spec: dict, status: dict | None, cluster_ip: str | None, external_ip: str | None
) -> None:
    value = service(spec, status)
    assert (value.cluster_ip, value.external_ip) == (cluster_ip, external_ip)


def test_ports_policies_and_affinity() -> None:
    value = service(
        {
            "clusterIPs": ["10.32.0.1", "fd00::0:1"],
            "ports": [{"port": 80, "nodePort": 30080, "targetPort": "http"}, {"port": 53, "protocol": "UDP"}],
            "sessionAffinity": "ClientIP",
            "internalTrafficPolicy": "Local",
            "loadBalancerSourceRanges": ["10.0.0.0/8"],
        }
    )
    assert [str(port) for port in value.ports] == ["80:30080/TCP", "53/UDP"]
    assert value.cluster_ips == ("10.32.0.1", "fd00::1")
    assert value.families == (4, 6)
    assert (value.affinity_seconds, value.internal_policy, value.external_policy) == (10800, "Local", "Cluster")
    assert value.source_ranges == ("10.0.0.0/8",)


@pytest.mark.parametrize("port", [{"port": "x"}, {}, None, {"port": 80, "nodePort": "many"}])
def test_a_port_that_is_none(port: object) -> None:
    with pytest.raises(FactBroken, match="Service a/s: has a port"):
        service({"ports": [port]})


def piece(
    endpoints: Any, ports: Any = ({"port": 80},), kind: str = "IPv4", labels: dict[str, str] | None = None
) -> Any:
    meta = {"namespace": "a", "name": "s-1", "labels": labels or {}}
    return parse_slice({"metadata": meta, "addressType": kind, "endpoints": endpoints, "ports": ports})


@pytest.mark.parametrize(
    ("conditions", "word"),
    [
        (None, "ready"),
        ({}, "ready"),
        ({"ready": None}, "ready"),
        ({"ready": True, "serving": True, "terminating": False}, "ready"),
        ({"ready": False}, "not ready"),
        ({"ready": False, "terminating": True}, "serving"),
        ({"ready": False, "serving": True, "terminating": True}, "serving"),
        ({"ready": False, "serving": False, "terminating": True}, "terminating"),
    ],
)
def test_an_endpoints_three_conditions_in_a_word(conditions: dict | None, word: str) -> None:
    (endpoint,) = piece([{"addresses": ["10.0.0.1"], "conditions": conditions}]).endpoints
    assert endpoint.state == word


def test_a_slice_is_the_product_of_endpoints_and_ports_and_null_is_none() -> None:
    assert piece(None, None).endpoints == ()
    found = piece(
        [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}], [{"port": 1}, {"port": 2, "protocol": "SCTP"}]
    )
    assert [(e.address, e.port, e.protocol) for e in found.endpoints] == [
        ("10.0.0.1", 1, "TCP"), ("10.0.0.1", 2, "SCTP"), ("10.0.0.2", 1, "TCP"), ("10.0.0.2", 2, "SCTP"),
    ]  # fmt: skip
    assert [e.port for e in piece([{"addresses": ["10.0.0.1"]}], []).endpoints] == [None], (
        "a headless Service of any port"
    )


def test_whose_a_slice_is_and_what_its_endpoints_are() -> None:
    found = piece(
        [
            {"addresses": ["FD00::0:1"], "targetRef": {"kind": "Pod", "name": "p"}, "nodeName": "n"},
            {"addresses": ["fd00::2"], "targetRef": {"kind": "Node", "name": "p"}},
        ],
        kind="IPv6",
        labels={"kubernetes.io/service-name": "s"},
    )
    assert (found.service, found.type) == ("a/s", "IPv6")
    assert [(e.address, e.pod, e.node) for e in found.endpoints] == [("fd00::1", "a/p", "n"), ("fd00::2", None, None)]
    assert piece([]).service is None


@pytest.mark.parametrize("endpoints", [3, [3], [{"addresses": 7}], [{"addresses": ["x"], "hints": {"forZones": [1]}}]])
def test_a_slice_that_cannot_be_read(endpoints: object) -> None:
    with pytest.raises(FactBroken, match="EndpointSlice a/s-1"):
        piece(endpoints)


def test_nodes_as_kubectl_lists_them() -> None:
    def status(*conditions: str, **spec: Any) -> str:
        item = {
            "metadata": {"name": "n"},
            "spec": spec,
            "status": {"conditions": [{"type": "Ready", "status": c} for c in conditions]},
        }
        return parse_node(item).status

    assert [status("True"), status("False"), status("Unknown"), status()] == [
        "Ready",
        "NotReady",
        "NotReady",
        "Unknown",
    ]
    assert status("True", unschedulable=True) == "Ready,SchedulingDisabled"
    meta = {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "etcd"}}
    assert parse_node({"metadata": meta}).roles == ("control-plane", "etcd")


def test_times_are_aware() -> None:
    created = parse_pod(pod({"phase": "Running"}, creationTimestamp="2026-11-23T06:30:43Z")).created
    assert created == datetime(2026, 11, 23, 6, 30, 43, tzinfo=UTC)
