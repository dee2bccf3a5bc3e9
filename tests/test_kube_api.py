"""The raw API reader, over the kubernetes client's own connections, against a small API server of this test."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from k8snet_nb.errors import FactMissing, SourceError, Stopped
from k8snet_nb.sources import kube_http
from k8snet_nb.sources.kube_api import KubeApi
from k8snet_nb.sources.pages import joined, read_page

TOKEN = "a-secret-token"


class Server(ThreadingHTTPServer):
    """Serves numbered pods in pages; ``script`` are statuses to answer with first."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[int] = []
        self.seen: list[tuple[str, str]] = []
        self.count = 1201


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.server.seen.append((self.path, self.headers.get("authorization", "")))
        status = self.server.script.pop(0) if self.server.script else 200
        body: dict[str, Any] = {"kind": "Status", "message": f"scripted {status}", "code": status}
        if status == 200 and url.path == "/version":
            body = {"gitVersion": "v1.36.2"}
        elif status == 200:
            query = parse_qs(url.query)
            start, limit = int(query.get("continue", ["0"])[0]), int(query["limit"][0])
            end = min(start + (limit or self.server.count), self.server.count)
            meta: dict[str, Any] = {"resourceVersion": "7"}
            if end < self.server.count:
                meta |= {"continue": str(end), "remainingItemCount": self.server.count - end}
            items = [{"metadata": {"name": f"p{i}", "managedFields": [{"manager": "x"}]}} for i in range(start, end)]
            body = {"kind": "PodList", "metadata": meta, "items": items}
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        if status == 429:
            self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(raw)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def api(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KubeApi:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "u", "user": {"token": TOKEN}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    # the client reads the variable once, when it is imported
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    monkeypatch.setattr(kube_http, "WAITS", (0.01, 0.01))
    return KubeApi.connect()


def test_pages_are_joined_and_managed_fields_left_out(api: KubeApi, server: Server) -> None:
    items = json.loads(api("pods"))["items"]
    assert [item["metadata"]["name"] for item in items] == [f"p{i}" for i in range(1201)]
    assert "managedFields" not in items[0]["metadata"]
    assert len(server.seen) == 3
    assert {authorization for _, authorization in server.seen} == {f"Bearer {TOKEN}"}


def test_what_it_says_of_itself_holds_no_secret(api: KubeApi) -> None:
    assert api.about.startswith("context here, server http://127.0.0.1:")
    assert TOKEN not in api.about


def test_busy_and_broken_answers_are_tried_again(api: KubeApi, server: Server) -> None:
    server.script = [429, 503]
    assert json.loads(api("version")) == {"gitVersion": "v1.36.2"}
    server.script = [500] * 3
    with pytest.raises(FactMissing, match="answered 500: scripted 500"):
        api("nodes")


def test_a_list_that_expired_is_begun_again(api: KubeApi, server: Server) -> None:
    server.script = [200, 410]
    assert len(json.loads(api("pods"))["items"]) == 1201
    server.seen.clear()
    server.script = [200, 410, 200, 200, 410]
    server.count = 11_000
    assert len(json.loads(api("pods"))["items"]) == 11_000
    limits = [parse_qs(urlsplit(path).query)["limit"][0] for path, _ in server.seen]
    assert limits == ["500", "500", "5000", "5000", "5000", "0"], "larger pages each time, at last one"


def test_a_list_that_was_stopped_is_no_list_and_goes_on_from_there(api: KubeApi, server: Server) -> None:
    for stop in (api.stop, lambda: signal.raise_signal(signal.SIGINT)):
        api.progress = lambda _what, read, _total, stop=stop: stop() if read == 1000 else None
        with pytest.raises((Stopped, KeyboardInterrupt), match=r"pods was stopped after 1000 of 1201.*no answer yet"):
            api("pods")
        server.seen.clear()
        assert len(json.loads(api("pods"))["items"]) == 1201
        assert len(server.seen) == 1, "the last page only"
    api.progress = lambda _what, read, _total: api.stop() if read == 500 else None
    with pytest.raises(Stopped):
        api("pods")
    api.forget()
    api.stop()  # nothing is being read: this stops nobody later
    api.progress = None
    server.seen.clear()
    assert len(json.loads(api("pods"))["items"]) == 1201
    assert len(server.seen) == 3


def test_a_list_whose_server_fails_goes_on_later(api: KubeApi, server: Server) -> None:
    server.script = [200, 500, 500, 500]
    with pytest.raises(FactMissing, match="answered 500") as caught:
        api("pods")
    assert caught.value.passing
    server.seen.clear()
    assert len(json.loads(api("pods"))["items"]) == 1201
    assert len(server.seen) == 2


def test_a_stop_ends_the_waiting_for_a_busy_server(
    api: KubeApi, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_http, "WAITS", (60.0,))
    server.script = [503]
    threading.Timer(0.3, api.stop).start()
    with pytest.raises(Stopped, match="before its first page"):
        api("pods")


@pytest.mark.parametrize(
    ("status", "words"), [(403, "verb list on services"), (401, "not logged in"), (404, "not have")]
)
def test_a_refusal_says_what_would_be_needed(api: KubeApi, server: Server, status: int, words: str) -> None:
    server.script = [status]
    with pytest.raises(FactMissing, match=words) as caught:
        api("services")
    assert TOKEN not in str(caught.value)


def test_nobody_answers(api: KubeApi, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_http, "WAITS", ())
    server.shutdown()
    server.server_close()
    with pytest.raises(FactMissing, match="no answer from http://127"):
        api("pods")


def test_no_kubeconfig_and_no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(SourceError, match="set KUBECONFIG"):
        KubeApi.connect()
    with pytest.raises(SourceError, match="no context 'other'"):
        KubeApi.connect("other")


PAGES = st.lists(
    st.fixed_dictionaries(
        {"metadata": st.fixed_dictionaries({"name": st.text(min_size=1)}, optional={
            "managedFields": st.lists(st.dictionaries(st.text(), st.text())),
            "annotations": st.dictionaries(st.text(), st.sampled_from(['{"managedFields": [1]}', "],}", "x"])),
        })},
        optional={"spec": st.dictionaries(st.text(), st.integers() | st.none() | st.booleans())},
    )
)  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine both say nothing of the code
@given(st.lists(PAGES, min_size=1, max_size=3), st.booleans(), st.sampled_from([None, (",", ":")]))
def test_pages_joined_as_text_are_the_objects(
    pages: list[list[dict[str, Any]]], usual: bool, separators: tuple[str, str] | None
) -> None:
    read = []
    for number, items in enumerate(pages):
        meta = {"resourceVersion": "7", **({"continue": "x"} if number < len(pages) - 1 else {})}
        head = {"kind": "PodList", "apiVersion": "v1", "metadata": meta}
        body = {**head, "items": items} if usual else {"items": items, **head}
        read.append(read_page(json.dumps(body, separators=separators, ensure_ascii=False).encode()))
    whole = json.loads(joined(read))
    for items in pages:
        for item in items:
            item["metadata"].pop("managedFields", None)
    assert whole == {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"},
                     "items": [item for items in pages for item in items]}  # fmt: skip


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"items": 3}', b'{"kind": "PodList", "apiVersion": "v1", "metadata": {']
)
def test_what_is_no_page(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's own words
        read_page(body)
