"""The names that notebooks and users rely on: each is there, is documented, and answers on the bundled recording.

The list is kept by hand: a name may be added, and one that goes must go here too, with a line in the changelog.
"""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pandas as pd
import pytest

import k8snet_nb as kn

ANSWERS: dict[str, tuple[Callable[[kn.Cluster], Any], str]] = {
    "Cluster": (
        lambda c: c,
        "pods services service nodes node pod who translate compare walk drift findings record diff",
    ),
    "Node": (lambda c: c.node("node-one"), "proxy_mode proxy_mode_evidence conntrack conntrack_usage flows"),
    "Pod": (
        lambda c: c.pod("default/client"),
        "ip ips node uid host_network sandbox_pid netns interfaces veth run search_expansion resolve",
    ),
    "VethPair": (lambda c: c.pod("default/client").veth(), "pod_interface node_interface master evidence"),
    "Query": (lambda c: c.pod("default/client").search_expansion("hello-world")[0], "name type"),
    "DnsAnswer": (
        lambda c: c.pod("default/client").resolve("kubernetes.default"),
        "rcode records server queries evidence",
    ),
    "ConntrackTable": (lambda c: c.node("node-one").conntrack(), "frame"),
    "ConntrackUsage": (lambda c: c.node("node-one").conntrack_usage(), "count maximum fraction buckets drops"),
    "Translation": (
        lambda c: c.translate("default/hello-world", port="http", node="node-one"),
        "mode action backends draining masquerade affinity scheduler by_client steps evidence",
    ),
    "Backend": (
        lambda c: c.translate("default/hello-world", port="http", node="node-one").backends[0],
        "address port probability weight pod node",
    ),
}

FRAMES: dict[str, tuple[Callable[[kn.Cluster], pd.DataFrame], str]] = {
    "pods": (lambda c: c.pods(), "namespace name ready status phase restarts age ip ips node host_network"),
    "services": (lambda c: c.services(), "namespace name type cluster_ip external_ip ports"),
    "interfaces": (
        lambda c: c.pod("default/client").interfaces(),
        "ifindex name kind mtu mac addresses peer_ifindex peer_nsid",
    ),
    "drift": (lambda c: c.drift(), "code severity node service port protocol family missing extra"),
    "findings": (lambda c: c.findings(), "code severity node service evidence"),
    "conntrack": (
        lambda c: c.node("node-one").conntrack().frame,
        """family protocol state timeout orig_src orig_dst orig_sport orig_dport reply_src reply_dst reply_sport
        reply_dport flags mark id orig_packets orig_bytes reply_packets reply_bytes icmp_type icmp_code icmp_id
        zone labels start""",
    ),
    "flows": (lambda c: c.node("node-one").flows(), "orig_dst client service backend nat verdict"),
}

PARAMETERS = {
    "translate": "service port node entry family client",
    "compare": "service",
    "walk": "src dst protocol port node",
    "drift": "node",
    "record": "path",
    "diff": "other",
    "who": "address",
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_the_names_are_there_and_documented(kind: str, hello: kn.Cluster) -> None:
    of, names = ANSWERS[kind]
    value = of(hello)
    assert type(value).__name__ == kind
    told = inspect.getdoc(type(value)) or ""
    assert told
    for name in names.split():
        assert hasattr(value, name), f"{kind}.{name} is gone"
        own = getattr(type(value), name, None)
        documented = callable(own) or isinstance(own, property)
        assert inspect.getdoc(own) if documented else f"``{name}``" in told, f"{kind}.{name}"


@pytest.mark.parametrize("table", FRAMES)
def test_tables_have_their_columns(table: str, hello: kn.Cluster) -> None:
    of, columns = FRAMES[table]
    assert set(columns.split()) <= set(of(hello).columns)


@pytest.mark.parametrize("method", PARAMETERS)
def test_parameters_keep_their_names_and_order(method: str) -> None:
    given = list(inspect.signature(getattr(kn.Cluster, method)).parameters)[1:]
    wanted = PARAMETERS[method].split()
    assert given[: len(wanted)] == wanted


def test_what_kinds_of_values_they_are(hello: kn.Cluster) -> None:
    pod = hello.pod("default/client")
    assert (type(pod.ip), type(pod.node), type(pod.sandbox_pid), type(pod.netns)) == (str, str, int, int)
    answer = hello.translate("default/hello-world", port="http", node="node-one")
    assert all(isinstance(backend.probability, Fraction) for backend in answer.backends)
    assert (answer.mode, answer.action) == ("iptables", "dnat")
    assert all(query.name.endswith(".") for query in pod.search_expansion("hello-world", libc="musl"))
    assert len(hello.node("node-one").conntrack()) == len(hello.node("node-one").conntrack().frame)


@pytest.mark.parametrize("name", kn.__all__)
def test_each_exported_name_is_there_and_documented(name: str) -> None:
    assert inspect.getdoc(getattr(kn, name)), name
    assert callable(getattr(kn, name)) or name == "errors"
    assert name in dir(kn)


@pytest.mark.parametrize("room", ["k8snet_nb.show", "k8snet_nb.cluster", "k8snet_nb.record"])
def test_what_a_room_loads_late_is_there(room: str) -> None:
    module = importlib.import_module(room)
    for _ in range(2):  # once all are loaded, a module of the same name would stand in the way
        assert all(callable(getattr(module, name)) for name in module.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = module.nothing


def test_a_late_name_can_be_the_first_that_is_asked_for() -> None:
    code = "import k8snet_nb as kn; kn.draw_journey; kn.Pod; kn.conntrack_live; kn.panel"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
