"""What keeps agents from starting and what they may: rights, refusals, waiting."""

from __future__ import annotations

import re
import signal
import threading
import time

import live_agents
import pytest
import yaml
from api_server import FakeCluster
from live_agents import ROOT, opened, said, soon
from needs import need

import k8snet_nb as kn
from k8snet_nb.errors import FactMissing
from k8snet_nb.facts import API_RESOURCES, FactRef
from k8snet_nb.sources.agent_manifest import AgentSettings, job_manifest
from k8snet_nb.sources.agent_pods import clean

pytestmark = need(root=True, commands=["ip", "nsenter", "openssl"], modules=["kubernetes"])
spaces, server = live_agents.spaces, live_agents.server


@pytest.mark.parametrize(
    ("method", "part", "words"),
    [
        ("POST", "/jobs", r"verb create on jobs.batch in namespace k8snet.*create role k8snet-jobs --verb=create"),
        ("POST", "/api/v1/namespaces", r"verb create on namespaces.*create clusterrole"),
        ("GET", "/exec", r"verbs get and create on pods/exec.*--resource=pods/exec"),
        ("GET", "/k8snet/pods", r"verb list on pods in namespace k8snet"),
    ],
)
def test_a_refusal_names_verb_and_resource(server: FakeCluster, method: str, part: str, words: str) -> None:
    server.denied.add((method, part))
    why = said()
    assert re.search(words, why), why


def test_pod_security_is_named(server: FakeCluster) -> None:
    server.pod_security = True
    why = said()
    assert "Pod Security refuses it" in why
    assert "pod-security.kubernetes.io/enforce=privileged" in why


def test_an_image_that_does_not_come_is_named(server: FakeCluster) -> None:
    server.waiting = ("ImagePullBackOff", "Back-off pulling image")
    why = said(image="registry.example/none:1")
    assert "registry.example/none:1" in why
    assert "ImagePullBackOff" in why
    assert "Python 3.9" in why


def test_an_image_without_python_is_named(server: FakeCluster) -> None:
    server.waiting = ("RunContainerError", 'exec: "python3": executable file not found in $PATH')
    assert "has no python3" in said()


@pytest.mark.parametrize("how", ["watched", "forbidden", "expired"])
def test_a_pod_that_takes_its_time_is_waited_for(server: FakeCluster, how: str) -> None:
    server.late = 1.5
    if how == "forbidden":
        server.denied.add(("WATCH", "/pods"))
    server.forgotten = 100 if how == "expired" else 0
    begun = time.monotonic()
    cluster, source = opened(agents=["node-one"])
    with source:
        assert cluster.node("node-one").links()
    asked = [line for line, _ in server.seen if "/pods?" in line]
    assert len([line for line in asked if "watch=" not in line]) <= (4 if how == "watched" else 10)
    assert any("resourceVersion=" in line for line in asked)
    assert time.monotonic() - begun < 8


def test_a_busy_server_is_asked_again_for_agents_too(server: FakeCluster) -> None:
    _, source = opened(agents=[])
    for script in ([429, 503], [200, 503, 429], [200, 200, 503], [200, 200, 200, 503]):
        with source:
            server.script = [*script]
            assert source.start_agents(["node-one"]) == {}
            assert server.script == []


def test_a_namespace_that_is_being_deleted_is_waited_for(server: FakeCluster) -> None:
    server.namespaces["k8snet"] = {"metadata": {"name": "k8snet"}, "status": {"phase": "Terminating"}}
    threading.Timer(1.2, lambda: server.namespaces.pop("k8snet")).start()
    _, source = opened(agents=["node-one"])
    with source:
        assert source.nodes() == ("node-one",)
    assert server.made[0] == "Namespace k8snet"


def test_the_start_of_agents_can_be_interrupted(server: FakeCluster) -> None:
    server.waiting = ("ContainerCreating", "")
    _, source = opened(agents=[])
    threading.Timer(0.8, signal.raise_signal, [signal.SIGINT]).start()
    begun = time.monotonic()
    with source, pytest.raises(KeyboardInterrupt):
        source.start_agents()
    assert time.monotonic() - begun < 5
    assert soon(lambda: not [t for t in threading.enumerate() if t.name.startswith("k8snet nodes")])
    assert soon(lambda: server.jobs == {})


