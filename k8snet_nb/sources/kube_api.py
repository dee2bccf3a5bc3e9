"""The Kubernetes API as a source reads it: raw JSON, in pages, with a clear word for every refusal.

The typed models of the client are not used: they lose fields that they do not know and take several times as long.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event

from ..errors import FactBroken, FactMissing, Stopped
from ..facts import API_RESOURCES
from .kube_http import Answer, Connection
from .pages import Page, joined, read_page

__all__ = ["KubeApi", "Progress", "needed"]

PAGE = 500
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
_WAITS = (0.2, 0.5, 1.0, 2.0)
"""Seconds between tries after 429 and 5xx, unless the server says how long (Retry-After)."""

Progress = Callable[[str, int, "int | None"], None]
"""Told what is being read, how much of it is there, and of how much (None: not known)."""


class KubeApi:
    """Reads Lists from an API server; :attr:`progress` hears of every page, :attr:`stop` ends a reading between two."""

    def __init__(self, connection: Connection, progress: Progress | None = None) -> None:
        self.connection, self.progress = connection, progress
        self.stop = Event()

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
        answer = self.connection.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=asked)
        status = answer.json().get("status")
        name = (status.get("userInfo") or {}).get("username") if answer.ok and isinstance(status, dict) else None
        if name:
            return str(name)
        named = self.connection.kubeconfig_user
        return f"{named} (as the kubeconfig calls it)" if named else "not known"

    def __call__(self, resource: str) -> bytes:
        """The whole List of a resource, pages joined, managedFields removed. Raises FactMissing with the reason."""
        path = _PATHS[resource]
        if resource == "version":
            return self._page(resource, path, {})
        for _ in range(3):
            pages = self._pages(resource, path)
            if pages is not None:
                return joined(pages)
        why = "the list changed faster than its pages could be read (410 Gone, three times)"
        raise FactMissing(resource, "the Kubernetes API", why, "Ask again.")

    def _pages(self, resource: str, path: str) -> list[Page] | None:
        """All pages, or None when the server forgot where we were: then the list is begun again."""
        pages: list[Page] = []
        while not pages or pages[-1].token:
            if self.stop.is_set():
                self.stop.clear()
                raise Stopped(f"reading {resource} was stopped; ask again to begin anew")
            query = {"limit": str(PAGE)} | ({"continue": pages[-1].token} if pages else {})
            body = self._page(resource, path, query)
            if body is _GONE:
                return None
            try:
                pages.append(read_page(body))
            except ValueError as error:
                raise FactBroken(resource, "the Kubernetes API", f"a page of it is no List: {error}") from None
            self._tell(resource, pages)
        return pages

    def _tell(self, resource: str, pages: list[Page]) -> None:
        if self.progress is None or (len(pages) == 1 and not pages[0].token):
            return
        left = pages[0].meta.get("remainingItemCount")
        total = PAGE + left if isinstance(left, int) else None
        read = PAGE * len(pages) if pages[-1].token or total is None else total
        self.progress(resource, read, total)

    def _page(self, resource: str, path: str, query: dict[str, str]) -> bytes:
        for wait in (*_WAITS, None):
            answer = self.connection.request("GET", path, query)
            if answer.status == 200:
                return answer.body
            if answer.status == 410 and "continue" in query:
                return _GONE
            if wait is None or not (answer.status == 429 or answer.status >= 500):
                raise _refusal(resource, answer)
            said = answer.headers.get("retry-after", "")
            time.sleep(min(float(said), 10.0) if said.isdigit() else wait)
        raise AssertionError("the last try either answers or raises")


_GONE = b""


def needed(verb: str, resource: str, namespace: str | None) -> str:
    """What to ask an administrator for, as a command: the role and the binding that would allow it."""
    name = f"k8snet-{resource.replace('/', '-').split('.')[0]}"
    kind, scope = ("clusterrole", "") if namespace is None else ("role", f" --namespace {namespace}")
    return (
        f"`kubectl create {kind} {name} --verb={verb} --resource={resource}{scope}` and a {kind}binding of it to this "
        f"user; deploy/rbac.yaml of k8snet_nb holds all of them"
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
    return FactMissing(resource, where, why, f"Try: {API_RESOURCES[resource]}")
