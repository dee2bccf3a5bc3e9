"""One connection to an API server: requests and websockets over the kubernetes client's own settings and credentials.

The client's ``call_api`` changed its arguments between versions; its connection pool, its authentication settings and
``create_websocket`` did not. Credentials stay inside: nothing of them is printed, logged or recorded.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from ..errors import AgentError, SourceError

__all__ = ["Answer", "Connection"]

NO_ANSWER = 599
"""The status of an answer that did not come: nobody listens, TLS fails, time is over."""
WAITS = (0.2, 0.5, 1.0, 2.0)
"""Seconds between tries after 429 and 5xx, unless the server says how long (Retry-After)."""
_LONGEST_WAIT = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether it is a 2xx."""
        return 200 <= self.status < 300

    @property
    def passing(self) -> bool:
        """Whether the same request may well succeed later: 429, 5xx, no answer."""
        return self.status == 429 or self.status >= 500

    @property
    def message(self) -> str:
        """The server's own words, cut to a line or two."""
        try:
            return str(json.loads(self.body).get("message"))[:600]
        except (ValueError, AttributeError):
            return repr(self.body[:120])

    def json(self) -> dict[str, Any]:
        """The object in the body; an empty one for anything else."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


class Connection:
    """An API server and who we are there. ``context`` is None for in-cluster credentials."""

    def __init__(self, configuration: Any, context: str | None, user: str | None, timeout: float = 30.0) -> None:
        from kubernetes import client

        self._configuration, self._timeout = configuration, timeout
        self.context, self.kubeconfig_user = context, user
        self._pool = client.ApiClient(configuration).rest_client.pool_manager

    @classmethod
    def open(cls, context: str | None = None, timeout: float = 30.0) -> Connection:
        """From the current kubeconfig context or a named one, else from a pod's own service account.

        Raises SourceError when there is neither, or the context is unknown.
        """
        from kubernetes import client, config

        configuration = client.Configuration()
        try:
            config.load_kube_config(context=context, client_configuration=configuration)  # type: ignore[no-untyped-call]
            known, active = config.list_kube_config_contexts()  # type: ignore[no-untyped-call]
        except (config.ConfigException, TypeError) as error:
            if context is not None:
                raise SourceError(
                    f"no context {context!r} in the kubeconfig ({error}); `kubectl config get-contexts` lists them"
                ) from None
            return cls._in_cluster(configuration, timeout)
        chosen = next((one for one in known if one.get("name") == context), active)
        return cls(configuration, str(chosen.get("name")), (chosen.get("context") or {}).get("user"), timeout)

    @classmethod
    def _in_cluster(cls, configuration: Any, timeout: float) -> Connection:
        from kubernetes import config

        try:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        except config.ConfigException:
            raise SourceError("no kubeconfig, and not inside a cluster: set KUBECONFIG or name a recording") from None
        return cls(configuration, None, None, timeout)

    @property
    def server(self) -> str:
        """The server's URL."""
        return str(self._configuration.host)

    @property
    def about(self) -> str:
        """Which context and server, in a line without secrets."""
        whose = f"context {self.context}" if self.context is not None else "in-cluster credentials"
        return f"{whose}, server {self.server}"

    def request(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
    ) -> Answer:
        """One request; any status is an answer, :data:`NO_ANSWER` where none came."""
        from urllib3.exceptions import HTTPError

        headers = {"Accept": "application/json", **self._credentials()}
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = json.dumps(body).encode()
        url = self.server + path + (f"?{urlencode(query)}" if query else "")
        try:
            answer = self._pool.request(
                method, url, headers=headers, body=content, timeout=self._timeout, retries=False
            )  # fmt: skip
        except (HTTPError, OSError) as error:
            reason = str(error).rsplit(": ", 1)[-1]
            told = json.dumps({"message": f"no answer from {self.server}: {reason}"}).encode()
            return Answer(NO_ANSWER, {}, told)
        return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.data)

    def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        pause: Callable[[float], object] = time.sleep,
    ) -> Answer:
        """A request, sent again after 429 and 5xx when the server says, or after :data:`WAITS`; the last answer."""
        answer = self.request(method, path, query, body)
        for wait in WAITS:
            if not answer.passing:
                break
            said = answer.headers.get("retry-after", "")
            pause(min(float(said), _LONGEST_WAIT) if said.isdigit() else wait)
            answer = self.request(method, path, query, body)
        return answer

    def watch(self, path: str, query: Mapping[str, str], seconds: float) -> Iterator[dict[str, Any]]:
        """Events (type, object) of a watch as they come, for at most so many seconds.

        It ends early, without a word, where the server ends it, has forgotten the version (410 Gone) or refuses:
        whoever watches lists again and goes on from there.
        """
        from urllib3.exceptions import HTTPError

        until = time.monotonic() + seconds
        asked = {**query, "watch": "true", "timeoutSeconds": str(max(1, math.ceil(seconds)))}
        headers = {"Accept": "application/json", **self._credentials()}
        url = f"{self.server}{path}?{urlencode(asked)}"
        with suppress(HTTPError, OSError, ValueError):
            answer = self._pool.request(
                "GET", url, headers=headers, timeout=max(seconds, 0.1), retries=False, preload_content=False
            )
            try:
                for line in _lines(answer.stream(None)) if answer.status == 200 else ():
                    event = json.loads(line)
                    if event.get("type") == "ERROR" or time.monotonic() > until:
                        return
                    yield event
            finally:
                answer.close()

    def websocket(self, path: str, query: Sequence[tuple[str, str]]) -> Any:
        """A websocket of ``v5.channel.k8s.io`` or v4. Raises AgentError, with ``status`` where the server refused."""
        from kubernetes.stream.ws_client import create_websocket, get_websocket_url
        from websocket import WebSocketBadStatusException, WebSocketException

        url = get_websocket_url(self.server + path, list(query))  # type: ignore[no-untyped-call]
        try:
            return create_websocket(self._configuration, url, self._credentials())  # type: ignore[no-untyped-call]
        except WebSocketBadStatusException as error:
            body = error.resp_body if isinstance(error.resp_body, bytes) else str(error.resp_body or "").encode()
            refused = AgentError(Answer(error.status_code, {}, body).message)
            refused.status = error.status_code
            raise refused from None
        except (WebSocketException, OSError) as error:
            raise AgentError(f"no websocket from {self.server}: {error}") from None

    def _credentials(self) -> dict[str, str]:
        # asked each time: tokens of exec plug-ins and service accounts run out and are renewed in there
        settings = self._configuration.auth_settings().values()
        return {s["key"]: s["value"] for s in settings if s["in"] == "header" and s["value"]}


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    held = b""
    for piece in pieces:
        *whole, held = (held + piece).split(b"\n")
        yield from filter(None, whole)