def test_a_pod_that_does_not_come_up_in_time(server: FakeCluster) -> None:
    server.waiting = ("ContainerCreating", "")
    assert "not running after 0.5 seconds" in said(patience=0.5)


def test_one_node_that_fails_does_not_keep_the_other(server: FakeCluster, spaces: dict[str, str]) -> None:
    server.nodes = {**spaces, "node-two": "no-such-namespace"}
    cluster, source = opened()
    with source:
        assert source.nodes() == ("node-one",)
        assert cluster.node("node-one").links()
        with pytest.raises(FactMissing, match="node-two"):
            cluster.node("node-two").links()


def test_the_manifest_asks_for_no_more_than_it_says() -> None:
    job = job_manifest("node-one", AgentSettings())
    pod = job["spec"]["template"]["spec"]
    assert "volumes" not in pod
    assert "privileged" not in pod["containers"][0]["securityContext"]
    assert pod["nodeName"] == "node-one"
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert not pod["automountServiceAccountToken"]
    assert job["spec"]["ttlSecondsAfterFinished"] > 0
    assert job["spec"]["activeDeadlineSeconds"] > 0


RESOURCES = {"jobs": "batch", "endpointslices": "discovery.k8s.io", "networkpolicies": "networking.k8s.io",
             "servicecidrs": "networking.k8s.io"}  # fmt: skip


def rules_of(*names: str) -> set[tuple[str | None, str, str, str]]:
    """(namespace or None, API group, resource, verb) that the manifests allow."""
    found = set()
    for name in names:
        for made in yaml.safe_load_all((ROOT / "deploy" / name).read_text()):
            if made["kind"] in ("Role", "ClusterRole"):
                for rule in made["rules"]:
                    found |= {
                        (made["metadata"].get("namespace"), group, resource, verb)
                        for group in rule["apiGroups"]
                        for resource in rule["resources"]
                        for verb in rule["verbs"]
                    }
    return found


def needed(line: str) -> tuple[str | None, str, str, str] | None:
    """What right a request needs; None for those that everybody who is logged in has."""
    method, _, path = line.partition(" ")
    parts = path.split("?")[0].strip("/").split("/")
    if parts == ["version"] or parts[-1] == "selfsubjectreviews":
        return None
    group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
    namespace = None
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    resource = "/".join([rest[0], *rest[2:]])
    reading = "get" if len(rest) > 1 else "watch" if "watch=" in path else "list"
    verb = {"GET": reading, "POST": "create", "DELETE": "delete"}[method]
    return namespace, group, resource, verb


def test_the_manifests_allow_what_is_asked_and_no_more(server: FakeCluster) -> None:
    reading, agents = rules_of("rbac-read-only.yaml"), rules_of("rbac.yaml")
    server.namespaces["k8snet"] = {"metadata": {"name": "k8snet"}}
    cluster = kn.open("live")
    for resource in API_RESOURCES:
        cluster.source.read(FactRef(resource))
    asked = {right for line, _ in server.seen if (right := needed(line))}
    assert asked <= reading
    assert {(n, g, r) for n, g, r, _ in reading} == {(n, g, r) for n, g, r, _ in asked}
    server.seen.clear()
    server.pod_security = True
    said()
    server.pod_security = False
    server.late = 0.5
    _, source = opened(agents=["node-one"])
    source.close()
    server.late = 0.0
    _, source = opened(agents=["node-two"])
    server.jobs[next(iter(server.jobs))]["status"] = {"conditions": [{"type": "Failed", "status": "True"}]}
    _, again = opened(agents=["node-two"])
    again.close()
    source.close()
    clean(source.api.connection, "k8snet")
    asked = {right for line, _ in server.seen if (right := needed(line))}
    asked.add(("k8snet", "", "pods/exec", "create"))  # what newer servers check the same request as
    assert asked - reading - {(None, "", "namespaces", "get")} <= agents
    assert agents <= asked
    assert (None, "", "namespaces", "get") in reading
