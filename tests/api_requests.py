"""What the tests' API server answers to each request; its state is :class:`api_server.FakeCluster`."""

from __future__ import annotations

import json
import time
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from api_exec import Conversation, upgraded

if TYPE_CHECKING:
    from api_server import FakeCluster

__all__ = ["LISTS", "TOKEN", "Handler"]

TOKEN = "a-secret-token"
LISTS = {
    "/api/v1/nodes": "nodes",
    "/api/v1/pods": "pods",
    "/api/v1/services": "services",
    "/apis/discovery.k8s.io/v1/endpointslices": "endpointslices",
    "/api/v1/namespaces": "namespaces",
    "/api/v1/namespaces/kube-system/configmaps": "configmaps",
    "/apis/networking.k8s.io/v1/networkpolicies": "networkpolicies",
    "/apis/networking.k8s.io/v1/servicecidrs": "servicecidrs",
}


class Handler(BaseHTTPRequestHandler):
    server: FakeCluster
    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, *_: Any) -> None:
        pass

    def _object(self, status: int, body: dict[str, Any]) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        if status in (429, 503):
            self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(raw)

    def _status(self, code: int, message: str) -> None:
        self._object(code, {"kind": "Status", "status": "Failure", "message": message, "code": code})

    def _begin(self) -> tuple[str, dict[str, list[str]], dict[str, Any]] | None:
        url = urlsplit(self.path)
        self.server.seen.append((f"{self.command} {self.path}", self.headers.get("authorization", "")))
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        if self.server.script:
            status = self.server.script.pop(0)
            if status != 200:
                self._status(status, f"scripted {status}")
                return None
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            self._status(401, "Unauthorized")
            return None
        verb = "WATCH" if "watch=" in url.query else self.command
        for method, part in self.server.denied:
            if method == verb and part in url.path:
                self._status(403, f'{part} is forbidden: User "jane" cannot do that')
                return None
        return url.path, parse_qs(url.query), body

    def do_GET(self) -> None:
        begun = self._begin()
        if begun is None:
            return
        path, query, _ = begun
        parts = path.strip("/").split("/")
        if path == "/version":
            self._object(200, self.server.version)
        elif path in LISTS:
            self._list(LISTS[path], query)
        elif parts[-1] == "exec":
            self._exec(parts[-2], query)
        elif path.startswith("/api/v1/namespaces/") and len(parts) == 4:
            self._one(self.server.namespaces, parts[3], "namespaces")
        elif "jobs" in parts and parts[-1] != "jobs":
            self._one(self.server.jobs, parts[-1], "jobs.batch")
        elif parts[-1] == "jobs":
            self._object(200, {"items": list(self.server.jobs.values())})
        elif parts[-1] == "pods":
            wanted = dict(pair.split("=") for pair in query.get("labelSelector", [""])[0].split(",") if pair)
            self._watch(wanted, query) if "watch" in query else self._pods(wanted)
        elif parts[-1] == "events":
            said = 'pods "x" is forbidden: violates PodSecurity "baseline:latest": host namespaces, capabilities'
            events = [{"reason": "FailedCreate", "message": said}] if self.server.pod_security else []
            self._object(200, {"items": events})
        else:
            self._status(404, f"no {path}")

    def _pods(self, wanted: dict[str, str]) -> None:
        with self.server.lock:
            items = [p for p in self.server.pods.values() if wanted.items() <= p["metadata"]["labels"].items()]
            self._object(200, {"metadata": {"resourceVersion": str(len(self.server.history))}, "items": items})

    def _watch(self, wanted: dict[str, str], query: dict[str, list[str]]) -> None:
        """Events from a version on, each a chunk, until the time is over."""
        since, until = int(query["resourceVersion"][0]), time.monotonic() + float(query["timeoutSeconds"][0])
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while (left := until - time.monotonic()) > 0 and not self.server.closed.is_set():
            with self.server.changed:
                self.server.changed.wait_for(partial(self._newer, since), min(left, 0.2))
                news, since = self.server.history[since:], len(self.server.history)
                expired = int(query["resourceVersion"][0]) < self.server.forgotten
            if expired:
                self._chunk({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}})
                break
            for kind, pod in news:
                if wanted.items() <= pod["metadata"]["labels"].items():
                    self._chunk({"type": kind, "object": pod})
        self.wfile.write(b"0\r\n\r\n")

    def _newer(self, since: int) -> bool:
        return len(self.server.history) > since

    def _chunk(self, event: dict[str, Any]) -> None:
        line = json.dumps(event).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))

    def _one(self, among: dict[str, dict[str, Any]], name: str, kind: str) -> None:
        with self.server.lock:
            found = among.get(name)
            if found is None:
                self._status(404, f'{kind} "{name}" not found')
            else:
                self._object(200, found)

    def _list(self, resource: str, query: dict[str, list[str]]) -> None:
        whole = self.server.lists[resource]
        time.sleep(self.server.slow)
        items = whole["items"]
        start, limit = int(query.get("continue", ["0"])[0]), int(query.get("limit", ["0"])[0]) or len(items)
        end = min(start + limit, len(items))
        meta: dict[str, Any] = {"resourceVersion": "7"}
        if end < len(items):
            meta |= {"continue": str(end), "remainingItemCount": len(items) - end}
        self._object(
            200, {**{k: v for k, v in whole.items() if k != "items"}, "metadata": meta, "items": items[start:end]}
        )

    def do_POST(self) -> None:
        begun = self._begin()
        if begun is None:
            return
        path, _, body = begun
        if path.endswith("/selfsubjectreviews"):
            if self.server.user is None:
                self._status(403, "no")
                return
            self._object(201, {**body, "status": {"userInfo": {"username": self.server.user}}})
        elif path == "/api/v1/namespaces":
            self.server.namespaces[body["metadata"]["name"]] = body
            self.server.made.append(f"Namespace {body['metadata']['name']}")
            self._object(201, body)
        elif path.endswith("/jobs"):
            namespace = path.split("/")[-2]
            with self.server.lock:
                if namespace not in self.server.namespaces:
                    self._status(404, f'namespaces "{namespace}" not found')
                elif body["metadata"]["name"] in self.server.jobs:
                    self._status(409, "already exists")
                else:
                    self.server.make_job(body)
                    self._object(201, body)
        else:
            self._status(404, f"no {path}")

    def do_DELETE(self) -> None:
        begun = self._begin()
        if begun is None:
            return
        name = begun[0].split("/")[-1]
        if "/jobs/" in begun[0]:
            gone = self.server.delete_job(name)
        else:
            gone = self.server.namespaces.pop(name, None) is not None
        self._object(200, {}) if gone else self._status(404, f'"{name}" not found')

    def _exec(self, pod_name: str, query: dict[str, list[str]]) -> None:
        pod = self.server.pods.get(pod_name)
        if pod is None:
            self._status(404, f'pods "{pod_name}" not found')
        elif self.headers.get("upgrade", "").lower() != "websocket":
            self._status(400, "Upgrade request required")
        else:
            upgraded(self, self.server.protocol)
            Conversation(self, self.server, pod, query["command"]).hold()
