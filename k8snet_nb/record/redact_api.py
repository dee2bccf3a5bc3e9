"""What a redacted recording keeps of the API's objects: a list of fields, and how each is renamed. The rest is left out.

A field that is not listed is not written: what a later Kubernetes adds does not leak until somebody has looked at it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .addresses import AddressMap
from .pseudonyms import Pseudonyms

__all__ = ["ApiRedaction"]

Leaf = Callable[[Any], Any]
_LABELS = {
    "kubernetes.io/os", "kubernetes.io/arch", "beta.kubernetes.io/os", "beta.kubernetes.io/arch", "kubernetes.io/role",
    "endpointslice.kubernetes.io/managed-by", "service.kubernetes.io/headless", "k8s-app", "type",
}  # fmt: skip
_NAMED_LABELS = {
    "kubernetes.io/hostname", "kubernetes.io/metadata.name", "kubernetes.io/service-name", "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region",
}  # fmt: skip
_KEPT_VALUES = {"kube-dns", "coredns", "kube-proxy", "node-local-dns", "virtual-kubelet"}
_NOTES = {"kubernetes.io/config.hash", "kubernetes.io/config.mirror"}


class ApiRedaction:
    """Redacts items of the API's Lists."""

    def __init__(
        self, names: Pseudonyms, addresses: AddressMap, text: Callable[[str], str], keep_labels: frozenset[str]
    ) -> None:
        self.names, self.addresses, self.prose = names, addresses, text
        self._kept = keep_labels | _LABELS
        self.selected: set[str] = set()
        """Keys of labels that a selector of a Service or policy names: they are renamed, not left out."""
        self._schemas = self._make()

    def item(self, resource: str, item: Mapping[str, Any]) -> dict[str, Any] | None:
        """One object under the new names; None for one that is left out as a whole."""
        name = (item.get("metadata") or {}).get("name")
        if resource == "configmaps" and name not in ("coredns", "kube-proxy"):
            return None
        told = self._walk(self._schemas[resource], item)
        return told if isinstance(told, dict) else None

    def _walk(self, schema: Any, value: Any) -> Any:
        if value is None:
            return None
        if isinstance(schema, dict):
            if not isinstance(value, Mapping):
                return None
            return {key: self._walk(schema[key], value[key]) for key in value if key in schema}
        if isinstance(schema, list):
            return [self._walk(schema[0], one) for one in value] if isinstance(value, list) else None
        return schema(value)

    def _name(self, value: Any) -> str:
        return self.names.name(str(value))

    def _label_map(self, labels: Any) -> dict[str, str]:
        found = {}
        for key, value in (labels or {}).items():
            if key in self._kept or key.startswith("node-role.kubernetes.io/"):
                found[key] = value if key in _LABELS or value in _KEPT_VALUES else self.names.name(str(value), "value")
                if key == "k8s-app" and value not in _KEPT_VALUES:
                    found[key] = self.names.name(str(value), "value")
            elif key in _NAMED_LABELS:
                found[key] = self._name(value)
            elif key in self.selected:
                found[self.label_key(key)] = self.names.name(str(value), "value")
        return found

    def label_key(self, key: str) -> str:
        """The key of a label outside the list, under its new name."""
        return key if key in self._kept or key in _NAMED_LABELS else f"label-{self.names.digest(f'label {key}', 6)}"

    def _selector(self, selector: Any) -> dict[str, str]:
        return self._label_map(selector) if isinstance(selector, Mapping) else {}

    def _label_selector(self, selector: Any) -> dict[str, Any]:
        told: dict[str, Any] = {}
        if selector.get("matchLabels"):
            told["matchLabels"] = self._label_map(selector["matchLabels"])
        if selector.get("matchExpressions"):
            told["matchExpressions"] = [
                {"key": self.label_key(str(one.get("key"))), "operator": one.get("operator"),
                 "values": [self.names.name(str(v), "value") for v in one.get("values") or ()]}
                for one in selector["matchExpressions"]
            ]  # fmt: skip
        return told

    def _notes(self, notes: Any) -> dict[str, str]:
        return {key: self.names.marks(str(value)) for key, value in (notes or {}).items() if key in _NOTES}

    def _domain(self, value: Any) -> str:
        return self.prose(str(value)) if _is_address(value) else self.names.domain(str(value))

    def _mark(self, value: Any) -> str:
        head, separator, rest = str(value).rpartition("://")
        return head + separator + self.names.marks(rest)

    def _make(self) -> dict[str, Any]:
        keep: Leaf = lambda value: value if isinstance(value, (str, int, float, bool)) else None  # noqa: E731
        name, mark, domain = self._name, self._mark, self._domain
        address: Leaf = lambda value: self.addresses.text(str(value))  # noqa: E731
        conditions = [{"type": keep, "status": keep, "reason": keep, "lastTransitionTime": keep}]
        owner = [{"apiVersion": keep, "kind": keep, "name": name, "uid": mark, "controller": keep}]
        meta = {
            "name": name, "generateName": lambda _value: None, "namespace": name, "uid": mark, "creationTimestamp": keep,
            "deletionTimestamp": keep, "deletionGracePeriodSeconds": keep, "labels": self._label_map,
            "annotations": self._notes, "ownerReferences": owner,
        }  # fmt: skip
        meta.pop("generateName")
        state = {
            "running": {"startedAt": keep},
            "waiting": {"reason": keep},
            "terminated": {"reason": keep, "exitCode": keep, "signal": keep, "startedAt": keep, "finishedAt": keep},
        }
        status = [{
            "name": name, "ready": keep, "restartCount": keep, "started": keep, "containerID": mark, "state": state,
            "lastState": state,
        }]  # fmt: skip
        ports = [{"name": keep, "containerPort": keep, "hostPort": keep, "protocol": keep}]
        container = [{"name": name, "ports": ports, "restartPolicy": keep}]
        dns = {"nameservers": [address], "searches": [domain], "options": [{"name": keep, "value": keep}]}
        pod = {
            "metadata": meta,
            "spec": {
                "nodeName": name, "hostNetwork": keep, "hostPID": keep, "hostname": name, "subdomain": name,
                "dnsPolicy": keep, "dnsConfig": dns, "restartPolicy": keep, "containers": container,
                "initContainers": container, "readinessGates": [{"conditionType": keep}], "schedulingGates": [{}],
                "setHostnameAsFQDN": keep,
            },
            "status": {
                "phase": keep, "reason": keep, "conditions": conditions, "podIP": address, "podIPs": [{"ip": address}],
                "hostIP": address, "hostIPs": [{"ip": address}], "startTime": keep, "containerStatuses": status,
                "initContainerStatuses": status, "qosClass": keep,
            },
        }  # fmt: skip
        info = ("kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion", "kubeProxyVersion",
                "architecture", "operatingSystem")  # fmt: skip
        node = {
            "metadata": meta,
            "spec": {"podCIDR": address, "podCIDRs": [address], "unschedulable": keep},
            "status": {
                "addresses": [{"type": keep, "address": domain}], "conditions": conditions,
                "nodeInfo": dict.fromkeys(info, keep),
            },
        }  # fmt: skip
        service = {
            "metadata": meta,
            "spec": {
                "type": keep, "clusterIP": address, "clusterIPs": [address], "externalIPs": [address],
                "ports": [{"name": keep, "port": keep, "protocol": keep, "targetPort": keep, "nodePort": keep,
                           "appProtocol": keep}],
                "selector": self._selector, "externalTrafficPolicy": keep, "internalTrafficPolicy": keep,
                "sessionAffinity": keep, "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": keep}},
                "ipFamilies": [keep], "ipFamilyPolicy": keep, "healthCheckNodePort": keep, "loadBalancerIP": address,
                "loadBalancerSourceRanges": [address], "publishNotReadyAddresses": keep, "trafficDistribution": keep,
                "allocateLoadBalancerNodePorts": keep, "externalName": domain,
            },
            "status": {"loadBalancer": {"ingress": [{"ip": address, "hostname": domain, "ipMode": keep}]}},
        }  # fmt: skip
        endpoint = {
            "addresses": [domain], "conditions": {"ready": keep, "serving": keep, "terminating": keep},
            "nodeName": name, "zone": name, "hostname": name,
            "hints": {"forZones": [{"name": name}], "forNodes": [{"name": name}]},
            "targetRef": {"kind": keep, "name": name, "namespace": name, "uid": mark},
        }  # fmt: skip
        slices = {
            "metadata": meta, "addressType": keep, "endpoints": [endpoint],
            "ports": [{"name": keep, "port": keep, "protocol": keep, "appProtocol": keep}],
        }  # fmt: skip
        peer = [{
            "ipBlock": {"cidr": address, "except": [address]}, "podSelector": self._label_selector,
            "namespaceSelector": self._label_selector,
        }]  # fmt: skip
        rule_ports = [{"port": keep, "endPort": keep, "protocol": keep}]
        policy = {
            "metadata": meta,
            "spec": {
                "podSelector": self._label_selector, "policyTypes": [keep], "ingress": [{"from": peer, "ports": rule_ports}],
                "egress": [{"to": peer, "ports": rule_ports}],
            },
        }  # fmt: skip
        return {
            "pods": pod,
            "nodes": node,
            "services": service,
            "endpointslices": slices,
            "networkpolicies": policy,
            "namespaces": {"metadata": meta, "status": {"phase": keep}},
            "servicecidrs": {"metadata": meta, "spec": {"cidrs": [address]}},
            "configmaps": {"metadata": meta, "data": self._data},
        }

    def _data(self, data: Any) -> dict[str, str]:
        return {
            key: self.prose(str(value)) for key, value in (data or {}).items() if key in ("Corefile", "config.conf")
        }


def _is_address(value: Any) -> bool:
    return str(value).replace(".", "").isdigit() or ":" in str(value)
