"""Asking DNS from inside recorded pods, through the agents of their nodes: the lines of ``dns.jsonl``.

The only fact that is collected by sending something. The questions are a program's own, a bounded number of them, and
a server that stays silent is not asked for everything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

from ..errors import K8snetError, Refused
from ..explain.dns.answers import LiveAnswers, send_through
from ..explain.names import Query
from ..explain.resolution import Reply, resolve
from ..facts import FactRef
from ..parse.resolv_conf import ResolvConf, parse_resolv_conf
from ..sources.base import Source
from .dns_names import DnsNames, looked_up, questions

__all__ = ["Asker", "Asking", "PodDns", "ask_pods"]

_AT_ONCE = 8
POD_SECONDS, NODE_SECONDS = 30.0, 180.0
"""How long the questions of one pod may take, and those of all pods of a node together."""
_SILENCES = 2
"""After so many silences in a row a server is not asked any more."""


@runtime_checkable
class Asking(Protocol):
    """A source that can send a DNS question from a pod's network namespace."""

    def exchange(self, pod: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """See ``agent.dns_exchange.answer``."""
        ...


class PodDns(NamedTuple):
    """Lines of ``dns.jsonl`` (None when nothing was asked), and what is to be said against them."""

    content: bytes | None
    why: str | None


class Asker:
    """The questions of one pod. A question that was asked is not asked again: one reply serves all names."""

    repeats = False

    def __init__(self, live: LiveAnswers) -> None:
        self._live = live
        self._replies: dict[tuple[str, str, str, str | None], Reply] = {}
        self._silent: dict[str, int] = {}
        self.stopped = ""

    def ask(self, server: str, query: Query, transport: str | None = None) -> Reply:
        """The reply, from before where there is one. A server that was silent is left alone."""
        key = (server, query.name.lower(), query.type, transport)
        if key not in self._replies:
            if self._silent.get(server, 0) >= _SILENCES:
                self.stopped = f"{server} did not answer {_SILENCES} questions and was asked no more"
                return Reply("silent", transport=transport or "udp", why=self.stopped)
            reply = self._replies[key] = self._live.ask(server, query, transport)
            if reply.why.startswith("not sent"):
                self.stopped = "the time for the questions of one pod was used up"
            else:
                self._silent[server] = 0 if reply.message is not None else self._silent.get(server, 0) + 1
        return self._replies[key]


def ask_pods(
    source: Source, node: str, files: Mapping[str, bytes], names: DnsNames, ips: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, PodDns]]:
    """(pod, what was answered) for every pod of ``files``, its resolv.conf; ``ips``: the pods' addresses.

    Several pods at once. A pod that cannot be asked does not keep the others.
    """
    if not isinstance(source, Asking):
        return
    asking: Asking = source
    end = time.monotonic() + NODE_SECONDS

    def one(pod: str) -> PodDns:
        left = end - time.monotonic()
        if left <= 0:
            return PodDns(None, f"not asked: the {NODE_SECONDS:g} seconds for the questions of one node were used up")
        ref = FactRef("dns.jsonl", node, pod)
        resolv = parse_resolv_conf(files[pod].decode("utf-8", "surrogateescape"))
        send = send_through(lambda request: asking.exchange(pod, request))
        live = LiveAnswers(send, resolv, ref, ports=names.replicas, limit=min(left, POD_SECONDS))
        return _ask_pod(live, resolv, names, pod.partition("/")[0], tuple(ips.get(pod, ())))

    with ThreadPoolExecutor(_AT_ONCE, "k8snet dns") as pool:
        yield from zip(files, pool.map(one, files), strict=True)


def _ask_pod(live: LiveAnswers, resolv: ResolvConf, names: DnsNames, namespace: str, ips: tuple[str, ...]) -> PodDns:
    asker = Asker(live)
    try:
        probe = Query("kubernetes.default.svc.cluster.local.", "A")
        answering = (one for one in resolv.nameservers if asker.ask(one, probe).message is not None)
        server = next(answering, resolv.nameservers[0])
        for directed in questions(names, namespace, resolv, ips, server):
            _quietly(partial(asker.ask, directed.server, directed.query, directed.transport))
        for name, types in looked_up(names, namespace, resolv):
            _quietly(partial(resolve, name, resolv, asker, types=types))
    except K8snetError as error:  # the pod or the agent went away: what was asked until then counts
        return _told(live, str(error))
    return _told(live, asker.stopped or None)


def _quietly(ask: Callable[[], object]) -> None:
    with suppress(Refused):  # a name that no question can hold: there is nothing to record of it
        ask()


def _told(live: LiveAnswers, why: str | None) -> PodDns:
    if not live.log:
        return PodDns(None, why or "there was nothing to ask")
    return PodDns("".join(f"{line}\n" for line in live.log).encode(), why)
