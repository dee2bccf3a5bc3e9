"""Which NetworkPolicies select a pod. What they allow is enforced by the add-on and not evaluated here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from ..parse.pods import PodValue

__all__ = ["policies_for", "selects"]


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector (all of its matchLabels and matchExpressions) selects these labels; empty: all."""
    wanted = (selector or {}).get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_expression(one, labels) for one in (selector or {}).get("matchExpressions") or ())


def _expression(one: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, operator, values = str(one.get("key")), one.get("operator"), one.get("values") or ()
    if operator == "Exists":
        return key in labels
    if operator == "DoesNotExist":
        return key not in labels
    if operator == "NotIn":
        return labels.get(key) not in values
    return key in labels and labels[key] in values


def policies_for(
    policies: Iterable[Mapping[str, Any]], pod: PodValue, direction: Literal["Ingress", "Egress"]
) -> tuple[str, ...]:
    """``namespace/name`` of the policies that select the pod for that direction (networking.k8s.io/v1)."""
    found = []
    for policy in policies:
        meta, spec = policy["metadata"], policy.get("spec") or {}
        types = spec.get("policyTypes") or (["Ingress", "Egress"] if "egress" in spec else ["Ingress"])
        same = meta.get("namespace", "default") == pod.namespace
        if same and direction in types and selects(spec.get("podSelector"), pod.labels):
            found.append(f"{meta.get('namespace', 'default')}/{meta['name']}")
    return tuple(sorted(found))
