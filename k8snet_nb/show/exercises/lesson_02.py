"""Exercises of lesson 02: a Service's cluster IP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..answers import Answer, command, names, number
from ..question import NotHere, Question, some
from .rows import ServiceRow, ready_pods, service_rows

if TYPE_CHECKING:
    from ...cluster import Cluster

__all__ = ["EXERCISES"]


def _most_served(cluster: Cluster) -> tuple[str, list[str]]:
    """The pod to which the most Services lead (the first by name), and those Services."""
    leading: dict[str, list[str]] = {}
    for service in service_rows(cluster):
        for pod in ready_pods(cluster, service.key):
            leading.setdefault(pod, []).append(service.key)
    if not leading:
        raise NotHere("no Service has a ready pod behind it")
    pod = min(leading, key=lambda key: (-len(leading[key]), key))
    return pod, sorted(leading[pod])


def _ask_leading(cluster: Cluster) -> str:
    return f"How many Services lead to the pod `{_most_served(cluster)[0]}`?"


def _why_leading(cluster: Cluster) -> str:
    _, services = _most_served(cluster)
    return (
        f"Its address stands, ready, in the EndpointSlices of {', '.join(f'`{key}`' for key in services)}. A pod knows "
        "nothing of its Services: each selector finds it by its labels, and one pod may stand behind many."
    )


def _only_with_vip(cluster: Cluster) -> tuple[tuple[Answer, str], ...]:
    _, services = _most_served(cluster)
    headless = [row.key for row in service_rows(cluster) if row.headless and row.key in services]
    said = f"`{', '.join(headless)}` has no cluster IP, yet DNS answers with the pod's address: it leads there too."
    return ((number(len(services) - len(headless)), said),) if headless else ()


def _has_vip(service: ServiceRow) -> bool:
    return bool(service.cluster_ip) and not service.headless


def _nobody_behind(cluster: Cluster) -> list[ServiceRow]:
    found = [
        service
        for service in service_rows(cluster)
        if _has_vip(service) and not (cluster.service(service.key).endpoints()["state"] == "ready").any()
    ]
    return some(found, "every Service with a cluster IP has a ready endpoint")


def _why_nobody(cluster: Cluster) -> str:
    service = _nobody_behind(cluster)[0]
    reason = f"its selector `{service.selector}` finds no ready pod" if service.selector else "it has no selector"
    return (
        f"`{service.key}` has the cluster IP `{service.cluster_ip}`, but {reason}, so its EndpointSlices name nobody "
        "who is ready. The address is given when a Service is made and says nothing of who serves it."
    )


def _headless(cluster: Cluster) -> list[ServiceRow]:
    return some([service for service in service_rows(cluster) if service.headless], "no Service is headless")


def _why_headless(cluster: Cluster) -> str:
    service = _headless(cluster)[0]
    pods = len(ready_pods(cluster, service.key))
    return (
        f"`{service.key}` says `clusterIP: None`, the word, not a missing value: it is headless. Its name resolves to "
        f"the addresses of its pods ({pods} here), and no rule on any node translates for it."
    )


def _external_name(cluster: Cluster) -> tuple[tuple[Answer, str], ...]:
    external = [service.key for service in service_rows(cluster) if service.type == "ExternalName"]
    both = external + [service.key for service in _headless(cluster)]
    said = "An ExternalName Service has no cluster IP either, but look at TYPE: it is a CNAME in DNS, nothing more."
    return ((names(external), said), (names(both), said)) if external else ()


def _command(_cluster: Cluster) -> Answer:
    return command(
        "kubectl get services --all-namespaces",
        [{"kubectl"}, {"get"}, {"services", "service", "svc"}],
        [{"-A", "--all-namespaces", "--all-namespaces=true"}],
    )


EXERCISES = (
    Question(
        number="02-1",
        ask=_ask_leading,
        answer=lambda cluster: number(len(_most_served(cluster)[1])),
        why=_why_leading,
        hints=(
            "Do not go by names: look for the pod in every Service's endpoints.",
            "`cluster.service(...).endpoints()` has a row for each address; its column `pod` names who holds it.",
        ),
        slips=_only_with_vip,
    ),
    Question(
        number="02-2",
        ask="Which Services have a cluster IP but nobody ready behind it? Name them all.",
        answer=lambda cluster: names([service.key for service in _nobody_behind(cluster)], "names of Services"),
        why=_why_nobody,
        hints=(
            "kubectl's list of Services does not show it. EndpointSlices do.",
            "A connection to it is refused at once, rather than left hanging.",
        ),
    ),
    Question(
        number="02-3",
        ask="Which Services of a type that ordinarily has a cluster IP have none, on purpose? Name them all.",
        answer=lambda cluster: names([service.key for service in _headless(cluster)], "names of Services"),
        why=_why_headless,
        hints=("Look for the word `None` in the column CLUSTER-IP. It is not the same as `<none>`.",),
        slips=_external_name,
    ),
    Question(
        number="02-4",
        ask=(
            "Spot the error. To list the Services of all namespaces the tutorial prints `kubectl get service "
            "–all-namespaces`. Type it so that it works."
        ),
        answer=_command,
        why=(
            "A long option takes two hyphens. The tutorial has one en dash (U+2013), which kubectl takes for the name "
            "of a Service. With a single hyphen kubectl would read a row of one-letter options and stop at the first "
            "that it does not know."
        ),
        hints=("Two hyphens before a word.",),
    ),
)
