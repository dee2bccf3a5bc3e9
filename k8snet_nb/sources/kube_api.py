"""The Kubernetes API as a source reads it: raw JSON, in pages, with a clear word for every refusal.

The typed models of the client are not used: they lose fields that they do not know and take several times as long.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import FactBroken, FactMissing, Stopped
from ..facts import API_RESOURCES
from .kube_http import Answer, Connection
from .pages import Page, joined, read_page
from .progress import Progress

__all__ = ["KubeApi", "needed"]

_LIMITS = (500, 5000, 0)
"""Objects a page: larger ones when the server forgot a list before its last page was read; at last all in one."""
_SLICE = 0.2
"""Seconds between two looks whether a waiting is to go on."""
_PATHS = {
    "version": "/version",
    "nodes": "/api/v1/nodes",
    "pods": "/api/v1/pods",
    "services": "/api/v1/services",
    "endpointslices": "/apis/discovery.k8s.io/v1/endpointslices",
    "namespaces": "/api/v1/namespaces",
    "configmaps": "/api/v1/namespaces/kube-system/configmaps",
    "networkpolicies": "/apis/networking.k8s.io/v1/networkpolicies",
    "servicecidrs": "/apis/networking.k8s.io/v1/servicecidrs",
}


@dataclass(slots=True)
class _Begun:
    """A list of which some pages are read. Nobody sees it before it is whole."""

    limit: int
    pages: list[Page] = field(default_factory=list)

    @property
    def count(self) -> tuple[int, int | None]:
        """About how many objects are read, and how many there are, if the server says."""
        left = self.pages[0].meta.get("remainingItemCount") if self.pages else None
        total = self.limit + left if isinstance(left, int) else None
        read = self.limit * len(self.pages)
        return (read if total is None or self.pages[-1].token else total), total


class KubeApi:
    """Reads Lists from an API server; :attr:`progress` hears of every page.

    :meth:`stop` ends what is being read. The pages read until then are kept, and the next reading goes on from there;
    a list that is not whole is never given out.
    """

    def __init__(self, connection: Connection, progress: Progress | None = None) -> None:
        self.connection, self.progress = connection, progress
        self._begun: dict[str, _Begun] = {}
        self._stops = 0

    def stop(self) -> None:
        """End the readings that are under way, in whichever threads."""
        self._stops += 1

    def stopper(self) -> Callable[[], None]:
        """What raises Stopped once :meth:`stop` was called after this."""
        begun = self._stops

        def check() -> None:
            if self._stops != begun:
                raise Stopped("stopped")

        return check

    def forget(self) -> None:
        """Begin every list anew, also one of which pages are kept."""
        self._begun.clear()

    @classmethod
    def connect(cls, context: str | None = None, timeout: float = 30.0) -> KubeApi:
        """From the current kubeconfig context or a named one, else from a pod's own service account.

        Raises SourceError when there is neither, or the context is unknown.
        """
        return cls(Connection.open(context, timeout))

    @property
    def about(self) -> str:
        """Which context and server."""
        return self.connection.about

    def user(self) -> str:
        """Who the server says that we are (SelfSubjectReview); where it does not say, the kubeconfig's word."""
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        answer = self.connection.ask("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=asked)
        status = answer.json().get("status")
        name = (status.get("userInfo") or {}).get("username") if answer.ok and isinstance(status, dict) else None
        if name:
            return str(name)
        named = self.connection.kubeconfig_user
        return f"{named} (as the kubeconfig calls it)" if named else "not known"

    def __call__(self, resource: str) -> bytes:
        """The whole List of a resource, pages joined, managedFields removed. Raises FactMissing with the reason."""
        path, check = _PATHS[resource], self.stopper()
        if resource == "version":
            return self._page(resource, path, {}, check)
        for limit in _LIMITS:
            begun = self._begun.pop(resource, None) or _Begun(limit)
            try:
                whole = self._read(resource, path, begun, check)
            except (Stopped, KeyboardInterrupt) as ended:
                self._begun[resource] = begun
                raise type(ended)(_so_far(resource, begun)) from None
            except FactMissing as missing:
                if missing.passing:
                    self._begun[resource] = begun
                raise
            if whole:
                return joined(begun.pages)
        why = "the list changed faster than it could be read (410 Gone, three times)"
        raise FactMissing(resource, "the Kubernetes API", why, "Ask again.")

    def _read(self, resource: str, path: str, begun: _Begun, check: Callable[[], None]) -> bool:
        """Read the pages that are not there yet; False when the server forgot the list: then it is begun again."""
        pages = begun.pages
        while not pages or pages[-1].token:
            check()
            query = {"limit": str(begun.limit)} | ({"continue": pages[-1].token} if pages else {})
            body = self._page(resource, path, query, check)
            if body is _GONE:
                return False
            try:
                pages.append(read_page(body))
            except ValueError as error:
                raise FactBroken(resource, "the Kubernetes API", f"a page of it is no List: {error}") from None
            if self.progress is not None and (len(pages) > 1 or pages[0].token):
                self.progress(resource, *begun.count)
        return True

    def _page(self, resource: str, path: str, query: dict[str, str], check: Callable[[], None]) -> bytes:
        def pause(seconds: float) -> None:
            until = time.monotonic() + seconds
            while (left := until - time.monotonic()) > 0:
                check()
                time.sleep(min(left, _SLICE))

        answer = self.connection.ask("GET", path, query, pause=pause)
        if answer.status == 200:
            return answer.body
        if answer.status == 410 and "continue" in query:
            return _GONE
        raise _refusal(resource, answer)


_GONE = b"gone"
"""Stands for a page of a list that the server forgot; told apart by identity."""


def _so_far(resource: str, begun: _Begun) -> str:
    if not begun.pages:
        return f"reading {resource} was stopped before its first page"
    read, total = begun.count
    of = f" of {total}" if total is not None else ""
    return (
        f"reading {resource} was stopped after {read}{of}. They are kept, and are no answer yet: ask again to go on "
        f"from there"
    )


def needed(verb: str, resource: str, namespace: str | None) -> str:
    """What to ask an administrator for, as a command: the role and the binding that would allow it."""
    name = f"k8snet-{resource.replace('/', '-').split('.')[0]}"
    kind, scope = ("clusterrole", "") if namespace is None else ("role", f" --namespace {namespace}")
    return (
        f"`kubectl create {kind} {name} --verb={verb} --resource={resource}{scope}` and a {kind}binding of it to this "
        f"user; deploy/rbac-read-only.yaml of k8snet_nb holds those to read the API, deploy/rbac.yaml those for agents"
    )


def _refusal(resource: str, answer: Answer) -> FactMissing:
    where = "the Kubernetes API"
    if answer.status == 401:
        return FactMissing(resource, where, "not logged in (401)", "Renew the credentials of this kubeconfig context")
    if answer.status == 403:
        verb = "get" if resource == "version" else "list"
        namespace = "kube-system" if resource == "configmaps" else None
        scope = "in namespace kube-system" if namespace else "in the whole cluster"
        why = f"forbidden (403): needs the verb {verb} on {resource} {scope}"
        return FactMissing(resource, where, why, f"Ask an administrator for: {needed(verb, resource, namespace)}")
    if answer.status == 404:
        return FactMissing(resource, where, "this server does not have that resource (404)")
    why = f"the server answered {answer.status}: {answer.message}"
    missing = FactMissing(resource, where, why, f"Try: {API_RESOURCES[resource]}")
    missing.passing = answer.passing
    return missing
