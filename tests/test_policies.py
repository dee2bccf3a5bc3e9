"""Which NetworkPolicies select a pod, by the API's own rules for selectors and policy types."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from edited import cluster

from k8snet_nb.explain.policies import policies_for, selects

LABELS = {"app": "web", "tier": "front"}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (None, True),
        ({}, True),
        ({"matchLabels": {}}, True),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "web", "tier": "back"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "api"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["api"]}]}, False),
        ({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}, False),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["api"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "zone", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "zone", "operator": "DoesNotExist"}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False),
        ({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, False),
    ],
)
def test_selectors(selector: Any, expected: bool) -> None:
    assert selects(selector, LABELS) is expected


def policy(name: str, namespace: str = "default", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


@pytest.fixture
def pod() -> Any:
    return dataclasses.replace(cluster().pod("default/client").value, labels=LABELS)


def test_directions(pod: Any) -> None:
    """Without policyTypes: ingress always, egress when the policy has a part for it."""
    policies = [
        policy("plain", podSelector={}),
        policy("with-egress", podSelector={}, egress=[]),
        policy("only-egress", podSelector={}, policyTypes=["Egress"]),
        policy("both", podSelector={"matchLabels": {"app": "web"}}, policyTypes=["Ingress", "Egress"]),
        policy("elsewhere", "shop", podSelector={}, policyTypes=["Ingress", "Egress"]),
        policy("others", podSelector={"matchLabels": {"app": "db"}}, policyTypes=["Ingress", "Egress"]),
    ]
    assert policies_for(policies, pod, "Ingress") == ("default/both", "default/plain", "default/with-egress")
    assert policies_for(policies, pod, "Egress") == ("default/both", "default/only-egress", "default/with-egress")
