"""Exercises of lesson 05: connection tracking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import FactMissing
from ..answers import Answer, command, names, number
from ..question import NotHere, Question, some

if TYPE_CHECKING:
    import pandas as pd

    from ...cluster import Cluster, Node
    from ...explain.usage import ConntrackUsage

__all__ = ["EXERCISES"]

_KEYS = ("net.netfilter.nf_conntrack_max", "net.nf_conntrack_max")
_OBSOLETE = "net.ipv4.netfilter.ip_conntrack_max"


def _nodes(cluster: Cluster) -> list[Node]:
    return [cluster.node(name) for name in cluster.source.nodes() if name in set(cluster.nodes()["name"])]


def _flows(cluster: Cluster) -> tuple[Node, pd.DataFrame]:
    """The first node where clients used a Service, and those flows that pods answered."""
    pods = set(cluster.pods()["namespace"] + "/" + cluster.pods()["name"])
    for node in _nodes(cluster):
        try:
            flows = node.flows()
        except FactMissing:
            continue
        used = flows[flows["service"].notna() & flows["backend"].isin(pods)]
        if len(used):
            return node, used
    raise NotHere("no node's table shows a connection from a client to a Service")


def _busiest(cluster: Cluster) -> tuple[Node, str, pd.Series[int]]:
    """The node, its Service port with the most flows, and how many each pod answered."""
    node, flows = _flows(cluster)
    service = str(flows["service"].value_counts().sort_index().idxmax())
    return node, service, flows[flows["service"] == service]["backend"].value_counts()


def _most(cluster: Cluster) -> tuple[str, int]:
    """The pod that answered the most of them."""
    _, service, answered = _busiest(cluster)
    best = answered[answered == answered.max()]
    if len(best) > 1:
        raise NotHere(f"no pod answered more connections to {service} than all others")
    return str(best.index[0]), int(best.iloc[0])


def _ask_most(cluster: Cluster) -> str:
    node, service, _ = _busiest(cluster)
    return f"In the table of `{node.name}`, which pod answered the most connections to `{service}`?"


def _why_most(cluster: Cluster) -> str:
    pod, count = _most(cluster)
    address = cluster.pod(pod).ip
    return (
        f"`{pod}` answered {count} of them: its address `{address}` is the source of the reply tuple. The original "
        "tuple has the Service's address for all of them alike."
    )


def _vip(cluster: Cluster) -> tuple[str, str]:
    """The busiest Service's port, and the address that most of its clients used."""
    _, flows = _flows(cluster)
    _, service, _ = _busiest(cluster)
    return service, str(flows[flows["service"] == service]["orig_dst"].value_counts().sort_index().idxmax())


def _list_command(address: str) -> Answer:
    flags = [{"-L", "--dump"}, {"-d", "--dst", "--orig-dst"}]
    return command(f"conntrack -L -d {address}", [{"conntrack"}, {address}], flags)


def _ask_list(cluster: Cluster) -> str:
    service, _ = _vip(cluster)
    return (
        "Spot the errors. To list connections to a Service the tutorial prints `conntrack –L –d 10.32.0.1`. Type the "
        f"command that lists those to the address of `{service}` on this cluster."
    )


def _why_list(cluster: Cluster) -> str:
    _, address = _vip(cluster)
    return (
        f"`-d` is the original destination: what the client asked for, `{address}`. The tutorial's `10.32.0.1` is, "
        "where the range of Services begins there, the Service `kubernetes`: you see the API server's flows only. "
        "And its dashes are en dashes."
    )


def _api_slip(cluster: Cluster) -> tuple[tuple[Answer, str], ...]:
    said = "That is the Service `kubernetes`: you would see the flows to the API server and no others."
    api = cluster.service("default/kubernetes").cluster_ip if "default/kubernetes" in cluster.api.services else None
    pods = (str(cluster.pod(pod).ip) for pod in _busiest(cluster)[2].index)
    dnat = "That is a pod's address, which clients of the Service did not ask for: it is in the reply tuple (`-r`)."
    slips = [(_list_command(address), said) for address in dict.fromkeys((api or "10.32.0.1", "10.32.0.1"))]
    return (*slips, *((_list_command(address), dnat) for address in pods))


def _answered(cluster: Cluster) -> tuple[Node, str, str]:
    node, _, _ = _busiest(cluster)
    pod, _ = _most(cluster)
    return node, pod, str(cluster.pod(pod).ip)


def _ask_answered(cluster: Cluster) -> str:
    node, pod, _ = _answered(cluster)
    return f"How many entries in the table of `{node.name}` did `{pod}` answer, through whatever Service or directly?"


def _count_answered(cluster: Cluster) -> int:
    node, _, address = _answered(cluster)
    return len(node.conntrack(reply_source=address))


