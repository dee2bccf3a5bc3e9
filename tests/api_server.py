"""A small API server for tests: recorded lists in pages, refusals, Jobs whose pods are real processes, and exec.

It keeps to what the source uses: Lists with limit and continue, namespaces, Jobs with ttlSecondsAfterFinished, pods by
label with watch, events, SelfSubjectReview, and ``exec`` over a websocket (v5.channel.k8s.io) into a process of this
machine, in the network namespace that stands for the node. HTTP, or HTTPS with a certificate of its own.
"""

from __future__ import annotations

import copy
import json
import os
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from api_requests import LISTS, TOKEN, Handler

__all__ = ["TOKEN", "FakeCluster", "certificate", "serving"]


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
        self.slow = 0.0
        """Seconds before each page of a list."""
        self.late = 0.0
        """Seconds until a container runs."""
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
        self.protocol = "v5.channel.k8s.io"
        """Of exec's websockets."""
        self.history: list[tuple[str, dict[str, Any]]] = []
        """What became of pods, oldest first: the event's type and the pod as it then was. Its place is its version."""
        self.forgotten = 0
        """Watches from versions before this one are answered with 410."""
        self.changed = threading.Condition(self.lock)

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
        pod = {"metadata": meta, "spec": template["spec"], "status": {"phase": "Pending"}}
        self.pods[name] = pod
        self.tell("ADDED", pod)
        if self.late:
            threading.Timer(self.late, self._run_pod, [job, pod]).start()
        elif self.waiting is not None:
            reason, message = self.waiting
            state = {"waiting": {"reason": reason, "message": message}}
            pod["status"]["containerStatuses"] = [{"name": "agent", "state": state}]
            self.tell("MODIFIED", pod)
        else:
            self._run_pod(job, pod)

    def _run_pod(self, job: dict[str, Any], pod: dict[str, Any]) -> None:
        name, container = pod["metadata"]["name"], pod["spec"]["containers"][0]
        self.processes[name] = self.start(pod, container["command"], stdin=subprocess.DEVNULL)
        pod["status"] = {"phase": "Running", "containerStatuses": [{"name": "agent", "state": {"running": {}}}]}
        self.tell("MODIFIED", pod)
        threading.Thread(target=self._watch, args=(job, pod), daemon=True).start()

    def tell(self, kind: str, pod: dict[str, Any]) -> None:
        """Let the watches know."""
        with self.changed:
            pod["metadata"]["resourceVersion"] = str(len(self.history) + 1)
            self.history.append((kind, copy.deepcopy(pod)))
            self.changed.notify_all()

    def start(self, pod: dict[str, Any], command: list[str], **pipes: Any) -> subprocess.Popen[bytes]:
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
            self.tell("MODIFIED", pod)
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
                    self.tell("DELETED", self.pods.pop(pod_name))
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
