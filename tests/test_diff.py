"""Two readings side by side, and drift on a cluster that changes while it is read."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

import k8snet_nb as kn
from k8snet_nb.cluster import settling
from k8snet_nb.errors import FactMissing
from k8snet_nb.explain.drift import CODES, Drift
from k8snet_nb.facts import FactRef
from k8snet_nb.sources.opening import BUNDLED
from k8snet_nb.sources.recorded import open_recording


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BUNDLED, tmp_path / "copy"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_same_recording_has_no_differences() -> None:
    frame = kn.open().diff(BUNDLED)
    assert frame.empty
    assert list(frame.columns) == ["what", "change", "name", "node", "field", "before", "after", "service"]


def test_pods_services_rules_and_usage(copy: Path) -> None:
    pods = json.loads((copy / "api/pods.json").read_text())
    gone = pods["items"].pop(0)["metadata"]["name"]
    pods["items"][0]["status"]["podIPs"] = [{"ip": "10.1.1.1"}]
    moved = "{namespace}/{name}".format(**pods["items"][0]["metadata"])
    (copy / "api/pods.json").write_text(json.dumps(pods))
    edit(copy / "api/services.json", '"type": "LoadBalancer"', '"type": "NodePort"')
    edit(copy / "nodes/node-two/nft.json", '["10.32.0.1", "tcp", 443]', '["10.32.0.2", "tcp", 443]')
    edit(copy / "nodes/node-two/sysctl.txt", "nf_conntrack_max = 131072", "nf_conntrack_max = 1024")
    frame = kn.open().diff(copy)
    told = {(r.what, r.change, r.name, r.node, r.field) for r in frame.itertuples()}
    assert ("pod", "removed", f"default/{gone}", None, None) in told
    assert ("pod", "changed", moved, None, "ips") in told
    assert ("service", "changed", "default/hello-lb", None, "type") in told
    assert ("rules", "removed", "10.32.0.1:443/tcp", "node-two", None) in told
    assert ("rules", "added", "10.32.0.2:443/tcp", "node-two", None) in told
    usage = frame[frame["what"] == "usage"]
    assert usage[["node", "field", "before", "after"]].to_numpy().tolist() == [["node-two", "max", 131072, 1024]]
    assert set(frame["node"].dropna()) == {"node-two"}
    back = kn.open(copy).diff(kn.open())
    assert len(back) == len(frame)
    assert ("added" in set(back[back["what"] == "pod"]["change"])) is True


def test_what_changed_is_told_in_few_words(copy: Path) -> None:
    services = json.loads((copy / "api/services.json").read_text())
    for item in services["items"]:
        if item["metadata"]["name"] == "hello-nodeport":
            item["spec"]["externalTrafficPolicy"] = "Local"
        if item["metadata"]["name"] == "hello-sticky":
            item["spec"]["sessionAffinity"] = "None"
    services["items"] = [item for item in services["items"] if item["metadata"]["name"] != "orphan"]
    (copy / "api/services.json").write_text(json.dumps(services))
    edit(copy / "nodes/node-one/iptables-save.txt", "10.244.3.3:8080", "10.244.3.99:8080")
    counters = copy / "nodes/node-one/conntrack-stats.txt"
    counters.write_text(re.sub(r"\bdrop=\d+", "drop=1000", counters.read_text()))
    frame = kn.open().diff(copy)
    rows = {(r.what, r.name, r.field): (r.before, r.after, r.service) for r in frame.itertuples()}
    key = "default/hello-nodeport"
    assert rows["service", key, "external_policy"] == ("Cluster", "Local", key)
    assert rows["service", "default/hello-sticky", "affinity_seconds"][:2] == (600, None)
    assert rows["service", "default/orphan", None][0] == "ClusterIP 10.32.22.26 80/TCP,9000/TCP"
    one = rows["rules", "10.32.62.13:80/tcp", "endpoints"]
    assert one == (("10.244.3.3:8080",), ("10.244.3.99:8080",), "default/hello-world")
    assert rows["rules", "*:30080/tcp", "endpoints"][2] == key
    assert rows["usage", "node-one", "drop"][1] % 1000 == 0


def test_what_cannot_be_compared_is_said_and_the_rest_goes_on(copy: Path) -> None:
    (copy / "nodes/node-one/iptables-save.txt").unlink()
    (copy / "api/services.json").unlink()
    shutil.rmtree(copy / "nodes/node-three")
    frame = kn.open().diff(copy)
    unknown = frame[frame["change"] == "unknown"]
    assert set(zip(unknown["what"], unknown["node"].fillna(""), strict=True)) >= {
        ("service", ""),
        ("rules", "node-three"),
    }
    assert not frame[(frame["what"] == "rules") & (frame["node"] == "node-one")].empty
    assert not (frame["what"] == "pod").any()


class Changing(open_recording(BUNDLED).__class__):  # type: ignore[misc]
    """A recording that says it is live; each refresh takes the next text of a node's rules."""

    kind = "live"

    def __init__(self, texts: list[str]) -> None:
        whole = open_recording(BUNDLED)
        super().__init__(whole._files, whole.where)
        self.texts, self.at = texts, 0

    def refresh(self) -> None:
        self.at = min(self.at + 1, len(self.texts) - 1)

    def skew(self) -> float:
        return 1.5

    def read(self, ref: FactRef) -> bytes:
        if ref == FactRef("iptables-save.txt", "node-one"):
            return self.texts[self.at].encode()
        return bytes(super().read(ref))


