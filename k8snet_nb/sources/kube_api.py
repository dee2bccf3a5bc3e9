"""The Kubernetes API as a source reads it: raw JSON, in pages, with a clear word for every refusal.

The typed models of the client are not used: they lose fields that they do not know and take three times as long.
Credentials stay inside the client; nothing of them is printed, logged or recorded.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from ..errors import FactMissing, SourceError
from ..facts import API_RESOURCES, FactRef

__all__ = ["KubeApi"]

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


class KubeApi:
    """Reads Lists from an API server. ``get`` answers (status, headers, body) for a path and its query."""

    def __init__(self, get: Callable[[str, dict[str, str]], tuple[int, dict[str, str], bytes]], about: str) -> None:
        self._get, self.about = get, about

    @classmethod
    def connect(cls, context: str | None = None, timeout: float = 30.0) -> KubeApi:
        """From the current kubeconfig context or a named one, else from a pod's own service account.

        Raises SourceError when there is neither, or the context is unknown.
        """
        from kubernetes import client, config

        configuration = client.Configuration()
        try:
            config.load_kube_config(context=context, client_configuration=configuration)  # type: ignore[no-untyped-call]
            _, active = config.list_kube_config_contexts()  # type: ignore[no-untyped-call]
            about = f"context {context or active.get('name')}, server {configuration.host}"
        except (config.ConfigException, TypeError) as error:
            if context is not None:
                raise SourceError(f"no context {context!r} in the kubeconfig ({error})") from None
            try:
                config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            except config.ConfigException:
                raise SourceError(
                    "no kubeconfig, and not inside a cluster: set KUBECONFIG or name a recording"
                ) from None
            about = f"in-cluster credentials, server {configuration.host}"
        return cls(_getter(configuration, timeout), about)

    def __call__(self, resource: str) -> bytes:
        """The whole List of a resource, pages joined, managedFields removed. Raises FactMissing with the reason."""
        path = _PATHS[resource]
        if resource == "version":
            return self._page(resource, path, {})
        for _ in range(3):
            joined = self._list(resource, path)
            if joined is not None:
                return json.dumps(joined).encode()
        why = "the list changed faster than its pages could be read (410 Gone, three times)"
        raise FactMissing(resource, "the Kubernetes API", why, "Ask again.")

    def _list(self, resource: str, path: str) -> dict[str, Any] | None:
        """All pages, or None when the server forgot where we were: then the list is begun again."""
        whole: dict[str, Any] | None = None
        token = ""
        while True:
            query = {"limit": str(PAGE)} | ({"continue": token} if token else {})
            body = self._page(resource, path, query)
            if body is _GONE:
                return None
            page = json.loads(body)
            for item in page.get("items") or ():
                item.get("metadata", {}).pop("managedFields", None)
            if whole is None:
                whole = page
            else:
                whole["items"] += page.get("items") or []
                whole["metadata"] = page.get("metadata", {})
            token = page.get("metadata", {}).get("continue") or ""
            if not token:
                whole["metadata"].pop("remainingItemCount", None)
                return whole

    def _page(self, resource: str, path: str, query: dict[str, str]) -> bytes:
        for wait in (*_WAITS, None):
            status, headers, body = self._get(path, query)
            if status == 200:
                return body
            if status == 410 and "continue" in query:
                return _GONE
            if wait is None or not (status == 429 or status >= 500):
                raise _refusal(resource, status, body)
            said = headers.get("retry-after", "")
            time.sleep(min(float(said), 10.0) if said.isdigit() else wait)
        raise AssertionError("the last try either answers or raises")


_GONE = b""


def _refusal(resource: str, status: int, body: bytes) -> FactMissing:
    where = "the Kubernetes API"
    ref = FactRef(resource)
    if status in (401, 403):
        verb = "get" if resource == "version" else "list"
        scope = "in namespace kube-system" if resource == "configmaps" else "in the whole cluster"
        why = f"{'not logged in' if status == 401 else 'forbidden'} ({status}): needs the verb {verb} on {ref.fact}"
        return FactMissing(resource, where, why, f"Ask for a role that allows to {verb} {resource} {scope}")
    if status == 404:
        return FactMissing(resource, where, "this server does not have that resource (404)")
    return FactMissing(
        resource, where, f"the server answered {status}: {_message(body)}", f"Try: {API_RESOURCES[resource]}"
    )


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body).get("message"))[:300]
    except (ValueError, AttributeError):
        return repr(body[:120])


def _getter(configuration: Any, timeout: float) -> Callable[[str, dict[str, str]], tuple[int, dict[str, str], bytes]]:
    """One GET over the client's own connections, with its credentials; any status is an answer.

    The client's call_api changed its arguments between versions; its connection pool and its auth settings did not.
    """
    from kubernetes import client
    from urllib3.exceptions import HTTPError

    pool = client.ApiClient(configuration).rest_client.pool_manager

    def get(path: str, query: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        # asked each time: tokens of exec plug-ins and service accounts run out and are renewed in there
        settings = configuration.auth_settings().values()
        headers = {s["key"]: s["value"] for s in settings if s["in"] == "header" and s["value"]}
        url = configuration.host + path + (f"?{urlencode(query)}" if query else "")
        try:
            answer = pool.request(
                "GET", url, headers={"Accept": "application/json", **headers}, timeout=timeout, retries=False
            )
        except (HTTPError, OSError) as error:
            reason = str(error).rsplit(": ", 1)[-1]
            return 599, {}, json.dumps({"message": f"no answer from {configuration.host}: {reason}"}).encode()
        return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.data

    return get
