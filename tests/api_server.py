"""A small API server for tests: recorded lists in pages, refusals, Jobs whose pods are real processes, and exec.

It keeps to what the source uses: Lists with limit and continue, namespaces, Jobs with ttlSecondsAfterFinished, pods by
label, events, SelfSubjectReview, and ``exec`` over a websocket (v5.channel.k8s.io) into a process of this machine, in
the network namespace that stands for the node. HTTP, or HTTPS with a certificate of its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

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


class FakeCluster(ThreadingHTTPServer):
    """``nodes`` maps a node to its network namespace; without one a node's pod runs where the test does."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, recording: Path | None, folder: Path, tls: tuple[Path, Path] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.tls, self.folder = tls, folder
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.lists = {name: json.loads((recording / "api" / f"{name}.json").read_text()) if recording
                      else {"items": []} for name in LISTS.values()}  # fmt: skip
        self.version: dict[str, Any] = {"gitVersion": "v1.36.2"}
        self.user: str | None = "jane@example.org"
        self.nodes: dict[str, str] = {}
        self.before: list[str] = []
        """Words before every command of a pod, such as setpriv's."""
        self.denied: set[tuple[str, str]] = set()
        """(method, a part of the path) that are answered with 403."""
        self.pod_security = False
        self.waiting: tuple[str, str] | None = None
        """(reason, message) for which no container starts."""
        self.namespaces: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.pods: dict[str, dict[str, Any]] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.conversations: list[subprocess.Popen[bytes]] = []
        self.seen: list[tuple[str, str]] = []
        self.made: list[str] = []
        self.script: list[int] = []
        self.closed = threading.Event()
        self.lock = threading.RLock()
        self.python = "python3"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are part of the tests."""

    def kubeconfig(self, path: Path) -> Path:
        cluster: dict[str, Any] = {"server": self.url}
        if self.tls is not None:
            cluster["certificate-authority"] = str(self.tls[0])
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "jane"}}],
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "jane", "user": {"token": TOKEN}}],
        }
        path.write_text(json.dumps(config))
        return path

    # the Job controller, the kubelet and the TTL controller, as far as these tests need them

    def make_job(self, job: dict[str, Any]) -> None:
        name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
        job["metadata"]["uid"] = f"uid-{name}"
        job["status"] = {"active": 1}
        self.jobs[name] = job
        self.made.append(f"Job {namespace}/{name}")
        if not self.pod_security:
            self._make_pod(job, namespace)

    def _make_pod(self, job: dict[str, Any], namespace: str) -> None:
        template = job["spec"]["template"]
        name = f"{job['metadata']['name']}-{os.urandom(3).hex()}"
        meta = {"name": name, "namespace": namespace, "labels": template["metadata"]["labels"]}
        container = template["spec"]["containers"][0]
        pod = {"metadata": meta, "spec": template["spec"], "status": {"phase": "Pending"}}
        self.pods[name] = pod
        if self.waiting is not None:
            reason, message = self.waiting
            state = {"waiting": {"reason": reason, "message": message}}
            pod["status"]["containerStatuses"] = [{"name": "agent", "state": state}]
            return
        self.processes[name] = self._run(pod, container["command"], stdin=subprocess.DEVNULL)
        pod["status"] = {"phase": "Running", "containerStatuses": [{"name": "agent", "state": {"running": {}}}]}
        threading.Thread(target=self._watch, args=(job, pod), daemon=True).start()

    def _run(self, pod: dict[str, Any], command: list[str], **pipes: Any) -> subprocess.Popen[bytes]:
        lock = self.folder / f"lock-{pod['metadata']['name']}"
        lock.touch()
        here = {"python3": self.python, "/": str(lock)}
        words = [here.get(word, word) for word in command]
        if "--node-pid" in words:  # process 1 of a real node; here the files are those of the test
            words[words.index("--node-pid") + 1] = str(os.getpid())
        space = self.nodes.get(pod["spec"]["nodeName"])
        enter = ["nsenter", f"--net=/run/netns/{space}"] if space else []
        return subprocess.Popen([*enter, *self.before, *words], **pipes)

    def _watch(self, job: dict[str, Any], pod: dict[str, Any]) -> None:
        name = pod["metadata"]["name"]
        status = self.processes[name].wait()
        with self.lock:
            pod["status"] = {"phase": "Succeeded" if status == 0 else "Failed"}
            job["status"] = {"conditions": [{"type": "Complete" if status == 0 else "Failed", "status": "True"}]}
        time.sleep(job["spec"]["ttlSecondsAfterFinished"])
        self.delete_job(job["metadata"]["name"])

    def delete_job(self, name: str) -> bool:
        with self.lock:
            job = self.jobs.pop(name, None)
            if job is None:
                return False
            for pod_name, pod in list(self.pods.items()):
                if pod["metadata"]["labels"] == job["spec"]["template"]["metadata"]["labels"]:
                    del self.pods[pod_name]
                    process = self.processes.get(pod_name)
                    if process is not None and process.poll() is None:
                        process.terminate()
            return True

    def end(self) -> None:
        """Stop everything, whatever state it is in."""
        self.closed.set()
        self.shutdown()
        self.server_close()
        for process in [*self.processes.values(), *self.conversations]:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()


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
        if status == 429:
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
        for method, part in self.server.denied:
            if method == self.command and part in url.path:
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
            items = [p for p in self.server.pods.values() if wanted.items() <= p["metadata"]["labels"].items()]
            self._object(200, {"items": items})
        elif parts[-1] == "events":
            said = 'pods "x" is forbidden: violates PodSecurity "baseline:latest": host namespaces, capabilities'
            events = [{"reason": "FailedCreate", "message": said}] if self.server.pod_security else []
            self._object(200, {"items": events})
        else:
            self._status(404, f"no {path}")

    def _one(self, among: dict[str, dict[str, Any]], name: str, kind: str) -> None:
        with self.server.lock:
            found = among.get(name)
            if found is None:
                self._status(404, f'{kind} "{name}" not found')
            else:
                self._object(200, found)

    def _list(self, resource: str, query: dict[str, list[str]]) -> None:
        whole = self.server.lists[resource]
        items = whole["items"]
        start, limit = int(query.get("continue", ["0"])[0]), int(query.get("limit", [str(len(items) or 1)])[0])
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

    # exec: RFC 6455, and a channel number before each message

    def _exec(self, pod_name: str, query: dict[str, list[str]]) -> None:
        pod = self.server.pods.get(pod_name)
        if pod is None:
            self._status(404, f'pods "{pod_name}" not found')
            return
        if self.headers.get("upgrade", "").lower() != "websocket":
            self._status(400, "Upgrade request required")
            return
        key = self.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.send_header("Sec-WebSocket-Protocol", "v5.channel.k8s.io")
        self.end_headers()
        self.close_connection = True
        Conversation(self, pod, query["command"]).hold()


class Conversation:
    """One exec: a process with pipes, and the websocket's frames."""

    def __init__(self, handler: Handler, pod: dict[str, Any], command: list[str]) -> None:
        self.handler, self.sending = handler, threading.Lock()
        run = handler.server._run
        try:
            self.process: subprocess.Popen[bytes] | None = run(
                pod, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except FileNotFoundError as error:
            self.process = None
            self._end(f'exec: "{error.filename}": executable file not found in $PATH')
            return
        handler.server.conversations.append(self.process)

    def hold(self) -> None:
        if self.process is None:
            return
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        threads = [self._thread(1, self.process.stdout.fileno()), self._thread(2, self.process.stderr.fileno())]
        ended = threading.Thread(target=self._wait, args=(threads,), daemon=True)
        ended.start()
        with suppress(OSError, struct.error, ValueError):
            self._listen()
        with suppress(OSError):
            assert self.process.stdin is not None
            self.process.stdin.close()  # as the kubelet does when the connection is gone

    def _thread(self, channel: int, fd: int) -> threading.Thread:
        def pump() -> None:
            with suppress(OSError):
                while data := os.read(fd, 65536):
                    self._send(bytes([channel]) + data)

        thread = threading.Thread(target=pump, daemon=True)
        thread.start()
        return thread

    def _wait(self, threads: list[threading.Thread]) -> None:
        assert self.process is not None
        status = self.process.wait()
        for thread in threads:
            thread.join()
        self._end(None if status == 0 else f"command terminated with exit code {status}")

    def _end(self, failure: str | None) -> None:
        said = {"status": "Success"} if failure is None else {"status": "Failure", "message": failure}
        with suppress(OSError):
            self._send(b"\3" + json.dumps(said).encode())
            self._send(struct.pack("!H", 1000), opcode=8)

    def _send(self, data: bytes, opcode: int = 2) -> None:
        size = len(data)
        head = bytes([0x80 | opcode])
        head += (
            bytes([size])
            if size < 126
            else struct.pack("!BH", 126, size)
            if size < 65536
            else struct.pack("!BQ", 127, size)
        )
        with self.sending:
            self.handler.connection.sendall(head + data)

    def _exactly(self, size: int) -> bytes:
        data = self.handler.rfile.read(size)
        if len(data) < size:
            raise ValueError("the client went away")
        return data

    def _listen(self) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        while True:
            first, second = self._exactly(2)
            size = second & 0x7F
            if size == 126:
                size = struct.unpack("!H", self._exactly(2))[0]
            elif size == 127:
                size = struct.unpack("!Q", self._exactly(8))[0]
            mask = self._exactly(4)
            masked = self._exactly(size)
            key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
            data = (int.from_bytes(masked, "big") ^ key).to_bytes(size, "big")
            if first & 0x0F == 8:
                return
            if data[:1] == b"\xff":
                self.process.stdin.close()
                return
            self.process.stdin.write(data[1:])
            self.process.stdin.flush()


@contextmanager
def serving(
    folder: Path, recording: Path | None = None, tls: bool = False, prepare: Callable[[FakeCluster], None] | None = None
) -> Iterator[FakeCluster]:
    """A running server; everything it started is gone afterwards."""
    server = FakeCluster(recording, folder, certificate(folder) if tls else None)
    if prepare is not None:
        prepare(server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.end()
        thread.join()


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    cert, key = folder / "server.crt", folder / "server.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=k8snet-test", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key
