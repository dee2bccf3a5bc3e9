"""The fields of the API's objects that a redacted recording keeps, and what becomes of each.

A mapping is an object, a list with one entry a list of such, a word a way of renaming (:mod:`.redact_api` has them).
A field that is not listed is not written: what a later Kubernetes adds does not leak until somebody has looked at it.
"""

from __future__ import annotations

from typing import Any

__all__ = ["FIELDS"]

KEEP, NAME, MARK, DOMAIN, ADDRESS = "keep", "name", "mark", "domain", "address"
LABELS, NOTES, SELECTOR, DATA = "labels", "notes", "selector", "data"

_CONDITIONS = [{"type": KEEP, "status": KEEP, "reason": KEEP, "lastTransitionTime": KEEP}]
_OWNER = [{"apiVersion": KEEP, "kind": KEEP, "name": NAME, "uid": MARK, "controller": KEEP}]
_META = {
    "name": NAME, "namespace": NAME, "uid": MARK, "creationTimestamp": KEEP,
    "deletionTimestamp": KEEP, "deletionGracePeriodSeconds": KEEP, "labels": LABELS,
    "annotations": NOTES, "ownerReferences": _OWNER,
}  # fmt: skip
_STATE = {
    "running": {"startedAt": KEEP},
    "waiting": {"reason": KEEP},
    "terminated": {"reason": KEEP, "exitCode": KEEP, "signal": KEEP, "startedAt": KEEP, "finishedAt": KEEP},
}
_STATUS = [{
    "name": NAME, "ready": KEEP, "restartCount": KEEP, "started": KEEP, "containerID": MARK, "state": _STATE,
    "lastState": _STATE,
}]  # fmt: skip
_PORTS = [{"name": KEEP, "containerPort": KEEP, "hostPort": KEEP, "protocol": KEEP}]
_CONTAINER = [{"name": NAME, "ports": _PORTS, "restartPolicy": KEEP}]
_DNS = {"nameservers": [ADDRESS], "searches": [DOMAIN], "options": [{"name": KEEP, "value": KEEP}]}
_POD = {
    "metadata": _META,
    "spec": {
        "nodeName": NAME, "hostNetwork": KEEP, "hostPID": KEEP, "hostname": NAME, "subdomain": NAME,
        "dnsPolicy": KEEP, "dnsConfig": _DNS, "restartPolicy": KEEP, "containers": _CONTAINER,
        "initContainers": _CONTAINER, "readinessGates": [{"conditionType": KEEP}], "schedulingGates": [{}],
        "setHostnameAsFQDN": KEEP,
    },
    "status": {
        "phase": KEEP, "reason": KEEP, "conditions": _CONDITIONS, "podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}],
        "hostIP": ADDRESS, "hostIPs": [{"ip": ADDRESS}], "startTime": KEEP, "containerStatuses": _STATUS,
        "initContainerStatuses": _STATUS, "qosClass": KEEP,
    },
}  # fmt: skip
_INFO = ("kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion", "kubeProxyVersion",
        "architecture", "operatingSystem")  # fmt: skip
_NODE = {
    "metadata": _META,
    "spec": {"podCIDR": ADDRESS, "podCIDRs": [ADDRESS], "unschedulable": KEEP},
    "status": {
        "addresses": [{"type": KEEP, "address": DOMAIN}], "conditions": _CONDITIONS,
        "nodeInfo": dict.fromkeys(_INFO, KEEP),
    },
}  # fmt: skip
_SERVICE = {
    "metadata": _META,
    "spec": {
        "type": KEEP, "clusterIP": ADDRESS, "clusterIPs": [ADDRESS], "externalIPs": [ADDRESS],
        "ports": [{"name": KEEP, "port": KEEP, "protocol": KEEP, "targetPort": KEEP, "nodePort": KEEP,
                   "appProtocol": KEEP}],
        "selector": LABELS, "externalTrafficPolicy": KEEP, "internalTrafficPolicy": KEEP,
        "sessionAffinity": KEEP, "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": KEEP}},
        "ipFamilies": [KEEP], "ipFamilyPolicy": KEEP, "healthCheckNodePort": KEEP, "loadBalancerIP": ADDRESS,
        "loadBalancerSourceRanges": [ADDRESS], "publishNotReadyAddresses": KEEP, "trafficDistribution": KEEP,
        "allocateLoadBalancerNodePorts": KEEP, "externalName": DOMAIN,
    },
    "status": {"loadBalancer": {"ingress": [{"ip": ADDRESS, "hostname": DOMAIN, "ipMode": KEEP}]}},
}  # fmt: skip
_ENDPOINT = {
    "addresses": [DOMAIN], "conditions": {"ready": KEEP, "serving": KEEP, "terminating": KEEP},
    "nodeName": NAME, "zone": NAME, "hostname": NAME,
    "hints": {"forZones": [{"name": NAME}], "forNodes": [{"name": NAME}]},
    "targetRef": {"kind": KEEP, "name": NAME, "namespace": NAME, "uid": MARK},
}  # fmt: skip
_SLICES = {
    "metadata": _META, "addressType": KEEP, "endpoints": [_ENDPOINT],
    "ports": [{"name": KEEP, "port": KEEP, "protocol": KEEP, "appProtocol": KEEP}],
}  # fmt: skip
_PEER = [{
    "ipBlock": {"cidr": ADDRESS, "except": [ADDRESS]}, "podSelector": SELECTOR,
    "namespaceSelector": SELECTOR,
}]  # fmt: skip
_RULE_PORTS = [{"port": KEEP, "endPort": KEEP, "protocol": KEEP}]
_POLICY = {
    "metadata": _META,
    "spec": {
        "podSelector": SELECTOR, "policyTypes": [KEEP],
        "ingress": [{"from": _PEER, "ports": _RULE_PORTS}], "egress": [{"to": _PEER, "ports": _RULE_PORTS}],
    },
}  # fmt: skip

FIELDS: dict[str, Any] = {
    "pods": _POD,
    "nodes": _NODE,
    "services": _SERVICE,
    "endpointslices": _SLICES,
    "networkpolicies": _POLICY,
    "namespaces": {"metadata": _META, "status": {"phase": KEEP}},
    "servicecidrs": {"metadata": _META, "spec": {"cidrs": [ADDRESS]}},
    "configmaps": {"metadata": _META, "data": DATA},
}
