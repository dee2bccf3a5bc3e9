"""Exercises of lesson 07: cluster DNS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import FactMissing, NotFound
from ..answers import Answer, address, names, number, text
from ..question import NotHere, Question, some
from .rows import pod_rows, service_rows

if TYPE_CHECKING:
    from ...cluster import Cluster, Pod

__all__ = ["EXERCISES"]

_OUTSIDE = "www.example.com"
_TUTORIALS = "10.30.0.10"


def _pods(cluster: Cluster) -> list[Pod]:
    """The pods whose resolv.conf can be read and has a search list."""
    found = []
    for row in pod_rows(cluster):
        pod = cluster.pod(row.key)
        try:
            if pod.resolv_conf().conf.search:
                found.append(pod)
        except FactMissing:
            continue
    return some(found, "no pod with a search list in its resolv.conf is known")


def _pod(cluster: Cluster) -> Pod:
    pods = _pods(cluster)
    return next((pod for pod in pods if pod.key == "default/client"), pods[0])


def _why_most(cluster: Cluster) -> str:
    cost = _pod(cluster).dns_cost(_OUTSIDE)
    conf = _pod(cluster).resolv_conf().conf
    return (
        f"`{_OUTSIDE}` has 2 dots, and ndots is {conf.ndots}. The search list has {len(conf.search)} domains, and with "
        f"the name as it is there are {cost.tries} names to try, each for A and for AAAA: {cost.queries} questions. "
        f"With a dot at its end, `{_OUTSIDE}.`, there are two."
    )


def _tries_only(cluster: Cluster) -> tuple[tuple[Answer, str], ...]:
    cost = _pod(cluster).dns_cost(_OUTSIDE)
    said = "That is the number of names. Each of them is asked for twice, by type."
    return ((number(cost.tries), said),) if cost.tries != cost.queries else ()


def _elsewhere(cluster: Cluster) -> tuple[str, str, str]:
    """A pod, and the name and namespace of a Service elsewhere whose name its own namespace does not have."""
    services = [row.key.split("/", 1) for row in service_rows(cluster) if row.cluster_ip]
    pod = _pod(cluster)
    own = {name for namespace, name in services if namespace == pod.namespace}
    skip = ("kube-system", pod.namespace)
    for namespace, name in services:
        made = any(q.name.startswith(f"{name}.{namespace}.svc.") for q in pod.search_expansion(f"{name}.{namespace}"))
        if namespace not in skip and name not in own and made:
            return pod.key, name, namespace
    raise NotHere("no other namespace than kube-system has a Service of a name of its own")


def _ask_short(cluster: Cluster) -> str:
    pod, name, namespace = _elsewhere(cluster)
    return f"What is the shortest name by which a program in `{pod}` reaches the Service `{namespace}/{name}`?"


def _why_short(cluster: Cluster) -> str:
    pod, name, namespace = _elsewhere(cluster)
    return (
        f"The search list of `{pod}` has its own namespace first, then `svc` and the domain: `{name}.{namespace}` is "
        "made whole by the second. The first try looks in the pod's own namespace and comes back with NXDOMAIN."
    )


def _short_slips(cluster: Cluster) -> tuple[tuple[Answer, str], ...]:
    _, name, namespace = _elsewhere(cluster)
    own = f"`{name}` alone is looked up in the pod's own namespace, where there is no such Service."
    longer = "That reaches it too, but it is not the shortest."
    full = f"{name}.{namespace}.svc"
    return (text(name), own), (text(full, f"{full}.cluster.local", f"{full}.cluster.local."), longer)


def _dns_address(cluster: Cluster) -> str:
    try:
        found = cluster.service("kube-system/kube-dns").cluster_ip
    except NotFound:
        raise NotHere("no Service is called kube-system/kube-dns") from None
    if found is None or found == "None":
        raise NotHere("the Service kube-system/kube-dns has no cluster IP")
    return found


def _why_address(cluster: Cluster) -> str:
    return (
        f"`kubectl get service -n kube-system kube-dns` says {_dns_address(cluster)}, and so does the pods' file. "
        f"Nobody holds {_TUTORIALS}: a question there is not refused, it is never answered, which looks like a "
        "broken DNS."
    )


def _address_slips(cluster: Cluster) -> tuple[tuple[Answer, str], ...]:
    if _dns_address(cluster) == _TUTORIALS:
        return ()
    return ((address(_TUTORIALS), "That is what the tutorial has typed. Compare it with the Service's cluster IP."),)


def _keywords(cluster: Cluster) -> list[str]:
    lines = _pod(cluster).resolv_conf().conf.lines
    return sorted({line.split()[0] for line in lines if line.strip() and line[0].isalpha()})


def _ask_unused(cluster: Cluster) -> str:
    return (
        "Spot the error. “DNS works in the pod: on its node, `nsenter -t PID -n dig "
        f"kubernetes.default.svc.cluster.local @{_dns_address(cluster)}` has an answer.” Which keywords of the "
        f"resolv.conf of `{_pod(cluster).key}` had no part in that answer? Name them all."
    )


def _server_too(cluster: Cluster) -> tuple[tuple[Answer, str], ...]:
    rest = [word for word in _keywords(cluster) if word != "nameserver"]
    said = "Those too. But who was asked is written behind the `@`, and not taken from the pod's file."
    return ((names(rest), said),) if rest else ()


EXERCISES = (
    Question(
        number="07-1",
        ask=lambda cluster: (
            f"How many questions does a program with glibc in `{_pod(cluster).key}` send for `{_OUTSIDE}` when only "
            "the last name that it tries exists?"
        ),
        answer=lambda cluster: number(_pod(cluster).dns_cost(_OUTSIDE).queries),
        why=_why_most,
        hints=(
            "Count the search domains in the pod's resolv.conf, and the dots in the name.",
            "`search_expansion` lists every question.",
        ),
        slips=_tries_only,
    ),
    Question(
        number="07-2",
        ask=_ask_short,
        answer=lambda cluster: text(".".join(_elsewhere(cluster)[1:])),
        why=_why_short,
        hints=("Which domain of the search list begins with `svc`? What is missing in front of it?",),
        slips=_short_slips,
    ),
    Question(
        number="07-3",
        ask=(
            "Spot the error. The tutorial types `nsenter –t 14346 –n dig kubernetes.default.svc.cluster.local "
            f"@{_TUTORIALS}`. Which address belongs behind the `@` in this cluster?"
        ),
        answer=lambda cluster: address(_dns_address(cluster)),
        why=_why_address,
        hints=("Whom does the pod's own resolv.conf name?", "It is the cluster IP of a Service in kube-system."),
        slips=_address_slips,
    ),
    Question(
        number="07-4",
        ask=_ask_unused,
        answer=lambda cluster: names(_keywords(cluster), "keywords"),
        why=(
            "All of them. `nsenter -n` changes the network namespace alone, so dig reads the node's file; with a full "
            "name it needs no search list; and the server stands on the command line. What was tested is the way to "
            "the server. Whether programs in the pod find the short name was not."
        ),
        hints=("A keyword is the first word of a line.", "From which file did dig take the address of the server?"),
        slips=_server_too,
    ),
)
