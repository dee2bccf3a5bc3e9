"""The live source against an API server of this test: what it reads and says, and that it makes nothing unasked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_server import TOKEN, FakeCluster, serving
from needs import need

import k8snet_nb as kn
from k8snet_nb.errors import FactMissing, SourceError, Stopped
from k8snet_nb.facts import FactRef
from k8snet_nb.sources import kube_http
from k8snet_nb.sources.live import LiveSource
from k8snet_nb.sources.opening import BUNDLED

pytestmark = need(modules=["kubernetes"])
LOCATION = "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    with serving(tmp_path, BUNDLED) as made:
        # the client reads the variable once, when it is imported
        monkeypatch.setattr(LOCATION, str(made.kubeconfig(tmp_path / "kubeconfig")))
        monkeypatch.setattr(kube_http, "WAITS", (0.01, 0.01))
        yield made


@pytest.fixture
def cluster(server: FakeCluster) -> kn.Cluster:
    return kn.open("live")


def source_of(cluster: kn.Cluster) -> LiveSource:
    assert isinstance(cluster.source, LiveSource)
    return cluster.source


def test_it_says_who_asks_whom_and_no_secret(cluster: kn.Cluster, server: FakeCluster) -> None:
    said = repr(cluster)
    assert "context here" in said
    assert server.url in said
    assert "user jane@example.org" in said
    assert "agents are off" in said
    assert TOKEN not in said


def test_the_kubeconfigs_word_where_the_server_does_not_say_who_we_are(server: FakeCluster) -> None:
    server.user = None
    assert "user jane (as the kubeconfig calls it)" in kn.open("live").source.describe()


def test_the_same_answers_as_the_recording(cluster: kn.Cluster) -> None:
    recorded = kn.open(BUNDLED)
    for table in ("pods", "services", "nodes"):
        mine, theirs = getattr(cluster, table)(), getattr(recorded, table)()
        ignored = [column for column in ("age", "facts") if column in mine]
        assert mine.drop(columns=ignored).equals(theirs.drop(columns=ignored)), table
    assert str(cluster.who("10.244.3.4").kind) == str(recorded.who("10.244.3.4").kind)


def test_without_agents_nodes_tell_nothing_and_nothing_is_made(cluster: kn.Cluster, server: FakeCluster) -> None:
    assert cluster.source.nodes() == ()
    with pytest.raises(FactMissing, match=r"agents are off.*agents=True"):
        cluster.node("node-one").links()
    assert cluster.source.trouble(FactRef("addr.json", "node-one")) == "agents are off: only the API is read"
    assert not cluster.source.has(FactRef("addr.json", "node-one"))
    planned = source_of(cluster).plan()
    assert [(one.action, one.kind, one.node) for one in planned] == [
        ("create", "Namespace", None),
        ("create", "Job", "node-one"),
        ("leave out", "Node", "node-three"),
        ("create", "Job", "node-two"),
    ]
    assert "not ready" in planned[2].says
    assert server.made == []
    assert {line.split(" ")[0] for line, _ in server.seen} <= {"GET", "POST"}
    posts = [line for line, _ in server.seen if line.startswith("POST")]
    assert all(line.endswith("/selfsubjectreviews") for line in posts)


def test_what_may_not_be_read_is_named_and_the_rest_goes_on(server: FakeCluster) -> None:
    server.denied.add(("GET", "/api/v1/services"))
    cluster = kn.open("live")
    assert len(cluster.pods()) > 5
    with pytest.raises(FactMissing, match=r"needs the verb list on services in the whole cluster.*create clusterrole"):
        cluster.services()
    assert "forbidden" in str(cluster.source.trouble(FactRef("services")))
    assert not cluster.source.has(FactRef("services"))
    assert cluster.source.has(FactRef("pods"))


def test_facts_are_kept_with_their_time_until_they_are_to_be_read_again(
    cluster: kn.Cluster, server: FakeCluster
) -> None:
    source, ref = source_of(cluster), FactRef("pods")
    assert source.time(ref) is None
    assert source.skew() is None
    first, moment = source.read(ref), source.time(ref)
    server.lists["pods"] = {**server.lists["pods"], "items": []}
    assert source.read(ref) == first
    assert source.time(ref) == moment
    assert len(cluster.pods()) > 5
    cluster.refresh()
    assert len(cluster.pods()) == 0
    later = source.time(ref)
    assert moment is not None
    assert later is not None
    assert later > moment
    assert source.skew() == 0.0


def test_a_long_reading_tells_how_far_it_is_and_can_be_stopped(server: FakeCluster) -> None:
    item = server.lists["pods"]["items"][0]
    server.lists["pods"]["items"] = [{**item, "metadata": {**item["metadata"], "name": f"p{i}"}} for i in range(1200)]
    told: list[tuple[str, int, int | None]] = []
    cluster = kn.open("live", progress=lambda *words: told.append(words))
    cluster.pods()
    assert told == [("pods", 500, 1200), ("pods", 1000, 1200), ("pods", 1200, 1200)]
    source = source_of(cluster)
    source.refresh()
    source.api.progress = lambda *_: source.stop()
    with pytest.raises(Stopped, match="pods was stopped"):
        source.read(FactRef("pods"))
    source.api.progress = None
    assert len(source.read(FactRef("pods"))) > 1000


def test_several_threads_read_a_resource_once(cluster: kn.Cluster, server: FakeCluster) -> None:
    threads = [threading.Thread(target=cluster.source.read, args=(FactRef("pods"),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([line for line, _ in server.seen if "/pods" in line]) == 1


def test_options_are_for_live_only_and_known() -> None:
    with pytest.raises(SourceError, match="only for open"):
        kn.open("node", agents=True)
    with pytest.raises(SourceError, match=r"no setting 'imgae'.*image"):
        kn.open("live", imgae="x")


def test_https_with_its_own_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path, BUNDLED, tls=True) as made:
        monkeypatch.setattr(LOCATION, str(made.kubeconfig(tmp_path / "kubeconfig")))
        cluster = kn.open("live")
        assert "https://127.0.0.1" in cluster.source.describe()
        assert len(cluster.pods()) > 5
        (tmp_path / "bare").write_text((tmp_path / "kubeconfig").read_text().replace("certificate-authority", "note"))
        monkeypatch.setattr(LOCATION, str(tmp_path / "bare"))
        monkeypatch.setattr(kube_http, "WAITS", ())
        with pytest.raises(FactMissing, match=r"no answer from https.*certificate"):
            kn.open("live").pods()
