"""Lists of a large cluster into tables: the live source against the typed client's list calls.

    python benchmarks/live_api.py [--pods 10000] [--services 5000] [--rounds 2]

An API server in a process of its own serves pages of 500 objects like those of the bundled recording, with
managedFields as real ones have. The typed client lists in the same pages and makes its models, no table. Prints the
ratio typed / live of the best rounds; it is to be at least 3.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import k8snet_nb as kn
from k8snet_nb.sources.opening import BUNDLED

PAGE = 500


def objects(resource: str, count: int) -> list[dict[str, Any]]:
    """As many objects as wanted, made of the recorded ones."""
    recorded = json.loads((BUNDLED / "api" / f"{resource}.json").read_text())["items"]
    made = []
    for number in range(count):
        item = copy.deepcopy(recorded[number % len(recorded)])
        item["metadata"]["name"] = f"{item['metadata']['name']}-{number}"
        item["metadata"]["uid"] = f"00000000-0000-4000-8000-{number:012d}"
        fields = {"f:metadata": {"f:labels": {".": {}, "f:app": {}}}, "f:spec": {f"f:field{n}": {} for n in range(40)}}
        item["metadata"]["managedFields"] = [{"manager": "kubelet", "operation": "Update", "fieldsV1": fields}]
        made.append(item)
    return made


def serve(pipe: Connection, counts: dict[str, int]) -> None:
    """Serve encoded pages until the process is ended."""
    pages: dict[str, list[bytes]] = {}
    for resource, count in counts.items():
        items = objects(resource, count)
        kind = {"pods": "PodList", "services": "ServiceList"}[resource]
        pages[resource] = []
        for start in range(0, count, PAGE):
            left = count - start - PAGE
            meta = {
                "resourceVersion": "7",
                **({"continue": str(start + PAGE), "remainingItemCount": left} if left > 0 else {}),
            }
            body = {"kind": kind, "apiVersion": "v1", "metadata": meta, "items": items[start : start + PAGE]}
            pages[resource].append(json.dumps(body).encode())

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            known = pages.get(url.path.rsplit("/", 1)[-1])
            start = int(parse_qs(url.query).get("continue", ["0"])[0])
            body = known[start // PAGE] if known else b'{"items": [], "metadata": {}}'
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    pipe.send((server.server_port, sum(len(page) for several in pages.values() for page in several)))
    server.serve_forever()


def live() -> tuple[int, int]:
    """Both tables."""
    cluster = kn.open("live")
    return len(cluster.pods()), len(cluster.services())


def typed() -> tuple[int, int]:
    """Both lists of models, page by page."""
    from kubernetes import client, config

    config.load_kube_config()
    api = client.CoreV1Api()
    counts = []
    for call in (api.list_pod_for_all_namespaces, api.list_service_for_all_namespaces):
        items, token = [], None
        while True:
            page = call(limit=PAGE, _continue=token)
            items += page.items
            token = page.metadata._continue
            if not token:
                break
        counts.append(len(items))
    return counts[0], counts[1]


def best(run: Callable[[], tuple[int, int]], rounds: int, expected: tuple[int, int]) -> float:
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        found = run()
        times.append(time.perf_counter() - begun)
        assert found == expected, (found, expected)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=10_000)
    parser.add_argument("--services", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    counts = {"pods": options.pods, "services": options.services}
    server = multiprocessing.Process(target=serve, args=(theirs, counts), daemon=True)
    server.start()
    port, size = ours.recv()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kubeconfig")
        one = {"name": "here", "context": {"cluster": "here", "user": "here"}}
        config = {"apiVersion": "v1", "kind": "Config", "current-context": "here", "contexts": [one],
                  "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                  "users": [{"name": "here", "user": {}}]}  # fmt: skip
        path.write_text(json.dumps(config))
        import kubernetes.config.kube_config as location

        location.KUBE_CONFIG_DEFAULT_LOCATION = str(path)
        expected = (options.pods, options.services)
        fast, slow = best(live, options.rounds, expected), best(typed, max(1, options.rounds // 2), expected)
    server.terminate()
    server.join()
    print(f"{options.pods:,} pods and {options.services:,} Services, {size / 1e6:.0f} MB")
    print(f"live source, into tables   {fast:7.2f} s")
    print(f"typed client, list calls   {slow:7.2f} s")
    print(f"typed / live               {slow / fast:7.1f}   (to be at least 3)")


if __name__ == "__main__":
    main()