def _why_answered(cluster: Cluster) -> str:
    node, _, address = _answered(cluster)
    asked = len(node.conntrack(destination=address))
    return (
        f'`node.conntrack(reply_source="{address}")`, or `conntrack -L -r {address}`. With `-d` you would have found '
        f"{asked}: those whose client asked for the pod's own address."
    )


def _asked_slip(cluster: Cluster) -> tuple[tuple[Answer, str], ...]:
    node, _, address = _answered(cluster)
    asked = len(node.conntrack(destination=address))
    said = "So many *asked* for the pod's own address (`-d`). Who came through a Service asked for the Service's."
    return ((number(asked), said),) if asked != _count_answered(cluster) else ()


def _dropping(cluster: Cluster) -> tuple[Node, ConntrackUsage]:
    """The node that dropped the most packets for want of an entry, and its usage."""
    found = []
    for node in _nodes(cluster):
        try:
            usage = node.conntrack_usage()
        except FactMissing:
            continue
        if usage.drops is not None:
            found.append((node, usage))
    return max(some(found, "no node's `conntrack -S` was collected"), key=lambda one: one[1].drops or 0)


def _drops(cluster: Cluster) -> int:
    return _dropping(cluster)[1].drops or 0


def _ask_drops(cluster: Cluster) -> str:
    return f"How many packets did `{_dropping(cluster)[0].name}` drop because its table was full, by `conntrack -S`?"


def _why_drops(cluster: Cluster) -> str:
    count = _drops(cluster)
    each = [str(counters.get("drop", 0)) for counters in _per_cpu(cluster)]
    return (
        f"{' + '.join(each)} = {count}: the counter `drop` of every CPU, each packet a connection that did not begin."
    )


def _per_cpu(cluster: Cluster) -> tuple[dict[str, int], ...]:
    stats = _dropping(cluster)[1].stats
    return stats.per_cpu if stats else ()


def _one_cpu(cluster: Cluster) -> tuple[tuple[Answer, str], ...]:
    said = "That is one CPU's counter. Each CPU counts for itself: add them up."
    counts = {counters.get("drop", 0) for counters in _per_cpu(cluster)} - {_drops(cluster)}
    return tuple((number(count), said) for count in sorted(counts))


def _key() -> Answer:
    def judge(given: object) -> str | None:
        key = str(given).strip().strip("`\"'").replace("/", ".")
        if key in _KEYS:
            return None
        return "Case matters: keys are file names below /proc/sys." if key.lower() in _KEYS else "That is not the key."

    return Answer(_KEYS[0], judge)


def _obsolete() -> Answer:
    return Answer(_OBSOLETE, lambda given: None if str(given).strip().lower() == _OBSOLETE else "")


EXERCISES = (
    Question(
        number="05-1",
        ask=_ask_most,
        answer=lambda cluster: names([_most(cluster)[0]], "name of the pod"),
        why=_why_most,
        hints=(
            "Who answers is the source of the reply tuple, `reply_src`.",
            "`node.flows()` has names for addresses: count `backend` where `service` is the one.",
        ),
    ),
    Question(
        number="05-2",
        ask=_ask_list,
        answer=lambda cluster: _list_command(_vip(cluster)[1]),
        why=_why_list,
        hints=("Plain hyphens.", "`-d` wants what the client asked for: the Service's address, see lesson 2."),
        slips=_api_slip,
    ),
    Question(
        number="05-3",
        ask=_ask_answered,
        answer=lambda cluster: number(_count_answered(cluster)),
        why=_why_answered,
        hints=("`node.conntrack(...)` takes `destination=`, `source=`, `reply_source=`. Which of them is the one?",),
        slips=_asked_slip,
    ),
    Question(
        number="05-4",
        ask=_ask_drops,
        answer=lambda cluster: number(_drops(cluster)),
        why=_why_drops,
        hints=("`node.conntrack_usage()` has it, and `.stats.per_cpu` its parts.",),
        slips=_one_cpu,
    ),
    Question(
        number="05-5",
        ask=(
            f"Spot the error. To make a new maximum permanent the tutorial writes `Net.{_OBSOLETE[4:]} = 198000` into "
            "`/etc/sysctl.conf`. Which key sets it on today's kernels?"
        ),
        answer=lambda _cluster: _key(),
        why=(
            "`net.netfilter.nf_conntrack_max` (or its alias `net.nf_conntrack_max`), all lower case. The key with "
            "`ip_conntrack` belongs to a module that nf_conntrack replaced; today's kernels do not have it. And "
            "kube-proxy writes its own value over either of them when it starts."
        ),
        hints=("It is in `sysctl.txt` of the node, and in the evidence of `node.conntrack_usage()`.",),
        slips=lambda _cluster: ((_obsolete(), "The case is only half of it: today's kernels have no `ip_conntrack`."),),
    ),
)