def without(text: str, service: str) -> str:
    """The rules of a node that does not know one Service's address."""
    return re.sub(rf'^.* -A KUBE-SERVICES .*"{service} cluster IP".*\n', "", text, flags=re.MULTILINE)


def test_a_recording_beside_a_live_cluster_without_agents() -> None:
    class OnlyApi(open_recording(BUNDLED).__class__):  # type: ignore[misc]
        kind = "live"

        def nodes(self) -> tuple[str, ...]:
            return ()

        def read(self, ref: FactRef) -> bytes:
            if ref.node is not None:
                raise FactMissing(ref.fact, ref.where, "agents are off: only the API is read")
            return bytes(super().read(ref))

    whole = open_recording(BUNDLED)
    frame = kn.open().diff(kn.Cluster(OnlyApi(whole._files, whole.where)))
    assert set(frame["change"]) == {"unknown"}
    assert set(zip(frame["what"], frame["node"], strict=True)) == {
        (what, node) for what in ("rules", "usage") for node in whole.nodes()
    }
    assert frame["after"].str.contains("agents are off").all()


@pytest.mark.parametrize(
    ("later", "states"),
    [
        ("the same", {"default/hello-world": "confirmed"}),
        ("healed", {}),
        ("another", {"default/hello-sticky": "settling"}),
    ],
)
def test_a_live_difference_counts_when_it_stays(later: str, states: dict[str, str]) -> None:
    text = (BUNDLED / "nodes/node-one/iptables-save.txt").read_text()
    first = without(text, "default/hello-world:http")
    second = {"the same": first, "healed": text, "another": without(text, "default/hello-sticky:http")}[later]
    frame = kn.Cluster(Changing([first, second])).drift("node-one", settle=0.01)
    found = frame[frame["code"] == "SERVICE_NOT_PROGRAMMED"]
    assert dict(zip(found["service"], found["state"], strict=True)) == states
    assert frame.attrs["skew"] == 1.5


def edited_socket(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(f"--to-destination {old}", f"--to-destination {new}")


def test_of_several_sockets_each_has_its_own_state() -> None:
    """On the second reading one endpoint more is not there yet: only the first of the two is sure."""
    text = (BUNDLED / "nodes/node-one/iptables-save.txt").read_text()
    first = edited_socket(text, "10.244.3.3:8080", "10.244.3.30:8080")
    second = edited_socket(first, "10.244.3.4:8080", "10.244.3.40:8080")
    frame = kn.Cluster(Changing([first, second])).drift("node-one", settle=0.01)
    mine = frame[(frame["service"] == "default/hello-world") & (frame["entry"] == "cluster_ip")]
    told = {(r.code, r.state): (*r.missing, *r.extra) for r in mine.itertuples()}
    assert told == {
        ("ENDPOINT_MISSING", "confirmed"): ("10.244.3.3:8080",),
        ("ENDPOINT_MISSING", "settling"): ("10.244.3.4:8080",),
        ("ENDPOINT_STALE", "confirmed"): ("10.244.3.30:8080",),
        ("ENDPOINT_STALE", "settling"): ("10.244.3.40:8080",),
    }


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_counts_when_it_stays(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finding of each kind: the same on both readings, then one that only the second has."""

    def found(says: str, node: str = "node-one") -> Drift:
        return Drift(code, node, None, None, None, None, None, None, (), (), says)

    always = found("iptables rules beside nftables: 3 chains")
    other_words = found("iptables rules beside nftables: 4 chains")
    readings = [[always], [other_words, found("ipvs rules beside nftables: 1 server", "node-two")]]
    monkeypatch.setattr(settling, "_rows", lambda *_: readings.pop(0) if len(readings) > 1 else readings[0])
    frame = kn.Cluster(Changing([""])).drift(settle=0.0)
    if code == "NOT_CHECKED":
        assert set(frame["state"]) == {"not checked"}
    else:
        assert frame["state"].tolist() == ["confirmed", "settling"]


def test_rules_left_over_by_two_modes_are_two_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    def left(mode: str) -> Drift:
        return Drift("MODE_LEFTOVER", "node-one", *[None] * 6, (), (), f"{mode} rules beside nftables: so and so")

    readings = [[left("iptables")], [left("iptables"), left("ipvs")]]
    monkeypatch.setattr(settling, "_rows", lambda *_: readings.pop(0) if len(readings) > 1 else readings[0])
    assert kn.Cluster(Changing([""])).drift(settle=0.0)["state"].tolist() == ["confirmed", "settling"]


def test_a_refreshed_cluster_knows_the_pods_of_now() -> None:
    cluster = kn.Cluster(Changing(["", ""]))
    before = cluster.node("node-one").view()
    cluster.refresh()
    assert cluster.node("node-one").view() is not before


def test_a_recording_is_one_moment() -> None:
    frame = kn.open().drift(settle=1000)
    assert "state" not in frame


def test_live_findings_are_confirmed_when_asked() -> None:
    text = (BUNDLED / "nodes/node-one/iptables-save.txt").read_text()
    first = without(text, "default/hello-world:http")
    second = without(first, "default/hello-sticky:http")
    frame = kn.Cluster(Changing([first, second])).findings("node-one", settle=0.01)
    found = frame[frame["code"] == "SERVICE_NOT_PROGRAMMED"]
    states = dict(zip(found["service"], found["state"], strict=True))
    assert states["default/hello-world"] == "confirmed"
    assert states["default/hello-sticky"] == "settling"
    assert set(frame[frame["code"] == "FACT_MISSING"]["state"]) == {"not checked"}
    assert "state" not in kn.Cluster(Changing([first])).findings("node-one")
